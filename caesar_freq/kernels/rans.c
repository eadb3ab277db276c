/* rANS of levels whose rows of tables are known: entropy/rans.py in C. */
#include "contexts.h"
#include "dependent.h"

typedef struct {
    uint64_t state;
    uint32_t *words;
    int64_t used;
} sink_t;

static inline void push(sink_t *out, uint32_t start, uint64_t count)
{
    if (out->state >= count << 47) {
        out->words[out->used++] = (uint32_t)out->state;
        out->state >>= 32;
    }
    out->state = ((out->state / count) << PRECISION) + out->state % count + start;
}

static inline void push_raw(sink_t *out, int64_t value, int bits)
{
    const int shift = PRECISION - bits;
    if (out->state >= 1ull << (47 + shift)) {
        out->words[out->used++] = (uint32_t)out->state;
        out->state >>= 32;
    }
    out->state = ((out->state >> shift) << PRECISION) + (out->state & ((1ull << shift) - 1)) +
                 ((uint64_t)value << shift);
}

static void push_escaped(sink_t *out, int64_t m, int negative)
{
    int length = 1;
    while (m >> length)
        length++;
    push_raw(out, negative, 1);
    if (length > 16) {
        push_raw(out, m & 65535, 16);
        push_raw(out, m >> 16, length - 16);
    } else {
        push_raw(out, m, length);
    }
    push_raw(out, length, 5);
}

static inline int class_of(int64_t m)
{
    if (m < DIRECT)
        return (int)m;
    int octave = 4;
    while (m >> (octave + 1))
        octave++;
    return DIRECT + (octave - 4) * 8 + (int)((m >> (octave - 3)) & 7);
}

static inline void push_level(sink_t *out, const block_t *b, int32_t level, int row)
{
    const int negative = level < 0;
    const int64_t m = negative ? -(int64_t)level : level;
    int symbol = class_of(m);
    if (symbol >= b->escape[row]) {
        symbol = b->escape[row];
        push_escaped(out, m, negative);
    } else if (m) {
        push_raw(out, (m - b->class_low[symbol]) << 1 | negative, b->class_bits[symbol] + 1);
    }
    const int32_t *cumulative = b->cumulative + row * N_SYMBOLS + symbol;
    push(out, (uint32_t)cumulative[0], (uint64_t)(cumulative[1] - cumulative[0]));
}

/* rANS of one time block, backwards; blocks come backwards, too. Adds at most two words for each
 * coefficient. Returns 0, or -1 if there is no memory. */
EXPORT int cf_write_block(const block_t *b, uint64_t *state, uint32_t *words, int64_t *word)
{
    plane_t plane = {0};
    sink_t out = {*state, words, *word};
    const int64_t cells = b->nh * b->nw;
    if (!make_room(&plane, b)) {
        give_back(&plane);
        return -1;
    }
    for (int64_t s = last_shell(b) - 1; s >= 0; s--)
        for (int64_t c = b->shell_starts[s + 1] - 1; c >= b->shell_starts[s]; c--) {
            const int64_t f = next_cells(b, &plane, s, c);
            for (int64_t a = plane.n - 1; a >= 0; a--) {
                const int64_t at = f * cells + plane.cells[2 * a];
                const int row = b->rows[at];
                push_level(&out, b, b->dependent ? level_of(b->q[at], row >= N_BINS) : b->q[at],
                           row);
            }
        }
    give_back(&plane);
    *state = out.state, *word = out.used;
    return 0;
}
