"""Values on a grid as integer levels: found, proved, coded and restored.

A grid is a formula in IEEE float64, applied element by element and then rounded to the output
dtype, so that every machine restores the same bits; where the producer rounded in other places, a
correction in units of the last place follows for each level. A grid is used only after it has
restored every value of the chunk exactly, or within the bound where one is given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from caesar_freq.codec.lossless import decode_lossless, encode_lossless, ordered, unordered
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.parts import parts
from caesar_freq.codec.spacing import best_line, distinct_sample, find_spacing
from caesar_freq.entropy.levels import FILLED, MAX_LEVEL, decode_levels, encode_levels
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import empty, zeros

#: Formulas: ``n * a + b``; ``n / a``; a table's entry.
LINE, QUOTIENT, TABLE = 0, 1, 2
#: Added to the formula's number in the stream: one predictor of levels is by least squares.
_FITTED = 8
#: On about so many levels it is tried whether that pays; it does not for radar and noise.
_SAMPLE = 1 << 18
#: Grids without a rule may have so many distinct values.
_MOST_IRREGULAR = 4096
#: Grids with corrections may have so many levels, corrections of so many last places, and so many
#: values that are further off and written out (near zero the last place is very small).
MOST_CORRECTED, LARGEST_CORRECTION, _MOST_PATCHES = 1 << 18, 4096, 1024
_FARTHEST, _UNLIMITED = 1 << 53, 1 << 60


@dataclass(frozen=True)
class Grid:
    """Formula from levels (0, 1, 2 ...) to values.

    Attributes
    ----------
    form : int
        With ``n = level + first``, `LINE` is ``n * a + b`` and `QUOTIENT` is ``n / a``.
    a, b : float
    first : int
    top : int
        Largest level.
    table : float32 or float64 [top + 1]
        Values in ascending order, for `TABLE` alone.
    corrections : int64 [top + 1] or None
        Last places to add to the formula's value; 0 at levels that do not occur.
    patches : (int64 [N], float [N]) or None
        Levels whose values are written out, ascending, and those values.
    """

    form: int
    a: float = 1.0
    b: float = 0.0
    first: int = 0
    top: int = 0
    table: np.ndarray | None = None
    corrections: np.ndarray | None = None
    patches: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def step(self) -> float:
        """Distance of two grid points, 0 for those of a table."""
        return {LINE: self.a, QUOTIENT: 1 / self.a, TABLE: 0.0}[self.form]

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """Numbers `n` of the closest grid points, as float64."""
        if self.form == TABLE:
            return np.searchsorted(ordered(self.table), ordered(values)).astype(np.float64)
        x = values.astype(np.float64) - self.b
        with np.errstate(over="ignore"):
            return np.rint(x * self.a if self.form == QUOTIENT else x / self.a)

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Levels (int64) of the closest grid points within its range; `values` hold no NaN."""
        return np.clip(self.numbers(values) - self.first, 0, self.top).astype(np.int64)

    def restore(self, levels: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Values of `levels` (int64, 0 to `top`)."""
        if self.form == TABLE:
            return self.table[levels]
        n = (levels + self.first).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            values = n / self.a if self.form == QUOTIENT else n * self.a + self.b
            values = values.astype(dtype)
        if self.corrections is None:
            return values
        codes = ordered(values)
        values = unordered(codes + self.corrections[levels].astype(codes.dtype), np.dtype(dtype))
        places, given = self.patches
        if len(places):
            at = np.minimum(np.searchsorted(places, levels), len(places) - 1)
            values = np.where(places[at] == levels, given[at], values)
        return values

    def restore_all(self, levels: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The same of any integers, part by part."""
        out = empty(levels.shape, dtype)
        for at in parts(levels):
            out[at] = self.restore(levels[at].astype(np.int64), dtype)
        return out

    def error(self, values: np.ndarray) -> np.ndarray:
        """Restored less original values, float64."""
        out = empty(values.shape, np.float64)
        for at in parts(values):
            restored = self.restore(self.levels(values[at]), values.dtype)
            out[at] = restored.astype(np.float64) - values[at].astype(np.float64)
        return out


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def fitted(grid: Grid, values: np.ndarray) -> Grid | None:
    """`grid` with the range of levels of `values`, if that is small enough."""
    with np.errstate(all="ignore"):
        ends = [(n.min(), n.max()) for n in (grid.numbers(values[at]) for at in parts(values))]
        low, high = np.min(ends), np.max(ends)
        # written so that a NaN fails
        if not (high - low <= MAX_LEVEL and max(abs(low), abs(high)) < _FARTHEST):
            return None
    return replace(grid, first=int(low), top=int(high - low))


def _exact(grid: Grid, values: np.ndarray) -> bool:
    found = ((grid.restore(grid.levels(values[at]), values.dtype), at) for at in parts(values))
    return all(_same(restored, values[at]) for restored, at in found)


def _corrected(grid: Grid, values: np.ndarray) -> Grid | None:
    """`grid` with the corrections that make it exact, if each level needs just one."""
    if grid.top >= MOST_CORRECTED:
        return None
    levels = grid.levels(values)
    codes, wanted = ordered(grid.restore(levels, values.dtype)), ordered(values)
    signed = np.dtype(f"i{codes.dtype.itemsize}")
    off = (wanted - codes).view(signed).astype(np.int64)
    far = np.abs(off) > LARGEST_CORRECTION
    places, first = np.unique(levels[far], return_index=True)
    if len(places) > _MOST_PATCHES:
        return None
    corrections = np.zeros(grid.top + 1, np.int64)
    corrections[levels] = np.where(far, 0, off)
    grid = replace(grid, corrections=corrections, patches=(places, values[far][first]))
    return grid if _exact(grid, values) else None


def simple_grids(spacing: float) -> Iterator[Grid]:
    """Formulas through zero with a round scale."""
    inverse = float(np.rint(1 / spacing))
    if inverse >= 1 and abs(inverse * spacing - 1) < 1e-5:
        yield Grid(QUOTIENT, inverse)
    for scale in dict.fromkeys(float(f"{spacing:.{digits}g}") for digits in range(1, 17)):
        if abs(scale / spacing - 1) < 1e-3:
            yield Grid(LINE, scale)
    if spacing < float(np.finfo(np.float32).max):
        yield Grid(LINE, float(np.float32(spacing)))


def exact_grid(values: np.ndarray) -> Grid | None:
    """The grid that restores every one of `values` (float [N], finite) bit by bit, if there is one.

    Data without a grid are told by a sample, at little cost.
    """
    distinct = distinct_sample(values)
    spacing = find_spacing(distinct, values.dtype)
    if spacing and (distinct[-1] - distinct[0]) / spacing <= MAX_LEVEL:
        few = distinct.astype(values.dtype)
        for grid in simple_grids(spacing):
            trial = fitted(grid, few)
            if trial and _exact(trial, few):
                grid = fitted(grid, values)
                if grid and _exact(grid, values):
                    return grid
        every = np.unique(values).astype(np.float64)
        counts = np.rint((every - every[0]) / spacing)
        grid = fitted(Grid(LINE, *best_line(counts, every, values.dtype)), values)
        if grid and _exact(grid, values):
            return grid
        if grid and (grid := _corrected(grid, values)):
            return grid
    if len(distinct) <= _MOST_IRREGULAR // 2:
        table = unordered(np.unique(ordered(values)), values.dtype)
        if len(table) <= _MOST_IRREGULAR:
            return Grid(TABLE, top=len(table) - 1, table=table)
    return None


def encode_lattice(values: np.ndarray, mask: np.ndarray, grid: Grid, limit: int) -> bytes | None:
    """Code `values` ``[T, H, W]`` on a proved `grid` where not `mask`.

    Returns None if they cannot be coded in about `limit` bytes.
    """
    coded = encode_on(values, mask, grid, limit)
    return None if coded is None else coded[0]


def encode_on(
    values: np.ndarray, skip: np.ndarray, grid: Grid, limit: int
) -> tuple[bytes, np.ndarray] | None:
    """`encode_lattice`, and the values ``[T, H, W]`` that a decoder finds, the skipped ones included.

    Parameters
    ----------
    skip : bool or uint8 [T, H, W]
        See `encode_levels`.
    """
    levels = zeros(values.shape, np.int32)
    for frame, left, out in zip(values, skip, levels):
        known = left != FILLED
        out[known] = grid.levels(frame[known])
    fitted = _fitted_is_shorter(levels, skip, grid.top)
    coded = encode_levels(levels, skip, grid.top, limit, fitted)
    if coded is None:
        return None
    side = b""
    if grid.corrections is not None:
        side = _encode_corrections(grid, _absent(levels, skip, grid))
    return _pack(grid, side, fitted) + coded, grid.restore_all(levels, values.dtype)


def _fitted_is_shorter(levels: np.ndarray, skip: np.ndarray, top: int) -> bool:
    """Whether the first frames are shorter with a predictor by least squares."""
    frames = max(1, _SAMPLE // levels[0].size)
    without, with_it = (
        len(encode_levels(levels[:frames].copy(), skip[:frames], top, _UNLIMITED, fitted))
        for fitted in (False, True)
    )
    return with_it < without


def _absent(levels: np.ndarray, skip: np.ndarray, grid: Grid) -> np.ndarray:
    return np.bincount(levels[skip == 0], minlength=grid.top + 1) == 0


def _encode_corrections(grid: Grid, absent: np.ndarray) -> bytes:
    places, given = (a.astype(a.dtype.newbyteorder("<")).tobytes() for a in grid.patches)
    shifted = grid.corrections.reshape(1, 1, -1) + LARGEST_CORRECTION
    line = absent.reshape(1, 1, -1)
    coded = encode_levels(shifted, line, 2 * LARGEST_CORRECTION, _UNLIMITED, False)
    return varint(len(grid.patches[0])) + places + given + coded


def _decode_corrections(grid: Grid, data: bytes, absent: np.ndarray, dtype: np.dtype) -> Grid:
    reader = Reader(data)
    n = reader.varint()
    if n > _MOST_PATCHES:
        raise CorruptStreamError("a grid of levels has too many corrections")
    places = np.frombuffer(reader.take(8 * n), "<i8").astype(np.int64)
    little = np.dtype(dtype).newbyteorder("<")
    given = np.frombuffer(reader.take(n * little.itemsize), little).astype(dtype)
    line = absent.reshape(1, 1, -1)
    shifted = decode_levels(reader.rest(), line, 2 * LARGEST_CORRECTION, None, False)
    corrections = shifted.ravel().astype(np.int64) - LARGEST_CORRECTION
    return replace(grid, corrections=corrections, patches=(places, given))


def _pack(grid: Grid, side: bytes, fitted: bool) -> bytes:
    """Formula, largest level, corrections (empty if there are none)."""
    head = bytes([grid.form | fitted * _FITTED]) + varint(grid.top)
    if grid.form == TABLE:
        table = encode_lossless(grid.table)
        return head + varint(len(table)) + table
    return head + struct.pack("<ddq", grid.a, grid.b, grid.first) + varint(len(side)) + side


def _unpack(reader: Reader, dtype: np.dtype) -> tuple[Grid, bytes, bool]:
    """Grid, coded corrections, and whether levels were predicted by least squares."""
    form, top = reader.byte(), reader.varint()
    fitted, form = bool(form & _FITTED), form & ~_FITTED
    if form > TABLE or top > (_MOST_IRREGULAR - 1 if form == TABLE else MAX_LEVEL):
        raise CorruptStreamError("a grid of levels is of unknown kind or too large")
    if form == TABLE:
        table = decode_lossless(reader.take(reader.varint()), (top + 1,), dtype)
        return Grid(TABLE, top=top, table=table), b"", fitted
    a, b, first = struct.unpack("<ddq", reader.take(24))
    if not (np.isfinite(a) and np.isfinite(b) and a > 0 and abs(first) <= _FARTHEST):
        raise CorruptStreamError("a grid of levels has an impossible formula")
    side = reader.take(reader.varint())
    if side and top >= MOST_CORRECTED:
        raise CorruptStreamError("a grid of levels has too many corrections")
    return Grid(form, a, b, first, top), side, fitted


def decode_lattice(
    data: bytes, skip: np.ndarray, dtype: np.dtype, given: np.ndarray | None = None
) -> np.ndarray:
    """Inverse of `encode_on`: values ``[T, H, W]``, of no meaning where `skip`.

    Parameters
    ----------
    given : float [T, H, W], optional
        Values where `skip` is `GIVEN`.

    Raises
    ------
    CorruptStreamError
        If the data is damaged; nothing larger than a few volumes of the mask is allocated.
    """
    reader = Reader(data)
    grid, side, fitted = _unpack(reader, dtype)
    known = None if given is None else grid.levels(given)
    levels = decode_levels(reader.rest(), skip, grid.top, known, fitted)
    if side:
        grid = _decode_corrections(grid, side, _absent(levels, skip, grid), dtype)
    return grid.restore_all(levels, dtype)
