/* What levels stand for, and how far that is off: codec/quantise.py in C. */
#ifndef CAESAR_RECONSTRUCT_H
#define CAESAR_RECONSTRUCT_H

#include <math.h>

#include "kernels.h"

enum { ERROR_UNIT = 1 << 28 };

/* Outward shifts of levels -3..3 under the centroids of a row of tables, in steps. */
static inline void shifts_of(const int8_t *centroid, double shifts[N_BINS / 2][8])
{
    for (int row = 0; row < N_BINS / 2; row++) {
        shifts[row][3] = 0;
        for (int m = 1; m < 4; m++) {
            shifts[row][3 + m] = centroid[3 * row + m - 1] / 64.0;
            shifts[row][3 - m] = -shifts[row][3 + m];
        }
    }
}

static inline double restored(int64_t level, int64_t mu, const double *shifts, double step)
{
    const double shift = level >= -3 && level <= 3 ? shifts[level + 3] : 0.0;
    return ((double)(level + mu) + shift) * step;
}

/* Squared error in units of step^2 / ERROR_UNIT, rounded to an integer, so that sums are the same in
 * any order. */
static inline int64_t squared(double y, int64_t level, int64_t mu, const double *shifts, double step)
{
    const double e = (y - restored(level, mu, shifts, step)) / step;
    return (int64_t)rint(e * e * ERROR_UNIT);
}

#endif
