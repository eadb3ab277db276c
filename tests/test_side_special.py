"""Masks and special values: every bit returns for few bytes, and damage is noticed."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from side_streams import (
    PATTERNS,
    SPECIAL_PATTERNS,
    bits,
    cubes,
    dtypes,
    places,
    quick,
    smooth,
    with_patterns,
)

from caesar_freq.codec.special import encode_special, restore_special
from caesar_freq.data.sections import missing
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.errors import CorruptStreamError


class TestMask:
    @given(
        shape=cubes,
        threshold=st.sampled_from([-9.0, 0.0, 1.0, 9.0]),
        noise=st.sampled_from([0.0, 0.1, 5.0]),
        seed=st.integers(0, 10**6),
    )
    @quick
    def test_round_trip(self, shape, threshold, noise, seed):
        rng = np.random.default_rng(seed)
        mask = smooth(shape, seed=seed) + noise * rng.standard_normal(shape) > threshold
        coded = encode_mask(mask.copy())
        np.testing.assert_array_equal(decode_mask(coded, shape), mask)

    @pytest.mark.parametrize("seed", range(20))
    def test_carries_travel_through_long_runs(self, seed):
        # improbable bits after long sure runs drive the low end of the interval to its top
        mask = np.random.default_rng(seed).random((3, 64, 256)) < 0.5 ** (seed % 10 + 1)
        np.testing.assert_array_equal(decode_mask(encode_mask(mask), mask.shape), mask)

    def test_moving_clouds_cost_half_of_what_deflate_makes_of_them(self):
        rng = np.random.default_rng(5)
        t, y, x = np.ogrid[0:12, 0:80, 0:100]
        waves = rng.normal(0, 0.12, (40, 3)) * [0.4, 1, 1]
        phases = rng.uniform(0, 6.3, 40)
        field = sum(np.cos(a * t + b * y + c * x + p) for (a, b, c), p in zip(waves, phases))
        clouds = field > 1
        changes = np.packbits(clouds ^ np.roll(clouds, 1, 0))
        assert len(encode_mask(clouds)) < 0.5 * len(zlib.compress(changes.tobytes(), 9))

    def test_excess_is_refused_and_garbage_keeps_the_shape(self):
        mask = smooth((3, 9, 10)) > 0
        with pytest.raises(CorruptStreamError):
            decode_mask(encode_mask(mask) + bytes(range(1, 9)), mask.shape)
        rng = np.random.default_rng(0)
        for length in range(40):
            try:
                assert decode_mask(rng.bytes(length), mask.shape).shape == mask.shape
            except CorruptStreamError:
                pass


class TestSpecial:
    @given(shape=cubes, dtype=dtypes, places=places, fill=st.sampled_from([None, -999.0, 0.0]))
    @quick
    def test_round_trip_bit_by_bit(self, shape, dtype, places, fill):
        x = with_patterns(shape, dtype, places, PATTERNS[dtype])
        if fill is not None:
            x.ravel()[::5] = fill
        mask = missing(x, fill)
        expected = ~np.isfinite(x) | (x == fill if fill is not None else False)
        np.testing.assert_array_equal(mask, expected)
        if not mask.any():
            return
        decoded = np.full(shape, 7, dtype)
        restored = restore_special(decoded, encode_special(x, mask))
        np.testing.assert_array_equal(bits(restored)[mask], bits(x)[mask])
        assert restored is decoded and (restored[~mask] == 7).all()

    def test_more_kinds_than_a_table_holds_return(self):
        payloads = np.arange(2000, dtype=np.uint32).reshape(2, 20, 50) + 0x7FC00000
        x = payloads.view(np.float32)
        restored = restore_special(np.zeros_like(x), encode_special(x, missing(x, None)))
        np.testing.assert_array_equal(bits(restored), payloads)

    def test_the_fill_value_is_meant_in_the_dtype_of_the_data(self):
        fill = 9.969209968386869e36  # default fill value of NetCDF, a float64 here
        x = np.array([[[1, np.float32(fill), 2]]], np.float32)
        np.testing.assert_array_equal(missing(x, fill), [[[False, True, False]]])
        # beyond float32 it means infinity, which is special anyway
        assert not missing(np.ones((1, 1, 3), np.float32), 1e300).any()

    def test_a_static_mask_costs_one_frame(self):
        land = smooth((1, 80, 90)) > 0
        x = np.where(np.repeat(land, 64, 0), np.float32(np.nan), np.float32(1))
        one = len(encode_special(x[:1], land))
        assert len(encode_special(x, np.isnan(x))) < one + 10

    def test_one_lost_value_takes_few_bytes(self):
        x = np.ones((16, 64, 64), np.float32)
        x[5, 6, 7] = np.nan
        assert len(encode_special(x, np.isnan(x))) < 16

    def test_a_mask_without_structure_is_not_blown_up(self):
        mask = np.random.default_rng(0).random((8, 50, 60)) < 0.5
        x = np.where(mask, np.float32(np.inf), np.float32(0))
        assert len(encode_special(x, mask)) < mask.size / 8 + 30
        restored = restore_special(np.ones_like(x), encode_special(x, mask))
        np.testing.assert_array_equal(np.isinf(restored), mask)

    def test_a_stream_for_another_number_of_frames_is_refused(self):
        clouds = smooth((16, 20, 30), seed=4) > 0
        x = np.where(clouds, np.float32(np.nan), np.float32(1))
        with pytest.raises(CorruptStreamError):
            restore_special(np.zeros((4, 20, 30), np.float32), encode_special(x, clouds))

    def stream(self):
        x = with_patterns(
            (4, 9, 10), np.float32, [(i * 7, i) for i in range(25)], SPECIAL_PATTERNS[np.float32]
        )
        return encode_special(x, missing(x, None))

    @given(st.integers(0, 10**6), st.integers(0, 7))
    @settings(max_examples=200, deadline=None)
    def test_a_flipped_bit_is_refused_or_keeps_the_shape(self, place, bit):
        data = bytearray(self.stream())
        data[place % len(data)] ^= 1 << bit
        self.check(bytes(data))

    @given(st.binary(max_size=80))
    @quick
    def test_garbage_is_refused_or_keeps_the_shape(self, data):
        self.check(data)

    def check(self, data):
        try:
            restored = restore_special(np.zeros((4, 9, 10), np.float32), data)
        except CorruptStreamError:
            return
        assert restored.shape == (4, 9, 10)

    def test_truncation_excess_and_another_shape_are_refused(self):
        data = self.stream()
        for damaged in [data[:n] for n in range(len(data))] + [data + b"\0"]:
            with pytest.raises(CorruptStreamError):
                restore_special(np.zeros((4, 9, 10), np.float32), damaged)
        with pytest.raises(CorruptStreamError):
            restore_special(np.zeros((4, 9, 20), np.float32), data)

    def test_excess_after_a_single_kind_is_refused(self):
        x = np.ones((2, 5, 6), np.float32)
        x[0, 1] = np.nan
        data = encode_special(x, np.isnan(x))
        restore_special(np.zeros_like(x), data)
        with pytest.raises(CorruptStreamError):
            restore_special(np.zeros_like(x), data + b"\0")
