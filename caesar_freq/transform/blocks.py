"""The separable space-time transform of one volume, in plane-major frequency layout."""

from __future__ import annotations

import math

import numpy as np

from caesar_freq.kernels import library
from caesar_freq.kernels.memory import empty
from caesar_freq.kernels.ordered import Array, contiguous, permuted
from caesar_freq.transform.axis import KINDS, BlockDCT, make_axis
from caesar_freq.transform.native import NativeAxes

#: Cell sizes and time blocks that the entropy model knows; sizes beyond 32 are told it as 32.
CELLS = (8, 16, 32, 64, 128, 256, 512)
#: The largest of each kind: the lapping of larger ones takes seconds to make.
LARGEST_CELL = {"dct": 512, "lot": 64, "haar": 32, "cdf97": 32}
MAX_TIME_BLOCK = 1024
#: Coefficients of a block are at most so many: ``128 x 32 x 32``. Larger cells and longer blocks are for
#: fewer samples along the other axes.
MAX_BLOCK = 1 << 17
#: Kinds whose coefficients have the squared error of the values.
ORTHONORMAL = ("dct", "lot", "haar")


def block_values(shape: tuple[int, ...], time_block: int, cell: int) -> int:
    """Coefficients of the largest block of a volume ``[T, H, W]``."""
    frames, height, width = shape
    return min(time_block, frames) * min(cell, height) * min(cell, width)


class Transform:
    """Time DCT and spatial cell transform of a volume ``[T, H, W]``.

    Coefficients are regrouped by frequency: one plane ``[cell rows, cell columns]`` for each
    frequency, ``[time blocks, bt, Bh, Bw, rows, columns]`` in all, where bt, Bh and Bw are the
    largest block sizes there are. Slots that a shorter block does not use hold 0 and are False in
    `mask`.

    Parameters
    ----------
    shape : tuple of int
        ``(T, H, W)``, every length at least 1.
    time_block : int
        Largest number of frames of one temporal DCT, 1 to `MAX_TIME_BLOCK`.
    cell : int
        Spatial cell size B, one of `CELLS`.
    kind : {"dct", "lot", "haar", "cdf97"}
        Spatial transform. The wavelets do one DWT level and then the DCT of ``cell / 2``
        coefficients of each subband. All but ``cdf97`` are orthonormal.
    """

    def __init__(
        self, shape: tuple[int, int, int], time_block: int = 16, cell: int = 16, kind: str = "dct"
    ) -> None:
        known = kind in KINDS and cell in CELLS and cell <= LARGEST_CELL[kind]
        if not known or not 1 <= time_block <= MAX_TIME_BLOCK:
            raise ValueError(f"no transform of kind {kind!r}, cell {cell}, time block {time_block}")
        self.shape = tuple(shape)
        self.time_block, self.cell, self.kind = time_block, cell, kind
        frames, height, width = self.shape
        self.time = BlockDCT(frames, time_block)
        self.rows = make_axis(height, cell, kind)
        self.columns = make_axis(width, cell, kind)
        self.planes_shape = (
            self.time.count,
            self.time.slots,
            self.rows.slots,
            self.columns.slots,
            self.rows.count,
            self.columns.count,
        )

    @property
    def mask(self) -> np.ndarray:
        """Boolean array of `planes_shape`: which slots hold a coefficient."""
        time = self.time.mask[:, :, None, None, None, None]
        rows = self.rows.mask.T[None, None, :, None, :, None]
        columns = self.columns.mask.T[None, None, None, :, None, :]
        return time & rows & columns

    @property
    def n_coefficients(self) -> int:
        """Number of slots in use."""
        return int(self.time.mask.sum() * self.rows.mask.sum() * self.columns.mask.sum())

    def forward(self, x: Array, overwrite: bool = False) -> Array:
        """Transform `x` ``[T, H, W]`` to planes, same floating dtype, library and device.

        C, numpy and torch give the same bits. With `overwrite` in the memory of `x` where it fits.
        """
        if self._native_fits(x):
            planes = self._room(x, self.planes_shape, overwrite)
            self._axes(x.dtype).forward(np.ascontiguousarray(x), planes)
            return planes
        frames, height, width = self.shape
        nt, bt, bh, bw, nh, nw = self.planes_shape
        y = self.time.forward(x.reshape(1, frames, height * width))
        y = self.rows.forward(y.reshape(nt * bt, height, width))
        # columns in front, so that all that is worked on at once lies together
        y = y.reshape(1, nt * bt * nh * bh, width).swapaxes(1, 2)
        y = self.columns.forward(y).reshape(nw, bw, nt, bt, nh, bh)
        return contiguous(permuted(y, (2, 3, 5, 1, 4, 0)))

    def inverse(self, y: Array, overwrite: bool = False) -> Array:
        """Inverse of `forward`; with `overwrite` in the memory of `y` where it fits."""
        if self._native_fits(y):
            x = self._room(y, self.shape, overwrite)
            self._axes(y.dtype).inverse(np.ascontiguousarray(y), x)
            return x
        frames, height, width = self.shape
        nt, bt, bh, bw, nh, nw = self.planes_shape
        x = permuted(y, (5, 3, 0, 1, 4, 2)).reshape(1, nw, bw, nt * bt * nh * bh)
        x = self.columns.inverse(x).swapaxes(1, 2)
        x = self.rows.inverse(x.reshape(nt * bt, nh, bh, width))
        x = self.time.inverse(x.reshape(1, nt, bt, height * width))
        return x.reshape(self.shape)

    @staticmethod
    def _room(source: np.ndarray, shape: tuple[int, ...], overwrite: bool) -> np.ndarray:
        """Where the result goes: C takes a frame's values before it writes others in their place."""
        if overwrite and source.size == math.prod(shape) and source.flags.c_contiguous:
            return source.reshape(shape)
        return empty(shape, source.dtype)

    def _native_fits(self, x: Array) -> bool:
        return isinstance(x, np.ndarray) and library() is not None

    def _axes(self, dtype: np.dtype) -> NativeAxes:
        return NativeAxes((self.time, self.rows, self.columns), dtype)
