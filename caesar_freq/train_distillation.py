"""Phase 3: distil the teacher into a student that needs one step.

``python -m caesar_freq.train_distillation --freq_compressor_path A --teacher_path B ...``

Loss: squared error to the truth plus squared error to the teacher, with the optional multi-scale
(``--use_perceptual_loss``) and spectral (``--use_frequency_loss``) terms. Without
``--progressive`` the teacher's term is the mean of a few 32-step samples, computed once and cached;
with it the student learns to do in one step what the stage before did in two, 32 -> 16 -> ... -> 1
(Salimans & Ho 2022, arXiv:2202.00512).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from caesar_freq.atomic import atomic_path
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.errors import ConfigError, ModelError, run_main
from caesar_freq.models.diffusion import clean, ddim_step, levels, noisy, sample, start_noise
from caesar_freq.models.predictor import (
    KINDS,
    Layout,
    Predictor,
    load_checkpoint,
    one_step,
    read_part,
)
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.train_diffusion import schedule, settings_of
from caesar_freq.training.args import add_common_args, check_common_args, resolve_device
from caesar_freq.training.checkpoint import Checkpointer
from caesar_freq.training.generative import (
    Batch,
    Validation,
    draw_step,
    layout_of,
    make_batch,
    wiener_tensors,
)
from caesar_freq.training.history import write_history
from caesar_freq.training.loop import Task, noise_for, run
from caesar_freq.training.losses import (
    MULTI_SCALE_WEIGHT,
    SPECTRUM_WEIGHT,
    multi_scale_error,
    spectrum_error,
    squared_error,
)
from caesar_freq.training.memory import cap_memory

#: Batches whose teacher samples are cached; training passes over them again and again.
CACHED_BATCHES = 64
#: Samples whose mean stands for the teacher: one sample has twice the error of the mean.
TEACHER_SAMPLES = 2
_TEACHER_WEIGHT = 0.5


def parser() -> argparse.ArgumentParser:
    """All flags of phase 3."""
    out = argparse.ArgumentParser(
        prog="caesar_freq.train_distillation", description=__doc__.split("\n")[0]
    )
    add_common_args(out, "distillation")
    switch = argparse.BooleanOptionalAction
    group = out.add_argument_group("phase 3")
    group.add_argument("--freq_compressor_path", type=Path, required=True,
                       help="best_model.pth of phase 1")
    group.add_argument("--teacher_path", type=Path, required=True,
                       help="diffusion_best.pth of phase 2")
    group.add_argument("--teacher_steps", type=int, default=32, help="sampler steps of the teacher")
    group.add_argument("--student_base_channels", type=int, default=64)
    group.add_argument("--student_channel_mults", type=int, nargs="+", default=[1, 2, 4])
    group.add_argument("--student_num_res_blocks", type=int, default=2)
    group.add_argument("--use_perceptual_loss", action=switch, default=True,
                       help="add the multi-scale term (default: on)")
    group.add_argument("--use_frequency_loss", action=switch, default=True,
                       help="add the spectral term (default: on)")
    group.add_argument("--progressive", action=switch, default=False,
                       help="halve the steps stage by stage (default: off)")
    group.add_argument("--batch_size", type=int, default=4, help="blocks of an optimiser step")
    group.add_argument("--evaluations", type=int, default=4,
                       help="times validation blocks are coded to choose the best weights")
    return out


class Distiller:
    """Teacher, student and the targets of every optimiser step.

    Parameters
    ----------
    args : argparse.Namespace
        See `parser`.
    device : torch.device
    n_steps : int
        Optimiser steps in all.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device, n_steps: int,
                 sampler: BlockSampler) -> None:  # fmt: skip
        self.args, self.device, self.sampler = args, device, sampler
        self.model = load_frequency_model(args.freq_compressor_path)
        self.teacher, self.wiener, self.layout = _load_teacher(args, self.model.fingerprint)
        self.teacher.to(device).eval().requires_grad_(False)
        torch.manual_seed(args.seed)
        self.architecture = {
            "dim": args.student_base_channels, "dim_mults": list(args.student_channel_mults),
            "channels": args.latent_channels, "res_blocks": args.student_num_res_blocks,
        }  # fmt: skip
        self.student = Unet3D(**self.architecture).to(device)
        stages = _halvings(args.teacher_steps) if args.progressive else [1]
        self.stages = stages
        self.stage_steps = -(-n_steps // len(stages))
        self.cache: dict[int, tuple[Batch, Tensor]] = {}
        self.previous: tuple[int, Unet3D] = (0, self.teacher)

    def batch(self, step: int) -> Batch:
        """Batch of an optimiser step; the direct student sees the cached ones in turn."""
        number = step if self.args.progressive else step % CACHED_BATCHES
        if number in self.cache:
            return self.cache[number][0]
        blocks = self.sampler.sample(number, self.args.batch_size)
        quantisation = draw_step(self.args.seed, number)
        batch = make_batch(
            blocks, self.layout, self.wiener, quantisation, self.model, self.device
        )
        if not self.args.progressive:
            self.cache[number] = (batch, self._teacher_mean(batch))
        return batch

    @torch.no_grad()
    def _teacher_mean(self, batch: Batch) -> Tensor:
        network = _velocity(self.teacher, batch, slice(None))
        shape = tuple(batch.target.shape)
        samples = [
            sample(network, start_noise(shape, seed).to(self.device), self.args.teacher_steps)
            for seed in range(TEACHER_SAMPLES)
        ]
        return torch.stack(samples).mean(0)

    def loss(self, step: int, batch: Batch, part: slice) -> Tensor:
        """Loss of some items of a batch."""
        if self.args.progressive:
            answer, taught = self._stage_answer(step, batch, part)
        else:
            network = _velocity(self.student, batch, part)
            answer = one_step(network, batch.given.interpolated[part])
            taught = self.cache[step % CACHED_BATCHES][1][part]
        truth, weight = batch.target[part], batch.weight
        loss = squared_error(answer, truth, weight)
        loss = loss + _TEACHER_WEIGHT * squared_error(answer, taught, weight)
        if self.args.use_perceptual_loss:
            loss = loss + MULTI_SCALE_WEIGHT * multi_scale_error(answer, truth, weight)
        if self.args.use_frequency_loss:
            loss = loss + SPECTRUM_WEIGHT * spectrum_error(answer, truth, weight)
        return loss

    def _stage_answer(self, step: int, batch: Batch, part: slice) -> tuple[Tensor, Tensor]:
        """Student's x_0 at a time of its stage, and the one that two steps before it imply."""
        stage = min(step // self.stage_steps, len(self.stages) - 1)
        if stage != self.previous[0]:
            # the student as the last stage left it teaches the next one
            self.previous = (stage, copy.deepcopy(self.student).eval().requires_grad_(False))
        count = self.stages[stage]
        truth = batch.target[part]
        noise, uniform = noise_for(self.args.seed, step, tuple(batch.target.shape), self.device)
        t = (torch.floor(uniform[part] * count) + 1) / count
        x = noisy(truth, noise[part], t)
        with torch.no_grad():
            network = _velocity(self.previous[1], batch, part)
            middle, end = t - 0.5 / count, t - 1 / count
            two = ddim_step(network, ddim_step(network, x, t, middle), middle, end)
            taught = _implied(x, two, t, end)
        last = (t == 1)[:, None, None, None, None]
        # at noise level 1 the state says nothing: the student always finds 0 there
        x = torch.where(last, torch.zeros_like(x), x)
        return clean(x, _velocity(self.student, batch, part)(x, t), t), taught


def _implied(x: Tensor, reached: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The x_0 for which one deterministic step takes `x` at level `t` to `reached` at `s`."""
    signal_t, sigma_t = levels(t)
    signal_s, sigma_s = levels(s)
    ratio = sigma_s / sigma_t
    return (reached - ratio * x) / (signal_s - ratio * signal_t)


def _velocity(network: Unet3D, batch: Batch, part: slice) -> Callable[[Tensor, Tensor], Tensor]:
    given = batch.given
    return lambda x, t: network(x, given.interpolated[part], given.keys, t, given.log_step[part])


def _halvings(steps: int) -> list[int]:
    """Steps of the stages: half of `steps`, down to 1."""
    stages = []
    while steps > 1:
        steps //= 2
        stages.append(steps)
    return stages


def _load_teacher(args: argparse.Namespace, fingerprint: str):
    checkpoint = load_checkpoint(args.teacher_path)
    _, weights, layout_format = KINDS["teacher"]
    if checkpoint.get("format") != layout_format:
        raise ModelError(f"{args.teacher_path} is no teacher; give a diffusion_best.pth of phase 2")
    network, wiener, layout = read_part(checkpoint, weights, args.teacher_path)
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


def train(args: argparse.Namespace) -> Path:
    """Run phase 3; returns the path of ``student_best.pth``."""
    device = resolve_device(args.device)
    cap_memory(device, args.gpu_mem_gb)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    layout = read_part(
        load_checkpoint(args.teacher_path), KINDS["teacher"][1], args.teacher_path
    )[2]
    sampler = BlockSampler(args.train_data, layout.n_frame, args.training_size, args.seed,
                           flips=True)  # fmt: skip
    n_steps, per_epoch = schedule(args, sampler)
    distiller = Distiller(args, device, n_steps, sampler)
    validation = Validation(
        args.val_data, layout, distiller.model, args.training_size, args.seed
    )
    weights_count = sum(p.numel() for p in distiller.student.parameters())
    print(f"student of {weights_count:,} weights, stages {distiller.stages}", flush=True)

    def evaluate(weights: dict[str, Tensor]) -> dict[str, float]:
        averaged = Unet3D(**distiller.architecture)
        averaged.load_state_dict(weights)
        student = Predictor("student", averaged, distiller.wiener, layout, device=device)
        return {"val_byte_ratio": validation.byte_ratio(student)}

    settings = settings_of(args, [args.freq_compressor_path, args.teacher_path])
    keeper = Checkpointer(args.output_dir, settings, args.checkpoint_every)
    task = Task(distiller.student, distiller.batch, distiller.loss, evaluate)
    progress = run(task, args, keeper, n_steps, per_epoch, device, args.evaluations)
    _, key, layout_format = KINDS["student"]
    result = args.output_dir / "student_best.pth"
    with atomic_path(result) as temporary:
        torch.save({
            key: {k: v.cpu() for k, v in progress.best.items()},
            "wiener": wiener_tensors(distiller.wiener),
            "config": {**settings, "network": distiller.architecture, "layout": asdict(layout),
                       "frequency_model": distiller.model.fingerprint},
            "format": layout_format,
        }, temporary)  # fmt: skip
    write_history(args.output_dir / "history.csv", progress.history)
    keeper.clear()
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``train_distillation``."""
    args = parser().parse_args(argv)
    check_common_args(args)
    if args.teacher_steps < 2 or args.teacher_steps & (args.teacher_steps - 1):
        raise ConfigError(f"--teacher_steps is {args.teacher_steps}; give a power of 2, at least 2")
    for name in ("student_base_channels", "student_num_res_blocks", "evaluations"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give at least 1")
    print(f"wrote {train(args)}")
    return 0


if __name__ == "__main__":
    run_main(main)
