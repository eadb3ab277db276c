"""Quantisation step of a pointwise bound: bits for coefficients against bits for corrections.

A step of two bounds leaves few values to correct, but their positions cost as much as a finer step
would. Coarse steps make the corrections a second layer, a uniform quantiser of the error at the
bound: in theory (independent Gaussian errors) it costs 0.50 bits per value over an ideal quantiser
at 2 bounds, 0.33 at 6 and 0.25 in the limit. Where most coefficients are zero, though, corrections
are the dearer bits. So some steps are really tried on a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from caesar_freq.codec.candidates import sample
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.pointwise import correct
from caesar_freq.codec.volume import LevelOverflow

#: Steps over bound to choose from (beyond the last little is won and much time lost), and the one
#: to begin with.
RATIOS = (1.6, 2.0, 2.5, 3.2, 4.2, 6.0, 8.0)
USUAL_RATIO = 3.2
#: With generated frames the step is at most this many bounds: good keyframes make good predictions,
#: which corrections come too late for (17 percent of the bytes on a moving field at 1e-2).
GENERATED_RATIO = 2.2
#: Values of the sample; a fourth of what transforms are compared on is enough for one number.
_SAMPLE_VALUES = 1 << 18


def choose_ratio(
    x: np.ndarray,
    mask: np.ndarray,
    bound: float,
    dead_zone: float,
    variable: Variable,
    model: FrequencyModel,
    refined: bool = False,
) -> float:
    """Step over bound at which `x` takes the fewest bytes, corrections included.

    Parameters
    ----------
    x : float [T, H, W]
        Normalised volume, the largest chunk of a variable.
    mask : bool [T, H, W]
        Values that need no correction.
    bound : float
        Normalised pointwise bound.
    dead_zone : float
    variable : Variable
        Its transform is used.
    refined : bool
        See `VolumeEncoder`.
    """
    part = np.ascontiguousarray(sample(x, _SAMPLE_VALUES))
    ignore = sample(mask, _SAMPLE_VALUES)
    coder = PlainCoder(part, variable, model, refined=refined)

    def cost(ratio: float) -> float:
        try:
            coded = coder.code(ratio * bound, dead_zone)
        except LevelOverflow:
            return math.inf
        return len(coded.data) + correction_bytes(
            part, coded.decoded, len(coded.data), bound, ignore
        )

    return lowest(cost, RATIOS, RATIOS.index(USUAL_RATIO))


def correction_bytes(x, decoded, other_bytes: int, bound: float, ignore=None) -> float:
    """Bytes of the corrections of a normalised volume; infinite if they cannot help.

    Parameters
    ----------
    x, decoded : float [T, H, W]
    other_bytes : int
        What the volume itself takes.
    bound : float
        Normalised.
    ignore : bool [T, H, W], optional
        Values that need no correction.
    """
    ignore = np.zeros(x.shape, bool) if ignore is None else ignore
    found = correct(x, decoded, np.inf, bound, ignore, other_bytes)
    return len(found) if found else math.inf


def lowest(cost: Callable[[float], float], candidates: tuple[float, ...], start: int) -> float:
    """Downhill from candidate `start`, then the vertex of a parabola through the last three.

    Parameters
    ----------
    cost : callable
        Positive and about convex in the logarithm of its argument.
    candidates : ascending tuple of float
    start : int
    """
    costs: dict[int, float] = {}

    def at(i: int) -> float:
        if i not in costs:
            costs[i] = cost(candidates[i]) if 0 <= i < len(candidates) else math.inf
        return costs[i]

    best = start
    while True:
        step = next((d for d in (1, -1) if at(best + d) < at(best)), 0)
        if not step:
            break
        best += step
    if not (math.isfinite(at(best - 1)) and math.isfinite(at(best + 1))):
        return candidates[best]
    a, b, c = (math.log(candidates[i]) for i in (best - 1, best, best + 1))
    p, r = (at(best - 1) - at(best)) / (b - a), (at(best + 1) - at(best)) / (c - b)
    if p + r <= 0:
        return candidates[best]
    return math.exp((p * (b + c) + r * (a + b)) / (2 * (p + r)))
