"""Teacher and student as the codec sees them: decoded keyframes in, missing frames out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caesar_freq.errors import ModelError
from caesar_freq.models.diffusion import clean, sample, start_noise
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import STEPS, Wiener
from caesar_freq.transform.latent import from_cells, to_cells

#: By kind: key in the combined checkpoint, key of the weights, format.
KINDS = {
    "teacher": ("diffusion", "diffusion_state_dict", "caesar-freq/diffusion/1"),
    "student": ("single_step_diffusion", "student_state_dict", "caesar-freq/student/1"),
}
#: Blocks that go through the network at a time.
_BATCH = 4


@dataclass(frozen=True)
class Layout:
    """Frames and latents of a block.

    Attributes
    ----------
    n_frame, interpo_rate : int
        Block length and distance of keyframes.
    channels : int
        Latent channels.
    wavelet, use_dwt
        Cell transform, see `transform.latent`.
    """

    n_frame: int = 16
    interpo_rate: int = 3
    channels: int = 32
    wavelet: str = "haar"
    use_dwt: bool = True

    @property
    def keyframes(self) -> tuple[int, ...]:
        """Frames that are coded."""
        return tuple(range(0, self.n_frame, self.interpo_rate))

    @property
    def missing(self) -> tuple[int, ...]:
        """Frames that are predicted."""
        return tuple(t for t in range(self.n_frame) if t % self.interpo_rate)

    def cells(self, frames: np.ndarray) -> np.ndarray:
        """Cells ``[..., 256, h, w]`` of frames ``[..., H, W]``."""
        return to_cells(frames, self.wavelet, self.use_dwt)


@dataclass
class Conditions:
    """Network inputs of a batch of blocks, and what turns its output into frames.

    Attributes
    ----------
    interpolated : Tensor [N, C, T, h, w]
        Scaled latents of keyframes and interpolated frames.
    keys : Tensor [T]
    log_step : Tensor [N]
    missing_cells : float32 [N, M, 256, h, w]
        Interpolation of the missing frames.
    scale : float32 [C]
        Unit of the correction.
    """

    interpolated: Tensor
    keys: Tensor
    log_step: Tensor
    missing_cells: np.ndarray
    scale: np.ndarray


def conditions(layout: Layout, wiener: Wiener, keyframes: np.ndarray, step: float, device="cpu"):
    """`Conditions` from decoded keyframes ``[N, K, H, W]`` at a normalised `step`."""
    key_cells = layout.cells(keyframes)
    missing = wiener.interpolate(key_cells, step)
    n, _, _, rows, columns = key_cells.shape
    c = layout.channels
    latent = np.empty((n, layout.n_frame, c, rows, columns), np.float32)
    latent[:, list(layout.keyframes)] = key_cells[:, :, :c]
    latent[:, list(layout.missing)] = missing[:, :, :c]
    latent /= wiener.latent_scale[:, None, None]
    keys = torch.zeros(layout.n_frame)
    keys[list(layout.keyframes)] = 1
    return Conditions(
        torch.from_numpy(np.ascontiguousarray(latent.transpose(0, 2, 1, 3, 4))).to(device),
        keys.to(device),
        torch.full((n,), float(np.log2(np.clip(step, STEPS[0], STEPS[-1]))), device=device),
        missing,
        wiener.at(step)[1],
    )


class Predictor:
    """A network with its baseline; see `codec.coders.Predictor` for the contract.

    Parameters
    ----------
    kind : {"teacher", "student"}
    network : Unet3D
    wiener : Wiener
    layout : Layout
    steps : int
        Sampler steps of the teacher.
    sha256, source : str
        Identity of the checkpoint file.
    device : str or torch.device
    """

    def __init__(self, kind: str, network: Unet3D, wiener: Wiener, layout: Layout, steps: int = 32,
                 sha256: str = "", source: str = "", device: str | torch.device = "cpu") -> None:
        self.kind, self.sha256, self.source, self.steps = kind, sha256, source, steps
        self.network, self.wiener, self.layout = network.to(device).eval(), wiener, layout
        self.device = device
        self.n_frame, self.interpo_rate = layout.n_frame, layout.interpo_rate
        self.keyframes = layout.keyframes

    @torch.no_grad()
    def correction(self, given: Conditions) -> Tensor:
        """Scaled correction of the latents ``[N, C, T, h, w]``."""

        def network(x: Tensor, t: Tensor) -> Tensor:
            return self.network(x, given.interpolated, given.keys, t, given.log_step)

        if self.kind == "teacher":
            noise = start_noise(given.interpolated.shape).to(self.device)
            return sample(network, noise, self.steps)
        return one_step(network, given.interpolated)

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """Missing frames float32 ``[N, M, H, W]`` from keyframes ``[N, K, H, W]``."""
        parts = [
            self._predict(keyframes[i : i + _BATCH], step)
            for i in range(0, len(keyframes), _BATCH)
        ]
        return np.concatenate(parts)

    def _predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        given = conditions(self.layout, self.wiener, keyframes, step, self.device)
        correction = self.correction(given).float().cpu().numpy().transpose(0, 2, 1, 3, 4)
        cells = given.missing_cells.astype(np.float32)
        missing = list(self.layout.missing)
        cells[:, :, : self.layout.channels] += correction[:, missing] * given.scale[:, None, None]
        return from_cells(cells, *keyframes.shape[-2:], self.layout.wavelet, self.layout.use_dwt)


def one_step(network, like: Tensor) -> Tensor:
    """x_0 at noise level 1 in one step; there x_t says nothing, so it is 0."""
    x, t = torch.zeros_like(like), torch.ones(len(like), device=like.device)
    return clean(x, network(x, t), t)


def build_network(config: dict) -> Unet3D:
    """Network of a checkpoint's ``config["network"]``."""
    return Unet3D(**config["network"])


def load_predictor(path: str | Path, kind: str, device: str = "cpu") -> Predictor:
    """Predictor from ``combined_model.pth``, ``diffusion_best.pth`` or ``student_best.pth``.

    Raises
    ------
    ModelError
        If the file is missing, holds no model of this kind, or one of another architecture.
    """
    path = Path(path)
    checkpoint = load_checkpoint(path)
    section, weights, layout_format = KINDS[kind]
    part = checkpoint.get(section, checkpoint)
    if not isinstance(part, dict) or weights not in part or part.get("format") != layout_format:
        raise ModelError(
            f"{path} holds no {kind}; give a combined_model.pth made by caesar_freq.merge or the "
            f"checkpoint of its phase"
        )
    network, wiener, layout = read_part(part, weights, path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Predictor(kind, network, wiener, layout, part["config"].get("diffusion_steps", 32),
                     sha256, path.name, device)  # fmt: skip


def load_checkpoint(path: str | Path) -> dict:
    """A checkpoint file as a dict, safely (tensors and plain types only).

    Raises
    ------
    ModelError
        If it is missing or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist; run the phase that makes it first")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are not checkpoints
        raise ModelError(f"{path} is damaged or not a checkpoint; train it again") from error
    if not isinstance(checkpoint, dict):
        raise ModelError(f"{path} is not a checkpoint of CAESAR-Freq; train it again")
    return checkpoint


def read_part(part: dict, weights: str, path: Path) -> tuple[Unet3D, Wiener, Layout]:
    """Network, baseline and layout of one phase's checkpoint.

    Raises
    ------
    ModelError
        If the weights do not fit the architecture that it names.
    """
    try:
        network = build_network(part["config"])
        network.load_state_dict(part[weights])
        wiener = Wiener(**{name: value.numpy() for name, value in part["wiener"].items()})
        layout = Layout(**part["config"]["layout"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is of another architecture ({reason}); train it again") from error
    return network, wiener, layout
