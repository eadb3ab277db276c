"""Kernels of a volume in C, called through ctypes. `portable` does the same in numba."""

from __future__ import annotations

import ctypes
from ctypes import Structure, byref, c_double, c_int, c_int64, c_uint64, c_void_p

import numpy as np

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.entropy.context import LOG_TABLE, N_LOCAL, plane_features, shells
from caesar_freq.entropy.dependent import HALF_TABLE
from caesar_freq.entropy.network import HIDDEN
from caesar_freq.entropy.rans import LOWER
from caesar_freq.entropy.tables import CLASS_BITS, CLASS_LOW, Tables
from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.memory import empty, zeros
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
        *((name, c_void_p) for name in ("q", "bins", "used", "m", "p", "log_m", "log_p")),
    ]  # fmt: skip


class _Choice(Structure):
    _fields_ = [
        ("planes", c_void_p), ("is_double", c_int64), ("step", c_double),
        *((name, c_void_p) for name in ("alphas", "classes", "previous", "price", "middle")),
    ]  # fmt: skip


class _Planes(Structure):
    _fields_ = [(name, c_int64) for name in ("nt", "bt", "bh", "bw", "cells")]


def _planes(shape: tuple[int, ...]) -> _Planes:
    return _Planes(*shape[:4], shape[4] * shape[5])


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
        margins = (bt + 3, bh + 3, bw + 3, nh + 2, nw + 2)
        # the first block does not look at one before it
        self._now, self._before = (
            (zeros(shape, np.int16), zeros(shape, np.uint8))
            for shape in (margins, margins if nt > 1 else 0)
        )
        self.block = _Block(bt, bh, bw, nh, nw)
        self.block.dependent = dependent
        for name, array in arrays.items():
            setattr(self.block, name, array.ctypes.data)
        self.block.network = ctypes.addressof(network)

    def run(self, t, q, bins, used, decoding, values, scale_bins, n, state, words, word) -> None:
        """One time block; `n`, `state` and `word` are ctypes numbers that are moved on."""
        self._begin(t, q, bins, used)
        self._end(library().cf_run_block(
            byref(self.block), c_int(decoding), values, scale_bins, byref(n), byref(state), words,
            byref(word),
        ))  # fmt: skip

    def choose(self, t, q, bins, used, choice, values, rows, n) -> bool:
        """One time block whose levels are to be found; whether all fit. `n` is moved on."""
        self._begin(t, q, bins, used)
        return self._end(library().cf_choose_block(
            byref(self.block), byref(choice), values, rows, byref(n)
        ))  # fmt: skip

    def _begin(self, t, q, bins, used) -> None:
        if t > 1:  # the first two blocks find zeros that no memory was touched for
            for array in self._now:
                array[:] = 0
        block = self.block
        block.first, block.time_ok = t == 0, self._time_ok[t].ctypes.data
        block.q, block.bins = q[t].ctypes.data, bins[t].ctypes.data
        block.used = used[t].ctypes.data
        block.m, block.log_m = (a.ctypes.data for a in self._now)
        block.p, block.log_p = (a.ctypes.data for a in self._before)

    def _end(self, result: int) -> bool:
        if result < 0:
            raise MemoryError("the context coder got no memory for a plane of cells")
        self._now, self._before = self._before, self._now
        return bool(result)


def forward(transform: Transform, x: np.ndarray) -> np.ndarray:
    """Planes of a volume `x` ``[T, H, W]``."""
    return transform.forward(x)


def inverse(transform: Transform, planes: np.ndarray) -> np.ndarray:
    """The volume of `planes`, which are overwritten."""
    return transform.inverse(planes, overwrite=True)


def ends_of(q: np.ndarray) -> np.ndarray:
    """Shells to code of every cell, int32 ``[nt, nh, nw]``."""
    used = np.empty((q.shape[0], *q.shape[4:]), np.int32)
    library().cf_shells_used(byref(_planes(q.shape)), pointer(q), pointer(used))
    return used


def scale_bins(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
) -> np.ndarray:
    """Bins that `encode_blocks` would code levels `q` under, without coding them."""
    return _run_blocks(q, used, _Blocks(transform, model), transform)[0]


def encode_blocks(
    q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, int, np.ndarray]:  # fmt: skip
    """Code levels `q` (int32, ``transform.planes_shape``); returns bins, rANS state and words.

    With `dependent`, `q` holds values in steps of the dependent quantiser.
    """
    blocks = _Blocks(transform, model, dependent)
    bins, values, rows, n = _run_blocks(q, used, blocks, transform)
    tables = model.grid_tables if dependent else model.tables
    return bins, *write_values(values[: n.value], rows[: n.value], tables)


def choose_blocks(
    planes, step, alphas, classes, used, transform: Transform, model: FrequencyModel, price, middle
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Values of the dependent quantiser by `trellis.choose_block`.

    Returns
    -------
    q, bins : int32 and uint8, shape of `planes`
    levels, rows : int32 and uint8
        In coding order, as `write_values` takes them.
    fits : bool
    """
    blocks = _Blocks(transform, model, True)
    q, bins = zeros(planes.shape, np.int32), zeros(planes.shape, np.uint8)
    levels = empty(transform.n_coefficients, np.int32)
    rows = empty(len(levels), np.uint8)
    previous = np.zeros(planes.shape[2:], np.int64)
    choice = _Choice(None, planes.dtype == np.float64, step)
    arrays = {"alphas": alphas, "classes": classes, "previous": previous, "price": price,
              "middle": middle}  # fmt: skip
    for name, array in arrays.items():
        setattr(choice, name, array.ctypes.data)
    n, fits = c_int64(0), True
    for t in range(len(planes)):
        choice.planes = planes[t].ctypes.data
        fits &= blocks.choose(t, q, bins, used, choice, pointer(levels), pointer(rows), n)
    return q, bins, levels[: n.value], rows[: n.value], fits


def write_values(levels: np.ndarray, rows: np.ndarray, tables: Tables) -> tuple[int, np.ndarray]:
    """rANS state and words of int32 `levels` under their uint8 `rows` of `tables`, in coding order."""
    state = c_uint64(int(LOWER))
    words = empty(2 * len(levels) + 2, np.uint32)
    cumulative, escape, _ = _int32(tables)
    write = library().cf_write
    write.restype = c_int64
    n = write(pointer(levels), pointer(rows), c_int64(len(levels)), pointer(cumulative),
              pointer(escape), pointer(_LOW), pointer(_BITS), pointer(words),
              byref(state))  # fmt: skip
    return state.value, words[:n].copy()


def _int32(tables: Tables) -> list[np.ndarray]:
    return [t.astype(np.int32) for t in (tables.cumulative, tables.escape, tables.coarse)]


def _run_blocks(q, used, blocks: _Blocks, transform: Transform):
    """Bins of `q`; levels and bins in coding order, and their number."""
    bins = zeros(q.shape, np.uint8)
    values = empty(transform.n_coefficients, np.int32)
    coded_bins = empty(len(values), np.uint8)
    n, state, word = c_int64(0), c_uint64(int(LOWER)), c_int64(0)
    for t in range(q.shape[0]):
        blocks.run(t, q, bins, used, False, pointer(values), pointer(coded_bins), n, state,
                   None, word)  # fmt: skip
    return bins, values, coded_bins, n


def decode_blocks(
    used: np.ndarray, state: int, words: np.ndarray, transform: Transform, model: FrequencyModel,
    dependent: bool = False,
) -> tuple[np.ndarray, np.ndarray, int, int]:  # fmt: skip
    """Inverse of `encode_blocks`: levels, bins, and the state and words that are left over."""
    blocks = _Blocks(transform, model, dependent)
    q = zeros(transform.planes_shape, np.int32)
    bins = zeros(transform.planes_shape, np.uint8)
    n, rest, word = c_int64(0), c_uint64(state), c_int64(len(words))
    for t in range(q.shape[0]):
        blocks.run(t, q, bins, used, True, None, None, n, rest, pointer(words), word)
    return q, bins, rest.value, word.value


def quantise(planes, step, dead_zone, alphas, classes):
    """See `quantise.quantise`."""
    q = empty(planes.shape, np.int32)
    fits = getattr(library(), f"cf_quantise_{SUFFIX[planes.dtype]}")(
        byref(_planes(planes.shape)), pointer(planes), c_double(step), c_double(dead_zone),
        pointer(alphas), pointer(classes), pointer(q),
    )  # fmt: skip
    if fits < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return q, bool(fits)


def dequantise(q, bins, step, alphas, classes, centroid, planes) -> None:
    """See `quantise.dequantise`."""
    function = getattr(library(), f"cf_dequantise_{SUFFIX[planes.dtype]}")
    function.restype = c_double
    failed = function(
        byref(_planes(q.shape)), pointer(q), pointer(bins), c_double(step), pointer(alphas),
        pointer(classes), pointer(centroid), pointer(planes),
    )  # fmt: skip
    if failed:
        raise MemoryError("the quantiser got no memory for a plane of cells")


def refine(planes, step, alphas, classes, bins, thresholds, price, middle):
    """See `refine.refine`."""
    q = empty(planes.shape, np.int32)
    tables = (c_void_p * 3)(*(a.ctypes.data for a in (thresholds, price, middle)))
    fits = getattr(library(), f"cf_refine_{SUFFIX[planes.dtype]}")(
        byref(_planes(planes.shape)), pointer(planes), c_double(step), pointer(alphas),
        pointer(classes), pointer(bins), tables, pointer(q),
    )  # fmt: skip
    if fits < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return q, bool(fits)


def coefficient_error(q, bins, step, alphas, classes, centroid, planes) -> int:
    """See `quantise.coefficient_error`."""
    function = getattr(library(), f"cf_coefficient_error_{SUFFIX[planes.dtype]}")
    function.restype = c_double
    total = function(
        byref(_planes(q.shape)), pointer(q), pointer(bins), c_double(step), pointer(alphas),
        pointer(classes), pointer(centroid), pointer(planes),
    )  # fmt: skip
    if total < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return total
