"""A sample of a volume under many transforms: the spatial part of each is done once."""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.kernels.memory import copied
from caesar_freq.transform.blocks import Transform
from caesar_freq.transform.in_time import in_time, log2_bits_in_time


class Spectra:
    """What transforms make of a sample.

    Parameters
    ----------
    x : float [T, H, W]
        The sample.
    device : str or None
        See `backend.kernels`.
    """

    def __init__(self, x: np.ndarray, device: str | None = None) -> None:
        self.x = copied(x, np.float32)
        self._device = device
        self._made: dict[tuple[str, int], np.ndarray] = {}

    def transform(self, spatial: tuple[str, int], time_block: int) -> Transform:
        """That of a kind, a cell size and a time block."""
        kind, cell = spatial
        return Transform(self.x.shape, time_block, cell, kind)

    def of(self, spatial: tuple[str, int]) -> np.ndarray:
        """Planes in time blocks of one frame, ``[T, 1, Bh, Bw, rows, columns]``."""
        if spatial not in self._made:
            forward = kernels(self._device).forward
            self._made[spatial] = forward(self.transform(spatial, 1), self.x)
        return self._made[spatial]

    def forget_others(self, spatial: set[tuple[str, int]]) -> None:
        """Give back all but those of some kinds and cell sizes."""
        self._made = {key: made for key, made in self._made.items() if key in spatial}

    def planes(self, spatial: tuple[str, int], time_block: int) -> np.ndarray:
        """Those of `Transform.forward`, but for rounding."""
        return in_time(self.transform(spatial, time_block).time, self.of(spatial))

    def log2_bits(self, spatial, time_block: int, scale: float, significant: int) -> int:
        """`errors.log2_bits` of the planes."""
        time = self.transform(spatial, time_block).time
        return log2_bits_in_time(time, self.of(spatial), scale, significant)
