"""rANS with a 64-bit state, 32-bit words and 16-bit frequencies (Duda 2013, arXiv:1311.2540).

The coder is fused with the context model, which needs one symbol at a time and at the speed of
the network around it; a general library's call for each frequency plane costs several times the
coding itself on small grids (`docs/codec.md`).
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.dependent import grid_of, next_phase, value_of
from caesar_freq.entropy.tables import CLASS_BITS, CLASS_LOW, DIRECT, N_BINS, PRECISION, Tables
from caesar_freq.kernels.jit import njit

LOWER = np.uint64(1 << 31)
_MASK = np.uint64((1 << PRECISION) - 1)
_BITS = np.uint64(PRECISION)
#: Operations that one coefficient can need at most.
MAX_OPERATIONS = 5
_WORD = np.uint64(32)
_LOW_WORD = np.uint64(0xFFFFFFFF)


@njit(nogil=True, cache=True)
def write(starts, counts, n, words):
    """Code operations ``(start, count)`` backwards; returns the final state and the word count.

    `words` receives 32-bit words in the order in which they were written; a decoder reads them
    from the last to the first.
    """
    state = LOWER
    used = 0
    for a in range(n - 1, -1, -1):
        count = np.uint64(counts[a]) + np.uint64(1)
        if state >= (count << np.uint64(47)):
            words[used] = np.uint32(state & _LOW_WORD)
            used += 1
            state >>= _WORD
        state = ((state // count) << _BITS) + state % count + np.uint64(starts[a])
    return state, used


@njit(nogil=True, cache=True)
def push_magnitude(value, b, cumulative, escape, starts, counts, n):
    """Append the operations that code `value` under bin `b`; returns the new count.

    `counts` holds frequencies minus one, so that 2**16 fits 16 bits.
    """
    m = abs(value)
    negative = 1 if value < 0 else 0
    symbol = class_of(m)
    if symbol >= escape[b]:
        symbol = escape[b]
    start = cumulative[b, symbol]
    starts[n] = start
    counts[n] = cumulative[b, symbol + 1] - start - 1
    n += 1
    if symbol == escape[b]:
        length = 1
        while m >> length:
            length += 1
        n = push_raw(length, 5, starts, counts, n)
        if length > 16:
            n = push_raw(m >> 16, length - 16, starts, counts, n)
            n = push_raw(m & 65535, 16, starts, counts, n)
        else:
            n = push_raw(m, length, starts, counts, n)
        return push_raw(negative, 1, starts, counts, n)
    if m:
        bits = CLASS_BITS[symbol]
        n = push_raw(((m - CLASS_LOW[symbol]) << 1) | negative, bits + 1, starts, counts, n)
    return n


@njit(nogil=True, cache=True)
def push_raw(value, bits, starts, counts, n):
    """Append `bits` (1..16) equiprobable bits."""
    starts[n] = value << (PRECISION - bits)
    counts[n] = (1 << (PRECISION - bits)) - 1
    return n + 1


@njit(nogil=True, cache=True)
def class_of(m):
    """Class symbol of magnitude `m`; past the last class for magnitudes without one."""
    if m < DIRECT:
        return m
    octave = 4
    while m >> (octave + 1):
        octave += 1
    return DIRECT + (octave - 4) * 8 + ((m >> (octave - 3)) & 7)


@njit(nogil=True, cache=True)
def pull_raw(bits, state, words, position):
    """Read `bits` equiprobable bits; returns value, state and word position."""
    shift = np.uint64(PRECISION - bits)
    slot = state & _MASK
    value = slot >> shift
    state = ((state >> _BITS) << shift) + (slot - (value << shift))
    if state < LOWER and position > 0:
        position -= 1
        state = (state << _WORD) | np.uint64(words[position])
    return np.int64(value), state, position


@njit(nogil=True, cache=True)
def pull_magnitude(b, cumulative, escape, coarse, state, words, position):
    """Read one value under bin `b`; returns value, state and word position."""
    slot = np.int64(state & _MASK)
    symbol = coarse[b, slot >> (PRECISION - 8)]
    while cumulative[b, symbol + 1] <= slot:
        symbol += 1
    start = cumulative[b, symbol]
    count = np.uint64(cumulative[b, symbol + 1] - start)
    state = count * (state >> _BITS) + np.uint64(slot - start)
    if state < LOWER and position > 0:
        position -= 1
        state = (state << _WORD) | np.uint64(words[position])
    if symbol == escape[b]:
        length, state, position = pull_raw(5, state, words, position)
        m = 0
        if length > 16:
            m, state, position = pull_raw(length - 16, state, words, position)
            low, state, position = pull_raw(16, state, words, position)
            m = (m << 16) | low
        elif length > 0:
            m, state, position = pull_raw(length, state, words, position)
        negative, state, position = pull_raw(1, state, words, position)
    elif symbol:
        raw, state, position = pull_raw(CLASS_BITS[symbol] + 1, state, words, position)
        m = CLASS_LOW[symbol] + (raw >> 1)
        negative = raw & 1
    else:
        return np.int64(0), state, position
    return (-m if negative else m), state, position


def write_values(values: np.ndarray, bins: np.ndarray, tables: Tables) -> tuple[int, np.ndarray]:
    """rANS state and words of int32 `values` under their uint8 `bins`, in coding order."""
    starts, counts = (np.empty(MAX_OPERATIONS * len(values), np.uint16) for _ in range(2))
    n = _push_all(values, bins, tables.cumulative, tables.escape, starts, counts)
    words = np.empty(n // 2 + 2, np.uint32)
    state, used = write(starts, counts, n, words)
    return int(state), words[:used]


def pull_values(
    bins: np.ndarray, tables: Tables, state: int, words: np.ndarray, word: int,
    phase: int = 0, dependent: bool = False,
) -> tuple[np.ndarray, int, int, int]:  # fmt: skip
    """Values int32 under `bins`, and the state, number of words and phase that are left."""
    values = np.empty(len(bins), np.int32)
    state, word, phase = _pull_all(
        values, bins, tables.cumulative, tables.escape, tables.coarse, np.uint64(state), words, word,
        phase, dependent,
    )  # fmt: skip
    return values, int(state), word, phase


@njit(nogil=True, cache=True)
def _push_all(values, bins, cumulative, escape, starts, counts):
    n = 0
    for a in range(len(values)):
        n = push_magnitude(np.int64(values[a]), bins[a], cumulative, escape, starts, counts, n)
    return n


@njit(nogil=True, cache=True)
def _pull_all(values, bins, cumulative, escape, coarse, state, words, word, phase, dependent):
    for a in range(len(bins)):
        grid = grid_of(phase) if dependent else 0
        level, state, word = pull_magnitude(
            bins[a] + grid * N_BINS, cumulative, escape, coarse, state, words, word
        )
        values[a] = value_of(level, grid) if dependent else level
        phase = next_phase(phase, level)
    return state, word, phase
