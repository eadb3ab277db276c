"""Bit-exact coding of floats: reversible prediction, byte shuffle, Zstandard."""

from __future__ import annotations

import struct

import numpy as np
from numcodecs import Shuffle, Zstd

from caesar_freq.errors import CorruptStreamError

_LEVEL = 12
#: Predictors: none, difference along the last axis, along the first axis, along both.
_PREDICTORS = ((), (-1,), (0,), (0, -1))
_CONSTANT = 0xFF
_MAGIC = 0xFD2FB528


def _ordered(values: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the floats, so that close floats are close integers."""
    width = values.dtype.itemsize * 8
    bits = values.view(f"u{values.dtype.itemsize}")
    sign = bits.dtype.type(1 << (width - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _unordered(codes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    sign = codes.dtype.type(1 << (codes.dtype.itemsize * 8 - 1))
    return np.where(codes & sign, codes ^ sign, ~codes).view(dtype)


def encode_lossless(array: np.ndarray) -> bytes:
    """Code a native float32 or float64 array of any shape bit by bit."""
    codes = np.atleast_1d(_ordered(np.ascontiguousarray(array)))
    first = codes.ravel()[0]
    if np.all(codes == first):
        return bytes([_CONSTANT]) + first.astype(first.dtype.newbyteorder("<")).tobytes()
    best = b""
    for number, axes in enumerate(_PREDICTORS):
        predicted = codes
        for axis in axes:
            # unsigned differences wrap around and so lose nothing
            start = np.zeros_like(predicted.take([0], axis=axis))
            predicted = np.diff(predicted, axis=axis, prepend=start)
        little = np.ascontiguousarray(predicted, predicted.dtype.newbyteorder("<"))
        shuffled = Shuffle(little.itemsize).encode(little)
        data = bytes([number]) + bytes(Zstd(level=_LEVEL).encode(shuffled))
        if not best or len(data) < len(best):
            best = data
    return best


def _frame_size(data: bytes) -> int:
    """Content size that a Zstandard frame announces (RFC 8878, 3.1.1.1), -1 if it does not."""
    if len(data) < 6 or struct.unpack("<I", data[:4])[0] != _MAGIC:
        return -1
    descriptor = data[4]
    flag, single, dictionary = descriptor >> 6, descriptor >> 5 & 1, descriptor & 3
    at = 5 + (not single) + (0, 1, 2, 4)[dictionary]
    width = (single, 2, 4, 8)[flag]
    if not width or len(data) < at + width:
        return -1
    size = int.from_bytes(data[at : at + width], "little")
    return size + 256 if flag == 1 else size


def decode_lossless(data: bytes, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Inverse of `encode_lossless`.

    Raises
    ------
    CorruptStreamError
        If `data` is damaged or holds another number of values; nothing larger than the array is
        ever allocated.
    """
    dtype = np.dtype(dtype)
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    if len(data) == 1 + dtype.itemsize and data[0] == _CONSTANT:
        code = np.frombuffer(data, unsigned, offset=1).astype(unsigned.newbyteorder("="))
        return np.full(shape, _unordered(code, dtype)[0])
    if not data or data[0] >= len(_PREDICTORS) or _frame_size(data[1:]) != n_bytes:
        raise CorruptStreamError("a lossless part is damaged or holds another number of values")
    try:
        shuffled = Zstd().decode(data[1:])
    except RuntimeError as error:
        raise CorruptStreamError("a lossless part is damaged") from error
    raw = Shuffle(dtype.itemsize).decode(shuffled)
    codes = np.frombuffer(raw, unsigned).astype(unsigned.newbyteorder("=")).reshape(shape or (1,))
    for axis in reversed(_PREDICTORS[data[0]]):
        codes = np.cumsum(codes, axis=axis, dtype=codes.dtype)
    return np.ascontiguousarray(_unordered(codes, dtype)).reshape(shape)
