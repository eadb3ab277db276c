"""The optimiser loop of phases 2 and 3: accumulation, averaging, evaluation, resume."""

from __future__ import annotations

import argparse
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caesar_freq.atomic import atomic_path
from caesar_freq.models.predictor import KINDS
from caesar_freq.models.wiener import Wiener
from caesar_freq.progress import ProgressFile
from caesar_freq.training.checkpoint import Checkpointer, install_stop_handler
from caesar_freq.training.generative import Batch, MovingAverage
from caesar_freq.training.history import write_history
from caesar_freq.training.memory import micro_batch, peak_gb
from caesar_freq.training.ranks import ALONE, Ranks

_WARM_UP = 50
_CLIP = 1.0


@dataclass
class Task:
    """What a phase wants optimised.

    Attributes
    ----------
    network : nn.Module
    batch : callable
        Optimiser step to `Batch`; depends on nothing else, so that a run can resume.
    loss : callable
        Optimiser step, batch and the slice of its items to the loss of these items.
    evaluate : callable
        Averaged weights to a dict of validation metrics.
    begin : callable
        Called before an optimiser step with its number and the averaged weights.
    state, restore : callable
        What of the phase itself a resumed run needs (tensors and plain types), and its inverse.
    name : str
        What the phase is called where its progress is shown.
    criterion : str
        The metric whose lowest value decides which weights are kept.
    """

    network: nn.Module
    batch: Callable[[int], Batch]
    loss: Callable[[int, Batch, slice], Tensor]
    evaluate: Callable[[dict[str, Tensor]], dict[str, float]]
    begin: Callable[[int, dict[str, Tensor]], None] = lambda step, average: None
    state: Callable[[], dict] = dict
    restore: Callable[[dict], None] = lambda state: None
    name: str = ""
    criterion: str = "val_byte_ratio"


@dataclass
class Progress:
    """Position and results of a run.

    Attributes
    ----------
    best : dict
        Averaged weights with the lowest value of the task's criterion.
    """

    step: int = 0
    running: float = math.nan
    best_value: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


def run(task: Task, args: argparse.Namespace, keeper: Checkpointer, n_steps: int,
        steps_per_epoch: int, device: torch.device, evaluations: int,
        ranks: Ranks = ALONE) -> Progress:  # fmt: skip
    """Optimise for `n_steps` optimiser steps, from the last checkpoint if there is one.

    Of several processes (`ranks`) only the first has results in what this returns.
    """
    network = task.network
    optimiser = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=1e-4)
    average, progress = MovingAverage(network), Progress()
    stop = install_stop_handler()
    state = keeper.load() if args.resume else None
    if state:
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average.weights = {k: v.to(device) for k, v in state["average"].items()}
        progress = Progress(**state["progress"])
        task.restore(state["phase"])
        print(f"resumed at step {progress.step} of {n_steps}", flush=True)
    ranks.share(args.batch_size)
    ranks.wait()  # the first process writes the checkpoint that the others have just read
    size = _micro_size(task, args, device)
    marks = {math.ceil(n_steps * (i + 1) / evaluations) for i in range(evaluations)}
    started = time.monotonic()
    with (
        closing(prepared(task.batch, progress.step, n_steps, args.num_workers)) as batches,
        ProgressFile(args.output_dir, task.name, keeper.key, n_steps, steps_per_epoch,
                     progress.step, write=ranks.first) as shown,
    ):  # fmt: skip
        for batch in batches:
            task.begin(progress.step, average.weights)
            loss, stops = _step(task, optimiser, batch, progress.step, n_steps, args.lr, size,
                                device, ranks, stop)  # fmt: skip
            average.update(network, progress.step)
            progress.step += 1
            old = progress.running
            progress.running = loss if math.isnan(old) else 0.98 * old + 0.02 * loss
            if progress.step in marks and ranks.first:
                metrics = _evaluate(task, average, progress, steps_per_epoch, started)
                shown.update(
                    progress.step, progress.running, **metrics, peak_gpu_gb=peak_gb(device)
                )
            shown.update(progress.step, progress.running)
            if progress.step % max(1, n_steps // 20) == 0 and ranks.first:
                print(f"step {progress.step}/{n_steps}: loss {progress.running:.4f}", flush=True)
            due = keeper.due(progress.step) or progress.step in marks or stops
            if due and ranks.first:
                keeper.save({
                    "network": network.state_dict(), "optimiser": optimiser.state_dict(),
                    "average": average.weights, "progress": vars(progress),
                    "phase": task.state(),
                })  # fmt: skip
            if stops:  # any process was told to, and all have heard of it
                ranks.wait()
                stop.signal = stop.signal or signal.SIGTERM
                stop.exit(keeper.path)
    return progress


def prepared(batch: Callable[[int], Batch], start: int, stop: int, workers: int) -> Iterator[Batch]:
    """``batch(start)`` to ``batch(stop - 1)`` in order, made ahead by `workers` threads."""
    if not workers:
        yield from map(batch, range(start, stop))
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        try:
            for step in range(start, stop):
                waiting.append(pool.submit(batch, step))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def learning_rate(peak: float, step: int, n_steps: int) -> float:
    """Linear warm-up, then a cosine down to 1 %."""
    rise = min(1.0, (step + 1) / min(_WARM_UP, max(1, n_steps // 5)))
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / n_steps)))


def _autocast(device: torch.device):
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _step(task, optimiser, batch, step, n_steps, lr, size, device, ranks, stop):
    """One optimiser step; its loss, and whether a process of `ranks` was told to stop."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(lr, step, n_steps)
    optimiser.zero_grad()
    n, total = len(batch), 0.0
    own = ranks.share(n)
    for start in range(own.start, own.stop, size):
        part = slice(start, min(own.stop, start + size))
        with _autocast(device):
            loss = task.loss(step, batch, part)
        # equal weight for every item whatever the slices, so that the budget changes nothing
        share = (part.stop - part.start) / n
        (loss * share).backward()
        total += loss.item() * share
    total, stops = ranks.add_up(task.network.parameters(), total, float(stop.requested))
    nn.utils.clip_grad_norm_(task.network.parameters(), _CLIP)
    optimiser.step()
    return total, stops > 0


def _evaluate(task, average, progress, steps_per_epoch, started) -> dict[str, float]:
    metrics = task.evaluate(average.weights)
    value = metrics[task.criterion]
    best = value < progress.best_value or not progress.best
    if best:
        progress.best_value = value
        progress.best = {k: v.detach().clone() for k, v in average.weights.items()}
    progress.history.append({
        "epoch": round(progress.step / steps_per_epoch, 3), "step": progress.step,
        "train_loss": progress.running, **metrics, "best": int(best),
        "seconds": round(time.monotonic() - started, 1),
    })  # fmt: skip
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"step {progress.step}: {shown}{' (best)' if best else ''}", flush=True)
    return metrics


def _micro_size(task: Task, args, device: torch.device) -> int:
    def probe() -> None:
        with _autocast(device):
            loss = task.loss(0, task.batch(0), slice(0, 1))
        loss.backward()
        task.network.zero_grad()

    size = micro_batch(device, args.batch_size, args.gpu_mem_gb, probe)
    if size < args.batch_size:
        parts = -(-args.batch_size // size)
        print(f"batch of {args.batch_size} in {parts} parts of at most {size}", flush=True)
    return size


def noise_for(seed: int, step: int, shape: tuple[int, ...], device) -> tuple[Tensor, Tensor]:
    """Noise and uniform times of a training step, the same on every device and after a resume."""
    rng = np.random.default_rng([seed, step, 2])
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(device)
    times = torch.from_numpy(rng.random(shape[0], dtype=np.float32)).to(device)
    return noise, times


def write_phase(kind: str, path: Path, progress: Progress, wiener: Wiener, config: dict) -> None:
    """Write a phase's best weights with all that `models.predictor` needs, and its history."""
    _, key, layout_format = KINDS[kind]
    with atomic_path(path) as temporary:
        torch.save({
            key: {name: tensor.cpu().contiguous() for name, tensor in progress.best.items()},
            "wiener": {name: torch.from_numpy(value) for name, value in vars(wiener).items()},
            "config": config,
            "format": layout_format,
        }, temporary)  # fmt: skip
    write_history(path.parent / "history.csv", progress.history)
