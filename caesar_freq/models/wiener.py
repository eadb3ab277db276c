"""The best linear estimate of missing frames, frequency by frequency: the baseline of the networks.

A coefficient's course over the frames of a block has a covariance ``R`` that training data tell.
With the variances of the errors of the decoded frames ``o`` in a diagonal ``N``, the missing frames
``m`` are best estimated by ``R_mo (R_oo + N)^-1 y_o`` (Wiener), with the error covariance
``R_mm - R_mo (R_oo + N)^-1 R_om``: one formula for every spacing of keyframes and every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caesar_freq.errors import ModelError
from caesar_freq.models.layout import FREQUENCIES, Layout

#: Part of a decoded frame's squared error that acts as noise independent of the field; the rest is
#: what the quantiser left out, which no weight can bring back. Best of 1, 1/2, 1/4 on turbulence.
_INDEPENDENT = 0.25
#: Pull towards plain linear interpolation, as a part of the mean energy: it only matters for
#: frequencies that hardly occur in the training data, and keeps weights bounded without noise.
_RIDGE = 1e-5
_TINY = 1e-12


@dataclass
class Wiener:
    """Second moments of the coefficients of a block, the same forwards and backwards in time.

    Attributes
    ----------
    covariance : float32 [256, n_frame, n_frame]
        Mean product of a coefficient at two frames.
    """

    covariance: np.ndarray

    @property
    def energy(self) -> np.ndarray:
        """Mean square of every coefficient, float64 ``[256]``."""
        return np.trace(self.covariance.astype(np.float64), axis1=1, axis2=2) / len(
            self.covariance[0]
        )

    def posterior(self, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of known frames for every missing one, and what error they leave.

        Parameters
        ----------
        noise : float [T]
            Standard deviation of each frame's error, ``inf`` where it is missing.

        Returns
        -------
        weights : float32 [256, missing, known]
        variance : float32 [256, missing]

        Raises
        ------
        ModelError
            If there are more frames than in a block of the training, or none is known.
        """
        noise = np.asarray(noise, np.float64)
        known, missing = np.flatnonzero(np.isfinite(noise)), np.flatnonzero(~np.isfinite(noise))
        length = self.covariance.shape[1]
        if len(noise) > length:
            raise ModelError(f"this model fills in frames of up to {length}, not {len(noise)}")
        if not len(known):
            raise ModelError(f"none of {len(noise)} frames in a row is known; give keyframes")
        moments = self.covariance.astype(np.float64)
        inner = moments[:, known[:, None], known]
        cross = moments[:, known[:, None], missing]
        ridge = (_RIDGE * self.energy + _TINY)[:, None, None]
        linear = linear_weights(known, missing).T
        inner = inner + (ridge + _INDEPENDENT * noise[known] ** 2) * np.eye(len(known))
        weights = np.linalg.solve(inner, cross + ridge * linear)
        left = moments[:, missing, missing] - (weights * cross).sum(1)
        return weights.transpose(0, 2, 1).astype(np.float32), np.maximum(left, _TINY).astype(
            np.float32
        )

    def fill(self, cells: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cells ``[T, 256, h, w]`` with the missing frames estimated from known ones around them.

        Returns
        -------
        cells : float32 [T, 256, h, w]
        variance : float32 [T, 256]
            What error the estimates of missing frames leave, 0 elsewhere.
        """
        out = np.array(cells, np.float32)
        variance = np.zeros(cells.shape[:2], np.float32)
        for own, window in _windows(len(noise), self.covariance.shape[1]):
            levels = noise[window]
            wanted = np.flatnonzero(~np.isfinite(noise[own])) + own.start
            if not len(wanted):
                continue
            weights, left = self.posterior(levels)
            row = np.searchsorted(np.flatnonzero(~np.isfinite(levels)), wanted - window.start)
            known = cells[window][np.isfinite(levels)]
            stacked = known.transpose(1, 0, 2, 3).reshape(FREQUENCIES, len(known), -1)
            estimate = np.matmul(weights[:, row], stacked)
            estimate = estimate.reshape(FREQUENCIES, len(row), *cells.shape[2:])
            out[wanted] = estimate.transpose(1, 0, 2, 3)
            variance[wanted] = left[:, row].T
        return out, variance


def _windows(frames: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Runs of frames, each with the window of at most `length` frames around it."""
    if frames <= length:
        yield slice(0, frames), slice(0, frames)
        return
    run = max(1, length // 2)
    for start in range(0, frames, run):
        first = min(max(0, start - (length - run) // 2), frames - length)
        yield slice(start, min(start + run, frames)), slice(first, first + length)


def linear_weights(known: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Linear interpolation between the nearest known frames ``[missing, known]``, flat beyond."""
    hats = np.eye(len(known))
    return np.stack([np.interp(missing, known, hat) for hat in hats], axis=1)


class WienerFit:
    """Accumulates the second moments of training blocks.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sum = np.zeros((FREQUENCIES, layout.n_frame, layout.n_frame))
        self.count = 0

    def add(self, block: np.ndarray) -> None:
        """Add a true block ``[n_frame, H, W]``, which counts as much run backwards."""
        cells = self.layout.cells(block).astype(np.float64)
        x = cells.transpose(1, 0, 2, 3).reshape(FREQUENCIES, len(block), -1)
        moments = x @ x.transpose(0, 2, 1)
        self.sum += (moments + moments[:, ::-1, ::-1]) / 2
        self.count += x.shape[2]

    def solve(self) -> Wiener:
        """The mean over all that was added."""
        return Wiener((self.sum / max(1, self.count)).astype(np.float32))
