"""The spacing of values that lie on a regular grid, from a sample of them."""

from __future__ import annotations

import numpy as np

_SAMPLE = 1 << 13
#: The smallest gap of a sample may be this multiple of the spacing.
_MULTIPLES = range(1, 9)
#: Half of all gaps must be this close to whole numbers of spacings (0.25 is chance).
_CLOSE = 0.1
#: Rounding to the output dtype may blur the smallest gap by this part.
_BLUR = 0.2
_SEARCH_ROUNDS = 80


def distinct_sample(values: np.ndarray) -> np.ndarray:
    """Sorted distinct values of an even sample and the extremes, float64.

    Parameters
    ----------
    values : float32 or float64 [N], N >= 1
    """
    # an odd stride does not walk along a column of the grid
    stride = max(1, values.size // _SAMPLE) | 1
    ends = np.array([values.min(), values.max()], values.dtype)
    return np.unique(np.concatenate([values[::stride], ends])).astype(np.float64)


def find_spacing(distinct: np.ndarray, dtype: np.dtype) -> float | None:
    """The real number of which all gaps of `distinct` (sorted float64) are multiples, if any.

    The smallest gap or a simple fraction of it is tried on gaps of growing length, which pin it
    down more and more precisely (an approximate greatest common divisor).
    """
    if len(distinct) < 2:
        return None
    gaps = np.diff(distinct)
    smallest = gaps.min()
    blur = np.spacing(dtype.type(np.abs(distinct[[0, -1]]).max())).astype(np.float64)
    for multiple in _MULTIPLES:
        spacing = smallest / multiple
        if blur > _BLUR * spacing:
            # finer grids are those of the dtype itself
            return float(blur) if multiple == 1 and smallest >= blur else None
        found = _refined(distinct, spacing)
        if found:
            return found
    return None


def _refined(distinct: np.ndarray, spacing: float) -> float | None:
    """Least-squares spacing over gaps of 1, 2, 4 ... neighbours; None if they do not fit."""
    # the shortest gaps first: a rough spacing counts only those right
    gaps = np.diff(distinct)
    short = gaps[gaps < 8.5 * spacing]
    counts = np.rint(short / spacing)
    spacing = float(counts @ short) / float(counts @ counts)
    lag = 1
    while lag < len(distinct):
        gaps = distinct[lag:] - distinct[:-lag]
        counts = np.rint(gaps / spacing)
        off = np.abs(gaps / spacing - counts)
        if np.median(off) > _CLOSE or np.quantile(off, 0.98) > 2 * _CLOSE:
            return None
        spacing = float(counts @ gaps) / float(counts @ counts)
        lag = 2 * lag if 2 * lag < len(distinct) or lag == len(distinct) - 1 else len(distinct) - 1
    return spacing


def best_line(counts: np.ndarray, values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """Scale and offset whose ``counts * scale + offset`` round to `values` with the most room.

    For a scale, every value leaves an interval of offsets that round to it; their intersection is
    widest (it is concave in the scale) where the most rounding is forgiven.
    """
    half = np.spacing(np.abs(values).astype(dtype)).astype(np.float64) / 2

    def room(scale: float) -> tuple[float, float]:
        rest = values - counts * scale
        return float(np.max(rest - half)), float(np.min(rest + half))

    span = float(counts[-1] - counts[0])
    middle = (values[-1] - values[0]) / span
    low, high = middle - 4 * half.max() / span, middle + 4 * half.max() / span
    for _ in range(_SEARCH_ROUNDS):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        (a0, a1), (b0, b1) = room(a), room(b)
        if a1 - a0 < b1 - b0:
            low = a
        else:
            high = b
    scale = (low + high) / 2
    return scale, sum(room(scale)) / 2
