"""How predictions of a level are weighted by their errors close by; part of the loop in `level_kernels`."""

from __future__ import annotations

import numpy as np

from caesar_freq.kernels.jit import njit


@njit(nogil=True, cache=True)
def _cost(above, row, x):
    """Errors of a predictor around column `x`."""
    return above[x] + above[x + 1] + row[x - 1] + ((above[x - 1] + row[x - 2]) >> 1)


@njit(nogil=True, cache=True)
def blended(guess, above, row, x):
    """Mean of the first seven predictions, with weights that fall with the square of the errors."""
    weight_sum, weighted = np.int64(0), np.int64(0)
    for k in range(7):
        cost = min(_cost(above[k], row[k], x), 1 << 15)
        weight = (1 << 32) // (cost * cost + 8)
        weight_sum += weight
        weighted += weight * (guess[k] - guess[0])
    return guess[0] + weighted // weight_sum


@njit(nogil=True, cache=True)
def blended_sharply(guess, above, row, x):
    """Mean of all predictions, with weights that fall with the third power of the errors."""
    least = _cost(above[0], row[0], x)
    for k in range(1, len(guess)):
        least = min(least, _cost(above[k], row[k], x))
    weight_sum, weighted = np.int64(0), np.int64(0)
    for k in range(len(guess)):
        part = ((least + 2) << 16) // (_cost(above[k], row[k], x) + 2)
        weight = (part * part >> 16) * part >> 16
        weight_sum += weight
        weighted += weight * (guess[k] - guess[0])
    return guess[0] + weighted // weight_sum
