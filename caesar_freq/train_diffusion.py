"""Phase 2: train the diffusion teacher that cleans decoded frames and fills in missing ones.

``python -m caesar_freq.train_diffusion --freq_compressor_path best_model.pth --train_data ...``

The baseline of missing frames is the best linear estimate of every frequency (`models.wiener`), that
of the others what was decoded; the U-Net learns by v-prediction the correction of the latents that
is left, given every frame's noise level and the step. Blocks are coded and decoded as the codec does
it, half of them whole, half with keyframes at some distance. The model with the fewest coded bytes
on validation blocks is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from caesar_freq.codec.model import load_frequency_model
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.errors import ConfigError, run_main
from caesar_freq.models.diffusion import noisy, velocity
from caesar_freq.models.predictor import Predictor
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.training.args import add_common_args, check_common_args, resolve_device
from caesar_freq.training.checkpoint import Checkpointer, file_digests
from caesar_freq.training.generative import (
    Batch,
    add_step_range,
    check_step_range,
    draw_blocks,
    fit_wiener,
    layout_of,
    make_batch,
)
from caesar_freq.training.loop import Task, noise_for, run, write_phase
from caesar_freq.training.losses import squared_error
from caesar_freq.training.memory import cap_memory, explains_out_of_memory
from caesar_freq.training.ranks import join
from caesar_freq.training.validation import Validation


def parser() -> argparse.ArgumentParser:
    """All flags of phase 2."""
    out = argparse.ArgumentParser(
        prog="caesar_freq.train_diffusion", description=__doc__.split("\n")[0]
    )
    add_common_args(out, "diffusion")
    group = out.add_argument_group("phase 2")
    group.add_argument(
        "--freq_compressor_path",
        type=Path,
        required=True,
        help="best_model.pth of phase 1, which decodes the keyframes",
    )
    group.add_argument("--unet_dim", type=int, default=64, help="channels of the finest level")
    group.add_argument(
        "--dim_mults",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        help="channels of the levels in units of --unet_dim",
    )
    group.add_argument("--diffusion_steps", type=int, default=32, help="steps of the sampler")
    group.add_argument("--interpo_rate", type=int, default=3, help="distance of keyframes")
    group.add_argument("--n_frame", type=int, default=16, help="frames of a block")
    add_step_range(group)
    group.add_argument("--batch_size", type=int, default=4, help="blocks of an optimiser step")
    group.add_argument(
        "--evaluations",
        type=int,
        default=4,
        help="times validation blocks are coded to choose the best weights",
    )
    return out


def check(args: argparse.Namespace) -> None:
    """Flags against each other.

    Raises
    ------
    ConfigError
        Naming the flag and what is possible.
    """
    check_common_args(args)
    check_step_range(args)
    if not 2 <= args.interpo_rate < args.n_frame <= 64:
        raise ConfigError(
            f"--interpo_rate {args.interpo_rate} and --n_frame {args.n_frame} do not fit; "
            "2 <= interpo_rate < n_frame <= 64"
        )
    for name in ("unet_dim", "diffusion_steps", "evaluations"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give at least 1")
    if min(args.dim_mults) < 1:
        raise ConfigError(f"--dim_mults {args.dim_mults} must be whole numbers of at least 1")


def schedule(args: argparse.Namespace, sampler: BlockSampler) -> tuple[int, int]:
    """Optimiser steps in all, and of an epoch."""
    per_epoch = max(1, -(-sampler.blocks_per_epoch // args.batch_size))
    n_steps = args.epochs * per_epoch
    return min(n_steps, args.max_steps) if args.max_steps else n_steps, per_epoch


def settings_of(args: argparse.Namespace, inputs: Sequence[Path]) -> dict:
    """All that the result depends on: flags, and the content of every file read."""
    paths = {"output_dir", "train_data", "val_data", "freq_compressor_path", "teacher_path", "init"}
    ignored = paths | {"device", "resume", "num_workers", "checkpoint_every", "gpu_mem_gb"}
    settings = {k: v for k, v in vars(args).items() if k not in ignored}
    return {**settings, "data": file_digests([*args.train_data, *args.val_data, *inputs])}


@explains_out_of_memory("--unet_dim or --training_size")
def train(args: argparse.Namespace) -> Path:
    """Run phase 2; returns the path of ``diffusion_best.pth``."""
    device = resolve_device(args.device)
    ranks = join(device)
    cap_memory(device, args.gpu_mem_gb)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    model = load_frequency_model(args.freq_compressor_path)
    result = args.output_dir / "diffusion_best.pth"
    settings = settings_of(args, [args.freq_compressor_path])
    keeper = Checkpointer(
        args.output_dir, settings, args.checkpoint_every, "caesar_freq.train_diffusion"
    )
    if args.resume and keeper.put_back():
        return result
    layout = layout_of(args, args.interpo_rate, args.n_frame)
    sampler = BlockSampler(args.train_data, args.n_frame, args.training_size, args.seed,
                           flips=True)  # fmt: skip
    validation = Validation(args.val_data, layout, model, args.training_size, args.seed)
    wiener = fit_wiener(sampler, layout, args.batch_size)
    torch.manual_seed(args.seed)
    architecture = {"dim": args.unet_dim, "dim_mults": list(args.dim_mults),
                    "channels": args.latent_channels, "res_blocks": 1}  # fmt: skip
    network = Unet3D(**architecture).to(device)
    print(f"teacher of {sum(p.numel() for p in network.parameters()):,} weights", flush=True)

    def batch(step: int) -> Batch:
        blocks = draw_blocks(sampler, step, args.batch_size)
        made = make_batch(blocks, (args.seed, step), layout, wiener, model, device,
                          args.step_range)  # fmt: skip
        _ = made.correction, made.weight  # here, ahead of the optimiser
        return made

    def loss(step: int, batch: Batch, part: slice) -> Tensor:
        noise, t = noise_for(args.seed, step, tuple(batch.correction.shape), device)
        x0, noise, t = batch.correction[part], noise[part], t[part]
        given = batch.given
        answer = network(noisy(x0, noise, t), given.latents[part], given.noise[part], t,
                         given.log_step[part])  # fmt: skip
        return squared_error(answer, velocity(x0, noise, t), batch.weight[part])

    def evaluate(weights: dict[str, Tensor]) -> dict[str, float]:
        averaged = Unet3D(**architecture)
        averaged.load_state_dict(weights)
        teacher = Predictor("teacher", averaged, wiener, layout, args.diffusion_steps,
                            device=device)  # fmt: skip
        return validation.metrics(teacher)

    n_steps, per_epoch = schedule(args, sampler)
    task = Task(network, batch, loss, evaluate, name="diffusion")
    progress = run(task, args, keeper, n_steps, per_epoch, device, args.evaluations, ranks)
    config = {
        **settings,
        "network": architecture,
        "layout": asdict(layout),
        "frequency_model": model.fingerprint,
        "noise_scale": 0.0,
    }
    if not ranks.first:
        return result
    write_phase("teacher", result, progress, wiener, config)
    keeper.finish([result, result.parent / "history.csv"])
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``train_diffusion``."""
    args = parser().parse_args(argv)
    check(args)
    print(f"wrote {train(args)}")
    return 0


if __name__ == "__main__":
    run_main(main)
