"""Values most of which lie on a grid: packed data with cells that were filled or interpolated.

The body holds a mask of the cells off the grid, levels of those on it (`lattice`), and the cells off
it: as levels of a second grid, as coarse as the bound allows, whose prediction sees all cells of the
first, or bit by bit where there is no bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from caesar_freq.codec.coarse import close_grid, rough_grid
from caesar_freq.codec.grid import (
    LARGEST_CORRECTION,
    LINE,
    MOST_CORRECTED,
    Grid,
    fitted,
    last_places,
    simple_grids,
)
from caesar_freq.codec.lattice import decode_lattice, encode_on
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.parts import parts
from caesar_freq.codec.predictors import ordered
from caesar_freq.codec.spacing import best_line, find_spacing
from caesar_freq.entropy.levels import GIVEN
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.errors import CorruptStreamError

#: Values of a sample that occur so often are taken for values of a grid, and this part of all values
#: has to lie on it.
_SAMPLE, _OFTEN, _MOST = 1 << 17, 3, 0.5
#: A formula has to restore this part of the values that come again; otherwise corrections are tried.
_NEARLY_ALL = 0.95
#: A grid is no help whose spacing is below this part of the step that a bound allows.
_FINE = 1 / 4
#: Values closer to a grid than this part of its spacing may be on it.
_NEAR = 0.05
_PAIR = 2 * LARGEST_CORRECTION + 1
_EXACT, _LEVELS = 0, 1


def common_grid(values: np.ndarray) -> Grid | None:
    """The grid on which most of `values` (float [N], finite) lie bit by bit, if there is one.

    Values of a grid come again and again, others hardly ever.
    """
    sample = values[:: max(1, values.size // _SAMPLE) | 1]
    found, counts = np.unique(sample, return_counts=True)
    often = found[counts >= _OFTEN]
    spacing = find_spacing(often.astype(np.float64), values.dtype)
    if spacing is None:
        return None
    trials = (fitted(grid, often) for grid in _candidates(often, spacing))
    best = max(filter(None, trials), key=lambda g: np.mean(on_grid(g, often)), default=None)
    best = best and fitted(best, values)
    if best and np.mean(on_grid(best, often)) < _NEARLY_ALL:
        best = _most_frequent(best, values)
    return best if best and np.mean(on_grid(best, values)) >= _MOST else None


def _candidates(often: np.ndarray, spacing: float) -> Iterator[Grid]:
    yield from simple_grids(spacing)
    values = often.astype(np.float64)
    counts = (values - values[0]) / spacing
    near = np.abs(counts - np.rint(counts)) < _NEAR
    if np.count_nonzero(near) > 1:
        yield Grid(LINE, *best_line(np.rint(counts[near]), values[near], often.dtype))


def on_grid(grid: Grid, values: np.ndarray) -> np.ndarray:
    """Which of `values` (float [N], finite) `grid` restores bit by bit."""
    on = np.zeros(values.shape, bool)
    for at in parts(values):
        restored = grid.restore(grid.levels(values[at]), values.dtype)
        on[at] = ordered(restored) == ordered(values[at])
    return on


def _most_frequent(grid: Grid, values: np.ndarray) -> Grid | None:
    """`grid` with corrections that make every level the most frequent of its values."""
    if grid.top >= MOST_CORRECTED:
        return None
    pairs = []
    for at in parts(values):
        levels, off = last_places(grid, values[at])
        close = np.abs(off) <= LARGEST_CORRECTION
        pairs.append((levels[close] * _PAIR + off[close] + LARGEST_CORRECTION).astype(np.uint32))
    found, counts = np.unique(np.concatenate(pairs), return_counts=True)
    # the most frequent is written last
    found = found[np.argsort(counts, kind="stable")].astype(np.int64)
    corrections = np.zeros(grid.top + 1, np.int64)
    corrections[found // _PAIR] = found % _PAIR - LARGEST_CORRECTION
    none = np.zeros(0, np.int64), np.zeros(0, values.dtype)
    return replace(grid, corrections=corrections, patches=none)


def encode_partial(
    values: np.ndarray, mask: np.ndarray, grid: Grid, limit: float, rms: bool, room: int
) -> tuple[bytes, float] | None:
    """Code `values` ``[T, H, W]`` where not `mask`, most of which lie on `grid`.

    Parameters
    ----------
    limit : float
        Largest absolute error or, with `rms`, root-mean-square error; 0 keeps every bit.
    room : int
        Bytes that are too many.

    Returns
    -------
    data : bytes
    squared_error : float
        Sum over all values.

    None if `grid` does not help, or the data takes more than about `room` bytes.
    """
    if limit * 2 * _FINE > grid.step:
        return None
    on = np.zeros(values.shape, bool)
    on[~mask] = on_grid(grid, values[~mask])
    off = ~(on | mask)
    good, rest = values[on], values[off]
    if not good.size or not rest.size:
        return None
    first = grid
    if limit:
        rough = rough_grid(good, limit, rms)
        if rough[0].step > 1.5 * grid.step:
            first = close_grid(rough, good, limit, rms) or grid
    if first.corrections is None:
        first = fitted(first, good)
    coded = encode_on(values, ~on, first, room)
    if coded is None:
        return None
    data = coded[0]
    outline = encode_mask(off)
    head = varint(len(outline)) + outline + varint(len(data)) + data
    error = first.squared_error(good)
    if not limit:
        return head + bytes([_EXACT]) + encode_lossless(rest), error
    if rms:  # what the others leave of the error allowed
        limit = (max(limit**2 * (good.size + rest.size) - error, 0) / rest.size) ** 0.5
    second = close_grid(rough_grid(rest, limit, rms), rest, limit, rms) if limit else None
    if second is None:
        return None
    context = coded[2].restore_all(coded[1], values.dtype)
    np.copyto(context, values, where=off)
    coded = encode_on(context, np.where(off, np.uint8(0), np.uint8(GIVEN)), second, room)
    if coded is None:
        return None
    return head + bytes([_LEVELS]) + coded[0], error + second.squared_error(rest)


def decode_partial(data: bytes, mask: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Inverse of `encode_partial`: values ``[T, H, W]``, of no meaning where `mask`.

    Raises
    ------
    CorruptStreamError
        If the data is damaged.
    """
    reader = Reader(data)
    off = decode_mask(reader.take(reader.varint()), mask.shape)
    if (off & mask).any():
        raise CorruptStreamError("missing values are off the grid")
    values = decode_lattice(reader.take(reader.varint()), off | mask, dtype)
    form = reader.byte()
    if form == _EXACT:
        values[off] = decode_lossless(reader.rest(), (int(off.sum()),), np.dtype(dtype))
        return values
    if form != _LEVELS:
        raise CorruptStreamError("values off the grid are of unknown kind")
    skip = np.where(off, np.uint8(0), np.uint8(GIVEN))
    np.copyto(values, decode_lattice(reader.rest(), skip, dtype, values), where=off)
    return values
