"""Peak GPU memory of the three training phases at the documented settings, next to their budgets.

    python benchmarks/gpu_memory.py [--configfile config/config.yaml] [--steps 4] [--device cuda]

Every phase runs a few optimiser steps and one evaluation in a process of its own, on synthetic waves;
memory depends on the shapes alone. Prints a table and writes it to ``results/gpu_memory.md``. What
torch's tensors took is counted; CUDA itself takes some hundred MB besides. ``--device cpu`` runs the
same without numbers.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from caesar_freq import progress
from caesar_freq.errors import ConfigError, run_main
from caesar_freq.settings import validated
from caesar_freq.training.args import PHASES
from caesar_freq.workflow import flags

ROOT = Path(__file__).parents[1]
#: Earlier results that a phase needs: flag, and file in the folder of all results.
_NEEDS = {
    "freq_compressor": {},
    "diffusion": {"--freq_compressor_path": "freq_compressor/best_model.pth"},
    "distillation": {
        "--freq_compressor_path": "freq_compressor/best_model.pth",
        "--teacher_path": "diffusion/diffusion_best.pth",
    },
}


@dataclass(frozen=True)
class Row:
    """What a phase took; `peak_gb` None where nothing was measured."""

    phase: str
    budget_gb: float
    batch: int
    parts: int
    peak_gb: float | None
    problem: str = ""


def waves(side: int, frames: int) -> np.ndarray:
    """Travelling waves ``[1, 2, frames, side, side]`` float32 with a little noise."""
    rng = np.random.default_rng(0)
    t, y, x = np.ogrid[0:frames, 0:side, 0:side]
    clean = [np.sin(0.05 * k * x + 0.03 * (9 - k) * y + 0.2 * t * (k % 3)) / k for k in range(1, 9)]
    field = sum(clean)[None, None] + 0.01 * rng.standard_normal((1, 2, frames, side, side))
    return field.astype(np.float32)


def measure(phase: str, config: dict, folder: Path, steps: int, device: str) -> Row:
    """Train `phase` for so many steps in `folder`, which holds the phases before it."""
    budget, out = PHASES[phase]["gpu_mem_gb"], folder / phase
    command = [
        sys.executable, "-m", f"caesar_freq.train_{phase}", "--train_data", folder / "waves.npz",
        "--val_data", folder / "waves.npz", *flags(config, phase).split(),
        *(word for flag, path in _NEEDS[phase].items() for word in (flag, folder / path)),
        "--max_steps", steps, "--evaluations", 1, "--device", device, "--gpu_mem_gb", budget,
        "--no-resume", "--output_dir", out,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    parts = re.search(r"batch of \d+ in (\d+) parts", done.stdout)
    told = progress.read(out / progress.NAME) or {"metrics": {}}
    return Row(
        phase, budget, config[phase]["batch_size"], int(parts[1]) if parts else 1,
        told["metrics"].get("peak_gpu_gb"),
        "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1],
    )  # fmt: skip


def table(rows: Sequence[Row], device: str) -> str:
    """Markdown."""
    lines = [
        f"Measured on: {device}.",
        "",
        "| phase | batch | in parts | peak GPU memory, GB | budget, GB | kept |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        peak, kept = "not measured", "not measured"
        if row.peak_gb is not None:
            peak = f"{row.peak_gb:.2f}"
            kept = "yes" if row.peak_gb <= row.budget_gb else "NO"
        kept = row.problem or kept
        lines.append(
            f"| {row.phase} | {row.batch} | {row.parts} | {peak} | {row.budget_gb:g} | {kept} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 if a phase failed or took more than its budget."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--configfile", type=Path, default=ROOT / "config" / "config.yaml")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, default=Path("results/gpu_memory.md"))
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA GPU here; --device cpu runs the same without numbers")
    if not args.configfile.is_file():
        raise ConfigError(f"{args.configfile} does not exist; give one with --configfile")
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    config = validated(yaml.safe_load(args.configfile.read_text()), schema)
    side, frames = config["training"]["training_size"], 2 * config["diffusion"]["n_frame"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "waves.npz", data=waves(side, frames))
        rows = []
        for phase in PHASES:
            rows.append(measure(phase, config, folder, args.steps, args.device))
            if rows[-1].problem:  # the next one needs its result
                break
    where = torch.cuda.get_device_name() if args.device == "cuda" else "CPU, so no numbers"
    text = table(rows, f"{where}, torch {torch.__version__}, {args.configfile.name}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(text)
    print(text)
    good = (not row.problem and (row.peak_gb or 0) <= row.budget_gb for row in rows)
    return 0 if all(good) else 1


if __name__ == "__main__":
    run_main(main)
