/* Contexts, network and rANS over the frequency planes of one time block: entropy/coder.py and
 * entropy/rans.py in C. All values that steer decoding are integers. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { MAGNITUDE_CAP = 4095 };

/* What all time blocks of a volume share, and the block at hand. Arrays are C-contiguous. */
typedef struct {
    int64_t bt, bh, bw, nh, nw;
    const int64_t *shell_starts, *positions, *planes; /* context.shells, context.plane_features */
    const uint8_t *row_ok, *column_ok;                /* [nh, bh], [nw, bw] */
    const uint8_t *log_table;                         /* context.LOG_TABLE as bytes */
    const network_t *network;
    const int32_t *b1, *w_plane;                      /* [16], [7, 16] */
    const int32_t *cumulative, *escape, *coarse;      /* [80, 114], [80], [80, 257] */
    const int32_t *class_low, *class_bits;            /* [112] */
    const uint8_t *time_ok;                           /* [bt] */
    int64_t first;
    int32_t *q;                                       /* [bt, bh, bw, nh, nw] */
    uint8_t *bins;
    const int32_t *used;                              /* [nh, nw] */
    int16_t *m;           /* magnitudes with margins [bt+3, bh+3, bw+3, nh+2, nw+2] */
    const int16_t *p;     /* the same of the block before, if there is one */
    uint8_t *log_m;       /* their logarithms */
    const uint8_t *log_p;
} block_t;

/* Room for one plane. */
typedef struct {
    int32_t *sums1, *sums2;
    uint8_t *features, *bins;
    int32_t *cells; /* index into a plane without margins, then into one with margins */
    int64_t n;
} plane_t;

typedef struct {
    uint64_t state;
    const uint32_t *words;
    int64_t word;
} source_t;

/* Sums of the lower frequencies' magnitudes of every cell: features 0-2 and 3-8. */
CLONES static void sum_lower(const int16_t *m, int64_t di, int64_t dj, int64_t dk, int64_t first,
                             int64_t end, int32_t *s1, int32_t *s2)
{
    for (int64_t a = first; a < end; a++) {
        s1[a] = m[a - di] + m[a - dj] + m[a - dk];
        s2[a] = m[a - 2 * di] + m[a - 2 * dj] + m[a - 2 * dk] + m[a - di - dj] + m[a - di - dk] +
                m[a - dj - dk];
    }
}

static void gather(const block_t *b, plane_t *plane, int64_t i, int64_t j, int64_t k, int64_t s)
{
    const int64_t nh = b->nh, nw = b->nw, wide = nw + 2, size = (nh + 2) * wide;
    const int64_t dj = (b->bw + 3) * size, di = (b->bh + 3) * dj;
    const int64_t here = (i + 2) * di + (j + 2) * dj + (k + 2) * size;
    const int16_t *m = b->m + here, *p = b->first ? 0 : b->p + here;
    const uint8_t *lm = b->log_m + here, *lp = b->log_p + here, *table = b->log_table;
    int32_t *s1 = plane->sums1, *s2 = plane->sums2;
    sum_lower(m, di, dj, size, wide, size - wide, s1, s2);
    int64_t n = 0;
    for (int64_t v = 0; v < nh; v++) {
        if (!b->row_ok[v * b->bh + j])
            continue;
        const int32_t *used = b->used + v * nw;
        const int32_t *above = v > 0 ? used - nw : used, *below = v < nh - 1 ? used + nw : used;
        for (int64_t u = 0; u < nw; u++) {
            const int32_t own = used[u];
            if (own <= s || !b->column_ok[u * b->bw + k])
                continue;
            const int64_t a = (v + 1) * wide + u + 1;
            uint8_t *g = plane->features + n * ROW;
            g[0] = lm[a - di], g[1] = lm[a - dj], g[2] = lm[a - size];
            g[3] = lm[a - 2 * di], g[4] = lm[a - 2 * dj], g[5] = lm[a - 2 * size];
            g[6] = lm[a - di - dj], g[7] = lm[a - di - size], g[8] = lm[a - dj - size];
            g[9] = table[s1[a - wide] + s1[a + wide] + s1[a - 1] + s1[a + 1]];
            g[10] = table[s1[a - wide - 1] + s1[a + wide + 1] + s1[a - wide + 1] + s1[a + wide - 1]];
            g[11] = table[s2[a - wide] + s2[a + wide] + s2[a - 1] + s2[a + 1]];
            g[12] = g[13] = g[14] = 0;
            if (p) {
                g[12] = lp[a];
                g[13] = table[p[a - di] + p[a + di] + p[a - dj] + p[a + dj] + p[a - size] +
                              p[a + size]];
                g[14] = table[p[a - wide] + p[a + wide] + p[a - 1] + p[a + 1]];
            }
            const int32_t near = above[u] + below[u] + (u > 0 ? used[u - 1] : own) +
                                 (u < nw - 1 ? used[u + 1] : own) - 4 * (int32_t)s;
            g[15] = table[own - s];
            g[16] = table[near > 0 ? near : 0];
            plane->cells[2 * n] = (int32_t)(v * nw + u);
            plane->cells[2 * n + 1] = (int32_t)a;
            n++;
        }
    }
    plane->n = n;
}

static void plane_bias(const block_t *b, const int64_t *plane, int32_t *bias)
{
    for (int h = 0; h < HIDDEN; h++) {
        int64_t sum = b->b1[h] + (b->first ? 0 : 64 * (int64_t)b->w_plane[4 * HIDDEN + h]);
        for (int c = 0; c < 7; c++)
            sum += b->w_plane[c * HIDDEN + h] * plane[c];
        bias[h] = (int32_t)sum;
    }
}

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

static int make_room(plane_t *plane, int64_t nh, int64_t nw)
{
    const int64_t size = (nh + 2) * (nw + 2), cells = nh * nw + 4;
    plane->sums1 = calloc(size, sizeof(int32_t));
    plane->sums2 = calloc(size, sizeof(int32_t));
    plane->features = calloc(cells, ROW);
    plane->bins = malloc(cells);
    plane->cells = malloc(cells * 2 * sizeof(int32_t));
    return plane->sums1 && plane->sums2 && plane->features && plane->bins && plane->cells;
}

static void give_back(plane_t *plane)
{
    free(plane->sums1), free(plane->sums2), free(plane->features);
    free(plane->bins), free(plane->cells);
}

/* Code (values, scale_bins and their number n, in coding order) or decode (source) one time block.
 * Returns 0, or -1 if there is no memory. */
EXPORT int cf_run_block(const block_t *b, int decoding, int32_t *values, uint8_t *scale_bins,
                        int64_t *n, uint64_t *state, const uint32_t *words, int64_t *word)
{
    plane_t plane;
    source_t in = {*state, words, *word};
    int32_t last = 0, bias[HIDDEN];
    const int64_t cells = b->nh * b->nw, wide = (b->nh + 2) * (b->nw + 2);
    if (!make_room(&plane, b->nh, b->nw)) {
        give_back(&plane);
        return -1;
    }
    for (int64_t a = 0; a < cells; a++)
        if (b->used[a] > last)
            last = b->used[a];
    for (int64_t s = 0; s < last; s++) {
        for (int64_t c = b->shell_starts[s]; c < b->shell_starts[s + 1]; c++) {
            const int64_t i = b->positions[3 * c], j = b->positions[3 * c + 1],
                          k = b->positions[3 * c + 2];
            if (!b->time_ok[i])
                continue;
            gather(b, &plane, i, j, k, s);
            if (!plane.n)
                continue;
            const int64_t f = (i * b->bh + j) * b->bw + k;
            const int64_t here = (((i + 2) * (b->bh + 3) + j + 2) * (b->bw + 3) + k + 2) * wide;
            int32_t *q = b->q + f * cells;
            uint8_t *bins = b->bins + f * cells;
            plane_bias(b, b->planes + 7 * f, bias);
            network_bins(b->network, plane.features, plane.n, bias, plane.bins);
            for (int64_t a = 0; a < plane.n; a++) {
                const int32_t cell = plane.cells[2 * a], inner = plane.cells[2 * a + 1];
                if (decoding) {
                    q[cell] = pull(b, &in, plane.bins[a]);
                } else {
                    values[*n] = q[cell];
                    scale_bins[(*n)++] = plane.bins[a];
                }
                bins[cell] = plane.bins[a];
                const int32_t value = q[cell], size = value < 0 ? -value : value;
                b->m[here + inner] = (int16_t)(size < MAGNITUDE_CAP ? size : MAGNITUDE_CAP);
                b->log_m[here + inner] = b->log_table[b->m[here + inner]];
            }
        }
    }
    give_back(&plane);
    *state = in.state, *word = in.word;
    return 0;
}

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

/* rANS of n values under their bins, backwards; words receives at most 2 n + 2. */
EXPORT int64_t cf_write(const int32_t *values, const uint8_t *scale_bins, int64_t n,
                        const int32_t *cumulative, const int32_t *escape, const int32_t *class_low,
                        const int32_t *class_bits, uint32_t *words, uint64_t *state)
{
    sink_t out = {1ull << 31, words, 0};
    for (int64_t a = n - 1; a >= 0; a--) {
        const int bin = scale_bins[a], negative = values[a] < 0;
        const int64_t m = negative ? -(int64_t)values[a] : values[a];
        int symbol = class_of(m);
        if (symbol >= escape[bin]) {
            symbol = escape[bin];
            push_escaped(&out, m, negative);
        } else if (m) {
            push_raw(&out, (m - class_low[symbol]) << 1 | negative, class_bits[symbol] + 1);
        }
        const int32_t start = cumulative[bin * N_SYMBOLS + symbol];
        push(&out, (uint32_t)start, (uint64_t)(cumulative[bin * N_SYMBOLS + symbol + 1] - start));
    }
    *state = out.state;
    return out.used;
}
