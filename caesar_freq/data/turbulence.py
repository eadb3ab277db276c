"""Simulated data source: forced two-dimensional turbulence, pseudo-spectral.

Vorticity ``w`` on the doubly periodic square ``[0, 2 pi)^2``::

    dw/dt + u dw/dx + v dw/dy = nu lap(w) - drag w + force_amplitude cos(force_wavenumber y)
    lap(psi) = -w,  u = dpsi/dy,  v = -dpsi/dx

Derivatives in Fourier space, products in real space with 2/3 dealiasing (Orszag 1971), Heun's
method in time with the linear terms integrated exactly (integrating factor). Dealiasing leaves the
highest third of the wavenumbers empty: any high ratio on such fields, ours too, is in part empty
spectrum.

With the defaults the flow forgets its initial state within the spin-up: the root-mean-square
vorticity is stationary from about 5 time units on, and the enstrophy spectrum falls by two decades
to the last wavenumber that is kept, so it is resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from caesar_freq.errors import ConfigError


@dataclass(frozen=True)
class Flow:
    """Parameters of a simulation, dimensionless.

    Attributes
    ----------
    size : int
        Grid points along a side.
    frames, stride : int
        Snapshots taken, and solver steps between them.
    spin_up : int
        Steps before the first snapshot; the default is 6 time units, about 5 eddy turnovers.
    time_step, viscosity, drag, force_amplitude : float
        See the equation; a finer grid resolves a smaller viscosity and needs a shorter step.
    force_wavenumber : int
    initial_wavenumber : int
        Where the initial vorticity is. In a box twice as wide (twice the `size` and both wavenumbers,
        a quarter of the viscosity) the flow is the same but for its place.
    """

    size: int = 128
    frames: int = 64
    stride: int = 20
    spin_up: int = 1500
    time_step: float = 4e-3
    viscosity: float = 2e-3
    drag: float = 0.05
    force_wavenumber: int = 8
    force_amplitude: float = 8.0
    initial_wavenumber: int = 6


def simulate(flow: Flow, seed: int) -> np.ndarray:
    """Vorticity snapshots of one realisation.

    Parameters
    ----------
    flow : Flow
    seed : int
        Seeds the initial vorticity, random phases around its wavenumber.

    Returns
    -------
    float32 array [frames, size, size]

    Raises
    ------
    ConfigError
        If the time step is too long for this flow, so that the solution blows up.
    """
    n = flow.size
    kx = scipy.fft.fftfreq(n, 1 / n)[:, None]
    ky = scipy.fft.rfftfreq(n, 1 / n)[None, :]
    k2 = kx**2 + ky**2
    inverse_k2 = np.where(k2 == 0, 0.0, 1 / np.where(k2 == 0, 1, k2))
    kept = (np.abs(kx) < n / 3) & (ky < n / 3)
    decay = np.exp(-flow.time_step * (flow.viscosity * k2 + flow.drag))
    y = np.arange(n) * 2 * np.pi / n
    force = flow.force_amplitude * np.cos(flow.force_wavenumber * y)[None, :] * np.ones((n, 1))
    force_hat = scipy.fft.rfft2(force)

    def tendency(w_hat: np.ndarray) -> np.ndarray:
        psi_hat = w_hat * inverse_k2
        u, v, wx, wy = (
            scipy.fft.irfft2(field, s=(n, n))
            for field in (1j * ky * psi_hat, -1j * kx * psi_hat, 1j * kx * w_hat, 1j * ky * w_hat)
        )
        return -scipy.fft.rfft2(u * wx + v * wy) * kept + force_hat

    noise = np.random.default_rng(seed).standard_normal((n, n))
    middle = flow.initial_wavenumber
    w_hat = scipy.fft.rfft2(noise) * np.exp(-(((np.sqrt(k2) - middle) / (middle / 2)) ** 2)) * kept
    w_hat *= 10 / np.std(scipy.fft.irfft2(w_hat, s=(n, n)))
    frames = np.empty((flow.frames, n, n), np.float32)
    for step in range(flow.spin_up + (flow.frames - 1) * flow.stride + 1):
        taken, between = divmod(step - flow.spin_up, flow.stride)
        if taken >= 0 and between == 0:
            frames[taken] = scipy.fft.irfft2(w_hat, s=(n, n))
        slope = tendency(w_hat)
        guess = (w_hat + flow.time_step * slope) * decay
        w_hat = (w_hat + flow.time_step / 2 * slope) * decay
        w_hat += flow.time_step / 2 * tendency(guess)
    if not np.isfinite(frames).all():
        raise ConfigError(f"the simulation is unstable with time_step {flow.time_step}; shorten it")
    return frames


def realisations(flow: Flow, seeds: Sequence[int]) -> np.ndarray:
    """One section a seed, float32 ``[1, seeds, frames, size, size]``."""
    return np.stack([simulate(flow, seed) for seed in seeds])[None]
