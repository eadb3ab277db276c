"""Teacher and student as the codec sees them: decoded keyframes in, missing frames out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caesar_freq.errors import ConfigError, ModelError
from caesar_freq.models.conditions import Conditions, conditions
from caesar_freq.models.diffusion import sample, start_noise
from caesar_freq.models.layout import Layout
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import Wiener

#: By kind: key in the combined checkpoint, key of the weights, format.
KINDS = {
    "teacher": ("diffusion", "diffusion_state_dict", "caesar-freq/diffusion/1"),
    "student": ("single_step_diffusion", "student_state_dict", "caesar-freq/student/1"),
}
#: Blocks that go through the network at a time.
_BATCH = 4


class Predictor:
    """A network with its baseline; see `codec.coders.Predictor` for the contract.

    Parameters
    ----------
    kind : {"teacher", "student"}
    network : Unet3D or MotionStudent
    wiener : Wiener
    layout : Layout
    steps : int
        Sampler steps of the teacher.
    noise_scale : float
        Size of the noise that the teacher starts from: 1 gives a sample, which has the spectrum
        of real frames; 0 follows the middle of the distribution, which is nearer to the truth.
    sha256, source : str
        Identity of the checkpoint file.
    device : str or torch.device
    """

    def __init__(
        self, kind: str, network: nn.Module, wiener: Wiener, layout: Layout, steps: int = 32,
        noise_scale: float = 0.0, sha256: str = "", source: str = "",
        device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        self.kind, self.sha256, self.source = kind, sha256, source
        self.steps, self.noise_scale = steps, noise_scale
        self.network, self.wiener, self.layout = network.to(device).eval(), wiener, layout
        self.device = device
        self.restores, self.spacings = False, ()
        self.n_frame, self.interpo_rate = layout.n_frame, layout.interpo_rate
        self.keyframes = layout.keyframes

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """Missing frames float32 ``[N, M, H, W]`` from keyframes ``[N, K, H, W]``.

        `step` is the normalised quantisation step of the residual. The same input gives the same
        output, bit for bit, in every process on one machine with the same number of threads.
        """
        answer = teacher_frames if self.kind == "teacher" else student_frames
        parts = []
        for i in range(0, len(keyframes), _BATCH):
            part = keyframes[i : i + _BATCH]
            given = conditions(self.layout, self.wiener, part, step, self.device)
            with torch.no_grad():
                parts.append(answer(self, given))
        return np.concatenate(parts)

    def restore(self, frames: np.ndarray, noise: np.ndarray, step: float) -> np.ndarray:
        """Best estimates of decoded and of missing frames.

        Parameters
        ----------
        frames : float32 [N, T, H, W]
            Decoded frames in normalised units; anything finite where a frame is missing.
        noise : float32 [N, T]
            Standard deviation of each frame's error in the same units: what coding left of a
            decoded frame, ``inf`` for a missing one. Which frames are missing is the same for all
            items.
        step : float
            Normalised quantisation step.

        Returns
        -------
        float32 [N, T, H, W]

        Raises
        ------
        ModelError
            If the frames that are missing are not those this model fills in.

        Notes
        -----
        With every noise finite this is restoration, with some infinite interpolation: one call and
        one network. It repeats itself as `predict` does.
        """
        missing = ~np.isfinite(noise[0])
        out = np.array(frames, np.float32)
        if missing.any():
            if tuple(np.flatnonzero(missing)) != self.layout.missing:
                raise ModelError(
                    f"this model fills in frames {self.layout.missing}, not those asked for"
                )
            out[:, missing] = self.predict(out[:, ~missing], step)
        return out


def teacher_frames(teacher: Predictor, given: Conditions) -> np.ndarray:
    """Frames at the end of the teacher's deterministic sampler."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return teacher.network(x, given.latents, given.key_mask, t, given.log_step)

    noise = start_noise(given.latents.shape).to(given.latents) * teacher.noise_scale
    return given.frames_with(sample(velocity, noise, teacher.steps))


def student_frames(student: Predictor, given: Conditions) -> np.ndarray:
    """The student's frames, in one step."""
    nothing = torch.zeros_like(given.base_frames)
    t = torch.ones(len(nothing), device=nothing.device)
    frames = student.network(given.keyframes, given.base_frames, nothing, t, given.log_step)
    return frames.cpu().numpy()


def build_network(kind: str, architecture: dict) -> nn.Module:
    """Network of a kind from a checkpoint's ``config["network"]``."""
    if kind == "teacher":
        return Unet3D(**architecture)
    # here, since the code of phase 3 must be no part of that of phase 2 (`fingerprints`)
    from caesar_freq.models.student import MotionStudent

    return MotionStudent(**architecture)


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
    network, wiener, layout = read_part(part, kind, path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    sampler = {}
    if kind == "teacher":
        config = part["config"]
        sampler = {"steps": config.get("diffusion_steps", 32),
                   "noise_scale": config.get("noise_scale", 0.0)}  # fmt: skip
    return Predictor(kind, network, wiener, layout, sha256=sha256, source=path.name,
                     device=device, **sampler)  # fmt: skip


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


def read_part(part: dict, kind: str, path: Path) -> tuple[nn.Module, Wiener, Layout]:
    """Network, baseline and layout of one phase's checkpoint.

    Raises
    ------
    ModelError
        If the weights do not fit the architecture that it names.
    """
    try:
        network = build_network(kind, part["config"]["network"])
        network.load_state_dict(part[KINDS[kind][1]])
        wiener = Wiener(**{name: value.numpy() for name, value in part["wiener"].items()})
        layout = Layout(**part["config"]["layout"])
    except (KeyError, TypeError, AttributeError, RuntimeError, ConfigError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is of another architecture ({reason}); train it again") from error
    return network, wiener, layout
