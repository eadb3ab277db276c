"""Kernels of a volume in numba: the portable path. `native` does the same, bit for bit, in C."""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import (  # noqa: F401 part of this interface
    coefficient_error,
    dequantise,
    quantise,
)
from caesar_freq.codec.refine import refine  # noqa: F401
from caesar_freq.codec.trellis import choose_block
from caesar_freq.entropy.coder import (
    COLLECT,
    DECODE,
    ENCODE,
    run_block,
    shells_used,
)
from caesar_freq.entropy.context import LOG_TABLE, N_FEATURES, plane_features, shells
from caesar_freq.entropy.dependent import HALF_TABLE
from caesar_freq.entropy.rans import LOWER, MAX_OPERATIONS, write, write_values
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.transform.blocks import Transform

_NO_OPERATIONS = np.zeros(1, np.uint16)
_NO_WORDS = np.zeros(1, np.uint32)
_NO_ROWS = np.zeros((1, N_FEATURES), np.uint8)
_NO_VALUES = np.zeros(1, np.int32)


class _Blocks:
    """The arguments of `run_block` that a volume's time blocks share."""

    def __init__(
        self, transform: Transform, model: FrequencyModel, dependent: bool = False
    ) -> None:
        nt, bt, bh, bw, nh, nw = transform.planes_shape
        self.shape = transform.planes_shape
        self.time_mask = transform.time.mask
        self.space_masks = (transform.rows.mask, transform.columns.mask)
        starts, positions = shells(bt, bh, bw)
        planes = plane_features(bt, bh, bw, transform.cell, transform.time_block)
        self.static = (starts, positions, planes)
        self.model, self.dependent = model, dependent
        self.tables = model.grid_tables if dependent else model.tables
        self.log_table = HALF_TABLE if dependent else LOG_TABLE
        margins = (bt + 3, bh + 3, bw + 3, nh + 2, nw + 2)
        self.current, self.previous = (np.zeros(margins, np.int32) for _ in range(2))

    def run(self, action, t, q, bins, used, starts=_NO_OPERATIONS, counts=_NO_OPERATIONS, n_ops=0,
            words=_NO_WORDS, state=LOWER, word=0, rows=_NO_ROWS, values=_NO_VALUES):  # fmt: skip
        self.current[:] = 0
        result = run_block(
            action, self.dependent, q, bins, used, *self._contexts(t),
            (self.tables.cumulative, self.tables.escape, self.tables.coarse),
            starts, counts, n_ops, words, np.uint64(state), word, rows, values,
        )  # fmt: skip
        self.current, self.previous = self.previous, self.current
        return result

    def choose(self, t, y, step, alphas, classes, previous, price, middle, length, q, rows, used):
        """See `trellis.choose_block`."""
        self.current[:] = 0
        result = choose_block(
            y,
            step,
            alphas,
            classes,
            previous,
            price,
            middle,
            length,
            q,
            rows,
            used,
            *self._contexts(t),
        )
        self.current, self.previous = self.previous, self.current
        return result

    def _contexts(self, t):
        return (self.current, self.previous, t == 0, *self.static,
                (self.time_mask[t], *self.space_masks), self.log_table, self.model.network)  # fmt: skip


def forward(transform: Transform, x: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """Planes of a volume `x` ``[T, H, W]``, which may be lost with `overwrite`."""
    return transform.forward(x, overwrite)


def inverse(transform: Transform, planes: np.ndarray) -> np.ndarray:
    """The volume of `planes`, which are overwritten."""
    return transform.inverse(planes, overwrite=True)


def ends_of(q: np.ndarray) -> np.ndarray:
    """Shells to code of every cell, int32 ``[nt, nh, nw]``."""
    return np.stack([shells_used(block) for block in q])


def quantised_ends(planes, step, dead_zone, alphas, classes) -> tuple[np.ndarray, bool]:
    """`ends_of` the levels of `quantise`, and whether all of them fit."""
    q, fits = quantise(planes, step, dead_zone, alphas, classes)
    return ends_of(q), fits


def scale_bins(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
) -> np.ndarray:
    """Bins that `encode_blocks` would code levels `q` under, without coding them."""
    return encode_blocks(q, used, transform, model)[0]


def encode_blocks(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, int, np.ndarray]:  # fmt: skip
    """Code levels `q` (int32, ``transform.planes_shape``); returns bins, rANS state and words.

    With `dependent`, `q` holds values in steps of the dependent quantiser.
    """
    blocks = _Blocks(transform, model, dependent)
    bins = np.zeros(q.shape, np.uint8)
    capacity = MAX_OPERATIONS * transform.n_coefficients
    starts, counts = np.empty(capacity, np.uint16), np.empty(capacity, np.uint16)
    n_ops = 0
    for t in range(q.shape[0]):
        n_ops, _, _ = blocks.run(ENCODE, t, q[t], bins[t], used[t], starts, counts, n_ops)
    words = np.empty(n_ops // 2 + 2, np.uint32)
    state, n_words = write(starts, counts, n_ops, words)
    return bins, int(state), words[:n_words]


def choose_blocks(
    planes, step, alphas, classes, used, transform: Transform, model: FrequencyModel, price, middle,
    length, overwrite: bool = False,
) -> tuple[np.ndarray, np.ndarray, int, int, bool]:  # fmt: skip
    """Values of the dependent quantiser by `trellis.choose_block`.

    Returns
    -------
    q, rows : int32 and uint8, shape of `planes`
        Values, and rows of the tables of their levels, for `write_blocks`.
    error : int
        `quantise.coefficient_error` of them.
    bits : int
        What they take, in ``1 / refine.UNIT``.
    fits : bool
    """
    blocks = _Blocks(transform, model, True)
    q, rows = np.zeros(planes.shape, np.int32), np.zeros(planes.shape, np.uint8)
    previous = np.zeros(planes.shape[2:], np.int64)
    fits, bits = True, 0
    for t in range(len(planes)):
        good, more = blocks.choose(t, planes[t], step, alphas, classes, previous, price, middle,
                                   length, q[t], rows[t], used[t])  # fmt: skip
        fits, bits = fits and good, bits + more
    centroid = np.tile(model.grid_centroid, (2, 1))
    error = coefficient_error(q, rows, step, alphas, classes, centroid, planes)
    return q, rows, error, bits, bool(fits)


def coding_order(
    q: np.ndarray, rows: np.ndarray, used: np.ndarray, transform: Transform
) -> tuple[np.ndarray, np.ndarray]:
    """Levels int32 of values `q` of the dependent quantiser and their `rows`, in coding order."""
    _, positions = shells(*q.shape[1:4])
    i, j, k = positions.T
    here = transform.rows.mask.T[j][:, :, None] & transform.columns.mask.T[k][:, None, :]
    found = []
    for block, own, ends, times in zip(q, rows, used, transform.time.mask):
        coded = here & times[i][:, None, None] & (ends > positions.sum(1)[:, None, None])
        found.append((block[i, j, k][coded], own[i, j, k][coded]))
    values, rows = (np.concatenate(parts) for parts in zip(*found))
    levels = np.sign(values) * ((np.abs(values) + (rows >= N_BINS)) >> 1)
    return levels.astype(np.int32), rows


def write_blocks(
    q: np.ndarray, rows: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
) -> tuple[int, np.ndarray]:
    """rANS state and words of what `choose_blocks` found."""
    return write_values(*coding_order(q, rows, used, transform), model.grid_tables)


def decode_blocks(
    used: np.ndarray, state: int, words: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, np.ndarray, int, int]:  # fmt: skip
    """Inverse of `encode_blocks`: levels, bins, and the state and words that are left over."""
    blocks = _Blocks(transform, model, dependent)
    q = np.zeros(transform.planes_shape, np.int32)
    bins = np.zeros(transform.planes_shape, np.uint8)
    word = len(words)
    for t in range(q.shape[0]):
        _, state, word = blocks.run(
            DECODE, t, q[t], bins[t], used[t], words=words, state=state, word=word
        )
    return q, bins, int(state), word


def collect_rows(q: np.ndarray, transform: Transform, model: FrequencyModel):
    """Contexts uint8 ``[n, 24]`` and levels int32 ``[n]`` of each time block, for phase 1."""
    blocks = _Blocks(transform, model)
    bins = np.zeros(q.shape[1:], np.uint8)
    capacity = int(np.prod(q.shape[1:]))
    rows, values = np.empty((capacity, N_FEATURES), np.uint8), np.empty(capacity, np.int32)
    for t in range(q.shape[0]):
        found, _, _ = blocks.run(
            COLLECT, t, q[t], bins, shells_used(q[t]), rows=rows, values=values
        )
        yield rows[:found], values[:found]
