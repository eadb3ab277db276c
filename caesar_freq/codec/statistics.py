"""Offset and range of a variable, from statistics of its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.chunk import Chunk, span
from caesar_freq.codec.header import Variable


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
    def of(cls, chunk: Chunk) -> Statistics:
        """Those of `chunk`."""
        good = chunk.good
        if not good.size:
            return cls(chunk.constant, chunk.empty, 0)
        low, high = float(good.min()), float(good.max())
        # overflows only where the range is one that is kept losslessly
        with np.errstate(over="ignore"):
            total = float(np.sum(good.astype(np.float64) / 2 - low / 2))
        return cls(chunk.constant, chunk.empty, good.size, low, high, total)


def overall(found: Sequence[Statistics], count: int) -> Variable:
    """Offset (mean) and range of all chunks, as `Encoder` has them for chunks in memory."""
    if not count:
        return Variable(0.0, 0.0)
    low, high = min(s.low for s in found), max(s.high for s in found)
    spread = span(low, high)
    if not np.isfinite(spread):
        return Variable(0.0, spread)
    halves = sum(s.total + s.count * (s.low / 2 - low / 2) for s in found if s.count)
    return Variable(low + 2 * (halves / count), spread)
