/* Products of small matrices with many columns (kernels/product.py) and eigenvectors
 * (kernels/eigen.py). All sums have the order that they have there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

/* Columns that are worked on together, so that they stay in the cache, and most sweeps of QL. */
enum { COLUMNS = 1024, MAX_SWEEPS = 60 };

/* Add matrix [rows, terms] times x [n, terms, inner] to out [n, rows, inner], term by term in order. */
#define DEFINE_PRODUCT(name, real)                                                                  \
    CLONES static void name##_row(const real *w, int64_t terms, const real *x, int64_t inner,      \
                                  int64_t n, real *y)                                              \
    {                                                                                              \
        int64_t i = 0;                                                                             \
        for (; i + 4 <= terms; i += 4) {                                                           \
            const real *x0 = x + i * inner, *x1 = x0 + inner, *x2 = x1 + inner, *x3 = x2 + inner;  \
            for (int64_t a = 0; a < n; a++)                                                        \
                y[a] = (((y[a] + w[i] * x0[a]) + w[i + 1] * x1[a]) + w[i + 2] * x2[a]) +           \
                       w[i + 3] * x3[a];                                                           \
        }                                                                                          \
        for (; i < terms; i++)                                                                     \
            for (int64_t a = 0; a < n; a++)                                                        \
                y[a] += w[i] * x[i * inner + a];                                                   \
    }                                                                                              \
    EXPORT void name(const real *matrix, int64_t rows, int64_t terms, const real *x, int64_t n,    \
                     int64_t inner, real *out)                                                     \
    {                                                                                              \
        for (int64_t b = 0; b < n; b++, x += terms * inner, out += rows * inner)                   \
            for (int64_t at = 0; at < inner; at += COLUMNS) {                                      \
                const int64_t wide = inner - at < COLUMNS ? inner - at : COLUMNS;                  \
                for (int64_t r = 0; r < rows; r++)                                                 \
                    name##_row(matrix + r * terms, terms, x + at, inner, wide,                     \
                               out + r * inner + at);                                              \
            }                                                                                      \
    }

DEFINE_PRODUCT(cf_add_product_f32, float)
DEFINE_PRODUCT(cf_add_product_f64, double)
/* whole numbers, modulo 2^64 */
DEFINE_PRODUCT(cf_add_product_i64, uint64_t)

/* x += w * y */
CLONES static void add_times(double w, const double *y, int64_t n, double *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += w * y[i];
}

static double product_of(const double *x, const double *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

CLONES static void rank_two(double vi, double pi, const double *v, const double *p, int64_t n, double *a)
{
    for (int64_t j = 0; j < n; j++)
        a[j] -= vi * p[j] + pi * v[j];
}

CLONES static void turn(double s, double c, int64_t n, double *above, double *below)
{
    for (int64_t j = 0; j < n; j++) {
        const double f = below[j];
        below[j] = s * above[j] + c * f;
        above[j] = c * above[j] - s * f;
    }
}

/* a [n, n] = Q T Q': T in the diagonal of `a`, which is destroyed, and `beside` [n]; Q' to q [n, n]. -1
 * without memory. */
EXPORT int cf_tridiagonal(double *a, int64_t n, double *beside, double *q)
{
    double *v = malloc(2 * n * sizeof(double)), *p = v + n;
    if (!v)
        return -1;
    for (int64_t i = 0; i < n * n; i++)
        q[i] = i % (n + 1) == 0;
    for (int64_t k = 0; k + 2 < n; k++) {
        const int64_t m = n - k - 1;
        double *rest = a + (k + 1) * n, *turned = q + (k + 1) * n, *after = p + k + 1, scale = 0;
        memcpy(v, a + k * n + k + 1, m * sizeof(double));
        for (int64_t i = 0; i < m; i++)
            scale = fabs(v[i]) > scale ? fabs(v[i]) : scale;
        if (scale == 0)
            continue;
        for (int64_t i = 0; i < m; i++)
            v[i] /= scale;
        const double norm = sqrt(product_of(v, v, m));
        v[0] += v[0] > 0 ? norm : -norm;
        const double half = fabs(v[0]) * norm; /* v'v / 2 */
        /* a <- H a H with H = 1 - v v' / half on the rest */
        memset(p, 0, n * sizeof(double));
        for (int64_t i = 0; i < m; i++)
            add_times(v[i] / half, rest + i * n, n, p);
        const double dot = product_of(v, after, m);
        for (int64_t i = 0; i < m; i++)
            after[i] -= dot / (2.0 * half) * v[i];
        for (int64_t i = 0; i < m; i++)
            rank_two(v[i], after[i], v, after, m, rest + i * n + k + 1);
        for (int64_t j = 0; j < m; j++) {
            a[k * n + k + 1 + j] -= p[k] * v[j];
            rest[j * n + k] = a[k * n + k + 1 + j];
        }
        /* q <- H q */
        memset(p, 0, n * sizeof(double));
        for (int64_t i = 0; i < m; i++)
            add_times(v[i], turned + i * n, n, p);
        for (int64_t i = 0; i < m; i++)
            add_times(-(v[i] / half), p, n, turned + i * n);
    }
    for (int64_t k = 0; k < n; k++)
        beside[k] = k + 1 < n ? a[k * n + k + 1] : 0;
    free(v);
    return 0;
}

/* Implicit QL of the tridiagonal matrix of diagonal d and subdiagonal e; rotates the rows of z [n, n].
 * Whether it converged. */
EXPORT int cf_ql(double *d, double *e, double *z, int64_t n)
{
    double norm = 0;
    for (int64_t i = 0; i < n; i++) {
        const double size = fabs(d[i]) + fabs(e[i]);
        norm = size > norm ? size : norm;
    }
    for (int64_t first = 0; first < n; first++) {
        for (int sweep = 0;; sweep++) {
            int64_t m = first, i;
            while (m < n - 1 && fabs(e[m]) > 0x1p-53 * norm)
                m++;
            if (m == first)
                break;
            if (sweep == MAX_SWEEPS)
                return 0;
            double g = (d[first + 1] - d[first]) / (2.0 * e[first]), r = sqrt(g * g + 1.0);
            double s = 1, c = 1, p = 0;
            g = d[m] - d[first] + e[first] / (g + (g >= 0 ? r : -r));
            for (i = m - 1; i >= first; i--) {
                const double f = s * e[i], b = c * e[i];
                r = sqrt(f * f + g * g);
                e[i + 1] = r;
                if (r == 0) {
                    d[i + 1] -= p;
                    e[m] = 0;
                    break;
                }
                s = f / r, c = g / r;
                g = d[i + 1] - p;
                r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                turn(s, c, n, z + i * n, z + (i + 1) * n);
            }
            if (i >= first)
                continue;
            d[first] -= p;
            e[first] = g;
            e[m] = 0;
        }
    }
    return 1;
}
