"""Losses on latents and on frames: plain, multi-scale and spectral."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Weights of the multi-scale and the spectral term by what the student is trained for: fewest
#: bytes at equal error, or frames with the energy of real ones at every scale.
OBJECTIVES = {"rate": (0.05, 0.01), "spectrum": (0.25, 1.0)}
_POOLS = (2, 4, 8)


def bits(frames: Tensor, truth: Tensor, start: Tensor, floor: Tensor) -> Tensor:
    """Half the logarithm of the error left, by which bits at equal quality go, mean over frames.

    Parameters
    ----------
    frames, truth, start : Tensor [N, M, H, W]
        Estimates, what they should be, and what there was before.
    floor : Tensor [N, M]
        Squared error below which nothing is gained: the residual is coded as coarsely as that.
    """
    left, before = (((z - truth) ** 2).mean((2, 3)) + floor for z in (frames, start))
    return 0.5 * torch.log(left / before).mean()


def squared_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``weight * (a - b)**2`` over all elements; `weight` broadcasts."""
    return (weight * (a - b) ** 2).mean()


def multi_scale_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Squared error of block means of frames ``[N, M, H, W]`` (documented as perceptual loss).

    Error in large patterns counts more than in fine ones. Errors of 2x2 to 8x8 means are summed;
    frames smaller than a block leave it out.
    """
    total = a.new_zeros(())
    for size in _POOLS:
        if min(a.shape[-2:]) >= size:
            total = total + squared_error(*(functional.avg_pool2d(z, size) for z in (a, b)), weight)
    return total


def spectrum_error(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Squared difference of the spatial Fourier amplitudes of frames ``[N, M, H, W]``.

    Energy at every scale counts, wherever it is: blurred frames are punished.
    """
    x, y = (torch.fft.rfft2(z.float(), norm="ortho").abs() for z in (a, b))
    return squared_error(x, y, weight)
