"""Bit-exact coding of floats: reversible prediction, byte shuffle, Zstandard."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np
from numcodecs import Shuffle, Zstd

from caesar_freq.codec.parts import parts
from caesar_freq.codec.predictors import (
    AS_THEY_ARE,
    PREDICTORS,
    each,
    ordered,
    predict,
    restore,
    unordered,
)
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import empty, give_back

#: Compression level of the data, and of the trials that choose a predictor.
_LEVEL, _TRIAL_LEVEL = 16, 3
#: Those that take at most so many times the least bytes are tried at the level of the data, too: it
#: finds the repeats of noise and of fill values, which the other misses.
_ALIKE = 1.06
#: Repeats are found the more the longer the data is: so much may a sample be mistaken about them.
_UNSURE = 1.2
#: The trials look at the middle rows of the middle frames, about so many values in all.
_TRIAL_FRAMES, _TRIAL_VALUES = 8, 1 << 19
_CONSTANT = 0xFF
#: The byte before float64 values that are float32 in truth, coded as those.
_SHORT = 0xFE
#: Added to a predictor's byte where another follows that says how many low bits are set apart: those
#: that rounding or a shorter dtype left equal. Differences of the bits above are small numbers.
_SET_APART = 0x40
#: Values that are shuffled at a time.
_SHUFFLED = 1 << 18
#: It is tried with so many low bits as are equal in all but these parts of the values, if they are
#: not fewer than 6: by chance one value in 32 has those.
_UNLIKE, _FEWEST_EQUAL = (1 / 16, 1 / 2, 3 / 4), 6
_MAGIC = 0xFD2FB528


def _slices(size: int) -> list[slice]:
    """Of a flat array, in parts large enough for `numcodecs.Shuffle` to be fast."""
    return [slice(start, start + _SHUFFLED) for start in range(0, size, _SHUFFLED)]


def _shuffled(codes: np.ndarray) -> np.ndarray:
    """The bytes of `codes` by their significance, the lowest of all first; `codes` are given back."""
    flat, shuffle = codes.reshape(-1), Shuffle(codes.itemsize)
    planes = empty((codes.itemsize, flat.size), np.uint8)
    for at in _slices(flat.size):
        part = flat[at].astype(flat.dtype.newbyteorder("<"), copy=False)
        planes[:, at] = shuffle.encode(part).reshape(codes.itemsize, -1)
        give_back(flat[at])
    return planes.reshape(-1)


def _unshuffled(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Inverse of `_shuffled`, in native byte order; `data` are given back."""
    planes, shuffle = data.reshape(dtype.itemsize, -1), Shuffle(dtype.itemsize)
    codes = empty(planes.shape[1], dtype)
    for at in _slices(codes.size):
        raw = shuffle.decode(np.ascontiguousarray(planes[:, at]))
        codes[at] = raw.view(dtype.newbyteorder("<"))
        for plane in planes:
            give_back(plane[at])
    return codes


def _arranged(codes: np.ndarray, number: int, low: int) -> np.ndarray:
    """Bytes to be compressed of `codes`, which are lost, with predictor `number` and `low` bits set
    apart."""
    predict(codes, number, low)
    if number == AS_THEY_ARE:
        return codes.astype(codes.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
    return _shuffled(codes)


def _trial(sample: np.ndarray, number: int, low: int, level: int = _TRIAL_LEVEL) -> int:
    """Bytes of a `sample` of codes, compressed so."""
    return len(Zstd(level).encode(_arranged(sample.copy(), number, low)))


def _equal_low_bits(codes: np.ndarray) -> set[int]:
    """How many low bits it is worth setting apart: most codes have them all 0 or all 1.

    "Bit grooming" (Zender, Geosci. Model Dev. 2016) clears and sets those of every other value.
    """
    one = codes.dtype.type(1)
    other = codes ^ -(codes & one)
    counts = np.frexp((other & -other).astype(np.float64))[1] - 1
    counts = np.sort(counts[counts < codes.dtype.itemsize * 8 - 1])  # all but zeros
    found = {int(counts[int(part * len(counts))]) for part in _UNLIKE} if len(counts) else set()
    return {low for low in found if low >= _FEWEST_EQUAL}


def _trials(sample: np.ndarray) -> list[tuple[int, int, int]]:
    """Bytes of a `sample` of codes, predictor and low bits set apart, the best of each number of
    these; the least first, but for the bytes `AS_THEY_ARE`, which are last."""
    numbers = [n for n, (axes, _) in enumerate(PREDICTORS) if sample.ndim > 1 or -2 not in axes]
    found = [
        min((_trial(sample, n, low), n, low) for n in numbers if n != AS_THEY_ARE)
        for low in (0, *_equal_low_bits(sample))
    ]
    # all but the sign as it is: noise about zero has more in common as floats than in their order
    sign_apart = 8 * sample.itemsize - 1
    found.append((_trial(sample, 0, sign_apart), 0, sign_apart))
    return [*sorted(found), (_trial(sample, AS_THEY_ARE, 0), AS_THEY_ARE, 0)]


def _ways(sample: np.ndarray) -> list[tuple[int, int]]:
    """Predictor and low bits set apart that make a `sample` of codes smallest; where a sample does
    not tell whether its bytes should stay as they are, both ways."""
    *trials, (plain, *as_they_are) = _trials(sample)
    ways = [way for size, *way in trials if size <= _ALIKE * trials[0][0]]
    if len(ways) > 1:
        ways.sort(key=lambda way: _trial(sample, *way, _LEVEL))
    found = []
    if trials[0][0] <= _UNSURE * plain:
        found.append(tuple(ways[0]))
    if plain <= _UNSURE * trials[0][0]:
        found.append(tuple(as_they_are))
    return found


def _sample(array: np.ndarray) -> np.ndarray:
    if array.ndim == 1:
        return array[:_TRIAL_VALUES]
    frames = array[_middle(len(array), _TRIAL_FRAMES)] if array.ndim > 2 else array
    rows = _TRIAL_VALUES * frames.shape[-2] // frames.size
    return frames[..., _middle(frames.shape[-2], max(1, rows)), :]


def _middle(size: int, count: int) -> slice:
    """At most `count` of an axis from its middle: what begins there is not yet what it will be."""
    start = max(0, size - count) // 2
    return slice(start, start + count)


def likely_bytes(array: np.ndarray) -> float:
    """About what `encode_lossless` makes of an array ``[T, H, W]``, told by a few of its frames."""
    step = -(-len(array) // _TRIAL_FRAMES)
    sample = ordered(_sample(array[step // 2 :: step]))
    return min(_trials(sample))[0] * array.size / sample.size


def _as_float32(array: np.ndarray) -> np.ndarray | None:
    """float64 values in float32, if each of them, NaN included, returns from there bit by bit."""
    if array.dtype != np.float64:
        return None
    short = empty(array.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in parts(array):
            short[at] = array[at]
            if short[at].astype(np.float64).tobytes() != array[at].tobytes():
                return None
    return short


def encode_lossless(array: np.ndarray) -> bytes:
    """Code a native float32 or float64 array of any shape bit by bit.

    The predictor and the low bits set apart are those that make a sample of the array smallest.
    """
    array = np.atleast_1d(array)
    short = _as_float32(array)
    if short is not None:
        return bytes([_SHORT]) + encode_lossless(short)
    bits = array.view(f"u{array.itemsize}")
    if all(np.all(bits[at] == bits.flat[0]) for at in parts(bits)):
        code = ordered(array.flat[:1])
        return bytes([_CONSTANT]) + code.astype(code.dtype.newbyteorder("<")).tobytes()
    return min((_coded(array, *way) for way in _ways(ordered(_sample(array)))), key=len)


def _coded(array: np.ndarray, number: int, low: int) -> bytes:
    """`array` with predictor `number` and `low` bits set apart."""
    codes = each(ordered, array, empty(array.shape, f"u{array.itemsize}"))
    data = _arranged(codes, number, low)
    del codes
    head = bytes([number | _SET_APART, low]) if low else bytes([number])
    return head + Zstd(_LEVEL).encode(data)


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
    if data[:1] == bytes([_SHORT]) and dtype == np.float64:
        with np.errstate(invalid="ignore"):  # a NaN of any bits
            return decode_lossless(data[1:], shape, np.float32).astype(dtype)
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    if len(data) == 1 + dtype.itemsize and data[0] == _CONSTANT:
        code = np.frombuffer(data, unsigned, offset=1).astype(unsigned.newbyteorder("="))
        return np.full(shape, unordered(code, dtype)[0])
    number, low, frame = _head(data, dtype)
    if number >= len(PREDICTORS) or _frame_size(frame) != n_bytes:
        raise CorruptStreamError("a lossless part is damaged or holds another number of values")
    found = empty(n_bytes, np.uint8)
    try:
        # a second frame behind the first would not fit: refused before it takes any memory
        Zstd().decode(frame, out=found)
    except (RuntimeError, ValueError) as error:
        raise CorruptStreamError("a lossless part is damaged") from error
    if number == AS_THEY_ARE:
        codes = found.view(unsigned).astype(unsigned.newbyteorder("="), copy=False)
    else:
        codes = _unshuffled(found, np.dtype(f"u{dtype.itemsize}"))
    del found
    codes = codes.reshape(shape or (1,))
    if codes.ndim == 1 and -2 in PREDICTORS[number][0]:
        raise CorruptStreamError("a lossless part is damaged: it has no such axis")
    restore(codes, number, low)
    return each(partial(unordered, dtype=dtype), codes, codes.view(dtype)).reshape(shape)


def _head(data: bytes, dtype: np.dtype) -> tuple[int, int, memoryview]:
    """Predictor, low bits set apart, and the frame behind them."""
    rest = memoryview(data)
    if len(rest) < 2:
        raise CorruptStreamError("a lossless part is cut short")
    if not rest[0] & _SET_APART:
        return rest[0], 0, rest[1:]
    if not 0 < rest[1] < 8 * dtype.itemsize:
        raise CorruptStreamError("a lossless part is damaged: floats have fewer bits")
    return rest[0] ^ _SET_APART, rest[1], rest[2:]
