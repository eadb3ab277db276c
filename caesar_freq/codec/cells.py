"""Some of the cells of a transform, which tell what coding all of them would cost.

A place cut out of a map misleads: its cells have other sizes, it has borders of its own, and the rest of
the map may be different. Cells taken from everywhere out of the transform of the whole have none of that.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from caesar_freq.transform.blocks import Transform


class CellSubset:
    """What coders ask of a `Transform`, for every second row of large cells.

    Smaller cells are taken where the large ones are: all transforms are judged by the same places, and
    their cells have most of the neighbours that contexts look at.

    Parameters
    ----------
    transform : Transform
    largest : int
        Size of the large cells.

    Attributes
    ----------
    planes_shape, time, rows, columns, cell, time_block, n_coefficients
        See `Transform`.
    """

    def __init__(self, transform: Transform, largest: int) -> None:
        cells = transform.rows.count
        regions = -(-transform.shape[1] // largest)
        # the region that the middle of a cell falls in
        region = (2 * np.arange(cells) + 1) * regions // (2 * cells)
        self._kept = np.flatnonzero(region % 2 == 0)
        self.time, self.columns = transform.time, transform.columns
        self.time_block, self.cell = transform.time_block, transform.cell
        self.rows = SimpleNamespace(mask=transform.rows.mask[self._kept])
        columns = transform.planes_shape[-1]
        self.planes_shape = (*transform.planes_shape[:4], len(self._kept), columns)
        masks = (self.time.mask, self.rows.mask, self.columns.mask)
        self.n_coefficients = math.prod(int(mask.sum()) for mask in masks)

    def of(self, planes: np.ndarray) -> np.ndarray:
        """Coefficients of these cells, of those of all."""
        return np.ascontiguousarray(planes[..., self._kept, :])
