"""The transform of a volume in C (`kernels/dct.c`), called through ctypes."""

from __future__ import annotations

import math
from ctypes import Structure, byref, c_float, c_int64, c_void_p

import numpy as np

from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.memory import empty
from caesar_freq.transform.axis import BlockDCT, WaveletDCT, half_matrices
from caesar_freq.transform.matrices import lapped_core

_MATRICES = ("even", "odd", "even_t", "odd_t", "lap", "lap_t")
_WAVELETS = {"haar": 1, "cdf97": 2}
_NO_MEMORY = "the transform got no memory for a volume of its size"


class _Axis(Structure):
    _fields_ = [
        *((name, c_int64) for name in
          ("length", "count", "slots", "n_large", "lapped", "wavelet")),
        *((name, c_void_p * 2) for name in _MATRICES),
    ]  # fmt: skip


class NativeAxes:
    """Time, row and column axes as C structs, for one floating-point type.

    Parameters
    ----------
    axes : three BlockDCT or WaveletDCT
        Or that of time alone, for `in_time` and `bits_in_time`.
    dtype : float32 or float64
    """

    def __init__(self, axes: tuple[BlockDCT | WaveletDCT, ...], dtype: np.dtype) -> None:
        self._keep: list[np.ndarray] = []
        self._dtype = np.dtype(dtype)
        self._structs = [self._struct(axis) for axis in axes]
        kernels = library()
        suffix = SUFFIX[self._dtype]
        self._forward = getattr(kernels, f"cf_forward_{suffix}")
        self._inverse = getattr(kernels, f"cf_inverse_{suffix}")

    def _struct(self, axis: BlockDCT | WaveletDCT) -> _Axis:
        blocks = axis.half if isinstance(axis, WaveletDCT) else axis
        struct = _Axis(axis.length, blocks.count, blocks.slots, blocks.sizes.count(blocks.slots),
                       blocks.lapped, _WAVELETS.get(getattr(axis, "wavelet", ""), 0))  # fmt: skip
        for small in (0, 1):
            for name, matrix in _matrices(max(1, blocks.slots - small), blocks.lapped).items():
                matrix = np.ascontiguousarray(matrix, self._dtype)
                self._keep.append(matrix)
                getattr(struct, name)[small] = matrix.ctypes.data
        return struct

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fill planes `y` from samples `x`, both C-contiguous; they may be in the same memory."""
        self._call(self._forward, x, y)

    def inverse(self, y: np.ndarray, x: np.ndarray) -> None:
        """Fill samples `x` from planes `y`; they may be in the same memory."""
        self._call(self._inverse, y, x)

    def in_time(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fill `y` from `x` ``[T, ...]``, both float32 and C-contiguous, along the first axis alone."""
        wide = c_int64(x[0].size)
        if library().cf_in_time(byref(self._structs[0]), pointer(x), wide, pointer(y)) != 0:
            raise MemoryError(_NO_MEMORY)

    def bits_in_time(self, x: np.ndarray, scale: float, significant: int) -> int:
        """`errors.log2_bits` of the `y` of `in_time`."""
        function = library().cf_bits_in_time
        function.restype = c_int64
        wide = c_int64(x[0].size)
        bits = function(
            byref(self._structs[0]), pointer(x), wide, c_float(scale), c_float(significant << 15)
        )
        if bits < 0:
            raise MemoryError(_NO_MEMORY)
        return bits

    def _call(self, function, source: np.ndarray, target: np.ndarray) -> None:
        time, *plane = self._structs
        size = math.prod((time.count, time.slots, *(a.length for a in plane)))
        # frames of temporal coefficients are made of, or into, those of the same memory
        same = source.ctypes.data == target.ctypes.data and target.size == size
        frames = target if same else empty(size, self._dtype)
        pointers = (pointer(array) for array in (source, target, frames))
        if function(*map(byref, self._structs), *pointers) != 0:
            raise MemoryError(_NO_MEMORY)


def _matrices(size: int, lapped: bool) -> dict[str, np.ndarray]:
    """Matrices of a block of `size`: even and odd outputs from folded samples, and the lapping."""
    even, odd = half_matrices(size)
    # that of a large block takes long to make
    lap = lapped_core(size // 2) if lapped and size > 1 else np.zeros((1, 1))
    return {"even": even, "odd": odd, "even_t": even.T, "odd_t": odd.T, "lap": lap, "lap_t": lap.T}
