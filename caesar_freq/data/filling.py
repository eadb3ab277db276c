"""Smooth filling of masked cells, so that holes cost the transform next to nothing.

A hole left at zero or at a fill value puts a cliff into the field and energy into every
coefficient of the cells it touches. Here the holes are filled by push-pull (Gortler et al., "The
Lumigraph", SIGGRAPH 1996): valid cells are averaged down a pyramid until no hole is left, and each
level fills its holes from the coarser one by bilinear interpolation. A few Jacobi sweeps per level
then pull the fill towards the membrane (Laplace) solution, which meets the rim without a step.
What is filled in never matters to the result (masked values are restored from elsewhere), only
its smoothness does: it decides the bits.
"""

from __future__ import annotations

import numpy as np

# Jacobi sweeps per pyramid level; beyond about four the bits no longer move.
_SWEEPS = 4
# Frames are worked on in groups of at most this many cells, which bounds the memory.
_CELLS_AT_ONCE = 1 << 15


def fill_masked(values: np.ndarray, mask: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """Replace masked cells by a smooth continuation of the valid ones.

    Frames are filled one by one in space. A frame without a valid cell is interpolated linearly
    in time between the nearest frames that have one (before and after; at the ends the nearest
    is repeated); a volume [T, H, W] without any becomes 0.

    Parameters
    ----------
    values : ndarray [..., T, H, W] or [H, W], float
        What stands in masked cells is ignored; all other cells must be finite.
    mask : ndarray of bool, shape of `values`
        True where a cell is to be filled.
    overwrite : bool
        Work in the memory of `values`, which is C-contiguous.

    Returns
    -------
    ndarray, shape and dtype of `values`
        Unmasked cells bit for bit, filled cells within the range of the valid ones of their frame.
    """
    values, mask = np.asarray(values), np.asarray(mask, dtype=bool)
    if values.shape != mask.shape:
        raise ValueError(f"mask of shape {mask.shape} for values of shape {values.shape}")
    if not mask.any():
        return values if overwrite else values.copy()
    height, width = values.shape[-2:]
    frames = values.shape[-3] if values.ndim > 2 else 1
    filled = values.reshape(-1, frames, height, width)
    filled = filled if overwrite else filled.copy()
    holes = mask.reshape(filled.shape)
    for volume, hole in zip(filled, holes, strict=True):
        _fill_volume(volume, hole)
    return filled.reshape(values.shape)


def _fill_volume(volume: np.ndarray, hole: np.ndarray) -> None:
    """Fill one [T, H, W] volume in place."""
    empty = hole.all(axis=(1, 2))
    todo = np.flatnonzero(hole.any(axis=(1, 2)) & ~empty)
    group = max(1, _CELLS_AT_ONCE // hole[0].size)
    for start in range(0, len(todo), group):
        frames = todo[start : start + group]
        holes = hole[frames]
        volume[frames] = np.where(holes, _push_pull(volume[frames], holes), volume[frames])
    if empty.all():
        volume[...] = 0
    elif empty.any():
        _interpolate_frames(volume, empty)


def _push_pull(frames: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill [N, H, W] frames, each with at least one valid cell; same dtype."""
    clean = np.where(hole, 0, frames).astype(np.float64)
    # Scaling by a power of two is exact and keeps sums of values near the largest float finite.
    exponent = np.frexp(np.abs(clean).max())[1]
    filled = np.ldexp(_pull(np.ldexp(clean, -exponent), (~hole).astype(np.float64)), exponent)
    low = np.where(hole, np.inf, frames).min(axis=(1, 2), keepdims=True)
    high = np.where(hole, -np.inf, frames).max(axis=(1, 2), keepdims=True)
    return np.clip(filled, low, high).astype(frames.dtype)


def _pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill cells of weight 0 from the next coarser level of the pyramid."""
    hole = weight == 0
    if not hole.any():
        return values
    mean, valid = _halve(values * weight), _halve(weight)
    mean = np.divide(mean, valid, out=np.zeros_like(mean), where=valid > 0)
    # A coarse cell counts fully as soon as one of its cells is valid ("saturated" push-pull).
    coarse = _pull(mean, (valid > 0).astype(np.float64))
    values = np.where(hole, _double(coarse, values.shape), values)
    for _ in range(_SWEEPS):
        values = np.where(hole, _neighbour_mean(values), values)
    return values


def _halve(x: np.ndarray) -> np.ndarray:
    """Sums over 2x2 cells of [N, H, W]; an odd edge is summed over what there is."""
    for axis in (1, 2):
        even = np.arange(0, x.shape[axis], 2)
        x = np.add.reduceat(x, even, axis=axis)
    return x


def _double(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bilinear upsampling of [N, h, w] to `shape`, cell centres aligned (weights 3/4 and 1/4)."""
    for axis in (1, 2):
        size = x.shape[axis]
        fine = np.arange(shape[axis])
        near = fine // 2
        far = np.clip(near + np.where(fine % 2, 1, -1), 0, size - 1)
        x = 0.75 * np.take(x, near, axis=axis) + 0.25 * np.take(x, far, axis=axis)
    return x


def _neighbour_mean(x: np.ndarray) -> np.ndarray:
    """Mean of the four neighbours in each frame of [N, H, W]; edges are repeated."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return (across + padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]) / 4


def _interpolate_frames(volume: np.ndarray, empty: np.ndarray) -> None:
    """Fill the frames marked `empty` of [T, H, W] linearly in time, in place."""
    known = np.flatnonzero(~empty)
    for frame in np.flatnonzero(empty):
        place = np.searchsorted(known, frame)
        before, after = known[max(place - 1, 0)], known[min(place, len(known) - 1)]
        share = (frame - before) / (after - before) if after > before else 0.0
        # Two products cannot overflow where a difference could.
        volume[frame] = (1 - share) * volume[before] + share * volume[after]
