"""The spacing of values that lie on a regular grid, from a sample of them."""

from __future__ import annotations

import numpy as np

_SAMPLE = 1 << 13
#: The smallest gap of a sample may be this multiple of the spacing.
_MULTIPLES = range(1, 9)
#: Half of all gaps must be this close to whole numbers of spacings (0.25 is chance).
_CLOSE = 0.1
#: Rounding to the output dtype may blur the smallest gap by this part.
_BLUR = 0.3
#: So many gaps may be more than three times as far off.
_STRAYS = 0.02
#: Half the range outside these limits leaves no room for arithmetic in float64.
_SPANS = (1e-280, 1e300)
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
    if not _SPANS[0] < distinct[-1] / 2 - distinct[0] / 2 < _SPANS[1]:
        return None
    gaps = np.diff(distinct)
    smallest = gaps.min()
    lags = 2 ** np.arange(int(np.log2(len(distinct) - 1)) + 1)
    longer = np.concatenate([distinct[k:] - distinct[:-k] for k in lags])
    with np.errstate(over="ignore"):
        blur = np.spacing(dtype.type(np.abs(distinct[[0, -1]]).max())).astype(np.float64)
    if np.isinf(blur):  # that of the largest float, a common mark of missing values
        return None
    for multiple in _MULTIPLES:
        spacing = smallest / multiple
        if blur > _BLUR * spacing:
            break
        found = _refined(longer, spacing, multiple)
        if found:
            return found
    return _common_divisor(gaps, blur)


def _common_divisor(gaps: np.ndarray, blur: float) -> float | None:
    """Greatest common divisor of gaps that the dtype holds exactly, as in GRIB (powers of two).

    Grids finer than the rounding of the largest value are those of the dtype itself.
    """
    unit = blur / 256
    counts = gaps / unit
    if counts.max() >= 1 << 53 or not np.array_equal(counts, np.rint(counts)):
        return None
    divisor = int(np.gcd.reduce(counts.astype(np.int64))) * unit
    return float(divisor) if divisor >= blur else None


def _refined(gaps: np.ndarray, spacing: float, shortest: int) -> float | None:
    """Least-squares spacing over longer and longer gaps; None if they do not fit.

    A rough spacing counts only the short gaps right, the first of which is `shortest` spacings;
    each fit makes twice as long ones countable.
    """
    reach = shortest + 1.5
    while True:
        # one order for the sums; most data have no spacing, and the first few gaps tell
        near = np.sort(gaps[gaps < reach * spacing])
        counts = np.rint(near / spacing)
        # not as a dot product, whose order of summation depends on the number of threads
        spacing = float(np.sum(counts * near)) / float(np.sum(counts * counts))
        off = np.abs(near / spacing - np.rint(near / spacing))
        if np.median(off) > _CLOSE or np.mean(off > 3 * _CLOSE) > _STRAYS:
            return None
        if len(near) == len(gaps):
            return spacing
        reach *= 2


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
