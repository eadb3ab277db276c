/* A predictor of levels that is fitted to what was decoded close by: entropy/least_squares.py in C, with
 * the same names. Rows are worked on from a multiple of eight on, for vectors; what lies below the
 * diagonal is never used. */
#ifndef CAESAR_LEAST_SQUARES_H
#define CAESAR_LEAST_SQUARES_H

#include "integers.h"
#include <math.h>
#include <string.h>

/* Into the loop that is compiled for each width of vectors. */
#define INLINED static inline __attribute__((always_inline))

enum { N_TAPS = 31, N_COLUMNS = 32, STRIPE = 16 };

static inline int64_t gather(const int64_t *f, const int64_t *b, const int64_t *o, int64_t wide,
                             double *near)
{
    const int64_t base = (f[-1] + f[-wide] + 2 * b[0]) >> 2;
    int n = 0;
    for (int dx = -2; dx < 0; dx++)
        near[n++] = (double)(f[dx] - base);
    for (int dx = -2; dx < 3; dx++)
        near[n++] = (double)(f[dx - wide] - base);
    for (int dx = -1; dx < 2; dx++, n++) {
        near[n] = (double)(f[dx - 2 * wide] - base);
        near[n + 3] = (double)(b[dx - wide] - base);
        near[n + 6] = (double)(b[dx + wide] - base);
        near[n + 9] = (double)(o[dx - wide] - base);
        near[n + 12] = (double)(o[dx] - base);
        near[n + 15] = (double)(o[dx + wide] - base);
    }
    n += 15;
    for (int dx = -2; dx < 3; dx++)
        near[n++] = (double)(b[dx] - base);
    near[n] = (double)(b[-2 * wide] - base);
    return base;
}

INLINED void solve(double *sums, int64_t *fit)
{
    double rows[N_TAPS][N_COLUMNS], solution[N_TAPS];
    memcpy(rows, sums, sizeof rows);
    for (int k = 0; k < N_TAPS; k++)
        rows[k][k] += 1.0;
    for (int k = 0; k < N_TAPS * N_COLUMNS; k++)
        sums[k] -= sums[k] * (1.0 / 8);
    for (int k = 0; k < N_TAPS; k++) {
        if (!(rows[k][k] > 0.125))
            return;
        double factors[N_COLUMNS];
        for (int i = 0; i < N_COLUMNS; i++)
            factors[i] = rows[k][i] / rows[k][k];
        for (int i = k + 1; i < N_TAPS; i++)
            for (int j = i & ~7; j < N_COLUMNS; j += 8)
                for (int m = j; m < j + 8; m++)
                    rows[i][m] -= factors[i] * rows[k][m];
    }
    for (int k = N_TAPS - 1; k >= 0; k--) {
        double rest = rows[k][N_TAPS];
        for (int j = k + 1; j < N_TAPS; j++)
            rest -= rows[k][j] * solution[j];
        solution[k] = rest / rows[k][k];
    }
    for (int k = 0; k < N_TAPS; k++) {
        const double weight = floor(solution[k] * 65536 + 0.5);
        fit[k] = (int64_t)(weight < -524288 ? -524288 : weight > 524288 ? 524288 : weight);
    }
}

INLINED int64_t predict_fitted(int64_t base, const double *near, double *sums, int64_t *fit,
                                     int first)
{
    if (first && fit[N_TAPS]) {
        solve(sums, fit);
        fit[N_TAPS] = 0;
    }
    int64_t total = 0;
    for (int k = 0; k < N_TAPS; k++)
        total += fit[k] * (int64_t)near[k];
    return base * 8 + (total >> 13);
}

INLINED void learn_level(int64_t level, int64_t base, double *near, double *sums, int64_t *fit)
{
    near[N_TAPS] = (double)(level - base);
    for (int i = 0; i < N_TAPS; i++, sums += N_COLUMNS)
        for (int j = i & ~7; j < N_COLUMNS; j += 8)
            for (int m = j; m < j + 8; m++)
                sums[m] += near[i] * near[m];
    fit[N_TAPS]++;
}

#endif
