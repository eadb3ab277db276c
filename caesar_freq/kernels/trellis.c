/* Viterbi search of codec/trellis.py. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "dependent.h"

enum { UNIT = 1 << 12, PRICED = 16 };
static const int64_t NEVER = 1ll << 60;

int path_room(path_t *path, int64_t n)
{
    n += 1;
    path->sizes = malloc(n * sizeof(double));
    path->bins = malloc(n);
    path->back = malloc(n * 2);
    path->at = malloc(n * sizeof(int64_t));
    path->inner = malloc(n * sizeof(int64_t));
    path->values = malloc(n * sizeof(int32_t));
    return path->sizes && path->bins && path->back && path->at && path->inner && path->values;
}

void path_free(path_t *path)
{
    free(path->sizes), free(path->bins), free(path->back);
    free(path->at), free(path->inner), free(path->values);
}

/* Level next to a size in a grid that has the other parity than the one above it. */
static inline int64_t lower(double size, int grid)
{
    return (int64_t)((size + grid) * 0.5);
}

/* Costs of the cheapest even and odd level of a grid, and whether the even one is a zero that is
 * not next to the value. */
static inline int candidates(double size, int bin, int grid, const choice_t *choice, int64_t *cost)
{
    const int64_t low = lower(size, grid), base = low < PRICED - 1 ? PRICED - 1 : low;
    const int64_t *price = choice->price + (bin + grid * N_BINS) * (PRICED + 1);
    const double *middle = choice->middle + (bin >> 2) * 4;
    for (int64_t level = low; level <= low + 1; level++) {
        const int64_t value = level ? 2 * level - grid : 0;
        const double error = size - (value < 4 ? middle[value] : (double)value);
        cost[level & 1] = (int64_t)(error * error * UNIT + 0.5) +
                          price[level < PRICED ? level : PRICED - 1] +
                          (level > base ? price[PRICED] : 0);
    }
    if (low == 1) {
        const int64_t zero = (int64_t)(size * size * UNIT + 0.5) + price[0];
        if (zero < cost[0]) {
            cost[0] = zero;
            return 1;
        }
    }
    return 0;
}

int choose_path(path_t *path, const choice_t *choice, int phase)
{
    int64_t total[N_PHASES], before[N_PHASES];
    int fits = 1;
    for (int p = 0; p < N_PHASES; p++)
        total[p] = p == phase ? 0 : NEVER;
    for (int64_t a = 0; a < path->n; a++) {
        double size = fabs(path->sizes[a]);
        if (!(size < LARGEST_LEVEL)) {
            fits = 0;
            path->sizes[a] = size = 0;
        }
        int64_t cost[2][2];
        const int zeros = candidates(size, path->bins[a], 0, choice, cost[0]) |
                          candidates(size, path->bins[a], 1, choice, cost[1]) << 1;
        int odd = 0;
        memcpy(before, total, sizeof total);
        for (int p = 0; p < N_PHASES; p++) {
            const int64_t *own = cost[grid_of(phase_before(p, 0))];
            const int64_t even_way = before[phase_before(p, 0)] + own[0];
            const int64_t odd_way = before[phase_before(p, 1)] + own[1];
            odd |= (odd_way < even_way) << p;
            total[p] = odd_way < even_way ? odd_way : even_way;
        }
        path->back[2 * a] = (uint8_t)odd, path->back[2 * a + 1] = (uint8_t)zeros;
    }
    int end = 0;
    for (int p = 1; p < N_PHASES; p++)
        if (total[p] < total[end])
            end = p;
    for (int64_t a = path->n - 1; a >= 0; a--) {
        const int odd = path->back[2 * a] >> end & 1, from = phase_before(end, odd);
        const int grid = grid_of(from);
        int64_t level = lower(fabs(path->sizes[a]), grid);
        if ((level & 1) != odd)
            level = path->back[2 * a + 1] >> grid & 1 && !odd ? 0 : level + 1;
        const int32_t value = level ? (int32_t)(2 * level - grid) : 0;
        path->values[a] = path->sizes[a] < 0 ? -value : value;
        end = from;
    }
    return fits;
}
