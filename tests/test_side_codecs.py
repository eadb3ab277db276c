"""Side streams: exact round trips, small sizes, and damage that stays a `CorruptStreamError`."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs import Zstd

from caesar_freq.codec import lossless
from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.codec.outliers import decode_outliers, encode_outliers
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.pointwise import correct, decode_corrections
from caesar_freq.codec.special import encode_special, restore_special
from caesar_freq.data.sections import missing
from caesar_freq.entropy.mask import decode_mask, encode_mask
from caesar_freq.entropy.sparse import decode_sparse, encode_sparse
from caesar_freq.errors import CorruptStreamError

# Bit patterns that float arithmetic or a careless cast would change: signalling and negative
# NaNs with payloads, both zeros, infinities, the smallest denormal, the largest finite value.
PATTERNS = {
    np.float32: [0x7FC00000, 0x7F800001, 0xFFC12345, 0x7FFFFFFF, 0x0, 0x80000000, 0x7F800000,
                 0xFF800000, 0x1, 0x7F7FFFFF],
    np.float64: [0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8123456789ABC, 0x0, 1 << 63,
                 0x7FF0000000000000, 0xFFF0000000000000, 0x1, 0x7FEFFFFFFFFFFFFF],
}  # fmt: skip
SPECIAL_PATTERNS = {
    dtype: [p for p in patterns if not np.isfinite(np.array([p], bits).view(dtype)[0])]
    for (dtype, patterns), bits in zip(PATTERNS.items(), ("u4", "u8"), strict=True)
}
quick = settings(max_examples=60, deadline=None)


def bits(array):
    return array.view(f"u{array.dtype.itemsize}")


def smooth(shape, dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = np.cumsum(x, axis=axis)
    return x.astype(dtype)


def with_patterns(shape, dtype, places, patterns):
    """Smooth array with bit patterns put at some flat places."""
    x = smooth(shape, dtype)
    for place, pattern in places:
        bits(x).ravel()[place % x.size] = patterns[pattern % len(patterns)]
    return x


shapes = hnp.array_shapes(min_dims=1, max_dims=5, max_side=9)
cubes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=12)
places = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 99)), max_size=12)
dtypes = st.sampled_from([np.float32, np.float64])


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


def sparse(shape, rate, largest=1, seed=0, density=None):
    """Volume of which about `rate` (times `density`) is not 0."""
    rng = np.random.default_rng(seed)
    chosen = rng.random(shape) < rate * (1 if density is None else density)
    sizes = rng.integers(1, largest, shape, endpoint=True) * rng.choice([-1, 1], shape)
    return np.where(chosen, sizes, 0).astype(np.int32)


def clustered(shape, rate, seed=0):
    """Dense in a few places that move on slowly, as where a field is busy."""
    t, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    waves = np.sin(y / 9 + t / 20) + np.sin(x / 7 - t / 20)
    density = np.exp(5 * waves)
    return sparse(shape, rate, 1, seed, density / density.mean())


class TestSparse:
    @given(
        shape=cubes,
        rate=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
        largest=st.sampled_from([1, 3, 12, 13, 14, 5000, 2**31 - 1]),
        seed=st.integers(0, 10**6),
    )
    @quick
    def test_round_trip(self, shape, rate, largest, seed):
        volume = sparse(shape, rate, largest, seed)
        np.testing.assert_array_equal(decode_sparse(encode_sparse(volume), shape), volume)

    def test_extreme_sizes_return(self):
        volume = np.array([[[1, -1, 2**31 - 1, -(2**31) + 1, 0, 12, -13, 14]]], np.int32)
        np.testing.assert_array_equal(decode_sparse(encode_sparse(volume), (1, 1, 8)), volume)

    @pytest.mark.parametrize("rate", [0.01, 0.02, 0.1])
    def test_without_structure_the_size_is_near_the_entropy(self, rate):
        volume = sparse((20, 100, 100), rate)
        n = np.count_nonzero(volume)
        entropy = volume.size * -(rate * np.log2(rate) + (1 - rate) * np.log2(1 - rate)) + n
        assert 8 * len(encode_sparse(volume)) < 1.03 * entropy + 200

    def test_signs_and_sizes_that_follow_their_neighbours_are_cheap(self):
        volume = sparse((16, 60, 60), 0.8)
        follow = np.where(np.arange(60) < 30, 3 * abs(volume), -abs(volume))
        flags = len(encode_sparse(abs(volume)))
        assert len(encode_sparse(volume)) > flags + 0.98 * np.count_nonzero(volume) / 8
        assert len(encode_sparse(follow)) < flags + 0.2 * np.count_nonzero(volume) / 8

    def test_excess_and_impossible_sizes_are_refused(self):
        volume = sparse((3, 9, 10), 0.1)
        with pytest.raises(CorruptStreamError):
            decode_sparse(encode_sparse(volume) + bytes(range(1, 9)), volume.shape)
        with pytest.raises(CorruptStreamError, match="out of range"):
            decode_sparse(bytes(200), (1, 40, 40))  # ones for ever: a size without end

    @given(st.binary(max_size=200))
    @quick
    def test_garbage_is_refused_or_keeps_the_shape(self, data):
        try:
            assert decode_sparse(data, (3, 9, 10)).shape == (3, 9, 10)
        except CorruptStreamError:
            pass


class TestCorrections:
    shape = (16, 60, 70)

    def gaps(self, volume):
        places = np.flatnonzero(volume)
        return encode_outliers(places, volume.ravel()[places], volume.size)

    def coded(self, volume, other_bytes=0):
        """Corrections of errors that need these multiples, 1 or -1, on either grid."""
        shape = volume.shape
        found = correct(1.5 * volume, np.zeros(shape), 1, 1, np.zeros(shape, bool), other_bytes)
        return found[0]

    def test_contexts_save_a_tenth_where_corrections_cluster(self):
        volume = clustered(self.shape, 0.05)
        data = self.coded(volume)
        assert len(data) < 0.9 * len(self.gaps(volume))

    def test_gaps_stay_where_they_are_shorter_or_too_few_to_matter(self):
        rare = np.zeros(self.shape, np.int32)
        assert self.coded(rare) == self.gaps(rare)
        volume = clustered(self.shape, 0.03)
        gaps = self.gaps(volume)
        assert self.coded(volume, 100 * len(gaps)) == gaps
        assert self.coded(volume, 10 * len(gaps)) != gaps

    @pytest.mark.parametrize("other_bytes", [0, 10**9], ids=["in context", "by gaps"])
    def test_a_value_that_rounding_takes_out_of_its_cell_is_still_reached(self, other_bytes):
        # steps of float32 near 1e5 are 1/128: corrected values are rounded out of the bound
        original = np.full((1, 1, 4), 1e5, np.float32)
        restored = original.astype(np.float64) + [[[0, 2.49999 * 1.6, -2.98999 * 1.6, 0]]]
        found = correct(original, restored, 1.6, 1.6, np.zeros((1, 1, 4), bool), other_bytes)
        assert found is not None
        assert np.abs(found[1].astype(np.float32) - original).max() <= 1.6

    @pytest.mark.parametrize("make", [clustered, sparse], ids=["clustered", "random"])
    @pytest.mark.parametrize("rate", [0.0, 1e-4, 0.03, 0.8])
    def test_corrections_bring_values_back_within_the_bound(self, make, rate):
        original = smooth(self.shape, np.float64)
        errors = make(self.shape, rate).astype(float)
        errors *= np.random.default_rng(4).uniform(0.5, 30, self.shape)
        restored = original + errors
        ignore = np.zeros(self.shape, bool)
        ignore[2] = True
        data, fixed = correct(original, restored, 1.0, 0.99, ignore)
        np.testing.assert_array_equal(decode_corrections(data, restored, 0.99), fixed)
        assert np.abs(fixed - original)[~ignore].max() <= 1
        np.testing.assert_array_equal(fixed[2], restored[2])

    @given(st.integers(0, 10**6), st.integers(0, 7), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_a_flipped_bit_is_refused_or_keeps_the_shape(self, place, bit, clusters):
        volume = (clustered if clusters else sparse)((4, 20, 30), 0.05)
        data = bytearray(self.coded(volume))
        data[place % len(data)] ^= 1 << bit
        self.check(bytes(data))

    @given(st.binary(max_size=100))
    @quick
    def test_garbage_is_refused_or_keeps_the_shape(self, data):
        self.check(data)

    def check(self, data):
        try:
            fixed = decode_corrections(data, np.zeros((4, 20, 30)), 1.0)
        except CorruptStreamError:
            return
        assert fixed.shape == (4, 20, 30) and np.isfinite(fixed).all()

    def test_nothing_larger_than_the_array_is_allocated(self):
        volume = clustered((4, 20, 30), 0.05)
        data = self.coded(volume)
        decode_corrections(data, np.zeros(volume.shape), 1.0)
        tracemalloc.start()
        for damaged in (data + bytes(50) + b"x", b"\0" + b"\xff" * 50, b"\0" + bytes(50)):
            self.check(damaged)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


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
            whole = lossless._encode(lossless.ordered(x), 0, 1)
            self.refused(bytes([number]) + whole[1:], shape)
            return
        data = lossless._encode(lossless.ordered(x), number, 1)
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
        assert (restored[~mask] == 7).all() and (decoded == 7).all()

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
