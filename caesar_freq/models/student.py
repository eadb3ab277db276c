"""One-step student: a motion-aware U-Net that cleans decoded frames and fills in missing ones.

Moving structures cannot be followed frequency by frequency, so the student works on the frames
themselves, one target at a time. It sees the target as far as it is known (decoded, or the best
linear estimate where it is missing), the two nearest known frames on either side, how noisy they
are and how far away. It estimates where each of the two nearest has to be fetched from (backward
warping), moves the target towards what it fetched and adds a residual. Cleaning and filling in are
the same computation at different noise levels, for keyframes at any distance.

Every target is seen in units of its surroundings' standard deviation: the network never learns
what the data's unit is. What is done to a target is in units of its uncertainty, so that cleaning
and filling in teach each other at equal strength. What differs from a decoded target by far more
than its noise is no better knowledge of it: at a fine step the network can only do little. While
it is distilled in several steps, it is also given a noisy correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Largest displacement that a unit output of the network stands for, in pixels.
_FLOW_UNIT = 4.0
#: Standard deviation below which surroundings count as constant (normalised values have range 1).
_FLAT = 1e-6
#: Frames around a target: two known ones before it and two after it.
_AROUND = 4
#: A neighbour moves a decoded target by no more than this many standard deviations of its noise.
_REACH = 3.0
#: Numbers of the embedding: diffusion time, step, noise and distances.
_FACTS = 16


class ResBlock2D(nn.Module):
    """Two convolutions with scale and shift from the embedding."""

    def __init__(self, inner: int, outer: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.SiLU(), _conv(inner, outer))
        self.modulate = nn.Linear(embedding, 2 * outer)
        self.second = nn.Sequential(nn.SiLU(), _conv(outer, outer))
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        with torch.no_grad():  # without normalisation, depth must not add up at the start
            self.second[-1].weight.mul_(0.3)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Feature maps ``[N, C, H, W]`` and embedding ``[N, E]``."""
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        return self.skip(x) + self.second(self.first(x) * (1 + scale) + shift)


@dataclass
class Windows:
    """Targets with the known frames around them.

    Attributes
    ----------
    own : Tensor [G, H, W]
        The target decoded or, where it is missing, estimated.
    around : Tensor [G, 4, H, W]
        Known frames: second and next before, next and second after. At the ends of a block the
        nearest that there is stands in.
    noise : Tensor [G, 5]
        Of `own` and of `around`; ``inf`` for a missing target.
    distance : Tensor [G, 4]
        Frames from the target to `around`, negative before it.
    """

    own: Tensor
    around: Tensor
    noise: Tensor
    distance: Tensor


def windows(frames: Tensor, noise: Tensor, targets: Tensor) -> Windows:
    """`Windows` of the frames `targets` int64 ``[N, G]`` of blocks ``[N, T, H, W]``.

    The G targets of an item follow each other in the result.
    """
    n, length = noise.shape
    time = torch.arange(length, device=noise.device)
    known = torch.isfinite(noise)[:, None]
    offset = time - targets[..., None]  # [N, G, T]
    far = 2 * length
    before = torch.where(known & (offset < 0), offset, -far)
    after = torch.where(known & (offset > 0), offset, far)
    nearest = torch.where(known, offset.abs(), far).argmin(2)
    two_before = before.topk(min(2, length), 2)
    two_after = after.topk(min(2, length), 2, largest=False)

    def pick(found, place: int) -> Tensor:
        """Frame number of a neighbour; of the nearer one, or the nearest, where there is none."""
        place = min(place, length - 1)
        instead = nearest if place == 0 else pick(found, 0)
        return torch.where(found.values[..., place].abs() < far, found.indices[..., place], instead)

    index = torch.stack([pick(two_before, 1), pick(two_before, 0), pick(two_after, 0),
                         pick(two_after, 1)], 2)  # fmt: skip
    item = torch.arange(n, device=noise.device)[:, None]
    levels = torch.cat([noise[item, targets][..., None], noise[item[..., None], index]], 2)
    return Windows(
        frames[item, targets].flatten(0, 1),
        frames[item[..., None], index].flatten(0, 1),
        levels.flatten(0, 1),
        (index - targets[..., None]).flatten(0, 1).float(),
    )


class MotionStudent(nn.Module):
    """Best estimates of frames in one step.

    Parameters
    ----------
    base_channels : int
        Channels of the finest level.
    channel_mults : sequence of int
        Channels of the levels in units of `base_channels`; each is half as fine as the one before.
    num_res_blocks : int
        Residual blocks of each level on the way down.
    patch : int
        Pixels that form one site of the finest level, along each axis.
    """

    def __init__(
        self, base_channels: int = 64, channel_mults: Sequence[int] = (1, 2, 4),
        num_res_blocks: int = 2, patch: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch = patch
        widths = [base_channels * m for m in channel_mults]
        self.multiple = patch << (len(widths) - 1)
        size = 4 * base_channels
        self.embed = nn.Sequential(nn.Linear(_FACTS, size), nn.SiLU(), nn.Linear(size, size))
        # target, noisy correction, neighbours; in units of noise: fine structure and differences
        self.inlet = _conv((3 + 2 * _AROUND) * patch**2, base_channels)
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
        # 2 displacements, a weight of each neighbour, a residual for every pixel of a patch
        self.outlet = nn.Sequential(nn.SiLU(), _conv(base_channels, 4 + _AROUND + patch**2))
        nn.init.zeros_(self.outlet[-1].weight)
        nn.init.zeros_(self.outlet[-1].bias)

    def forward(
        self, frames: Tensor, noise: Tensor, log_step: Tensor, targets: Tensor,
        noisy: Tensor | None = None, t: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Estimates of the frames `targets`, ``[N, G, H, W]``.

        Parameters
        ----------
        frames : Tensor [N, T, H, W]
            Decoded, or the best linear estimate where a frame is missing.
        noise : Tensor [N, T]
            Standard deviation of each frame's error, ``inf`` for a missing one.
        log_step : Tensor [N]
            log2 of the normalised quantisation step.
        targets : Tensor [N, G], int64
            Frames wanted.
        noisy : Tensor [N, G, H, W], optional
            Correction to `frames` at noise level `t`; nothing for one step.
        t : Tensor [N], optional
            Noise level; 1, where nothing is known of the correction, for one step.
        """
        n, wanted = targets.shape
        given = windows(frames, noise, targets)
        t = torch.ones_like(log_step) if t is None else t
        noisy = torch.zeros_like(given.own) if noisy is None else noisy.flatten(0, 1)
        out = self._estimate(given, log_step.repeat_interleave(wanted), noisy,
                             t.repeat_interleave(wanted))  # fmt: skip
        return out.unflatten(0, (n, wanted))

    def _estimate(self, given: Windows, log_step: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        own, around = given.own[:, None], given.around
        height, width = own.shape[-2:]
        mean = around.mean((1, 2, 3), keepdim=True)
        unit = around.std((1, 2, 3), keepdim=True, unbiased=False) + _FLAT
        own, around, noisy = (own - mean) / unit, (around - mean) / unit, noisy[:, None] / unit
        noise = given.noise / unit.flatten()[:, None]
        missing = torch.isinf(noise[:, 0])
        amplitude = _uncertainty(around, noise)[:, None, None, None]
        fine = torch.asinh(torch.cat([own - _blurred(own), around - own], 1) / amplitude)
        x = _pad(torch.cat([own, noisy, around, fine], 1), self.multiple)
        facts = _facts(t, log_step - torch.log2(unit.flatten()), noise, given.distance)
        y = self._unet(functional.pixel_unshuffle(x, self.patch), self.embed(facts)).float()
        flow = self._upsample(y[:, :4], height, width) * _FLOW_UNIT
        weights = self._upsample(y[:, 4 : 4 + _AROUND], height, width)
        weights = weights + _start_weights(missing, given.distance)[:, :, None, None]
        residual = functional.pixel_shuffle(y[:, 4 + _AROUND :], self.patch)
        fetched = torch.cat([
            around[:, :1], _warp(around[:, 1], flow[:, :2]), _warp(around[:, 2], flow[:, 2:]),
            around[:, 3:],
        ], 1)  # fmt: skip
        towards = fetched - own
        reach = _REACH * amplitude
        towards = torch.where(missing[:, None, None, None], towards,
                              reach * torch.tanh(towards / reach))  # fmt: skip
        out = own + (weights * towards).sum(1, keepdim=True)
        out = out + amplitude * residual[..., :height, :width]
        return (out * unit + mean)[:, 0]

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

    def _upsample(self, x: Tensor, height: int, width: int) -> Tensor:
        """Maps ``[G, C, h, w]`` of patches to pixels, cropped."""
        grown = functional.interpolate(
            x, scale_factor=self.patch, mode="bilinear", align_corners=False
        )
        return grown[..., :height, :width]


def _uncertainty(around: Tensor, noise: Tensor) -> Tensor:
    """Rough size of a target's error, ``[G]``: its noise, or what its neighbours differ by."""
    half = (around[:, 1] - around[:, 2]).square().mean((1, 2)) / 4
    between = torch.sqrt(half + noise[:, 2:4].square().mean(1))
    return torch.where(torch.isinf(noise[:, 0]), between, noise[:, 0]).clamp(1e-6, 1.0)


def _facts(t: Tensor, log_step: Tensor, noise: Tensor, distance: Tensor) -> Tensor:
    """What the embedding is made of, all of order 1, ``[G, 16]``."""
    angle = math.pi / 2 * t
    known = torch.isfinite(noise)
    level = torch.where(known, torch.log2(noise.clamp(1e-6, 1.0)) / 4 + 1, 0.0)
    columns = [
        t, torch.sin(angle), torch.cos(angle), log_step / 4, (log_step / 4) ** 2,
        known[:, 0].float(), level[:, 0] ** 2, *level.unbind(1), *(distance / 4).unbind(1),
    ]  # fmt: skip
    return torch.stack(columns, 1)


def _start_weights(missing: Tensor, distance: Tensor) -> Tensor:
    """Weights of the neighbours before training, ``[G, 4]``.

    A decoded frame is kept as it is; a missing one is moved half-way from the linear estimate to
    the plain interpolation of its neighbours.
    """
    before, after = -distance[:, 1], distance[:, 2]
    inside = (before > 0) & (after > 0)
    late = torch.where(inside, before / (before + after).clamp(min=1e-6), 0.5)
    part = torch.where(missing, 0.5, 0.0)
    zero = torch.zeros_like(part)
    return torch.stack([zero, part * (1 - late), part * late, zero], 1)


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride, padding=1, padding_mode="replicate")


def _blurred(x: Tensor) -> Tensor:
    """3x3 means of frames ``[G, 1, H, W]``."""
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _pad(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    return functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Fetch `frame` ``[G, H, W]`` at positions displaced by `flow` ``[G, 2, H, W]``, as one channel."""
    height, width = frame.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=frame.device), torch.arange(width, device=frame.device),
        indexing="ij",
    )  # fmt: skip
    grid = torch.stack([
        (2 * (x + flow[:, 0]) + 1) / width - 1,
        (2 * (y + flow[:, 1]) + 1) / height - 1,
    ], -1)  # fmt: skip
    return functional.grid_sample(
        frame[:, None].float(), grid.float(), mode="bicubic", padding_mode="border",
        align_corners=False,
    )  # fmt: skip
