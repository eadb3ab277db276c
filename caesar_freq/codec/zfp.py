"""Values that ZFP's decompressor wrote: found, proved and coded as its coefficients.

At a fixed tolerance ZFP drops the bits of coefficients below one power of two, so all it writes lies
on one lattice (`transform.zfp`). A sample of blocks tells whether values do; then every one is
restored and compared bit by bit, and the few that differ (blocks in which ZFP's integers overflow)
are stored beside. As every value is exact, it serves every bound.

Body: number of axes in a block, samples of the first block before the chunk (two bits an axis),
exponent of the power of two, mask and bits of what is stored beside, coefficients (`entropy.bands`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.chunks import Box
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.entropy.bands import MAX_COEFFICIENT, decode_bands, encode_bands
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import empty, zeros
from caesar_freq.transform.zfp import BLOCK, Axes, Axis, coefficients, samples, slabs

#: Blocks of a sample by the number of their axes, and how many of them must vary.
_SAMPLE, _FEWEST = {1: 512, 2: 512, 3: 256}, 16
#: Coefficients of a block must be so many times above the rounding of its values and of float64.
_CLEAR, _DRIFT = 4, 4 * float(np.finfo(np.float64).eps)
#: Part of a sample's blocks that may be off the lattice, and of all values.
_STRAYS, _MOST_BESIDE = 0.05, 1 / 64
_SLAB = 1 << 18


@dataclass(frozen=True)
class Lattice:
    """Blocks, the power of two of which coefficients are multiples, and about how many bits they take.

    Attributes
    ----------
    axes : tuple of three Axis
    exponent : int
    bits : float
        Per value of a sample; a rough guess.
    """

    axes: Axes
    exponent: int
    bits: float


def block_axes(shape: tuple[int, int, int], before: tuple[int, int, int], n_axes: int) -> Axes:
    """The last `n_axes` axes in blocks of four."""
    return tuple(
        Axis(length, BLOCK, start) if number >= 3 - n_axes else Axis(length)
        for number, (length, start) in enumerate(zip(shape, before))
    )


def find_lattice(values: np.ndarray, box: Box) -> Lattice | None:
    """The lattice of a sample of `values` ``[T, H, W]``, if there is one, at little cost."""
    starts = (box.time.start, box.height.start, box.width.start)
    before = tuple(starts[axis] % BLOCK for axis in box.axes)
    found = [
        lattice
        for n_axes in _SAMPLE
        if (lattice := _sample_lattice(values, block_axes(values.shape, before, n_axes), n_axes))
    ]
    return min(found, key=lambda lattice: lattice.bits, default=None)


def _sample_blocks(values: np.ndarray, axes: Axes, count: int) -> np.ndarray:
    """Whole blocks at random places, float64 ``[count, t, h, w]``."""
    rng, index = np.random.default_rng(0), []
    for number, axis in enumerate(axes):
        first = axis.head + axis.size * rng.integers(axis.whole, size=count)
        at = first[:, None] + np.arange(axis.size)
        index.append(np.expand_dims(at, [n for n in (1, 2, 3) if n != number + 1]))
    return values[tuple(index)].astype(np.float64)


def _sample_lattice(values: np.ndarray, axes: Axes, n_axes: int) -> Lattice | None:
    if not all(axis.whole for axis in axes):
        return None
    blocks = _sample_blocks(values, axes, _SAMPLE[n_axes])
    if not np.isfinite(blocks).all():
        return None
    flat = blocks.reshape(len(blocks), -1)
    varied = flat.max(axis=1) > flat.min(axis=1)
    largest = np.abs(flat).max(axis=1)
    # room for all below: no overflow, no subnormal numbers
    limits = np.finfo(values.dtype)
    if varied.sum() < _FEWEST or not largest.max() < float(limits.max) / 256:
        return None
    _, *sizes = shape = blocks[varied].shape
    stacked = (
        Axis(shape[0] * sizes[0], sizes[0]),
        Axis(sizes[1], sizes[1]),
        Axis(sizes[2], sizes[2]),
    )
    spread = coefficients(blocks[varied].reshape(-1, *sizes[1:]), stacked).reshape(shape[0], -1)
    noise = np.maximum(largest[varied], float(limits.tiny) * 2**60) * (limits.eps / 2 + _DRIFT)
    exponents = _spacings(spread, noise)
    fits = exponents > -(1 << 20)
    if np.mean(fits) < 1 - _STRAYS:
        return None
    exponent = int(np.quantile(exponents[fits], _STRAYS / 2, method="lower"))
    if np.mean(exponents >= exponent) < 1 - _STRAYS:
        return None
    spacing = 2.0**exponent
    if (
        _finest(flat[varied]) >= spacing
    ):  # packed in powers of two: any transform has such a lattice
        return None
    bits = np.log2(1 + 2 * np.abs(spread) / spacing).sum() / flat.size
    return Lattice(axes, exponent, float(bits))


def _spacings(coefficients: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Exponent of the largest power of two of which a block's coefficients are multiples.

    Far below any where there is none that is clear of the `noise`; both are of ``[blocks]``.
    """
    exponents = np.ceil(np.log2(_CLEAR * noise)).astype(np.int64)
    found = np.full(len(noise), -(1 << 21))
    largest = np.abs(coefficients).max(axis=1)
    left = np.arange(len(noise))
    while len(left := left[2 * largest[left] > np.ldexp(1.0, exponents[left])]):
        spacing = np.ldexp(1.0, exponents[left])[:, None]
        some = coefficients[left]
        off = np.abs(some - spacing * np.rint(some / spacing)).max(axis=1)
        left = left[off <= noise[left]]
        found[left] = exponents[left]
        exponents[left] += 1
    return found


def _finest(values: np.ndarray) -> float:
    """The lowest bit that any value has."""
    mantissas, exponents = np.frexp(values[values != 0])
    whole = (mantissas * 2.0**53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponents - 53).min())


def _restored(coded: np.ndarray, axes: Axes, exponent: int, dtype: np.dtype) -> np.ndarray:
    """Values of integer coefficients, rounded once, as ZFP does."""
    quarters = sum(axis.size == BLOCK for axis in axes)
    whole = samples(coded.astype(np.int64), axes).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.ldexp(whole, exponent - 2 * quarters).astype(dtype)


def encode_zfp(values: np.ndarray, lattice: Lattice) -> bytes | None:
    """Body of `values` (float32 or float64 ``[T, H, W]``), restored bit by bit.

    Returns None if too many are off the lattice.
    """
    coded, off = zeros(values.shape, np.int32), zeros(values.shape, bool)
    n_off = 0
    for at, axes in slabs(lattice.axes, _SLAB):
        slab = values[at]
        with np.errstate(over="ignore"):
            scaled = np.ldexp(slab.astype(np.float64), -lattice.exponent)
        numbers = np.rint(coefficients(scaled, axes))
        if not np.abs(numbers).max() <= MAX_COEFFICIENT:  # written so that a NaN fails
            return None
        coded[at] = numbers
        again = _restored(coded[at], axes, lattice.exponent, values.dtype)
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        off[at] = again.view(unsigned) != slab.view(unsigned)
        n_off += int(np.count_nonzero(off[at]))
        if n_off > _MOST_BESIDE * values.size:
            return None
    beside = varint(0)
    if n_off:
        mask, exact = encode_mask(off), encode_lossless(values[off])
        beside = varint(len(mask)) + mask + varint(len(exact)) + exact
    n_axes = sum(axis.size == BLOCK for axis in lattice.axes)
    phases = sum(axis.before << 2 * number for number, axis in enumerate(lattice.axes))
    head = struct.pack("<BBh", n_axes, phases, lattice.exponent)
    return head + beside + encode_bands(coded, lattice.axes)


def decode_zfp(data: bytes, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Inverse of `encode_zfp`: values ``[T, H, W]``.

    Raises
    ------
    CorruptStreamError
        If the data is damaged; nothing larger than some volumes of `shape` is allocated.
    """
    reader = Reader(data)
    n_axes, phases, exponent = struct.unpack("<BBh", reader.take(4))
    before = tuple(phases >> 2 * number & 3 for number in range(3))
    if not 1 <= n_axes <= 3 or phases >= 64:
        raise CorruptStreamError("blocks are of unknown kind")
    axes, off = block_axes(shape, before, n_axes), None
    if not all(axis.whole for axis in axes):
        raise CorruptStreamError("blocks are larger than the chunk")
    length = reader.varint()
    if length:
        off = decode_mask(reader.take(length), shape)
        exact = decode_lossless(reader.take(reader.varint()), (int(off.sum()),), np.dtype(dtype))
    coded = decode_bands(reader.rest(), axes)
    values = empty(shape, dtype)
    for at, part in slabs(axes, _SLAB):
        values[at] = _restored(coded[at], part, exponent, dtype)
    if off is not None:
        values[off] = exact
    return values
