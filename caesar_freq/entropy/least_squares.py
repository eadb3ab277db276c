"""A predictor of levels that is fitted to what was decoded close by; `kernels/least_squares.h` is its twin.

Every stripe of columns keeps the sums of products of 31 neighbours and the level between them. They
fade by an eighth each time the stripe is entered, a row later, and their normal equations are solved
anew. Products of levels are exact in float64; all else is single IEEE operations in one order,
which no machine rounds differently, and the weights are then rounded to integers.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.kernels.jit import njit

#: Neighbours, and rows of their sums of products: one more column for the level itself.
N_TAPS, N_COLUMNS = 31, 32
#: Columns of a stripe, and the part of its sums that fades from row to row.
STRIPE, _FADING = 16, 1 / 8
_SCALE, _LARGEST = 1 << 16, 1 << 19
#: Added to the diagonal, and the least pivot that is divided by.
_RIDGE, _PIVOT = 1.0, 0.125


def new_fits(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums float64 ``[stripes, N_TAPS, N_COLUMNS]``, and weights with the number of levels learned
    since they were solved, int64 ``[stripes, N_COLUMNS]``."""
    stripes = -(-width // STRIPE)
    return np.zeros((stripes, N_TAPS, N_COLUMNS)), np.zeros((stripes, N_COLUMNS), np.int64)


@njit(nogil=True, cache=True)
def gather(frame, before, older, y, x, near):
    """Neighbours less their `base`, which is returned, into `near` (float64)."""
    base = (frame[y, x - 1] + frame[y - 1, x] + 2 * before[y, x]) >> 2
    n = 0
    for dx in range(-2, 0):
        near[n] = frame[y, x + dx] - base
        n += 1
    for dx in range(-2, 3):
        near[n] = frame[y - 1, x + dx] - base
        n += 1
    for dx in range(-1, 2):
        near[n] = frame[y - 2, x + dx] - base
        near[n + 3] = before[y - 1, x + dx] - base
        near[n + 6] = before[y + 1, x + dx] - base
        near[n + 9] = older[y - 1, x + dx] - base
        near[n + 12] = older[y, x + dx] - base
        near[n + 15] = older[y + 1, x + dx] - base
        n += 1
    n += 15
    for dx in range(-2, 3):
        near[n] = before[y, x + dx] - base
        n += 1
    near[n] = before[y - 2, x] - base
    return base


@njit(nogil=True, cache=True)
def predict(base, near, sums, fit, first):
    """Prediction in 1/8 level by the weights of a stripe.

    They are solved anew in its first column, if it has learned.
    """
    if first and fit[N_TAPS]:
        _solve(sums, fit)
        fit[N_TAPS] = 0
    total = np.int64(0)
    for k in range(N_TAPS):
        total += fit[k] * np.int64(near[k])
    return base * 8 + (total >> 13)


@njit(nogil=True, cache=True)
def _solve(sums, fit):
    """Solve the normal equations by elimination and let the sums fade."""
    rows = sums.copy()
    for k in range(N_TAPS):
        rows[k, k] += _RIDGE
        for j in range(N_COLUMNS):
            sums[k, j] -= sums[k, j] * _FADING
    for k in range(N_TAPS):
        if not rows[k, k] > _PIVOT:
            return
        for i in range(k + 1, N_TAPS):
            factor = rows[k, i] / rows[k, k]
            for j in range(i, N_COLUMNS):
                rows[i, j] -= factor * rows[k, j]
    solution = np.zeros(N_TAPS)
    for k in range(N_TAPS - 1, -1, -1):
        rest = rows[k, N_TAPS]
        for j in range(k + 1, N_TAPS):
            rest -= rows[k, j] * solution[j]
        solution[k] = rest / rows[k, k]
    for k in range(N_TAPS):
        weight = np.floor(solution[k] * _SCALE + 0.5)
        fit[k] = np.int64(min(max(weight, -_LARGEST), _LARGEST))


@njit(nogil=True, cache=True)
def learn_level(level, base, near, sums, fit):
    """Add a level to the sums of its stripe."""
    near[N_TAPS] = level - base
    for i in range(N_TAPS):
        factor = near[i]
        for j in range(i, N_COLUMNS):
            sums[i, j] += factor * near[j]
    fit[N_TAPS] += 1
