/* Sums over values and coefficients that the encoder needs again and again. */
#include <math.h>

#include "kernels.h"

#define DEFINE_COMPARE(name, real)                                                                 \
    /* Largest |a - b| and the sum of ((a - b) / scale)^2 where `mask` is 0; a NaN shows. */       \
    EXPORT void name(const real *a, const real *b, const uint8_t *mask, int64_t n, double scale,   \
                     double *largest, double *squares)                                             \
    {                                                                                              \
        double top = 0, sum = 0;                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const double d = fabs((double)a[i] - (double)b[i]), part = d / scale;                  \
            if (mask[i])                                                                           \
                continue;                                                                          \
            if (!(d <= top))                                                                       \
                top = d;                                                                           \
            sum += part * part;                                                                    \
        }                                                                                          \
        *largest = top;                                                                            \
        *squares = sum;                                                                            \
    }

DEFINE_COMPARE(cf_compare_f32, float)
DEFINE_COMPARE(cf_compare_f64, double)

#define DEFINE_ROUNDING(name, real)                                                                \
    /* Squared error of rounding to multiples of `step`, magnitudes below the dead zone to 0. */   \
    CLONES EXPORT double name(const real *y, int64_t n, double step, double dead_zone)             \
    {                                                                                              \
        double sum[8] = {0}, total = 0;                                                            \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const double x = fabs((double)y[i]) / step, e = x >= dead_zone ? x - rint(x) : x;      \
            sum[i & 7] += e * e;                                                                   \
        }                                                                                          \
        for (int i = 0; i < 8; i++)                                                                \
            total += sum[i];                                                                       \
        return total * step * step;                                                                \
    }

DEFINE_ROUNDING(cf_rounding_error_f32, float)
DEFINE_ROUNDING(cf_rounding_error_f64, double)
