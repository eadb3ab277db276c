"""Values to normalised ones and back, in C where the kernels are built, else in numpy.

All arithmetic is float64, operation by operation, so that both give the same bits.
"""

from __future__ import annotations

from ctypes import c_double, c_int64

import numpy as np

from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.memory import empty, flags


def normalised(
    values: np.ndarray, mask: np.ndarray, offset: float, spread: float, dtype: type
) -> np.ndarray:
    """``(values - offset) / spread`` in `dtype`, 0 where `mask`.

    Parameters
    ----------
    values : float32 or float64 array
    mask : bool array of the same shape
    dtype : float32 or float64
    """
    kernels = library()
    if kernels is None:
        x = np.where(mask, np.float64(offset), values.astype(np.float64))
        return ((x - offset) / spread).astype(dtype)
    values, mask = np.ascontiguousarray(values), flags(mask)
    out = empty(values.shape, dtype)
    getattr(kernels, f"cf_normalise_{SUFFIX[values.dtype]}_{SUFFIX[out.dtype]}")(
        pointer(values), pointer(mask), c_int64(out.size), c_double(offset), c_double(spread),
        pointer(out),
    )  # fmt: skip
    return out


def restored(decoded: np.ndarray, offset: float, spread: float, dtype: np.dtype) -> np.ndarray:
    """``decoded * spread + offset`` in `dtype`, no larger than its largest number.

    `decoded` is C-contiguous and is overwritten where it has that dtype already.
    """
    kernels, limit = library(), float(np.finfo(dtype).max)
    if kernels is None:
        values = decoded.astype(np.float64) * spread + offset
        return np.clip(values, -limit, limit).astype(dtype)
    decoded, dtype = np.ascontiguousarray(decoded), np.dtype(dtype)
    out = decoded if decoded.dtype == dtype else empty(decoded.shape, dtype)
    getattr(kernels, f"cf_restore_{SUFFIX[decoded.dtype]}_{SUFFIX[dtype]}")(
        pointer(decoded), c_int64(out.size), c_double(offset), c_double(spread), c_double(limit),
        pointer(out),
    )  # fmt: skip
    return out
