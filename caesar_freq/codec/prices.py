"""What modes of blocks cost on a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.segments import Mode

#: Least side of any sample.
_SIDE = 32


@dataclass
class Price:
    """What a mode costs on a sample: bits, those with what the error is worth, squared error."""

    bits: float
    total: float
    error: float

    def like(self, before: Price, after: Price) -> Price:
        """What becomes of it if all changes as from `before` to `after`."""
        names = ("bits", "total", "error")
        return Price(
            *(getattr(self, n) * getattr(after, n) / (getattr(before, n) or 1) for n in names)
        )

    def saved_by(self, other: Price) -> float:
        """Part of these bits that another mode saves; the price of the error, which is no part of the
        file, counts as bits."""
        return (self.total - other.total) / self.bits


def sample_of(x: np.ndarray, frames: int, values: int) -> np.ndarray:
    """Central part of `x` ``[T, H, W]``: at most so many frames, about so many values; small frames
    are not cut."""
    frames = min(frames, len(x))
    side = max(_SIDE, math.isqrt(values // frames) // 16 * 16)
    whole = x[0].size <= 2 * side**2
    lengths = x.shape if whole else np.minimum((frames, side, side), x.shape)
    lengths = (frames, *lengths[1:])
    starts = (np.array(x.shape) - lengths) // 2
    part = tuple(slice(start, start + length) for start, length in zip(starts, lengths))
    return np.ascontiguousarray(x[part])


def frames_apart(mode: Mode) -> int:
    """Which frames of a sample are restored: every so many, keyframes and others by turns."""
    if not mode.restored:
        return 1
    return 4 if mode.spacing % 2 or not mode.spacing else 3


def squared(x: np.ndarray, decoded: np.ndarray) -> float:
    """Sum of squared errors."""
    return float(np.sum(np.square(decoded.astype(np.float64) - x)))
