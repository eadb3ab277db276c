"""Linear interpolation between keyframes, fitted for every frequency and step: the baseline.

Every missing frame's coefficient is a linear combination of the same coefficient in all decoded
keyframes (a Wiener filter). Weights depend on the quantisation step, as coarse keyframes deserve
less trust; between the steps that were fitted they are interpolated in the logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Normalised steps at which weights are fitted.
STEPS = tuple(float(s) for s in np.geomspace(5e-4, 0.4, 7))
_RIDGE = 1e-3


@dataclass
class Wiener:
    """Fitted weights.

    Attributes
    ----------
    weights : float32 [steps, 256, missing, keyframes]
    latent_scale : float32 [channels]
        RMS of each latent channel: what the network divides by.
    correction_scale : float32 [steps, channels]
        RMS of what the interpolation leaves of each latent channel.
    """

    weights: np.ndarray
    latent_scale: np.ndarray
    correction_scale: np.ndarray

    def at(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights ``[256, missing, keyframes]`` and correction scale ``[channels]`` at `step`."""
        place = np.interp(np.log(step), np.log(STEPS), np.arange(len(STEPS)))
        low = min(int(place), len(STEPS) - 2)
        part = np.float32(place - low)
        return tuple(
            (1 - part) * a[low] + part * a[low + 1] for a in (self.weights, self.correction_scale)
        )

    def interpolate(self, keys: np.ndarray, step: float) -> np.ndarray:
        """Missing frames' cells ``[N, M, 256, h, w]`` from the keyframes' ``[N, K, 256, h, w]``."""
        weights, _ = self.at(step)
        return np.einsum("fmk,nkfyx->nmfyx", weights, keys, optimize=True)


class WienerFit:
    """Accumulates normal equations over training blocks.

    Parameters
    ----------
    keyframes, missing : int
        Numbers of frames.
    channels : int
        Latent channels.
    """

    def __init__(self, keyframes: int, missing: int, channels: int) -> None:
        n = len(STEPS)
        self.gram = np.zeros((n, 256, keyframes, keyframes))
        self.cross = np.zeros((n, 256, keyframes, missing))
        self.energy = np.zeros((n, 256, missing))
        self.count = np.zeros(n)
        self.channels = channels

    def add(self, index: int, keys: np.ndarray, missing: np.ndarray) -> None:
        """Add cells of decoded keyframes and true missing frames at ``STEPS[index]``."""
        k = keys.astype(np.float64).transpose(2, 1, 0, 3, 4).reshape(256, keys.shape[1], -1)
        m = missing.astype(np.float64).transpose(2, 1, 0, 3, 4).reshape(256, missing.shape[1], -1)
        self.gram[index] += k @ k.transpose(0, 2, 1)
        self.cross[index] += k @ m.transpose(0, 2, 1)
        self.energy[index] += (m * m).sum(2)
        self.count[index] += k.shape[2]

    def solve(self) -> Wiener:
        """Ridge solution of every frequency and step."""
        n_keys = self.gram.shape[2]
        trace = np.trace(self.gram, axis1=2, axis2=3) / n_keys
        ridge = (_RIDGE * trace + 1e-12)[..., None, None] * np.eye(n_keys)
        weights = np.linalg.solve(self.gram + ridge, self.cross)
        left = self.energy - 2 * (weights * self.cross).sum(2)
        left += np.einsum("sfkm,sfkl,sflm->sfm", weights, self.gram, weights)
        c = self.channels
        scale = np.sqrt(np.maximum(left[:, :c].mean(2) / self.count[:, None], 1e-14))
        latent = np.sqrt(np.maximum(self.energy[0, :c].mean(1) / self.count[0], 1e-14))
        return Wiener(
            weights.transpose(0, 1, 3, 2).astype(np.float32),
            latent.astype(np.float32), scale.astype(np.float32),
        )  # fmt: skip
