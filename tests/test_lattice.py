"""Data on a grid: the coder of levels, finding and proving a grid, and the encoder's choice."""

import numpy as np
import pytest
from numcodecs import Shuffle, Zstd

import caesar_freq
from caesar_freq.codec import chunk
from caesar_freq.codec.coarse import close_grid, likely_bits, rough_grid
from caesar_freq.codec.grid import LINE, QUOTIENT, TABLE, Grid, exact_grid, fitted
from caesar_freq.codec.header import Header
from caesar_freq.codec.lattice import decode_lattice, encode_lattice, trial_bits
from caesar_freq.codec.layout import LATTICE
from caesar_freq.codec.spacing import distinct_sample, find_spacing
from caesar_freq.entropy.levels import MAX_LEVEL, decode_levels, encode_levels
from caesar_freq.errors import CorruptStreamError

UNLIMITED = 1 << 60


def smooth_levels(shape, top, seed=0):
    """Drifting waves with some noise, integers from 0 to `top`."""
    t, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    wave = np.sin(0.21 * x + 0.3 * t) * np.cos(0.17 * y - 0.1 * t) + 0.5 * np.sin(0.05 * (x + y))
    noise = np.random.default_rng(seed).normal(size=shape)
    levels = np.rint((wave + 1.6) * top / 3.2 + noise * top / 400)
    return np.clip(levels, 0, top).astype(np.int64)


def field(shape):
    """A smooth drifting field."""
    t, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    return np.sin(0.11 * x + 0.05 * t) * np.cos(0.13 * y - 0.03 * t) + 0.01 * np.sin(0.9 * x * y)


def rain(shape=(6, 48, 50)):
    """Radar rain: mostly zero, cells in steps of 0.1."""
    t, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    cells = sum(
        np.exp(-((x - cx - t) ** 2 + (y - cy) ** 2) / 40)
        for cx, cy in ((10, 12), (30, 35), (38, 9))
    )
    noise = np.random.default_rng(3).normal(size=shape)
    return (np.maximum(np.rint(150 * cells + 3 * noise * cells - 20), 0) / 10).astype(np.float32)


def kinds(data):
    """Kinds of the chunks of a stream."""
    header, at = Header.unpack(data)
    found = []
    for length, _ in header.chunks:
        found.append(data[at] & 31)
        at += length
    return found


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 500), (300, 1, 1), (1, 40, 1), (3, 1, 9), (4, 21, 33)]
)
@pytest.mark.parametrize("top", [0, 1, 255, 65535, MAX_LEVEL])
def test_levels_round_trip(shape, top):
    levels = smooth_levels(shape, top)
    skip = np.zeros(shape, bool)
    data = encode_levels(levels, skip, top, UNLIMITED)
    assert np.array_equal(decode_levels(data, skip, top), levels)


def test_random_levels_with_holes_cost_little_more_than_their_entropy():
    rng = np.random.default_rng(5)
    levels = rng.integers(0, 1 << 12, (5, 40, 41))
    skip = rng.random(levels.shape) < 0.4
    data = encode_levels(levels, skip, (1 << 12) - 1, UNLIMITED)
    assert np.array_equal(decode_levels(data, skip, (1 << 12) - 1)[~skip], levels[~skip])
    assert len(data) < 1.12 * 12 * (~skip).sum() / 8
    # what is skipped costs nothing
    changed = np.where(skip, 0, levels)
    assert len(encode_levels(changed, skip, (1 << 12) - 1, UNLIMITED)) <= len(data)


def test_encoding_stops_at_its_limit():
    levels = np.random.default_rng(5).integers(0, 1 << 16, (4, 128, 128))
    assert encode_levels(levels, np.zeros(levels.shape, bool), (1 << 16) - 1, 1000) is None


N = smooth_levels((4, 30, 40), 40000) - 17000
FORMULAS = {
    "tenths": (N // 100 / 10, QUOTIENT),
    "integers": (N.astype(float), QUOTIENT),
    "fives": (N // 50 * 5.0, LINE),
    "thirds": (N // 10 / 3, QUOTIENT),
    "packed": (N * 0.0017982736 - 12.98312313, LINE),
    "packed, round": (N * 0.01 + 273.15, QUOTIENT),
    "power of two": (N * 2.0**-13 + 265.25, QUOTIENT),
    "tiny": (N * 3.1e-30, LINE),
    "huge": (N * 7.7e25, LINE),
    "negative": (-5.0 - (N - N.min()) / 8, QUOTIENT),
    "irregular": (np.sign(N) * np.abs(N // 100.0) ** 1.7, TABLE),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMULAS)
def test_grid_is_found_and_restores_every_bit(name, dtype):
    values, form = FORMULAS[name]
    values = values.astype(dtype)
    grid = exact_grid(values.ravel())
    assert grid is not None
    if dtype == np.float32:
        assert grid.form == form
    mask = np.zeros(values.shape, bool)
    mask[1, 3:9, 4:30] = True
    data = encode_lattice(values, mask, grid, UNLIMITED)
    decoded = decode_lattice(data, mask, values.dtype)
    assert same_bits(decoded[~mask], values[~mask])


def test_values_computed_in_single_precision_are_corrected():
    """A producer that rounds after the product and after the sum follows no float64 formula."""
    values = N.astype(np.float32) * np.float32(0.0023) + np.float32(5.1)
    grid = exact_grid(values.ravel())
    assert grid.corrections is not None
    mask = np.zeros(values.shape, bool)
    data = encode_lattice(values, mask, grid, UNLIMITED)
    assert same_bits(decode_lattice(data, mask, values.dtype), values)


def test_minus_zero_is_kept():
    values = rain()
    values[2, 3, 4:9] = -0.0
    data = caesar_freq.encode(values, "lossless")
    assert same_bits(caesar_freq.decode(data), values)


def test_smooth_floats_have_no_grid():
    values = field((4, 37, 49)).astype(np.float32)
    assert find_spacing(distinct_sample(values.ravel()), values.dtype) is None
    assert exact_grid(values.ravel()) is None


@pytest.mark.parametrize("edge", [[0.0, 1e300], [-1e308, 1e308], [5e-324, 1e-300], [1.0, 1.0]])
def test_extreme_values_are_refused_or_exact(edge):
    values = np.array(edge * 3)
    grid = exact_grid(values)
    if grid is not None:
        assert same_bits(grid.restore(grid.levels(values), values.dtype), values)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_float_as_a_mark_of_missing_values_is_no_reason_to_warn(dtype):
    x = np.linspace(0, 1, 60, dtype=dtype).reshape(3, 4, 5)
    x[1, 2] = np.finfo(dtype).max
    decoded = caesar_freq.decode(caesar_freq.encode(x, "pw_rel", 1e-3))
    np.testing.assert_allclose(decoded, x, rtol=1.0001e-3)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("limit", [0.04, 0.11, 0.35, 2.0])
def test_close_grid_keeps_its_limit(limit, rms):
    values = rain().ravel()
    grid = close_grid(rough_grid(values, limit, rms), values, limit, rms)
    error = grid.restore(grid.levels(values), values.dtype).astype(float) - values
    size = np.sqrt(np.mean(error**2)) if rms else np.abs(error).max()
    assert size <= limit
    if limit < 0.1 and not rms:
        assert size < 1e-6


@pytest.mark.parametrize("limit, step", [(0.4, 1), (0.5, 2), (0.9, 2), (1, 3), (1.5, 4), (2.2, 5)])
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_cells_hold_as_many_grid_points_as_the_limit_allows(limit, step, scale):
    values = np.rint(rain() * 10).astype(np.float32).ravel()
    values = values * np.float32(scale)
    limit *= scale * (1 + 1e-5)
    grid = close_grid(rough_grid(values, limit, False), values, limit, False)
    assert grid.a == pytest.approx(step * scale)
    assert np.abs(grid.error(values)).max() <= limit
    assert not grid.error(values)[values == 0].any(), "dry places stay dry"


def test_means_may_have_cells_of_two_points():
    values = np.rint(rain() * 10).astype(np.float32).ravel() + np.float32(1)
    values[0] = 0
    grid = close_grid(rough_grid(values, 0.52, True), values, 0.52, True)
    assert grid.a == 2 and np.sqrt(np.mean(grid.error(values) ** 2)) <= 0.52


def test_levels_of_both_predictions_are_restored():
    """Also where places are filled or given, and of stripes that begin with them."""
    levels, rng = smooth_levels((5, 30, 41), 3000), np.random.default_rng(3)
    skip = (rng.random(levels.shape) < 0.2) * rng.integers(1, 3, levels.shape).astype(np.uint8)
    sizes = []
    for squares in (False, True):
        coded = levels.copy()
        data = encode_levels(coded, skip, 3000, UNLIMITED, squares)
        decoded = decode_levels(data, skip, 3000, np.where(skip == 2, levels, 0), squares)
        assert np.array_equal(decoded, coded) and np.array_equal(
            decoded[skip != 1], levels[skip != 1]
        )
        sizes.append(len(data))
    assert sizes[1] != sizes[0]


def test_least_squares_find_a_linear_rule():
    t, y, x = np.ogrid[0:6, 0:48, 0:48]
    waves = np.sin(0.9 * x + 0.7 * y) + np.sin(1.1 * x - 0.6 * y + 0.9 * t)
    levels = np.rint(200000 * (waves + 2)).astype(np.int64)
    skip = np.zeros(levels.shape, bool)
    sizes = [len(encode_levels(levels.copy(), skip, 800000, UNLIMITED, f)) for f in (False, True)]
    assert sizes[1] < 0.7 * sizes[0]


def cut_off(shape=(16, 60, 70)):
    """Nothing in some places, about one in others, with sharp edges between, as sea ice is."""
    noise = np.random.default_rng(4).normal(size=shape)
    return np.where(field(shape) > 0.5, 1 + 0.05 * noise, 0).astype(np.float32)


def test_values_without_error_leave_the_others_more():
    values = cut_off().ravel()
    limit = 0.01 * float(np.ptp(values))
    grid = close_grid(rough_grid(values, limit, True), values, limit, True)
    error = grid.error(values)
    assert 0.98 * limit < np.sqrt(np.mean(error**2)) <= limit
    assert grid.a > 1.2 * 12**0.5 * limit
    assert not error[values == 0].any()


def test_the_guess_of_bits_is_near_the_truth():
    mask = np.zeros((16, 60, 70), bool)
    mask[:, :20, :30] = True
    values = cut_off()
    values[mask] = np.nan
    for step in (0.1, 0.01):
        grid = fitted(Grid(LINE, step), values[~mask])
        bits = 8 * len(encode_lattice(values, mask, grid, UNLIMITED)) / np.sum(~mask)
        assert 0.5 < bits / likely_bits(values, mask, step) < 1.4
    assert likely_bits(values, np.ones_like(mask), 0.1) == 0
    for shape in ((1, 1, 5), (1, 40, 40), (7, 1, 1)):
        noise = np.random.default_rng(0).normal(size=shape)
        assert likely_bits(noise, np.zeros(shape, bool), 0.1) > 0.5


PACKED = (smooth_levels((6, 48, 50), 30000) * 0.0017982736 - 12.98312313).astype(np.float32)
EIGHT_BIT = smooth_levels((6, 48, 50), 250).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "mode", "bound"),
    [
        (rain(), "nrmse", 1e-3),
        (rain(), "psnr", 80.0),
        (rain(), "rel", 1e-3),
        (rain(), "lossless", 0),
        (EIGHT_BIT, "abs", 0.1),
        (EIGHT_BIT.astype(np.float64), "lossless", 0),
        (PACKED, "rel", 1e-5),
        (PACKED, "lossless", 0),
    ],
)
def test_encoder_takes_the_grid_where_it_is_smaller(values, mode, bound):
    data = caesar_freq.encode(values, mode, bound)
    assert kinds(data) == [LATTICE]
    np.testing.assert_allclose(caesar_freq.decode(data), values, rtol=0, atol=2e-6)
    if mode == "lossless":
        assert same_bits(caesar_freq.decode(data), values)
        plain = Zstd(19).encode(Shuffle(values.itemsize).encode(np.ascontiguousarray(values)))
        assert len(data) < 0.8 * len(plain)


def test_encoder_takes_levels_where_a_loose_bound_meets_sharp_edges():
    values = cut_off()
    data = caesar_freq.encode(values, "nrmse", 1e-2)
    assert kinds(data) == [LATTICE]
    error = caesar_freq.decode(data).astype(float) - values
    assert 0.0098 < np.sqrt(np.mean(error**2)) / np.ptp(values) <= 1e-2


def test_rare_spikes_are_levels_at_loose_bounds_too():
    rng = np.random.default_rng(7)
    x = np.zeros((16, 96, 96), np.float32)
    x.ravel()[rng.integers(0, x.size, 600)] = rng.exponential(5, 600)
    data = caesar_freq.encode(x, "nrmse", 1e-2)
    assert caesar_freq.info(data)["modes_used"] == {"lattice": 16}
    assert len(data) < 300  # the transform takes 845
    error = caesar_freq.decode(data).astype(np.float64) - x
    assert np.sqrt(np.mean(error**2)) <= 1e-2 * np.ptp(x)


def test_encoder_keeps_the_transform_for_smooth_floats():
    values = field((16, 37, 49)).astype(np.float32)
    for mode, bound in (("nrmse", 1e-3), ("rel", 1e-2)):
        assert LATTICE not in kinds(caesar_freq.encode(values, mode, bound))


def test_near_lossless_levels_keep_a_pointwise_bound_in_the_output_dtype():
    values = rain()
    data = caesar_freq.encode(values, "abs", 0.15)
    error = np.abs(caesar_freq.decode(data).astype(float) - values)
    assert kinds(data) == [LATTICE]
    assert 0.05 < error.max() <= 0.15
    assert len(data) < len(caesar_freq.encode(values, "abs", 0.05))


def test_missing_values_on_a_grid():
    values = rain((6, 48, 50))
    values[:, :9, :20] = np.nan
    values[3, 20, 20] = np.inf
    for mode, bound in (("nrmse", 1e-4), ("lossless", 0)):
        data = caesar_freq.encode(values, mode, bound)
        assert kinds(data) == [LATTICE]
        np.testing.assert_array_equal(caesar_freq.decode(data), values)


def test_bytes_do_not_depend_on_threads():
    values = np.stack([rain(), rain() * 2, PACKED])
    data = [caesar_freq.encode(values, "nrmse", 1e-4, threads=n) for n in (1, 3)]
    assert data[0] == data[1]


def test_census_adds_up():
    from caesar_freq.codec.census import chunk_census

    values = rain()
    values[0, :9, :20] = np.nan
    data = caesar_freq.encode(values, "nrmse", 1e-4)
    header, at = Header.unpack(data)
    streams, frames = chunk_census(data[at:], len(values))
    assert sum(streams.values()) == len(data) - at
    assert streams["lattice"] > 0 and streams["mask"] > 0
    assert frames == {"lattice": len(values)}


@pytest.mark.parametrize("name", ["tenths", "packed", "irregular", "corrected"])
def test_altered_levels_stay_safe(name):
    if name == "corrected":
        values = N.astype(np.float32) * np.float32(0.0023) + np.float32(5.1)
    else:
        values = FORMULAS[name][0].astype(np.float32)
    values = np.ascontiguousarray(values[:2, :12, :14])
    mask = np.zeros(values.shape, bool)
    mask[0, :3] = True
    data = encode_lattice(values, mask, exact_grid(values[~mask]), UNLIMITED)
    rng = np.random.default_rng(1)
    for _ in range(150):
        body = bytearray(data)
        for place in rng.integers(0, len(body) if rng.random() < 0.5 else 40, 1 + rng.integers(3)):
            body[place % len(body)] = rng.integers(256)
        if rng.random() < 0.2:
            body = body[: rng.integers(0, len(body))]
        try:
            decoded = decode_lattice(bytes(body), mask, values.dtype)
        except CorruptStreamError:
            continue
        assert decoded.shape == values.shape
        assert decoded.dtype == values.dtype


def test_damaged_levels_stay_within_their_range_and_tables():
    # errors beyond the range used to lead contexts out of their tables
    levels = smooth_levels((4, 12, 14), 40).astype(np.int64)
    skip = np.zeros(levels.shape, bool)
    data = encode_levels(levels, skip, 40, 1 << 20)
    rng = np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(data)
        bad[: len(bad) // 8] = rng.integers(0, 256, len(bad) // 8).astype(np.uint8).tobytes()
        try:
            decoded = decode_levels(bytes(bad), skip, 40)
        except CorruptStreamError:
            continue
        assert decoded.min() >= 0 and decoded.max() <= 40


def test_a_box_tells_about_how_many_bits_levels_take():
    values, mask = field((16, 64, 64)).astype(np.float32), np.zeros((16, 64, 64), bool)
    grid = fitted(Grid(LINE, 1e-4, -1.0), values.ravel())
    whole = 8 * len(encode_lattice(values, mask, grid, UNLIMITED)) / values.size
    assert whole < trial_bits(values, mask, grid) < 2 * whole
    assert trial_bits(values, ~mask, grid) == np.inf
    outside = mask.copy()
    outside[4:12] = True
    assert trial_bits(values, outside, grid) == np.inf  # nothing is left in the box


@pytest.mark.parametrize(("trial", "kind"), [(np.inf, "plain"), (0.0, "lattice")])
def test_a_doubtful_guess_is_settled_by_a_trial(trial, kind, monkeypatch):
    monkeypatch.setattr(chunk, "_DOUBTFUL", 0.0)
    monkeypatch.setattr(chunk, "_HOPELESS", np.inf)
    monkeypatch.setattr(chunk, "trial_bits", lambda *_: trial)
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.integers(-1, 2, (4, 40, 40)), -1) * np.float32(0.1)
    stream = caesar_freq.encode(steps, "rel", 1e-3)
    assert set(caesar_freq.info(stream)["modes_used"]) == {kind}
