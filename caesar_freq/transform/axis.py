"""One axis of a separable transform: near-equal blocks, DCT, optional lapping or wavelet split."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pywt

#: Transform kinds by name; the number is what a stream stores.
KINDS = {"dct": 0, "lot": 1, "haar": 2, "cdf97": 3}
#: PyWavelets names of the one-level wavelet splits (CDF 9/7 is ``bior4.4`` there).
WAVELETS = {"haar": "haar", "cdf97": "bior4.4"}


def near_equal_sizes(length: int, block: int) -> list[int]:
    """Sizes of ``ceil(length / block)`` consecutive blocks that differ by at most one.

    Padding the last block instead costs 10-30 % of the bits on small grids.
    """
    count = -(-length // block)
    base, longer = divmod(length, count)
    return [base + (i < longer) for i in range(count)]


@lru_cache(maxsize=256)
def dct_matrix(size: int, kind: int = 2) -> np.ndarray:
    """Orthonormal DCT-II or DCT-IV matrix, float64 ``[frequency, sample]``."""
    k = np.arange(size)[:, None]
    n = np.arange(size)[None, :]
    if kind == 4:
        return np.sqrt(2 / size) * np.cos(np.pi / size * (n + 0.5) * (k + 0.5))
    matrix = np.sqrt(2 / size) * np.cos(np.pi / size * (n + 0.5) * k)
    matrix[0] /= np.sqrt(2)
    return matrix


@lru_cache(maxsize=64)
def lapped_core(half: int) -> np.ndarray:
    """The rotation ``V = J C2^T C4 J`` of the differences across a border, ``[half, half]``."""
    flip = np.eye(half)[::-1]
    return flip @ dct_matrix(half).T @ dct_matrix(half, 4) @ flip


@lru_cache(maxsize=64)
def lapped_rotation(half: int) -> np.ndarray:
    """Orthonormal pre-filter across a block border, float64 ``[2*half, 2*half]``.

    Time-domain lapped transform (Tran, Liang & Tu 2003): butterflies around a rotation
    ``V`` (`lapped_core`) that turns the block DCT behind it into a lapped orthogonal transform.
    """
    flip = np.eye(half)[::-1]
    identity = np.eye(half)
    butterfly = np.block([[identity, flip], [flip, -identity]]) / np.sqrt(2)
    none = np.zeros((half, half))
    middle = np.block([[identity, none], [none, lapped_core(half)]])
    return butterfly @ middle @ butterfly


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
        self._borders = self._lap_borders() if lapped else {}

    def _equal_runs(self) -> list[tuple[int, int, int, int]]:
        runs, block, sample = [], 0, 0
        for size in sorted(set(self.sizes), reverse=True):
            number = self.sizes.count(size)
            runs.append((block, number, sample, size))
            block, sample = block + number, sample + number * size
        return runs

    def _lap_borders(self) -> dict[int, np.ndarray]:
        """Sample indices ``[borders, 2*half]`` of the inner borders, by half-width."""
        ends = np.cumsum(self.sizes)
        borders: dict[int, list[np.ndarray]] = {}
        for left, right, end in zip(self.sizes, self.sizes[1:], ends):
            half = min(left, right) // 2
            if half:
                borders.setdefault(half, []).append(np.arange(end - half, end + half))
        return {half: np.array(indices) for half, indices in borders.items()}

    def _rotate(self, x: np.ndarray, inverse: bool) -> np.ndarray:
        if not self._borders:
            return x
        x = x.copy()
        for half, indices in self._borders.items():
            rotation = lapped_rotation(half).astype(x.dtype)
            x[:, indices] = np.matmul(rotation.T if inverse else rotation, x[:, indices])
        return x

    def forward(self, x: np.ndarray) -> np.ndarray:
        """``[outer, length, inner]`` samples to ``[outer, blocks, slots, inner]`` coefficients."""
        x = self._rotate(x, inverse=False)
        outer, _, inner = x.shape
        y = np.zeros((outer, self.count, self.slots, inner), x.dtype)
        for block, number, sample, size in self._runs:
            part = x[:, sample : sample + number * size].reshape(outer, number, size, inner)
            y[:, block : block + number, :size] = _apply(dct_matrix(size), part)
        return y

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Inverse of `forward`; slots beyond a block's size are ignored."""
        outer, _, _, inner = y.shape
        x = np.empty((outer, self.length, inner), y.dtype)
        for block, number, sample, size in self._runs:
            part = _apply(dct_matrix(size).T, y[:, block : block + number, :size])
            x[:, sample : sample + number * size] = part.reshape(outer, number * size, inner)
        return self._rotate(x, inverse=True)


class WaveletDCT:
    """One-level wavelet split, then the DCT of each half; the high half's slots run downwards.

    The high subband is frequency-reversed by decimation, so slot ``slots-1-k`` holds its
    frequency ``k`` and slots rise in frequency across the whole block.
    """

    def __init__(self, length: int, block: int, wavelet: str) -> None:
        self.length = length
        self.wavelet = WAVELETS[wavelet]
        self._half = BlockDCT(-(-length // 2), block // 2)
        self.count, self.slots = self._half.count, 2 * self._half.slots
        self.mask = np.concatenate([self._half.mask, self._half.mask[:, ::-1]], axis=1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """``[outer, length, inner]`` samples to ``[outer, blocks, slots, inner]`` coefficients."""
        low, high = pywt.dwt(x, self.wavelet, mode="periodization", axis=1)
        return np.concatenate(
            [self._half.forward(low), self._half.forward(high)[:, :, ::-1]], axis=2
        )

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Inverse of `forward`."""
        half = self._half.slots
        low = self._half.inverse(y[:, :, :half])
        high = self._half.inverse(y[:, :, half:][:, :, ::-1])
        x = pywt.idwt(low, high, self.wavelet, mode="periodization", axis=1)
        return x[:, : self.length]


def make_axis(length: int, block: int, kind: str) -> BlockDCT | WaveletDCT:
    """The axis transform of a `kind` listed in `KINDS`."""
    if kind in WAVELETS:
        return WaveletDCT(length, block, kind)
    return BlockDCT(length, block, lapped=kind == "lot")


def _apply(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``matrix @ x`` over axis -2; the contiguous case is one large product."""
    matrix = matrix.astype(x.dtype)
    if x.shape[-1] == 1:
        return (x[..., 0] @ matrix.T)[..., None]
    return np.matmul(matrix, x)
