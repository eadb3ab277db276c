"""Pointwise bounds: the step they are met with, corrections in streams, and mode ``pw_rel``."""

import math
from dataclasses import replace

import google_crc32c
import numpy as np
import pytest
from field_helpers import shapes_up_to
from hypothesis import given, settings
from hypothesis import strategies as st

import caesar_freq
from caesar_freq.codec import chunk, encoder
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.header import Header
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader
from caesar_freq.codec.step_ratio import RATIOS, lowest
from caesar_freq.errors import CaesarError


def busy_field(shape=(18, 50, 60), seed=0):
    """Smooth, but for one moving region of noise."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    noise = np.exp(-((y - 20 - t / 2) ** 2 + (x - 20 - t) ** 2) / 60)
    wave = np.sin(y / 9 + t / 5) + np.cos(x / 13)
    return (wave + 0.2 * noise * rng.standard_normal(shape)).astype(np.float32)


def corrections(data):
    """Bytes of the corrections of a stream's first chunk, without a mask."""
    header, at = Header.unpack(data)
    reader = Reader(data[at : at + header.chunks[0][0]])
    assert reader.byte() & 0xC0 == 0x40
    return reader.take(reader.varint())


class TestStepRatio:
    @pytest.mark.parametrize("best", [1.5, 1.9, 2.4, 2.7, 3.5, 5.0, 9.0])
    def test_the_minimum_is_found_by_few_trials(self, best):
        tried = []

        def cost(ratio):
            tried.append(ratio)
            return 1 + math.log(ratio / best) ** 2

        found = lowest(cost, RATIOS, RATIOS.index(3.2))
        assert found == pytest.approx(min(max(best, RATIOS[0]), RATIOS[-1]), rel=1e-6)
        assert len(tried) == len(set(tried)) <= 8

    def test_impossible_steps_are_avoided(self):
        assert lowest(lambda r: math.inf, RATIOS, 3) == RATIOS[3]
        assert lowest(lambda r: r if r > 1.9 else math.inf, RATIOS, 3) == 2.0

    @pytest.mark.parametrize("bound", [3e-2, 1e-3])
    def test_streams_are_about_as_short_as_with_any_fixed_ratio(self, bound, monkeypatch):
        monkeypatch.setattr(chunk, "_ASK_LATTICE", np.inf)  # levels have no such ratio
        x = busy_field()
        chosen = len(caesar_freq.encode(x, "rel", bound))
        fixed = []
        for ratio in (1.6, 2.5, 4.2, 8.0):
            monkeypatch.setattr(encoder, "choose_ratio", lambda *_, ratio=ratio: ratio)
            fixed.append(len(caesar_freq.encode(x, "rel", bound)))
        assert chosen < 1.005 * min(fixed) and chosen < 0.97 * max(fixed)


class TestStreams:
    @pytest.mark.parametrize("bound", [1e-4, 1e-5, 3e-6])
    def test_bounds_near_the_rounding_of_the_dtype_are_not_left_to_lossless_coding(self, bound):
        x = 280 + 10 * busy_field()  # steps of float32 are 3e-5, the tightest bound is 2.4 of them
        data = caesar_freq.encode(x, "rel", bound)
        assert bound_holds(x[None], caesar_freq.decode(data)[None], "rel", bound)
        assert "lossless" not in caesar_freq.info(data)["bytes_by_stream"]

    def test_the_dependent_quantiser_pays_with_corrections_too(self):
        base = FrequencyModel.base()
        one_grid = replace(base, grid_pmf=None, grid_centroid=None)
        # in cells of 32, the best here, next to nothing is left to choose levels of
        options = {"embed_model": False, "spatial": (("lot", 16),)}
        sizes = [
            len(caesar_freq.encode(busy_field(), "rel", 1e-2, model=model, **options))
            for model in (base, one_grid)
        ]
        assert sizes[0] < 0.985 * sizes[1]

    def test_clustered_corrections_are_coded_in_context(self):
        data = caesar_freq.encode(busy_field(), "rel", 1e-2)
        assert corrections(data)[0] == 0 and len(corrections(data)) > 1

    def test_altered_corrections_with_a_right_checksum_stay_safe(self):
        x = busy_field()
        data = caesar_freq.encode(x, "rel", 1e-2)
        header, at = Header.unpack(data)
        rng = np.random.default_rng(1)
        for _ in range(60):
            body = bytearray(data[at:])
            for place in rng.integers(1, len(corrections(data)) + 3, 1 + rng.integers(3)):
                body[place] = rng.integers(256)
            header.chunks = [(len(body), google_crc32c.value(bytes(body)))]
            try:
                decoded = caesar_freq.decode(header.pack() + bytes(body))
            except CaesarError:
                continue
            assert decoded.shape == x.shape


def check(x, bound):
    data = caesar_freq.encode(x, "pw_rel", bound)
    y = caesar_freq.decode(data)
    assert y.shape == x.shape and y.dtype == x.dtype
    bits = f"u{x.itemsize}"
    exact = ~np.isfinite(x) | (np.abs(x) < np.finfo(x.dtype).tiny)
    np.testing.assert_array_equal(y.view(bits)[exact], x.view(bits)[exact])
    good, got = x[~exact].astype(np.longdouble), y[~exact].astype(np.longdouble)
    assert (np.abs(good - got) <= bound * np.abs(good)).all()
    assert (np.signbit(good) == np.signbit(got)).all()
    return data


VALUES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 3.4e38, -3.4e38]


class TestPwRel:
    @given(
        shape=shapes_up_to(20_000, max_side=11),
        dtype=st.sampled_from([np.float32, np.float64]),
        bound=st.sampled_from([0.9, 0.1, 1e-3, 1e-6, 1e-12]),
        octaves=st.sampled_from([0.0, 1.0, 30.0]),
        specials=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(VALUES)), max_size=5),
        seed=st.integers(0, 5),
    )
    @settings(max_examples=100, deadline=None)
    def test_bound_holds_for_any_array(self, shape, dtype, bound, octaves, specials, seed):
        rng = np.random.default_rng(seed)
        logs = (octaves * rng.standard_normal(shape)).clip(-140, 120)
        x = (np.exp2(logs) * rng.choice([-1, 1], shape)).astype(dtype)
        for place, value in specials:
            x.ravel()[place % x.size] = value
        if np.isfinite(x).any():
            check(x, bound)

    def test_a_field_over_600_decades_keeps_its_bound_and_is_compressed(self):
        t, y, x = np.ogrid[:16, :40, :50]
        wide = 10.0 ** (300 * np.sin(t / 20 + y / 15) * np.cos(x / 17))
        assert wide.min() < 1e-280 and wide.max() > 1e280
        assert len(check(wide, 1e-3)) < wide.nbytes / 12

    def test_numbers_next_to_the_largest_do_not_overflow(self):
        for dtype in (np.float32, np.float64):
            rng = np.random.default_rng(0)
            x = np.finfo(dtype).max * (1 - 1e-3 * rng.random((8, 20, 20)))
            check(x.astype(dtype), 0.05)

    def test_subnormal_numbers_are_exact_among_others(self):
        x = np.exp(np.cumsum(np.random.default_rng(1).standard_normal((8, 20, 30)), 0) - 87)
        x = x.astype(np.float32)
        assert 100 < (np.abs(x) < np.finfo(np.float32).tiny).sum() < x.size - 100
        check(x, 1e-2)

    def test_holes_and_signs(self):
        x = busy_field()
        x[:, 5:15, 30:40] = np.nan
        x[3, 20:24] = -np.inf
        x[:, 40:, :10] = -0.0
        data = check(x, 1e-2)
        streams = caesar_freq.info(data)["bytes_by_stream"]
        assert sum(streams.values()) == len(data)
        assert streams["signs"] > 0 and streams["mask"] > 0
        assert len(data) < x.nbytes / 5

    def test_rain_costs_less_than_its_logarithms_in_an_absolute_mode(self):
        rain = np.maximum(busy_field() - 0.8, 0) ** 3
        data = check(rain, 1e-2)
        # what a user would do without the mode: clip at the smallest value and code logarithms
        logs = np.log2(np.maximum(rain, rain[rain > 0].min()))
        other = caesar_freq.encode(logs, "abs", math.log2(1.01))
        assert len(data) < len(other)

    @pytest.mark.parametrize("value", [0.0, -0.0, 2.5, -2.5])
    def test_constants_take_few_bytes(self, value):
        assert len(check(np.full((4, 60, 90), value), 1e-3)) < 110

    def test_magnitudes_alike_with_changing_signs(self):
        signs = np.random.default_rng(0).choice(np.float32([1, -1]), (5, 30, 30))
        check(7 * signs, 1e-3)

    def test_fill_values_return(self):
        x = busy_field()
        x[:, :9] = -999.0
        data = caesar_freq.encode(x, "pw_rel", 1e-2, fill_value=-999.0)
        y = caesar_freq.decode(data)
        assert (y[:, :9] == -999).all()
        assert bound_holds(x[None], y[None], "pw_rel", 1e-2, -999.0)

    def test_bound_zero_is_lossless_and_the_verdict_looks_at_signs(self):
        x = busy_field()
        np.testing.assert_array_equal(caesar_freq.decode(caesar_freq.encode(x, "pw_rel", 0)), x)
        zero = np.zeros((1, 2, 2))
        assert not bound_holds(zero, -zero, "pw_rel", 0.5)
        assert not bound_holds(zero, zero + 1e-300, "pw_rel", 0.5)
        assert not bound_holds(zero + 1, zero + np.nan, "pw_rel", 0.5)
        assert bound_holds(zero + 1, zero + 1.5, "pw_rel", 0.5)

    def test_altered_chunks_with_a_right_checksum_stay_safe(self):
        x = busy_field((10, 20, 30))
        x[0, 0, 0] = 0
        data = caesar_freq.encode(x, "pw_rel", 1e-2)
        header, at = Header.unpack(data)
        rng = np.random.default_rng(2)
        for _ in range(60):
            body = bytearray(data[at:])
            for place in rng.integers(0, len(body) if rng.random() < 0.5 else 40, 2):
                body[place] = rng.integers(256)
            header.chunks = [(len(body), google_crc32c.value(bytes(body)))]
            try:
                decoded = caesar_freq.decode(header.pack() + bytes(body))
            except CaesarError:
                continue
            assert decoded.shape == x.shape


def test_logarithms_on_a_grid_keep_signs_and_the_relative_bound():
    rng = np.random.default_rng(4)
    rain = np.maximum(busy_field() - 0.8, 0) ** 3 * rng.choice([-1, 1], (18, 50, 60))
    rain = rain.astype(np.float32)
    data = caesar_freq.encode(rain, "pw_rel", 1e-2)
    assert set(caesar_freq.info(data)["modes_used"]) == {"lattice"}
    decoded = caesar_freq.decode(data)
    assert np.array_equal(np.signbit(decoded), np.signbit(rain))
    assert np.all(np.abs(decoded.astype(float) - rain) <= 1e-2 * np.abs(rain.astype(float)))
