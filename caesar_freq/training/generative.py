"""What phases 2 and 3 share: batches of decoded keyframes, the baseline, bytes on validation data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.coders import KEYFRAME_STEP, GeneratedCoder, PlainCoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.volume import LevelOverflow, VolumeEncoder
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.models.predictor import Conditions, Layout, Predictor, conditions
from caesar_freq.models.wiener import STEPS, Wiener, WienerFit
from caesar_freq.transform.blocks import Transform

#: Steps that training draws from; beyond it generation does not pay anyway.
STEP_RANGE = (1e-3, 0.3)
#: Steps at which validation blocks are coded to choose the best model.
SELECTION_STEPS = (0.1, 0.02)
_FIT_BATCHES = 12
_VALIDATION_BLOCKS = 4
_VARIABLE = Variable(0.0, 1.0, kind="lot")


@dataclass
class Batch:
    """Network inputs and the correction it should find.

    Attributes
    ----------
    given : Conditions
    target : Tensor [N, C, T, h, w]
        Scaled correction of the true frames; 0 at keyframes.
    weight : Tensor [1, C, T, 1, 1]
        Energy of a unit of correction relative to the mean, 0 at keyframes: makes the loss the
        squared error of the field.
    """

    given: Conditions
    target: Tensor
    weight: Tensor


def layout_of(args: argparse.Namespace, interpo_rate: int, n_frame: int) -> Layout:
    """`Layout` from the flags."""
    return Layout(n_frame, interpo_rate, args.latent_channels, args.wavelet, args.use_dwt)


def decode_keyframes(blocks: np.ndarray, layout: Layout, step: float, model: FrequencyModel):
    """Keyframes ``[N, K, H, W]`` as the decoder has them at `step` of the residual."""
    keys = blocks[:, list(layout.keyframes)]
    out = np.empty_like(keys)
    for i, volume in enumerate(keys):
        transform = Transform(volume.shape, len(volume), 16, "lot")
        encoder = VolumeEncoder(volume, transform, model)
        out[i] = encoder.simulate(KEYFRAME_STEP * step, model.dead_zone_at(step / 3.5))
    return out


def draw_step(seed: int, step: int, low: float = STEP_RANGE[0], high: float = STEP_RANGE[1]) -> float:
    """Log-uniform quantisation step of a training step."""
    rng = np.random.default_rng([seed, step, 1])
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def make_batch(blocks, layout: Layout, wiener: Wiener, step: float, model, device) -> Batch:
    """`Batch` of blocks ``[N, n_frame, H, W]`` at a quantisation step."""
    keyframes = decode_keyframes(blocks, layout, step, model)
    given = conditions(layout, wiener, keyframes, step, device)
    c, missing = layout.channels, list(layout.missing)
    truth = layout.cells(blocks[:, missing])[:, :, :c]
    n, _, _, rows, columns = truth.shape
    target = np.zeros((n, layout.n_frame, c, rows, columns), np.float32)
    target[:, missing] = (truth - given.missing_cells[:, :, :c]) / given.scale[:, None, None]
    weight = np.zeros((1, c, layout.n_frame, 1, 1), np.float32)
    energy = given.scale.astype(np.float64) ** 2
    weight[0, :, missing, 0, 0] = energy / energy.mean()
    # a block unlike all others must not undo what the rest has taught
    target = np.clip(target, -20, 20)
    return Batch(
        given,
        torch.from_numpy(np.ascontiguousarray(target.transpose(0, 2, 1, 3, 4))).to(device),
        torch.from_numpy(weight).to(device),
    )


def fit_wiener(sampler: BlockSampler, layout: Layout, model: FrequencyModel, batch: int) -> Wiener:
    """Closed-form baseline on training blocks."""
    fit = WienerFit(len(layout.keyframes), len(layout.missing), layout.channels)
    for index, step in enumerate(STEPS):
        for number in range(_FIT_BATCHES):
            blocks = sampler.sample(1_000_000 + number, batch)
            keys = decode_keyframes(blocks, layout, step, model)
            missing = blocks[:, list(layout.missing)]
            fit.add(index, layout.cells(keys), layout.cells(missing))
    return fit.solve()


class Validation:
    """Fixed validation blocks, coded for real.

    Parameters
    ----------
    paths : sequence of paths
    layout : Layout
    model : FrequencyModel
    tile, seed : int
    """

    def __init__(self, paths: Sequence[Path], layout: Layout, model: FrequencyModel, tile: int,
                 seed: int) -> None:  # fmt: skip
        sampler = BlockSampler(paths, layout.n_frame, tile, seed)
        self.model = model
        self.blocks = [sampler.sample(i, 1)[0] for i in range(_VALIDATION_BLOCKS)]
        self.plain = [self._cost(PlainCoder(b, _VARIABLE, model), b, s) for b, s in self._pairs()]

    def _pairs(self):
        return [(block, step) for block in self.blocks for step in SELECTION_STEPS]

    def _cost(self, coder, block: np.ndarray, step: float) -> float:
        """Bits plus squared error at the rate at which error buys bits: bits at equal error."""
        try:
            coded = coder.code(step, self.model.dead_zone_at(step / 3.5))
        except LevelOverflow:
            return np.inf
        error = float(np.sum((coded.decoded.astype(np.float64) - block) ** 2))
        return 8 * len(coded.data) + lagrangian(step) * error

    def byte_ratio(self, predictor: Predictor) -> float:
        """Geometric mean of generated cost over plain cost; below 1 the mode pays."""
        costs = [
            self._cost(GeneratedCoder(block, _VARIABLE, self.model, predictor), block, step)
            for block, step in self._pairs()
        ]
        return float(np.exp(np.mean(np.log(np.array(costs) / np.array(self.plain)))))


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


def wiener_tensors(wiener: Wiener) -> dict[str, Tensor]:
    """Baseline as tensors for a checkpoint."""
    return {name: torch.from_numpy(value) for name, value in vars(wiener).items()}
