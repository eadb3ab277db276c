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
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.generated import BlockwiseCoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.segments import KEY_STEP
from caesar_freq.codec.volume import LevelOverflow, VolumeEncoder
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.models.conditions import Conditions, conditions
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import Predictor
from caesar_freq.models.wiener import STEPS, Wiener, WienerFit
from caesar_freq.transform.blocks import Transform

#: Steps that training draws from; beyond it generation does not pay anyway.
STEP_RANGE = (1e-3, 0.3)
#: Steps at which validation blocks are coded to choose the best model.
SELECTION_STEPS = (0.1, 0.02)
#: Batches that the baseline is fitted on, numbered beyond any that training reaches.
_FIT_BATCHES, _FIT_FIRST = 12, 1 << 40
_LARGEST_CORRECTION = 20.0
_VALIDATION_BLOCKS = 4
#: Keeps ratios of squared errors finite where the interpolation is exact.
_TINY = 1e-14
_VARIABLE = Variable(0.0, 1.0, kind="lot")


@dataclass
class Batch:
    """Network inputs and what should come out.

    Attributes
    ----------
    given : Conditions
    frames : Tensor [N, M, H, W]
        True missing frames.
    target : Tensor [N, C, T, h, w]
        Scaled correction that leads to the latents of the true frames; 0 at keyframes.
    weight : Tensor [1, C, T, 1, 1]
        Energy of a unit of correction relative to the mean, 0 at keyframes: makes a loss on
        corrections the squared error of the field.
    """

    given: Conditions
    frames: Tensor
    target: Tensor
    weight: Tensor

    def part(self, items: slice) -> Batch:
        """The same for some of the items."""
        return Batch(self.given.part(items), self.frames[items], self.target[items], self.weight)


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
        out[i] = encoder.simulate(KEY_STEP / 100 * step, model.dead_zone_at(step / 3.5))
    return out


def draw_step(
    seed: int, step: int, low: float = STEP_RANGE[0], high: float = STEP_RANGE[1]
) -> float:
    """Log-uniform quantisation step of a training step."""
    rng = np.random.default_rng([seed, step, 1])
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


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


def make_batch(blocks, layout: Layout, wiener: Wiener, step: float, model, device) -> Batch:
    """`Batch` of blocks ``[N, n_frame, H, W]`` at a quantisation step."""
    keyframes = decode_keyframes(blocks, layout, step, model)
    given = conditions(layout, wiener, keyframes, step, device)
    missing = list(layout.missing)
    frames = np.ascontiguousarray(blocks[:, missing])
    target = given.correction_of(layout.cells(frames)[:, :, : layout.channels])
    weight = np.zeros((1, layout.channels, layout.n_frame, 1, 1), np.float32)
    energy = given.scale.astype(np.float64) ** 2
    weight[0, :, missing, 0, 0] = energy / energy.mean()
    return Batch(
        given,
        torch.from_numpy(frames).to(device),
        # a block unlike all others must not undo what the rest has taught
        target.clamp(-_LARGEST_CORRECTION, _LARGEST_CORRECTION),
        torch.from_numpy(weight).to(device),
    )


def fit_wiener(sampler: BlockSampler, layout: Layout, model: FrequencyModel, batch: int) -> Wiener:
    """Closed-form baseline on training blocks."""
    fit = WienerFit(layout)
    for number in range(_FIT_BATCHES):
        blocks = draw_blocks(sampler, _FIT_FIRST + number, batch)
        for index, step in enumerate(STEPS):
            keys = decode_keyframes(blocks, layout, step, model)
            for block, decoded in zip(blocks, keys, strict=True):
                fit.add(index, decoded, block[list(layout.missing)])
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
        self.keys = [decode_keyframes(b[None], layout, s, model) for b, s in self._pairs()]

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
            self._cost(BlockwiseCoder(block, _VARIABLE, self.model, predictor), block, step)
            for block, step in self._pairs()
        ]
        return float(np.exp(np.mean(np.log(np.array(costs) / np.array(self.plain)))))

    def error_ratio(self, predictor: Predictor) -> float:
        """Geometric mean of the predicted frames' RMSE over that of the linear interpolation."""
        layout, ratios = predictor.layout, []
        for keys, (block, step) in zip(self.keys, self._pairs(), strict=True):
            given = conditions(layout, predictor.wiener, keys, step)
            truth = block[list(layout.missing)]
            errors = [
                np.mean((frames[0] - truth) ** 2) + _TINY
                for frames in (predictor.predict(keys, step), given.base_frames.numpy())
            ]
            ratios.append(errors[0] / errors[1])
        return float(np.exp(np.mean(np.log(ratios)) / 2))

    def metrics(self, predictor: Predictor) -> dict[str, float]:
        """Both ratios under the names that the history has."""
        return {"val_byte_ratio": self.byte_ratio(predictor),
                "val_rmse_ratio": self.error_ratio(predictor)}  # fmt: skip


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
