"""Levels of the dependent quantiser, chosen by a Viterbi search, shell by shell.

A shell's contexts are known when all before it is settled. Among all ways through the phases
(`entropy.dependent`) from where the last shell ended, the search takes the one with the least
``error**2 + WEIGHT * bits``, errors in steps. What a level does to the contexts of later shells is
not weighed. Costs are integers, so that all kernels take the same way.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import MAX_LEVEL
from caesar_freq.codec.refine import UNIT, bits_of_levels
from caesar_freq.entropy.coder import gather, plane_bias
from caesar_freq.entropy.context import MAGNITUDE_CAP, N_LOCAL
from caesar_freq.entropy.dependent import N_PHASES, grid_of, level_of, next_phase, phase_before
from caesar_freq.entropy.network import HIDDEN, plane_bins
from caesar_freq.entropy.rans import class_of
from caesar_freq.entropy.tables import CLASS_BITS, CLASS_LOW, MAX_CLASSED, N_BINS, PRECISION
from caesar_freq.kernels.jit import njit

#: What a bit is worth in squared steps; bytes are flat between 0.33 and 0.5.
WEIGHT = 0.4
#: Levels below this have prices of their own; beyond, each costs the same more.
PRICED = 16
_NEVER = np.int64(1) << 60


@lru_cache(maxsize=8)
def prices(model: FrequencyModel, weight: float = WEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Tables that say what levels cost and stand for; a bit costs `weight` squared steps.

    Returns
    -------
    price : int64 [160, 17]
        Bits of levels 0 to 15, weighted, in units of ``1 / UNIT``, and of each level beyond.
    middle : float64 [20, 4]
        Reconstruction of values 0 to 3, in steps, by ``bin // 4``.
    """
    bits = bits_of_levels(model.grid_tables, PRICED)
    slope = np.maximum(bits[:, -1:] - bits[:, PRICED // 2 - 1, None], 0) / (PRICED // 2)
    price = np.rint(weight * UNIT * np.hstack([bits, slope])).astype(np.int64)
    middle = np.tile(np.arange(4.0), (N_BINS // 4, 1))
    middle[:, 1:] += model.grid_centroid / 64
    return price, middle


@lru_cache(maxsize=4)
def lengths(model: FrequencyModel) -> np.ndarray:
    """Bits of a level by the class of its magnitude, sign and raw bits included, int64 ``[160, 113]``.

    In ``1 / UNIT``. The last column is of magnitudes without a class.
    """
    cumulative, escape = model.grid_tables.cumulative, model.grid_tables.escape[:, None]
    symbols = np.arange(len(CLASS_LOW) + 1)
    used = np.minimum(symbols, escape)
    counts = np.take_along_axis(np.diff(cumulative, axis=1), used, axis=1)
    # five bits say how many follow an escape
    digits = np.array([int(low).bit_length() for low in (*CLASS_LOW, MAX_CLASSED + 1)])
    raw = np.where(symbols < escape, np.append(CLASS_BITS, 0), 5 + digits) + (symbols > 0)
    return np.rint(UNIT * (PRECISION - np.log2(counts) + raw)).astype(np.int64)


@njit(nogil=True, cache=True)
def _lower(size, grid):
    """Largest level of a grid whose value is not above `size`."""
    return np.int64((size + grid) * 0.5)


@njit(nogil=True, cache=True)
def _candidates(size, b, grid, price, middle, cost):
    """Costs of the best even and odd level of a grid; whether the even one is a far zero."""
    low = _lower(size, grid)
    base = max(low, PRICED - 1)
    row = price[b + grid * N_BINS]
    for level in range(low, low + 2):
        value = 2 * level - grid if level else 0
        error = size - (middle[b >> 2, value] if value < 4 else np.float64(value))
        cost[level & 1] = np.int64(error * error * UNIT + 0.5) + row[min(level, PRICED - 1)]
        if level > base:
            cost[level & 1] += row[PRICED]
    if low == 1:
        zero = np.int64(size * size * UNIT + 0.5) + row[0]
        if zero < cost[0]:
            cost[0] = zero
            return 1
    return 0


@njit(nogil=True, cache=True)
def choose_path(sizes, bins, n, phase, price, middle, back, values):
    """Best values of `n` coefficients from `phase` on.

    Parameters
    ----------
    sizes : float64
        Coefficients in steps, with their signs.
    bins : uint8
    back : uint8 [>= n, 2]
        Room.
    values : int32
        Result.

    Returns
    -------
    bool
        Whether all fit `quantise.MAX_LEVEL`.
    """
    total, before = np.full(N_PHASES, _NEVER), np.empty(N_PHASES, np.int64)
    cost = np.empty((2, 2), np.int64)
    total[phase] = 0
    fits = True
    for a in range(n):
        size = abs(sizes[a])
        if not size < MAX_LEVEL:
            fits = False
            sizes[a] = size = 0.0
        zeros = _candidates(size, bins[a], 0, price, middle, cost[0])
        zeros |= _candidates(size, bins[a], 1, price, middle, cost[1]) << 1
        odd = 0
        before[:] = total
        for p in range(N_PHASES):
            own = cost[grid_of(phase_before(p, 0))]
            even_way = before[phase_before(p, 0)] + own[0]
            odd_way = before[phase_before(p, 1)] + own[1]
            if odd_way < even_way:
                odd |= 1 << p
            total[p] = min(even_way, odd_way)
        back[a, 0], back[a, 1] = odd, zeros
    end = 0
    for p in range(1, N_PHASES):
        if total[p] < total[end]:
            end = p
    for a in range(n - 1, -1, -1):
        odd = back[a, 0] >> end & 1
        end = phase_before(end, odd)
        grid = grid_of(end)
        level = _lower(abs(sizes[a]), grid)
        if level & 1 != odd:
            level = 0 if not odd and back[a, 1] >> grid & 1 else level + 1
        value = 2 * level - grid if level else 0
        values[a] = -value if sizes[a] < 0 else value
    return fits


@njit(nogil=True, cache=True)
def choose_block(
    y, step, alphas, classes, previous, price, middle, length,
    q, rows, used, m, p, first, shell_starts, positions, planes, masks, table, network,
):  # fmt: skip
    """Fill `q` and `rows` of one time block: values, and rows of the tables of their levels.

    Parameters
    ----------
    y : float [bt, bh, bw, nh, nw]
        Coefficients.
    previous : int64 [bh, bw, nh, nw]
        Temporal-mean plane of the block before, in steps; moved on.
    price, middle : see `prices`
    length : see `lengths`
    The others are those of `coder.run_block`.

    Returns
    -------
    fits : bool
        Whether all values do.
    bits : int
        Sum of the lengths of their levels.
    """
    time_ok, row_ok, column_ok = masks
    w_local, w_plane, b1, w2, b2, w3, b3 = network
    nh, nw = used.shape
    sums1, sums2 = np.zeros((nh + 2, nw + 2), np.int32), np.zeros((nh + 2, nw + 2), np.int32)
    features = np.zeros((nh * nw + 4, N_LOCAL), np.float32)
    plane_out = np.empty(nh * nw + 4, np.int32)
    ys, xs = np.empty(nh * nw, np.int64), np.empty(nh * nw, np.int64)
    bias = np.empty(HIDDEN, np.float32)
    last = used.max()
    most = nh * nw * (np.diff(shell_starts[: last + 1]).max() if last else 0)
    sizes, values = np.empty(most), np.empty(most, np.int32)
    at, own, back = (
        np.empty((most, 3), np.int64),
        np.empty(most, np.uint8),
        np.empty((most, 2), np.uint8),
    )
    phase, fits, bits = 0, True, np.int64(0)
    for s in range(last):
        n_path = 0
        for c in range(shell_starts[s], shell_starts[s + 1]):
            i, j, k = positions[c, 0], positions[c, 1], positions[c, 2]
            n = gather(m, p, i, j, k, s, used, time_ok, row_ok, column_ok, table,
                       sums1, sums2, features, ys, xs)  # fmt: skip
            if n == 0:
                continue
            plane_bias(b1, w_plane, planes[i, j, k], not first, bias)
            plane_bins(features, n, w_local, bias, w2, b2, w3, b3[0], plane_out)
            alpha = alphas[classes[j, k]] if i == 0 and not first else 0
            for a in range(n):
                mu = (alpha * previous[j, k, ys[a], xs[a]] + 32) >> 6 if i == 0 else 0
                sizes[n_path] = y[i, j, k, ys[a], xs[a]] / step - mu
                own[n_path] = plane_out[a]
                at[n_path, 0], at[n_path, 1], at[n_path, 2] = c, ys[a], xs[a]
                n_path += 1
        fits &= choose_path(sizes, own, n_path, phase, price, middle, back, values)
        for a in range(n_path):
            i, j, k = positions[at[a, 0], 0], positions[at[a, 0], 1], positions[at[a, 0], 2]
            v, u, value = at[a, 1], at[a, 2], np.int64(values[a])
            grid = grid_of(phase)
            level = level_of(value, grid)
            symbol = min(class_of(abs(level)), length.shape[1] - 1)
            bits += length[own[a] + grid * N_BINS, symbol]
            phase = next_phase(phase, level)
            q[i, j, k, v, u], rows[i, j, k, v, u] = value, own[a] + grid * N_BINS
            m[i + 2, j + 2, k + 2, v + 1, u + 1] = min(abs(value), MAGNITUDE_CAP)
    for j in range(q.shape[1]):
        for k in range(q.shape[2]):
            alpha = 0 if first else alphas[classes[j, k]]
            for v in range(nh):
                for u in range(nw):
                    previous[j, k, v, u] = q[0, j, k, v, u] + (
                        (alpha * previous[j, k, v, u] + 32) >> 6
                    )
    return fits, bits
