"""Kernels of a volume in C, called through ctypes. `portable` does the same in numba."""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_double, c_int, c_int64, c_uint64, c_void_p

import numpy as np

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.native_quantise import (  # noqa: F401 part of this interface
    coefficient_error,
    dequantise,
    planes_of,
    quantise,
    quantised_ends,
    refine,
)
from caesar_freq.entropy.context import LOG_TABLE, N_LOCAL, plane_features, shells
from caesar_freq.entropy.dependent import HALF_TABLE
from caesar_freq.entropy.network import HIDDEN
from caesar_freq.entropy.rans import LOWER
from caesar_freq.entropy.tables import CLASS_BITS, CLASS_LOW, N_BINS, Tables
from caesar_freq.kernels import library, pointer
from caesar_freq.kernels.memory import empty, give_back, zeros
from caesar_freq.transform.blocks import Transform

_ROW = 20
_LOG_BYTES, _HALF_BYTES = LOG_TABLE.astype(np.uint8), HALF_TABLE.astype(np.uint8)
_LOW, _BITS = CLASS_LOW.astype(np.int32), CLASS_BITS.astype(np.int32)


class _Network(Structure):
    _fields_ = [
        ("w1", ctypes.c_int8 * (_ROW * HIDDEN)),
        ("w2", ctypes.c_int8 * (HIDDEN * HIDDEN)),
        ("w3", ctypes.c_int8 * HIDDEN),
        ("b2", ctypes.c_int32 * HIDDEN),
        ("b3", ctypes.c_int32),
    ]


class _Block(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("bt", "bh", "bw", "nh", "nw")),
        *((name, c_void_p) for name in (
            "shell_starts", "positions", "planes", "row_ok", "column_ok", "log_table", "network",
            "b1", "w_plane", "cumulative", "escape", "coarse", "class_low", "class_bits")),
        ("dependent", c_int64), ("time_ok", c_void_p), ("first", c_int64),
        *((name, c_void_p) for name in ("q", "rows", "used", "m", "p", "log_m", "log_p")),
    ]  # fmt: skip


class _Choice(Structure):
    _fields_ = [
        ("planes", c_void_p), ("is_double", c_int64), ("step", c_double),
        *((name, c_void_p) for name in
          ("alphas", "classes", "previous", "shifts")), ("error", c_int64),
        ("price", c_void_p), ("middle", c_void_p), ("length", c_void_p),
        ("bits", c_int64),
    ]  # fmt: skip


def _network(model: FrequencyModel) -> tuple[_Network, list[np.ndarray]]:
    """The C struct, and the arrays for `b1` and `w_plane`."""
    w_local, w_plane, b1, w2, b2, w3, b3 = (np.rint(w).astype(np.int32) for w in model.network)
    first = np.zeros((_ROW, HIDDEN), np.int8)
    first[:N_LOCAL] = w_local

    def grouped(w: np.ndarray) -> bytes:
        return w.astype(np.int8).reshape(-1, 4, HIDDEN).transpose(0, 2, 1).tobytes()

    raw = grouped(first) + grouped(w2) + w3.astype(np.int8).tobytes() + b2.tobytes() + b3.tobytes()
    return _Network.from_buffer_copy(raw), [b1.ravel(), np.ascontiguousarray(w_plane)]


class _Blocks:
    """The struct that a volume's time blocks share, and what keeps its arrays alive."""

    def __init__(
        self, transform: Transform, model: FrequencyModel, dependent: bool = False
    ) -> None:
        nt, bt, bh, bw, nh, nw = transform.planes_shape
        starts, positions = shells(bt, bh, bw)
        planes = plane_features(bt, bh, bw, transform.cell, transform.time_block)
        network, (b1, w_plane) = _network(model)
        tables = _int32(model.grid_tables if dependent else model.tables)
        arrays = {
            "shell_starts": starts, "positions": positions, "planes": planes,
            "row_ok": transform.rows.mask.astype(np.uint8),
            "column_ok": transform.columns.mask.astype(np.uint8),
            "log_table": _HALF_BYTES if dependent else _LOG_BYTES, "b1": b1, "w_plane": w_plane, "cumulative": tables[0], "escape": tables[1],
            "coarse": tables[2], "class_low": _LOW, "class_bits": _BITS,
        }  # fmt: skip
        arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        self._keep = (arrays, network)
        self._time_ok = np.ascontiguousarray(transform.time.mask.astype(np.uint8))
        shape = transform.planes_shape[1:]
        self._sizes = zeros(shape, np.int16)
        # of this block and of the one before it, which the first does not look at
        self._logs = [zeros(shape, np.uint8), zeros(shape if nt > 1 else 0, np.uint8)]
        self.block = _Block(bt, bh, bw, nh, nw)
        self.block.dependent = dependent
        for name, array in arrays.items():
            setattr(self.block, name, array.ctypes.data)
        self.block.network = ctypes.addressof(network)

    def run(self, t, q, rows, used, decoding, state, words, word) -> None:
        """One time block; `state` and `word` are ctypes numbers that are moved on."""
        self._begin(t, q, rows, used)
        self._end(library().cf_run_block(
            byref(self.block), c_int(decoding), byref(state), words, byref(word)
        ))  # fmt: skip

    def choose(self, t, q, rows, used, choice) -> bool:
        """One time block whose levels are to be found; whether all fit."""
        self._begin(t, q, rows, used)
        return self._end(library().cf_choose_block(byref(self.block), byref(choice)))

    def write(self, t, q, rows, used, state, words, word) -> None:
        """One time block to rANS; the last one comes first. `state` and `word` are moved on."""
        self._place(t, q, rows, used)
        self._end(library().cf_write_block(byref(self.block), byref(state), words, byref(word)))

    def _begin(self, t, q, rows, used) -> None:
        # the first blocks find zeros that no memory was touched for
        if t > 0:
            self._sizes[...] = 0
        if t > 1:
            self._logs[0][...] = 0
        self._place(t, q, rows, used)
        block = self.block
        block.m, block.p = self._sizes.ctypes.data, q[t - 1].ctypes.data if t else None
        block.log_m, block.log_p = (logs.ctypes.data for logs in self._logs)

    def _place(self, t, q, rows, used) -> None:
        block = self.block
        block.first, block.time_ok = t == 0, self._time_ok[t].ctypes.data
        block.q, block.rows = q[t].ctypes.data, rows[t].ctypes.data
        block.used = used[t].ctypes.data

    def _end(self, result: int) -> bool:
        if result < 0:
            raise MemoryError("the context coder got no memory for a plane of cells")
        self._logs.reverse()
        return bool(result)


def forward(transform: Transform, x: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """Planes of a volume `x` ``[T, H, W]``, which may be lost with `overwrite`."""
    return transform.forward(x, overwrite)


def inverse(transform: Transform, planes: np.ndarray) -> np.ndarray:
    """The volume of `planes`, which are overwritten."""
    return transform.inverse(planes, overwrite=True)


def ends_of(q: np.ndarray) -> np.ndarray:
    """Shells to code of every cell, int32 ``[nt, nh, nw]``."""
    used = np.empty((q.shape[0], *q.shape[4:]), np.int32)
    library().cf_shells_used(byref(planes_of(q.shape)), pointer(q), pointer(used))
    return used


def scale_bins(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
) -> np.ndarray:
    """Bins that `encode_blocks` would code levels `q` under, without coding them."""
    return _rows(q, used, _Blocks(transform, model))


def encode_blocks(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, int, np.ndarray]:  # fmt: skip
    """Code levels `q` (int32, ``transform.planes_shape``); returns bins, rANS state and words.

    With `dependent`, `q` holds values in steps of the dependent quantiser.
    """
    blocks = _Blocks(transform, model, dependent)
    rows = _rows(q, used, blocks)
    written = _written(q, rows, used, transform, blocks)
    return rows % N_BINS if dependent else rows, *written


def choose_blocks(
    planes, step, alphas, classes, used, transform: Transform, model: FrequencyModel, price, middle,
    length, overwrite: bool = False,
) -> tuple[np.ndarray, np.ndarray, int, int, bool]:  # fmt: skip
    """Values of the dependent quantiser by `trellis.choose_block`.

    With `overwrite` in the memory of `planes` where they fit, else `planes` are lost, too.

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
    here = overwrite and planes.itemsize == 4 and planes.flags.c_contiguous
    q = planes.view(np.int32) if here else zeros(planes.shape, np.int32)
    rows = zeros(planes.shape, np.uint8)
    previous = np.zeros(planes.shape[2:], np.int64)
    choice = _Choice(None, planes.dtype == np.float64, step)
    shifts = np.zeros((N_BINS // 2, 8))
    shifts[:, 4:7] = np.tile(model.grid_centroid, (2, 1)) / 64
    shifts[:, :3] = -shifts[:, 6:3:-1]
    arrays = {"alphas": alphas, "classes": classes, "previous": previous, "shifts": shifts,
              "price": price.astype(np.int32), "middle": middle,
              "length": length.astype(np.int32)}  # fmt: skip
    for name, array in arrays.items():
        setattr(choice, name, array.ctypes.data)
    fits = True
    for t in range(len(planes)):
        choice.planes = planes[t].ctypes.data
        fits &= blocks.choose(t, q, rows, used, choice)
        if overwrite and not here:
            give_back(planes[t])
    return q, rows, choice.error, choice.bits, fits


def write_blocks(
    q: np.ndarray, rows: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
) -> tuple[int, np.ndarray]:
    """rANS state and words of what `choose_blocks` found."""
    return _written(q, rows, used, transform, _Blocks(transform, model, True))


def _int32(tables: Tables) -> list[np.ndarray]:
    return [t.astype(np.int32) for t in (tables.cumulative, tables.escape, tables.coarse)]


def _rows(q, used, blocks: _Blocks) -> np.ndarray:
    """Rows of tables of `q`."""
    rows = zeros(q.shape, np.uint8)
    state, word = c_uint64(int(LOWER)), c_int64(0)
    for t in range(len(q)):
        blocks.run(t, q, rows, used, False, state, None, word)
    return rows


def _written(q, rows, used, transform: Transform, blocks: _Blocks) -> tuple[int, np.ndarray]:
    words = empty(2 * transform.n_coefficients + 2, np.uint32)
    state, word = c_uint64(int(LOWER)), c_int64(0)
    for t in reversed(range(len(q))):
        blocks.write(t, q, rows, used, state, pointer(words), word)
    return state.value, words[: word.value].copy()


def decode_blocks(
    used: np.ndarray, state: int, words: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, np.ndarray, int, int]:  # fmt: skip
    """Inverse of `encode_blocks`: levels, bins, and the state and words that are left over."""
    blocks = _Blocks(transform, model, dependent)
    q = zeros(transform.planes_shape, np.int32)
    bins = zeros(transform.planes_shape, np.uint8)
    rest, word = c_uint64(state), c_int64(len(words))
    for t in range(len(q)):
        blocks.run(t, q, bins, used, True, rest, pointer(words), word)
    return q, bins, rest.value, word.value
