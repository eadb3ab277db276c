"""Sparse volumes and the corrections coded with them: small, and exact within the bound."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from side_streams import cubes, decoded_sparse, quick, smooth

from caesar_freq.codec.outliers import encode_outliers
from caesar_freq.codec.pointwise import correct, decode_corrections, restored_parts
from caesar_freq.entropy.sparse import encode_sparse
from caesar_freq.errors import CorruptStreamError


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
        np.testing.assert_array_equal(decoded_sparse(encode_sparse(volume), shape), volume)

    def test_extreme_sizes_return(self):
        volume = np.array([[[1, -1, 2**31 - 1, -(2**31) + 1, 0, 12, -13, 14]]], np.int32)
        np.testing.assert_array_equal(decoded_sparse(encode_sparse(volume), (1, 1, 8)), volume)

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
            decoded_sparse(encode_sparse(volume) + bytes(range(1, 9)), volume.shape)
        with pytest.raises(CorruptStreamError, match="out of range"):
            decoded_sparse(bytes(200), (1, 40, 40))  # ones for ever: a size without end

    @given(st.binary(max_size=200))
    @quick
    def test_garbage_is_refused_or_keeps_the_shape(self, data):
        try:
            assert decoded_sparse(data, (3, 9, 10)).shape == (3, 9, 10)
        except CorruptStreamError:
            pass


def added(data, restored, working):
    """Values with the corrections in `data`, as a decoder makes them."""
    found = decode_corrections(data, restored.shape, working)
    return np.concatenate([values for _, values in restored_parts(restored, 0.0, 1.0, found)])


class TestCorrections:
    shape = (16, 60, 70)

    def gaps(self, volume):
        places = np.flatnonzero(volume)
        return encode_outliers(places, volume.ravel()[places], volume.size)

    def coded(self, volume, other_bytes=0):
        """Corrections of errors that need these multiples, 1 or -1, on either grid."""
        shape = volume.shape
        return correct(1.5 * volume, np.zeros(shape), 1, 1, np.zeros(shape, bool), other_bytes)

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
        data = correct(original, restored, 1.6, 1.6, np.zeros((1, 1, 4), bool), other_bytes)
        assert data is not None
        assert np.abs(added(data, restored, 1.6).astype(np.float32) - original).max() <= 1.6

    @pytest.mark.parametrize("make", [clustered, sparse], ids=["clustered", "random"])
    @pytest.mark.parametrize("rate", [0.0, 1e-4, 0.03, 0.8])
    def test_corrections_bring_values_back_within_the_bound(self, make, rate):
        original = smooth(self.shape, np.float64)
        errors = make(self.shape, rate).astype(float)
        errors *= np.random.default_rng(4).uniform(0.5, 30, self.shape)
        restored = original + errors
        ignore = np.zeros(self.shape, bool)
        ignore[2] = True
        fixed = added(correct(original, restored, 1.0, 0.99, ignore), restored, 0.99)
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
            fixed = added(data, np.zeros((4, 20, 30)), 1.0)
        except CorruptStreamError:
            return
        assert fixed.shape == (4, 20, 30) and np.isfinite(fixed).all()

    def test_nothing_larger_than_the_array_is_allocated(self):
        volume = clustered((4, 20, 30), 0.05)
        data = self.coded(volume)
        added(data, np.zeros(volume.shape), 1.0)
        tracemalloc.start()
        for damaged in (data + bytes(50) + b"x", b"\0" + b"\xff" * 50, b"\0" + bytes(50)):
            self.check(damaged)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
