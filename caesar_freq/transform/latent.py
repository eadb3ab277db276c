"""Latents: the lowest-frequency coefficients of every 16x16 cell of single frames."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from caesar_freq.transform.axis import make_axis

CELL = 16


@lru_cache(maxsize=1)
def frequency_order() -> np.ndarray:
    """Slots of a 16x16 cell from low to high frequency, int64 ``[256]`` (radial, then row-major)."""
    i, j = np.meshgrid(np.arange(CELL), np.arange(CELL), indexing="ij")
    return np.lexsort((j.ravel(), i.ravel(), (i**2 + j**2).ravel()))


def to_cells(x: np.ndarray, wavelet: str = "haar", use_dwt: bool = True) -> np.ndarray:
    """Frames ``[..., H, W]`` to cell coefficients ``[..., 256, h, w]``, lowest frequency first.

    ``h = ceil(H/16)``; frames are continued by their edge to full cells. The transform is one DWT
    level and 8x8 DCTs (`use_dwt`), else a 16x16 DCT.
    """
    lead, (height, width) = x.shape[:-2], x.shape[-2:]
    rows, columns = -(-height // CELL), -(-width // CELL)
    pad = [(0, 0)] * len(lead) + [(0, rows * CELL - height), (0, columns * CELL - width)]
    x = np.pad(x, pad, mode="edge").reshape(-1, rows * CELL, columns * CELL)
    kind = wavelet if use_dwt else "dct"
    y = make_axis(rows * CELL, CELL, kind).forward(x)
    y = y.reshape(-1, columns * CELL, 1)
    y = make_axis(columns * CELL, CELL, kind).forward(y)
    y = y.reshape(-1, rows, CELL, columns, CELL).transpose(0, 2, 4, 1, 3)
    y = y.reshape(-1, CELL * CELL, rows, columns)[:, frequency_order()]
    return np.ascontiguousarray(y).reshape(*lead, CELL * CELL, rows, columns)


def from_cells(
    cells: np.ndarray, height: int, width: int, wavelet: str = "haar", use_dwt: bool = True
) -> np.ndarray:
    """Inverse of `to_cells`, cropped to ``[..., height, width]``."""
    lead, (rows, columns) = cells.shape[:-3], cells.shape[-2:]
    y = np.empty((int(np.prod(lead)), CELL * CELL, rows, columns), cells.dtype)
    y[:, frequency_order()] = cells.reshape(y.shape)
    y = y.reshape(-1, CELL, CELL, rows, columns).transpose(0, 3, 1, 4, 2)
    kind = wavelet if use_dwt else "dct"
    x = np.ascontiguousarray(y).reshape(-1, columns, CELL, 1)
    x = make_axis(columns * CELL, CELL, kind).inverse(x)
    x = x.reshape(-1, rows, CELL, columns * CELL)
    x = make_axis(rows * CELL, CELL, kind).inverse(x)
    return np.ascontiguousarray(x[:, :height, :width]).reshape(*lead, height, width)


def latents(
    x: np.ndarray, wavelet: str = "haar", use_dwt: bool = True, channels: int = 32
) -> np.ndarray:
    """The `channels` lowest-frequency coefficients of every cell, ``[..., channels, h, w]``."""
    return to_cells(x, wavelet, use_dwt)[..., :channels, :, :]
