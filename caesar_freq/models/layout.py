"""Which frames of a block are coded, which are generated, and how frames become latents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caesar_freq.errors import ConfigError
from caesar_freq.transform.axis import make_axis
from caesar_freq.transform.latent import CELL, frequency_order, from_cells, to_cells

#: Coefficients of a cell.
FREQUENCIES = CELL * CELL


#: Distances of keyframes that every model learns besides its layout's own.
SPACINGS = (2, 3, 5)


@dataclass(frozen=True)
class Layout:
    """Frames and latents of a block.

    Attributes
    ----------
    n_frame, interpo_rate : int
        Block length and distance of keyframes; the last frame must be a keyframe.
    channels : int
        Latent channels, 1 to 256.
    wavelet, use_dwt
        Cell transform, see `transform.latent`.

    Raises
    ------
    ConfigError
        If frames after the last keyframe would have to be extrapolated, or none is missing.
    """

    n_frame: int = 16
    interpo_rate: int = 3
    channels: int = 32
    wavelet: str = "haar"
    use_dwt: bool = True

    def __post_init__(self) -> None:
        if self.interpo_rate < 2 or self.n_frame < 3 or (self.n_frame - 1) % self.interpo_rate:
            raise ConfigError(
                f"--n_frame {self.n_frame} must be a multiple of --interpo_rate"
                f" {self.interpo_rate} (2 or more), plus 1, so that a block ends with a keyframe"
            )

    @property
    def keyframes(self) -> tuple[int, ...]:
        """Frames that are coded."""
        return tuple(range(0, self.n_frame, self.interpo_rate))

    def keyframes_at(self, rate: int) -> tuple[int, ...]:
        """Keyframes at another distance; the last frame is one, whatever the distance."""
        return tuple(sorted({*range(0, self.n_frame, rate), self.n_frame - 1}))

    @property
    def spacings(self) -> tuple[int, ...]:
        """Distances of keyframes that a model with this layout knows."""
        return tuple(sorted({*(n for n in SPACINGS if n < self.n_frame), self.interpo_rate}))

    @property
    def missing(self) -> tuple[int, ...]:
        """Frames that are predicted."""
        return tuple(t for t in range(self.n_frame) if t % self.interpo_rate)

    def cells(self, frames: np.ndarray) -> np.ndarray:
        """Cells ``[..., 256, h, w]`` of frames ``[..., H, W]``."""
        return to_cells(frames, self.wavelet, self.use_dwt)

    def frames(self, cells: np.ndarray, height: int, width: int) -> np.ndarray:
        """Inverse of `cells`."""
        return from_cells(cells, height, width, self.wavelet, self.use_dwt)

    def latents(self, frames: Tensor) -> Tensor:
        """The first `channels` of `cells` as a differentiable function of a tensor ``[.., H, W]``.

        The cell transform is separable and linear, so it is one matrix for each axis.
        """
        lead, (height, width) = frames.shape[:-2], frames.shape[-2:]
        rows, columns = -(-height // CELL), -(-width // CELL)
        x = frames.reshape(1, -1, height, width)
        x = functional.pad(
            x, (0, columns * CELL - width, 0, rows * CELL - height), mode="replicate"
        )
        kind = self.wavelet if self.use_dwt else "dct"
        down = _axis_matrix(rows * CELL, kind).to(x)
        across = _axis_matrix(columns * CELL, kind).to(x)
        # bfloat16 would spoil what is compared with the codec's own latents
        with torch.autocast(x.device.type, enabled=False):
            y = (down @ x @ across.T).reshape(-1, rows, CELL, columns, CELL)
        y = y.permute(0, 2, 4, 1, 3).reshape(-1, FREQUENCIES, rows, columns)
        order = torch.from_numpy(frequency_order()[: self.channels]).to(y.device)
        return y[:, order].reshape(*lead, self.channels, rows, columns)

    def as_dict(self) -> dict:
        """Plain types, for a checkpoint."""
        return asdict(self)


@lru_cache(maxsize=32)
def _axis_matrix(length: int, kind: str) -> Tensor:
    """Matrix of one axis of the cell transform, float32 ``[coefficient, sample]``."""
    columns = make_axis(length, CELL, kind).forward(np.eye(length)[None])
    return torch.from_numpy(columns.reshape(length, length).astype(np.float32))
