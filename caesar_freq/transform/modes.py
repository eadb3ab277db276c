"""Time in the field's own modes: proper orthogonal decomposition, then the spatial transform.

Where a few patterns carry a flow (vortex streets, tides, seasonal cycles), its own temporal modes
(Karhunen-Loeve, the eigenvectors of the frames' inner products; Sirovich 1987) need far fewer
coefficients than cosines. They have to be sent, which pays only while they are few.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from caesar_freq.kernels.eigen import eigh
from caesar_freq.kernels.ordered import product
from caesar_freq.transform.blocks import Transform

#: Most frames and modes: the eigenvectors of so many frames take a fraction of a second.
MAX_FRAMES, MAX_MODES = 256, 96
#: Values whose products are summed at once.
_AT_ONCE = 1 << 18


def temporal_modes(x: np.ndarray, residual: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The fewest modes that leave a mean squared error of at most `residual`.

    Parameters
    ----------
    x : float [T, H, W]
    residual : float
        In the units of ``x**2``.

    Returns
    -------
    modes : float64 [T, k]
        Orthonormal columns, the one with the most energy first.
    energies : float64 [k]
        Mean square of the values that each carries.
    None
        If more than `MAX_MODES` or a third of the frames are needed, or there are too many frames.
    """
    frames = x.shape[0]
    if not 8 < frames <= MAX_FRAMES:
        return None
    values, vectors = eigh(_inner_products(x.reshape(frames, -1)) / x.size)
    energies, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    left = np.append(np.cumsum(energies[::-1])[::-1], 0)
    count = max(1, int(np.argmax(left <= residual)))
    if left[count] > residual or count > min(MAX_MODES, frames // 3):
        return None
    return vectors[:, :count], energies[:count]


def _inner_products(flat: np.ndarray) -> np.ndarray:
    """``flat @ flat.T``, float64, the same bits for any order of summation.

    Values are split into two integers of so few bits that all sums of products are whole numbers
    below 2**53.
    """
    bits = (52 - flat.shape[1].bit_length()) // 2
    scale = 2.0 ** (bits - np.frexp(max(float(flat.max()), -float(flat.min())))[1])
    frames, columns = flat.shape
    products, mixed = np.zeros((2, frames, frames))
    for start in range(0, columns, max(1, _AT_ONCE // frames)):
        low = flat[:, start : start + max(1, _AT_ONCE // frames)].astype(np.float64)
        low *= scale
        high = np.rint(low)
        low -= high
        low *= 2.0**bits
        np.rint(low, out=low)
        products += high @ high.T
        mixed += high @ low.T
    return (products + (mixed + mixed.T) * 2.0**-bits) / scale**2


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """Modified Gram-Schmidt of `columns` ``[T, k]`` in float64; dependent ones become 0."""
    basis = np.array(columns, np.float64)
    for j in range(basis.shape[1]):
        for i in range(j):
            basis[:, j] -= basis[:, i] * np.sum(basis[:, i] * basis[:, j])
        length = np.sqrt(np.sum(basis[:, j] ** 2))
        basis[:, j] = basis[:, j] / length if length > 1e-6 else 0.0
    return basis


class ModeTransform:
    """The interface of `Transform` with temporal modes instead of cosines.

    Parameters
    ----------
    shape : tuple of int
        ``(T, H, W)``.
    basis : float64 [T, k]
        Orthonormal columns. With fewer modes than frames `inverse` restores the nearest volume
        that they can make.
    cell, kind
        Spatial transform, see `Transform`.
    """

    def __init__(self, shape, basis: np.ndarray, cell: int, kind: str) -> None:
        self.shape, self.basis, self.cell, self.kind = tuple(shape), basis, cell, kind
        count = basis.shape[1]
        self._space = Transform((count, *shape[1:]), 1, cell, kind)
        self.rows, self.columns = self._space.rows, self._space.columns
        self.time = SimpleNamespace(mask=np.ones((1, count), bool))
        self.time_block = count
        self.planes_shape = (1, count, *self._space.planes_shape[2:])

    @property
    def mask(self) -> np.ndarray:
        """Which slots hold a coefficient."""
        return np.broadcast_to(
            self._space.mask.reshape(1, -1, *self._space.mask.shape[2:]), self.planes_shape
        )

    @property
    def n_coefficients(self) -> int:
        """Number of slots in use."""
        return self._space.n_coefficients

    def forward(self, x: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """Transform `x` ``[T, H, W]`` to planes, same floating dtype; `x` stays as it is."""
        modes = product(self.basis.T, x.reshape(len(x), -1))
        return self._space.forward(modes.reshape(-1, *x.shape[1:])).reshape(self.planes_shape)

    def inverse(self, y: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """The volume that planes `y` stand for; with `overwrite` they are lost."""
        modes = self._space.inverse(y.reshape(self._space.planes_shape), overwrite)
        return product(self.basis, modes.reshape(len(modes), -1)).reshape(self.shape)
