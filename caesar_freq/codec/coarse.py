"""Grids as coarse as a bound allows, and a guess of the bits that their levels take.

Coding levels is slow, so the guess comes first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from caesar_freq.codec.lattice import LINE, Grid, fitted
from caesar_freq.codec.spacing import distinct_sample, find_spacing

#: Values of the sample in which a step is fitted, rounds of that search, tries on all values.
_SAMPLE, _ROUNDS, _TRIES = 1 << 14, 10, 4
#: Steps of fewer spacings of the values are whole multiples of it.
_FEW = 4
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
        Of the values themselves, 0 if they lie on no grid. A small step is a multiple of it, an
        odd one where the largest error counts: with 2 m + 1 spacings that is m of them.
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
    if spacing and not rms:
        step = (2 * int(step / spacing / 2) + 1) * spacing
    elif step < _FEW * spacing:
        step = max(1.0, step // spacing) * spacing
    return Grid(LINE, step, lowest), spacing


def close_grid(
    rough: tuple[Grid, float], values: np.ndarray, limit: float, rms: bool
) -> Grid | None:
    """The grid `rough` (of `rough_grid`), made as coarse as `limit` allows for all values.

    None if the values have too many levels.
    """
    (grid, spacing), best = rough, None
    step, finer = grid.a, spacing if rms else 2 * spacing
    for _ in range(_TRIES):
        grid = fitted(replace(grid, a=step), values)
        if grid is None:
            break
        error = grid.error(values)
        if rms:
            size = float(np.sqrt(np.mean(np.square(error, out=error))))
        else:
            size = max(float(error.max()), -float(error.min()))
        if size <= limit:
            best = max(grid, best or grid, key=lambda g: g.a)
        aligned = spacing and (not rms or step < _FEW * spacing)
        if size <= limit and (aligned or not rms or size > _CLOSE * limit):
            break
        if not rms or aligned:
            step = step - finer if step > finer > 0 else step * 0.999
        else:
            step *= _CLOSE**0.5 * limit / max(size, limit / 4)
    return best


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
