"""Lossless parts: every bit returns, prediction pays, and damage is noticed."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Zstd
from side_streams import PATTERNS, bits, dtypes, places, quick, shapes, smooth, with_patterns

from caesar_freq.codec import lossless
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.errors import CorruptStreamError


def coded(x, number, low=0):
    """`x` with predictor `number` and `low` bits set apart, whether that is the best or not."""
    return lossless._coded(x, number, low)


def rounded(x, low):
    """`x` without its `low` lowest bits."""
    codes = x.view(f"u{x.itemsize}")
    return (codes >> codes.dtype.type(low) << codes.dtype.type(low)).view(x.dtype)


class TestLossless:
    @given(shape=shapes, dtype=dtypes, places=places)
    @quick
    def test_round_trip_bit_by_bit(self, shape, dtype, places):
        x = with_patterns(shape, dtype, places, PATTERNS[dtype])
        decoded = decode_lossless(encode_lossless(x), shape, np.dtype(dtype))
        assert (decoded.shape, decoded.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(bits(decoded), bits(x))

    @pytest.mark.parametrize("dtype", PATTERNS)
    def test_constants_of_any_bits_take_a_few_bytes(self, dtype):
        for pattern in PATTERNS[dtype]:
            x = np.full((4, 50, 60), pattern, f"u{np.dtype(dtype).itemsize}").view(dtype)
            data = encode_lossless(x)
            assert len(data) in (1 + x.itemsize, 2 + x.itemsize // 2)
            np.testing.assert_array_equal(bits(decode_lossless(data, x.shape, x.dtype)), bits(x))

    def test_a_non_contiguous_array_returns(self):
        x = smooth((8, 9, 10)).transpose(2, 0, 1)[::2]
        np.testing.assert_array_equal(decode_lossless(encode_lossless(x), x.shape, x.dtype), x)

    def test_prediction_pays_along_either_axis(self):
        rng = np.random.default_rng(0)
        rows = np.repeat(rng.standard_normal((1, 64, 64)), 16, 0).astype(np.float32)
        columns = np.linspace(1, 1.9, 4096, dtype=np.float32).reshape(1, 1, -1)
        assert len(encode_lossless(rows)) < 1.05 * len(encode_lossless(rows[:1]))
        assert len(encode_lossless(columns)) < 0.1 * columns.nbytes

    def test_smooth_fields_use_all_axes_and_packed_ones_none(self):
        t, y, x = np.ogrid[0:16, 0:60, 0:70]
        wave = np.sin(t / 9 + y / 17) * np.cos(x / 23) + 4
        assert len(encode_lossless(wave.astype(np.float32))) < 0.33 * wave.size * 4
        levels = np.random.default_rng(0).choice([0, 0.5, 1, 1.5], (16, 60, 70))
        assert len(encode_lossless(levels.astype(np.float32))) < 0.11 * levels.size * 4

    def test_values_that_come_again_are_found_as_they_are(self):
        """Rain among zeros, fill values, counts: shuffled, their bytes no longer stand together."""
        rng = np.random.default_rng(0)
        few = rng.standard_normal(300).astype(np.float32)
        rain = np.where(rng.random((16, 80, 90)) < 0.3, rng.choice(few, (16, 80, 90)), 0)
        rain = rain.astype(np.float32)
        data = encode_lossless(rain)
        assert data[0] == lossless.AS_THEY_ARE
        assert len(data) < 0.85 * len(coded(rain, 0))
        np.testing.assert_array_equal(decode_lossless(data, rain.shape, rain.dtype), rain)

    def test_what_begins_in_the_first_frames_does_not_tell_the_predictor(self):
        x = np.zeros((40, 60, 70), np.float32)
        x[12:] = smooth((28, 60, 70), seed=3)
        assert len(encode_lossless(x)) <= 1.02 * min(len(coded(x, n)) for n in range(10))

    @pytest.mark.parametrize("low", [0, 1, 11, 31])
    @pytest.mark.parametrize("number", range(11))
    @pytest.mark.parametrize("shape", [(30,), (5, 6), (3, 4, 5), (2, 1, 3, 4, 5)])
    def test_every_predictor_returns_or_is_refused(self, number, shape, low):
        x = with_patterns(
            shape, np.float32, [(i, i) for i in range(0, 30, 3)], PATTERNS[np.float32]
        )
        if len(shape) == 1 and -2 in lossless.PREDICTORS[number][0]:
            whole = coded(x, 0)
            self.refused(bytes([number]) + whole[1:], shape)
            return
        data = coded(x, number, low)
        np.testing.assert_array_equal(bits(decode_lossless(data, shape, x.dtype)), bits(x))

    def test_bits_that_were_rounded_away_cost_nothing(self):
        """Whether all are cleared, set in every other value, or there by a longer dtype alone."""
        x = smooth((8, 60, 70))
        few = rounded(x, 11)
        groomed = few.copy()
        groomed.reshape(-1).view(np.uint32)[1::2] |= (1 << 11) - 1
        whole, plain = len(encode_lossless(x)), len(encode_lossless(few))
        assert plain < whole - 0.9 * 11 / 8 * x.size
        assert len(encode_lossless(groomed)) < 1.03 * plain
        assert len(encode_lossless(x.astype(np.float64))) == 1 + whole
        # the pattern of a fill value is no other's
        few[:, 20:50, 30:60] = 1e20
        assert len(encode_lossless(few)) < plain

    def test_low_bits_of_any_pattern_return(self):
        x = smooth((3, 20, 30)).astype(np.float64)
        x.reshape(-1).view(np.uint64)[5:9] = 0x7FF0000000000001, 0xFFF8000000000123, 1 << 63, 1
        data = encode_lossless(x)
        assert data[0] & lossless._SET_APART and 0 < data[1] < 64
        np.testing.assert_array_equal(bits(decode_lossless(data, x.shape, x.dtype)), bits(x))
        for wrong in (0, 64, 255):
            self.refused(data[:1] + bytes([wrong]) + data[2:], x.shape, np.float64)

    def test_float32_in_float64_is_coded_as_float32(self):
        x = smooth((4, 20, 30))
        x.reshape(-1).view(np.uint32)[3:7] = 0x7FC00123, 0xFFC00000, 1 << 31, 1
        wide = x.astype(np.float64)
        data = encode_lossless(wide)
        assert data == bytes([lossless._SHORT]) + encode_lossless(x)
        np.testing.assert_array_equal(bits(decode_lossless(data, x.shape, wide.dtype)), bits(wide))
        self.refused(data, x.shape)
        self.refused(data[:1] + data, x.shape, np.float64)
        for other in (1e-50, 1e300, 1 + 2**-50):  # what float32 does not hold
            wide[1, 2, 3] = other
            assert encode_lossless(wide)[0] != lossless._SHORT

    def refused(self, data, shape=(4, 20, 30), dtype=np.float32):
        with pytest.raises(CorruptStreamError):
            decode_lossless(data, shape, np.dtype(dtype))

    def test_another_shape_or_dtype_is_refused(self):
        data = encode_lossless(smooth((4, 20, 30)))
        self.refused(data, (4, 20, 31))
        self.refused(data, dtype=np.float64)
        self.refused(encode_lossless(np.zeros((4, 20, 30), np.float32)), dtype=np.float64)

    def test_truncation_and_garbage_are_refused(self):
        data = encode_lossless(smooth((4, 20, 30)))
        for length in [0, 1, 2, 5, 6, 9, len(data) // 2, len(data) - 1]:
            self.refused(data[:length])
        self.refused(data + b"\0")
        self.refused(b"\x77" + data[1:])
        self.refused(bytes(100))

    @given(st.integers(0, 10**6), st.integers(0, 7))
    @settings(max_examples=200, deadline=None)
    def test_a_flipped_bit_is_refused_or_keeps_the_shape(self, place, bit):
        data = bytearray(encode_lossless(smooth((3, 8, 9))))
        data[place % len(data)] ^= 1 << bit
        try:
            decoded = decode_lossless(bytes(data), (3, 8, 9), np.dtype(np.float32))
        except CorruptStreamError:
            return
        assert decoded.shape == (3, 8, 9)

    def test_a_bomb_is_not_inflated(self):
        bomb = bytes(Zstd(1).encode(bytes(1 << 28)))
        data = encode_lossless(smooth((4, 20, 30)))
        tracemalloc.start()
        self.refused(b"\0" + bomb)
        self.refused(data + bomb)  # as a second frame, where the first has the right size
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
