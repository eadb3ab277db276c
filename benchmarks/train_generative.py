"""Recipe of the student for turbulence that docs/results/generative.md measures.

    python benchmarks/train_generative.py [--work_dir DIR] [--steps N] [--more_steps N N N]
        [--teacher_steps N]

1. Simulates turbulence (`caesar_freq.data.turbulence`, fourteen seeds, frames 5, 10 and 20 solver
   steps apart; another seed chooses the best weights).
2. Runs phase 2 for the linear baseline and, with ``--teacher_steps``, for a teacher worth its name.
3. Runs phase 3 at the steps that NRMSE 3e-3 to 3e-2 take, then goes on from its student three times,
   with lower learning rates at coarser and coarser ones.

What is finished is kept in the work folder and not done again; an interrupted phase goes on. The
result is ``student_best.pth`` there: about two hours and a quarter of one processor core. What it gave once is
kept as ``benchmarks/models/turbulence.pth``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caesar_freq import train_diffusion, train_distillation, train_freq_compressor
from caesar_freq.atomic import atomic_path
from caesar_freq.data.turbulence import Flow, simulate
from caesar_freq.errors import run_main

SEEDS, VALIDATION_SEED = (*range(101, 107), *range(121, 129)), 111
FLOW = Flow(frames=200, stride=5)
#: Distances of frames, in frames of `FLOW`.
SPACINGS = (1, 2, 4)
#: Of the runs of phase 3: peak learning rate, finest step, and times that validation chooses weights.
RATES, FINEST, EVALUATIONS = (3e-3, 1.5e-3, 2e-3, 2e-3), (1e-2, 2e-2, 2e-2, 4e-2), (20, 6, 6, 12)
BASE_MODEL = Path(train_freq_compressor.__file__).parent / "assets" / "base.cfm"


def data(folder: Path, seeds: Sequence[int], name: str, shifted: bool) -> list[Path]:
    """Files of every distance of frames, ``[1, sections, T, H, W]``.

    `shifted` makes a section of each of the series that a distance leaves of a simulation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}_{spacing}.npz" for spacing in SPACINGS]
    if all(path.exists() for path in paths):
        return paths
    series = [simulate(FLOW, seed) for seed in seeds]
    for path, spacing in zip(paths, SPACINGS):
        shifts = range(spacing if shifted else 1)
        sections = [x[shift::spacing] for x in series for shift in shifts]
        with atomic_path(path) as temporary:
            np.savez(temporary, data=np.stack(sections)[None])
    return paths


def train(args: argparse.Namespace) -> Path:
    """Both phases; path of the student."""
    folder = args.work_dir
    common = [
        "--train_data", *data(folder / "data", SEEDS, "train", True),
        "--val_data", *data(folder / "data", [VALIDATION_SEED], "val", False),
        "--freq_compressor_path", BASE_MODEL, "--training_size", 64, "--low_freq_size", 4,
        "--epochs", 10**6, "--device", args.device,
    ]  # fmt: skip
    teacher = folder / "diffusion_best.pth"
    if not teacher.exists():
        size = ["--unet_dim", 8, "--dim_mults", 1, 2, "--max_steps", 10, "--evaluations", 1]
        if args.teacher_steps:
            size = ["--unet_dim", 32, "--dim_mults", 1, 2, "--max_steps", args.teacher_steps,
                    "--lr", 2e-3]  # fmt: skip
        size += ["--step_range", 1e-2, 0.8, "--output_dir", folder]
        train_diffusion.main([str(flag) for flag in [*common, *size]])
    size = ["--student_base_channels", 24, "--student_channel_mults", 1, 2,
            "--student_num_res_blocks", 1, "--no-use_perceptual_loss", "--no-use_frequency_loss",
            "--teacher_path", teacher]  # fmt: skip
    size += [] if args.teacher_steps else ["--teacher_steps", 4]
    names = ("first", "second", "third", ".")
    before: list[str | Path] = []
    for name, steps, rate, finest, evaluations in zip(
        names, (args.steps, *args.more_steps), RATES, FINEST, EVALUATIONS
    ):
        student = folder / name / "student_best.pth"
        if not student.exists():
            more = ["--max_steps", steps, "--lr", rate, "--step_range", finest, 0.8]
            more += ["--evaluations", evaluations, "--output_dir", student.parent, *before]
            train_distillation.main([str(flag) for flag in [*common, *size, *more]])
        before = ["--init", student]
    return student


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--work_dir", type=Path, default=Path("checkpoints/turbulence"))
    parser.add_argument("--steps", type=int, default=22000, help="of the student (%(default)s)")
    parser.add_argument(
        "--more_steps", type=int, nargs=3, default=[5000, 6000, 24000],
        help="of the student afterwards (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--teacher_steps", type=int, default=0, help="0: no more than the linear baseline"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    print(train(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    run_main(main)
