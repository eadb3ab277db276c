"""Choice of a variable's transform by coding a sample with each promising one."""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.volume import LevelOverflow, VolumeEncoder
from caesar_freq.kernels.errors import log2_bits
from caesar_freq.transform.blocks import Transform

#: Spatial transforms ``(kind, cell)`` to choose from; time blocks are chosen apart.
SPATIAL = (("lot", 16), ("dct", 16), ("lot", 8), ("dct", 8), ("lot", 32), ("dct", 32),
           ("haar", 16), ("cdf97", 16))  # fmt: skip
TIME_BLOCKS = (16, 64)
#: Values of the sample on which candidates are compared.
SAMPLE_VALUES = 1 << 20
_FINALISTS = 3


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


def estimated_bits(planes: np.ndarray, step: float) -> float:
    """Cheap guess of the code length: Gaussian coefficients without any context."""
    return log2_bits(planes, 1 / step) / 2


def _cost(
    x: np.ndarray, transform: Transform, model: FrequencyModel, step: float, dead_zone: float
):
    encoder = VolumeEncoder(x, transform, model)
    try:
        code = encoder.encode(step, dead_zone)
    except LevelOverflow:
        return np.inf
    error = encoder.coefficient_error(code, step)
    return 8 * len(code.data) + lagrangian(step) * error


def choose_transform(
    x: np.ndarray,
    step: float,
    dead_zone: float,
    model: FrequencyModel,
    spatial: tuple[tuple[str, int], ...] = SPATIAL,
) -> tuple[str, int, int]:
    """Kind, cell and time block that code `x` ``[T, H, W]`` in the fewest bits at equal error.

    All combinations are ranked by `estimated_bits`, the best few by really coding the sample.

    Parameters
    ----------
    x : float [T, H, W]
        Normalised volume, the largest chunk of a variable.
    step, dead_zone : float
        Quantiser at which they are compared.
    spatial : tuple of (kind, cell)
        The choice; a single one and a short time axis leave nothing to do.
    """
    part = np.ascontiguousarray(sample(x), np.float32)
    times = [t for t in TIME_BLOCKS if t == TIME_BLOCKS[0] or part.shape[0] > t // 2]
    candidates = [(kind, cell, t) for kind, cell in spatial for t in times]
    if len(candidates) == 1:
        return candidates[0]

    forward = kernels(model.device).forward

    def transform(candidate: tuple[str, int, int]) -> Transform:
        kind, cell, time_block = candidate
        return Transform(part.shape, time_block, cell, kind)

    ranked = sorted(candidates, key=lambda c: estimated_bits(forward(transform(c), part), step))[
        :_FINALISTS
    ]
    return min(ranked, key=lambda c: _cost(part, transform(c), model, step, dead_zone))
