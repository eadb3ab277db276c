"""Bodies of chunks back to values; `chunk` has their layout."""

from __future__ import annotations

import struct

import numpy as np

from caesar_freq.codec.chunks import Box
from caesar_freq.codec.coders import decode_in_modes, decode_plain
from caesar_freq.codec.generated import decode_segments
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.lattice import decode_lattice, read_lattice
from caesar_freq.codec.layout import (
    CONSTANT,
    FLAGS,
    LATTICE,
    LOSSLESS,
    MODES,
    PARTIAL,
    PARTS,
    SEGMENTS,
    VOLUME,
    ZFP,
)
from caesar_freq.codec.linked import Decoded
from caesar_freq.codec.lossless import decode_lossless
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader
from caesar_freq.codec.partial import decode_partial
from caesar_freq.codec.parts import parts as slices
from caesar_freq.codec.pointwise import (
    decode_corrections,
    restored_parts,
    rounded,
    rounding_room,
    working_bound,
)
from caesar_freq.codec.relative import decode_signs, from_logarithms
from caesar_freq.codec.special import decode_mask_of, restore_special
from caesar_freq.codec.targets import pointwise_bound
from caesar_freq.codec.zfp import decode_zfp
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import empty
from caesar_freq.kernels.values import restored


def split_body(body: bytes) -> tuple[int, dict[str, bytes], bytes]:
    """Kind of a chunk, its parts by name and the rest of its body."""
    reader = Reader(body)
    kind = reader.byte()
    if kind == LOSSLESS:
        return kind, {}, memoryview(body)[1:]  # not a copy of what may be large
    parts = {name: reader.take(reader.varint()) for flag, name in PARTS if kind & flag}
    return kind & ~FLAGS, parts, reader.rest()


def _from_levels_of_logarithms(data: bytes, mask, signs: np.ndarray, dtype: np.dtype) -> np.ndarray:
    levels, grid = read_lattice(data, mask, np.dtype(np.float64))
    # in their memory if they fit
    values = levels.view(dtype) if levels.itemsize == dtype.itemsize else empty(levels.shape, dtype)
    for at in slices(levels):
        logs = grid.restore(levels[at].astype(np.int64), np.dtype(np.float64))
        values[at] = from_logarithms(logs, signs[at], dtype)
    return values


def read_chunk(
    body: bytes,
    box: Box,
    header: Header,
    variable: Variable | None,
    model: FrequencyModel | None,
    predictors: dict,
    linked: Decoded | None = None,
) -> np.ndarray:
    """Decode a chunk's body to values ``[T, H, W]`` in the stream's dtype.

    Parameters
    ----------
    variable : Variable or None
        What the chunk was coded with (`Header.variable_of`).
    linked : linked.Decoded, optional
        Levels of a chunk that refers to another or is referred to.

    Raises
    ------
    CorruptStreamError
        If the body is not a whole chunk of this stream.
    ModelError
        If it needs a predictor that is not given.
    """
    kind, parts, data = split_body(body)
    if kind == LOSSLESS:
        return decode_lossless(data, box.shape, header.dtype)
    special, corrections = parts.get("mask", b""), parts.get("outliers")
    if kind == CONSTANT:
        if len(data) != 8:
            raise CorruptStreamError("a constant chunk has no value")
        values = np.broadcast_to(struct.unpack("<d", data)[0], box.shape)
    elif linked or (
        kind in (VOLUME, SEGMENTS, MODES) and variable is not None and model is not None
    ):
        arguments = (box.shape, variable, variable.step, model)
        dtype = np.float64 if header.double else np.float32
        if linked:
            decoded = linked.volume(variable.step, dtype)
        elif kind == VOLUME:
            decoded = decode_plain(data, *arguments, dtype)
        elif kind == MODES:
            decoded = decode_in_modes(data, *arguments, dtype)
        else:
            decoded = decode_segments(data, *arguments, dtype, predictors)
        if corrections is None and header.mode != "pw_rel":
            values = restored(decoded, variable.offset, variable.range, header.dtype)
            return restore_special(values, special) if special else values
        found = None
        if corrections is not None:
            bound = pointwise_bound(header, variable)
            working = working_bound(bound, variable.range, header.double, kind == SEGMENTS)
            coded_dtype = np.dtype(np.float64) if header.mode == "pw_rel" else header.dtype
            room = rounding_room(variable.offset, variable.range, coded_dtype)
            found = decode_corrections(corrections, box.shape, working, room)
        signs = None
        if header.mode == "pw_rel":
            signs = decode_signs(parts.get("signs", b""), box.shape)
        if decoded.itemsize < header.dtype.itemsize:
            values = empty(box.shape, header.dtype)
        else:  # in the same memory: values are never ahead of those that they are made from
            values = decoded.reshape(-1).view(header.dtype)[: decoded.size].reshape(box.shape)
        for at, part in restored_parts(decoded, variable.offset, variable.range, found):
            if signs is not None:
                part = from_logarithms(part, signs[at], header.dtype)
            values[at] = rounded(part, header.dtype)
        return restore_special(values, special) if special else values
    elif kind == LATTICE:
        mask = decode_mask_of(special, box.shape) if special else np.zeros(box.shape, bool)
        if "signs" in parts:
            signs = decode_signs(parts["signs"], box.shape)
            values = _from_levels_of_logarithms(data, mask, signs, header.dtype)
        else:
            values = decode_lattice(data, mask, header.dtype)
    elif kind == PARTIAL:
        mask = decode_mask_of(special, box.shape) if special else np.zeros(box.shape, bool)
        values = decode_partial(data, mask, header.dtype)
    elif kind == ZFP and not parts:
        return decode_zfp(data, box.shape, header.dtype)
    else:
        raise CorruptStreamError(f"a chunk is of unknown kind {kind}")
    values = rounded(values, header.dtype, None if kind == CONSTANT else values)
    return restore_special(values, special) if special else values
