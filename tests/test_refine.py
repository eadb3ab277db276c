"""Levels chosen by what they cost: the tables, the choice, both kernels, fewer bytes."""

from dataclasses import replace

import numpy as np
import pytest
from test_kernels import CASES, levels, use  # noqa: F401

from caesar_freq.codec import refine
from caesar_freq.codec.backend import kernels
from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.transform.blocks import Transform

#: Without the tables of the dependent quantiser, which is better (`test_trellis`).
MODEL = replace(FrequencyModel.base(), grid_pmf=None, grid_centroid=None)


def rough_field(shape=(32, 60, 70), seed=0):
    """Waves under noise that falls with frequency."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    waves = np.sin(0.2 * x + 0.1 * t) * np.cos(0.15 * y)
    return (waves + 0.05 * rng.normal(size=shape).cumsum(0).cumsum(1)).astype(np.float32)


@pytest.mark.parametrize("name", ["portable", "native"])
@pytest.mark.parametrize("shape, time_block, cell, kind, spread", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_levels_in_all_kernels(use, name, shape, time_block, cell, kind, spread, dtype):  # noqa: F811
    transform = Transform(shape, time_block, cell, kind)
    planes, q, alphas, classes = levels(shape, transform, spread)
    planes, step = planes.astype(dtype), float(np.abs(planes).max()) / spread
    bins = use("numba").scale_bins(q, kernels().ends_of(q), transform, MODEL)
    args = (planes, step, alphas, classes, bins, *refine.prices(MODEL))
    expected, fits = refine.refine(*args)
    found, also = use(name).refine(*args)
    assert fits and also
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        use(name).scale_bins(q, kernels().ends_of(q), transform, MODEL), bins
    )


def test_each_level_is_the_cheapest():
    """Without prediction and with one shell, so that no cell is cut, against trying every level."""
    thresholds, price, middle = refine.prices(MODEL)
    rng = np.random.default_rng(2)
    planes = rng.laplace(scale=4, size=(1, 1, 1, 1, 40, 50))
    # scales that such values have
    bins = np.clip(np.rint(44 + 4 * np.log2(0.5 + np.abs(planes))), 0, 79).astype(np.uint8)
    price = np.zeros_like(price)
    none = np.zeros(6, np.int64)
    q, fits = kernels().refine(
        planes, 1.0, none, np.zeros((1, 1), np.int64), bins, thresholds, price, middle
    )
    assert fits
    assert np.array_equal(np.sign(q), np.sign(planes) * (q != 0))
    price = refine.prices(MODEL)[1] / refine.UNIT
    size, b = np.abs(planes).ravel(), bins.ravel()
    costs = (size[:, None] - middle[b >> 2][:, :16]) ** 2 + price[b]
    low = size < 12
    chosen = costs[np.arange(size.size), np.minimum(np.abs(q.ravel()), 15)]
    assert np.all(chosen[low] <= costs.min(1)[low] + 0.02)
    assert np.all(np.abs(size - np.abs(q.ravel())) < 1.6)


def test_a_cell_ends_where_the_rest_costs_more_than_it_is_worth():
    planes = np.zeros((1, 1, 4, 4, 1, 2))
    planes[0, 0, 0, 0] = 5.0
    planes[0, 0, 3, 3] = 1.4, 3.0
    bins = np.full(planes.shape, 40, np.uint8)
    thresholds, price, middle = refine.prices(MODEL)
    args = (planes, 1.0, np.zeros(6, np.int64), np.zeros((4, 4), np.int64), bins)
    kept, _ = kernels().refine(*args, thresholds, 0 * price, middle)
    assert kept[0, 0, 3, 3].tolist() == [[1, 3]]
    price = price.copy()
    price[40, 0] = refine.UNIT // 8
    cut, _ = kernels().refine(*args, thresholds, price, middle)
    assert cut[0, 0, 3, 3].tolist() == [[0, 3]]
    assert cut[0, 0, 0, 0].tolist() == [[5, 5]]


def test_tables_are_in_order_and_finite():
    thresholds, price, middle = refine.prices(MODEL)
    assert thresholds.shape == (80, 17) and price.shape == (80, 16) and middle.shape == (20, 17)
    assert np.all(np.diff(thresholds, axis=1) >= 0)
    assert np.all(np.diff(middle, axis=1) > 0)
    assert np.all(price >= 0) and np.all(np.isfinite(thresholds))


@pytest.mark.parametrize("nrmse", [1e-2, 1e-3])
def test_refined_levels_cost_less(nrmse):
    x = rough_field()
    x = (x - x.mean()) / np.ptp(x)
    step, costs = 4 * nrmse, []
    for refined in (False, True):
        encoder = VolumeEncoder(x, Transform(x.shape, 16, 16, "lot"), MODEL, refined)
        code = encoder.encode(step, MODEL.dead_zone_at(nrmse))
        error = encoder.coefficient_error(code, step)
        costs.append(8 * len(code.data) + lagrangian(step) * error)
    assert costs[1] < 0.995 * costs[0]


def test_a_level_that_does_not_fit_is_noticed():
    x = rough_field((16, 16, 16))
    encoder = VolumeEncoder(x, Transform(x.shape, 16, 16, "dct"), MODEL, True)
    encoder.apart = False
    with pytest.raises(LevelOverflow):
        encoder.encode(1e-12, 0.5)
