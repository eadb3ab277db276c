"""Pmfs and centroids of the dependent quantiser: the last part of phase 1.

The network stays as it is. The quantiser's levels depend on what they cost, so tables are fitted to
levels that were chosen with the tables before, a few times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from caesar_freq.codec.candidates import sample
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.portable import coding_order
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.data.blocks import Volume
from caesar_freq.entropy.dependent import FINER
from caesar_freq.entropy.pmf_fit import ZERO_ONE, code_lengths, fit_pmf
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.training.rows import step_for
from caesar_freq.transform.blocks import Transform

#: Bounds at which levels are chosen.
_NRMSE = (3e-2, 1e-2, 3e-3, 1e-3, 2e-4)
_ROUNDS = 2
#: Volumes looked at, values of each, and rows kept of one volume and bound.
_VOLUMES, _VALUES, _ROWS = 24, 1 << 17, 20_000
_TRANSFORMS = ((16, 16, "lot"), (4, 8, "dct"), (64, 32, "lot"), (16, 8, "lot"))
#: Sizes with fewer rows than this part keep the middle of their cell.
_LEAST = 1e-4


def fit_grids(model: FrequencyModel, volumes: Sequence[Volume], seed: int) -> FrequencyModel:
    """`model` with tables for the dependent quantiser; as it was if nothing varies."""
    encoders = _encoders(volumes, model)
    fitted = replace(model, grid_pmf=_first(model.pmf), grid_centroid=np.zeros((20, 3), np.int8))
    for _ in range(_ROUNDS):
        found = _chosen(fitted, encoders, np.random.default_rng(seed))
        if found is None:
            return replace(model, grid_pmf=None, grid_centroid=None)
        rows, levels, weights, shift = found
        pmf = np.stack([
            fit_pmf(rows[grid] - n * N_BINS, levels[grid], weights[grid])
            for n, grid in enumerate((rows < N_BINS, rows >= N_BINS))
        ])  # fmt: skip
        fitted = replace(fitted, grid_pmf=pmf, grid_centroid=shift)
    return fitted


def _first(pmf: np.ndarray) -> np.ndarray:
    """Tables to begin with: a plain quantiser's; the zero of grid 1 has half the cell."""
    odd = pmf.astype(np.float64)
    odd[:, 0] = np.clip(ZERO_ONE * (1 - np.sqrt(1 - odd[:, 0] / ZERO_ONE)), 1, ZERO_ONE - 1)
    return np.stack([pmf, np.rint(odd)]).astype(np.uint32)


def _encoders(volumes: Sequence[Volume], model: FrequencyModel) -> list[VolumeEncoder]:
    chosen = np.unique(np.linspace(0, len(volumes) - 1, min(_VOLUMES, len(volumes))).astype(int))
    found = []
    for number, index in enumerate(chosen):
        x = np.ascontiguousarray(sample(volumes[index].values, _VALUES))
        transform = Transform(x.shape, *_TRANSFORMS[number % len(_TRANSFORMS)])
        found.append(VolumeEncoder(x, transform, model, True))
    return found


def _chosen(model: FrequencyModel, encoders: Sequence[VolumeEncoder], rng: np.random.Generator):
    """Rows of tables, magnitudes and weights of what is coded, and centroids of its values."""
    parts, sums, counts = [], np.zeros(60), np.zeros(60)
    for encoder in encoders:
        encoder.model = model
        for nrmse in _NRMSE:
            step = step_for(encoder, nrmse)
            try:
                used, q, bins, *_ = encoder.chosen(step, model.dead_zone_at(nrmse))
            except LevelOverflow:
                continue
            if not np.any(q):
                continue
            levels, rows = coding_order(q, bins, used, encoder.transform)
            own, magnitudes = rows % N_BINS, np.abs(levels)
            bits = sum(
                code_lengths(pmf, own[grid], magnitudes[grid]).sum()
                for pmf, grid in zip(model.grid_pmf, (rows < N_BINS, rows >= N_BINS))
            )
            kept = rng.permutation(len(rows))[:_ROWS]
            weight = len(rows) / len(kept) / bits
            parts.append(
                (rows[kept].astype(np.int64), magnitudes[kept], np.full(len(kept), weight))
            )
            s, n = _positions(encoder, q, bins, step * FINER)
            sums += s / bits
            counts += n / bits
    if not parts:
        return None
    rows, magnitudes, weights = (np.concatenate(part) for part in zip(*parts))
    seen = counts > _LEAST * counts.sum()
    shift = np.where(seen, 64 * sums / np.maximum(counts, 1e-300), 0)
    shift = np.clip(np.rint(shift), -127, 127).astype(np.int8).reshape(20, 3)
    return rows, magnitudes, weights * len(weights) / weights.sum(), shift


def _positions(encoder: VolumeEncoder, q: np.ndarray, bins: np.ndarray, step: float):
    """Sums and counts of outward offsets by (bin // 4, size 1..3), in steps.

    Of all but the temporal means behind the first block, which are predicted.
    """
    m = np.abs(q)
    chosen = (m > 0) & (m < 4)
    if encoder.alphas.any():
        chosen[1:, 0] = False
    offset = np.abs(encoder.planes[chosen].astype(np.float64)) / step - m[chosen]
    index = (bins[chosen] % N_BINS >> 2).astype(np.int64) * 3 + m[chosen] - 1
    return np.bincount(index, offset, minlength=60), np.bincount(index, minlength=60)
