"""Phase 1: learn the entropy model and the quantiser of the frequency codec.

``python -m caesar_freq.train_freq_compressor --train_data a.npz --val_data b.npz``

1. The coder walks over the training data under every transform and a range of steps and hands out
   contexts and magnitudes (`training.rows`).
2. A network learns each coefficient's scale from its context, first in floating point, then with
   rounding (`training.qat`); the loss is the code length in bits per value.
3. At every evaluation the network becomes integers, pmfs, centroids and dead zones are fitted to
   it, and validation data are really coded; the model with the fewest bytes is kept.

The loss as a whole is MSE + weight * bits per value: given a step, the entropy model can only move
the bits and the quantiser's shape both, so ``--lambda_bpp`` acts where the two meet, in the dead
zones (`training.quantiser_fit.fit_dead_zones`).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.codec.choose import sample
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.codec.stream import Options, encode_array
from caesar_freq.data.blocks import Volume, volumes
from caesar_freq.entropy.network import bins_reference
from caesar_freq.errors import ConfigError, run_main
from caesar_freq.training.args import add_common_args, check_common_args, resolve_device
from caesar_freq.training.checkpoint import (
    Checkpointer,
    file_digests,
    install_stop_handler,
)
from caesar_freq.training.history import write_history
from caesar_freq.training.pmf_fit import fit_pmf
from caesar_freq.training.qat import MagnitudeBits, ScaleNetwork
from caesar_freq.training.quantiser_fit import fit_centroids, fit_dead_zones
from caesar_freq.training.rows import Rows, encoders, gather

#: Contexts that one unit of ``--batch_size`` stands for.
ROWS_PER_BLOCK = 1024
#: NRMSE at which validation data are coded to choose the best model.
SELECTION_NRMSE = (1e-2, 1e-3, 1e-4)
_WARM_UP = 20
_MAX_FIT_ROWS = 2_000_000


def parser() -> argparse.ArgumentParser:
    """All flags of phase 1."""
    out = argparse.ArgumentParser(
        prog="caesar_freq.train_freq_compressor", description=__doc__.split("\n")[0]
    )
    add_common_args(out, "freq_compressor")
    group = out.add_argument_group("phase 1")
    group.add_argument("--dct_block_size", type=int, default=8,
                       help="DCT block in each subband of --use_dwt (default: 8)")
    group.add_argument("--batch_size", type=int, default=8,
                       help=f"blocks of {ROWS_PER_BLOCK} coefficients a step (default: 8)")
    group.add_argument("--lambda_bpp", type=float, default=0.01,
                       help="weight of bits per value against MSE; 0.01 gives the fewest bytes at "
                            "equal error, more widens the dead zones (default: 0.01)")
    group.add_argument("--init", default="none", metavar="none|base|PATH",
                       help="start from this model; it also takes part in the selection, so the "
                            "result is never worse on the validation data (default: none)")
    group.add_argument("--steps_per_volume", type=int, default=4,
                       help="quantisation steps drawn for each volume and transform (default: 4)")
    group.add_argument("--rows_per_set", type=int, default=12000,
                       help="contexts of one volume, transform and step at most (default: 12000)")
    group.add_argument("--evaluations", type=int, default=3,
                       help="times a model is made and its bytes are counted (default: 3)")
    return out


def integer_model(
    network: ScaleNetwork, rows: Rows, quantiser: FrequencyModel, seed: int
) -> FrequencyModel:
    """Integer network and fitted pmfs, with the dead zones and centroids of `quantiser`."""
    weights = network.integers()
    order = ("w1", "b1", "w2", "b2", "w3", "b3")
    chosen = np.random.default_rng(seed).permutation(len(rows.weights))[:_MAX_FIT_ROWS]
    features = rows.features[chosen]
    bins = np.concatenate([
        bins_reference(part, tuple(weights[name] for name in order))
        for part in np.array_split(features, -(-len(features) // 200_000))
    ])  # fmt: skip
    pmf = fit_pmf(bins, rows.magnitudes[chosen], rows.weights[chosen])
    return FrequencyModel(**weights, pmf=pmf, centroid=quantiser.centroid,
                          dead_zone=quantiser.dead_zone)  # fmt: skip


def untrained_model() -> FrequencyModel:
    """Quantiser shapes to start from (dead zone 0.6 at loose bounds, 0.5 at tight ones)."""
    network = ScaleNetwork()
    pmf = np.tile(np.array([[40000, 20000, 1 << 23, 1 << 22]], np.uint32), (80, 1))
    dead_zone = np.array([500, 500, 550, 600, 600, 600, 600, 600], np.int32)
    return FrequencyModel(**network.integers(), pmf=pmf, centroid=np.zeros((20, 3), np.int8),
                          dead_zone=dead_zone)  # fmt: skip


def coded_bytes(model: FrequencyModel, validation: Sequence[Volume]) -> list[int]:
    """Real stream lengths of the validation volumes at every `SELECTION_NRMSE`."""
    sizes = []
    for volume in validation:
        x = np.ascontiguousarray(sample(volume.values))
        for nrmse in SELECTION_NRMSE:
            options = Options("nrmse", nrmse, embed_model=False, spatial=(("lot", 16),))
            sizes.append(len(encode_array(x, options, model)))
    return sizes


def log_mean(sizes: Sequence[int]) -> float:
    """Mean log2 of sizes: equal relative savings count the same on every volume and bound."""
    return float(np.mean(np.log2(sizes)))


class Trainer:
    """State of a run: network, optimiser, position, best model and history.

    Parameters
    ----------
    args : argparse.Namespace
        See `parser`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.device = resolve_device(args.device)
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
        self.modules = torch.nn.ModuleList([self.network, self.law]).to(self.device)
        self.optimiser = torch.optim.Adam(self.modules.parameters(), args.lr)
        per_step = args.batch_size * ROWS_PER_BLOCK
        self.steps_per_epoch = max(1, len(self.rows.weights) // per_step)
        self.n_steps = args.epochs * self.steps_per_epoch
        if args.max_steps:
            self.n_steps = min(self.n_steps, args.max_steps)
        self.step, self.history = 0, []
        self.best: FrequencyModel | None = None
        self.best_score = math.inf

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to 1 %."""
        rise = min(1.0, (self.step + 1) / _WARM_UP)
        fall = 0.5 * (1 + math.cos(math.pi * self.step / self.n_steps))
        return self.args.lr * rise * (0.01 + 0.99 * fall)

    def run_step(self) -> float:
        """One optimiser step; returns the loss in bits per coded coefficient."""
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
        return loss.item()

    def evaluate(self, loss: float, started: float) -> None:
        """Make an integer model, count its bytes, keep it if it is the best."""
        model = integer_model(self.network.cpu(), self.rows, self.start, self.args.seed)
        self.modules.to(self.device)
        parts = encoders(self.train, model, 6)
        model = fit_centroids(model, parts)
        model = fit_centroids(fit_dead_zones(model, parts, self.args.lambda_bpp), parts)
        self._consider(model, loss, started)

    def _consider(self, model: FrequencyModel, loss: float, started: float) -> None:
        sizes = coded_bytes(model, self.validation)
        score = log_mean(sizes)
        if score < self.best_score:
            self.best, self.best_score = model, score
        epoch = self.step / self.steps_per_epoch
        self.history.append({
            "epoch": round(epoch, 3), "step": self.step, "train_loss": loss,
            "val_bytes": sum(sizes), "val_log2_bytes": score, "best": int(model is self.best),
            "seconds": round(time.monotonic() - started, 1),
        })  # fmt: skip
        print(f"step {self.step}/{self.n_steps}: {loss:.4f} bits per coded coefficient, "
              f"validation {sum(sizes)} bytes{' (best)' if model is self.best else ''}", flush=True)

    def state(self) -> dict:
        """What a resumed run needs."""
        return {
            "modules": self.modules.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "history": self.history, "best_score": self.best_score,
            "best": _tensors(self.best) if self.best else None,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Inverse of `state`."""
        self.modules.load_state_dict(state["modules"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.history = state["step"], state["history"]
        self.best_score = state["best_score"]
        if state["best"]:
            self.best = FrequencyModel.from_state_dict(
                {name: tensor.numpy() for name, tensor in state["best"].items()}
            )

    def write(self, settings: dict) -> None:
        """Best model as checkpoint and ``.cfm``, and the history."""
        folder = self.args.output_dir
        checkpoint = {
            "model_state_dict": _tensors(self.best), "config": settings,
            "format": "caesar-freq/frequency/1",
        }  # fmt: skip
        with atomic_path(folder / "best_model.pth") as temporary:
            torch.save(checkpoint, temporary)
        write_bytes(folder / "best_model.cfm", self.best.to_bytes())
        write_history(folder / "history.csv", self.history)


def _tensors(model: FrequencyModel) -> dict[str, torch.Tensor]:
    # torch has no arithmetic on uint32, but pmf parameters fit int32
    return {
        name: torch.from_numpy(np.array(a, np.int32 if a.dtype == np.uint32 else a.dtype))
        for name, a in model.state_dict().items()
    }


def settings_of(args: argparse.Namespace) -> dict:
    """All that the result depends on."""
    ignored = {"output_dir", "device", "resume", "num_workers", "checkpoint_every", "gpu_mem_gb",
               "train_data", "val_data"}  # fmt: skip
    settings = {k: v for k, v in vars(args).items() if k not in ignored}
    settings["data"] = file_digests([*args.train_data, *args.val_data])
    return settings


def train(args: argparse.Namespace) -> Path:
    """Run phase 1; returns the path of ``best_model.pth``."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    settings = settings_of(args)
    keeper = Checkpointer(args.output_dir, settings, args.checkpoint_every)
    stop = install_stop_handler()
    trainer = Trainer(args)
    state = keeper.load() if args.resume else None
    started = time.monotonic()
    if state:
        trainer.restore(state)
        print(f"resumed at step {trainer.step} of {trainer.n_steps}", flush=True)
    elif args.init != "none":
        trainer._consider(trainer.start, float("nan"), started)
    marks = {math.ceil(trainer.n_steps * (i + 1) / args.evaluations) for i in range(args.evaluations)}
    average = float("nan")
    while trainer.step < trainer.n_steps:
        loss = trainer.run_step()
        average = loss if math.isnan(average) else 0.95 * average + 0.05 * loss
        if trainer.step in marks:
            trainer.evaluate(average, started)
        elif trainer.step % max(1, trainer.n_steps // 20) == 0:
            print(f"step {trainer.step}/{trainer.n_steps}: {average:.4f} bits", flush=True)
        if keeper.due(trainer.step) or trainer.step in marks or stop.requested:
            keeper.save(trainer.state())
        if stop.requested:
            stop.exit(keeper.path)
    trainer.write(settings)
    keeper.clear()
    return args.output_dir / "best_model.pth"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``train_freq_compressor``."""
    args = parser().parse_args(argv)
    check_common_args(args)
    if args.dct_block_size not in (4, 8, 16):
        raise ConfigError(f"--dct_block_size is {args.dct_block_size}; choose 4, 8 or 16")
    if args.lambda_bpp <= 0:
        raise ConfigError(f"--lambda_bpp is {args.lambda_bpp}; give a number above 0")
    for name in ("steps_per_volume", "rows_per_set", "evaluations"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give at least 1")
    print(f"wrote {train(args)}")
    return 0


if __name__ == "__main__":
    run_main(main)
