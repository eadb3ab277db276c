"""Grids as coarse as a bound allows, and a guess of the bits that their levels take.

Coding levels is slow, so the guess comes first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from caesar_freq.codec.grid import LINE, MOST_CORRECTED, Grid, fitted
from caesar_freq.codec.spacing import distinct_sample, find_spacing

#: Values of the sample in which a step is fitted, rounds of that search, tries on all values.
_SAMPLE, _ROUNDS, _TRIES = 1 << 14, 10, 4
#: Steps of fewer spacings of the values are whole multiples of it: where the root mean square counts,
#: and where the largest error does.
_FEW, _MANY = 4, 1024
#: A root-mean-square error in this part of the limit is close enough.
_CLOSE = 0.996
#: Step of the plain quantiser over twice the bound: room for the rounding of its own arithmetic.
_MARGIN = 1 - 1e-6
#: Size of the blocks looked at, and how many of them along each axis ``[T, H, W]``.
_BLOCK, _BLOCKS = (3, 24, 24), (2, 6, 6)
#: Classes of how busy a place is: 0, then one for each doubling of the differences around it.
_CLASSES = 6


def rough_grid(values: np.ndarray, limit: float, rms: bool) -> tuple[Grid, float]:
    """About the coarsest grid that errs by at most `limit`, from a sample of the values.

    Its first point is the smallest value: where many values are that very one, they have no
    error, and in the root mean square the others may have the more.

    Parameters
    ----------
    values : float [N], finite, N >= 1
    limit : float
        Largest absolute error or, with `rms`, root-mean-square error.

    Returns
    -------
    grid : Grid
        Without its range of levels.
    spacing : float
        Of the values themselves where the step is a multiple of it (`_aligned`), else 0.
    """
    distinct = distinct_sample(values)
    lowest = float(distinct[0])
    spacing = find_spacing(distinct, values.dtype) or 0.0
    step = 2 * limit * _MARGIN
    if rms:
        few = values[:: max(1, values.size // _SAMPLE) | 1].astype(np.float64) - lowest
        low, high = 3 * limit, 24 * limit
        for _ in range(_ROUNDS):
            step = (low * high) ** 0.5
            off = few / step - np.rint(few / step)
            if step * np.sqrt(np.mean(off**2)) <= limit:
                low = step
            else:
                high = step
        step = low
    if step >= (_FEW if rms else _MANY) * spacing:
        return Grid(LINE, step, lowest), 0.0
    if rms:
        sizes = range(int(step / spacing) + 1, 1, -1)
        points = next((n for n in sizes if _close(few, n, spacing, limit)), 1)
    else:
        # the small excess, for limits of exactly so many half spacings, is checked on all values
        points = int(2 * limit / spacing * (2 - _MARGIN)) + 1
    return _aligned(points, spacing, lowest), spacing


def _aligned(points: int, spacing: float, lowest: float) -> Grid:
    """Grid of cells that hold so many of the values' own grid points each, in their middle.

    An even number has no point in its middle, so that no error is larger than half a spacing less
    than half a step.
    """
    return Grid(LINE, points * spacing, lowest - (points % 2 == 0) * spacing / 2)


def _close(values: np.ndarray, points: int, spacing: float, limit: float) -> bool:
    """Whether `values` less their lowest err by at most `limit` in the root mean square."""
    step, shift = points * spacing, (points % 2 == 0) * spacing / 2
    levels = np.rint((values + shift) / step)
    off = np.where(levels == 0, values, values + shift - levels * step)
    return bool(np.sqrt(np.mean(off**2)) <= limit)


def _with_lowest(grid: Grid, lowest: float, dtype: np.dtype) -> Grid:
    """`grid` with the lowest value itself at its first level, where there is room for exceptions."""
    if grid.b == lowest or grid.top >= MOST_CORRECTED:
        return grid
    none = np.zeros(grid.top + 1, np.int64)
    return replace(
        grid, corrections=none, patches=(np.zeros(1, np.int64), np.array([lowest], dtype))
    )


def close_grid(
    rough: tuple[Grid, float], values: np.ndarray, limit: float, rms: bool
) -> Grid | None:
    """The grid `rough` (of `rough_grid`), made as coarse as `limit` allows for all values.

    None if the values have too many levels.
    """
    (grid, spacing), lowest = rough, float(values.min())
    points = round(grid.a / spacing) if spacing else 0
    for n in range(points, max(points - _TRIES, 0), -1):
        aligned = fitted(_aligned(n, spacing, lowest), values)
        if aligned is None:
            break
        aligned = _with_lowest(aligned, lowest, values.dtype)
        if _size(aligned, values, rms) <= limit:
            return aligned
    step, best = 2 * limit * _MARGIN if spacing else grid.a, None
    for _ in range(_TRIES):
        grid = fitted(replace(grid, a=step, b=lowest), values)
        if grid is None:
            break
        size = _size(grid, values, rms)
        if size <= limit:
            best = max(grid, best or grid, key=lambda g: g.a)
            if not rms or size > _CLOSE * limit:
                break
        step *= _CLOSE**0.5 * limit / max(size, limit / 4) if rms else 0.999
    return best


def _size(grid: Grid, values: np.ndarray, rms: bool) -> float:
    """Root mean square or largest absolute value of the error of `values` on `grid`."""
    if rms:
        return float(np.sqrt(grid.squared_error(values) / values.size))
    return grid.largest_error(values)


def likely_bits(values: np.ndarray, mask: np.ndarray, step: float) -> float:
    """Bits per value of rounding to multiples of `step`, guessed from small blocks of the volume.

    The guess is the entropy of the better of four simple predictors' errors, given how busy the
    place is. `entropy.levels`, which mixes many contexts, took 0.5 to 1.1 of it, and 1.4 where
    rare spots carry all the bits.

    Parameters
    ----------
    values : float [T, H, W]
    mask : bool [T, H, W]
        Values that are not coded.
    step : float

    Returns
    -------
    float
        0 if the blocks hold nothing that is coded.
    """
    places = _places(values.shape)
    blocks = (np.stack([array[at] for at in places]) for array in (values, mask))
    errors, busy = _errors(*blocks, step)
    if not busy.size:
        return 0.0
    best = min(errors, key=_entropy)
    classes = np.minimum(np.ceil(np.log2(1.0 + busy)), _CLASSES - 1)
    inside = [best[classes == c] for c in range(_CLASSES)]
    return sum(_entropy(part) * part.size for part in inside) / best.size


def _places(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Blocks spread evenly over a volume."""
    along = []
    for length, size, count in zip(shape, _BLOCK, _BLOCKS):
        size = min(length, size)
        starts = np.linspace(0, length - size, min(count, max(1, length // size)))
        along.append([slice(int(start), int(start) + size) for start in starts])
    return [(t, y, x) for t in along[0] for y in along[1] for x in along[2]]


def _errors(values: np.ndarray, mask: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors int64 ``[4, n]`` of four predictors, and how much the neighbours differ ``[n]``.

    `values` and `mask` are blocks ``[N, T, H, W]``.
    """
    # axes too short for a neighbour get zeros for one
    _, frames, height, width = values.shape
    margins = ((0, 0), (int(frames < 2), 0), (int(height < 2), 0), (int(width < 3),) * 2)
    with np.errstate(all="ignore"):
        scaled = np.rint(np.where(mask, 0, values.astype(np.float64)) / step)
    # levels far out of range, if there are any, need not be told apart
    level = np.pad(np.clip(scaled, -(2**60), 2**60).astype(np.int64), margins)
    coded = ~np.pad(mask, margins, constant_values=True)
    now, before = level[:, 1:], level[:, :-1]
    here, west, north = now[..., 1:, 1:-1], now[..., 1:, :-2], now[..., :-1, 1:-1]
    northwest, northeast = now[..., :-1, :-2], now[..., :-1, 2:]
    old, old_west, old_north = before[..., 1:, 1:-1], before[..., 1:, :-2], before[..., :-1, 1:-1]
    flat = west + north - northwest
    median = np.clip(flat, np.minimum(west, north), np.maximum(west, north))
    moved = old + ((west - old_west) + (north - old_north) + 1) // 2
    known = coded[:, 1:, 1:, 1:-1]
    if 1 not in (frames, height, width):
        known = known & coded[:, 1:, 1:, :-2] & coded[:, 1:, :-1, 1:-1] & coded[:, :-1, 1:, 1:-1]
    guesses = (median, old, moved, (median + old + 1) // 2)
    errors = np.stack([(here - guess)[known] for guess in guesses])
    pairs = ((west, north), (west, old), (north, old), (north, northeast))
    return errors, sum(np.abs(a - b)[known] for a, b in pairs)


def _entropy(symbols: np.ndarray) -> float:
    """Bits per symbol, with the Miller-Madow correction for symbols not seen."""
    if not symbols.size:
        return 0.0
    low, high = symbols.min(), symbols.max()
    if high - low < 4 * symbols.size:
        counts = np.bincount(symbols - low)
        counts = counts[counts > 0]
    else:
        counts = np.unique(symbols, return_counts=True)[1]
    parts = counts / symbols.size
    plain = -float(parts @ np.log2(parts))
    return plain + (len(counts) - 1) / (2 * np.log(2) * symbols.size)
