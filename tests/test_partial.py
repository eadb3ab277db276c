"""Values most of which lie on a grid, with others among them."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import caesar_freq
from caesar_freq.codec.grid import LINE, Grid, fitted
from caesar_freq.codec.lattice import decode_lattice, encode_on
from caesar_freq.codec.partial import common_grid, decode_partial, encode_partial
from caesar_freq.entropy.levels import GIVEN
from caesar_freq.errors import CorruptStreamError

UNLIMITED = 1 << 200


def packed(unpack, seed=0):
    """Waves and noise in whole counts, unpacked by `unpack`, and a filled island."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[0:10, 0:48, 0:56]
    wave = np.sin(0.11 * x + 0.3 * t) * np.cos(0.07 * y - 0.1 * t)
    counts = np.rint(300 * wave + rng.normal(size=wave.shape))
    values = unpack(counts).astype(np.float32)
    island = (y[0] - 20) ** 2 + (x[0] - 30) ** 2 < 200
    smooth = gaussian_filter(values.astype(np.float64), (0, 2, 2)).astype(np.float32)
    return np.where(island, smooth, values), np.broadcast_to(island, values.shape)


PACKINGS = {
    "scale": lambda n: n * 0.001,
    "scale in float32": lambda n: n.astype(np.float32) * np.float32(0.01),
    "quotient": lambda n: n / 100,
    "offset": lambda n: n * 0.0037 + 12.345,
    "offset in float32": lambda n: n.astype(np.float32) * np.float32(0.0037) + np.float32(1.2345),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_values_off_the_grid_are_told_from_those_on_it(packing):
    values, island = packed(PACKINGS[packing])
    grid = common_grid(values.ravel())
    restored = grid.restore(grid.levels(values), values.dtype)
    assert np.mean(restored[~island] == values[~island]) > 0.98
    assert np.mean(restored[island] == values[island]) < 0.2


@pytest.mark.parametrize("mode, bound", [("lossless", 0), ("rel", 1e-4), ("nrmse", 1e-5)])
@pytest.mark.parametrize("packing", PACKINGS)
def test_files_are_smaller_and_keep_their_bound(packing, mode, bound):
    values, island = packed(PACKINGS[packing])
    values[2:4, 5:9, 7:12] = np.nan
    data = caesar_freq.encode(values, mode, bound)
    assert set(caesar_freq.info(data)["modes_used"]) == {"partial_lattice"}
    error = np.abs(caesar_freq.decode(data).astype(np.float64) - values)
    assert np.array_equal(np.isnan(error), np.isnan(values))
    spread = float(np.nanmax(values)) - float(np.nanmin(values))
    if mode == "nrmse":
        assert np.sqrt(np.nanmean(error**2)) <= bound * spread
    else:
        assert np.nanmax(error) <= bound * spread
    # at these bounds the values on the grid are restored exactly
    on = ~island & ~np.isnan(values)
    assert not error[on & (error < 1e-9)].any() and np.mean(error[on] == 0) > 0.97


def test_data_without_a_grid_have_none():
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert common_grid(noise) is None
    noise[:1500] = np.rint(noise[:1500] * 100) / 100
    assert common_grid(noise) is None, "too few lie on it"


def test_coarse_bounds_ask_for_no_grid():
    values, _ = packed(PACKINGS["scale"])
    grid, mask = common_grid(values.ravel()), np.zeros(values.shape, bool)
    assert encode_partial(values, mask, grid, 0.0021, False, UNLIMITED) is None


@pytest.mark.parametrize("limit, rms", [(0, False), (2e-4, False), (1.2e-3, False), (7e-4, True)])
def test_bodies_restore_what_they_say(limit, rms):
    values, _ = packed(PACKINGS["scale"])
    mask = np.zeros(values.shape, bool)
    mask[1, 10:20, 25:40] = True
    grid = common_grid(values[~mask])
    data, squares = encode_partial(values, mask, grid, limit, rms, UNLIMITED)
    error = (decode_partial(data, mask, values.dtype).astype(float) - values)[~mask]
    assert np.sum(error**2) == pytest.approx(squares, rel=1e-9)
    assert (np.sqrt(np.mean(error**2)) if rms else np.abs(error).max()) <= limit


def test_missing_cells_may_lie_on_levels_without_a_value():
    """Such levels get their corrections from the decoder; cells off the grid are told by those."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(6, 48, 56)), 3)
    counts = np.rint(6000 * smooth / np.abs(smooth).max()).astype(np.float32)
    values = counts * np.float32(0.0037) + np.float32(1.2345)
    values[:, 10:30, 5:20] += np.float32(0.0037) * rng.random((6, 20, 15), np.float32)
    skip = np.zeros(values.shape, bool)
    skip[2], skip[:, :, 30:] = True, True
    grid = common_grid(values[~skip])
    assert grid.corrections is not None
    data, levels, grid = encode_on(values, skip, grid, UNLIMITED)
    seen = grid.restore_all(levels, values.dtype)
    assert np.array_equal(decode_lattice(data, skip, values.dtype), seen)
    data, _ = encode_partial(values, skip, grid, 5e-5, False, UNLIMITED)
    error = (decode_partial(data, skip, values.dtype).astype(float) - values)[~skip]
    assert np.abs(error).max() <= 5e-5


def test_given_values_may_be_anything():
    """Those of a damaged first grid may be NaN or far from the second."""
    values = np.linspace(0, 1, 6 * 20 * 30).reshape(6, 20, 30).astype(np.float32)
    skip = np.zeros(values.shape, np.uint8)
    skip[:, :, ::2] = GIVEN
    grid = fitted(Grid(LINE, 1e-3), values.ravel())
    data = encode_on(values, skip, grid, UNLIMITED)[0]
    for strange in (np.nan, np.inf, -np.inf, 1e38):
        given = np.where(values > 0.3, np.float32(strange), values)
        try:
            restored = decode_lattice(data, skip, values.dtype, given)
        except CorruptStreamError:
            continue
        assert np.isfinite(restored).all() and restored.max() <= 1.001


def test_damage_is_an_error():
    values, _ = packed(PACKINGS["scale"])
    mask = np.zeros(values.shape, bool)
    grid = common_grid(values.ravel())
    for limit in (0, 2e-4):
        data = encode_partial(values, mask, grid, limit, False, UNLIMITED)[0]
        rng = np.random.default_rng(1)
        for at in rng.integers(0, len(data), 40):
            broken = bytearray(data)
            broken[at] ^= 1 << rng.integers(8)
            try:
                decoded = decode_partial(bytes(broken), mask, values.dtype)
            except CorruptStreamError:
                continue
            assert decoded.shape == values.shape
        for cut in (0, 3, len(data) // 2):
            with pytest.raises(CorruptStreamError):
                decode_partial(data[:cut], mask, values.dtype)
