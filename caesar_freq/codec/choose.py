"""Choice of a variable's transform by coding a sample with each promising one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.effort import EFFORTS, USUAL, Effort
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import RoundingModel, step_index
from caesar_freq.codec.volume import LevelOverflow, VolumeEncoder
from caesar_freq.kernels.errors import log2_bits
from caesar_freq.kernels.memory import copied
from caesar_freq.transform.blocks import Transform

#: Spatial transforms ``(kind, cell)`` to choose from; time blocks are chosen apart.
SPATIAL = (("lot", 16), ("dct", 16), ("lot", 8), ("dct", 8), ("lot", 32), ("dct", 32),
           ("haar", 16), ("cdf97", 16))  # fmt: skip
#: Short ones are for what moves too fast: storms, cells under a microscope; long ones for climate.
TIME_BLOCKS = (1, 4, 16, 64, 128)
#: Values of a sample.
SAMPLE_VALUES = 1 << 20
#: Values on which all spatial transforms are really coded to find those worth a look at the sample.
_LOOK_VALUES = 1 << 16
#: Time blocks are compared with these spatial transforms; those whose guessed bits are within this
#: factor of the best one's stay in the running.
_SCOUTS, _NEAR = (("lot", 16), ("dct", 8)), 1.04


def lagrangian(step: float) -> float:
    """Bits that one unit of squared error is worth at `step`.

    Along the rate-distortion curve of a fine uniform quantiser, error ``step**2 / 12`` and one
    bit for each halving of the step, ``-dR/dD = 6 / (step**2 ln 2)``.
    """
    return 6 / (np.log(2) * step * step)


def sample(x: np.ndarray, n_values: int = SAMPLE_VALUES) -> np.ndarray:
    """Central part of `x` ``[T, H, W]`` of about `n_values` values, time kept longest."""
    frames, height, width = x.shape
    if x.size <= n_values:
        return x
    # whole long blocks: a few frames more would be cut into shorter ones
    longest = TIME_BLOCKS[-1]
    enough = max(longest, n_values // (height * width))
    frames = min(frames, enough - enough % longest)
    side = max(64, int(np.sqrt(n_values / frames)))
    if height <= side:
        side = max(side, n_values // (frames * height))
    sizes = (frames, min(height, side), min(width, side))
    starts = [(n - m) // 2 for n, m in zip(x.shape, sizes)]
    return x[tuple(slice(a, a + m) for a, m in zip(starts, sizes))]


@dataclass(frozen=True)
class Choice:
    """A variable's transform, and how the sample that decided on it fared.

    Attributes
    ----------
    kind, cell, time_block
        See `Transform`.
    ratio : float
        Root-mean-square error over that of plain rounding (`search.RoundingModel`).
    """

    kind: str
    cell: int
    time_block: int
    ratio: float = 1.0


def estimated_bits(planes: np.ndarray, step: float) -> float:
    """Cheap guess of the code length: Gaussian coefficients without any context."""
    return log2_bits(planes, 1 / step) / 2


def _coded(
    x: np.ndarray, transform: Transform, model: FrequencyModel, step: float, dead_zone: float,
    refined: bool,
) -> tuple[float, float]:  # fmt: skip
    """Bits and weighted error of `x`, and its error over that of plain rounding."""
    encoder = VolumeEncoder(x, transform, model, refined)
    try:
        code = encoder.encode(step, dead_zone)
    except LevelOverflow:
        return np.inf, 1.0
    error = encoder.coefficient_error(code, step)
    plain = RoundingModel(encoder.histogram(), x.size, dead_zone).error(step_index(step))
    ratio = float(np.sqrt(error / x.size)) / plain if plain else 1.0
    return 8 * len(code.data) + lagrangian(step) * error, ratio


def choose_transform(
    x: np.ndarray,
    step: float,
    dead_zone: float,
    model: FrequencyModel,
    spatial: tuple[tuple[str, int], ...] = SPATIAL,
    effort: Effort = EFFORTS[USUAL],
    refined: bool = False,
) -> Choice:
    """The transform that codes `x` ``[T, H, W]`` in the fewest bits at equal error.

    All combinations are ranked by `estimated_bits`, the best few by really coding the sample: the
    first of each time block, then others of the best one's, those that code a small part best.

    Parameters
    ----------
    x : float [T, H, W]
        Normalised volume, the largest chunk of a variable.
    step, dead_zone : float
        Quantiser at which they are compared.
    spatial : tuple of (kind, cell)
        The choice.
    effort : Effort
        How large a sample, and how many combinations are really coded.
    refined : bool
        See `VolumeEncoder`.
    """
    part = copied(sample(x, effort.sample), np.float32)
    forward = kernels(model.device).forward

    def transform(kind: str, cell: int, time_block: int) -> Transform:
        return Transform(part.shape, time_block, cell, kind)

    @cache
    def guess(*candidate) -> float:
        return estimated_bits(forward(transform(*candidate), part), step)

    @cache
    def coded(*candidate) -> tuple[float, float]:
        return _coded(part, transform(*candidate), model, step, dead_zone, refined)

    scouts = [s for s in _SCOUTS if s in spatial] or spatial[:1]
    times = [t for t in TIME_BLOCKS if _possible(t, part.shape[0])]
    if len(times) > 1:
        likely = {t: min(guess(*scout, t) for scout in scouts) for t in times}
        times = [t for t in times if likely[t] <= _NEAR * min(likely.values())]
    ranked = [sorted(((*s, t) for s in spatial), key=lambda c: guess(*c)) for t in times]
    ranked = sorted(ranked, key=lambda same: guess(*same[0]))[: effort.finalists]
    same_time = min(ranked, key=lambda same: coded(*same[0])[0])
    if 1 < effort.finalists < len(same_time):
        # the guess knows nothing of contexts, which favours large cells; a small part is soon coded
        part_of_it = np.ascontiguousarray(sample(part, _LOOK_VALUES))
        costs = {
            (kind, cell, t): _coded(
                part_of_it,
                Transform(part_of_it.shape, t, cell, kind),
                model,
                step,
                dead_zone,
                False,
            )[0]
            for kind, cell, t in same_time
        }
        same_time = list(dict.fromkeys([same_time[0], *sorted(costs, key=costs.get)]))
    best = min(same_time[: effort.finalists], key=lambda c: coded(*c)[0])
    return Choice(*best, coded(*best)[1])


def _possible(time_block: int, frames: int) -> bool:
    """Whether blocks of that length differ from those of 16 frames and are not mostly empty."""
    if time_block == 16:
        return True
    return frames > time_block if time_block < 16 else frames >= time_block // 2
