"""Missing and infinite values: where they are and their exact bits."""

from __future__ import annotations

import zlib

import numpy as np

from caesar_freq.codec.packing import Reader, varint
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.errors import CorruptStreamError

_MAX_KINDS = 255


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32 if values.dtype == np.float32 else np.uint64)


def encode_special(values: np.ndarray, mask: np.ndarray) -> bytes:
    """Mask and exact masked bits of `values` ``[T, H, W]`` (native float32 or float64).

    The mask is coded in context or, where that is larger (masks without structure), deflated as
    the change from frame to frame; an empty deflated part tells the two apart.
    """
    changes = mask.copy()
    changes[1:] ^= mask[:-1]
    deflated = zlib.compress(np.packbits(changes).tobytes(), 9)
    coded = encode_mask(mask)
    if len(coded) < len(deflated):
        stored = varint(0) + varint(len(coded)) + coded
    else:
        stored = varint(len(deflated)) + deflated
    kinds, codes = np.unique(_bits(values)[mask], return_inverse=True)
    if len(kinds) > _MAX_KINDS:
        table, codes = b"\0", _bits(values)[mask]
    else:
        table = bytes([len(kinds)]) + kinds.astype(kinds.dtype.newbyteorder("<")).tobytes()
        codes = codes.astype(np.uint8) if len(kinds) > 1 else np.zeros(0, np.uint8)
    codes = codes.astype(codes.dtype.newbyteorder("<")).tobytes()
    return stored + table + (zlib.compress(codes, 9) if codes else b"")


def _inflate(data: bytes, size: int) -> bytes:
    """Decompress to exactly `size` bytes, never more."""
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(data, size + 1)
    except zlib.error as error:
        raise CorruptStreamError("the mask of missing values is damaged") from error
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise CorruptStreamError("the mask of missing values has a wrong length")
    return raw


def decode_mask_of(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The mask alone of what `encode_special` wrote."""
    return _read_mask(Reader(data), shape)


def _read_mask(reader: Reader, shape: tuple[int, int, int]) -> np.ndarray:
    deflated = reader.take(reader.varint())
    if not deflated:
        return decode_mask(reader.take(reader.varint()), shape)
    size = int(np.prod(shape))
    packed = np.frombuffer(_inflate(deflated, -(-size // 8)), np.uint8)
    changes = np.unpackbits(packed, count=size).reshape(shape)
    return np.bitwise_xor.accumulate(changes, axis=0).astype(bool)


def restore_special(decoded: np.ndarray, data: bytes) -> np.ndarray:
    """`decoded` with the masked values of `encode_special` put back into it bit by bit.

    Raises
    ------
    CorruptStreamError
        If `data` is damaged or for another shape or dtype.
    """
    reader = Reader(data)
    mask = _read_mask(reader, decoded.shape)
    bits = _bits(decoded)
    n, width = int(mask.sum()), bits.dtype.itemsize
    n_kinds = reader.byte()
    if n_kinds == 0:
        bits[mask] = np.frombuffer(_inflate(reader.rest(), n * width), f"<u{width}")
        return decoded
    kinds = np.frombuffer(reader.take(n_kinds * width), f"<u{width}").astype(bits.dtype)
    if n_kinds == 1:
        if reader.left:
            raise CorruptStreamError("the mask of missing values has a wrong length")
        bits[mask] = kinds[0]
        return decoded
    codes = np.frombuffer(_inflate(reader.rest(), n), np.uint8)
    if n and codes.max() >= n_kinds:
        raise CorruptStreamError("a missing value is of no known kind")
    bits[mask] = kinds[codes]
    return decoded
