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


def coded(x, number):
    """`x` with predictor `number`, whether it is the best or not."""
    codes = lossless.ordered(x)
    lossless._predict(codes, number)
    return bytes([number]) + Zstd(1).encode(lossless._shuffled(codes))


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
            assert len(data) == 1 + x.itemsize
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

    @pytest.mark.parametrize("number", range(10))
    @pytest.mark.parametrize("shape", [(30,), (5, 6), (3, 4, 5), (2, 1, 3, 4, 5)])
    def test_every_predictor_returns_or_is_refused(self, number, shape):
        x = with_patterns(
            shape, np.float32, [(i, i) for i in range(0, 30, 3)], PATTERNS[np.float32]
        )
        if len(shape) == 1 and -2 in lossless._PREDICTORS[number][0]:
            whole = coded(x, 0)
            self.refused(bytes([number]) + whole[1:], shape)
            return
        data = coded(x, number)
        np.testing.assert_array_equal(bits(decode_lossless(data, shape, x.dtype)), bits(x))

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
