/* Contexts, network and decoder over the frequency planes of one time block: entropy/coder.py in C.
 * All values that steer decoding are integers. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "dependent.h"

enum { MAGNITUDE_CAP = 4095 };

/* What all time blocks of a volume share, and the block at hand. Arrays are C-contiguous. */
typedef struct {
    int64_t bt, bh, bw, nh, nw;
    const int64_t *shell_starts, *positions, *planes; /* context.shells, context.plane_features */
    const uint8_t *row_ok, *column_ok;                /* [nh, bh], [nw, bw] */
    const uint8_t *log_table;                         /* context.LOG_TABLE as bytes */
    const network_t *network;
    const int32_t *b1, *w_plane;                      /* [16], [7, 16] */
    const int32_t *cumulative, *escape, *coarse;      /* [B, 114], [B], [B, 257], B = 80 or 160 */
    const int32_t *class_low, *class_bits;            /* [112] */
    int64_t dependent;                                /* whether q counts steps of both quantisers */
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
    int64_t n, inner; /* cells that are coded; first of the plane among those with margins */
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

/* Cells of frequency c of shell s that are coded, and their bins; returns the frequency's number. */
static int64_t next_plane(const block_t *b, plane_t *plane, int64_t s, int64_t c)
{
    const int64_t i = b->positions[3 * c], j = b->positions[3 * c + 1], k = b->positions[3 * c + 2];
    const int64_t f = (i * b->bh + j) * b->bw + k;
    int32_t bias[HIDDEN];
    plane->n = 0;
    if (!b->time_ok[i])
        return f;
    gather(b, plane, i, j, k, s);
    plane->inner = (((i + 2) * (b->bh + 3) + j + 2) * (b->bw + 3) + k + 2) * (b->nh + 2) * (b->nw + 2);
    if (plane->n) {
        plane_bias(b, b->planes + 7 * f, bias);
        network_bins(b->network, plane->features, plane->n, bias, plane->bins);
    }
    return f;
}

static int32_t last_shell(const block_t *b)
{
    int32_t last = 0;
    for (int64_t a = 0; a < b->nh * b->nw; a++)
        if (b->used[a] > last)
            last = b->used[a];
    return last;
}

static inline void remember(const block_t *b, int64_t inner, int32_t value)
{
    const int32_t size = value < 0 ? -value : value;
    b->m[inner] = (int16_t)(size < MAGNITUDE_CAP ? size : MAGNITUDE_CAP);
    b->log_m[inner] = b->log_table[b->m[inner]];
}

/* Code (values, scale_bins and their number n, in coding order) or decode (source) one time block.
 * Returns 0, or -1 if there is no memory. */
EXPORT int cf_run_block(const block_t *b, int decoding, int32_t *values, uint8_t *scale_bins,
                        int64_t *n, uint64_t *state, const uint32_t *words, int64_t *word)
{
    plane_t plane;
    source_t in = {*state, words, *word};
    int phase = 0;
    const int64_t cells = b->nh * b->nw;
    if (!make_room(&plane, b->nh, b->nw)) {
        give_back(&plane);
        return -1;
    }
    const int32_t last = last_shell(b);
    for (int64_t s = 0; s < last; s++) {
        for (int64_t c = b->shell_starts[s]; c < b->shell_starts[s + 1]; c++) {
            const int64_t f = next_plane(b, &plane, s, c);
            int32_t *q = b->q + f * cells;
            uint8_t *bins = b->bins + f * cells;
            for (int64_t a = 0; a < plane.n; a++) {
                const int32_t cell = plane.cells[2 * a], inner = plane.cells[2 * a + 1];
                const int grid = b->dependent ? grid_of(phase) : 0;
                const int bin = plane.bins[a] + grid * N_BINS;
                int32_t level;
                if (decoding) {
                    level = pull(b, &in, bin);
                    q[cell] = b->dependent ? value_of(level, grid) : level;
                } else {
                    level = b->dependent ? level_of(q[cell], grid) : q[cell];
                    values[*n] = level;
                    scale_bins[(*n)++] = (uint8_t)bin;
                }
                phase = next_phase(phase, level);
                bins[cell] = plane.bins[a];
                remember(b, plane.inner + inner, q[cell]);
            }
        }
    }
    give_back(&plane);
    *state = in.state, *word = in.word;
    return 0;
}

/* Like cf_run_block when it encodes, but levels are chosen first, shell by shell, and q is filled.
 * `y` holds the planes of the block, `previous` the reconstruction of the temporal mean plane before
 * it, which is moved on. Returns 1 if all values fit, 0 if not, -1 if there is no memory. */
EXPORT int cf_choose_block(const block_t *b, const choice_t *choice, int32_t *values,
                           uint8_t *scale_bins, int64_t *n)
{
    plane_t plane;
    path_t path = {0};
    int fits = 1, phase = 0;
    const int64_t cells = b->nh * b->nw, space = b->bh * b->bw;
    const int32_t last = last_shell(b);
    int64_t largest = 0;
    for (int64_t s = 0; s < last; s++)
        if (b->shell_starts[s + 1] - b->shell_starts[s] > largest)
            largest = b->shell_starts[s + 1] - b->shell_starts[s];
    if (!make_room(&plane, b->nh, b->nw) || !path_room(&path, largest * cells)) {
        give_back(&plane);
        path_free(&path);
        return -1;
    }
    for (int64_t s = 0; s < last; s++) {
        path.n = 0;
        for (int64_t c = b->shell_starts[s]; c < b->shell_starts[s + 1]; c++) {
            const int64_t f = next_plane(b, &plane, s, c);
            const int64_t alpha = f < space && !b->first ? choice->alphas[choice->classes[f]] : 0;
            for (int64_t a = 0; a < plane.n; a++, path.n++) {
                const int64_t at = f * cells + plane.cells[2 * a];
                const int64_t mu = f < space ? (alpha * choice->previous[at] + 32) >> 6 : 0;
                path.sizes[path.n] = steps_of(choice, at) - (double)mu;
                path.at[path.n] = at;
                path.inner[path.n] = plane.inner + plane.cells[2 * a + 1];
                path.bins[path.n] = plane.bins[a];
            }
        }
        fits &= choose_path(&path, choice, phase);
        for (int64_t a = 0; a < path.n; a++) {
            const int grid = grid_of(phase);
            values[*n] = level_of(path.values[a], grid);
            scale_bins[*n] = (uint8_t)(path.bins[a] + grid * N_BINS);
            phase = next_phase(phase, values[(*n)++]);
            b->q[path.at[a]] = path.values[a];
            b->bins[path.at[a]] = path.bins[a];
            remember(b, path.inner[a], path.values[a]);
        }
    }
    for (int64_t f = 0; f < space; f++) {
        const int64_t alpha = b->first ? 0 : choice->alphas[choice->classes[f]];
        for (int64_t at = f * cells; at < (f + 1) * cells; at++)
            choice->previous[at] = b->q[at] + ((alpha * choice->previous[at] + 32) >> 6);
    }
    give_back(&plane);
    path_free(&path);
    return fits;
}
