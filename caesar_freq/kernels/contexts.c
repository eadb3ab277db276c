/* Contexts and network over the frequency planes of one time block: entropy/coder.gather in C.
 * All values are integers. */
#include <stdlib.h>
#include <string.h>

#include "contexts.h"

int make_room(plane_t *plane, const block_t *b)
{
    const int64_t size = (b->nh + 2) * (b->nw + 2), cells = b->nh * b->nw;
    const int32_t *used = b->used;
    plane->sums[0] = calloc(3 * size + 3 * cells, sizeof(int16_t));
    plane->features = calloc(cells + 4, ROW);
    plane->bins = malloc(cells + 4);
    plane->cells = malloc((cells + 1) * 2 * sizeof(int32_t));
    plane->near = malloc(cells * sizeof(int32_t));
    if (!plane->sums[0] || !plane->features || !plane->bins || !plane->cells || !plane->near)
        return 0;
    for (int d = 1; d < 3; d++)
        plane->sums[d] = plane->sums[d - 1] + size;
    plane->line = plane->sums[2] + size;
    plane->none = plane->line + cells;
    for (int64_t v = 0, a = 0; v < b->nh; v++)
        for (int64_t u = 0; u < b->nw; u++, a++)
            plane->near[a] = used[v > 0 ? a - b->nw : a] + used[v < b->nh - 1 ? a + b->nw : a] +
                             used[u > 0 ? a - 1 : a] + used[u < b->nw - 1 ? a + 1 : a];
    return 1;
}

void give_back(plane_t *plane)
{
    free(plane->sums[0]), free(plane->features);
    free(plane->bins), free(plane->cells), free(plane->near);
}

int32_t last_shell(const block_t *b)
{
    int32_t last = 0;
    for (int64_t a = 0; a < b->nh * b->nw; a++)
        if (b->used[a] > last)
            last = b->used[a];
    return last;
}

int64_t next_cells(const block_t *b, plane_t *plane, int64_t s, int64_t c)
{
    const int64_t i = b->positions[3 * c], j = b->positions[3 * c + 1], k = b->positions[3 * c + 2];
    const int64_t f = (i * b->bh + j) * b->bw + k, nw = b->nw;
    int64_t n = 0;
    for (int64_t v = 0; v < b->nh && b->time_ok[i]; v++) {
        if (!b->row_ok[v * b->bh + j])
            continue;
        const int32_t *used = b->used + v * nw;
        for (int64_t u = 0; u < nw; u++) {
            plane->cells[2 * n] = (int32_t)(v * nw + u);
            plane->cells[2 * n + 1] = (int32_t)((v + 1) * (nw + 2) + u + 1);
            /* without a branch, which would often be guessed wrong */
            n += (used[u] > s) & b->column_ok[u * b->bw + k];
        }
    }
    plane->n = n;
    return f;
}

/* Sums of the neighbours' magnitudes of every cell: features 0-2, 3-8, and 13. */
CLONES static void add_three(const int16_t *const *near, int64_t n, int16_t *sum)
{
    for (int64_t a = 0; a < n; a++)
        sum[a] = near[0][a] + near[1][a] + near[2][a];
}

CLONES static void add_six(const int16_t *const *near, int64_t n, int16_t *sum)
{
    for (int64_t a = 0; a < n; a++)
        sum[a] = near[0][a] + near[1][a] + near[2][a] + near[3][a] + near[4][a] + near[5][a];
}

static inline int16_t size_of(int32_t level)
{
    const int32_t size = level < 0 ? -level : level;
    return (int16_t)(size < MAGNITUDE_CAP ? size : MAGNITUDE_CAP);
}

/* add_six of levels, which are as many bytes again as their magnitudes but are there anyway. */
CLONES static void add_six_sizes(const int32_t *const *near, int64_t n, int16_t *sum)
{
    for (int64_t a = 0; a < n; a++)
        sum[a] = size_of(near[0][a]) + size_of(near[1][a]) + size_of(near[2][a]) +
                 size_of(near[3][a]) + size_of(near[4][a]) + size_of(near[5][a]);
}

/* Magnitudes of a plane of levels into one with margins. */
CLONES static void widen_sizes(const block_t *b, const int32_t *from, int16_t *to)
{
    for (int64_t v = 0; v < b->nh; v++)
        for (int64_t u = 0; u < b->nw; u++)
            to[(v + 1) * (b->nw + 2) + u + 1] = size_of(from[v * b->nw + u]);
}

/* A plane into one with margins. */
static void widen(const block_t *b, const int16_t *from, int16_t *to)
{
    for (int64_t v = 0; v < b->nh; v++)
        memcpy(to + (v + 1) * (b->nw + 2) + 1, from + v * b->nw, b->nw * sizeof(int16_t));
}

/* Neighbours of a frequency in its block: steps along time, rows and columns. */
static const int8_t LOWER[9][3] = {{-1, 0, 0}, {0, -1, 0}, {0, 0, -1}, {-2, 0, 0}, {0, -2, 0},
                                   {0, 0, -2}, {-1, -1, 0}, {-1, 0, -1}, {0, -1, -1}};
static const int8_t AROUND[6][3] = {{-1, 0, 0}, {1, 0, 0}, {0, -1, 0}, {0, 1, 0}, {0, 0, -1},
                                    {0, 0, 1}};

/* Offset of a neighbour's plane, -1 if there is none. */
static int64_t neighbour(const block_t *b, int64_t i, int64_t j, int64_t k, const int8_t *step)
{
    i += step[0], j += step[1], k += step[2];
    if (i < 0 || j < 0 || k < 0 || i >= b->bt || j >= b->bh || k >= b->bw)
        return -1;
    return ((i * b->bh + j) * b->bw + k) * b->nh * b->nw;
}

static inline int32_t around(const int16_t *sum, int64_t a, int64_t wide)
{
    return sum[a - wide] + sum[a + wide] + sum[a - 1] + sum[a + 1];
}

static void gather(const block_t *b, plane_t *plane, int64_t i, int64_t j, int64_t k, int64_t s)
{
    const int64_t wide = b->nw + 2, cells = b->nh * b->nw;
    const int16_t *sizes[9];
    const uint8_t *logs[9], *table = b->log_table;
    for (int d = 0; d < 9; d++) {
        const int64_t at = neighbour(b, i, j, k, LOWER[d]);
        sizes[d] = at < 0 ? plane->none : b->m + at;
        logs[d] = at < 0 ? (const uint8_t *)plane->none : b->log_m + at;
    }
    add_three(sizes, cells, plane->line);
    widen(b, plane->line, plane->sums[0]);
    add_six(sizes + 3, cells, plane->line);
    widen(b, plane->line, plane->sums[1]);
    const int16_t *s1 = plane->sums[0], *s2 = plane->sums[1];
    for (int64_t n = 0; n < plane->n; n++) {
        const int32_t cell = plane->cells[2 * n], a = plane->cells[2 * n + 1];
        const int32_t rest = plane->near[cell] - 4 * (int32_t)s;
        uint8_t *g = plane->features + n * ROW;
        for (int d = 0; d < 9; d++)
            g[d] = logs[d][cell];
        g[9] = table[around(s1, a, wide)];
        g[10] = table[s1[a - wide - 1] + s1[a + wide + 1] + s1[a - wide + 1] + s1[a + wide - 1]];
        g[11] = table[around(s2, a, wide)];
        g[12] = g[13] = g[14] = 0;
        g[15] = table[b->used[cell] - s];
        g[16] = table[rest > 0 ? rest : 0];
    }
    if (b->first)
        return;
    const int32_t *levels[6];
    for (int d = 0; d < 6; d++) {
        const int64_t at = neighbour(b, i, j, k, AROUND[d]);
        levels[d] = at < 0 ? (const int32_t *)plane->none : b->p + at;
    }
    const int64_t here = ((i * b->bh + j) * b->bw + k) * cells;
    add_six_sizes(levels, cells, plane->line);
    widen_sizes(b, b->p + here, plane->sums[2]);
    for (int64_t n = 0; n < plane->n; n++) {
        const int32_t cell = plane->cells[2 * n], a = plane->cells[2 * n + 1];
        uint8_t *g = plane->features + n * ROW;
        g[12] = b->log_p[here + cell];
        g[13] = table[plane->line[cell]];
        g[14] = table[around(plane->sums[2], a, wide)];
    }
}

static void plane_bias(const block_t *b, const uint8_t *plane, int32_t *bias)
{
    for (int h = 0; h < HIDDEN; h++) {
        int64_t sum = b->b1[h] + (b->first ? 0 : 64 * (int64_t)b->w_plane[4 * HIDDEN + h]);
        for (int c = 0; c < 7; c++)
            sum += b->w_plane[c * HIDDEN + h] * plane[c];
        bias[h] = (int32_t)sum;
    }
}

int64_t next_plane(const block_t *b, plane_t *plane, int64_t s, int64_t c)
{
    const int64_t f = next_cells(b, plane, s, c);
    int32_t bias[HIDDEN];
    if (plane->n) {
        gather(b, plane, b->positions[3 * c], b->positions[3 * c + 1], b->positions[3 * c + 2], s);
        plane_bias(b, b->planes + 7 * f, bias);
        network_bins(b->network, plane->features, plane->n, bias, plane->bins);
    }
    return f;
}
