"""Numbers of side streams: exact round trips, small sizes, and damage that is noticed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from side_streams import quick

from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.outliers import decode_outliers, encode_outliers
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError


class TestPacking:
    @given(st.lists(st.integers(0, 2**62), max_size=8))
    @quick
    def test_varints_return(self, values):
        reader = Reader(b"".join(map(varint, values)))
        assert [reader.varint() for _ in values] == values
        assert reader.left == 0

    def test_reading_past_the_end_or_an_endless_number_is_noticed(self):
        with pytest.raises(CorruptStreamError):
            Reader(b"abc").take(4)
        with pytest.raises(CorruptStreamError):
            Reader(b"\x80").varint()
        with pytest.raises(CorruptStreamError):
            Reader(b"\xff" * 20).varint()


class TestInts:
    @given(
        low=st.integers(-70, 0),
        high=st.integers(0, 70),
        scale=st.sampled_from([0.1, 1.0, 8.0, 100.0]),
        n=st.integers(0, 500),
        seed=st.integers(0, 10**6),
    )
    @quick
    def test_round_trip(self, low, high, scale, n, seed):
        values = np.random.default_rng(seed).laplace(0, scale, n).round().clip(low, high)
        decoded = decode_ints(encode_ints(values.astype(np.int32), low, high), n, low, high)
        assert decoded.dtype == np.int32
        np.testing.assert_array_equal(decoded, values)

    def test_zeros_take_one_byte(self):
        assert len(encode_ints(np.zeros(100_000, np.int32), -46, 46)) == 1

    @pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
    def test_size_is_near_the_entropy(self, scale):
        values = np.random.default_rng(1).laplace(0, scale, 4000).round().astype(int).clip(-46, 46)
        p = np.bincount(values + 46) / values.size
        entropy = -np.sum(p[p > 0] * np.log2(p[p > 0])) * values.size / 8
        assert len(encode_ints(values, -46, 46)) < 1.05 * entropy + 9

    @given(st.binary(max_size=60), st.integers(0, 50), st.integers(-9, 0), st.integers(0, 9))
    @settings(max_examples=200, deadline=None)
    def test_garbage_is_refused_or_stays_in_range(self, data, n, low, high):
        try:
            values = decode_ints(data, n, low, high)
        except CorruptStreamError:
            return
        assert values.shape == (n,)
        assert ((values >= low) & (values <= high)).all()

    def test_another_count_is_refused(self):
        values = np.random.default_rng(0).integers(-20, 21, 300)
        data = encode_ints(values, -20, 20)
        for n in (200, 299):
            with pytest.raises(CorruptStreamError):
                decode_ints(data, n, -20, 20)


class TestOutliers:
    @given(
        positions=st.sets(st.integers(0, 10**12), max_size=60),
        spare=st.integers(1, 1000),
        largest=st.sampled_from([1, 3, 2**31 - 1]),
        seed=st.integers(0, 10**6),
    )
    @quick
    def test_round_trip(self, positions, spare, largest, seed):
        positions = np.array(sorted(positions), np.int64)
        rng = np.random.default_rng(seed)
        multiples = rng.integers(1, largest, len(positions), endpoint=True).astype(np.int32)
        multiples *= rng.choice(np.array([-1, 1], np.int32), len(positions))
        n_values = int(positions[-1]) + spare if len(positions) else spare
        found, sizes = decode_outliers(encode_outliers(positions, multiples, n_values), n_values)
        assert (found.dtype, sizes.dtype) == (np.int64, np.int32)
        np.testing.assert_array_equal(found, positions)
        np.testing.assert_array_equal(sizes, multiples)

    def test_every_value_may_be_corrected(self):
        positions, multiples = np.arange(1000), np.full(1000, -1, np.int32)
        found, sizes = decode_outliers(encode_outliers(positions, multiples, 1000), 1000)
        assert (found == positions).all() and (sizes == -1).all()

    def test_none_takes_one_byte(self):
        assert len(encode_outliers(np.zeros(0, np.int64), np.zeros(0, np.int32), 10**9)) == 1

    @pytest.mark.parametrize("rate", [1e-3, 0.02, 0.1])
    def test_size_is_near_the_entropy(self, rate):
        rng = np.random.default_rng(2)
        positions = np.flatnonzero(rng.random(400_000) < rate)
        multiples = rng.choice(np.array([-1, 1], np.int32), len(positions))
        entropy = -(rate * np.log2(rate) + (1 - rate) * np.log2(1 - rate)) / rate + 1
        bits_each = 8 * len(encode_outliers(positions, multiples, 400_000)) / len(positions)
        assert bits_each < 1.03 * entropy + 8 * 30 / len(positions)

    def stream(self, n=200, n_values=5000):
        rng = np.random.default_rng(3)
        positions = np.sort(rng.choice(n_values, n, replace=False)).astype(np.int64)
        multiples = rng.integers(1, 5, n).astype(np.int32) * rng.choice([-1, 1], n).astype(np.int32)
        return encode_outliers(positions, multiples, n_values)

    @given(st.binary(max_size=120), st.integers(1, 2000))
    @settings(max_examples=300, deadline=None)
    def test_garbage_is_refused_or_stays_in_range(self, data, n_values):
        self.check(data, n_values)

    @given(st.integers(0, 10**6), st.integers(0, 7))
    @settings(max_examples=200, deadline=None)
    def test_a_flipped_bit_is_refused_or_stays_in_range(self, place, bit):
        data = bytearray(self.stream())
        data[place % len(data)] ^= 1 << bit
        self.check(bytes(data), 5000)

    def check(self, data, n_values):
        try:
            positions, multiples = decode_outliers(data, n_values)
        except CorruptStreamError:
            return
        assert len(positions) == len(multiples) <= n_values
        assert (np.diff(positions) > 0).all() and (multiples != 0).all()
        assert not len(positions) or (positions[0] >= 0 and positions[-1] < n_values)

    def test_a_truncation_is_refused_or_stays_in_range(self):
        data = self.stream()
        for length in range(len(data)):
            self.check(data[:length], 5000)
        for length in range(10):  # in the tables
            with pytest.raises(CorruptStreamError):
                decode_outliers(data[:length], 5000)

    def test_gaps_that_overflow_are_noticed(self):
        # 2^17 gaps of 2^47 sum to 2^64, which wraps to a last position that looks legal
        count = 1 << 17
        forged = encode_outliers((np.arange(1, count + 1) << 47) - 1, np.ones(count, np.int32), 0)
        with pytest.raises(CorruptStreamError):
            decode_outliers(forged, count)

    def test_a_huge_count_allocates_nothing(self):
        with pytest.raises(CorruptStreamError):
            decode_outliers(varint(2**50) + self.stream()[2:], 5000)
