/* Binary logarithms and powers of kernels/logarithms.py, operation by operation. */
#include <math.h>

#include "kernels.h"

enum { LEAST = -511 }; /* exponent of the first of the powers */

/* Mantissas m in [1, 2) become logarithms of m * 2^(exponent - 1023). */
CLONES EXPORT void cf_log2(double *m, const int64_t *exponents, int64_t n, const double *factors,
                           int64_t count)
{
    for (int64_t i = 0; i < n; i++) {
        const double above = m[i] > 1.4142135623730951 ? 1.0 : 0.0;
        const double y = m[i] * (1.0 - 0.5 * above);
        const double s = (y - 1.0) / (y + 1.0), square = s * s;
        double total = 0.0;
        for (int64_t k = 0; k < count; k++)
            total = total * square + factors[k];
        m[i] = total * s + ((double)(exponents[i] - 1023) + above);
    }
}

/* Numbers y between -1022 and 1025 become 2^y. */
CLONES EXPORT void cf_exp2(double *y, int64_t n, const double *factors, int64_t count,
                           const double *powers)
{
    const double ln2 = 0.6931471805599453;
    for (int64_t i = 0; i < n; i++) {
        const double whole = rint(y[i]), x = (y[i] - whole) * ln2;
        double total = 0.0;
        for (int64_t k = 0; k < count; k++)
            total = (total + factors[k]) * x;
        const int64_t e = (int64_t)whole, half = e >> 1;
        y[i] = (total + 1.0) * powers[half - LEAST] * powers[e - half - LEAST];
    }
}
