"""One-step student: a motion-aware U-Net that fills the gaps between decoded keyframes.

Moving structures cannot be interpolated frequency by frequency, so the student works on the frames
themselves. For every missing frame it estimates where each of the two keyframes around it has to be
fetched from (backward warping), mixes the fetched keyframes with the linear interpolation and adds
a residual. On 2-D turbulence this halved the error that the best linear interpolation leaves,
where a network of the same size on latents gained nothing.

Every gap is seen in units of its own keyframes' standard deviation: the network never learns what
the data's unit is. While it is distilled in several steps, it is also given a noisy correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Pixels of a frame that form one site of the finest level, along each axis.
_PATCH = 2
#: Largest displacement that a unit output of the network stands for, in pixels.
_FLOW_UNIT = 4.0
#: Standard deviation below which a gap counts as constant (normalised values have range 1).
_FLAT = 1e-6


class ResBlock2D(nn.Module):
    """Two convolutions with scale and shift from the embedding."""

    def __init__(self, inner: int, outer: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.SiLU(), _conv(inner, outer))
        self.modulate = nn.Linear(embedding, 2 * outer)
        self.norm = nn.GroupNorm(math.gcd(8, outer), outer)
        self.second = nn.Sequential(nn.SiLU(), _conv(outer, outer))
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Feature maps ``[N, C, H, W]`` and embedding ``[N, E]``."""
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        return self.skip(x) + self.second(h)


class MotionStudent(nn.Module):
    """Frames between keyframes in one step.

    Parameters
    ----------
    base_channels : int
        Channels of the finest level.
    channel_mults : sequence of int
        Channels of the levels in units of `base_channels`; each is half as fine as the one before.
    num_res_blocks : int
        Residual blocks of each level on the way down.
    interpo_rate : int
        Distance of keyframes.
    """

    def __init__(
        self, base_channels: int = 64, channel_mults: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2, interpo_rate: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.between = interpo_rate - 1
        widths = [base_channels * m for m in channel_mults]
        self.multiple = _PATCH << (len(widths) - 1)
        size = 4 * base_channels
        self.embed = nn.Sequential(nn.Linear(5, size), nn.SiLU(), nn.Linear(size, size))
        inputs = 4 + 2 * self.between  # keyframes around the gap, interpolation, noisy correction
        self.inlet = _conv(inputs * _PATCH**2, base_channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = base_channels
        for level, width in enumerate(widths):
            shrink = _conv(before, width, stride=2) if level else nn.Identity()
            blocks = [ResBlock2D(width, width, size) for _ in range(num_res_blocks)]
            self.down.append(nn.ModuleList([shrink, *blocks]))
            before = width
        for width, finer in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.up.append(nn.ModuleList([nn.Conv2d(width, finer, 1),
                                          ResBlock2D(2 * finer, finer, size)]))  # fmt: skip
        # for each missing frame: 2 displacements, 5 weights, a residual for every pixel of a patch
        self.outputs = 4 + 5 + _PATCH**2
        self.outlet = nn.Sequential(nn.SiLU(), _conv(base_channels, self.between * self.outputs))
        nn.init.zeros_(self.outlet[-1].weight)
        nn.init.zeros_(self.outlet[-1].bias)
        into = torch.arange(1, interpo_rate) / interpo_rate
        zero = torch.zeros_like(into)
        # start half-way between the fitted and the plain linear interpolation
        start = torch.stack([zero + 0.5, 0.5 * (1 - into), 0.5 * into, zero, zero], 1)
        self.register_buffer("start_weights", start)

    def forward(
        self, keyframes: Tensor, base: Tensor, noisy: Tensor, t: Tensor, log_step: Tensor
    ) -> Tensor:
        """Missing frames ``[N, M, H, W]``.

        Parameters
        ----------
        keyframes : Tensor [N, K, H, W]
            Decoded.
        base, noisy : Tensor [N, M, H, W]
            Linear interpolation, and the correction to it at noise level `t` (0 for one step).
        t : Tensor [N]
            Noise level, 1 for one step.
        log_step : Tensor [N]
            log2 of the normalised quantisation step.
        """
        n, n_keys, height, width = keyframes.shape
        gaps = n_keys - 1
        index = torch.arange(gaps)[:, None] + torch.arange(-1, 3)
        around = keyframes[:, index.clamp(0, n_keys - 1)].flatten(0, 1)
        base = base.reshape(n * gaps, self.between, height, width)
        noisy = noisy.reshape(n * gaps, self.between, height, width)
        mean = around.mean((1, 2, 3), keepdim=True)
        unit = around.std((1, 2, 3), keepdim=True, unbiased=False) + _FLAT
        around, base, noisy = (around - mean) / unit, (base - mean) / unit, noisy / unit
        relative = log_step.repeat_interleave(gaps) - torch.log2(unit.flatten())
        level = t.repeat_interleave(gaps)
        out = self._fill(around, base, noisy, level, relative)
        return (out * unit + mean).reshape(n, gaps * self.between, height, width)

    def _fill(self, around, base, noisy, t, relative) -> Tensor:
        """Missing frames of gaps ``[G, between, H, W]``, all in the gap's units."""
        height, width = around.shape[-2:]
        x = _pad(torch.cat([around, base, noisy], 1), self.multiple)
        angle = math.pi / 2 * t
        embedding = self.embed(
            torch.stack(
                [t, torch.sin(angle), torch.cos(angle), relative / 4, (relative / 4) ** 2], 1
            )
        )
        y = self._unet(functional.pixel_unshuffle(x, _PATCH), embedding).float()
        y = y.unflatten(1, (self.between, self.outputs))
        flow = _upsample(y[:, :, :4], height, width) * _FLOW_UNIT
        weights = _upsample(y[:, :, 4:9], height, width) + self.start_weights[:, :, None, None]
        residual = functional.pixel_shuffle(y[:, :, 9:], _PATCH)[..., 0, :height, :width]
        frames = []
        for i in range(self.between):
            candidates = torch.stack([
                base[:, i], _warp(around[:, 1], flow[:, i, :2]), _warp(around[:, 2], flow[:, i, 2:]),
                around[:, 0], around[:, 3],
            ], 1)  # fmt: skip
            frames.append((weights[:, i] * candidates).sum(1))
        return torch.stack(frames, 1) + residual

    def _unet(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.inlet(x)
        skips = []
        for shrink, *blocks in self.down:
            h = shrink(h)
            for block in blocks:
                h = block(h, embedding)
            skips.append(h)
        for (narrow, block), skip in zip(self.up, skips[-2::-1], strict=True):
            grown = functional.interpolate(narrow(h), scale_factor=2, mode="nearest")
            h = block(torch.cat([grown, skip], 1), embedding)
        return self.outlet(h)


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride, padding=1, padding_mode="replicate")


def _pad(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    return functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _upsample(x: Tensor, height: int, width: int) -> Tensor:
    """Maps ``[G, between, C, h, w]`` of patches to pixels, cropped."""
    grown = functional.interpolate(
        x.flatten(0, 1), scale_factor=_PATCH, mode="bilinear", align_corners=False
    )
    return grown[..., :height, :width].unflatten(0, x.shape[:2])


def _warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Fetch `frame` ``[G, H, W]`` at positions displaced by `flow` ``[G, 2, H, W]`` (x, y)."""
    height, width = frame.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=frame.device), torch.arange(width, device=frame.device),
        indexing="ij",
    )  # fmt: skip
    grid = torch.stack([
        (2 * (x + flow[:, 0]) + 1) / width - 1,
        (2 * (y + flow[:, 1]) + 1) / height - 1,
    ], -1)  # fmt: skip
    warped = functional.grid_sample(
        frame[:, None].float(), grid.float(), mode="bicubic", padding_mode="border",
        align_corners=False,
    )  # fmt: skip
    return warped[:, 0]
