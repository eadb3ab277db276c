"""Values on a grid (`grid`) as integer levels, coded and restored."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from caesar_freq.codec.grid import (
    FARTHEST,
    LARGEST_CORRECTION,
    MOST_CORRECTED,
    MOST_IRREGULAR,
    MOST_PATCHES,
    TABLE,
    Grid,
    fitted,
)
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.parts import parts
from caesar_freq.entropy.levels import FILLED, MAX_LEVEL, decode_levels, encode_levels
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import zeros

#: Added to the formula's number in the stream: one predictor of levels is by least squares.
_FITTED = 8
#: On about so many levels it is tried whether that pays; it does not for radar and noise.
_SAMPLE = 1 << 18
#: Frames, rows and columns of the box that `trial_bits` codes.
_BOX = (8, 96, 96)
_UNLIMITED = 1 << 60


def encode_lattice(values: np.ndarray, mask: np.ndarray, grid: Grid, limit: int) -> bytes | None:
    """Code `values` ``[T, H, W]`` on a proved `grid` where not `mask`.

    Returns None if they cannot be coded in about `limit` bytes.
    """
    coded = encode_on(values, mask, grid, limit)
    return None if coded is None else coded[0]


def encode_on(
    values: np.ndarray, skip: np.ndarray, grid: Grid, limit: int
) -> tuple[bytes, np.ndarray, Grid] | None:
    """`encode_lattice`, and the levels int32 ``[T, H, W]`` that a decoder finds, the skipped ones
    included, with its grid.

    Parameters
    ----------
    values : float [T, H, W]
        Anything that yields its frames.
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
        side, grid = _encode_corrections(grid, _absent(levels, skip, grid))
    return _pack(grid, side, fitted) + coded, levels, grid


def _fitted_is_shorter(levels: np.ndarray, skip: np.ndarray, top: int) -> bool:
    """Whether the first frames are shorter with a predictor by least squares."""
    frames = max(1, _SAMPLE // levels[0].size)
    without, with_it = (
        len(encode_levels(levels[:frames].copy(), skip[:frames], top, _UNLIMITED, fitted))
        for fitted in (False, True)
    )
    return with_it < without


def trial_bits(values: np.ndarray, mask: np.ndarray, grid: Grid) -> float:
    """Bits per value of levels on `grid` in a box in the middle of `values` ``[T, H, W]``.

    Somewhat too many, as a box has less to learn from than a volume; infinite where the box holds
    nothing that is coded, or too many levels.
    """
    sizes = [min(n, size) for n, size in zip(values.shape, _BOX)]
    at = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(values.shape, sizes))
    skip = np.ascontiguousarray(mask[at])
    good = values[at][~skip]
    box = (grid if grid.top else fitted(grid, good)) if good.size else None
    if box is None:
        return np.inf
    levels = np.zeros(skip.shape, np.int32)
    levels[~skip] = box.levels(good)
    return 8 * len(encode_levels(levels, skip, box.top, _UNLIMITED, True)) / good.size


def _absent(levels: np.ndarray, skip: np.ndarray, grid: Grid) -> np.ndarray:
    absent = np.ones(grid.top + 1, bool)
    for at in parts(levels):
        absent[levels[at][skip[at] == 0]] = False
    return absent


def _encode_corrections(grid: Grid, absent: np.ndarray) -> tuple[bytes, Grid]:
    """Corrections of the levels that occur, and the grid with those that a decoder finds.

    It has others at absent levels, which skipped values may have.
    """
    places, given = (a.astype(a.dtype.newbyteorder("<")).tobytes() for a in grid.patches)
    shifted = grid.corrections.reshape(1, 1, -1) + LARGEST_CORRECTION
    line = absent.reshape(1, 1, -1)
    coded = encode_levels(shifted, line, 2 * LARGEST_CORRECTION, _UNLIMITED, False)
    side = varint(len(grid.patches[0])) + places + given + coded
    return side, replace(grid, corrections=shifted.ravel() - LARGEST_CORRECTION)


def _decode_corrections(grid: Grid, data: bytes, absent: np.ndarray, dtype: np.dtype) -> Grid:
    reader = Reader(data)
    n = reader.varint()
    if n > MOST_PATCHES:
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
    if form > TABLE or top > (MOST_IRREGULAR - 1 if form == TABLE else MAX_LEVEL):
        raise CorruptStreamError("a grid of levels is of unknown kind or too large")
    if form == TABLE:
        table = decode_lossless(reader.take(reader.varint()), (top + 1,), dtype)
        return Grid(TABLE, top=top, table=table), b"", fitted
    a, b, first = struct.unpack("<ddq", reader.take(24))
    if not (np.isfinite(a) and np.isfinite(b) and a > 0 and abs(first) <= FARTHEST):
        raise CorruptStreamError("a grid of levels has an impossible formula")
    side = reader.take(reader.varint())
    if side and top >= MOST_CORRECTED:
        raise CorruptStreamError("a grid of levels has too many corrections")
    return Grid(form, a, b, first, top), side, fitted


def decode_lattice(
    data: bytes, skip: np.ndarray, dtype: np.dtype, given: np.ndarray | None = None
) -> np.ndarray:
    """Inverse of `encode_on`: values ``[T, H, W]``, of no meaning where `skip`; see `read_lattice`."""
    levels, grid = read_lattice(data, skip, dtype, given)
    return grid.restore_all(levels, dtype)


def read_lattice(
    data: bytes, skip: np.ndarray, dtype: np.dtype, given: np.ndarray | None = None
) -> tuple[np.ndarray, Grid]:
    """Levels int32 ``[T, H, W]`` that `encode_on` coded, of no meaning where `skip`, and their grid.

    Parameters
    ----------
    dtype : dtype
        Of the values that the grid restores.
    given : float [T, H, W], optional
        Values where `skip` is `GIVEN`.

    Raises
    ------
    CorruptStreamError
        If the data is damaged; nothing larger than a few volumes of the mask is allocated.
    """
    reader = Reader(data)
    grid, side, fitted = _unpack(reader, dtype)
    # damaged data may restore a NaN, which has no level
    known = None if given is None else grid.levels(np.nan_to_num(given))
    levels = decode_levels(reader.rest(), skip, grid.top, known, fitted)
    if side:
        grid = _decode_corrections(grid, side, _absent(levels, skip, grid), dtype)
    return levels, grid
