"""Contexts and levels that phase 1 learns from, gathered by the coder itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.candidates import sample
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import RoundingModel, step_of
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder, training_rows
from caesar_freq.data.blocks import Volume
from caesar_freq.errors import InputError
from caesar_freq.transform.blocks import Transform

#: NRMSE range over which steps are drawn: one model serves all bounds (design, section 6).
NRMSE_RANGE = (4e-2, 3e-5)
_SPATIAL = (("lot", 16), ("dct", 16), ("lot", 8), ("lot", 32), ("dct", 8), ("dct", 32))
_KEYFRAME_INTERVAL = 3
#: Values of a volume that are looked at; rows are drawn from them.
_SAMPLE_VALUES = 1 << 19
#: Rows kept at most (28 bytes each, twice while they are joined): long series give fewer a set.
MAX_ROWS = 8_000_000
#: What `variants` yields for a long volume: six, one given, five long blocks, two generated.
_MAX_VARIANTS = 14


@dataclass
class Rows:
    """Rows of all sample sets.

    Attributes
    ----------
    features : uint8 [n, 24]
    magnitudes : int32 [n]
    weights : float32 [n]
        Mean 1; every set of one volume, transform and step weighs the same.
    """

    features: np.ndarray
    magnitudes: np.ndarray
    weights: np.ndarray


def variants(
    x: np.ndarray, spatial: Sequence[tuple[str, int]] = ()
) -> Iterator[tuple[np.ndarray, Transform]]:
    """A volume in every form in which the codec meets one.

    All spatial transforms with 16-frame blocks and the `spatial` ones given, longer blocks where
    the volume is long enough, and the keyframes and interpolation residuals of generated blocks.
    """
    for kind, cell in (*_SPATIAL, *spatial):
        yield x, Transform(x.shape, 16, cell, kind)
    if x.shape[0] > 16:
        for kind in ("lot", "dct"):
            yield x, Transform(x.shape, 32, 16, kind)
    if x.shape[0] > 32:
        for kind, cell in (("lot", 16), ("dct", 16), ("lot", 32)):
            yield x, Transform(x.shape, 64, cell, kind)
    if x.shape[0] > 2 * _KEYFRAME_INTERVAL:
        keys = x[::_KEYFRAME_INTERVAL]
        yield keys, Transform(keys.shape, 6, 16, "lot")
        between = [
            x[t + d] - ((3 - d) * x[t] + d * x[t + 3]) / 3
            for t in range(0, x.shape[0] - 3, 3)
            for d in (1, 2)
        ]
        yield np.stack(between), Transform((len(between), *x.shape[1:]), 2, 16, "lot")


def gather(
    volumes: Sequence[Volume],
    model: FrequencyModel,
    n_steps: int,
    n_rows: int,
    seed: int,
    spatial: Sequence[tuple[str, int]] = (),
) -> Rows:
    """Rows of all `volumes` in all `variants` at `n_steps` random bounds each.

    Parameters
    ----------
    model : FrequencyModel
        Its dead zones quantise; its network is not used.
    n_rows : int
        Rows of one volume, variant and step at most.
    seed : int

    Raises
    ------
    InputError
        If no volume has anything to code.
    """
    rng = np.random.default_rng(seed)
    n_rows = max(1, min(n_rows, MAX_ROWS // max(1, len(volumes) * n_steps * _MAX_VARIANTS)))
    parts = []
    low, high = np.log(NRMSE_RANGE[1]), np.log(NRMSE_RANGE[0])
    for volume in volumes:
        x = np.ascontiguousarray(sample(volume.values, _SAMPLE_VALUES))
        for part, transform in variants(x, spatial):
            encoder = VolumeEncoder(part, transform, model)
            # stratified: every part of the range of bounds is met once
            strata = (np.arange(n_steps) + rng.random(n_steps)) / n_steps
            for nrmse in np.exp(low + (high - low) * strata):
                found = _one(encoder, float(nrmse), rng, n_rows)
                if found is not None:
                    parts.append(found)
    if not parts:
        raise InputError("the training data hold nothing that varies; give --train_data that does")
    features, magnitudes, weights = (np.concatenate(p) for p in zip(*parts, strict=True))
    weights *= len(weights) / weights.sum()
    return Rows(features, magnitudes, weights.astype(np.float32))


def step_for(encoder: VolumeEncoder, nrmse: float) -> float:
    """About the step at which `encoder` errs by `nrmse`.

    On smooth data it is many times what a fine quantiser needs (``sqrt(12) * nrmse``): most
    coefficients are zero and add no error.
    """
    dead_zone = encoder.model.dead_zone_at(nrmse)
    rounding = RoundingModel(encoder.histogram(), encoder.size, dead_zone)
    return step_of(rounding.index_for(nrmse))


def _one(encoder, nrmse, rng, n_rows):
    try:
        features, levels, _ = training_rows(
            encoder, step_for(encoder, nrmse), encoder.model.dead_zone_at(nrmse), rng, n_rows
        )
    except LevelOverflow:
        return None
    if not len(levels):
        return None
    magnitudes = np.abs(levels)
    bits = np.log2(1 + 2.0 * magnitudes) + 0.05
    return features, magnitudes, np.full(len(levels), 1 / bits.sum())


def encoders(volumes: Sequence[Volume], model: FrequencyModel, limit: int) -> list[VolumeEncoder]:
    """Encoders of up to `limit` volumes, evenly chosen, under the default transform."""
    chosen = np.unique(np.linspace(0, len(volumes) - 1, min(limit, len(volumes))).astype(int))
    found = []
    for index in chosen:
        x = np.ascontiguousarray(sample(volumes[index].values))
        found.append(VolumeEncoder(x, Transform(x.shape, 16, 16, "lot"), model))
    return found
