"""The command-line flags that the three training phases share, with their documented defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from caesar_freq.errors import ConfigError

#: What differs between the phases: folder of the results and GPU memory in GB.
PHASES = {
    "freq_compressor": {"output_dir": "./checkpoints/freq_compressor", "gpu_mem_gb": 8.0},
    "diffusion": {"output_dir": "./checkpoints/diffusion", "gpu_mem_gb": 16.0},
    "distillation": {"output_dir": "./checkpoints/distillation", "gpu_mem_gb": 12.0},
}


def add_common_args(parser: argparse.ArgumentParser, phase: str) -> None:
    """Add the flags that every phase has; a phase adds its own (such as ``--batch_size``) itself.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Receives the flags.
    phase : {"freq_compressor", "diffusion", "distillation"}
        Decides the defaults of ``--output_dir`` and ``--gpu_mem_gb``.
    """
    own = PHASES[phase]
    switch = argparse.BooleanOptionalAction
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train_data",
        nargs="+",
        required=True,
        type=Path,
        metavar="NPZ",
        help="training files, key 'data', [variables, sections, time, height, width]",
    )
    data.add_argument(
        "--val_data",
        nargs="+",
        required=True,
        type=Path,
        metavar="NPZ",
        help="validation files, used to select the best model",
    )
    data.add_argument(
        "--training_size",
        type=int,
        default=256,
        help="height and width of the tiles that training draws (default: 256)",
    )
    latent = parser.add_argument_group("transform")
    latent.add_argument(
        "--wavelet",
        choices=("haar", "cdf97"),
        default="haar",
        help="wavelet of the one-level transform (default: haar)",
    )
    latent.add_argument(
        "--use_dwt",
        action=switch,
        default=True,
        help="wavelet transform before the block DCT (default: on)",
    )
    latent.add_argument(
        "--latent_channels",
        type=int,
        default=32,
        help="lowest-frequency coefficients per cell (default: 32)",
    )
    latent.add_argument(
        "--low_freq_size",
        type=int,
        default=16,
        help="cells along one side of a training tile (default: 16)",
    )
    loop = parser.add_argument_group("training")
    loop.add_argument("--epochs", type=int, default=100, help="passes over the data (default: 100)")
    loop.add_argument(
        "--max_steps",
        type=int,
        default=0,
        help="cap on optimiser steps of this run, 0 = none (default: 0)",
    )
    loop.add_argument("--lr", type=float, default=1e-4, help="peak learning rate (default: 1e-4)")
    loop.add_argument(
        "--seed", type=int, default=42, help="seed of everything random (default: 42)"
    )
    loop.add_argument(
        "--num_workers",
        type=int,
        default=2,
        help="threads that prepare batches ahead; never changes results (default: 2)",
    )
    loop.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="cuda",
        help="where to train; auto takes a GPU if there is one (default: cuda)",
    )
    loop.add_argument(
        "--gpu_mem_gb",
        type=float,
        default=own["gpu_mem_gb"],
        help=f"memory budget in GB (default: {own['gpu_mem_gb']:g})",
    )
    loop.add_argument(
        "--resume",
        action=switch,
        default=True,
        help="continue an interrupted run of the same settings (default: on)",
    )
    loop.add_argument(
        "--checkpoint_every",
        type=int,
        default=100,
        help="optimiser steps between resume checkpoints (default: 100)",
    )
    loop.add_argument(
        "--output_dir",
        type=Path,
        default=Path(own["output_dir"]),
        help=f"folder of the results (default: {own['output_dir']})",
    )


def check_common_args(args: argparse.Namespace) -> None:
    """Check the shared flags against each other and against the data files' presence.

    Raises
    ------
    ConfigError
        Naming the flag, its value and what is possible.
    """
    for name in ("training_size", "low_freq_size", "epochs", "batch_size", "checkpoint_every"):
        value = getattr(args, name, 1)
        if value < 1:
            raise ConfigError(f"--{name} is {value}; give a whole number of at least 1")
    if args.max_steps < 0 or args.num_workers < 0:
        name = "max_steps" if args.max_steps < 0 else "num_workers"
        raise ConfigError(f"--{name} is {getattr(args, name)}; give 0 or more")
    for name in ("lr", "gpu_mem_gb"):
        value = getattr(args, name)
        if not 0 < value < float("inf"):
            raise ConfigError(f"--{name} is {value}; give a number above 0")
    # A cell is one DCT block of each of the four subbands, so its side is twice the DCT block.
    cell = 2 * getattr(args, "dct_block_size", 8)
    if args.training_size != cell * args.low_freq_size:
        raise ConfigError(
            f"--training_size {args.training_size} must be 2 x dct_block_size x low_freq_size ="
            f" {cell} x {args.low_freq_size}; use --training_size {cell * args.low_freq_size}"
        )
    if not 1 <= args.latent_channels <= cell * cell:
        raise ConfigError(
            f"--latent_channels is {args.latent_channels}; a cell has 1 to {cell * cell} of them"
        )
    for path in (*args.train_data, *args.val_data):
        if not path.is_file():
            raise ConfigError(f"data file {path} does not exist; make it with caesar_freq.split")


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises
    ------
    ConfigError
        If ``cuda`` is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("--device cuda finds no GPU here; use --device auto or --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
