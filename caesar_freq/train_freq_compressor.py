"""Phase 1: learn the entropy model and the quantiser of the frequency codec.

``python -m caesar_freq.train_freq_compressor --train_data a.npz --val_data b.npz``

1. The coder walks over the training data under every transform and a range of bounds and hands out
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

from caesar_freq.errors import ConfigError, run_main
from caesar_freq.progress import ProgressFile
from caesar_freq.training.args import add_common_args, check_common_args
from caesar_freq.training.checkpoint import Checkpointer, file_digests, install_stop_handler
from caesar_freq.training.frequency_trainer import ROWS_PER_BLOCK, Trainer
from caesar_freq.training.memory import explains_out_of_memory
from caesar_freq.training.quantiser_fit import DEFAULT_LAMBDA
from caesar_freq.training.ranks import refuse_many

#: Files that the phase leaves.
RESULTS = ("best_model.pth", "best_model.cfm", "history.csv")


def parser() -> argparse.ArgumentParser:
    """All flags of phase 1."""
    out = argparse.ArgumentParser(
        prog="caesar_freq.train_freq_compressor", description=__doc__.split("\n")[0]
    )
    add_common_args(out, "freq_compressor")
    group = out.add_argument_group("phase 1")
    group.add_argument(
        "--dct_block_size",
        type=int,
        default=8,
        help="DCT block in each subband of --use_dwt (default: 8)",
    )
    group.add_argument(
        "--batch_size",
        type=int,
        default=8,
        help=f"blocks of {ROWS_PER_BLOCK} coefficients a step (default: 8)",
    )
    group.add_argument(
        "--lambda_bpp",
        type=float,
        default=DEFAULT_LAMBDA,
        help="weight of bits per value against MSE; 0.01 gives the fewest bytes at "
        "equal error, more widens the dead zones (default: 0.01)",
    )
    group.add_argument(
        "--init",
        default="none",
        metavar="none|base|PATH",
        help="start from this model; it also takes part in the selection, so the "
        "result is never worse on the validation data (default: none)",
    )
    group.add_argument(
        "--steps_per_volume",
        type=int,
        default=4,
        help="quantisation steps drawn for each volume and transform (default: 4)",
    )
    group.add_argument(
        "--rows_per_set",
        type=int,
        default=12000,
        help="contexts of one volume, transform and step at most (default: 12000)",
    )
    group.add_argument(
        "--evaluations",
        type=int,
        default=3,
        help="times a model is made and its bytes are counted (default: 3)",
    )
    return out


def settings_of(args: argparse.Namespace) -> dict:
    """All that the result depends on; sizes of tiles and latents are those of phases 2 and 3."""
    ignored = {"output_dir", "device", "resume", "num_workers", "checkpoint_every", "gpu_mem_gb",
               "train_data", "val_data", "training_size", "low_freq_size",
               "latent_channels"}  # fmt: skip
    settings = {k: v for k, v in vars(args).items() if k not in ignored}
    settings["data"] = file_digests([*args.train_data, *args.val_data])
    return settings


@explains_out_of_memory("--batch_size")
def train(args: argparse.Namespace) -> Path:
    """Run phase 1; returns the path of ``best_model.pth``."""
    refuse_many()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    settings = settings_of(args)
    keeper = Checkpointer(
        args.output_dir, settings, args.checkpoint_every, "caesar_freq.train_freq_compressor"
    )
    if args.resume and keeper.put_back():
        return args.output_dir / RESULTS[0]
    stop = install_stop_handler()
    trainer = Trainer(args)
    state = keeper.load() if args.resume else None
    started = time.monotonic()
    if state:
        trainer.restore(state)
        print(f"resumed at step {trainer.step} of {trainer.n_steps}", flush=True)
    elif args.init != "none":
        trainer.consider(trainer.start_model(), started)
    marks = {
        math.ceil(trainer.n_steps * (i + 1) / args.evaluations) for i in range(args.evaluations)
    }
    with ProgressFile(args.output_dir, "freq_compressor", keeper.key, trainer.n_steps,
                      trainer.steps_per_epoch, trainer.step) as progress:  # fmt: skip
        while trainer.step < trainer.n_steps:
            trainer.run_step()
            progress.update(trainer.step, trainer.average)
            if trainer.step in marks:
                trainer.evaluate(started)
                progress.update(trainer.step, trainer.average, **trainer.metrics())
            elif trainer.step % max(1, trainer.n_steps // 20) == 0:
                print(f"step {trainer.step}/{trainer.n_steps}: {trainer.average:.4f} bits",
                      flush=True)  # fmt: skip
            if keeper.due(trainer.step) or trainer.step in marks or stop.requested:
                keeper.save(trainer.state())
            if stop.requested:
                stop.exit(keeper.path)
        trainer.write(settings)
    keeper.finish(args.output_dir / name for name in RESULTS)
    return args.output_dir / RESULTS[0]


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
