"""Adaptive binary arithmetic coder in integers: one kernel codes and decodes.

A range coder with 32-bit registers and byte output (Martin 1979) whose carry is added to the bytes
already written. Every context keeps a probability and the number of bits seen, so that it learns
fast at first and slowly later.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.kernels.jit import njit

# Fields of a coder's state.
LOW, RANGE, CODE, AT = 0, 1, 2, 3
_TOP = np.uint64(1 << 24)
_WORD = np.uint64(0xFFFFFFFF)
_EIGHT, _PRECISION = np.uint64(8), np.uint64(15)
#: Probabilities are multiples of 2**-16; none falls below 2**-11 when it is used.
_ONE, _LEAST = 1 << 16, 16
#: After so many bits a context forgets at a constant rate.
_MEMORY = 160


def new_contexts(n: int) -> np.ndarray:
    """Contexts that know nothing: int64 [n, 2] of probability of 1 and bits seen."""
    contexts = np.zeros((n, 2), np.int64)
    contexts[:, 0] = _ONE // 2
    return contexts


def new_coder() -> np.ndarray:
    """State of an encoder; `open_coder` makes that of a decoder."""
    return np.array([0, _WORD, 0, 0], np.uint64)


def open_coder(data: np.ndarray) -> np.ndarray:
    """State of a decoder of `data` (uint8, at least 4 bytes)."""
    state = new_coder()
    state[CODE] = int.from_bytes(data[:4].tobytes(), "big")
    state[AT] = 4
    return state


@njit(nogil=True, cache=True)
def code_bit(bit, context, contexts, state, data, decoding):
    """Code `bit`, or decode it from `data`, in a context that then learns; returns the bit."""
    probability = contexts[context, 0] >> 1
    probability = min(max(probability, _LEAST), (_ONE >> 1) - _LEAST)
    ones = (state[RANGE] >> _PRECISION) * np.uint64(probability)
    bit = code_split(bit, ones, state, data, decoding)
    seen = contexts[context, 1]
    goal = _ONE if bit else 0
    contexts[context, 0] += (goal - contexts[context, 0]) // (seen + 2)
    contexts[context, 1] = min(seen + 1, _MEMORY)
    return bit


@njit(nogil=True, cache=True)
def code_split(bit, ones, state, data, decoding):
    """Code or decode a bit whose 1 takes `ones` (uint64) of the coder's range; returns the bit."""
    if decoding:
        bit = 1 if state[CODE] < ones else 0
    if bit:
        state[RANGE] = ones
    else:
        state[RANGE] -= ones
        if decoding:
            state[CODE] -= ones
        else:
            state[LOW] += ones
    if state[LOW] > _WORD:
        _carry(state, data)
    while state[RANGE] < _TOP:
        state[RANGE] <<= _EIGHT
        at = np.int64(state[AT])
        if decoding:
            # past its end a stream goes on with the zeros that the encoder cut off
            byte = np.uint64(data[at]) if at < len(data) else np.uint64(0)
            state[CODE] = ((state[CODE] << _EIGHT) | byte) & _WORD
        else:
            data[at] = np.uint8(state[LOW] >> np.uint64(24))
            state[LOW] = (state[LOW] << _EIGHT) & _WORD
        state[AT] = np.uint64(at + 1)
    return bit


@njit(nogil=True, cache=True)
def _carry(state, data):
    at = np.int64(state[AT]) - 1
    while data[at] == 255:
        data[at] = 0
        at -= 1
    data[at] += 1
    state[LOW] &= _WORD


def finish(state: np.ndarray, data: np.ndarray) -> bytes:
    """The bytes of an encoder, as few as a decoder needs.

    Parameters
    ----------
    data : uint8
        What the encoder wrote so far, with room for 4 bytes more.
    """
    low, end = int(state[LOW]), int(state[LOW]) + int(state[RANGE])
    for zeros in (32, 24, 16, 8, 0):
        value = -(-low >> zeros) << zeros
        if value < end:
            break
    state[LOW] = value
    if value > int(_WORD):
        _carry.py_func(state, data)  # once: compiled code would take longer to be loaded
    at = int(state[AT])
    data[at : at + 4] = np.frombuffer(int(state[LOW]).to_bytes(4, "big"), np.uint8)
    return data[: at + 4].tobytes().rstrip(b"\0")
