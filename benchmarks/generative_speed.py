"""How long the networks take: one block, a batch, and the choice of modes beside plain encoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from generative_quality import teacher_of

import caesar_freq
from caesar_freq.atomic import write_bytes
from caesar_freq.data.turbulence import Flow, simulate
from caesar_freq.models.predictor import Predictor, load_predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.models.unet3d import Unet3D

FRAMES, SIDE = 16, 256


def best(function: Callable[[], object], rounds: int = 3) -> float:
    """Shortest of some rounds in seconds, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def documented(model: Predictor) -> Predictor:
    """`model` with an untrained network of the documented size."""
    network = MotionStudent() if model.kind == "student" else Unet3D()
    return Predictor(model.kind, network, model.wiener, model.layout, model.steps)


def block_times(model: Predictor) -> dict[str, float]:
    """Seconds for one block of 16 frames, and MB/s of a batch of four."""
    rng = np.random.default_rng(0)
    frames = 0.2 * rng.standard_normal((4, FRAMES, SIDE, SIDE)).astype(np.float32)
    known = np.full((4, FRAMES), 0.01, np.float32)
    missing = known.copy()
    missing[:, list(model.layout.missing)] = np.inf
    found = {}
    for name, noise, targets in (("restore", known, range(FRAMES)),
                                 ("fill in", missing, model.layout.missing)):  # fmt: skip
        rounds = 3 if model.kind == "student" else 1
        call = partial(model.restore, frames[:1], noise[:1], 0.03, targets)
        found[f"{name} one block, s"] = best(call, rounds)
    if model.kind == "student":
        seconds = best(partial(model.restore, frames, known, 0.03), 1)
        found["restore four blocks, MB/s"] = frames.nbytes / 1e6 / seconds
    return found


def choice_times(student: Predictor) -> dict[str, tuple[float, float]]:
    """Seconds of plain encoding and of ``auto`` where the file ends up plain all the same."""
    field = simulate(Flow(size=256, frames=64, stride=2, viscosity=1e-3, time_step=2e-3), 902)
    noise = np.random.default_rng(0).standard_normal(field.shape).astype(np.float32)
    found = {}
    for name, x, bound in (("flow at 5e-4, network not asked", field, 5e-4),
                           ("noise at 1e-2, no mode pays", noise, 1e-2)):  # fmt: skip
        encode = partial(caesar_freq.encode, x, "nrmse", bound)
        found[name] = (best(encode, 2), best(partial(encode, generator=student), 2))
    return found


def write(path: Path, folder: Path, teacher_path: Path | None = None) -> str:
    """Write ``speed.md`` and return it; of teachers only if a file holds one."""
    threads = torch.get_num_threads()
    lines = ["# Speed of the networks", "",
             f"float32, PyTorch {torch.__version__}, {threads} threads; block of {FRAMES} frames of"
             f" {SIDE} x {SIDE} ({FRAMES * SIDE * SIDE * 4 / 1e6:.1f} MB). Best of the rounds.", "",
             "| network | parameters | restore one block, s | fill in one block, s"
             " | restore four blocks, MB/s |", "|---|---:|---:|---:|---:|"]  # fmt: skip
    student = load_predictor(path, "student")
    models = [("student of the file", student), ("student, documented size", documented(student))]
    if teacher := teacher_of(teacher_path or path):
        models += [("teacher of the file", teacher),
                   ("teacher, documented size", documented(teacher))]  # fmt: skip
    for name, model in models:
        times = block_times(model)
        weights = sum(p.numel() for p in model.network.parameters())
        lines.append(f"| {name} | {weights:,} | {times['restore one block, s']:.2f} |"
                     f" {times['fill in one block, s']:.2f} |"
                     f" {times.get('restore four blocks, MB/s', float('nan')):.2f} |")  # fmt: skip
        print(lines[-1], flush=True)
    lines += ["", "| choice of modes | plain, s | auto, s | ratio |", "|---|---:|---:|---:|"]
    for name, (plain, auto) in choice_times(student).items():
        lines.append(f"| {name} | {plain:.2f} | {auto:.2f} | {auto / plain:.2f} |")
    text = "\n".join(lines) + "\n"
    write_bytes(folder / "speed.md", text.encode())
    return text
