"""How the steps of a mean's bound are met in few passes over the data.

The error of a sample tells the first step. Where that was not quite right, a few chunks are coded
again with another weight of bits against errors (`trellis`), instead of all at another step. Around
the usual weight, bytes fall with the error as they do along steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from caesar_freq.codec.chunk import Written
from caesar_freq.codec.search import RoundingModel, step_index
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder

#: The squared error of a chunk is changed by at most this part of it, and so much of the whole is
#: coded again: beyond, another step for all is the better way.
_MOST, _PART = 0.06, 0.6
#: The sum is raised by at most this: a larger weight saves a tenth less than a larger step would.
_RAISED = 0.012
_ROUNDS = 3


def tune(
    squares: list[float],
    good: tuple[float, float],
    wanted: float,
    ratio: float,
    rewrite: Callable[[dict[int, float]], dict[int, Written]],
) -> dict[int, bytes]:
    """Bodies of the chunks that were coded again, by number.

    Parameters
    ----------
    squares : list of float
        Squared errors of all chunks; kept up to date.
    good : (float, float)
        Between these their sum may be.
    wanted : float
        What it is best to be.
    ratio : float
        Root-mean-square error over the step.
    rewrite : callable
        Codes chunks again, given factors of the weight by number.
    """
    factors: dict[int, float] = {}
    bodies: dict[int, bytes] = {}
    for _ in range(_ROUNDS):
        if good[0] <= sum(squares) <= good[1]:
            break
        new = weights(squares, wanted, ratio)
        if not new:
            break
        factors.update({n: factors.get(n, 1.0) * factor for n, factor in new.items()})
        for n, written in rewrite({n: factors[n] for n in new}).items():
            squares[n], bodies[n] = written.squared_error, written.body
    return bodies


def error_ratio(encoder: VolumeEncoder, step: float, dead_zone: float, guess: float) -> float:
    """Root-mean-square error of a volume over that of plain rounding (`search.RoundingModel`).

    `guess` if it cannot be coded at `step`.
    """
    plain = RoundingModel(encoder.histogram(), encoder.size, dead_zone).error(step_index(step))
    try:
        squares = encoder.coefficient_error(encoder.encode(step, dead_zone), step)
    except LevelOverflow:
        return guess
    return math.sqrt(squares / encoder.size) / plain if plain else guess


def sensitivity(ratio: float) -> float:
    """Local exponent of the root-mean-square error against the weight of bits.

    Parameters
    ----------
    ratio : float
        That error over the step. Measured on two simulated flows at ratios from 0.09 to 0.23: 0.19 to
        0.10, within 0.02 of this line.
    """
    return min(0.22, max(0.05, 0.25 - 0.66 * ratio))


def weights(squares: Sequence[float], wanted: float, ratio: float) -> dict[int, float]:
    """Factors of the weight for the chunks that are to be coded again, those of the largest errors.

    None if that is not the way. For the parameters see `tune`.
    """
    total, part = sum(squares), 0.0
    if not total > 0 or wanted > (1 + _RAISED) * total:
        return {}
    change, chosen = wanted / total - 1, []
    for number in sorted(range(len(squares)), key=lambda n: -squares[n]):
        if part * _MOST >= abs(change):
            break
        chosen.append(number)
        part += squares[number] / total
    if not chosen or part > _PART or part * _MOST < abs(change):
        return {}
    return dict.fromkeys(chosen, (1 + change / part) ** (0.5 / sensitivity(ratio)))
