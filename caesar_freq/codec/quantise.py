"""Uniform quantiser with a dead zone, integer prediction between time blocks, centroids.

``q = round(y / step - mu)`` where ``mu`` predicts the temporal-mean plane (temporal frequency 0)
of a time block from the quantised one before it: ``mu = (alpha * previous + 32) >> 6`` with one
``alpha`` for each of six classes of spatial frequency. The prediction is made of integers, so all
devices make the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from caesar_freq.codec.layout import N_CLASSES
from caesar_freq.codec.parts import BLOCK
from caesar_freq.kernels.jit import njit
from caesar_freq.kernels.ordered import Array, as_double, total

#: Coefficients beyond this many steps are not coded; the block is stored losslessly instead.
MAX_LEVEL = 1 << 29
#: Squared errors of coefficients are counted in this part of a squared step.
ERROR_UNIT = 1 << 28


def frequency_classes(bh: int, bw: int) -> np.ndarray:
    """Prediction class 0..5 of every spatial frequency, int64 ``[bh, bw]``."""
    radius = np.arange(bh)[:, None] * 16 // bh + np.arange(bw)[None, :] * 16 // bw
    return np.digitize(radius, [1, 2, 4, 8, 16]).astype(np.int64)


def fit_alphas(planes: Array, classes: np.ndarray) -> np.ndarray:
    """Least-squares prediction factors in 1/64, int64 ``[6]``, 0 where they hardly help.

    Parameters
    ----------
    planes : float [nt, bt, bh, bw, nh, nw]
        Of numpy or torch; sums are the same bits.
    """
    alphas = np.zeros(N_CLASSES, np.int64)
    if planes.shape[0] < 2:
        return alphas
    for c in range(N_CLASSES):
        here = classes == c
        energy = total(_products(planes, here, 0))
        if energy > 0:
            alphas[c] = int(
                np.clip(np.rint(64 * total(_products(planes, here, 1)) / energy), 0, 64)
            )
    alphas[alphas < 6] = 0
    return alphas


def _products(planes: Array, here: np.ndarray, apart: int) -> Iterator[Array]:
    """Products of temporal means of blocks so far `apart`, of the frequencies in `here`, part by part."""
    last = len(planes) - 1
    step = -(-BLOCK // math.prod(planes.shape[2:]))
    for t in range(0, last, step):
        stop = min(t + step, last)
        one, other = planes[t:stop, 0], planes[t + apart : stop + apart, 0]
        yield as_double(one[:, here]) * as_double(other[:, here])


@njit(nogil=True, cache=True)
def quantise(planes, step, dead_zone, alphas, classes):
    """Quantise `planes`; returns levels int32 of the same shape and whether all fit `MAX_LEVEL`."""
    nt, bt, bh, bw, nh, nw = planes.shape
    q = np.empty(planes.shape, np.int32)
    previous = np.zeros((bh, bw, nh, nw), np.int64)
    fits = True
    for t in range(nt):
        for i in range(bt):
            for j in range(bh):
                for k in range(bw):
                    alpha = alphas[classes[j, k]] if i == 0 and t > 0 else 0
                    for y in range(nh):
                        for x in range(nw):
                            mu = (alpha * previous[j, k, y, x] + 32) >> 6
                            value = planes[t, i, j, k, y, x] / step - mu
                            if not abs(value) < MAX_LEVEL:
                                fits = False
                                value = 0.0
                            level = np.int32(0)
                            if abs(value) >= dead_zone:
                                level = np.int32(np.rint(value))
                            q[t, i, j, k, y, x] = level
                            if i == 0:
                                previous[j, k, y, x] = level + mu
    return q, fits


@njit(nogil=True, cache=True)
def _reconstructed(level, mu, scale_bin, centroid):
    """A coefficient in steps: its level at the centroid of its bin, on top of the prediction."""
    value = np.float64(level + mu)
    m = abs(level)
    if 0 < m < 4:
        shift = centroid[scale_bin >> 2, m - 1] / 64.0
        value += shift if level > 0 else -shift
    return value


@njit(nogil=True, cache=True)
def dequantise(q, bins, step, alphas, classes, centroid, planes):
    """Fill float `planes` with the reconstruction of levels `q` (bins: see `coder.run_block`)."""
    nt, bt, bh, bw, nh, nw = q.shape
    previous = np.zeros((bh, bw, nh, nw), np.int64)
    for t in range(nt):
        for i in range(bt):
            for j in range(bh):
                for k in range(bw):
                    alpha = alphas[classes[j, k]] if i == 0 and t > 0 else 0
                    for y in range(nh):
                        for x in range(nw):
                            level = np.int64(q[t, i, j, k, y, x])
                            mu = (alpha * previous[j, k, y, x] + 32) >> 6
                            value = _reconstructed(level, mu, bins[t, i, j, k, y, x], centroid)
                            planes[t, i, j, k, y, x] = value * step
                            if i == 0:
                                previous[j, k, y, x] = level + mu


@njit(nogil=True, cache=True)
def coefficient_error(q, bins, step, alphas, classes, centroid, planes):
    """Squared error of the reconstruction of `planes` in units of ``step**2 / ERROR_UNIT``.

    Each coefficient's is rounded to an integer, so that the sum is the same in any order.
    """
    nt, bt, bh, bw, nh, nw = q.shape
    previous = np.zeros((bh, bw, nh, nw), np.int64)
    total = np.int64(0)
    for t in range(nt):
        for i in range(bt):
            for j in range(bh):
                for k in range(bw):
                    alpha = alphas[classes[j, k]] if i == 0 and t > 0 else 0
                    for y in range(nh):
                        for x in range(nw):
                            level = np.int64(q[t, i, j, k, y, x])
                            mu = (alpha * previous[j, k, y, x] + 32) >> 6 if i == 0 else 0
                            value = _reconstructed(level, mu, bins[t, i, j, k, y, x], centroid)
                            e = (np.float64(planes[t, i, j, k, y, x]) - value * step) / step
                            total += np.int64(np.rint(e * e * ERROR_UNIT))
                            if i == 0:
                                previous[j, k, y, x] = level + mu
    return total
