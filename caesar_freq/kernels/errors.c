/* Sums over values and coefficients that the encoder needs again and again. */
#include <math.h>
#include <string.h>

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
