"""What the networks are given: decoded keyframes, the linear interpolation, scales and the step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from caesar_freq.models.layout import Layout
from caesar_freq.models.wiener import STEPS, Wiener


@dataclass
class Conditions:
    """Network inputs of a batch of blocks that share one quantisation step.

    Attributes
    ----------
    layout : Layout
    keyframes : Tensor [N, K, H, W]
        Decoded.
    base_frames : Tensor [N, M, H, W]
        Linear interpolation of the missing frames, all frequencies.
    base_cells : float32 array [N, M, 256, h, w]
        The same as cells.
    latents : Tensor [N, C, T, h, w]
        Latents of keyframes and interpolated frames in units of their RMS.
    scale : float32 array [C]
        Unit of a correction.
    key_mask : Tensor [T]
        1 at keyframes, 0 elsewhere.
    step : float
        Normalised quantisation step of the residual.
    """

    layout: Layout
    keyframes: Tensor
    base_frames: Tensor
    base_cells: np.ndarray
    latents: Tensor
    scale: np.ndarray
    key_mask: Tensor
    step: float

    @property
    def log_step(self) -> Tensor:
        """log2 of the step ``[N]``, kept inside the range that training covers."""
        value = float(np.log2(np.clip(self.step, STEPS[0], STEPS[-1])))
        return torch.full((len(self.latents),), value, device=self.latents.device)

    def part(self, items: slice) -> Conditions:
        """The same for some items of the batch."""
        return replace(
            self,
            keyframes=self.keyframes[items],
            base_frames=self.base_frames[items],
            base_cells=self.base_cells[items],
            latents=self.latents[items],
        )

    @property
    def base_latents(self) -> Tensor:
        """Interpolated latents of the missing frames ``[N, M, C, h, w]``."""
        cells = self.base_cells[:, :, : self.layout.channels]
        return torch.from_numpy(cells).to(self.latents.device)

    def latents_with(self, correction: Tensor) -> Tensor:
        """Latents ``[N, M, C, h, w]`` of the missing frames: interpolation plus `correction`."""
        scaled = torch.from_numpy(self._unscaled(correction)).to(self.latents.device)
        return self.base_latents + scaled

    def correction_of(self, latents: np.ndarray | Tensor) -> Tensor:
        """Scaled correction ``[N, C, T, h, w]`` that leads to missing frames' `latents`.

        `latents` are ``[N, M, C, h, w]``; the correction of keyframes is 0.
        """
        if isinstance(latents, Tensor):
            latents = latents.cpu().numpy()
        c = self.layout.channels
        out = np.zeros((*self.latents.shape[:1], self.layout.n_frame, *latents.shape[2:]),
                       np.float32)  # fmt: skip
        out[:, list(self.layout.missing)] = (latents - self.base_cells[:, :, :c]) / self.scale[
            :, None, None
        ]
        out = np.ascontiguousarray(out.transpose(0, 2, 1, 3, 4))
        return torch.from_numpy(out).to(self.latents.device)

    def frames_with(self, correction: Tensor) -> np.ndarray:
        """Missing frames float32 ``[N, M, H, W]``: interpolation plus scaled `correction`."""
        cells = self.base_cells.copy()
        cells[:, :, : self.layout.channels] += self._unscaled(correction)
        return self._to_frames(cells)

    def render(self, correction: Tensor) -> Tensor:
        """The scaled `correction` alone as frames ``[N, M, H, W]``."""
        cells = np.zeros_like(self.base_cells)
        cells[:, :, : self.layout.channels] = self._unscaled(correction)
        return torch.from_numpy(self._to_frames(cells)).to(correction.device)

    def _unscaled(self, correction: Tensor) -> np.ndarray:
        missing = correction.float()[:, :, list(self.layout.missing)].cpu().numpy()
        return missing.transpose(0, 2, 1, 3, 4) * self.scale[:, None, None]

    def _to_frames(self, cells: np.ndarray) -> np.ndarray:
        return self.layout.frames(cells, *self.keyframes.shape[-2:]).astype(np.float32)


def conditions(
    layout: Layout,
    wiener: Wiener,
    keyframes: np.ndarray,
    step: float,
    device: str | torch.device = "cpu",
) -> Conditions:
    """`Conditions` from decoded keyframes float32 ``[N, K, H, W]`` at a normalised `step`."""
    key_cells = layout.cells(keyframes)
    base_cells = wiener.interpolate(key_cells, step)
    n, _, _, rows, columns = key_cells.shape
    c = layout.channels
    latents = np.empty((n, layout.n_frame, c, rows, columns), np.float32)
    latents[:, list(layout.keyframes)] = key_cells[:, :, :c]
    latents[:, list(layout.missing)] = base_cells[:, :, :c]
    latents /= wiener.latent_scale[:, None, None]
    mask = torch.zeros(layout.n_frame)
    mask[list(layout.keyframes)] = 1
    frames = layout.frames(base_cells, *keyframes.shape[-2:]).astype(np.float32)
    return Conditions(
        layout,
        torch.from_numpy(np.ascontiguousarray(keyframes, np.float32)).to(device),
        torch.from_numpy(frames).to(device),
        base_cells,
        torch.from_numpy(np.ascontiguousarray(latents.transpose(0, 2, 1, 3, 4))).to(device),
        wiener.at(step)[1],
        mask.to(device),
        step,
    )
