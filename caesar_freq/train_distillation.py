"""Phase 3: distil the teacher into a student that needs one step.

``python -m caesar_freq.train_distillation --freq_compressor_path A --teacher_path B ...``

Loss: half the logarithm of the squared error to the truth, by which coded bits go, plus squared
error of the latents to the teacher's where the teacher knows better, with the optional multi-scale
(``--use_perceptual_loss``) and spectral (``--use_frequency_loss``) terms. ``--objective rate`` gives
these little weight and keeps the model with the fewest coded bytes; ``spectrum`` gives them much and
keeps the model whose frames have the right energy at small scales. Without ``--progressive`` the teacher's word is the mean
of a few 32-step samples, computed once and cached; with it the student learns to do in one step
what the stage before did in two, 32 -> 16 -> ... -> 1 (Salimans & Ho 2022, arXiv:2202.00512). The
student is a motion-aware network on the frames themselves (`models.student`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from caesar_freq.errors import ConfigError, run_main
from caesar_freq.models.predictor import Predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.train_diffusion import schedule, settings_of
from caesar_freq.training.args import add_common_args, check_common_args, resolve_device
from caesar_freq.training.checkpoint import Checkpointer
from caesar_freq.training.distiller import Distiller
from caesar_freq.training.generative import add_step_range, check_step_range
from caesar_freq.training.loop import Task, run, write_phase
from caesar_freq.training.losses import OBJECTIVES
from caesar_freq.training.memory import cap_memory, explains_out_of_memory
from caesar_freq.training.ranks import join
from caesar_freq.training.validation import Validation

#: Metric that decides which weights are kept.
CRITERIA = {"rate": "val_byte_ratio", "spectrum": "val_spectrum_error"}


def parser() -> argparse.ArgumentParser:
    """All flags of phase 3."""
    out = argparse.ArgumentParser(
        prog="caesar_freq.train_distillation", description=__doc__.split("\n")[0]
    )
    add_common_args(out, "distillation")
    switch = argparse.BooleanOptionalAction
    group = out.add_argument_group("phase 3")
    group.add_argument(
        "--freq_compressor_path", type=Path, required=True, help="best_model.pth of phase 1"
    )
    group.add_argument(
        "--teacher_path", type=Path, required=True, help="diffusion_best.pth of phase 2"
    )
    group.add_argument("--teacher_steps", type=int, default=32, help="sampler steps of the teacher")
    group.add_argument(
        "--init",
        type=Path,
        metavar="STUDENT",
        help="start from the weights of this student, of the same --student_* flags, such as one "
        "trained on other data (default: none)",
    )
    group.add_argument("--student_base_channels", type=int, default=64)
    group.add_argument("--student_channel_mults", type=int, nargs="+", default=[1, 2, 4])
    group.add_argument("--student_num_res_blocks", type=int, default=2)
    group.add_argument(
        "--student_patch", type=int, default=2, help="pixels of a site along an axis (default: 2)"
    )
    group.add_argument(
        "--objective",
        choices=tuple(OBJECTIVES),
        default="rate",
        help="fewest bytes at equal error, or the energy of real frames (default: rate)",
    )
    group.add_argument(
        "--use_perceptual_loss",
        action=switch,
        default=True,
        help="add the multi-scale term (default: on)",
    )
    group.add_argument(
        "--use_frequency_loss",
        action=switch,
        default=True,
        help="add the spectral term (default: on)",
    )
    group.add_argument(
        "--progressive",
        action=switch,
        default=False,
        help="halve the steps stage by stage (default: off)",
    )
    add_step_range(group)
    group.add_argument("--batch_size", type=int, default=4, help="blocks of an optimiser step")
    group.add_argument(
        "--evaluations",
        type=int,
        default=4,
        help="times validation blocks are coded to choose the best weights",
    )
    return out


@explains_out_of_memory("--student_base_channels or --training_size")
def train(args: argparse.Namespace) -> Path:
    """Run phase 3; returns the path of ``student_best.pth``."""
    device = resolve_device(args.device)
    ranks = join(device)
    cap_memory(device, args.gpu_mem_gb)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    distiller = Distiller(args, device)
    result = args.output_dir / "student_best.pth"
    inputs = [args.freq_compressor_path, args.teacher_path, *filter(None, [args.init])]
    settings = settings_of(args, inputs)
    keeper = Checkpointer(
        args.output_dir, settings, args.checkpoint_every, "caesar_freq.train_distillation"
    )
    if args.resume and keeper.put_back():
        return result
    layout = distiller.layout
    n_steps, per_epoch = schedule(args, distiller.sampler)
    distiller.divide(n_steps)
    validation = Validation(args.val_data, layout, distiller.model, args.training_size, args.seed)
    weights_count = sum(p.numel() for p in distiller.student.parameters())
    print(f"student of {weights_count:,} weights, stages {distiller.stages}", flush=True)

    def evaluate(weights: dict[str, Tensor]) -> dict[str, float]:
        averaged = MotionStudent(**distiller.architecture)
        averaged.load_state_dict(weights)
        student = Predictor("student", averaged, distiller.wiener, layout, device=device)
        return validation.metrics(student)

    task = Task(distiller.student, distiller.batch, distiller.loss, evaluate,
                distiller.begin, distiller.state, distiller.restore, "distillation",
                CRITERIA[args.objective])  # fmt: skip
    progress = run(task, args, keeper, n_steps, per_epoch, device, args.evaluations, ranks)
    config = {
        **settings,
        "network": distiller.architecture,
        "layout": asdict(layout),
        "frequency_model": distiller.model.fingerprint,
    }
    if not ranks.first:
        return result
    write_phase("student", result, progress, distiller.wiener, config)
    keeper.finish([result, result.parent / "history.csv"])
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``train_distillation``."""
    args = parser().parse_args(argv)
    check_common_args(args)
    check_step_range(args)
    if args.teacher_steps < 2 or args.teacher_steps & (args.teacher_steps - 1):
        raise ConfigError(f"--teacher_steps is {args.teacher_steps}; give a power of 2, at least 2")
    for name in ("student_base_channels", "student_num_res_blocks", "student_patch", "evaluations"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give at least 1")
    print(f"wrote {train(args)}")
    return 0


if __name__ == "__main__":
    run_main(main)
