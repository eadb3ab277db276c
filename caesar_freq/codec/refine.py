"""Quantisation that weighs what a level costs: thresholds of each scale bin, and shorter cells.

A decoder sees no difference. The scale bins of plainly rounded levels say what every level would
cost; one goes to the level with the least ``error**2 + WEIGHT * bits`` (errors in steps). Then
each cell ends where cutting off the rest of its shells saves more than the added error is worth.
Sullivan and Baker, "Efficient quadtree coding of images and video" (1994), have the principle.

Comparisons are of IEEE quotients with tables, sums are of integers: all devices decide alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import MAX_LEVEL
from caesar_freq.entropy.tables import DIRECT, N_BINS, PRECISION, Tables
from caesar_freq.kernels.jit import njit

#: What a bit is worth in squared steps. On the rate-distortion curve of a fine quantiser it is
#: ``ln 2 / 6 = 0.116`` (`choose.lagrangian`); bytes are flat between 0.1 and 0.13.
WEIGHT = 0.11
#: Thresholds and prices are kept for magnitudes up to this; beyond, steps cost nearly the same.
MOST = DIRECT
#: Squared errors and prices are integers in units of ``1 / UNIT`` squared steps.
UNIT = 1 << 12
#: Cells are not cut in front of a magnitude without a price.
_NEVER = 1 << 40


def bits_of_levels(tables: Tables, n: int) -> np.ndarray:
    """What the classes of magnitudes 0 to ``n - 1`` cost, signs included, float64 ``[rows, n]``."""
    counts = np.diff(tables.cumulative[:, : n + 1], axis=1).astype(np.float64)
    # a bin whose alphabet ends before has an escape, about twice as dear as what it replaces
    escape, magnitudes = tables.escape[:, None], np.arange(n)
    last = np.take_along_axis(counts, np.minimum(escape, n - 1), axis=1)
    counts = np.where(magnitudes < escape, counts, last / 64)
    return PRECISION - np.log2(np.maximum(counts, 1 / 64)) + (magnitudes > 0)


@lru_cache(maxsize=4)
def prices(model: FrequencyModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables that say what levels cost under every scale bin.

    Returns
    -------
    thresholds : float64 [80, 17]
        Size in steps from which on a coefficient gets magnitude ``m + 1`` rather than `m`.
    price : int64 [80, 16]
        Bits of magnitudes, weighted, in units of ``1 / UNIT``.
    middle : float64 [20, 17]
        Reconstruction of magnitudes, in steps, by ``bin // 4``.
    """
    magnitudes = np.arange(MOST + 1)
    # the first class that holds two magnitudes has a raw bit
    bits = bits_of_levels(model.tables, MOST + 1) + (magnitudes == MOST)
    middle = np.tile(magnitudes.astype(np.float64), (N_BINS // 4, 1))
    middle[:, 1:4] += model.centroid / 64
    at = middle[np.arange(N_BINS) >> 2]
    step, dearer = np.diff(at, axis=1), np.diff(bits, axis=1)
    thresholds = (at[:, 1:] + at[:, :-1]) / 2 + WEIGHT * dearer / (2 * step)
    thresholds = np.maximum.accumulate(thresholds, axis=1)
    beyond = MOST + 0.5 + np.clip(thresholds[:, -1:] - MOST + 0.5, 0, 0.3)
    thresholds = np.rint(np.hstack([thresholds, beyond]) * UNIT) / UNIT
    return thresholds, np.rint(WEIGHT * UNIT * bits[:, :MOST]).astype(np.int64), middle


@njit(nogil=True, cache=True)
def _magnitude(size, thresholds):
    if size < thresholds[0]:
        return np.int64(0)
    m = np.int64(size) + 1
    if m > MOST + 1:
        return np.int64(np.floor(size - (thresholds[MOST] - MOST))) + 1
    while size < thresholds[m - 1]:
        m -= 1
    return m


@njit(nogil=True, cache=True)
def _ends(saved, used):
    """Where each cell ends best: ``saved [shells, nh, nw]`` without each shell; `used` is moved."""
    for y in range(used.shape[0]):
        for x in range(used.shape[1]):
            total, most, end = 0, 0, used[y, x]
            for s in range(used[y, x] - 1, -1, -1):
                total += saved[s, y, x]
                if total > most:
                    most, end = total, s
            used[y, x] = end


@njit(nogil=True, cache=True)
def refine(planes, step, alphas, classes, bins, thresholds, price, middle):
    """Levels int32 of `planes`, and whether all fit `quantise.MAX_LEVEL`.

    Parameters
    ----------
    planes, step, alphas, classes
        As `quantise.quantise` takes them.
    bins : uint8, shape of planes
        Scale bins of the levels that plain rounding gives.
    thresholds, price, middle : see `prices`
    """
    nt, bt, bh, bw, nh, nw = planes.shape
    q = np.empty(planes.shape, np.int32)
    previous = np.zeros((bh, bw, nh, nw), np.int64)
    saved = np.empty((bt + bh + bw - 2, nh, nw), np.int64)
    used = np.empty((nh, nw), np.int32)
    fits = True
    for t in range(nt):
        saved[:] = 0
        used[:] = 0
        for i in range(bt):
            for j in range(bh):
                for k in range(bw):
                    alpha = alphas[classes[j, k]] if i == 0 and t > 0 else 0
                    s = i + j + k
                    for y in range(nh):
                        for x in range(nw):
                            mu = (alpha * previous[j, k, y, x] + 32) >> 6 if i == 0 else 0
                            value = planes[t, i, j, k, y, x] / step - mu
                            size = abs(value)
                            if not size < MAX_LEVEL:
                                fits = False
                                size = 0.0
                            b = bins[t, i, j, k, y, x]
                            m = _magnitude(size, thresholds[b])
                            q[t, i, j, k, y, x] = m if value > 0 else -m
                            if m >= MOST:
                                saved[s, y, x] -= _NEVER
                            else:
                                middle_ = middle[b >> 2, m]
                                error = np.rint(middle_ * (2 * size - middle_) * UNIT)
                                saved[s, y, x] += price[b, m] - np.int64(error)
                            if m and used[y, x] <= s:
                                used[y, x] = s + 1
        _ends(saved, used)
        for i in range(bt):
            for j in range(bh):
                for k in range(bw):
                    alpha = alphas[classes[j, k]] if i == 0 and t > 0 else 0
                    for y in range(nh):
                        for x in range(nw):
                            if i + j + k >= used[y, x]:
                                q[t, i, j, k, y, x] = 0
                            if i == 0:
                                mu = (alpha * previous[j, k, y, x] + 32) >> 6
                                previous[j, k, y, x] = q[t, i, j, k, y, x] + mu
    return q, fits
