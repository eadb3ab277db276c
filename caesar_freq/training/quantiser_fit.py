"""Centroids and dead zones: the quantiser's part of phase 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.model import DEAD_ZONE_NRMSE, FrequencyModel
from caesar_freq.codec.quantise import dequantise
from caesar_freq.codec.volume import LevelOverflow, VolumeCode
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.training.rows import step_for

#: The documented default of ``--lambda_bpp``: there, a bit weighs what it is worth along the
#: rate-distortion curve, and dead zones give the fewest bytes at equal error.
DEFAULT_LAMBDA = 0.01
_THRESHOLDS = (0.5, 0.53, 0.56, 0.59, 0.62, 0.65, 0.68, 0.71)
#: Bounds at which centroids are measured; below 1e-3 they are next to 0.
_CENTROID_NRMSE = (2e-2, 6e-3, 2e-3, 6e-4)
_MIN_COUNT = 200
#: Costs that differ relatively by less than this are alike.
_INDIFFERENT = 2e-4


def fit_centroids(model: FrequencyModel, volumes: Sequence[VolumeEncoder]) -> FrequencyModel:
    """Model whose ``centroid`` is the mean position of values within their quantisation cell."""
    sums, counts = np.zeros(60), np.zeros(60)
    for encoder in volumes:
        for nrmse in _CENTROID_NRMSE:
            step = step_for(_with(encoder, model), nrmse)
            try:
                code = encoder.encode(step, model.dead_zone_at(nrmse))
            except LevelOverflow:
                continue
            s, c = _cell_positions(encoder, code, step)
            # every volume and bound has the same say
            sums += s / max(1, c.sum())
            counts += c / max(1, c.sum())
    seen = counts * 1e5 > _MIN_COUNT
    shift = np.where(seen, sums / np.maximum(counts, 1e-12), 0)
    centroid = np.clip(np.rint(64 * shift), -64, 64).astype(np.int8).reshape(20, 3)
    return replace(model, centroid=centroid)


def _cell_positions(encoder: VolumeEncoder, code: VolumeCode, step: float):
    """Sums and counts of outward offsets by (bin // 4, magnitude 1..3), in steps."""
    middle = np.empty_like(encoder.planes)
    none = np.zeros((20, 3), np.int8)
    dequantise(code.levels, code.bins, 1.0, encoder.alphas, encoder.classes, none, middle)
    m = np.abs(code.levels)
    chosen = (m > 0) & (m < 4)
    offset = (encoder.planes[chosen] / step - middle[chosen]) * np.sign(code.levels[chosen])
    index = (code.bins[chosen] >> 2).astype(np.int64) * 3 + m[chosen] - 1
    return np.bincount(index, offset, minlength=60), np.bincount(index, minlength=60)


def fit_dead_zones(
    model: FrequencyModel, volumes: Sequence[VolumeEncoder], lambda_bpp: float
) -> FrequencyModel:
    """Model whose ``dead_zone`` minimises squared error plus weighted bits at every bound.

    The cost of a threshold is ``MSE + weight * bits per value`` with the weight that a bit has
    along the rate-distortion curve at that step, times ``lambda_bpp / 0.01``. Larger values of
    `lambda_bpp` so widen the dead zones: fewer bytes at a given step for more error.
    """
    edges = np.array([DEAD_ZONE_NRMSE[0] / 3, *DEAD_ZONE_NRMSE, DEAD_ZONE_NRMSE[-1] * 2])
    centres = np.sqrt(edges[:-1] * edges[1:])
    chosen = []
    for nrmse in centres:
        costs = np.zeros(len(_THRESHOLDS))
        for encoder in volumes:
            step = step_for(_with(encoder, model), nrmse)
            costs += np.log(_costs(encoder, step, lambda_bpp))
        # where the threshold hardly matters, the smallest has the smallest error
        near = costs <= costs.min() + _INDIFFERENT * len(volumes)
        chosen.append(round(1000 * _THRESHOLDS[int(np.argmax(near))]))
    return replace(model, dead_zone=np.array(chosen, np.int32))


def _costs(encoder: VolumeEncoder, step: float, lambda_bpp: float) -> np.ndarray:
    bit = lambda_bpp / DEFAULT_LAMBDA / lagrangian(step)
    costs = []
    for threshold in _THRESHOLDS:
        try:
            code = encoder.encode(step, threshold)
        except LevelOverflow:
            return np.ones(len(_THRESHOLDS))
        costs.append(encoder.coefficient_error(code, step) + bit * 8 * len(code.data))
    return np.array(costs)


def _with(encoder: VolumeEncoder, model: FrequencyModel) -> VolumeEncoder:
    """The same volume under another model."""
    encoder.model = model
    return encoder
