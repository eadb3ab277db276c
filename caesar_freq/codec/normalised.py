"""The normalised volume of a chunk, of which no more is made than is asked for."""

from __future__ import annotations

import math

import numpy as np

from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.header import Variable


class Normalised:
    """`Chunk.normalised`, made anew each time: samples of it tell most of what has to be known.

    Parameters
    ----------
    chunk : Chunk
    variable : Variable
        Offset and range are used.
    double : bool
        Float64 instead of float32.

    Attributes
    ----------
    shape, size, dtype
        As of an array ``[T, H, W]``.
    """

    def __init__(self, chunk: Chunk, variable: Variable, double: bool) -> None:
        self._chunk, self._variable, self._double = chunk, variable, double
        self.shape = chunk.values.shape
        self.size = math.prod(self.shape)
        self.dtype = np.dtype(np.float64 if double else np.float32)

    def __getitem__(self, at) -> np.ndarray:
        return self._chunk.normalised_part(self._variable, self._double, at)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)
