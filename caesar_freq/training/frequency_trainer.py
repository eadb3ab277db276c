"""The run of phase 1: network, optimiser, position, best model and history."""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch

from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.data.blocks import volumes
from caesar_freq.training.args import resolve_device
from caesar_freq.training.frequency import (
    as_tensors,
    coded_bytes,
    coded_values,
    integer_model,
    log_mean,
    untrained_model,
)
from caesar_freq.training.grid_fit import fit_grids
from caesar_freq.training.history import write_history
from caesar_freq.training.memory import cap_memory, peak_gb
from caesar_freq.training.qat import MagnitudeBits, ScaleNetwork
from caesar_freq.training.quantiser_fit import DEFAULT_LAMBDA, fit_centroids, fit_dead_zones
from caesar_freq.training.rows import encoders, gather

#: Contexts that one unit of ``--batch_size`` stands for.
ROWS_PER_BLOCK = 1024
_WARM_UP = 20


class Trainer:
    """State of a run: network, optimiser, position, best model and history.

    Parameters
    ----------
    args : argparse.Namespace
        See `caesar_freq.train_freq_compressor.parser`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.device = resolve_device(args.device)
        cap_memory(self.device, args.gpu_mem_gb)
        self.train = list(volumes(args.train_data))
        validation = list(volumes(args.val_data))
        chosen = np.linspace(0, len(validation) - 1, min(6, len(validation))).astype(int)
        self.validation = [validation[i] for i in np.unique(chosen)]
        self.start = untrained_model() if args.init == "none" else load_frequency_model(args.init)
        spatial = ((args.wavelet, 2 * args.dct_block_size),) if args.use_dwt else ()
        print(f"gathering contexts of {len(self.train)} volumes", flush=True)
        self.rows = gather(self.train, self.start, args.steps_per_volume, args.rows_per_set,
                           args.seed, spatial)  # fmt: skip
        self.network, self.law = ScaleNetwork(), MagnitudeBits()
        if args.init != "none":
            self.network.load_integers(self.start.state_dict())
            self.law.load_pmf(self.start.pmf)
        self.modules = torch.nn.ModuleList([self.network, self.law]).to(self.device)
        self.optimiser = torch.optim.Adam(self.modules.parameters(), args.lr)
        per_step = args.batch_size * ROWS_PER_BLOCK
        self.steps_per_epoch = max(1, len(self.rows.weights) // per_step)
        self.n_steps = args.epochs * self.steps_per_epoch
        if args.max_steps:
            self.n_steps = min(self.n_steps, args.max_steps)
        self.step, self.average, self.history = 0, math.nan, []
        self.best: FrequencyModel | None = None
        self.best_score = math.inf

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to 1 %."""
        rise = min(1.0, (self.step + 1) / _WARM_UP)
        fall = 0.5 * (1 + math.cos(math.pi * self.step / self.n_steps))
        return self.args.lr * rise * (0.01 + 0.99 * fall)

    def run_step(self) -> None:
        """One optimiser step; `average` follows its loss in bits per coded coefficient."""
        rng = np.random.default_rng([self.args.seed, self.step])
        size = self.args.batch_size * ROWS_PER_BLOCK
        chosen = rng.integers(len(self.rows.weights), size=size)
        features = torch.from_numpy(self.rows.features[chosen]).to(self.device, torch.float32)
        magnitudes = torch.from_numpy(self.rows.magnitudes[chosen]).to(self.device, torch.float32)
        weights = torch.from_numpy(self.rows.weights[chosen]).to(self.device)
        # the second half of the run sees the rounding that the integer network has
        self.network.rounding = 2 * self.step >= self.n_steps
        position = self.network(features)
        position = position + 0.5 if self.network.rounding else position
        loss = (weights * self.law(position, magnitudes)).mean()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        value = loss.item()
        self.average = value if math.isnan(self.average) else 0.95 * self.average + 0.05 * value

    def start_model(self) -> FrequencyModel:
        """The model to start from, with the dead zones that ``--lambda_bpp`` asks for.

        It was fitted with the default, and would win with that over models of any other.
        """
        if self.args.lambda_bpp == DEFAULT_LAMBDA:
            return self.start
        parts = encoders(self.train, self.start, 6)
        return fit_dead_zones(self.start, parts, self.args.lambda_bpp)

    def evaluate(self, started: float) -> None:
        """Make an integer model, count its bytes, keep it if it is the best."""
        model = integer_model(self.network.cpu(), self.rows, self.start, self.args.seed)
        self.modules.to(self.device)
        parts = encoders(self.train, model, 6)
        model = fit_centroids(model, parts)
        model = fit_centroids(fit_dead_zones(model, parts, self.args.lambda_bpp), parts)
        model = fit_grids(model, self.train, self.args.seed)
        self.consider(model, started)

    def consider(self, model: FrequencyModel, started: float) -> None:
        """Count the bytes of validation data under `model` and keep it if it is the best."""
        sizes = coded_bytes(model, self.validation)
        score = log_mean(sizes)
        if score < self.best_score:
            self.best, self.best_score = model, score
        epoch = self.step / self.steps_per_epoch
        self.history.append({
            "epoch": round(epoch, 3), "step": self.step, "train_loss": self.average,
            "val_bytes": sum(sizes), "val_log2_bytes": score, "best": int(model is self.best),
            "seconds": round(time.monotonic() - started, 1),
        })  # fmt: skip
        print(
            f"step {self.step}/{self.n_steps}: {self.average:.4f} bits per coded coefficient, "
            f"validation {sum(sizes)} bytes{' (best)' if model is self.best else ''}",
            flush=True,
        )

    def metrics(self) -> dict[str, float | None]:
        """What the last evaluation found."""
        size = self.history[-1]["val_bytes"]
        return {"val_bytes": size, "bits_per_value": 8 * size / coded_values(self.validation),
                "peak_gpu_gb": peak_gb(self.device)}  # fmt: skip

    def state(self) -> dict:
        """What a resumed run needs."""
        return {
            "modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "average": self.average, "history": self.history,
            "best_score": self.best_score,
            "best": as_tensors(self.best) if self.best else None,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Inverse of `state`."""
        self.modules.load_state_dict(state["modules"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.average = state["step"], state["average"]
        self.history = state["history"]
        self.best_score = state["best_score"]
        if state["best"]:
            self.best = FrequencyModel.from_state_dict(
                {name: tensor.numpy() for name, tensor in state["best"].items()}
            )

    def write(self, settings: dict) -> None:
        """Best model as checkpoint and ``.cfm``, and the history."""
        folder = self.args.output_dir
        checkpoint = {
            "model_state_dict": as_tensors(self.best), "config": settings,
            "format": "caesar-freq/frequency/1",
        }  # fmt: skip
        with atomic_path(folder / "best_model.pth") as temporary:
            torch.save(checkpoint, temporary)
        write_bytes(folder / "best_model.cfm", self.best.to_bytes())
        write_history(folder / "history.csv", self.history)
