"""Positions and sizes of pointwise corrections."""

from __future__ import annotations

import constriction
import numpy as np

from caesar_freq.codec.entropy_side import open_words, pack_words
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError

#: Set in the length of the table of sizes: signs are coded apart, one bit each. Streams without it
#: fold them into the sizes, which costs half a bit more where nearly all sizes are 1.
_SIGNS_APART = 0x80
_CHUNK = 16  # raw bits that one Uniform call can take comfortably
_SIGN = constriction.stream.model.Uniform(2)


def _classes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elias-gamma split of values >= 1: bit length - 1, and the bits below the leading one."""
    lengths = np.frexp(values.astype(np.float64))[1] - 1
    return lengths.astype(np.int64), values - (np.int64(1) << lengths)


def _table(histogram: np.ndarray):
    """Model from transmitted byte counts; at least one symbol always remains possible."""
    return constriction.stream.model.Categorical(
        histogram.astype(np.float64) / float(histogram.sum()), perfect=False
    )


def _byte_counts(symbols: np.ndarray) -> np.ndarray:
    """Histogram scaled to 1..255 where it is not 0; a single kind leaves room for a second."""
    counts = np.bincount(symbols, minlength=2)
    scaled = np.where(counts > 0, np.maximum(1, np.rint(counts * (255 / counts.max()))), 0)
    if (scaled > 0).sum() == 1:
        scaled[np.flatnonzero(scaled == 0)[0]] = 1
    return scaled.astype(np.int64)


def _encode_gamma(coder, values: np.ndarray) -> bytes:
    """Push values >= 1 (classes on top of their raw bits); returns the table to transmit."""
    lengths, raw = _classes(values)
    for bits in range(int(lengths.max()), 0, -1):
        part = raw[lengths == bits]
        for shift in range(0, bits, _CHUNK):
            width = min(_CHUNK, bits - shift)
            symbols = (part >> shift & ((1 << width) - 1)).astype(np.int32)
            coder.encode_reverse(symbols, constriction.stream.model.Uniform(1 << width))
    counts = _byte_counts(lengths)
    coder.encode_reverse(lengths.astype(np.int32), _table(counts))
    return bytes([len(counts), *counts.tolist()])


def _decode_gamma(coder, table: bytes, n: int) -> np.ndarray:
    counts = np.frombuffer(table, np.uint8)
    if len(counts) > 48 or (counts > 0).sum() < 2:
        raise CorruptStreamError("a table of the corrections is damaged")
    lengths = coder.decode(_table(counts), n).astype(np.int64)
    values = np.int64(1) << lengths
    for bits in range(1, int(lengths.max()) + 1):
        chosen = np.flatnonzero(lengths == bits)
        if len(chosen) == 0:
            continue
        for shift in reversed(range(0, bits, _CHUNK)):
            uniform = constriction.stream.model.Uniform(1 << min(_CHUNK, bits - shift))
            values[chosen] |= coder.decode(uniform, len(chosen)).astype(np.int64) << shift
    return values


def encode_outliers(positions: np.ndarray, multiples: np.ndarray, n_values: int) -> bytes:
    """Code corrections; none at all takes one byte.

    Parameters
    ----------
    positions : int64 [n]
        Strictly increasing flat indices below `n_values`.
    multiples : int32 [n]
        Signed, none of them 0.
    """
    n = len(positions)
    if n == 0:
        return varint(0)
    gaps = np.diff(positions, prepend=-1)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse((multiples < 0).astype(np.int32), _SIGN)
    sizes = _encode_gamma(coder, np.abs(multiples.astype(np.int64)))
    places = _encode_gamma(coder, gaps)
    tables = places + bytes([sizes[0] | _SIGNS_APART]) + sizes[1:]
    return varint(n) + tables + pack_words(coder.get_compressed())


def decode_outliers(data: bytes, n_values: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `encode_outliers`: positions int64 and multiples int32.

    Raises
    ------
    CorruptStreamError
        If `data` is not such a stream for `n_values` values.
    """
    reader = Reader(data)
    n = reader.varint()
    if n > n_values:
        raise CorruptStreamError("there are more corrections than values")
    if n == 0:
        if reader.left:
            raise CorruptStreamError("the corrections hold more than their fields")
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    places = reader.take(reader.byte())
    length = reader.byte()
    sizes = reader.take(length & ~_SIGNS_APART)
    coder = open_words(reader.rest())
    gaps = _decode_gamma(coder, places, n)
    multiples = _decode_gamma(coder, sizes, n)
    if length & _SIGNS_APART:
        multiples = np.where(coder.decode(_SIGN, n), -multiples, multiples)
    else:  # 1, 2, 3, 4 ... stand for 1, -1, 2, -2 ...
        multiples = np.where(multiples & 1, (multiples + 1) >> 1, -(multiples >> 1))
    # the sum in float64 as well: gaps of a damaged stream can wrap around in int64
    if not coder.is_empty() or gaps.sum(dtype=np.float64) > n_values:
        raise CorruptStreamError("the corrections do not end where they should")
    if multiples.max() >= 1 << 31 or multiples.min() < -(1 << 31):
        raise CorruptStreamError("a correction is out of range")
    return np.cumsum(gaps) - 1, multiples.astype(np.int32)
