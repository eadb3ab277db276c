"""Grids on which values lie: found, proved and restored.

A grid is a formula in IEEE float64, applied element by element and then rounded to the output
dtype, so that every machine restores the same bits; where the producer rounded in other places, a
correction in units of the last place follows for each level. A grid is used only after it has
restored every value of the chunk exactly, or within the bound where one is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from caesar_freq.codec.parts import BLOCK, parts
from caesar_freq.codec.predictors import ordered, unordered
from caesar_freq.codec.spacing import best_line, distinct_sample, find_spacing
from caesar_freq.entropy.levels import MAX_LEVEL
from caesar_freq.kernels.memory import empty

#: Formulas: ``n * a + b``; ``n / a``; a table's entry.
LINE, QUOTIENT, TABLE = 0, 1, 2
#: Grids without a rule may have so many distinct values.
MOST_IRREGULAR = 4096
#: Grids with corrections may have so many levels, corrections of so many last places, and so many
#: values that are further off and written out (near zero the last place is very small).
MOST_CORRECTED, LARGEST_CORRECTION, MOST_PATCHES = 1 << 18, 4096, 1024
#: Levels further than this from zero are not counted exactly.
FARTHEST = 1 << 53


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
        """The same of int32 levels, part by part, in their memory if they fit."""
        out = levels.view(dtype) if levels.itemsize == np.dtype(dtype).itemsize else None
        out = empty(levels.shape, dtype) if out is None else out
        for at in parts(levels):
            out[at] = self.restore(levels[at].astype(np.int64), dtype)
        return out

    def error(self, values: np.ndarray) -> np.ndarray:
        """Restored less original values, float64."""
        restored = self.restore(self.levels(values), values.dtype)
        return restored.astype(np.float64) - values.astype(np.float64)

    def largest_error(self, values: np.ndarray) -> float:
        """Largest absolute `error` of `values` (float [N]), N >= 1."""
        return max(float(np.abs(self.error(values[at])).max()) for at in parts(values))

    def squared_error(self, values: np.ndarray) -> float:
        """Sum of the squared `error` of `values` (float [N])."""
        n = len(values)
        if n <= BLOCK:
            return float(np.sum(np.square(self.error(values))))
        # halves as numpy's own sum has them
        half = n // 2 - n // 2 % 8
        return self.squared_error(values[:half]) + self.squared_error(values[half:])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def fitted(grid: Grid, values: np.ndarray) -> Grid | None:
    """`grid` with the range of levels of `values`, if that is small enough."""
    with np.errstate(all="ignore"):
        ends = [(n.min(), n.max()) for n in (grid.numbers(values[at]) for at in parts(values))]
        low, high = np.min(ends), np.max(ends)
        # written so that a NaN fails
        if not (high - low <= MAX_LEVEL and max(abs(low), abs(high)) < FARTHEST):
            return None
    return replace(grid, first=int(low), top=int(high - low))


def _exact(grid: Grid, values: np.ndarray) -> bool:
    found = ((grid.restore(grid.levels(values[at]), values.dtype), at) for at in parts(values))
    return all(_same(restored, values[at]) for restored, at in found)


def _corrected(grid: Grid, values: np.ndarray) -> Grid | None:
    """`grid` with the corrections that make it exact, if each level needs just one."""
    if grid.top >= MOST_CORRECTED:
        return None
    corrections = np.zeros(grid.top + 1, np.int64)
    places, given = np.zeros(0, np.int64), np.zeros(0, values.dtype)
    for at in parts(values):
        levels, off = last_places(grid, values[at])
        far = np.abs(off) > LARGEST_CORRECTION
        corrections[levels] = np.where(far, 0, off)
        # of each level the first value
        places, first = np.unique(np.append(places, levels[far]), return_index=True)
        if len(places) > MOST_PATCHES:
            return None
        given = np.append(given, values[at][far])[first]
    grid = replace(grid, corrections=corrections, patches=(places, given))
    return grid if _exact(grid, values) else None


def last_places(grid: Grid, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels int64 of `values`, and how many last places these are above what the grid restores."""
    levels = grid.levels(values)
    codes, wanted = ordered(grid.restore(levels, values.dtype)), ordered(values)
    return levels, (wanted - codes).view(f"i{codes.dtype.itemsize}").astype(np.int64)


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
    if len(distinct) <= MOST_IRREGULAR // 2:
        table = unordered(np.unique(ordered(values)), values.dtype)
        if len(table) <= MOST_IRREGULAR:
            return Grid(TABLE, top=len(table) - 1, table=table)
    return None
