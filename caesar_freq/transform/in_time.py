"""The time axis of a transform after its spatial ones: they commute, but for rounding.

Those who compare transforms do the spatial ones once, as `Transform.forward` with blocks of one frame
does, and then time in blocks of many lengths, which is much less work.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.kernels import library
from caesar_freq.kernels.errors import log2_bits
from caesar_freq.kernels.memory import empty
from caesar_freq.transform.axis import BlockDCT
from caesar_freq.transform.native import NativeAxes


def in_time(time: BlockDCT, spectra: np.ndarray) -> np.ndarray:
    """Planes ``[nt, bt, Bh, Bw, rows, columns]`` of spectra ``[T, 1, Bh, Bw, rows, columns]``, float32."""
    shape = (time.count, time.slots, *spectra.shape[2:])
    if library() is None:
        return time.forward(spectra.reshape(1, len(spectra), -1)).reshape(shape)
    planes = empty(shape, np.float32)
    NativeAxes((time,), planes.dtype).in_time(np.ascontiguousarray(spectra), planes)
    return planes


def log2_bits_in_time(time: BlockDCT, spectra: np.ndarray, scale: float, significant: int) -> int:
    """`errors.log2_bits` of these planes, which are not kept."""
    if library() is None:
        return log2_bits(in_time(time, spectra), scale, significant)
    axes = NativeAxes((time,), np.dtype(np.float32))
    return axes.bits_in_time(np.ascontiguousarray(spectra), scale, significant)
