"""Integer context features of a coefficient: what the network sees, on every device the same.

The 24 features, each 0..127, magnitudes through `LOG_TABLE` (8 steps an octave):

====  ==========================================================================================
0-8   |q| of the lower frequencies (t-1), (h-1), (w-1), (t-2), (h-2), (w-2), (th), (tw), (hw)
9     first-order sums (features 0-2) of the four neighbouring cells
10    the same of the four diagonal cells
11    second-order sums (features 3-8) of the four neighbouring cells
12    |q| at the same place in the previous time block
13    sum over its six neighbouring frequencies there
14    sum over its four neighbouring cells there
15    temporal frequency, 0..127
16    mean of the two spatial frequencies
17    difference of the two spatial frequencies
18    length of the frequency vector
19    64 if there is a previous time block
20    cell size: 0, 64, 127 for 8, 16, 32 and more
21    time block: 18 for each octave of its length, as many as 128 has
22    shells left before the cell's last non-zero one
23    the same for the four neighbouring cells
====  ==========================================================================================
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

N_FEATURES = 24
#: Features that vary within a frequency plane: 0-14, then 22 and 23.
N_LOCAL = 17
#: Magnitudes enter contexts clipped to this.
MAGNITUDE_CAP = 4095
_TABLE_SIZE = 1 << 17


def log_table(unit: int = 1) -> np.ndarray:
    """``min(127, round(8 * log2(1 + x / unit)))`` in integer arithmetic, float32 ``[2**17]``.

    ``round(8 log2 v) >= k`` exactly if ``v**16 >= 2**(2k - 1)``.
    """
    table = np.zeros(_TABLE_SIZE, np.float32)
    for k in range(1, 128):
        low, high = 0, _TABLE_SIZE
        while low < high:
            middle = (low + high) // 2
            if (unit + middle) ** 16 >= unit**16 << (2 * k - 1):
                high = middle
            else:
                low = middle + 1
        table[low:] = k
    return table


LOG_TABLE = log_table()


@lru_cache(maxsize=32)
def shells(bt: int, bh: int, bw: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in coding order: int64 ``starts [n_shells + 1]``, int16 ``positions [bt*bh*bw, 3]``.

    A shell holds all frequencies of one ``i + j + k``; its coefficients depend only on lower
    shells, so they can be coded together.
    """
    i, j, k = np.ogrid[:bt, :bh, :bw]
    shell = (i + j + k).astype(np.int16).ravel()
    starts = np.concatenate([[0], np.cumsum(np.bincount(shell))]).astype(np.int64)
    order, positions = np.argsort(shell, kind="stable"), np.empty((shell.size, 3), np.int16)
    for axis, at in enumerate(np.unravel_index(order, (bt, bh, bw))):
        positions[:, axis] = at
    return starts, positions


@lru_cache(maxsize=32)
def plane_features(bt: int, bh: int, bw: int, cell: int, time_block: int) -> np.ndarray:
    """Features 15 to 21 of every frequency, uint8 ``[bt, bh, bw, 7]`` (19 is left 0)."""
    i, j, k = np.ogrid[:bt, :bh, :bw]
    kt, kh, kw = i * 128 // bt, j * 128 // bh, k * 128 // bw
    squares = (kt**2 + kh**2 + kw**2) * 100
    # 8/1.8 of the length of (kt, kh, kw)/8, that is length/1.8
    # an IEEE square root is exact enough for the floor of numbers below 2**52
    length = np.sqrt(squares).astype(np.int64) // 18
    features = np.zeros((bt, bh, bw, 7), np.uint8)
    features[..., 0] = kt
    features[..., 1] = (kh + kw) // 2
    features[..., 2] = np.abs(kh - kw)
    features[..., 3] = np.minimum(127, length)
    features[..., 5] = {8: 0, 16: 64}.get(cell, 127)
    features[..., 6] = 18 * min(7, time_block.bit_length() - 1)
    return features
