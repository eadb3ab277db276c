"""One axis of a separable transform: near-equal blocks, DCT, optional lapping or wavelet split.

The order of all additions is part of the format: `kernels/dct_of.h` has the same (see `ordered`).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from caesar_freq.kernels.ordered import Array, like, namespace, product, zeros
from caesar_freq.transform.matrices import dct_matrix, lapped_core
from caesar_freq.transform.wavelets import WAVELETS

#: Transform kinds by name; the number is what a stream stores.
KINDS = {"dct": 0, "lot": 1, "haar": 2, "cdf97": 3}


def near_equal_sizes(length: int, block: int) -> list[int]:
    """Sizes of ``ceil(length / block)`` consecutive blocks that differ by at most one.

    Padding the last block instead costs 10-30 % of the bits on small grids.
    """
    count = -(-length // block)
    base, longer = divmod(length, count)
    return [base + (i < longer) for i in range(count)]


def half_matrices(size: int) -> tuple[np.ndarray, np.ndarray]:
    """DCT-II of a block from the sums and differences of its samples, mirrored about its middle.

    Returns
    -------
    even : float64 [ceil(size / 2), ceil(size / 2)]
        Even frequencies from sums; the middle sample of an odd size counts once.
    odd : float64 [floor(size / 2), floor(size / 2)]
        Odd frequencies from differences.
    """
    matrix = dct_matrix(size)
    return matrix[0::2, : (size + 1) // 2], matrix[1::2, : size // 2]


class BlockDCT:
    """DCT of near-equal blocks along one axis; arrays are ``[outer, length, inner]``.

    Parameters
    ----------
    length : int
        Samples along the axis, at least 1.
    block : int
        Largest block size wanted. Every block has `slots` frequency slots, the size of the
        largest block there is, so short axes cost no memory.
    lapped : bool
        Rotate samples across inner block borders first (lapped orthogonal transform).
    """

    def __init__(self, length: int, block: int, lapped: bool = False) -> None:
        self.length, self.lapped = length, lapped
        self.sizes = near_equal_sizes(length, block)
        self.count, self.slots = len(self.sizes), self.sizes[0]
        self.mask = np.arange(self.slots)[None, :] < np.array(self.sizes)[:, None]
        self._runs = self._equal_runs()

    def _equal_runs(self) -> list[tuple[int, int, int, int]]:
        runs, block, sample = [], 0, 0
        for size in sorted(set(self.sizes), reverse=True):
            number = self.sizes.count(size)
            runs.append((block, number, sample, size))
            block, sample = block + number, sample + number * size
        return runs

    @cached_property
    def _borders(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Samples left and right of the borders to lap, outwards: ``[borders, half]`` by half."""
        if not self.lapped:
            return {}
        ends = np.cumsum(self.sizes)
        borders: dict[int, list[int]] = {}
        for left, right, end in zip(self.sizes, self.sizes[1:], ends):
            half = min(left, right) // 2
            if half:
                borders.setdefault(half, []).append(end)
        return {
            half: (np.array(at)[:, None] - 1 - np.arange(half), np.array(at)[:, None] + np.arange(half))
            for half, at in borders.items()
        }  # fmt: skip

    def _rotate(self, x: Array, inverse: bool) -> Array:
        """Butterflies across every border, around a rotation of the differences."""
        if not self._borders:
            return x
        x, root = namespace(x).asarray(x, copy=True), like(np.sqrt(0.5), x)
        for half, (left, right) in self._borders.items():
            rotation = lapped_core(half).T if inverse else lapped_core(half)
            a, b = x[:, left], x[:, right]
            top, bottom = (a + b) * root, product(rotation, (a - b) * root)
            x[:, left], x[:, right] = (top + bottom) * root, (top - bottom) * root
        return x

    def forward(self, x: Array) -> Array:
        """``[outer, length, inner]`` samples to ``[outer, blocks, slots, inner]`` coefficients."""
        x = self._rotate(x, inverse=False)
        outer, _, inner = x.shape
        y = zeros((outer, self.count, self.slots, inner), x)
        for block, number, sample, size in self._runs:
            part = x[:, sample : sample + number * size].reshape(outer, number, size, inner)
            mirrored = namespace(x).flip(part, (2,))
            sums, differences = part + mirrored, part - mirrored
            if size % 2:
                sums[:, :, size // 2] = part[:, :, size // 2]
            even, odd = half_matrices(size)
            here = y[:, block : block + number]
            here[:, :, 0:size:2] = product(even, sums[:, :, : (size + 1) // 2])
            here[:, :, 1:size:2] = product(odd, differences[:, :, : size // 2])
        return y

    def inverse(self, y: Array) -> Array:
        """Inverse of `forward`; slots beyond a block's size are ignored."""
        outer, _, _, inner = y.shape
        x = zeros((outer, self.length, inner), y)
        for block, number, sample, size in self._runs:
            here = y[:, block : block + number]
            even, odd = half_matrices(size)
            sums = product(even.T, here[:, :, 0:size:2])
            differences = zeros(sums.shape, y)
            differences[:, :, : size // 2] = product(odd.T, here[:, :, 1:size:2])
            part = x[:, sample : sample + number * size].reshape(outer, number, size, inner)
            part[:, :, : (size + 1) // 2] = sums + differences
            part[:, :, size // 2 :] = namespace(y).flip(sums - differences, (2,))
        return self._rotate(x, inverse=True)


class WaveletDCT:
    """One-level wavelet split, then the DCT of each half; the high half's slots run downwards.

    The high subband is frequency-reversed by decimation, so slot ``slots-1-k`` holds its
    frequency ``k`` and slots rise in frequency across the whole block.
    """

    def __init__(self, length: int, block: int, wavelet: str) -> None:
        self.length, self.wavelet = length, wavelet
        self.half = BlockDCT(-(-length // 2), block // 2)
        self.count, self.slots = self.half.count, 2 * self.half.slots
        self.mask = np.concatenate([self.half.mask, self.half.mask[:, ::-1]], axis=1)

    def forward(self, x: Array) -> Array:
        """``[outer, length, inner]`` samples to ``[outer, blocks, slots, inner]`` coefficients."""
        xp = namespace(x)
        low, high = WAVELETS[self.wavelet].split(x)
        return xp.concatenate(
            [self.half.forward(low), xp.flip(self.half.forward(high), (2,))], axis=2
        )

    def inverse(self, y: Array) -> Array:
        """Inverse of `forward`."""
        half = self.half.slots
        low = self.half.inverse(y[:, :, :half])
        high = self.half.inverse(namespace(y).flip(y[:, :, half:], (2,)))
        return WAVELETS[self.wavelet].join(low, high)[:, : self.length]


def make_axis(length: int, block: int, kind: str) -> BlockDCT | WaveletDCT:
    """The axis transform of a `kind` listed in `KINDS`."""
    if kind in WAVELETS:
        return WaveletDCT(length, block, kind)
    return BlockDCT(length, block, lapped=kind == "lot")
