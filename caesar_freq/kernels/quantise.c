/* Quantiser of codec/quantise.py: dead zone, prediction of the temporal mean, centroids. */
#include <math.h>
#include <stdlib.h>

#include "kernels.h"
#include "reconstruct.h"

enum { MAX_LEVEL = 1 << 29 };

/* A volume's planes [nt, bt, bh, bw, cells] with cells = nh * nw. */
typedef struct {
    int64_t nt, bt, bh, bw, cells;
} planes_t;

static inline int64_t predicted(int64_t alpha, int64_t previous)
{
    return (alpha * previous + 32) >> 6;
}

static inline int32_t level_of(double value, double dead_zone, int *fits)
{
    if (!(fabs(value) < MAX_LEVEL)) {
        *fits = 0;
        return 0;
    }
    return fabs(value) >= dead_zone ? (int32_t)rint(value) : 0;
}

/* Ends of cells that reach to a shell where its levels are not zero. */
CLONES static void lengthen(int32_t *used, const int32_t *q, int64_t n, int32_t shell)
{
    for (int64_t a = 0; a < n; a++)
        used[a] = q[a] != 0 && used[a] < shell ? shell : used[a];
}

#define DEFINE_QUANTISE(name, real)                                                                \
    CLONES static int name##_plane(const real *y, int64_t n, double step, double dead_zone, int32_t *q)   \
    {                                                                                              \
        int fits = 1;                                                                              \
        for (int64_t a = 0; a < n; a++)                                                            \
            q[a] = level_of(y[a] / step, dead_zone, &fits);                                        \
        return fits;                                                                               \
    }                                                                                              \
    /* Levels q of y and, where there is room for these, one more than the last non-zero shell of every\
     * cell; one of the two may be null. Returns 1 if all levels fit, 0 if not, -1 without memory. */\
    CLONES EXPORT int name(const planes_t *p, const real *y, double step, double dead_zone,        \
                    const int64_t *alphas, const int64_t *classes, int32_t *q, int32_t *used)      \
    {                                                                                              \
        const int64_t space = p->bh * p->bw, block = p->bt * space;                                \
        int64_t *previous = calloc((space + 1) * p->cells, sizeof(int64_t));                       \
        int32_t *row = (int32_t *)(previous + space * p->cells);                                   \
        int fits = 1;                                                                              \
        if (!previous)                                                                             \
            return -1;                                                                             \
        for (int64_t t = 0; t < p->nt; t++)                                                        \
            for (int64_t f = 0; f < block; f++) {                                                  \
                const int64_t at = (t * block + f) * p->cells;                                     \
                const int64_t alpha = f < space && t ? alphas[classes[f]] : 0;                     \
                int32_t *levels = q ? q + at : row;                                                \
                if (f >= space)                                                                    \
                    fits &= name##_plane(y + at, p->cells, step, dead_zone, levels);               \
                else                                                                               \
                    for (int64_t a = 0; a < p->cells; a++) {                                       \
                        int64_t *before = previous + f * p->cells + a;                             \
                        const int64_t mu = predicted(alpha, *before);                              \
                        levels[a] = level_of(y[at + a] / step - (double)mu, dead_zone, &fits);     \
                        *before = levels[a] + mu;                                                  \
                    }                                                                              \
                if (used) {                                                                        \
                    const int64_t shell = f / space + f % space / p->bw + f % p->bw + 1;           \
                    lengthen(used + t * p->cells, levels, p->cells, (int32_t)shell);               \
                }                                                                                  \
            }                                                                                      \
        free(previous);                                                                            \
        return fits;                                                                               \
    }

DEFINE_QUANTISE(cf_quantise_f32, float)
DEFINE_QUANTISE(cf_quantise_f64, double)

/* Visits every coefficient at index at + a. */
#define DEFINE_RECONSTRUCTION(name, arguments, result, visit)                                      \
    CLONES EXPORT double name(const planes_t *p, const int32_t *q, const uint8_t *bins, double step,      \
                       const int64_t *alphas, const int64_t *classes, const int8_t *centroid,      \
                       arguments)                                                                  \
    {                                                                                              \
        const int64_t space = p->bh * p->bw, block = p->bt * space;                                \
        int64_t *previous = calloc(space * p->cells, sizeof(int64_t));                             \
        double shifts[N_BINS / 2][8];                                                              \
        int64_t result = 0;                                                                        \
        if (!previous)                                                                             \
            return -1;                                                                             \
        shifts_of(centroid, shifts);                                                               \
        for (int64_t t = 0; t < p->nt; t++)                                                        \
            for (int64_t f = 0; f < block; f++) {                                                  \
                const int64_t at = (t * block + f) * p->cells;                                     \
                const int64_t alpha = f < space && t ? alphas[classes[f]] : 0;                     \
                int64_t *before = f < space ? previous + f * p->cells : 0;                         \
                for (int64_t a = 0; a < p->cells; a++) {                                           \
                    const int64_t mu = before ? predicted(alpha, before[a]) : 0;                   \
                    const int32_t level = q[at + a];                                               \
                    const double *own = shifts[bins[at + a] >> 2];                                 \
                    visit;                                                                         \
                    if (before)                                                                    \
                        before[a] = level + mu;                                                    \
                }                                                                                  \
            }                                                                                      \
        free(previous);                                                                            \
        return (double)result;                                                                     \
    }

/* Fill planes with the reconstruction; y may begin before q in the same memory, as long as it ends
 * where q ends: it never overtakes what is still to be read. */
DEFINE_RECONSTRUCTION(cf_dequantise_f32, float *y, done,
                      y[at + a] = (float)restored(level, mu, own, step))
DEFINE_RECONSTRUCTION(cf_dequantise_f64, double *y, done,
                      y[at + a] = restored(level, mu, own, step))

/* Squared error of the coefficients y (`squared`). */
DEFINE_RECONSTRUCTION(cf_coefficient_error_f32, const float *y, total,
                      total += squared(y[at + a], level, mu, own, step))
DEFINE_RECONSTRUCTION(cf_coefficient_error_f64, const double *y, total,
                      total += squared(y[at + a], level, mu, own, step))

/* One more than the last non-zero shell of every cell, for each time block. */
CLONES EXPORT void cf_shells_used(const planes_t *p, const int32_t *q, int32_t *used)
{
    for (int64_t t = 0; t < p->nt; t++, used += p->cells) {
        for (int64_t a = 0; a < p->cells; a++)
            used[a] = 0;
        for (int64_t i = 0; i < p->bt; i++)
            for (int64_t j = 0; j < p->bh; j++)
                for (int64_t k = 0; k < p->bw; k++, q += p->cells) {
                    lengthen(used, q, p->cells, (int32_t)(i + j + k + 1));
                }
    }
}
