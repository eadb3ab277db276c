"""Phase 3's targets and losses: what the student is taught, by the truth and by the teacher."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from caesar_freq.codec.model import load_frequency_model
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.errors import ModelError
from caesar_freq.models.conditions import Conditions
from caesar_freq.models.diffusion import (
    Velocity,
    ddim_step,
    implied_clean,
    implied_velocity,
    noisy,
    sample,
    start_noise,
)
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import KINDS, load_checkpoint, read_part
from caesar_freq.models.student import MotionStudent
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import Wiener
from caesar_freq.training.generative import Batch, draw_blocks, layout_of, make_batch
from caesar_freq.training.loop import noise_for
from caesar_freq.training.losses import (
    OBJECTIVES,
    bits,
    multi_scale_error,
    spectrum_error,
    squared_error,
)

#: Most batches that go to the teacher, how often each comes again at least, and in which steps:
#: sampling a batch costs as much as some ten optimiser steps.
CACHED_BATCHES, CACHED_USES, CACHED_EVERY = 64, 4, 4
#: Samples whose mean stands for the teacher: one sample has twice the error of the mean.
TEACHER_SAMPLES = 2
TEACHER_WEIGHT = 0.5
#: Parts of a quantiser's squared error below which a missing and a decoded frame count as exact.
_FLOORS = (0.25, 1e-3)


class Distiller:
    """Teacher, student and the loss of every optimiser step.

    Parameters
    ----------
    args : argparse.Namespace
        See `parser`.
    device : torch.device
    """

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.args, self.device = args, device
        self.model = load_frequency_model(args.freq_compressor_path)
        self.teacher, self.wiener, self.layout = load_teacher(args, self.model.fingerprint)
        self.teacher.to(device).eval().requires_grad_(False)
        self.sampler = BlockSampler(args.train_data, self.layout.n_frame, args.training_size,
                                    args.seed, flips=True)  # fmt: skip
        torch.manual_seed(args.seed)
        self.architecture = {
            "base_channels": args.student_base_channels,
            "channel_mults": list(args.student_channel_mults),
            "num_res_blocks": args.student_num_res_blocks,
            "patch": args.student_patch,
        }
        # a fifth faster on a processor: its convolutions want the channels of a pixel side by side
        self.student = MotionStudent(**self.architecture).to(
            device, memory_format=torch.channels_last
        )
        if args.init:
            load_student(self.student, args.init)
        self.stages = halvings(args.teacher_steps) if args.progressive else [1]
        self.stage_steps, self.n_cached = 1, 1
        self.stage = 0
        self.before: MotionStudent | None = None
        self.cache: dict[int, Tensor] = {}

    def divide(self, n_steps: int) -> None:
        """Share `n_steps` optimiser steps among the stages."""
        self.stage_steps = -(-n_steps // len(self.stages))
        self.n_cached = min(CACHED_BATCHES, max(1, n_steps // (CACHED_EVERY * CACHED_USES)))

    def batch(self, step: int) -> Batch:
        """Batch of an optimiser step."""
        cached = self._cached(step)
        number = step if cached is None else cached
        blocks = draw_blocks(self.sampler, number, self.args.batch_size)
        return make_batch(blocks, (self.args.seed, number), self.layout, self.wiener, self.model,
                          self.device, self.args.step_range)  # fmt: skip

    def _cached(self, step: int) -> int | None:
        """Number of a batch that goes to the teacher, for every fourth step; None for the others.

        The teacher's samples are expensive, so the same few batches come again and again; those
        between are new, and teach by the truth alone.
        """
        if self.args.progressive or step % CACHED_EVERY:
            return None
        return step // CACHED_EVERY % self.n_cached

    def begin(self, step: int, average: dict[str, Tensor]) -> None:
        """At the start of a stage, the student as the last stage left it becomes the teacher."""
        stage = min(step // self.stage_steps, len(self.stages) - 1)
        if stage != self.stage:
            self.restore({"stage": stage, "before": average})
            print(
                f"step {step}: {2 * self.stages[stage]} steps into {self.stages[stage]}", flush=True
            )

    def state(self) -> dict:
        """Stage and the student that teaches in it."""
        return {"stage": self.stage, "before": self.before and self.before.state_dict()}

    def restore(self, state: dict) -> None:
        """Inverse of `state`."""
        self.stage = state["stage"]
        if state["before"] is not None:
            self.before = MotionStudent(**self.architecture).to(self.device)
            self.before.load_state_dict(state["before"])
            self.before.eval().requires_grad_(False)

    def loss(self, step: int, batch: Batch, part: slice) -> Tensor:
        """Loss of some items of a batch, relative to what decoding or linear estimation left."""
        cached, taught, shown, t = self._cached(step), None, None, None
        if cached is not None:
            taught = self._teacher_mean(cached, batch)[part]
        if self.args.progressive:
            shown, t, taught = self._halved(step, batch, part)
        batch = batch.part(part)
        frames, noise, log_step, targets = batch.frames()
        truth, start = batch.at_targets(batch.truth), batch.at_targets(batch.decoded)
        answer = self.student(frames, noise, log_step, targets, shown, t)
        # the residual of a missing frame is coded at the step; a decoded one has none
        missing = torch.isinf(noise).gather(1, targets)
        floor = torch.exp2(2 * log_step)[:, None] / 12 * torch.where(missing, *_FLOORS)
        loss = bits(answer, truth, start, floor)
        weight = 1 / (((start - truth) ** 2).mean((2, 3)) + floor)[..., None, None]
        if taught is not None:
            loss = loss + self._distillation(answer, truth, batch, taught, weight)
        multi_scale, spectral = OBJECTIVES[self.args.objective]
        if self.args.use_perceptual_loss:
            loss = loss + multi_scale * multi_scale_error(answer, truth, weight)
        if self.args.use_frequency_loss:
            loss = loss + spectral * spectrum_error(answer, truth, weight)
        return loss

    def _distillation(
        self, frames: Tensor, truth: Tensor, batch: Batch, taught: Tensor, weight: Tensor
    ) -> Tensor:
        """Squared error of the latents to the teacher's, where the teacher knows better.

        The teacher's word counts by the part of the student's error that it would remove: pulling
        towards a teacher that is worse than the student only costs bits.
        """
        answer, right = self.layout.latents(frames), self.layout.latents(truth)
        target = batch.at_targets(batch.given.latents_with(taught).cpu().numpy())
        axes = (2, 3, 4)
        own = ((answer.detach() - right) ** 2).mean(axes)
        others = ((target - right) ** 2).mean(axes)
        trust = (1 - others / own.clamp(min=1e-20)).clamp(min=0)
        per_value = answer[0].numel() / frames[0].numel()
        return (
            TEACHER_WEIGHT
            * per_value
            * squared_error(answer, target, trust[..., None, None, None] * weight[..., None])
        )

    @torch.no_grad()
    def _teacher_mean(self, number: int, batch: Batch) -> Tensor:
        """Mean of the teacher's samples for a batch, computed once and kept in main memory."""
        if number not in self.cache:
            network = self._teacher_velocity(batch.given)
            shape = tuple(batch.given.latents.shape)
            samples = [
                sample(network, start_noise(shape, seed).to(self.device), self.args.teacher_steps)
                for seed in range(TEACHER_SAMPLES)
            ]
            self.cache[number] = torch.stack(samples).mean(0).cpu()
        return self.cache[number].to(self.device)

    def _teacher_velocity(self, given: Conditions) -> Velocity:
        return lambda x, t: self.teacher(x, given.latents, given.noise, t, given.log_step)

    def _before_velocity(self, given: Conditions) -> Velocity:
        """The last stage's student as the velocity of a sampler on latents."""
        n, length = given.noise.shape
        everything = torch.arange(length, device=self.device).expand(n, -1)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            frames = self.before(given.frames, given.noise, given.log_step, everything,
                                 _shown(given, x, t), t)  # fmt: skip
            return implied_velocity(x, given.correction_of(frames.cpu().numpy()), t)

        return velocity

    @torch.no_grad()
    def _halved(self, step: int, batch: Batch, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy correction as frames, its time, and the x_0 that two steps of the teacher imply."""
        count = self.stages[self.stage]
        shape = tuple(batch.correction.shape)
        noise, uniform = noise_for(self.args.seed, step, shape, self.device)
        given = batch.given.part(part)
        t = (torch.floor(uniform[part] * count) + 1) / count
        x = noisy(batch.correction[part], noise[part], t)
        velocity = self._before_velocity if self.stage else self._teacher_velocity
        network = velocity(given)
        middle, end = t - 0.5 / count, t - 1 / count
        reached = ddim_step(network, ddim_step(network, x, t, middle), middle, end)
        shown = batch.part(part).at_targets(_shown(given, x, t).cpu().numpy())
        return shown, t, implied_clean(x, reached, t, end)


def load_student(student: MotionStudent, path: Path) -> None:
    """Give `student` the weights of a file of phase 3.

    Raises
    ------
    ModelError
        If it holds no student or one of another size.
    """
    section, weights, layout_format = KINDS["student"]
    checkpoint = load_checkpoint(path)
    part = checkpoint.get(section, checkpoint)
    if part.get("format") != layout_format:
        raise ModelError(f"--init {path} holds no student; give a student_best.pth of phase 3")
    try:
        student.load_state_dict(part[weights])
    except RuntimeError as error:
        sizes = part["config"]["network"]
        raise ModelError(
            f"--init {path} is of another size, {sizes}; give the same with --student_*"
        ) from error


def _shown(given: Conditions, x: Tensor, t: Tensor) -> Tensor:
    """Frames of the noisy correction `x`; at noise level 1 it says nothing, and 0 is shown."""
    return given.render(x) * (t < 1)[:, None, None, None]


def halvings(steps: int) -> list[int]:
    """Steps of the stages: half of `steps`, down to 1."""
    stages = []
    while steps > 1:
        steps //= 2
        stages.append(steps)
    return stages


def load_teacher(args: argparse.Namespace, fingerprint: str) -> tuple[Unet3D, Wiener, Layout]:
    """Teacher, baseline and layout of ``--teacher_path``.

    Raises
    ------
    ModelError
        If it is no teacher, or was trained with other latents or keyframes than the flags say.
    """
    checkpoint = load_checkpoint(args.teacher_path)
    if checkpoint.get("format") != KINDS["teacher"][2]:
        raise ModelError(f"{args.teacher_path} is no teacher; give a diffusion_best.pth of phase 2")
    network, wiener, layout = read_part(checkpoint, "teacher", args.teacher_path)
    wanted: Layout = layout_of(args, layout.interpo_rate, layout.n_frame)
    if wanted != layout:
        raise ModelError(
            f"{args.teacher_path} was trained with {asdict(layout)}, but the flags say "
            f"{asdict(wanted)}; use the same latent settings in phases 2 and 3"
        )
    if checkpoint["config"]["frequency_model"] != fingerprint:
        raise ModelError(
            f"{args.teacher_path} was trained on another frequency compressor than "
            f"{args.freq_compressor_path}; give the one of its phase 2"
        )
    return network, wiener, layout
