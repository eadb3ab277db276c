"""What phases 2 and 3 share: batches of really decoded blocks, the linear baseline, the average."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from caesar_freq.codec.coders import LEFT_OUT, ModeCoder, TooManyModes
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.errors import ConfigError
from caesar_freq.models.conditions import Conditions, conditions, filled, log2_step
from caesar_freq.models.layout import Layout
from caesar_freq.models.wiener import Wiener, WienerFit
from caesar_freq.transform.blocks import Transform

#: Steps that training draws from unless it is told, NRMSE 3e-4 to 5e-2 on most fields.
STEP_RANGE = (1e-3, 0.8)
#: Part of the items that are decoded as a whole (restoration); of the others frames are missing.
RESTORED = 0.5
#: Part of those others where no frame is missing but keyframes are decoded better than the rest.
MIXED = 0.25
#: Step from which on levels are chosen by what they cost, as the encoder does at its default effort.
REFINED_FROM = 6e-3
#: Step from which on half of the whole blocks are coded in their own temporal modes, if few carry
#: them: so are many files of loose bounds.
OWN_MODES_FROM, OWN_MODES = 0.1, 0.5
#: Parts of the step at which keyframes are coded, around the codec's first choice of 0.62.
KEYFRAME_STEPS = (0.45, 0.9)
#: Spatial transforms that blocks are coded with, the one that is best most often first.
TRANSFORMS = (("lot", 16), ("lot", 16), ("dct", 16), ("lot", 8), ("lot", 32), ("cdf97", 16))
#: Frames of a block that the student estimates in a training step: a window is costlier than its
#: share of the block's decoding, and neighbours teach nearly the same.
TARGETS = 4
#: Spread of the logarithm by which the noise level shown differs from the true one.
_NOISE_JITTER = 0.1
#: Batches that the baseline is fitted on, numbered beyond any that training reaches.
_FIT_BATCHES, _FIT_FIRST = 12, 1 << 40
_LARGEST_CORRECTION = 20.0


@dataclass
class Batch:
    """Decoded blocks and what they were.

    Attributes
    ----------
    layout, wiener, device
        Of the model that is trained.
    truth : float32 array [N, T, H, W]
    decoded : float32 array [N, T, H, W]
        With the best linear estimates of missing frames.
    noise : float32 array [N, T]
        Standard deviation of each frame's error, ``inf`` for a missing one.
    steps : float array [N]
        Normalised quantisation steps.
    targets : int64 array [N, G]
        Frames that the student estimates.
    """

    layout: Layout
    wiener: Wiener
    device: torch.device
    truth: np.ndarray
    decoded: np.ndarray
    noise: np.ndarray
    steps: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, items: slice) -> Batch:
        """The same for some of the items."""
        names = ("truth", "decoded", "noise", "steps", "targets")
        return replace(self, **{name: getattr(self, name)[items] for name in names})

    @cached_property
    def given(self) -> Conditions:
        """What the teacher is given."""
        return conditions(self.layout, self.wiener, self.decoded, self.noise, self.steps,
                          self.device)  # fmt: skip

    @cached_property
    def correction(self) -> Tensor:
        """What the teacher should find: scaled correction ``[N, C, T, h, w]`` to the truth."""
        # a block unlike all others must not undo what the rest has taught
        found = self.given.correction_of(self.truth)
        return found.clamp(-_LARGEST_CORRECTION, _LARGEST_CORRECTION)

    @cached_property
    def weight(self) -> Tensor:
        """Energy of a unit of correction relative to the item's mean, ``[N, C, T, 1, 1]``.

        It makes a loss on corrections the squared error of the field.
        """
        energy = self.given.scale.astype(np.float64) ** 2
        energy /= energy.mean((1, 2), keepdims=True)
        return torch.from_numpy(energy[..., None, None].astype(np.float32)).to(self.device)

    def frames(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the student is given: frames, noise, log2 of the step, targets."""
        parts = (self.decoded, self.noise, log2_step(self.steps).astype(np.float32), self.targets)
        return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in parts)

    def at_targets(self, frames: np.ndarray) -> Tensor:
        """The targets among `frames` ``[N, T, ...]``, ``[N, G, ...]``."""
        chosen = frames[np.arange(len(self))[:, None], self.targets]
        return torch.from_numpy(np.ascontiguousarray(chosen)).to(self.device)


def add_step_range(group) -> None:
    """Add ``--step_range`` to a group of flags."""
    group.add_argument(
        "--step_range",
        type=float,
        nargs=2,
        default=list(STEP_RANGE),
        metavar=("LOW", "HIGH"),
        help="quantisation steps to train for, parts of the data's range; fewer, and the network "
        "is better at those (default: %(default)s)",
    )


def check_step_range(args: argparse.Namespace) -> None:
    """Raise ConfigError if ``--step_range`` is none."""
    low, high = args.step_range
    if not 0 < low <= high <= 1:
        raise ConfigError(f"--step_range {low:g} {high:g} is none; give 0 < LOW <= HIGH <= 1")


def layout_of(args: argparse.Namespace, interpo_rate: int, n_frame: int) -> Layout:
    """`Layout` from the flags."""
    return Layout(n_frame, interpo_rate, args.latent_channels, args.wavelet, args.use_dwt)


def decoded_frames(
    frames: np.ndarray, step: float, dead_zone: float, model: FrequencyModel,
    kind: str = "lot", cell: int = 16,
) -> np.ndarray:  # fmt: skip
    """Frames ``[K, H, W]`` as the decoder has them when coded together at `step`."""
    transform = Transform(frames.shape, len(frames), cell, kind)
    encoder = VolumeEncoder(np.ascontiguousarray(frames), transform, model, step >= REFINED_FROM)
    return encoder.simulate(step, dead_zone)


def in_own_modes(
    block: np.ndarray, decoded: np.ndarray, step: float, dead_zone: float, model: FrequencyModel,
    kind: str = "lot", cell: int = 16,
) -> np.ndarray:  # fmt: skip
    """A block coded in its own temporal modes for the error of `decoded`, or that if it has many."""
    target = float(np.sqrt(np.mean((decoded - block) ** 2)))
    variable = Variable(0.0, 1.0, kind=kind, cell=cell)
    for left_out in LEFT_OUT:
        try:
            coder = ModeCoder(block, variable, model, target, left_out, step >= REFINED_FROM)
        except TooManyModes:
            continue
        return coder.code(step, dead_zone).decoded
    return decoded


def draw_blocks(sampler: BlockSampler, number: int, batch: int) -> np.ndarray:
    """Blocks ``[N, n_frame, H, W]`` of batch `number`, half of them reversed in time or negated.

    Interpolation between frames looks the same backwards and upside down, or nearly so; short
    training series gain variety.
    """
    blocks = sampler.sample(number, batch)
    rng = np.random.default_rng([sampler.seed, number, 3])
    reverse, negate = rng.random((2, batch)) < 0.5
    blocks[reverse] = blocks[reverse, ::-1]
    blocks[negate] *= -1
    return blocks


def make_batch(
    blocks: np.ndarray, seed: tuple[int, int], layout: Layout, wiener: Wiener,
    model: FrequencyModel, device: torch.device, step_range: Sequence[float] = STEP_RANGE,
) -> Batch:  # fmt: skip
    """Code and decode blocks ``[N, n_frame, H, W]``, each at its own step and in its own way.

    `seed` alone decides steps, uniform in the logarithm, missing frames and targets.
    """
    rng = np.random.default_rng([*seed, 1])
    decoded, noise = np.zeros_like(blocks), np.full(blocks.shape[:2], np.inf, np.float32)
    steps = np.exp(rng.uniform(*np.log(step_range), len(blocks)))
    targets = []
    for item, block in enumerate(blocks):
        coded = _draw_coded(rng, layout)
        dead_zone = model.dead_zone_at(steps[item] / 3.5)
        transform = TRANSFORMS[rng.integers(len(TRANSFORMS))]
        for frames, part in coded:
            decoded[item, frames] = decoded_frames(
                block[frames], part * steps[item], dead_zone, model, *transform
            )
            if len(frames) == len(block) and steps[item] >= OWN_MODES_FROM:
                if rng.random() < OWN_MODES:
                    decoded[item] = in_own_modes(
                        block, decoded[item], steps[item], dead_zone, model, *transform
                    )
            error = np.sqrt(np.mean((decoded[item, frames] - block[frames]) ** 2))
            noise[item, frames] = error * np.exp(_NOISE_JITTER * rng.standard_normal())
        known = np.flatnonzero(np.isfinite(noise[item])).tolist()
        targets.append(_draw_targets(rng, layout.n_frame, known))
    return Batch(layout, wiener, device, blocks, filled(layout, wiener, decoded, noise), noise,
                 steps, np.array(targets))  # fmt: skip


def _draw_coded(rng: np.random.Generator, layout: Layout) -> list[tuple[list[int], float]]:
    """Frames that are coded and the part of the step they are coded at; later ones replace."""
    everything = [(list(range(layout.n_frame)), 1.0)]
    if rng.random() < RESTORED:
        return everything
    rate = layout.interpo_rate if rng.random() < 0.5 else int(rng.choice(layout.spacings))
    keys = [(list(layout.keyframes_at(rate)), float(rng.uniform(*KEYFRAME_STEPS)))]
    return [*everything, *keys] if rng.random() < MIXED else keys


def _draw_targets(rng: np.random.Generator, n_frame: int, known: list[int]) -> np.ndarray:
    """Frames to estimate: missing ones but for one, or any where none is missing."""
    order = rng.permutation(n_frame)
    missing = [t for t in order if t not in known]
    if missing:
        missing = missing[: TARGETS - 1]
        order = [*missing, *[t for t in order if t not in missing and t in known], *order]
    return np.array(order[: min(TARGETS, n_frame)], np.int64)


def fit_wiener(sampler: BlockSampler, layout: Layout, batch: int) -> Wiener:
    """The linear baseline of training blocks."""
    fit = WienerFit(layout)
    for number in range(_FIT_BATCHES):
        for block in draw_blocks(sampler, _FIT_FIRST + number, batch):
            fit.add(block)
    return fit.solve()


class MovingAverage:
    """Exponential moving average of a network's weights.

    Parameters
    ----------
    network : nn.Module
    decay : float
        Reached after a warm-up in which the average follows quickly.
    """

    def __init__(self, network: nn.Module, decay: float = 0.995) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the weights after optimiser step `step`."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in network.state_dict().items():
            self.weights[name].lerp_(value, 1 - decay)
