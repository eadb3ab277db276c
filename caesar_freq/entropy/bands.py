"""Context coding of the integer coefficients of small blocks (`transform.zfp`).

Band by band, from low to high sequency, so that a coefficient sees the lower bands of its block and
of all blocks around, and those before it in its own. A linear prediction learns online; what it
misses goes through the adaptive, mixed contexts that code levels (`level_kernels`). All is integer
arithmetic.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.binary import AT, finish, new_coder, open_coder
from caesar_freq.entropy.integers import (
    bit_length,
    clip,
    eighth_octave,
    half_octave,
    signed_octave,
)
from caesar_freq.entropy.level_kernels import (
    LARGEST_EXPONENT,
    MIX_SETS,
    N_CONTEXTS,
    N_NODES,
    ROOM,
    code_error,
)
from caesar_freq.entropy.logistic import new_slots
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.jit import njit
from caesar_freq.kernels.memory import zeros
from caesar_freq.transform.zfp import Axes

#: Coefficients are below this in size: products of them stay below 2**63.
MAX_COEFFICIENT = (1 << 27) - 1
#: Predictions are in 1/8, their weights in 2**-16.
_FINE = 3
#: Same band, and along each axis at most: differences, sums and own coefficients of lower ones.
_N_INPUTS = 9 + 3 * 4
_RATE, _GAIN = 6, 13
_SLOT_BITS = (12, 18)


@njit(nogil=True, cache=True)
def _along(bands, band, step, order, i, j, k, axis, inputs, n):
    """What the lower bands along one axis say: even ones their sum, odd ones their difference."""
    di, dj, dk = axis == 0, axis == 1, axis == 2
    for below in range(1, order + 1):
        lower = bands[band - below * step]
        after, before = lower[i + di, j + dj, k + dk], lower[i - di, j - dj, k - dk]
        if below & 1:
            inputs[n] = after - before
            n += 1
        else:
            inputs[n] = after + before
            inputs[n + 1] = lower[i, j, k]
            n += 2
    return n


@njit(nogil=True, cache=True)
def _gather(bands, band, block, order, i, j, k, inputs):
    """Neighbours from which a coefficient is predicted; returns how many there are."""
    same = bands[band]
    inputs[0], inputs[1] = same[i, j, k - 1], same[i, j - 1, k]
    inputs[2], inputs[3] = same[i, j - 1, k - 1], same[i, j - 1, k + 1]
    inputs[4], inputs[5] = same[i - 1, j, k], same[i - 1, j, k + 1]
    inputs[6], inputs[7] = same[i - 1, j + 1, k], same[i - 1, j, k - 1]
    inputs[8] = same[i - 1, j - 1, k]
    n = _along(bands, band, 1, order[2], i, j, k, 2, inputs, 9)
    n = _along(bands, band, block[2], order[1], i, j, k, 1, inputs, n)
    return _along(bands, band, block[1] * block[2], order[0], i, j, k, 0, inputs, n)


@njit(nogil=True, cache=True)
def _parents(bands, band, block, order, i, j, k):
    """Size of the next lower coefficients of the block."""
    total = np.int64(0)
    if order[2]:
        total += abs(bands[band - 1, i, j, k])
        if order[1]:
            total += abs(bands[band - 1 - block[2], i, j, k])
    if order[1]:
        total += abs(bands[band - block[2], i, j, k])
    if order[0]:
        total += abs(bands[band - block[1] * block[2], i, j, k])
    return total


@njit(nogil=True, cache=True)
def _octave(size, most):
    return min(half_octave(size), most)


@njit(nogil=True, cache=True)
def _packed(a, b, c, d):
    """Four small numbers as one, to be hashed."""
    return np.uint64(((a * 64 + b) * 64 + c) * 64 + d)


@njit(nogil=True, cache=True)
def _form_contexts(band, sequency, partial, inputs, parents, fine, centre, local, sizes, i, j, k, hashes):  # fmt: skip
    """Contexts of the error of a prediction; returns the set of weights that mixes them."""
    same = 2 * (abs(inputs[0]) + abs(inputs[1])) + abs(inputs[2]) + abs(inputs[3])
    before = 2 * abs(inputs[4])
    for m in range(5, 9):
        before += abs(inputs[m])
    own = sizes[i, j, k]
    around = sizes[i, j, k - 1] + sizes[i, j - 1, k] + sizes[i, j, k + 1] + sizes[i, j + 1, k]
    times = sizes[i - 1, j, k] + sizes[i + 1, j, k]
    activity, energy = _octave(local, 24), _octave(own, 24)
    part = fine - (centre << _FINE) + 4
    likely = signed_octave(centre, 9)
    kin = _octave(parents, 20)
    behind = inputs[4] - centre
    hashes[0] = _packed(sequency, activity, part, likely)
    hashes[1] = _packed(band, _octave(same, 20) >> 1, _octave(before, 20) >> 1, kin >> 1)
    hashes[2] = _packed(band, energy >> 1, _octave(around, 24) >> 1, _octave(times, 24) >> 1)
    hashes[3] = _packed(band, energy >> 1, activity, likely)
    hashes[4] = _packed(
        sequency,
        signed_octave(inputs[0] - centre, 8),
        signed_octave(inputs[1] - centre, 8),
        signed_octave(behind, 6),
    )
    hashes[5] = _packed(band, kin, min(eighth_octave(own), 127) >> 1, partial)
    hashes[5] = hashes[5] * np.uint64(2) + np.uint64(min(eighth_octave(own), 127) & 1)
    hashes[6] = _packed(sequency, _octave(same + before, 24), energy >> 1, kin >> 1)
    hashes[7] = _packed(sequency, activity >> 1, signed_octave(behind, 15), 0)
    return min(activity >> 1, 3) * 3 + min(energy >> 2, 2)


@njit(nogil=True, cache=True)
def _code_band(
    bands, band, block, exist_t, exist_h, exist_w, sizes, misses, weights, slots, mixer, state, data,
    decoding,
):  # fmt: skip
    """Code or fill in a band; returns the buffer that holds the bytes."""
    order = (band // (block[1] * block[2]), band // block[2] % block[1], band % block[2])
    sequency = order[0] + order[1] + order[2]
    shift = np.uint64(64 - bit_length(slots.shape[1] - 1))
    hashes, places = np.zeros(N_CONTEXTS, np.uint64), np.zeros(N_CONTEXTS, np.int64)
    logits, inputs = np.zeros(N_CONTEXTS, np.int64), np.zeros(_N_INPUTS, np.int64)
    for i in range(1, len(exist_t) + 1):
        for j in range(1, len(exist_h) + 1):
            if exist_t[i - 1] <= order[0] or exist_h[j - 1] <= order[1]:
                continue
            for k in range(1, len(exist_w) + 1):
                if exist_w[k - 1] <= order[2]:
                    continue
                partial = 2 * (exist_h[j - 1] < block[1]) + (exist_w[k - 1] < block[2])
                weight = weights[partial]
                n = _gather(bands, band, block, order, i, j, k, inputs)
                total, energy = np.int64(0), np.int64(0)
                for m in range(n):
                    total += weight[m] * inputs[m]
                    energy += inputs[m] * inputs[m]
                fine = total >> (16 - _FINE)
                fine = clip(fine, -MAX_COEFFICIENT << _FINE, MAX_COEFFICIENT << _FINE)
                centre = (fine + (1 << (_FINE - 1))) >> _FINE
                local = 2 * (misses[i, j, k - 1] + misses[i, j - 1, k] + misses[i - 1, j, k])
                local += misses[i, j - 1, k - 1] + misses[i, j - 1, k + 1]
                parents = _parents(bands, band, block, order, i, j, k)
                set_ = _form_contexts(
                    band, sequency, partial, inputs, parents, fine, centre, local, sizes, i, j, k,
                    hashes,
                )  # fmt: skip
                if not decoding and np.int64(state[AT]) + ROOM > len(data):
                    larger = np.zeros(2 * len(data) + ROOM, np.uint8)
                    larger[: len(data)] = data
                    data = larger
                likely = clip(bit_length(local >> 4) - 1, 0, LARGEST_EXPONENT - 1)
                error = code_error(
                    bands[band, i, j, k] - centre, likely, set_, _RATE, False, shift, hashes, slots,
                    places, logits, mixer, state, data, decoding,
                )  # fmt: skip
                # damaged data may say more
                value = clip(centre + error, -MAX_COEFFICIENT, MAX_COEFFICIENT)
                bands[band, i, j, k] = value
                sizes[i, j, k] += abs(value)
                misses[i, j, k] = abs(value - centre)
                # normalised least mean squares
                gain = (clip((value << _FINE) - fine, -(1 << 24), 1 << 24) << 20) // (energy + 4)
                for m in range(n):
                    moved = weight[m] + ((gain * inputs[m]) >> _GAIN)
                    weight[m] = clip(moved, -(1 << 19), 1 << 19)
    return data


def _places(axes: Axes) -> tuple[np.ndarray, ...]:
    return np.ix_(*(axis.places for axis in axes))


def _grids(axes: Axes) -> tuple[list[int], list[int]]:
    """Samples of a block, and number of blocks, along each axis."""
    return [axis.size for axis in axes], [axis.count for axis in axes]


def _to_bands(coefficients: np.ndarray, axes: Axes) -> np.ndarray:
    """Bands ``[bands, blocks of T + 2, of H + 2, of W + 2]`` with a border of zeros."""
    block, counts = _grids(axes)
    full = zeros([c * b for c, b in zip(counts, block)], np.int32)
    full[_places(axes)] = coefficients
    bands = zeros((int(np.prod(block)), *(c + 2 for c in counts)), np.int32)
    split = full.reshape([n for pair in zip(counts, block) for n in pair])
    bands[:, 1:-1, 1:-1, 1:-1] = split.transpose(1, 3, 5, 0, 2, 4).reshape(-1, *counts)
    return bands


def _from_bands(bands: np.ndarray, axes: Axes) -> np.ndarray:
    block, counts = _grids(axes)
    split = bands[:, 1:-1, 1:-1, 1:-1].reshape(*block, *counts).transpose(3, 0, 4, 1, 5, 2)
    return split.reshape([c * b for c, b in zip(counts, block)])[_places(axes)]


def _order(block: list[int]) -> list[int]:
    """Bands by sequency."""
    every = np.indices(block).reshape(3, -1)
    return np.lexsort((every.max(axis=0), every.sum(axis=0))).tolist()


def _run(bands: np.ndarray, axes: Axes, state, data, decoding: bool) -> np.ndarray:
    block, counts = _grids(axes)
    exist = [axis.sizes for axis in axes]
    padded = bands.shape[1:]
    sizes = np.zeros(padded, np.int64)
    bits = min(max(bands.size.bit_length() + 1, _SLOT_BITS[0]), _SLOT_BITS[1])
    slots = new_slots(N_CONTEXTS, bits)
    mixer = np.full((MIX_SETS * N_NODES, N_CONTEXTS), (1 << 16) * 3 // 10, np.int64)
    for band in _order(block):
        weights, misses = np.zeros((4, _N_INPUTS), np.int64), np.zeros(padded, np.int64)
        data = _code_band(
            bands, band, tuple(block), *exist, sizes, misses, weights, slots, mixer, state, data,
            decoding,
        )  # fmt: skip
    return data


def encode_bands(coefficients: np.ndarray, axes: Axes) -> bytes:
    """Code integers ``[T, H, W]`` of at most `MAX_COEFFICIENT` in size, in place of blocks' samples."""
    state = new_coder()
    start = np.zeros(1 << 16, np.uint8)
    data = _run(_to_bands(coefficients, axes), axes, state, start, False)
    return finish(state, np.concatenate([data, np.zeros(8, np.uint8)]))


def decode_bands(data: bytes, axes: Axes) -> np.ndarray:
    """Inverse of `encode_bands`: int32 ``[T, H, W]``.

    Raises
    ------
    CorruptStreamError
        If `data` goes on after the last coefficient.
    """
    block, counts = _grids(axes)
    bands = zeros((int(np.prod(block)), *(c + 2 for c in counts)), np.int32)
    padded = np.frombuffer(data.ljust(4, b"\0"), np.uint8).copy()
    state = open_coder(padded)
    _run(bands, axes, state, padded, True)
    if int(state[AT]) < len(data):
        raise CorruptStreamError("the coefficients of blocks have a wrong length")
    return _from_bands(bands, axes)
