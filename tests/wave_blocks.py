"""Blocks of travelling waves, and the linear baseline fitted to them."""

from __future__ import annotations

import numpy as np

from caesar_freq.models.layout import Layout
from caesar_freq.models.wiener import WienerFit

LAYOUT = Layout(n_frame=7, interpo_rate=3, channels=8)
KEYS, MISSING = list(LAYOUT.keyframes), list(LAYOUT.missing)


def waves(n=6, frames=7, height=33, width=20, seed=0):
    """Blocks of travelling waves ``[n, frames, height, width]``."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[:frames, :height, :width]
    out = np.zeros((n, frames, height, width), np.float32)
    for block in out:
        for _ in range(4):
            ky, kx, speed, phase = rng.uniform((-0.6, -0.6, -1.0, 0), (0.6, 0.6, 1.0, 6.3))
            block += np.sin(ky * y + kx * x + speed * t + phase) / 8
    return out


def fitted(layout=LAYOUT, **options):
    fit = WienerFit(layout)
    for block in waves(**options):
        fit.add(block)
    return fit.solve()


def levels(n=1, noise=0.005, missing=MISSING, frames=7):
    """Noise of decoded frames, and of missing ones."""
    out = np.full((n, frames), noise, np.float32)
    out[:, list(missing)] = np.inf
    return out
