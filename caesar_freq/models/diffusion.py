"""Diffusion of the correction to a linear interpolation: v-prediction, deterministic sampler.

Noise level ``x_t = cos(pi t / 2) x_0 + sin(pi t / 2) e`` for t in 0..1. The network predicts
``v = cos e - sin x_0`` (Salimans & Ho 2022, arXiv:2202.00512): predicting the noise itself fails
here, since near t = 1 it says nothing about a correction that is small against the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

#: Seed of the noise from which every prediction starts.
SEED = 20260
#: Network at a noise level: ``(x_t, t [N]) -> v``.
Velocity = Callable[[Tensor, Tensor], Tensor]


def levels(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitude at times `t` ``[N]``, shaped to multiply ``[N, C, T, h, w]``."""
    angle = (math.pi / 2 * t)[:, None, None, None, None]
    return torch.cos(angle), torch.sin(angle)


def noisy(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """`x0` at noise level `t` ``[N]``."""
    signal, sigma = levels(t)
    return signal * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What the network should answer for `noisy`."""
    signal, sigma = levels(t)
    return signal * noise - sigma * x0


def implied_velocity(x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """The velocity at `x` that a prediction `x0` amounts to."""
    signal, sigma = levels(t)
    return (signal * x - x0) / sigma


def implied_clean(x: Tensor, reached: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The x_0 for which one deterministic step takes `x` at level `t` to `reached` at `s`."""
    signal_t, sigma_t = levels(t)
    signal_s, sigma_s = levels(s)
    ratio = sigma_s / sigma_t
    return (reached - ratio * x) / (signal_s - ratio * signal_t)


def ddim_step(network: Velocity, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Deterministic step from level `t` to the lower level `s` (Song et al. 2021, eta = 0)."""
    v = network(x, t)
    signal, sigma = levels(t)
    x0, noise = signal * x - sigma * v, sigma * x + signal * v
    return noisy(x0, noise, s)


def start_noise(shape: tuple[int, ...], seed: int = SEED) -> Tensor:
    """Noise drawn on the CPU, so that every device starts from the same; equal for every item."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape[1:], generator=generator).expand(shape)


@torch.no_grad()
def sample(network: Velocity, noise: Tensor, steps: int) -> Tensor:
    """x_0 from `noise` in `steps` equal deterministic steps."""
    x = noise
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    for t, s in zip(times[:-1], times[1:], strict=True):
        x = ddim_step(network, x, t.expand(len(x)), s.expand(len(x)))
    return x
