"""Mode ``pw_rel``: every value within a part of its own size, through binary logarithms.

``|x - x'| <= bound * |x|`` holds where ``log2|x|`` is off by at most ``log2(1 + bound)``. So the
logarithms are coded as a field of their own with an absolute bound, and signs apart. What has no
useful logarithm, zeros and subnormal numbers, is kept bit by bit with the missing values.
"""

from __future__ import annotations

import math

import numpy as np

from caesar_freq.codec.parts import parts
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.kernels.logarithms import exp2, log2
from caesar_freq.kernels.memory import empty

#: What rounding to the output dtype and another exp2 (that of older releases) may add, relative to a
#: value: a unit in the last place of float32; in float64 logarithms up to 1024 are the coarser part.
_ROUNDING = {4: 2.0**-23, 8: 2.0**-40}


def log_bound(bound: float, dtype: np.dtype) -> float:
    """Allowed error of ``log2|x|``; 0 or less if rounding alone would take it all."""
    return math.log2(1 + bound) - 2 * _ROUNDING[dtype.itemsize]


def without_logarithm(values: np.ndarray) -> np.ndarray:
    """Where `values` are zero or subnormal."""
    tiny, out = np.finfo(values.dtype).tiny, empty(values.shape, bool)
    for at in parts(values):
        out[at] = np.abs(values[at]) < tiny
    return out


def log_magnitudes(values: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """``log2|x|``, float64; 0 where `ignore`."""
    out = empty(values.shape, np.float64)
    for at in parts(out):
        out[at] = log2(np.abs(np.where(ignore[at], 1, values[at]), dtype=np.float64))
    return out


class Logarithms:
    """`log_magnitudes` of an array, made part by part when they are asked for: they take twice the memory
    of float32 values, or as much as those of float64.

    Parameters
    ----------
    values : float32 or float64 array
    ignore : bool array of the same shape
    """

    dtype = np.dtype(np.float64)

    def __init__(self, values: np.ndarray, ignore: np.ndarray) -> None:
        self._values, self._ignore = values, ignore
        self.shape, self.size = values.shape, values.size

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at) -> np.ndarray:
        return log_magnitudes(self._values[at], self._ignore[at])

    def min(self) -> float:
        """The smallest of them."""
        return min(self[at].min() for at in parts(self))

    def max(self) -> float:
        """The largest of them."""
        return max(self[at].max() for at in parts(self))


def from_logarithms(logs: np.ndarray, negative: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values with magnitudes ``2**logs`` (float64), never beyond the normal numbers of `dtype`."""
    limits, out = np.finfo(dtype), empty(logs.shape, dtype)
    for at in parts(logs):
        with np.errstate(over="ignore", under="ignore"):
            sizes = np.clip(exp2(logs[at]), limits.tiny, limits.max).astype(dtype)
        out[at] = np.where(negative[at], -sizes, sizes)
    return out


def encode_signs(values: np.ndarray, ignore: np.ndarray) -> bytes:
    """Where `values` ``[T, H, W]`` are negative; empty if none is, those in `ignore` left out."""
    negative = (values < 0) & ~ignore
    return encode_mask(negative) if negative.any() else b""


def decode_signs(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `encode_signs`; raises `CorruptStreamError` if `data` is too long."""
    return decode_mask(data, shape) if data else np.zeros(shape, bool)


def relative_bound_holds(before: np.ndarray, after: np.ndarray, bound: float) -> bool:
    """Whether finite `after` keeps signs, zeros and ``bound * |before|`` everywhere."""
    for at in parts(before):
        good, got = before[at].astype(np.float64), after[at].astype(np.float64)
        close = np.abs(good - got) <= bound * np.abs(good)
        if not np.all(close & (np.signbit(good) == np.signbit(got))):
            return False
    return True
