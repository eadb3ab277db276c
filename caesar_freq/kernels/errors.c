/* Sums over values and coefficients that the encoder needs again and again. Their order is that of
 * kernels/ordered.total: groups of LANES * LANES values, in each every LANES-th value in turn, then
 * the lanes by halves, then group by group. */
#include <math.h>
#include <string.h>

#include "kernels.h"

enum { LANES = 64 };

static inline double folded(double *lanes)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

/* Adds up to `total` what the statements given add to sum[a] for value i. */
#define IN_GROUPS(...)                                                                              \
    for (int64_t group = 0; group < n; group += LANES * LANES) {                                   \
        double sum[LANES] = {0};                                                                   \
        const int64_t end = n - group < LANES * LANES ? n : group + LANES * LANES;                 \
        int64_t at = group;                                                                        \
        for (; at + LANES <= end; at += LANES)                                                     \
            for (int64_t a = 0, i = at; a < LANES; a++, i++) {                                     \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        for (int64_t a = 0, i = at; i < end; a++, i++) {                                           \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
        total += folded(sum);                                                                      \
    }

#define DEFINE_COMPARE(name, real)                                                                 \
    /* Largest |a - b| and the sum of ((a - b) / scale)^2 where `mask` is 0; a NaN shows. */       \
    CLONES EXPORT void name(const real *x, const real *y, const uint8_t *mask, int64_t n,          \
                            double scale, double *largest, double *squares)                        \
    {                                                                                              \
        double top[LANES] = {0}, total = 0;                                                        \
        IN_GROUPS(const double d = mask[i] ? 0.0 : fabs((double)x[i] - (double)y[i]),              \
                  part = d / scale;                                                                \
                  top[a] = !(d <= top[a]) && top[a] == top[a] ? d : top[a];                        \
                  sum[a] += part * part)                                                           \
        for (int a = 1; a < LANES; a++)                                                            \
            top[0] = !(top[a] <= top[0]) && top[0] == top[0] ? top[a] : top[0];                    \
        *largest = top[0];                                                                         \
        *squares = total;                                                                          \
    }

DEFINE_COMPARE(cf_compare_f32, float)
DEFINE_COMPARE(cf_compare_f64, double)

#define DEFINE_HISTOGRAM(name, real)                                                               \
    /* Adds to counts [1 << 16] the coefficients by the leading bits of their size as floats. */   \
    EXPORT void name(const real *y, int64_t n, int64_t *counts)                                    \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const float size = fabsf((float)y[i]);                                                 \
            uint32_t bits;                                                                         \
            memcpy(&bits, &size, sizeof bits);                                                     \
            counts[bits >> 15]++;                                                                  \
        }                                                                                          \
    }

DEFINE_HISTOGRAM(cf_histogram_f32, float)
DEFINE_HISTOGRAM(cf_histogram_f64, double)

/* Sum of log2(1 + x^2) in 2^-15 and of `more` times x^2 / (1 + x^2), each rounded down, where
 * x = y * scale (errors.log2_bits). */
CLONES EXPORT int64_t cf_log2_bits(const float *y, int64_t n, float scale, float more)
{
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        const float x = y[i] * scale, u = 1.0f + x * x;
        int32_t bits;
        memcpy(&bits, &u, sizeof bits);
        const int32_t part = (bits - 0x3F800000) >> 8, f = part & 0x7FFF;
        total += part + (((f * (0x8000 - f)) >> 15) * 11 >> 5);
        total += (int32_t)(more * (1.0f - 1.0f / u));
    }
    return total;
}
