"""Large arrays whose memory goes back to the system as soon as nobody needs them.

The C library keeps what is freed for the next array, for each thread apart and in pieces that a
later one may not fit into: arrays of a chunk's size that come and go took twice what they hold.
"""

from __future__ import annotations

import math
import mmap

import numpy as np

#: Smaller arrays come from the C library, which is faster.
_LEAST = 1 << 20
_PRIVATE = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
)


def flags(mask: np.ndarray) -> np.ndarray:
    """A bool mask in C order; of one value repeated that is False, memory that is never written to."""
    if any(mask.strides) or not mask.size or mask.flat[0]:
        return np.ascontiguousarray(mask)
    return zeros(mask.shape, bool)


def copied(array: np.ndarray, dtype: type | np.dtype | None = None) -> np.ndarray:
    """A copy in C order."""
    out = empty(array.shape, dtype or array.dtype)
    out[...] = array
    return out


def zeros(shape: tuple[int, ...] | int, dtype: type | np.dtype) -> np.ndarray:
    """Like `numpy.zeros`; pages that are never written to take no memory."""
    size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
    if size < _LEAST:
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def empty(shape: tuple[int, ...] | int, dtype: type | np.dtype) -> np.ndarray:
    """Like `numpy.empty`."""
    size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
    return np.empty(shape, dtype) if size < _LEAST else zeros(shape, dtype)


def give_back(array: np.ndarray) -> None:
    """Forget what a C-contiguous part of an array of `zeros` holds; its memory is the system's again."""
    base = array if array.base is None else array.base
    pages = getattr(getattr(base, "base", None), "obj", None)
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        start = array.ctypes.data - base.ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            pages.madvise(mmap.MADV_DONTNEED, first, end - first)
