"""Context coding of sparse integer volumes: corrections of single values.

For every value a flag says whether it is not zero. Its context is how many values around it were
not zero: close by, and in a running average over all that came before, which follows the local
density at any scale. Signs and sizes are coded in the context of those of the neighbours. All of
it is integers out of the stream itself, so every device forms the same contexts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from ctypes import c_int, c_int64, c_void_p
from typing import Protocol

import numpy as np

from caesar_freq.entropy.binary import AT, RANGE, code_split, finish, new_coder, open_coder
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels import library
from caesar_freq.kernels.jit import njit
from caesar_freq.kernels.memory import zeros

#: Fixed point of probabilities and densities.
_BITS = 22
#: Contexts learn at a rate of 1 / (bits seen + 1.5), but forget after 2**10 bits or so.
_SLOWEST = 10
_DENSITIES, _NEAR = 24, 6
#: Density in half octaves, by density >> 10.
_STEPS = [step for e in range(12) for step in (1 << e, -(-(181 << e) // 128))]
_LEVELS = np.digitize(np.arange((1 << _BITS - 10) + 1), _STEPS[:-1]).astype(np.int64)
_SIGNS = _DENSITIES * _NEAR
_SIZES = _SIGNS + 27
_UNARY, _LARGEST = 12, 31
_N_CONTEXTS = _SIZES + 4 * _UNARY + _LARGEST
_ONE, _SIXTEEN = np.uint64(1), np.uint64(16)
# The least probable bit costs 16 bits.
_BYTES_PER_BIT = 2


class Planes(Protocol):
    """A volume ``[T, H, W]``, plane by plane."""

    shape: tuple[int, int, int]

    def __iter__(self) -> Iterator[np.ndarray]: ...


@njit(nogil=True, cache=True)
def _code(bit, context, contexts, state, data, decoding):
    """`binary.code_bit` with finer probabilities that settle to more exact ones."""
    probability = contexts[context, 0]
    part = np.uint64(min(max(probability >> (_BITS - 16), 1), 65535))
    bit = code_split(bit, (state[RANGE] >> _SIXTEEN) * part, state, data, decoding)
    seen = contexts[context, 1]
    goal = np.int64(1) << _BITS if bit else np.int64(0)
    if seen < 30:
        contexts[context, 0] += (goal - probability) * 2 // (2 * seen + 3)
    else:
        rate = 5 + (seen >= 96) + (seen >= 192) + (seen >= 384) + (seen >= 768)
        contexts[context, 0] += (goal - probability) >> rate
    contexts[context, 1] = min(seen + 1, 768)
    return bit


@njit(nogil=True, cache=True)
def _flag_context(frame, before, density, y, x):
    level = _LEVELS[density >> 10]
    near = 2 * (frame[y, x - 1] != 0) + 2 * (frame[y - 1, x] != 0) + 2 * (before[y, x] != 0)
    near += (frame[y - 1, x - 1] != 0) + (frame[y - 1, x + 1] != 0)
    near += (before[y, x - 1] != 0) + (before[y, x + 1] != 0)
    near += (before[y - 1, x] != 0) + (before[y + 1, x] != 0)
    return level * _NEAR + min(near, _NEAR - 1)


@njit(nogil=True, cache=True)
def _sign(value):
    return 1 + (value > 0) - (value < 0)


@njit(nogil=True, cache=True)
def _code_value(value, frame, before, y, x, contexts, state, data, decoding):
    """Sign and size of a value that is not zero; returns it, 0 if its size is impossible."""
    left, above, behind = frame[y, x - 1], frame[y - 1, x], before[y, x]
    context = _SIGNS + 9 * _sign(left) + 3 * _sign(above) + _sign(behind)
    negative = _code(1 if value < 0 else 0, context, contexts, state, data, decoding)
    largest = max(abs(left), abs(above), abs(behind))
    context = _SIZES + _UNARY * min(largest, 3)
    size, goal = np.int64(1), abs(np.int64(value))
    while size <= _UNARY:
        more = 1 if goal > size else 0
        if not _code(more, context + size - 1, contexts, state, data, decoding):
            return -size if negative else size
        size += 1
    # Elias gamma of what is left; the length in contexts, the bits raw
    rest, length = goal - _UNARY, 0
    while _code(1 if rest >> (length + 1) else 0, _SIZES + 4 * _UNARY + length,
                contexts, state, data, decoding):  # fmt: skip
        length += 1
        if length == _LARGEST:
            return np.int64(0)
    found = np.int64(1)
    for i in range(length - 1, -1, -1):
        bit = code_split((rest >> i) & 1, state[RANGE] >> _ONE, state, data, decoding)
        found = 2 * found + bit
    size = _UNARY + found
    if size >= 1 << 31:
        return np.int64(0)
    return -size if negative else size


@njit(nogil=True, cache=True)
def _code_frame(frame, before, density, contexts, state, data, decoding):
    """Code or fill in `frame`; all three are int64 with a border of 1. False if it is damaged."""
    height, width = frame.shape
    for y in range(1, height - 1):
        density[y, 0] = density[y, 1]
        for x in range(1, width - 1):
            expected = (density[y, x - 1] + density[y - 1, x] + 2 * density[y, x]) >> 2
            context = _flag_context(frame, before, expected, y, x)
            value = frame[y, x]
            flag = _code(1 if value != 0 else 0, context, contexts, state, data, decoding)
            density[y, x] = expected + (((flag << _BITS) - expected) >> 4)
            if flag:
                value = _code_value(value, frame, before, y, x, contexts, state, data, decoding)
                if value == 0:
                    return False
                frame[y, x] = value
    return True


def _frame_coder():
    """`_code_frame`, in C where the kernels are built."""
    kernels = library()
    if kernels is None:
        return _code_frame

    def code_frame(frame, before, density, contexts, state, data, decoding) -> bool:
        pointers = [c_void_p(a.ctypes.data) for a in
                    (frame, before, density, contexts, _LEVELS, state, data)]  # fmt: skip
        sizes = [c_int64(n) for n in (len(data), *frame.shape)]
        return bool(kernels.cf_sparse_frame(*pointers, *sizes, c_int(decoding)))

    return code_frame


class _Frames:
    """Frames ``[H, W]`` one after another, each in the context of the one before."""

    def __init__(self, height: int, width: int, state: np.ndarray, data: np.ndarray) -> None:
        self._contexts = np.zeros((_N_CONTEXTS, 2), np.int64)
        self._contexts[:, 0] = 1 << (_BITS - 1)
        self._padded = (height + 2, width + 2)
        self._before = np.zeros(self._padded, np.int64)
        self._density = np.full(self._padded, 1 << (_BITS - 6), np.int64)
        self._state, self._data, self._code = state, data, _frame_coder()

    def next(self, plane: np.ndarray | None = None) -> np.ndarray | None:
        """Code a `plane`, or decode one; int64, or None if it is damaged."""
        frame, decoding = np.zeros(self._padded, np.int64), plane is None
        if not decoding:
            frame[1:-1, 1:-1] = plane
        arguments = (self._before, self._density, self._contexts, self._state, self._data)
        if not self._code(frame, *arguments, decoding):
            return None
        self._before = frame
        return frame[1:-1, 1:-1]


def encode_sparse(volume: Planes) -> bytes:
    """Code int32 planes ``[H, W]``, each of sizes below 2**31; their shape is not in the bytes.

    Parameters
    ----------
    volume : array ``[T, H, W]``, or what has such a shape and can be gone through twice
    """
    bits = math.prod(volume.shape)
    for plane in volume:
        sizes = np.abs(plane[plane != 0].astype(np.int64))
        most = np.minimum(sizes, _UNARY) + 2 * np.log2(np.maximum(sizes - _UNARY, 1)) + 3
        bits += int(np.ceil(most.sum()))
    state = new_coder()
    data = zeros(_BYTES_PER_BIT * bits + 8, np.uint8)
    frames = _Frames(*volume.shape[1:], state, data)
    for plane in volume:
        frames.next(plane)
    return finish(state, data)


def decode_sparse(data: bytes, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Planes int64 ``[H, W]`` that `encode_sparse` coded, one after another.

    Raises
    ------
    CorruptStreamError
        If `data` holds an impossible size or, with the last plane, if it goes on after it.
    """
    padded = np.frombuffer(data.ljust(4, b"\0"), np.uint8).copy()
    state = open_coder(padded)
    frames = _Frames(*shape[1:], state, padded)
    for left in reversed(range(shape[0])):
        plane = frames.next()
        if plane is None:
            raise CorruptStreamError("a correction is out of range")
        if not left and int(state[AT]) < len(data):
            raise CorruptStreamError("the corrections do not end where they should")
        yield plane
