"""Error sums in C where the kernels are built, else in numpy."""

from __future__ import annotations

from ctypes import byref, c_double, c_int64

import numpy as np

from caesar_freq.kernels import SUFFIX, library, pointer


def compare(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, scale: float = 1.0
) -> tuple[float, float]:
    """Largest ``|before - after|`` and sum of ``((before - after) / scale)**2`` off the mask.

    Parameters
    ----------
    before, after : float32 or float64 arrays of one shape and dtype
        Subtracted in float64. A difference that is no number makes the first result NaN.
    mask : bool array of the same shape
        Values to leave out.
    scale : float
    """
    before, after, mask = (np.ascontiguousarray(a) for a in (before, after, mask))
    kernels = library()
    if kernels is None:
        kept = ~mask
        difference = np.abs(before[kept].astype(np.float64) - after[kept].astype(np.float64))
        top = float(difference.max()) if difference.size else 0.0
        return top, float(np.sum((difference / scale) ** 2))
    largest, squares = c_double(), c_double()
    getattr(kernels, f"cf_compare_{SUFFIX[before.dtype]}")(
        pointer(before), pointer(after), pointer(mask), c_int64(before.size), c_double(scale),
        byref(largest), byref(squares),
    )  # fmt: skip
    return largest.value, squares.value


def size_histogram(values: np.ndarray) -> np.ndarray:
    """How many coefficients have each size: int64 ``[1 << 16]``.

    Bin ``b`` holds magnitudes whose float32 bits are ``b << 15`` and up: 256 bins an octave.

    Parameters
    ----------
    values : float32 or float64 array, C-contiguous
    """
    kernels = library()
    if kernels is None:
        bits = np.abs(values.ravel().astype(np.float32)).view(np.uint32)
        return np.bincount(bits >> 15, minlength=1 << 16)
    counts = np.zeros(1 << 16, np.int64)
    getattr(kernels, f"cf_histogram_{SUFFIX[values.dtype]}")(
        pointer(values), c_int64(values.size), pointer(counts)
    )
    return counts
