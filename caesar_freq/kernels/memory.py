"""Large arrays whose memory goes back to the system as soon as nobody needs them.

The C library keeps what is freed for the next array, for each thread apart and in pieces that a
later one may not fit into: arrays of a chunk's size that come and go took twice what they hold.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Callable
from functools import lru_cache

import numpy as np

#: Smaller arrays come from the C library, which is faster.
_LEAST = 1 << 20
#: Size of the pages that the system is asked for.
_HUGE = 1 << 21
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
    count = math.prod(np.atleast_1d(shape).tolist())
    size = count * np.dtype(dtype).itemsize
    if size < _LEAST:
        return np.zeros(shape, dtype)
    pages = mmap.mmap(-1, size + _HUGE, **_PRIVATE)
    # from where a huge page begins: systems place so only what is whole pages of that size
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    if hasattr(mmap, "MADV_HUGEPAGE") and size >= _HUGE:
        pages.madvise(mmap.MADV_HUGEPAGE, start, size - size % _HUGE)
    return np.frombuffer(pages, dtype, count, start).reshape(shape)


def empty(shape: tuple[int, ...] | int, dtype: type | np.dtype) -> np.ndarray:
    """Like `numpy.empty`."""
    size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
    return np.empty(shape, dtype) if size < _LEAST else zeros(shape, dtype)


def trim() -> None:
    """Give back what the C library keeps of small arrays that are free, if it can be asked to (glibc)."""
    if call := _trimming():
        call(0)


@lru_cache(maxsize=1)
def _trimming() -> Callable | None:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # there is no such thing on Windows
        return None


def give_back(array: np.ndarray) -> None:
    """Forget what a C-contiguous part of an array of `zeros` holds; its memory is the system's again."""
    base = array if array.base is None else array.base
    pages = getattr(getattr(base, "base", None), "obj", None)
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        start = array.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            pages.madvise(mmap.MADV_DONTNEED, first, end - first)
