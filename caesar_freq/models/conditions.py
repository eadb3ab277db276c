"""What the networks are given: decoded frames, estimates of missing ones, noise levels, the step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from caesar_freq.models.layout import FREQUENCIES, Layout
from caesar_freq.models.wiener import Wiener

#: Range of normalised steps that networks are told: beyond it, they see its ends.
STEPS = (5e-4, 0.4)
#: Least unit of a correction relative to the field's, so that exact frames divide by no 0.
_LEAST = 1e-5


@dataclass
class Conditions:
    """Network inputs of a batch of blocks, and the way from corrections to frames.

    Attributes
    ----------
    layout : Layout
    frames : Tensor [N, T, H, W]
        Decoded; the best linear estimate where a frame is missing.
    noise : Tensor [N, T]
        Standard deviation of each frame's error, ``inf`` for a missing one.
    log_step : Tensor [N]
        log2 of the normalised quantisation step, inside `STEPS`.
    cells : float32 array [N, T, 256, h, w]
        `frames` as cells.
    latents : Tensor [N, C, T, h, w]
        Latents of `frames` in units of their RMS over training data.
    scale : float32 array [N, C, T]
        Unit of a correction: the noise of a decoded frame, the error that the linear estimate of a
        missing one is expected to have.
    """

    layout: Layout
    frames: Tensor
    noise: Tensor
    log_step: Tensor
    cells: np.ndarray
    latents: Tensor
    scale: np.ndarray

    def part(self, items: slice) -> Conditions:
        """The same for some items of the batch."""
        fields = ("frames", "noise", "log_step", "cells", "latents", "scale")
        return replace(self, **{name: getattr(self, name)[items] for name in fields})

    def correction_of(self, frames: np.ndarray) -> Tensor:
        """Scaled correction ``[N, C, T, h, w]`` that leads to the latents of `frames`."""
        c = self.layout.channels
        difference = self.layout.cells(frames)[:, :, :c] - self.cells[:, :, :c]
        scaled = difference.transpose(0, 2, 1, 3, 4) / self.scale[..., None, None]
        return torch.from_numpy(np.ascontiguousarray(scaled, np.float32)).to(self.latents.device)

    def latents_with(self, correction: Tensor) -> Tensor:
        """Latents ``[N, T, C, h, w]`` of `frames` plus the scaled `correction`."""
        cells = self.cells[:, :, : self.layout.channels] + self._unscaled(correction)
        return torch.from_numpy(cells).to(self.latents.device)

    def frames_with(self, correction: Tensor) -> np.ndarray:
        """Frames float32 ``[N, T, H, W]`` plus the scaled `correction`."""
        return self.frames.cpu().numpy() + self._rendered(correction)

    def render(self, correction: Tensor) -> Tensor:
        """The scaled `correction` alone as frames ``[N, T, H, W]``."""
        return torch.from_numpy(self._rendered(correction)).to(correction.device)

    def _unscaled(self, correction: Tensor) -> np.ndarray:
        scaled = correction.float().cpu().numpy() * self.scale[..., None, None]
        return scaled.transpose(0, 2, 1, 3, 4)

    def _rendered(self, correction: Tensor) -> np.ndarray:
        cells = np.zeros_like(self.cells)
        cells[:, :, : self.layout.channels] = self._unscaled(correction)
        return self.layout.frames(cells, *self.frames.shape[-2:]).astype(np.float32)


def log2_step(steps: np.ndarray | float) -> np.ndarray | float:
    """log2 of normalised steps, inside `STEPS`."""
    return np.log2(np.clip(steps, *STEPS))


def filled(layout: Layout, wiener: Wiener, frames: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Copy of `frames` ``[N, T, H, W]`` with the best linear estimate of the missing ones.

    Raises
    ------
    ModelError
        If there are too few keyframes.
    """
    return _estimated(layout, wiener, frames, noise)[0]


def _estimated(layout, wiener, frames, noise) -> tuple[np.ndarray, np.ndarray]:
    """Frames as of `filled` and the variance ``[N, T, 256]`` of the estimates."""
    out = np.array(frames, np.float32)
    variance = np.zeros((*out.shape[:2], FREQUENCIES), np.float32)
    for block, levels, left in zip(out, noise, variance, strict=True):
        missing = ~np.isfinite(levels)
        if missing.any():
            block[missing] = 0  # whatever was there, even no number
            cells, left[:] = wiener.fill(layout.cells(block), levels)
            block[missing] = layout.frames(cells[missing], *block.shape[-2:])
    return out, variance


def conditions(
    layout: Layout,
    wiener: Wiener,
    frames: np.ndarray,
    noise: np.ndarray,
    steps: np.ndarray | float,
    device: str | torch.device = "cpu",
) -> Conditions:
    """`Conditions` of decoded `frames` float32 ``[N, T, H, W]``.

    Parameters
    ----------
    noise : float32 [N, T]
        ``inf`` marks a missing frame, whose values do not matter.
    steps : float or float [N]
        Normalised quantisation step.

    Raises
    ------
    ModelError
        If there are too few keyframes.
    """
    noise = np.asarray(noise, np.float32)
    unit = np.sqrt(wiener.energy[: layout.channels]).astype(np.float32) + np.float32(1e-6)
    frames, variance = _estimated(layout, wiener, frames, noise)
    cells = layout.cells(frames).astype(np.float32)
    expected = np.sqrt(variance[:, :, : layout.channels]).transpose(0, 2, 1)
    known = np.isfinite(noise)[:, None]
    scale = np.where(known, np.where(known, noise[:, None], 0), expected)
    scale = np.maximum(scale, _LEAST * unit[:, None]).astype(np.float32)
    latents = cells[:, :, : layout.channels] / unit[:, None, None]
    log_step = np.broadcast_to(log2_step(steps), len(frames)).astype(np.float32)
    return Conditions(
        layout,
        torch.from_numpy(frames).to(device),
        torch.from_numpy(noise).to(device),
        torch.from_numpy(log_step).to(device),
        cells,
        torch.from_numpy(np.ascontiguousarray(latents.transpose(0, 2, 1, 3, 4))).to(device),
        scale,
    )
