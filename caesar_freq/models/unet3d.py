"""Space-time U-Net over latents ``[N, C, T, h, w]``, the network of the teacher.

Convolutions are factorised into space and time (as in Ho et al. 2022, arXiv:2204.03458); only
space is down- and upsampled, so any number of frames fits. Frames of any size fit too: latents are
continued by their edge to a multiple of the coarsest level and cropped afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResBlock(nn.Module):
    """Spatial and temporal convolution with a shift from the embedding."""

    def __init__(self, inner: int, outer: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(inner), nn.SiLU(), _space(inner, outer))
        self.shift = nn.Linear(embedding, outer)
        self.second = nn.Sequential(_norm(outer), nn.SiLU(), _time(outer))
        self.skip = nn.Conv3d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Latents and embedding ``[N, E]`` to latents of `outer` channels."""
        h = self.first(x) + self.shift(embedding)[:, :, None, None, None]
        return self.skip(x) + self.second(h)


class Unet3D(nn.Module):
    """U-Net that predicts the correction of decoded and of linearly estimated frames.

    Parameters
    ----------
    dim : int
        Channels of the finest level.
    dim_mults : sequence of int
        Channels of the levels in units of `dim`.
    channels : int
        Latent channels C.
    res_blocks : int
        Residual blocks of each level on the way down.

    Notes
    -----
    Input channels are the noisy correction (C), the latents to correct (C) and two maps of each
    frame's noise level: whether it is known at all, and how large it is against the step. The
    embedding carries diffusion time and quantisation step.
    """

    def __init__(
        self, dim: int = 64, dim_mults: Sequence[int] = (1, 2, 4, 8), channels: int = 32,
        res_blocks: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = [dim * m for m in dim_mults]
        self.multiple = 1 << (len(widths) - 1)
        self.embed = nn.Sequential(nn.Linear(6, 4 * dim), nn.SiLU(), nn.Linear(4 * dim, 4 * dim))
        self.inlet = _space(2 * channels + 2, dim)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = dim
        for level, width in enumerate(widths):
            blocks = [ResBlock(before if i == 0 else width, width, 4 * dim)
                      for i in range(res_blocks)]  # fmt: skip
            coarser = level < len(widths) - 1
            shrink = nn.Conv3d(width, width, (1, 2, 2), (1, 2, 2)) if coarser else nn.Identity()
            self.down.append(nn.ModuleList([*blocks, shrink]))
            before = width
        self.middle = ResBlock(before, before, 4 * dim)
        for width, finer in zip(widths[:0:-1], widths[-2::-1], strict=True):
            grow = nn.ConvTranspose3d(width, finer, (1, 2, 2), (1, 2, 2))
            self.up.append(nn.ModuleList([grow, ResBlock(2 * finer, finer, 4 * dim)]))
        self.outlet = nn.Sequential(_norm(dim), nn.SiLU(), _space(dim, channels))
        # start as the linear estimate: no correction
        nn.init.zeros_(self.outlet[-1].weight)
        nn.init.zeros_(self.outlet[-1].bias)

    def forward(self, x: Tensor, latents: Tensor, noise: Tensor, t: Tensor, log_step: Tensor):
        """Network output ``[N, C, T, h, w]``.

        Parameters
        ----------
        x, latents : Tensor [N, C, T, h, w]
            Noisy correction and scaled latents of the decoded or estimated frames.
        noise : Tensor [N, T]
            Standard deviation of each frame's error, ``inf`` for a missing one.
        t, log_step : Tensor [N]
            Diffusion time in 0..1 and log2 of the normalised step.
        """
        height, width = x.shape[-2:]
        maps = _levels(noise, log_step).to(x.dtype)[..., None, None]
        maps = maps.expand(-1, -1, -1, height, width)
        h = _pad(torch.cat([x, latents, maps], 1), self.multiple)
        angles = math.pi / 2 * t
        embedding = self.embed(torch.stack(
            [t, torch.sin(angles), torch.cos(angles), torch.sin(4 * angles), log_step / 8,
             (log_step / 8) ** 2], 1).to(x.dtype))  # fmt: skip
        h = self.inlet(h)
        skips = []
        for *blocks, shrink in self.down:
            for block in blocks:
                h = block(h, embedding)
            skips.append(h)
            h = shrink(h)
        h = self.middle(h, embedding)
        for (grow, block), skip in zip(self.up, skips[-2::-1], strict=True):
            h = block(torch.cat([grow(h), skip], 1), embedding)
        return self.outlet(h)[..., :height, :width]


def _levels(noise: Tensor, log_step: Tensor) -> Tensor:
    """Known or not, and log2 of the noise in steps (0 for a missing frame), ``[N, 2, T]``."""
    known = torch.isfinite(noise)
    level = torch.log2(noise.clamp(1e-7, 1.0)) - log_step[:, None]
    return torch.stack([known.to(level.dtype), torch.where(known, level / 4, 0.0)], 1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _space(inner: int, outer: int) -> nn.Conv3d:
    return nn.Conv3d(inner, outer, (1, 3, 3), padding=(0, 1, 1))


def _time(channels: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))


def _pad(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return x
    n, c, t = x.shape[:3]
    flat = functional.pad(x.reshape(n, c * t, height, width), (0, right, 0, bottom), "replicate")
    return flat.reshape(n, c, t, height + bottom, width + right)
