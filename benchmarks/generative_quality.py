"""How good generated frames are: one step beside 32, one sample beside the mean, and spectra."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from caesar_freq.atomic import write_bytes
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.models.conditions import conditions
from caesar_freq.models.diffusion import sample, start_noise
from caesar_freq.models.predictor import KINDS, Predictor, load_checkpoint, load_predictor
from caesar_freq.reporting.plots import png

#: Normalised quantisation step of the frames, and samples of the ensemble.
STEP, ENSEMBLE = 0.1, 8


def block(field: np.ndarray, layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A block of normalised frames, the same with its keyframes decoded, and the noise levels."""
    x = field[: layout.n_frame].astype(np.float64)
    x = ((x - x.mean()) / np.ptp(x)).astype(np.float32)
    keys, model = list(layout.keyframes), FrequencyModel.base()
    coder = PlainCoder(x[keys], Variable(0.0, 1.0), model)
    frames, noise = np.zeros_like(x), np.full(len(x), np.inf, np.float32)
    frames[keys] = coder.code(0.62 * STEP, model.dead_zone_at(STEP / 3.5)).decoded
    noise[keys] = np.sqrt(np.mean((frames[keys] - x[keys]) ** 2))
    return x, frames, noise


def samples(teacher: Predictor, frames, noise, steps: int, scale: float, seed: int) -> np.ndarray:
    """Frames of the teacher from the noise of a seed, ``[T, H, W]``."""
    given = conditions(teacher.layout, teacher.wiener, frames[None], noise[None], STEP)

    def velocity(x, t):
        return teacher.network(x, given.latents, given.noise, t, given.log_step)

    start = start_noise(given.latents.shape, seed).to(given.latents) * scale
    with torch.no_grad():
        return given.frames_with(sample(velocity, start, steps))[0]


def ways(x: np.ndarray, frames, noise, student: Predictor, teacher: Predictor | None) -> dict:
    """Frames ``[T, H, W]`` of every way to fill in the missing ones."""
    keys = list(student.layout.keyframes)
    linear = frames.copy()
    for t in student.layout.missing:
        linear[t] = _between(frames, keys, t)
    found = {"linear interpolation": linear,
             "student, 1 step": student.restore(frames[None], noise[None], STEP)[0]}  # fmt: skip
    if teacher is not None:
        for steps in (32, 4, 1):
            found[f"teacher, {steps} steps, no noise"] = samples(
                teacher, frames, noise, steps, 0, 0
            )
        drawn = [samples(teacher, frames, noise, 32, 1, seed) for seed in range(ENSEMBLE)]
        found["teacher, 32 steps, one sample"] = drawn[0]
        found[f"teacher, 32 steps, mean of {ENSEMBLE}"] = np.mean(drawn, axis=0)
    return found


def _between(frames: np.ndarray, keys: list[int], t: int) -> np.ndarray:
    before, after = max(k for k in keys if k < t), min(k for k in keys if k > t)
    part = (t - before) / (after - before)
    return (1 - part) * frames[before] + part * frames[after]


def spectrum(frames: np.ndarray) -> np.ndarray:
    """Mean power of frames ``[T, H, W]`` by ring of wavenumbers."""
    windowed = (frames - frames.mean()) * np.outer(*(np.hanning(n) for n in frames.shape[1:]))
    power = np.mean(np.abs(np.fft.fft2(windowed)) ** 2, axis=0)
    rings = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in power.shape), indexing="ij"))
    number = np.round(rings * min(power.shape)).astype(int)
    totals = np.bincount(number.ravel(), power.ravel()) / np.bincount(number.ravel())
    return totals[1 : min(power.shape) // 2]


def teacher_of(path: Path) -> Predictor | None:
    """The teacher in a file, if it holds one."""
    checkpoint = load_checkpoint(path)
    section, weights, _ = KINDS["teacher"]
    return load_predictor(path, "teacher") if {section, weights} & checkpoint.keys() else None


def measure(field: np.ndarray, path: Path, folder: Path, teacher_path: Path | None = None) -> str:
    """Compare all ways on one block; writes ``spectra.png`` and returns a table in Markdown.

    The teacher, if there is one, is in the file of the student or of its own.
    """
    student = load_predictor(path, "student")
    teacher = teacher_of(teacher_path or path)
    x, frames, noise = block(field, student.layout)
    missing = list(student.layout.missing)
    found = ways(x, frames, noise, student, teacher)
    truth = spectrum(x[missing])
    lines = ["## Frames filled in between keyframes", "",
             f"Turbulence, step {STEP:g}. RMSE of the missing frames against linear interpolation, and"
             " the power in the upper half of the wavenumbers against the truth's.", "",
             "| way | RMSE | fine power |", "|---|---:|---:|"]  # fmt: skip
    figure, axis = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    axis.loglog(np.arange(1, len(truth) + 1), truth, color="black", label="truth")
    errors = {name: np.sqrt(np.mean((y[missing] - x[missing]) ** 2)) for name, y in found.items()}
    for name, frames_made in found.items():
        power = spectrum(frames_made[missing])
        upper = slice(len(truth) // 2, None)
        lines.append(f"| {name} | {errors[name] / errors['linear interpolation']:.3f} |"
                     f" {power[upper].sum() / truth[upper].sum():.2f} |")  # fmt: skip
        axis.loglog(np.arange(1, len(truth) + 1), power, label=name, linewidth=1)
    axis.set(xlabel="wavenumber", ylabel="power")
    axis.legend(fontsize=8, frameon=False)
    write_bytes(folder / "spectra.png", png(figure))
    return "\n".join(lines) + "\n"
