"""Small integer streams through `constriction`: roughly Laplacian values around zero.

The pmf is one of a family of integer tables, indexed by a byte; probabilities are quotients of
integers, which IEEE division rounds alike everywhere.
"""

from __future__ import annotations

from functools import lru_cache

import constriction
import numpy as np

from caesar_freq.errors import CorruptStreamError

#: Geometric decay of table i in 1/256: from almost always zero to almost flat.
_DECAYS = (1, 4, 10, 20, 32, 48, 64, 84, 104, 124, 144, 162, 178, 192, 204, 214, 222, 230, 236,
           241, 245, 248, 250, 252, 254, 255)  # fmt: skip
_LARGEST_COUNT = 1 << 24


@lru_cache(maxsize=128)
def _counts(table: int, low: int, high: int) -> np.ndarray:
    """Integer weights of ``low .. high``: geometric in the magnitude, at least 1."""
    falling = [_LARGEST_COUNT]
    for _ in range(max(-low, high)):
        falling.append(max(1, falling[-1] * _DECAYS[table] >> 8))
    return np.array([falling[abs(v)] for v in range(low, high + 1)], np.int64)


def _model(counts: np.ndarray):
    probabilities = counts.astype(np.float64) / float(counts.sum())
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def pack_words(words: np.ndarray) -> bytes:
    """A coder's 32-bit words as bytes."""
    return words.astype("<u4").tobytes()


def open_words(data: bytes):
    """An ANS decoder over bytes written by `pack_words`.

    Raises
    ------
    CorruptStreamError
        If they are not whole words.
    """
    if len(data) % 4:
        raise CorruptStreamError("an entropy-coded part has a broken length")
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    try:
        return constriction.stream.stack.AnsCoder(words)
    except ValueError as error:
        raise CorruptStreamError("an entropy-coded part is damaged") from error


def encode_ints(values: np.ndarray, low: int, high: int) -> bytes:
    """Code integers of ``low .. high`` (``low <= 0 <= high``); all zeros take one byte."""
    values = np.asarray(values, np.int64).ravel()
    if not values.any():
        return b"\xff"
    histogram = np.bincount(values - low, minlength=high - low + 1)
    bits = [
        -float(histogram @ np.log2(_counts(t, low, high) / _counts(t, low, high).sum()))
        for t in range(len(_DECAYS))
    ]
    table = int(np.argmin(bits))
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse((values - low).astype(np.int32), _model(_counts(table, low, high)))
    return bytes([table]) + pack_words(coder.get_compressed())


def decode_ints(data: bytes, n: int, low: int, high: int) -> np.ndarray:
    """Inverse of `encode_ints` for `n` values, int32.

    Raises
    ------
    CorruptStreamError
        If `data` is not such a stream.
    """
    if data == b"\xff":
        return np.zeros(n, np.int32)
    if not data or data[0] >= len(_DECAYS) or low == high:
        raise CorruptStreamError("a table of an entropy-coded part is unknown")
    coder = open_words(data[1:])
    values = coder.decode(_model(_counts(data[0], low, high)), n)
    if not coder.is_empty():
        raise CorruptStreamError("an entropy-coded part does not end where its symbols do")
    return values.astype(np.int32) + np.int32(low)
