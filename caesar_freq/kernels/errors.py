"""Error sums in C where the kernels are built, else in numpy; in torch for its tensors.

All three add in the same order (`ordered.total`), so decisions that hang on them are the same.
"""

from __future__ import annotations

from ctypes import byref, c_double, c_float, c_int64

import numpy as np

from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.memory import flags
from caesar_freq.kernels.ordered import (
    Array,
    as_double,
    as_integers,
    as_single,
    as_whole,
    like,
    namespace,
    total,
)


def compare(
    before: Array, after: Array, mask: Array | None = None, scale: float = 1.0
) -> tuple[float, float]:
    """Largest ``|before - after|`` and sum of ``((before - after) / scale)**2`` off the mask.

    Parameters
    ----------
    before, after : float32 or float64 arrays of one shape and dtype
        Subtracted in float64. A difference that is no number makes the first result NaN.
    mask : bool array of the same shape, optional
        Values to leave out.
    scale : float
    """
    if not _in_c(before):
        with np.errstate(invalid="ignore", over="ignore"):
            difference = abs(as_double(before) - as_double(after))
        if mask is not None:
            difference = namespace(before).where(mask, like(0.0, difference), difference)
        parts = difference / like(scale, difference)
        top = float(difference.max()) if parts.shape and 0 not in parts.shape else 0.0
        return top, total([parts * parts])
    if mask is None:
        mask = np.broadcast_to(np.False_, before.shape)
    before, after, mask = np.ascontiguousarray(before), np.ascontiguousarray(after), flags(mask)
    largest, squares = c_double(), c_double()
    getattr(library(), f"cf_compare_{SUFFIX[before.dtype]}")(
        pointer(before), pointer(after), pointer(mask), c_int64(before.size), c_double(scale),
        byref(largest), byref(squares),
    )  # fmt: skip
    return largest.value, squares.value


def size_histogram(values: Array) -> np.ndarray:
    """How many coefficients have each size: int64 ``[1 << 16]``.

    Bin ``b`` holds magnitudes whose float32 bits are ``b << 15`` and up: 256 bins an octave.

    Parameters
    ----------
    values : float32 or float64 array, C-contiguous
    """
    if not _in_c(values):
        bits = as_integers(as_single(abs(values))).reshape(-1) >> 15
        counts = namespace(values).bincount(bits, minlength=1 << 16)
        return counts if isinstance(counts, np.ndarray) else counts.cpu().numpy()
    counts = np.zeros(1 << 16, np.int64)
    getattr(library(), f"cf_histogram_{SUFFIX[values.dtype]}")(
        pointer(values), c_int64(values.size), pointer(counts)
    )
    return counts


def log2_bits(values: Array, scale: float, significant: int = 0) -> int:
    """Sum of ``log2(1 + x**2) + significant * x**2 / (1 + x**2)`` in 2**-15, ``x = values * scale``.

    In integers; each logarithm is right to about 0.01.

    The exponent and mantissa of a float32 read as one integer are its logarithm but for a bow
    (Mitchell 1962), which a parabola takes out: ``log2(1 + f) = f + 0.344 f (1 - f)``.

    Parameters
    ----------
    values : float32 array
    scale : float
        Rounded to float32.
    significant : int
        At most 2**15.
    """
    more = significant << 15
    if not _in_c(values):
        x = values * like(scale, values)
        u = 1 + x * x
        parts = (as_integers(u) - 0x3F800000) >> 8
        fraction = parts & 0x7FFF
        bow = ((fraction * (0x8000 - fraction)) >> 15) * 11 >> 5
        extra = like(more, values) * (1 - like(1, values) / u)
        return int((parts + bow).sum() + as_whole(extra).sum())
    function = library().cf_log2_bits
    function.restype = c_int64
    values = np.ascontiguousarray(values)
    return function(pointer(values), c_int64(values.size), c_float(scale), c_float(more))


def _in_c(values: Array) -> bool:
    return isinstance(values, np.ndarray) and library() is not None
