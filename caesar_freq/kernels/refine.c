/* Quantiser of codec/refine.py: thresholds of each scale bin, cells cut where that pays. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { MAX_LEVEL = 1 << 29, MOST = 16, UNIT = 1 << 12 };
static const int64_t NEVER = 1ll << 40;

typedef struct {
    int64_t nt, bt, bh, bw, cells;
} planes_t;

/* Tables of refine.prices. */
typedef struct {
    const double *thresholds; /* [80, 17] */
    const int64_t *price;     /* [80, 16] */
    const double *middle;     /* [20, 17] */
} prices_t;

static inline int64_t predicted(int64_t alpha, int64_t previous)
{
    return (alpha * previous + 32) >> 6;
}

static inline int32_t magnitude(double size, const double *thresholds)
{
    if (size < thresholds[0])
        return 0;
    int32_t m = (int32_t)size + 1;
    if (m > MOST + 1)
        return (int32_t)floor(size - (thresholds[MOST] - MOST)) + 1;
    while (size < thresholds[m - 1])
        m--;
    return m;
}

/* Chooses the level of one coefficient and adds to what its cell saves without its shell. */
static inline int32_t choose(double value, int bin, const prices_t *prices, int32_t shell,
                             int64_t *saved, int32_t *used, int *fits)
{
    double size = fabs(value);
    if (!(size < MAX_LEVEL)) {
        *fits = 0;
        size = 0;
    }
    const int32_t m = magnitude(size, prices->thresholds + bin * (MOST + 1));
    if (m >= MOST) {
        *saved -= NEVER;
    } else {
        const double middle = prices->middle[(bin >> 2) * (MOST + 1) + m];
        *saved += prices->price[bin * MOST + m];
        if (m)
            *saved -= (int64_t)rint(middle * (2 * size - middle) * UNIT);
    }
    if (m && *used <= shell)
        *used = shell + 1;
    return value > 0 ? m : -m;
}

/* Moves `used` of every cell to where it ends best. */
static void cut(const int64_t *saved, int64_t cells, int32_t *used)
{
    for (int64_t a = 0; a < cells; a++) {
        int64_t total = 0, most = 0;
        int32_t end = used[a];
        for (int32_t s = used[a] - 1; s >= 0; s--) {
            total += saved[s * cells + a];
            if (total > most)
                most = total, end = s;
        }
        used[a] = end;
    }
}

#define DEFINE_REFINE(name, real)                                                                  \
    /* Returns 1 if all levels fit, 0 if not, -1 without memory. */                                \
    EXPORT int name(const planes_t *p, const real *y, double step, const int64_t *alphas,          \
                    const int64_t *classes, const uint8_t *bins, const prices_t *prices,           \
                    int32_t *q)                                                                    \
    {                                                                                              \
        const int64_t space = p->bh * p->bw, cells = p->cells;                                     \
        const int64_t room = (p->bt + p->bh + p->bw - 2) * cells;                                  \
        int64_t *previous = calloc(space * cells, sizeof(int64_t));                                \
        int64_t *saved = malloc(room * sizeof(int64_t));                                           \
        int32_t *used = malloc(cells * sizeof(int32_t));                                           \
        int fits = previous && saved && used ? 1 : -1;                                             \
        for (int64_t t = 0; t < p->nt && fits >= 0; t++) {                                         \
            const int64_t block = t * p->bt * space * cells;                                       \
            memset(saved, 0, room * sizeof(int64_t));                                              \
            memset(used, 0, cells * sizeof(int32_t));                                              \
            int64_t at = block;                                                                    \
            for (int64_t f = 0; f < p->bt * space; f++, at += cells) {                             \
                const int64_t here = f % space;                                                    \
                const int32_t shell = (int32_t)(f / space + here / p->bw + here % p->bw);          \
                const int64_t alpha = f < space && t ? alphas[classes[f]] : 0;                     \
                for (int64_t a = 0; a < cells; a++) {                                              \
                    const int64_t mu = f < space ? predicted(alpha, previous[f * cells + a]) : 0;  \
                    q[at + a] = choose(y[at + a] / step - (double)mu, bins[at + a], prices, shell, \
                                       saved + shell * cells + a, used + a, &fits);                \
                }                                                                                  \
            }                                                                                      \
            cut(saved, cells, used);                                                               \
            at = block;                                                                            \
            for (int64_t f = 0; f < p->bt * space; f++, at += cells) {                             \
                const int64_t here = f % space;                                                    \
                const int32_t shell = (int32_t)(f / space + here / p->bw + here % p->bw);          \
                const int64_t alpha = f < space && t ? alphas[classes[f]] : 0;                     \
                for (int64_t a = 0; a < cells; a++)                                                \
                    q[at + a] = shell < used[a] ? q[at + a] : 0;                                   \
                for (int64_t a = 0; a < cells && f < space; a++) {                                 \
                    int64_t *before = previous + f * cells + a;                                    \
                    *before = q[at + a] + predicted(alpha, *before);                               \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        free(previous), free(saved), free(used);                                                   \
        return fits;                                                                               \
    }

DEFINE_REFINE(cf_refine_f32, float)
DEFINE_REFINE(cf_refine_f64, double)
