"""Search of the largest quantisation step that meets an NRMSE target."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

#: Steps are ``2 ** (index / 512)``.
STEPS_PER_OCTAVE = 512
ROUNDS = 9


def aim(closest: float) -> float:
    """Part of the target to aim at where errors from the part `closest` on are accepted."""
    return 1 - (1 - closest) / 4


def step_index(step: float) -> int:
    """Index of the largest step not above `step`."""
    return math.floor(math.log2(step) * STEPS_PER_OCTAVE)


def step_of(index: int) -> float:
    """Step of an index, rounded to nearest on every machine."""
    octave, part = divmod(index, STEPS_PER_OCTAVE)
    return math.ldexp(_powers()[part], octave)


@lru_cache(maxsize=1)
def _powers() -> list[float]:
    """``2 ** (i / 512)`` from integers, by nine square roots and then products."""
    one = 1 << 200
    root = 2 * one
    for _ in range(STEPS_PER_OCTAVE.bit_length() - 1):
        root = math.isqrt(root * one)
    powers = [one]
    while len(powers) < STEPS_PER_OCTAVE:
        powers.append(powers[-1] * root // one)
    return [power / one for power in powers]


def _cube(x):
    # as a power it would be rounded by whatever mathematical library there is
    return x * x * x


class RoundingModel:
    """Error of plain rounding as a function of the step, from a histogram of coefficients.

    What it leaves out, centroids above all, changes the error by a factor that hardly depends on
    the part of the data: `ratio` corrects for it.

    Parameters
    ----------
    counts : int64 [1 << 16]
        `kernels.errors.size_histogram` of the coefficients.
    n_values : int
        Values that they stand for.
    dead_zone : float
        In steps.
    ratio : float
        Real error over that of plain rounding, measured on a sample; 0 says nothing and is taken
        for 1: the sample is in float32, which steps below its precision restore exactly.
    """

    def __init__(
        self, counts: np.ndarray, n_values: int, dead_zone: float, ratio: float = 1.0
    ) -> None:
        bins = np.flatnonzero(counts).astype(np.uint32)
        self._counts = counts[bins].astype(np.float64)
        self._low, self._high = (
            (edges << 15).view(np.float32).astype(np.float64) for edges in (bins, bins + 1)
        )
        self._n_values, self._dead_zone, self._ratio = n_values, dead_zone, ratio or 1.0
        squares = self._low * self._low + self._low * self._high + self._high * self._high
        #: squared error of the first bins, if all of them become zero
        self._zeroed = np.append(0.0, np.cumsum(self._counts * squares / 3))

    def error(self, index: int) -> float:
        """RMSE at a step index."""
        step = step_of(index)
        first = int(np.searchsorted(self._high, self._dead_zone * step, "right"))
        low, high = self._low[first:] / step, self._high[first:] / step
        means = (self._integral(high) - self._integral(low)) / (high - low)
        # correctly rounded, so that no order of summation matters
        rounded = step * step * math.fsum((self._counts[first:] * means).tolist())
        return self._ratio * math.sqrt((self._zeroed[first] + rounded) / self._n_values)

    def _integral(self, x: np.ndarray) -> np.ndarray:
        """Of the squared error of rounding, from 0 to `x` (in steps, not negative)."""
        dead = self._dead_zone
        start, end = np.rint(dead), np.rint(x)
        rounding = (end - start) / 12 + (_cube(x - end) - _cube(dead - start) + _cube(dead)) / 3
        return np.where(x < dead, _cube(x) / 3, rounding)

    def index_for(self, target: float) -> int:
        """Step index at which the error is `target`, to the index."""
        low, high = step_index(target), step_index(target * 64)
        while high - low > 1:
            middle = (low + high) // 2
            if self.error(middle) <= target:
                low = middle
            else:
                high = middle
        return low


def largest_step(
    evaluate: Callable[[int], float],
    target: float,
    start: int,
    model: RoundingModel | None = None,
    closest: float = 0.998,
    rounds: int = ROUNDS,
) -> int | None:
    """Largest step index found whose error is at most `target`; None if there is none.

    Parameters
    ----------
    evaluate : callable
        Error at a step index, by really coding and decoding.
    target : float
        Allowed error, in the units of `evaluate`.
    start : int
        First index to try; a good guess saves rounds.
    model : RoundingModel, optional
        Says how the error changes from one step to another, which saves rounds, too.
    closest : float
        Errors from this part of the target on are good enough.
    rounds : int
        After so many, errors twice as far from the target are good enough, too.
    """
    tried: dict[int, float] = {}
    index, slope = start, 1.0
    for _ in range(ROUNDS):
        tried[index] = evaluate(index)
        if closest * target <= tried[index] <= target:
            break
        good = [i for i, e in tried.items() if e <= target]
        bad = [i for i, e in tried.items() if not e <= target]
        low, high = max(good, default=None), min(bad, default=None)
        if low is not None and high is not None and high - low <= 1:
            break
        if len(tried) >= rounds and low is not None and tried[low] >= (2 * closest - 1) * target:
            break
        slope = _slope(tried, slope)
        if model is not None and len(tried) == 1 and 0.5 < tried[index] / target < 2:
            index = model.index_for(model.error(index) * aim(closest) * target / tried[index])
        else:
            index = _next_index(index, tried[index], aim(closest) * target, slope, low, high)
        if index in tried:
            break
    good = [i for i, e in tried.items() if e <= target]
    return max(good, default=None)


def _slope(tried: dict[int, float], slope: float) -> float:
    """Local exponent of error against step from the last two rounds."""
    if len(tried) < 2:
        return slope
    (i, a), (j, b) = list(tried.items())[-2:]
    if not (a > 0 and b > 0 and math.isfinite(a) and math.isfinite(b)) or a == b:
        return slope
    return min(1.5, max(0.2, math.log2(b / a) * STEPS_PER_OCTAVE / (j - i)))


def _next_index(index, error, target, slope, low, high) -> int:
    if error > 0 and math.isfinite(error):
        move = math.log2(target / error) * STEPS_PER_OCTAVE / slope
        # an error far off says little about the right step: go there in bounded leaps
        guess = index + int(min(8192, max(-8192, math.floor(move))))
    else:
        guess = index + STEPS_PER_OCTAVE * (4 if error == 0 else -4)
    if low is not None and guess <= low:
        guess = low + 1 if high is None else (low + high) // 2
    if high is not None and guess >= high:
        guess = high - 1 if low is None else (low + high) // 2
    return guess
