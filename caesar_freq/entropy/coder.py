"""Context gathering, network and rANS over the frequency planes of a volume.

Coefficients are coded time block by time block, shell by shell (`context.shells`), frequency by
frequency, cell by cell. All that steers decoding is integer and already decoded.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.context import MAGNITUDE_CAP, N_LOCAL
from caesar_freq.entropy.dependent import grid_of, level_of, next_phase, value_of
from caesar_freq.entropy.network import HIDDEN, plane_bins
from caesar_freq.entropy.rans import pull_magnitude, push_magnitude
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.kernels.jit import njit

#: What `run_block` does with the coefficients.
ENCODE, DECODE, COLLECT = 0, 1, 2


@njit(nogil=True, cache=True)
def shells_used(q):
    """One more than the last non-zero shell of every cell of `q` ``[bt, bh, bw, nh, nw]``."""
    bt, bh, bw, nh, nw = q.shape
    used = np.zeros((nh, nw), np.int32)
    for i in range(bt):
        for j in range(bh):
            for k in range(bw):
                for y in range(nh):
                    for x in range(nw):
                        if q[i, j, k, y, x] != 0 and used[y, x] <= i + j + k:
                            used[y, x] = i + j + k + 1
    return used


@njit(nogil=True, cache=True)
def gather(m, p, i, j, k, s, used, time_ok, row_ok, column_ok, table, sums1, sums2, f, ys, xs):
    """Local features of the coefficients of frequency (i, j, k) that are coded; their number."""
    nh, nw = used.shape
    if not time_ok[i]:
        return 0
    a, b, c = i + 2, j + 2, k + 2
    t1, h1, w1 = m[a - 1, b, c], m[a, b - 1, c], m[a, b, c - 1]
    t2, h2, w2 = m[a - 2, b, c], m[a, b - 2, c], m[a, b, c - 2]
    th, tw, hw = m[a - 1, b - 1, c], m[a - 1, b, c - 1], m[a, b - 1, c - 1]
    p0, p1, p2 = p[a, b, c], p[a - 1, b, c], p[a + 1, b, c]
    p3, p4, p5, p6 = p[a, b - 1, c], p[a, b + 1, c], p[a, b, c - 1], p[a, b, c + 1]
    for y in range(1, nh + 1):
        for x in range(1, nw + 1):
            sums1[y, x] = t1[y, x] + h1[y, x] + w1[y, x]
            sums2[y, x] = t2[y, x] + h2[y, x] + w2[y, x] + th[y, x] + tw[y, x] + hw[y, x]
    n = 0
    for v in range(nh):
        if not row_ok[v, j]:
            continue
        for u in range(nw):
            own = used[v, u]
            if own <= s or not column_ok[u, k]:
                continue
            y, x, g = v + 1, u + 1, f[n]
            g[0], g[1], g[2] = table[t1[y, x]], table[h1[y, x]], table[w1[y, x]]
            g[3], g[4], g[5] = table[t2[y, x]], table[h2[y, x]], table[w2[y, x]]
            g[6], g[7], g[8] = table[th[y, x]], table[tw[y, x]], table[hw[y, x]]
            g[9] = table[sums1[y - 1, x] + sums1[y + 1, x] + sums1[y, x - 1] + sums1[y, x + 1]]
            g[10] = table[
                sums1[y - 1, x - 1]
                + sums1[y + 1, x + 1]
                + sums1[y - 1, x + 1]
                + sums1[y + 1, x - 1]
            ]
            g[11] = table[sums2[y - 1, x] + sums2[y + 1, x] + sums2[y, x - 1] + sums2[y, x + 1]]
            g[12] = table[p0[y, x]]
            g[13] = table[p1[y, x] + p2[y, x] + p3[y, x] + p4[y, x] + p5[y, x] + p6[y, x]]
            g[14] = table[p0[y - 1, x] + p0[y + 1, x] + p0[y, x - 1] + p0[y, x + 1]]
            near = -4 * s
            near += used[v - 1, u] if v > 0 else own
            near += used[v + 1, u] if v < nh - 1 else own
            near += used[v, u - 1] if u > 0 else own
            near += used[v, u + 1] if u < nw - 1 else own
            g[15], g[16] = table[own - s], table[max(0, near)]
            ys[n], xs[n] = v, u
            n += 1
    return n


@njit(nogil=True, cache=True)
def plane_bias(b1, w_plane, plane, not_first, bias):
    """First-layer bias of a plane: features 15 to 21 are the same for all its coefficients."""
    for h in range(HIDDEN):
        total = b1[h]
        for c in range(7):
            total += w_plane[c, h] * np.float32(plane[c])
        bias[h] = total + (w_plane[4, h] * np.float32(64) if not_first else np.float32(0))


@njit(nogil=True, cache=True)
def run_block(
    action, dependent, q, bins, used, m, p, first, shell_starts, positions, planes, masks, table,
    network, tables, starts, counts, n_ops, words, state, word, rows, values,
):  # fmt: skip
    """Encode, decode or collect the features of one time block.

    Parameters
    ----------
    action : ENCODE, DECODE or COLLECT
    dependent : bool
        Whether `q` counts steps of the dependent quantiser (`dependent`), not levels.
    q : int32 [bt, bh, bw, nh, nw]
        Quantised coefficients; filled when decoding.
    bins : uint8, shape of q
        Filled with the scale bin of every coded coefficient.
    used : int32 [nh, nw]
        Shells to code of every cell (`shells_used`).
    m, p : int32 [bt + 3, bh + 3, bw + 3, nh + 2, nw + 2]
        Magnitudes of this block (zeros, filled here) and of the previous one, with margins.
    first : bool
        Whether this is the first time block.
    shell_starts, positions : see `context.shells`
    planes : see `context.plane_features`
    masks : (bool [bt], bool [nh, bh], bool [nw, bw])
        Slots in use.
    table : float32
        `context.LOG_TABLE`, of the dependent quantiser `dependent.HALF_TABLE`.
    network : float32 (w_local [17, 16], w_plane [7, 16], b1, w2, b2, w3, b3 [1])
    tables : (cumulative, escape, coarse), see `tables.Tables`
        Of the dependent quantiser those of both grids, one behind the other.
    starts, counts, n_ops : uint16 arrays and their fill, for ENCODE
    words, state, word : uint32 array, state and position, for DECODE
    rows, values : uint8 [n, 24] and int32 [n], for COLLECT

    Returns
    -------
    n_ops, state, word
    """
    time_ok, row_ok, column_ok = masks
    w_local, w_plane, b1, w2, b2, w3, b3 = network
    cumulative, escape, coarse = tables
    nh, nw = used.shape
    sums1 = np.zeros((nh + 2, nw + 2), np.int32)
    sums2 = np.zeros((nh + 2, nw + 2), np.int32)
    features = np.zeros((nh * nw + 4, N_LOCAL), np.float32)
    plane_out = np.empty(nh * nw + 4, np.int32)
    ys, xs = np.empty(nh * nw, np.int64), np.empty(nh * nw, np.int64)
    bias = np.empty(HIDDEN, np.float32)
    phase = 0
    for s in range(used.max()):
        for c in range(shell_starts[s], shell_starts[s + 1]):
            i, j, k = positions[c, 0], positions[c, 1], positions[c, 2]
            n = gather(m, p, i, j, k, s, used, time_ok, row_ok, column_ok, table,
                       sums1, sums2, features, ys, xs)  # fmt: skip
            if n == 0:
                continue
            here, q_plane, bin_plane = m[i + 2, j + 2, k + 2], q[i, j, k], bins[i, j, k]
            if action == COLLECT:
                for a in range(n):
                    value = q_plane[ys[a], xs[a]]
                    for d in range(15):
                        rows[n_ops, d] = np.uint8(features[a, d])
                        if d < 7:
                            rows[n_ops, 15 + d] = planes[i, j, k, d]
                    rows[n_ops, 19] = 0 if first else 64
                    rows[n_ops, 22] = np.uint8(features[a, 15])
                    rows[n_ops, 23] = np.uint8(features[a, 16])
                    values[n_ops] = value
                    n_ops += 1
                    here[ys[a] + 1, xs[a] + 1] = min(abs(value), MAGNITUDE_CAP)
                continue
            plane_bias(b1, w_plane, planes[i, j, k], not first, bias)
            plane_bins(features, n, w_local, bias, w2, b2, w3, b3[0], plane_out)
            for a in range(n):
                y, x, b = ys[a], xs[a], plane_out[a]
                grid = grid_of(phase) if dependent else 0
                row = b + grid * N_BINS
                if action == DECODE:
                    level, state, word = pull_magnitude(
                        row, cumulative, escape, coarse, state, words, word
                    )
                    value = value_of(level, grid) if dependent else level
                    q_plane[y, x] = value
                else:
                    value = np.int64(q_plane[y, x])
                    level = level_of(value, grid) if dependent else value
                    n_ops = push_magnitude(level, row, cumulative, escape, starts, counts, n_ops)
                phase = next_phase(phase, level)
                bin_plane[y, x] = b
                here[y + 1, x + 1] = min(abs(value), MAGNITUDE_CAP)
    return n_ops, state, word
