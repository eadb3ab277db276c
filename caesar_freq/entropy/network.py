"""The integer network that turns context features into a scale bin.

Weights are integers with ``|w| <= 127`` and every partial sum stays below ``2**24``, so float32,
float64 and integers, any order of summation and any device give the same bins bit for bit.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.context import N_LOCAL
from caesar_freq.kernels.jit import njit

HIDDEN = 16
#: Bin of a scale of one quantisation step; four bins an octave.
UNIT_BIN = 40
_BATCH = 4


def bins_reference(features: np.ndarray, weights: tuple[np.ndarray, ...]) -> np.ndarray:
    """Scale bins 0..79 of rows of features, in plain integer arithmetic.

    Parameters
    ----------
    features : uint8 array [n, 24]
    weights : (w1 [24, 16], b1 [16], w2 [16, 16], b2 [16], w3 [16], b3 [1]) integer arrays

    Returns
    -------
    int64 array [n]
    """
    w1, b1, w2, b2, w3, b3 = (np.asarray(w, np.int64) for w in weights)
    hidden = np.clip((features.astype(np.int64) @ w1 + b1) >> 6, 0, 127)
    hidden = np.clip((hidden @ w2 + b2) >> 6, 0, 127)
    return np.clip(((hidden @ w3 + b3[0]) >> 7) + UNIT_BIN, 0, 79)


@njit(fastmath=True, nogil=True, cache=True)
def plane_bins(features, n, w1, b1, w2, b2, w3, b3, bins):
    """Scale bins of the `n` coefficients of one plane, batches of four for the vector units.

    `features` float32 ``[>= n + 3, 17]`` holds the local features, `b1` the rest of the first
    layer; floats only as fast integers.
    """
    first = np.empty((_BATCH, HIDDEN), np.float32)
    second = np.empty((_BATCH, HIDDEN), np.float32)
    shift = np.float32(1 / 64)
    top = np.float32(127)
    nought = np.float32(0)
    for a in range(0, n, _BATCH):
        for c in range(_BATCH):
            for j in range(HIDDEN):
                first[c, j] = b1[j]
                second[c, j] = b2[j]
        for i in range(N_LOCAL):
            f0, f1 = features[a, i], features[a + 1, i]
            f2, f3 = features[a + 2, i], features[a + 3, i]
            for j in range(HIDDEN):
                w = w1[i, j]
                first[0, j] += f0 * w
                first[1, j] += f1 * w
                first[2, j] += f2 * w
                first[3, j] += f3 * w
        for c in range(_BATCH):
            for j in range(HIDDEN):
                first[c, j] = min(top, max(nought, np.floor(first[c, j] * shift)))
        for i in range(HIDDEN):
            f0, f1, f2, f3 = first[0, i], first[1, i], first[2, i], first[3, i]
            for j in range(HIDDEN):
                w = w2[i, j]
                second[0, j] += f0 * w
                second[1, j] += f1 * w
                second[2, j] += f2 * w
                second[3, j] += f3 * w
        for c in range(min(_BATCH, n - a)):
            total = nought
            for j in range(HIDDEN):
                total += min(top, max(nought, np.floor(second[c, j] * shift))) * w3[j]
            level = np.floor((total + b3) * np.float32(1 / 128)) + np.float32(UNIT_BIN)
            bins[a + c] = np.int32(min(np.float32(79), max(nought, level)))
