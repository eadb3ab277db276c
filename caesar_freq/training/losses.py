"""Losses on latents ``[N, C, T, h, w]``: plain, multi-scale and spectral."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Weights of the optional terms, small against the squared error that bytes depend on.
MULTI_SCALE_WEIGHT, SPECTRUM_WEIGHT = 0.25, 0.05


def squared_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``weight * (a - b)**2`` over all elements; `weight` broadcasts."""
    return (weight * (a - b) ** 2).mean()


def multi_scale_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Squared error of 2x2 and 4x4 means (documented as perceptual loss): large patterns count."""
    total = a.new_zeros(())
    for size in (2, 4):
        if min(a.shape[-2:]) >= size:
            pooled = (functional.avg_pool3d(z * weight.sqrt(), (1, size, size)) for z in (a, b))
            x, y = pooled
            total = total + ((x - y) ** 2).mean()
    return total


def spectrum_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Squared difference of spatial Fourier amplitudes: energy at every scale counts."""
    x, y = (torch.fft.rfft2((z * weight.sqrt()).float(), norm="ortho").abs() for z in (a, b))
    return ((x - y) ** 2).mean()
