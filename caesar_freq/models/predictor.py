"""Teacher and student as the codec sees them: decoded frames in, best estimates out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caesar_freq.errors import ConfigError, ModelError
from caesar_freq.models.conditions import conditions, filled, log2_step
from caesar_freq.models.diffusion import sample, start_noise
from caesar_freq.models.layout import Layout
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import Wiener

#: By kind: key in the combined checkpoint, key of the weights, format.
KINDS = {
    "teacher": ("diffusion", "diffusion_state_dict", "caesar-freq/diffusion/2"),
    "student": ("single_step_diffusion", "student_state_dict", "caesar-freq/student/2"),
}
#: Formats of releases whose models filled in missing frames only.
_OLD_FORMATS = ("caesar-freq/diffusion/1", "caesar-freq/student/1")
#: Error of a keyframe in steps of the residual, where a caller of `predict` does not say: that of
#: a uniform quantiser at 0.62 of the step.
KEYFRAME_NOISE = 0.62 / 12**0.5
#: Blocks, and frames of each, that go through the network at a time.
_BATCH, _TARGETS = 4, 4
#: One thread of the codec calls a network at a time: it has all cores, and the switch that keeps
#: TF32 off, which drifts a thousand times more than float32, is one for all threads.
_ONE = threading.Lock()


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
        if kind == "student":  # nearly twice as fast on a processor as planes of channels
            self.network.to(memory_format=torch.channels_last)
        self.device = device
        self.restores, self.spacings = True, layout.spacings
        self.n_frame, self.interpo_rate = layout.n_frame, layout.interpo_rate
        self.keyframes = layout.keyframes

    def restore(
        self, frames: np.ndarray, noise: np.ndarray, step: float,
        targets: Sequence[int] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Best estimates of decoded and of missing frames.

        Parameters
        ----------
        frames : float32 [N, T, H, W]
            Decoded frames in normalised units; anything where a frame is missing.
        noise : float32 [N, T]
            Standard deviation of each frame's error in the same units: what coding left of a
            decoded frame, ``inf`` for a missing one.
        step : float
            Normalised quantisation step.
        targets : sequence of int, optional
            Frames wanted; all if not given. Fewer cost the student less.

        Returns
        -------
        float32 [N, len(targets), H, W]

        Raises
        ------
        ModelError
            If there are too few keyframes.

        Notes
        -----
        With every noise finite this is restoration, with some infinite interpolation between
        keyframes at any distance: one call and one network. The same input gives the same output,
        bit for bit, in every process on one machine with the same number of threads.
        """
        targets = range(frames.shape[1]) if targets is None else targets
        answer = self._teacher if self.kind == "teacher" else self._student
        parts = []
        with _ONE, torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            for i in range(0, len(frames), _BATCH):
                part = slice(i, i + _BATCH)
                parts.append(answer(frames[part], noise[part], step, list(targets)))
        return np.concatenate(parts)

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """Missing frames float32 ``[N, M, H, W]`` from keyframes ``[N, K, H, W]`` at the layout's
        distance, coded at the codec's part of `step` (see `restore`)."""
        layout = self.layout
        frames = np.zeros((len(keyframes), layout.n_frame, *keyframes.shape[2:]), np.float32)
        frames[:, list(layout.keyframes)] = keyframes
        noise = np.full(frames.shape[:2], np.inf, np.float32)
        noise[:, list(layout.keyframes)] = KEYFRAME_NOISE * step
        return self.restore(frames, noise, step, layout.missing)

    def _teacher(self, frames, noise, step: float, targets: list[int]) -> np.ndarray:
        """Frames at the end of the deterministic sampler."""
        given = conditions(self.layout, self.wiener, frames, noise, step, self.device)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.network(x, given.latents, given.noise, t, given.log_step)

        start = start_noise(given.latents.shape).to(given.latents) * self.noise_scale
        return given.frames_with(sample(velocity, start, self.steps))[:, targets]

    def _student(self, frames, noise, step: float, targets: list[int]) -> np.ndarray:
        """Frames in one step."""
        known = torch.from_numpy(filled(self.layout, self.wiener, frames, noise)).to(self.device)
        levels = torch.from_numpy(np.asarray(noise, np.float32)).to(self.device)
        log_step = torch.full((len(frames),), log2_step(step), device=self.device)
        parts = []
        for i in range(0, len(targets), _TARGETS):  # bounds memory
            wanted = torch.tensor(targets[i : i + _TARGETS], device=self.device)
            parts.append(self.network(known, levels, log_step, wanted.expand(len(known), -1)))
        return torch.cat(parts, 1).cpu().numpy()


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
    if isinstance(part, dict) and part.get("format") in _OLD_FORMATS:
        raise ModelError(
            f"{path} is of a release whose models filled in frames only; train phases 2 and 3 again"
        )
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
