"""Mean and range of a variable, gathered chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.header import Variable
from caesar_freq.codec.parts import parts


def span(low: float, high: float) -> float:
    """``high - low``, infinite without a warning where float64 cannot hold it."""
    with np.errstate(over="ignore"):
        return float(np.float64(high) - np.float64(low))


@dataclass(frozen=True)
class Statistics:
    """Of the valid values of one chunk; `total` is the sum of ``(x - low) / 2``."""

    constant: bool
    empty: bool
    count: int
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0

    @classmethod
    def of(cls, chunk) -> Statistics:
        """Those of a `chunk.Chunk`."""
        good = chunk.good
        if not good.size:
            return cls(chunk.constant, chunk.empty, 0)
        low, high = float(good.min()), float(good.max())
        # relative to the smallest value, so that huge values cannot overflow; where the range
        # itself does, the data is kept losslessly
        with np.errstate(over="ignore"):
            total = sum(
                float(np.sum(good[at].astype(np.float64) / 2 - low / 2)) for at in parts(good)
            )
        return cls(chunk.constant, chunk.empty, good.size, low, high, total)


def variable_of(found: Sequence[Statistics]) -> Variable:
    """Offset (mean) and range of all chunks together."""
    count = sum(s.count for s in found)
    if not count:
        return Variable(0.0, 0.0)
    low, high = min(s.low for s in found), max(s.high for s in found)
    spread = span(low, high)
    if not np.isfinite(spread):
        return Variable(0.0, spread)
    halves = sum(s.total + s.count * (s.low / 2 - low / 2) for s in found if s.count)
    return Variable(low + 2 * (halves / count), spread)
