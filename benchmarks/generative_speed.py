"""How long the networks take: one block, a batch, and the choice of modes beside plain encoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from generative_quality import teacher_of

import caesar_freq
from caesar_freq.atomic import write_bytes
from caesar_freq.codec.plan import Planner
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


@contextmanager
def timed_choice() -> Iterator[list[float]]:
    """Processor seconds of the choice of modes, one entry for each part of it."""
    spent: list[float] = []

    def watched(method):
        def run(*args, **options):
            start = time.process_time()
            try:
                return method(*args, **options)
            finally:
                spent.append(time.process_time() - start)

        return run

    own = Planner.choice, Planner.plan
    Planner.choice, Planner.plan = map(watched, own)
    try:
        yield spent
    finally:
        Planner.choice, Planner.plan = own


def choice_times(student: Predictor) -> Iterator[tuple[str, float, float, float, str]]:
    """Processor seconds on one thread: plain encoding, the choice of modes, all of ``auto``.

    The last takes in what is made of the choice: rounds of the step with the whole field through
    the network, and the check of the file. The mode taken is told, too.
    """
    flow = simulate(Flow(frames=256, stride=10), 902)
    noise = np.random.default_rng(0).standard_normal(flow.shape).astype(np.float32)
    corner = flow[:32]
    cases = [("flow, 17 MB", flow, 1e-2), ("flow, 2 MB", corner, 1e-2), ("flow, 2 MB", corner, 3e-2),
             ("flow, 17 MB", flow, 5e-4), ("noise, 17 MB", noise, 1e-2)]  # fmt: skip
    for name, x, bound in cases:
        encode = partial(caesar_freq.encode, x, "nrmse", bound, threads=1)
        encode()  # warms up
        start = time.process_time()
        encode()
        plain = time.process_time() - start
        with timed_choice() as spent:
            start = time.process_time()
            data = encode(generator=student)
            auto = time.process_time() - start
        modes = ", ".join(caesar_freq.info(data)["modes_used"])
        yield f"{name}, NRMSE {bound:g}", plain, sum(spent), auto, modes


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
    lines += ["", "Processor seconds on one thread; ratios to plain encoding.", "",
              "| field | plain, s | choice, s | with the choice | all of auto | taken |",
              "|---|---:|---:|---:|---:|---|"]  # fmt: skip
    torch.set_num_threads(1)
    for name, plain, choice, auto, modes in choice_times(student):
        lines.append(f"| {name} | {plain:.2f} | {choice:.2f} | {1 + choice / plain:.2f} |"
                     f" {auto / plain:.2f} | {modes} |")  # fmt: skip
        print(lines[-1], flush=True)
    torch.set_num_threads(threads)
    text = "\n".join(lines) + "\n"
    write_bytes(folder / "speed.md", text.encode())
    return text
