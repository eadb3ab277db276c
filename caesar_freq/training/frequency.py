"""From a trained network to a frequency model, and the bytes by which models are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caesar_freq.codec.candidates import sample
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.options import Options
from caesar_freq.codec.stream import encode_array
from caesar_freq.data.blocks import Volume
from caesar_freq.entropy.network import bins_reference
from caesar_freq.entropy.pmf_fit import fit_pmf
from caesar_freq.training.qat import ScaleNetwork
from caesar_freq.training.rows import Rows

#: NRMSE at which validation data are coded to choose the best model.
SELECTION_NRMSE = (1e-2, 1e-3, 1e-4)
_MAX_FIT_ROWS = 2_000_000


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


def coded_values(validation: Sequence[Volume]) -> int:
    """Values that `coded_bytes` codes."""
    return len(SELECTION_NRMSE) * sum(sample(volume.values).size for volume in validation)


def log_mean(sizes: Sequence[int]) -> float:
    """Mean log2 of sizes: equal relative savings count the same on every volume and bound."""
    return float(np.mean(np.log2(sizes)))


def as_tensors(model: FrequencyModel) -> dict[str, torch.Tensor]:
    """A model's arrays for a checkpoint; `FrequencyModel.from_state_dict` takes them back."""
    # torch has no arithmetic on uint32, but pmf parameters fit int32
    return {
        name: torch.from_numpy(np.array(a, np.int32 if a.dtype == np.uint32 else a.dtype))
        for name, a in model.state_dict().items()
    }
