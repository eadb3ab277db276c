"""Where cells end: their last shells that are coded, predicted from decoded neighbours."""

from __future__ import annotations

import numpy as np

from caesar_freq.errors import CorruptStreamError


def _prediction(used: np.ndarray, before: np.ndarray | None, y: int, x: int) -> int:
    total, weight = 0, 0
    if x:
        total, weight = total + used[y, x - 1], weight + 1
    if y:
        total, weight = total + used[y - 1, x], weight + 1
    if before is not None:
        total, weight = total + 2 * before[y, x], weight + 2
    return int(total) // weight if weight else 0


def end_residuals(used: list[np.ndarray]) -> np.ndarray:
    """Ends of all cells as differences to their prediction from decoded neighbours."""
    residuals, before = [], None
    for block in used:
        predicted = np.zeros_like(block)
        for y in range(block.shape[0]):
            for x in range(block.shape[1]):
                predicted[y, x] = _prediction(block, before, y, x)
        residuals.append(block - predicted)
        before = block
    return np.array(residuals, np.int32).ravel()


def ends_from_residuals(residuals: np.ndarray, shape: tuple, n_shells: int) -> list[np.ndarray]:
    used, before = [], None
    for block in residuals.reshape(shape):
        ends = np.zeros(block.shape, np.int32)
        for y in range(block.shape[0]):
            for x in range(block.shape[1]):
                ends[y, x] = block[y, x] + _prediction(ends, before, y, x)
        if ends.min() < 0 or ends.max() > n_shells:
            raise CorruptStreamError("an end-of-block value lies outside the block")
        used.append(ends)
        before = ends
    return used
