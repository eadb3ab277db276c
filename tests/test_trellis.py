"""The dependent quantiser: its two grids, the search for levels, all kernels, fewer bytes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from test_kernels import CASES, levels, use  # noqa: F401
from test_refine import rough_field

import caesar_freq
from caesar_freq.codec import trellis
from caesar_freq.codec.backend import kernels
from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.container import Container
from caesar_freq.codec.layout import VOLUME, chunk_kind
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.refine import UNIT
from caesar_freq.codec.volume import decode_volume
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.entropy import dependent
from caesar_freq.errors import CorruptStreamError, ModelError
from caesar_freq.transform.blocks import Transform

MODEL = FrequencyModel.base()
PLAIN = replace(MODEL, grid_pmf=None, grid_centroid=None)


def test_grids_hold_all_steps_and_zero_twice():
    found = {g: [dependent.value_of(v, g) for v in range(-4, 5)] for g in (0, 1)}
    assert found == {0: [-8, -6, -4, -2, 0, 2, 4, 6, 8], 1: [-7, -5, -3, -1, 0, 1, 3, 5, 7]}
    for grid, values in found.items():
        assert [dependent.level_of(value, grid) for value in values] == list(range(-4, 5))


def test_every_phase_has_two_ways_in_and_two_ways_out():
    ways = {(p, odd): dependent.next_phase(p, odd) for p in range(8) for odd in (0, 1)}
    assert sorted(ways.values()) == sorted([*range(8)] * 2)
    assert all(dependent.phase_before(after, odd) == p for (p, odd), after in ways.items())
    assert all(dependent.next_phase(p, -3) == dependent.next_phase(p, 5) for p in range(8))
    assert dependent.next_phase(0, 0) == 0  # zeros stay in the grid of even steps


@pytest.mark.parametrize("name", ["portable", "avx2", "native"])
@pytest.mark.parametrize("shape, time_block, cell, kind, spread", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bytes_in_all_kernels(use, name, shape, time_block, cell, kind, spread, dtype):  # noqa: F811
    transform = Transform(shape, time_block, cell, kind)
    planes, q, alphas, classes = levels(shape, transform, spread)
    planes, step = planes.astype(dtype), float(np.abs(planes).max()) / spread
    used = use("numba").ends_of(q)
    args = (planes, step, alphas, classes, used, transform, MODEL, *trellis.prices(MODEL),
            trellis.lengths(MODEL))  # fmt: skip
    expected = kernels().choose_blocks(*args)
    assert expected[-1]
    q, rows, error, *_ = expected
    written = kernels().write_blocks(q, rows, used, transform, MODEL)
    chosen = use(name)
    for one, other in zip(chosen.choose_blocks(*args), expected):
        np.testing.assert_array_equal(one, other)
    state, words = chosen.write_blocks(q, rows, used, transform, MODEL)
    centroid = np.tile(MODEL.grid_centroid, (2, 1))
    arguments = (rows, step, alphas, classes, centroid)
    assert error == chosen.coefficient_error(q, *arguments, planes)
    copy = planes.copy()
    for one, other in zip(chosen.choose_blocks(copy, *args[1:], True), expected):
        np.testing.assert_array_equal(one, other)
    assert state == written[0] and np.array_equal(words, written[1])
    bins = rows % 80
    again = chosen.encode_blocks(q, used, transform, MODEL, True)
    assert np.array_equal(again[0], bins) and again[1] == state
    assert np.array_equal(again[2], words)
    back = chosen.decode_blocks(used, state, words, transform, MODEL, True)
    assert np.array_equal(back[0], q) and np.array_equal(back[1], bins)


def cost(values, sizes, bins, phase, price, middle):
    """What a way through the phases costs; None if it leaves the grids."""
    total = 0
    for size, b, value in zip(np.abs(sizes), bins, np.abs(values)):
        grid = dependent.grid_of(phase)
        level = dependent.level_of(int(value), grid)
        if dependent.value_of(level, grid) != value:
            return None
        error = size - (middle[b >> 2, value] if value < 4 else value)
        total += int(error * error * UNIT + 0.5) + price[b + 80 * grid, level]
        phase = dependent.next_phase(phase, level)
    return total


def test_the_search_finds_the_cheapest_way():
    """Against all ways through six coefficients, each at any value nearby."""
    tables = trellis.prices(MODEL)
    rng = np.random.default_rng(0)
    for phase in range(8):
        sizes = rng.laplace(scale=2.5, size=6)
        bins = rng.integers(36, 46, 6).astype(np.uint8)
        found = np.empty(6, np.int32)
        trellis.choose_path(sizes, bins, 6, phase, *tables, np.empty((6, 2), np.uint8), found)
        near = [sorted({0, *range(max(0, int(s) - 1), int(s) + 4)}) for s in np.abs(sizes)]
        costs = [cost(way, sizes, bins, phase, *tables) for way in product(*near)]
        assert cost(found, sizes, bins, phase, *tables) == min(c for c in costs if c is not None)
        assert np.all((found == 0) | (np.sign(found) == np.sign(sizes)))


@pytest.mark.parametrize("nrmse", [1e-2, 1e-3, 1e-4])
def test_dependent_levels_cost_less(nrmse):
    x = rough_field()
    x = (x - x.mean()) / np.ptp(x)
    step, costs = 4 * nrmse, []
    for model in (PLAIN, MODEL):
        encoder = VolumeEncoder(x, Transform(x.shape, 16, 16, "lot"), model, True)
        code = encoder.encode(step, MODEL.dead_zone_at(nrmse))
        assert code.dependent == (model is MODEL)
        error = encoder.coefficient_error(code, step)
        decoded = decode_volume(code.data, step, encoder.transform, model, np.float32)
        assert np.square(decoded - x, dtype=float).sum() == pytest.approx(error, rel=1e-3)
        costs.append(8 * len(code.data) + lagrangian(step) * error)
    assert costs[1] < 0.985 * costs[0]


def test_files_say_which_quantiser_they_have():
    x = rough_field()
    for effort, model, expected in ((0, MODEL, 0), (1, MODEL, 2), (1, PLAIN, 0)):
        data = caesar_freq.encode(x, "nrmse", 3e-3, effort=effort, model=model, embed_model=False)
        body = Container(data).chunk(0)
        assert chunk_kind(body) == VOLUME and body[1] & 2 == expected
        error = np.sqrt(np.square(caesar_freq.decode(data) - x, dtype=float).mean()) / np.ptp(x)
        assert error <= 3e-3


def test_a_model_without_tables_refuses_the_stream():
    x = rough_field((16, 16, 16))
    encoder = VolumeEncoder(x, Transform(x.shape), MODEL, True)
    data = encoder.encode(0.1, 0.5).data
    with pytest.raises(CorruptStreamError, match="unknown quantiser"):
        decode_volume(data, 0.1, encoder.transform, PLAIN, np.float32)


def test_models_keep_their_tables():
    for model in (MODEL, PLAIN):
        copies = (
            FrequencyModel.from_bytes(model.to_bytes()),
            FrequencyModel.from_state_dict(model.state_dict()),
        )
        assert {copy.fingerprint for copy in copies} == {model.fingerprint}
    with pytest.raises(ModelError, match="only one of"):
        replace(MODEL, grid_centroid=None)
    with pytest.raises(ModelError, match="out of range"):
        replace(MODEL, grid_pmf=0 * MODEL.grid_pmf)


def test_small_files_take_one_grid_where_that_is_smaller():
    """All is below the bound but for a few cells."""
    x = np.zeros((16, 64, 64), np.float32)
    x[:, 20:24, 30:34] = rough_field((16, 4, 4))
    x += np.float32(1e-3) * rough_field((16, 64, 64), 1)
    sizes = [
        len(caesar_freq.encode(x, "nrmse", 1e-2, model=model, embed_model=False))
        for model in (MODEL, PLAIN)
    ]
    assert sizes[0] <= 1.01 * sizes[1] < 4096
