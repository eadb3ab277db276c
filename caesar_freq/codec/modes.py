"""Temporal modes in the stream: quantised cosine coefficients of each, as precise as it matters.

Layout: number of modes (varint), a byte for each (exponent of its step), the length of the next
part (varint), the bit lengths of the integers as differences along each mode, then signs and the
bits below the leading one, packed.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.ordered import product
from caesar_freq.transform.matrices import dct_matrix
from caesar_freq.transform.modes import MAX_FRAMES, MAX_MODES, orthonormal

#: Finest step of a mode, 2**-30: its entries are at most 1.
_MAX_EXPONENT = 30
_MAX_BITS = _MAX_EXPONENT + 1


def encode_modes(modes: np.ndarray, energies: np.ndarray, noise: float) -> bytes:
    """Code `modes` so that their rounding costs a mean squared error of about `noise`.

    Parameters
    ----------
    modes : float64 [T, k]
        Orthonormal columns.
    energies : float64 [k]
        Mean square of the values that each carries; strong modes are stored more precisely.
    noise : float
        In the units of `energies`.
    """
    frames, count = modes.shape
    coefficients = product(dct_matrix(frames), modes).T
    # rounding by a step d turns a mode by an angle of d * sqrt(T / 12), and as much leaks out
    steps = np.sqrt(12 * noise / (count * np.maximum(energies, 1e-300) * frames))
    # but a mode whose entries all vanish would have no direction
    steps = np.minimum(steps, np.abs(coefficients).max(1) / 2)
    exponents = np.clip(1 - np.frexp(steps)[1], 0, _MAX_EXPONENT).astype(np.int64)
    values = np.rint(coefficients * 2.0 ** exponents[:, None]).astype(np.int64)
    lengths = np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)
    coded = encode_ints(np.diff(lengths, axis=1, prepend=0), -_MAX_BITS, _MAX_BITS)
    head = varint(count) + bytes(exponents.tolist()) + varint(len(coded))
    return head + coded + _pack(values.ravel(), lengths.ravel())


def decode_modes(data: bytes, frames: int) -> np.ndarray:
    """Inverse of `encode_modes`: orthonormal columns float64 ``[T, k]``, as the encoder uses them.

    Raises
    ------
    CorruptStreamError
        If `data` does not hold modes of so many frames.
    """
    reader = Reader(data)
    count = reader.varint()
    if not 1 <= count <= min(frames, MAX_MODES) or frames > MAX_FRAMES:
        raise CorruptStreamError("the temporal modes are damaged: there are too many or none")
    exponents = np.frombuffer(reader.take(count), np.uint8).astype(np.float64)
    coded = reader.take(reader.varint())
    steps = decode_ints(coded, count * frames, -_MAX_BITS, _MAX_BITS).reshape(count, frames)
    lengths = np.cumsum(steps, axis=1)
    if exponents.max() > _MAX_EXPONENT or lengths.min() < 0 or lengths.max() > _MAX_BITS:
        raise CorruptStreamError("the temporal modes are damaged: a number is out of range")
    values = _unpack(reader.rest(), lengths.ravel()).reshape(count, frames)
    return orthonormal(product(dct_matrix(frames).T, (values / 2.0 ** exponents[:, None]).T))


def _pack(values: np.ndarray, lengths: np.ndarray) -> bytes:
    """A sign bit and the bits below the leading one of every value that is not 0."""
    bits = []
    for value, length in zip(values.tolist(), lengths.tolist()):
        if length:
            below = abs(value) - (1 << (length - 1))
            bits.append(f"{value < 0:d}" + (f"{below:0{length - 1}b}" if length > 1 else ""))
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()


def _unpack(data: bytes, lengths: np.ndarray) -> np.ndarray:
    """Inverse of `_pack`, int64."""
    total = int(lengths.sum())
    if len(data) != -(-total // 8):
        raise CorruptStreamError("the temporal modes do not end where their numbers do")
    text = "".join(map(str, np.unpackbits(np.frombuffer(data, np.uint8), count=total).tolist()))
    values, at = np.zeros(len(lengths), np.int64), 0
    for i, length in enumerate(lengths.tolist()):
        if length:
            size = int("1" + text[at + 1 : at + length], 2)
            values[i] = -size if text[at] == "1" else size
            at += length
    return values
