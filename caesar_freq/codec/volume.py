"""One volume ``[T, H, W]`` under one transform, step and model: to bytes and back.

Volumes are normalised, ``(value - offset) / range`` of their variable, and so is the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.ends import end_residuals, ends_from_residuals
from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.fine import add_low_bits
from caesar_freq.codec.layout import DEPENDENT, FINE, N_CLASSES, PREDICTED
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.quantise import frequency_classes
from caesar_freq.entropy.context import shells
from caesar_freq.entropy.dependent import FINER
from caesar_freq.entropy.rans import LOWER
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import empty
from caesar_freq.transform.blocks import Transform


class LevelOverflow(Exception):
    """A coefficient is too many steps large; the volume has to be stored losslessly."""


@dataclass
class VolumeCode:
    """What `encode_levels` made of a volume.

    Attributes
    ----------
    data : bytes
        Everything `decode_volume` needs besides transform, step and model.
    levels, bins : int32 and uint8 arrays
        Quantised levels and their scale bins, for `dequantised`.
    dependent : bool
        Whether `levels` are values of the dependent quantiser, and `bins` rows of its tables.
    error : int or None
        `quantise.coefficient_error` where it is known already.
    low : bytes
        Low bits of coefficients (`fine`), empty if there are none.
    """

    data: bytes
    levels: np.ndarray
    bins: np.ndarray
    dependent: bool = False
    error: int | None = None
    low: bytes = b""


def _n_shells(transform: Transform) -> int:
    return len(shells(*transform.planes_shape[1:4])[0]) - 1


def encode_levels(
    q: np.ndarray, alphas: np.ndarray, transform: Transform, model: FrequencyModel, low: bytes = b""
) -> VolumeCode:
    """Code quantised levels `q` (int32, `Transform.planes_shape`)."""
    used = kernels(model.device).ends_of(q)
    bins, *stream = kernels(model.device).encode_blocks(q, used, transform, model)
    return VolumeCode(packed(alphas, used, *stream, transform, False, low), q, bins, low=low)


def ends_of_cells(used: np.ndarray, transform: Transform) -> bytes:
    """Ends of all cells, coded."""
    limit = _n_shells(transform)
    return encode_ints(end_residuals(used), -limit, limit)


def packed(
    alphas, used, state: int, words, transform: Transform, dependent: bool, low: bytes = b""
) -> bytes:
    """Data of a volume from its ends, rANS state and words, and low bits."""
    end_of_block = ends_of_cells(used, transform)
    head = bytes([bool(alphas.any()) * PREDICTED | dependent * DEPENDENT | bool(low) * FINE])
    head += bytes(alphas.tolist()) if alphas.any() else b""
    head += varint(len(low)) + low if low else b""
    head += varint(len(end_of_block))
    stream = np.uint64(state).astype("<u8").tobytes() + words.astype("<u4").tobytes()
    return head + end_of_block + (stream if used.any() else b"")


def decode_volume(
    data: bytes, step: float, transform: Transform, model: FrequencyModel, dtype: type
) -> np.ndarray:
    """Inverse of `encode_levels` and the quantiser: the volume ``[T, H, W]`` in `dtype`.

    Raises
    ------
    CorruptStreamError
        If `data` is not a whole stream for this transform and model.
    """
    q, bins, alphas, dependent, low = _decode(data, transform, model)
    planes, q = room_for(q, dtype)
    reconstruct(q, bins, alphas, dependent, low, step, transform, model, planes)
    del q, bins
    return kernels(model.device).inverse(transform, planes)


def decode_levels(
    data: bytes, transform: Transform, model: FrequencyModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Levels, their scale bins, the prediction factors and whether levels are values of the
    dependent quantiser, of a volume without low bits; see `decode_volume`."""
    *found, low = _decode(data, transform, model)
    if low:
        raise CorruptStreamError("levels that others are predicted from have low bits")
    return found


def _decode(
    data: bytes, transform: Transform, model: FrequencyModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, bytes]:
    """What `decode_levels` returns, and the low bits (`fine`)."""
    reader = Reader(data)
    alphas, flags = np.zeros(N_CLASSES, np.int64), reader.byte()
    dependent = bool(flags & DEPENDENT)
    unknown = flags & ~(PREDICTED | DEPENDENT | FINE) or dependent and flags & FINE
    if unknown or dependent and model.grid_pmf is None:
        raise CorruptStreamError("the volume names an unknown quantiser; is the file newer?")
    if flags & PREDICTED:
        alphas[:] = list(reader.take(N_CLASSES))
    low = reader.take(reader.varint()) if flags & FINE else b""
    end_of_block = reader.take(reader.varint())
    stream = reader.rest()
    nt, *_, nh, nw = transform.planes_shape
    limit = _n_shells(transform)
    residuals = decode_ints(end_of_block, nt * nh * nw, -limit, limit)
    used = ends_from_residuals(residuals, (nt, nh, nw), limit)
    if stream and (len(stream) < 8 or len(stream) % 4):
        raise CorruptStreamError("the coefficient stream is truncated")
    state = int.from_bytes(stream[:8], "little") if stream else int(LOWER)
    words = np.frombuffer(stream[8:], "<u4").astype(np.uint32)
    q, bins, state, word = kernels(model.device).decode_blocks(
        used, state, words, transform, model, dependent
    )
    if state != int(LOWER) or word != 0:
        raise CorruptStreamError("the coefficient stream does not end where its symbols do")
    return q, bins, alphas, dependent, low


def reconstruct(
    q, bins, alphas, dependent: bool, low: bytes, step, transform, model, planes: np.ndarray
) -> None:
    """Fill `planes`, which may share the memory of `q` (`room_for`), from levels, bins and low bits."""
    dequantised(q, bins, step, alphas, model, planes.dtype, dependent, bool(low), planes)
    if low:
        add_low_bits(planes, low, step, transform)


def room_for(q: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Planes that share the memory of levels, and these: kernels read a level before they write there.

    Where planes take twice the memory of levels, those move to the end of it.
    """
    if np.dtype(dtype).itemsize == q.itemsize:
        return q.view(dtype), q
    planes = empty(q.shape, dtype)
    moved = planes.reshape(-1).view(q.dtype)[-q.size :].reshape(q.shape)
    moved[...] = q
    return planes, moved


def dequantised(
    q, bins, step, alphas, model, dtype, dependent: bool = False, middle: bool = False,
    planes: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Coefficient planes of levels and their bins, in `planes` if there are any.

    Levels stand for the `middle` of their cells or for a centroid.
    """
    planes = empty(q.shape, dtype) if planes is None else planes
    classes = frequency_classes(*q.shape[2:4])
    kernels(model.device).dequantise(
        q, bins, *quantiser(step, alphas, classes, model, dependent, middle), planes
    )
    return planes


def unit_step(step: float, dependent: bool) -> float:
    """What levels, or values of the dependent quantiser, count at a `step`."""
    return step * FINER if dependent else step


def quantiser(
    step: float, alphas, classes, model: FrequencyModel, dependent: bool, middle: bool = False
) -> tuple:
    """What kernels take of the quantiser: its own step, prediction and centroids."""
    centroid = np.tile(model.grid_centroid, (2, 1)) if dependent else model.centroid
    centroid = np.zeros_like(centroid) if middle else centroid
    return unit_step(step, dependent), alphas, classes, centroid
