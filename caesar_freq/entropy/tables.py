"""Integer pmf tables of coefficient magnitudes, one for each scale bin.

A bin's pmf is ``P(0) = zero / 2**16`` and, for m >= 1, a mixture of two geometric laws,
``(1 - P(0)) * ((1 - mix) * g1(m) + mix * g2(m))`` with ``g(m) = (1 - r) r**(m - 1)``,
``r = 1 - fall / 2**24`` and ``mix / 2**16``. The tables are computed from these four integers in
integer arithmetic alone, so every device builds the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_BINS = 80
#: Frequencies of a table sum to ``2**PRECISION``.
PRECISION = 16
TOTAL = 1 << PRECISION
#: Magnitudes below this have a symbol each; larger ones share 8 classes an octave.
DIRECT = 16
#: Largest magnitude with a class; beyond it, and beyond a bin's cut-off, the escape symbol.
MAX_CLASSED = (1 << 16) - 1
_ONE = 1 << 30
#: A bin's alphabet ends where the remaining probability falls below this (of 2**30).
_CUT_OFF = _ONE >> 14


def class_bounds() -> np.ndarray:
    """Smallest magnitude of every class, and one past the last, int64 ``[113]``."""
    bounds = list(range(DIRECT))
    for octave in range(4, 16):
        width = 1 << (octave - 3)
        bounds += [(8 + part) * width for part in range(8)]
    return np.array([*bounds, MAX_CLASSED + 1], np.int64)


CLASS_LOW = class_bounds()[:-1]
#: Raw bits that follow a class symbol.
CLASS_BITS = np.array([0] * DIRECT + [o - 3 for o in range(4, 16) for _ in range(8)], np.int64)


@dataclass(frozen=True)
class Tables:
    """rANS tables of all bins.

    Attributes
    ----------
    cumulative : int64 [80, 114]
        Start of each symbol's slots; constant ``2**16`` past the end.
    escape : int64 [80]
        The escape symbol, last of each bin's alphabet.
    coarse : int64 [80, 257]
        Symbol of the first slot of each 256th of the table, where a decoder's search starts.
    """

    cumulative: np.ndarray
    escape: np.ndarray
    coarse: np.ndarray


def _power(base: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """``base ** exponents`` in 30-bit fixed point, ``[bins, 1]`` and ``[n]`` to ``[bins, n]``."""
    result = np.full((len(base), len(exponents)), _ONE, np.int64)
    square = base.astype(np.int64)
    for bit in range(17):
        chosen = (exponents >> bit) & 1 == 1
        result[:, chosen] = (result[:, chosen] * square) >> 30
        square = (square * square) >> 30
    return result


def tail_masses(pmf: np.ndarray) -> np.ndarray:
    """``P(m >= low)`` of every class in 30-bit fixed point, int64 ``[80, 113]``."""
    zero, mix, fall1, fall2 = (pmf[:, c].astype(np.int64)[:, None] for c in range(4))
    exponents = np.maximum(class_bounds() - 1, 0)
    laws = [_power(_ONE - (fall << 6), exponents) for fall in (fall1, fall2)]
    mixed = ((TOTAL - mix) * laws[0] + mix * laws[1]) >> PRECISION
    tails = ((TOTAL - zero) * mixed) >> PRECISION
    tails[:, 0] = _ONE
    return tails


def build_tables(pmf: np.ndarray) -> Tables:
    """Tables from a model's ``pmf`` parameters, unsigned ``[80, 4]`` (zero, mix, fall1, fall2)."""
    tails = tail_masses(pmf)
    n_classes = len(CLASS_LOW)
    cumulative = np.full((N_BINS, n_classes + 2), TOTAL, np.int64)
    escape = np.empty(N_BINS, np.int64)
    for b in range(N_BINS):
        # at least the magnitudes 0 to 3, so that a surprise does not cost an escape
        last = max(4, int(np.searchsorted(-tails[b, :n_classes], -_CUT_OFF)))
        last = min(last, n_classes)
        masses = np.append(tails[b, :last] - tails[b, 1 : last + 1], tails[b, last])
        counts = 1 + ((masses * (TOTAL - len(masses))) >> 30)
        counts[np.argmax(counts)] += TOTAL - counts.sum()
        cumulative[b, 0] = 0
        cumulative[b, 1 : last + 2] = np.cumsum(counts)
        escape[b] = last
    slots = np.arange(257) << (PRECISION - 8)
    coarse = np.stack([np.searchsorted(row, slots, side="right") - 1 for row in cumulative])
    return Tables(cumulative, escape, np.maximum(coarse, 0).astype(np.int64))
