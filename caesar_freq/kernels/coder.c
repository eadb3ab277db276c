/* Decoder, and bins for the encoder, over the frequency planes of one time block: entropy/coder.py
 * in C. All values that steer decoding are integers. */
#include "contexts.h"
#include "dependent.h"

typedef struct {
    uint64_t state;
    const uint32_t *words;
    int64_t word;
} source_t;

static inline int64_t pull_raw(source_t *in, int bits)
{
    const int shift = PRECISION - bits;
    const uint64_t slot = in->state & 0xFFFF, value = slot >> shift;
    in->state = ((in->state >> PRECISION) << shift) + (slot - (value << shift));
    if (in->state < (1ull << 31) && in->word > 0)
        in->state = in->state << 32 | in->words[--in->word];
    return (int64_t)value;
}

static int32_t pull_escaped(source_t *in)
{
    const int length = (int)pull_raw(in, 5);
    int64_t m = 0;
    if (length > 16) {
        m = pull_raw(in, length - 16);
        m = m << 16 | pull_raw(in, 16);
    } else if (length > 0) {
        m = pull_raw(in, length);
    }
    return (int32_t)(pull_raw(in, 1) ? -m : m);
}

static inline int32_t pull(const block_t *b, source_t *in, int bin)
{
    const int32_t *cumulative = b->cumulative + bin * N_SYMBOLS;
    const int32_t slot = (int32_t)(in->state & 0xFFFF);
    int symbol = b->coarse[bin * 257 + (slot >> 8)];
    while (cumulative[symbol + 1] <= slot)
        symbol++;
    const int32_t start = cumulative[symbol];
    in->state = (uint64_t)(cumulative[symbol + 1] - start) * (in->state >> PRECISION) +
                (uint64_t)(slot - start);
    if (in->state < (1ull << 31) && in->word > 0)
        in->state = in->state << 32 | in->words[--in->word];
    if (symbol == b->escape[bin])
        return pull_escaped(in);
    if (!symbol)
        return 0;
    const int64_t raw = pull_raw(in, b->class_bits[symbol] + 1);
    const int32_t m = b->class_low[symbol] + (int32_t)(raw >> 1);
    return raw & 1 ? -m : m;
}

/* Decode one time block and its bins, or find the rows of tables of one that is to be coded. Returns
 * 0, or -1 if there is no memory. */
EXPORT int cf_run_block(const block_t *b, int decoding, uint64_t *state, const uint32_t *words,
                        int64_t *word)
{
    plane_t plane = {0};
    source_t in = {*state, words, *word};
    int phase = 0;
    const int64_t cells = b->nh * b->nw;
    if (!make_room(&plane, b)) {
        give_back(&plane);
        return -1;
    }
    const int32_t last = last_shell(b);
    for (int64_t s = 0; s < last; s++) {
        for (int64_t c = b->shell_starts[s]; c < b->shell_starts[s + 1]; c++) {
            const int64_t f = next_plane(b, &plane, s, c);
            int32_t *q = b->q + f * cells;
            uint8_t *rows = b->rows + f * cells;
            for (int64_t a = 0; a < plane.n; a++) {
                const int32_t cell = plane.cells[2 * a];
                const int grid = b->dependent ? grid_of(phase) : 0;
                const int row = plane.bins[a] + grid * N_BINS;
                int32_t level;
                if (decoding) {
                    level = pull(b, &in, row);
                    q[cell] = b->dependent ? value_of(level, grid) : level;
                } else {
                    level = b->dependent ? level_of(q[cell], grid) : q[cell];
                }
                phase = next_phase(phase, level);
                rows[cell] = decoding ? plane.bins[a] : (uint8_t)row;
                remember(b, f * cells + cell, q[cell]);
            }
        }
    }
    give_back(&plane);
    *state = in.state, *word = in.word;
    return 0;
}
