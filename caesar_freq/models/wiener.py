"""Linear interpolation between keyframes, fitted for every frequency and step: the baseline.

Every missing frame's coefficient is a linear combination of the same coefficient in all decoded
keyframes (a Wiener filter). Weights depend on the quantisation step, as coarse keyframes deserve
less trust; between the steps that were fitted they are interpolated in the logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caesar_freq.models.layout import FREQUENCIES, Layout

#: Normalised quantisation steps (of the residual) at which weights are fitted: the range in which
#: generation was measured to pay (NRMSE 5e-2 to 2e-4), and some more.
STEPS = tuple(float(s) for s in np.geomspace(5e-4, 0.4, 7))
#: Pull towards plain linear interpolation, as a part of the mean energy of the keyframes. It only
#: matters for frequencies that hardly occur in the training data.
_RIDGE = 1e-4


@dataclass
class Wiener:
    """Fitted weights and the scales that the networks work in.

    Attributes
    ----------
    weights : float32 [steps, 256, missing, keyframes]
    latent_scale : float32 [channels]
        RMS of each latent channel.
    correction_scale : float32 [steps, channels]
        RMS of what the interpolation leaves of each latent channel: the unit of the correction.
    """

    weights: np.ndarray
    latent_scale: np.ndarray
    correction_scale: np.ndarray

    def at(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights ``[256, missing, keyframes]`` and correction scale ``[channels]`` at `step`."""
        place = float(np.interp(np.log(step), np.log(STEPS), np.arange(len(STEPS))))
        low = min(int(place), len(STEPS) - 2)
        part = np.float32(place - low)
        weights = (1 - part) * self.weights[low] + part * self.weights[low + 1]
        scale = (1 - part) * self.correction_scale[low] + part * self.correction_scale[low + 1]
        return weights, scale

    def interpolate(self, keys: np.ndarray, step: float) -> np.ndarray:
        """Missing frames' cells ``[N, M, 256, h, w]`` from the keyframes' ``[N, K, 256, h, w]``."""
        weights, _ = self.at(step)
        n, n_keys, _, rows, columns = keys.shape
        stacked = keys.transpose(2, 1, 0, 3, 4).reshape(FREQUENCIES, n_keys, -1)
        missing = np.matmul(weights, stacked).reshape(FREQUENCIES, -1, n, rows, columns)
        return np.ascontiguousarray(missing.transpose(2, 1, 0, 3, 4), np.float32)


class WienerFit:
    """Accumulates normal equations over training blocks and solves them.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        n_keys, n_missing, n = len(layout.keyframes), len(layout.missing), len(STEPS)
        self.layout = layout
        self.gram = np.zeros((n, FREQUENCIES, n_keys, n_keys))
        self.cross = np.zeros((n, FREQUENCIES, n_keys, n_missing))
        self.energy = np.zeros((n, FREQUENCIES, n_missing))
        self.count = np.zeros(n)

    def add(self, index: int, keyframes: np.ndarray, missing: np.ndarray) -> None:
        """Add decoded keyframes ``[K, H, W]`` at ``STEPS[index]`` and the true missing frames."""
        k = self.layout.cells(keyframes).astype(np.float64)
        m = self.layout.cells(missing).astype(np.float64)
        k = k.transpose(1, 0, 2, 3).reshape(FREQUENCIES, len(k), -1)
        m = m.transpose(1, 0, 2, 3).reshape(FREQUENCIES, len(m), -1)
        self.gram[index] += k @ k.transpose(0, 2, 1)
        self.cross[index] += k @ m.transpose(0, 2, 1)
        self.energy[index] += (m * m).sum(2)
        self.count[index] += k.shape[2]

    def solve(self) -> Wiener:
        """Ridge solution for every frequency and step, drawn to linear interpolation."""
        n_keys = self.gram.shape[2]
        mean_energy = np.trace(self.gram, axis1=2, axis2=3) / n_keys
        ridge = (_RIDGE * mean_energy + 1e-12)[..., None, None]
        linear = self.layout.linear_weights().T
        weights = np.linalg.solve(self.gram + ridge * np.eye(n_keys), self.cross + ridge * linear)
        left = self.energy - 2 * (weights * self.cross).sum(2)
        left += np.einsum("sfkm,sfkl,sflm->sfm", weights, self.gram, weights)
        c = self.layout.channels
        scale = np.sqrt(np.maximum(left[:, :c].mean(2) / self.count[:, None], 1e-12))
        latent = np.sqrt(np.maximum(self.energy[0, :c].mean(1) / self.count[0], 1e-12))
        return Wiener(
            weights.transpose(0, 1, 3, 2).astype(np.float32),
            latent.astype(np.float32),
            scale.astype(np.float32),
        )
