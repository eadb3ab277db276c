"""What a sweep tries: ``name=a,b,c`` lists values, ``name=low..high[:log|:int]`` is a range."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.errors import ConfigError


@dataclass(frozen=True)
class Axis:
    """One setting of a sweep.

    Attributes
    ----------
    name : str
        Flag of the phase, without dashes.
    values : tuple of str
        The values of a list; the two ends of a range.
    scale : {"list", "linear", "log", "int"}
    """

    name: str
    values: tuple[str, ...]
    scale: str

    def draw(self, rng: np.random.Generator) -> str:
        """A value at random, evenly on the axis's scale."""
        if self.scale == "list":
            return self.values[rng.integers(len(self.values))]
        low, high = map(float, self.values)
        if self.scale == "int":
            return str(int(rng.integers(int(low), int(high) + 1)))
        if self.scale == "log":
            return f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}"
        return f"{rng.uniform(low, high):.4g}"


def parse_axis(text: str) -> Axis:
    """Axis of one ``--set``.

    Raises
    ------
    ConfigError
        Naming the text and the forms that are possible.
    """
    name, equals, rest = text.partition("=")
    name = name.strip().lstrip("-")
    if not equals or not name or not rest.strip():
        raise ConfigError(
            f"--set {text} has no name or no values; give name=a,b,c or name=low..high"
        )
    if ".." not in rest:
        values = tuple(value.strip() for value in rest.split(","))
        if not all(values):
            raise ConfigError(f"--set {text} has an empty value; give name=a,b,c")
        if len(set(values)) < len(values):
            raise ConfigError(f"--set {text} names a value twice; give every value once")
        return Axis(name, values, "list")
    ends, _, scale = rest.partition(":")
    low, _, high = ends.partition("..")
    scale = scale or "linear"
    if scale not in ("linear", "log", "int"):
        raise ConfigError(f"--set {text}: {scale} is no scale; give low..high, :log or :int")
    try:
        first, last = float(low), float(high)
    except ValueError as error:
        raise ConfigError(
            f"--set {text}: the ends of a range are numbers, as in 1e-4..1e-2"
        ) from error
    if not first < last or not math.isfinite(first) or not math.isfinite(last):
        raise ConfigError(f"--set {text}: the range is empty; the first end must be the smaller")
    if scale == "log" and first <= 0:
        raise ConfigError(f"--set {text}: a log range begins above 0; give a larger first end")
    if scale == "int" and (first % 1 or last % 1):
        raise ConfigError(f"--set {text}: an int range has whole ends, as in 16..64:int")
    return Axis(name, (low, high), scale)


def combinations(axes: Sequence[Axis], trials: int | None, seed: int) -> list[dict[str, str]]:
    """Settings of every trial: the grid of all lists, or `trials` draws without repetition.

    Draw number i depends on `seed` and i alone: more trials later keep the earlier ones.

    Raises
    ------
    ConfigError
        If a setting is given twice, or a range without a number of trials.
    """
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--set {name} is given twice; put all its values into one")
    if trials is None:
        for axis in axes:
            if axis.scale != "list":
                raise ConfigError(
                    f"--set {axis.name} is a range, which has no grid; say how many random draws "
                    "with --trials, or list its values"
                )
        grid = itertools.product(*(axis.values for axis in axes))
        return [dict(zip(names, values, strict=True)) for values in grid]
    if trials < 1:
        raise ConfigError(f"--trials is {trials}; give at least 1")
    found: list[dict[str, str]] = []
    # a small grid may have fewer combinations than trials
    for number in range(50 * trials):
        rng = np.random.default_rng([seed, number])
        drawn = {axis.name: axis.draw(rng) for axis in axes}
        if drawn not in found:
            found.append(drawn)
        if len(found) == trials:
            break
    return found
