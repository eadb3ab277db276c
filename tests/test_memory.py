"""What the codec holds besides what it is given: no copies of a whole chunk that it can do without."""

import mmap
import tracemalloc

import numpy as np
import pytest

from caesar_freq.codec import native, portable
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import boxes
from caesar_freq.codec.coders import ChunkCoder, PlainCoder
from caesar_freq.codec.grid import Grid, fitted
from caesar_freq.codec.header import Variable
from caesar_freq.codec.lossless import (
    _shuffled,
    _unshuffled,
    decode_lossless,
    encode_lossless,
    likely_bytes,
)
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.normalised import Normalised
from caesar_freq.codec.pointwise import correct
from caesar_freq.codec.quantise import frequency_classes
from caesar_freq.codec.statistics import Statistics
from caesar_freq.kernels import memory
from caesar_freq.transform.modes import temporal_modes

SHAPE = (32, 256, 256)
VARIABLE = Variable(0.3, 20.0, kind="dct", cell=8, time_block=16)


@pytest.fixture
def peak(monkeypatch):
    """Largest memory of a call in bytes: all arrays come from numpy, whose memory can be traced."""
    monkeypatch.setattr(memory, "_LEAST", 1 << 60)

    def measured(call):
        call()  # what is compiled or kept for ever is not counted
        tracemalloc.start()
        call()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    return measured


def field(shape=SHAPE, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = np.cumsum(x, axis=axis) / 3
    return x.astype(np.float32)


def chunk_of(values, logarithmic=False):
    return Chunk(values, next(boxes((1, 1, *values.shape))), None, logarithmic)


def with_holes(values):
    values = values.copy()
    values[:, 3:9, 5:20] = np.nan
    values[4] = np.nan
    return values


def test_lossless_bodies_take_two_arrays(peak):
    values = field()
    body = encode_lossless(values)
    assert peak(lambda: encode_lossless(values)) < 2.6 * values.nbytes
    # what is given back meanwhile is not seen from here
    assert peak(lambda: decode_lossless(body, values.shape, values.dtype)) < 2.5 * values.nbytes


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="memory cannot be given back")
def test_shuffled_bytes_are_given_back_as_they_are_used():
    for dtype in (np.uint32, np.uint64):
        codes = memory.copied(np.arange(1, 1 << 20).astype(dtype))
        expected = codes.copy()
        shuffled = _shuffled(codes)
        assert np.count_nonzero(codes) < 0.01 * codes.size
        np.testing.assert_array_equal(_unshuffled(shuffled, codes.dtype), expected)
        assert np.count_nonzero(shuffled) < 0.01 * shuffled.size


def test_logarithms_are_made_part_by_part(peak):
    chunk = chunk_of(field(), logarithmic=True)
    size = chunk.values.nbytes
    assert peak(lambda: Statistics.of(chunk)) < 0.6 * size
    assert peak(lambda: chunk.normalised(VARIABLE, False)) < 1.6 * size
    assert peak(lambda: chunk.normalised(VARIABLE, True)) < 2.6 * size


def test_corrections_are_not_held_as_a_volume(peak):
    values = field()
    decoded = values + np.random.default_rng(1).uniform(-1.2, 1.2, SHAPE).astype(np.float32)
    ignore = np.broadcast_to(np.False_, SHAPE)
    # most of it is room for bytes that are not written
    assert peak(lambda: correct(values, decoded, 1.0, 0.999, ignore)) < 1.6 * values.nbytes


def test_errors_of_a_grid_are_summed_part_by_part(peak):
    values = field().ravel()
    grid = fitted(Grid(0, 0.25, float(values.min())), values)
    error = grid.error(values)
    assert peak(lambda: grid.squared_error(values)) < 0.6 * values.nbytes
    assert grid.squared_error(values) == np.sum(np.square(error))
    assert grid.largest_error(values) == np.abs(error).max()


def test_temporal_modes_take_no_copies_in_float64(peak):
    values = field()
    assert peak(lambda: temporal_modes(values, 1e-3)) < 1.2 * values.nbytes


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("logarithmic", [False, True], ids=["values", "logarithms"])
@pytest.mark.parametrize("holes", [False, True], ids=["whole", "holes"])
def test_a_part_of_the_normalised_volume_is_that_of_the_whole(holes, logarithmic, double):
    values = field((12, 40, 50))
    chunk = chunk_of(with_holes(values) if holes else values, logarithmic)
    whole = chunk.normalised(VARIABLE, double)
    again = chunk.normalised(VARIABLE, double)
    lazy = Normalised(chunk, VARIABLE, double)
    assert (lazy.shape, lazy.size, lazy.dtype) == (whole.shape, whole.size, whole.dtype)
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    for at in ((slice(2, 9), slice(5, 30), slice(0, 50)), (slice(None), slice(0, 40, 3))):
        np.testing.assert_array_equal(lazy[at], whole[at])
    # another scale is not mixed up with what was filled before
    other = Variable(0.1, 5.0, kind="dct", cell=8, time_block=16)
    fresh = chunk_of(chunk.values, logarithmic).normalised(other, double)
    np.testing.assert_array_equal(chunk.normalised(other, double), fresh)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("refined", [False, True])
def test_a_coder_codes_again_what_it_gave_back(refined, double):
    model = FrequencyModel.base()
    chunk = chunk_of(field((20, 40, 50)))
    volume = chunk.normalised(VARIABLE, double)
    coder = ChunkCoder(lambda: chunk.normalised(VARIABLE, double), VARIABLE, model, refined)
    plain = PlainCoder(volume, VARIABLE, model, refined=refined)
    for step in (1e-2, 1e-2, 3e-4):
        coded, wanted = coder.code(step, 0.6), plain.code(step, 0.6)
        assert coded.data == wanted.data
        np.testing.assert_array_equal(coded.decoded, wanted.decoded)
        assert coder.measured(step, 0.6)[0] == wanted.data
    one = coder.on_one_grid()
    assert not one.dependent and not one.encoder.dependent
    assert coder.dependent == refined


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends_need_no_levels(dtype):
    planes = np.random.default_rng(3).laplace(size=(3, 4, 5, 6, 7, 8)).astype(dtype)
    planes[:, 2:] /= 9
    alphas = np.array([40, 0, 20, 64, 5, 0])
    arguments = (planes, 1.3, 0.6, alphas, frequency_classes(5, 6))
    for kernels in (native, portable):
        q, fits = kernels.quantise(*arguments)
        used, good = kernels.quantised_ends(*arguments)
        np.testing.assert_array_equal(used, kernels.ends_of(q))
        assert fits and good
    planes[1, 2, 3, 1, 2, 0] = 1e30
    assert not native.quantised_ends(*arguments)[1] and not portable.quantised_ends(*arguments)[1]


def test_memory_that_is_given_back_holds_zeros_and_no_others_are_lost():
    array = memory.zeros((8, 3 << 20), np.uint8)
    array[...] = 7
    memory.give_back(array[2:4])
    assert (array[:2] == 7).all() and (array[4:] == 7).all()
    assert np.count_nonzero(array[2:4]) < 2 * mmap.PAGESIZE
    memory.give_back(np.ones(1 << 21, np.uint8)[3:])  # not ours: nothing happens
    memory.give_back(memory.zeros(9, np.uint8))


def test_a_guess_of_the_lossless_bytes_is_not_far_off():
    rough = np.random.default_rng(0).standard_normal((40, 60, 70)).astype(np.float32)
    steps = np.rint(field((40, 60, 70)) * 4) / np.float32(4)
    for values in (rough, steps.astype(np.float32), field((3, 60, 70)), field((1, 1, 900))):
        assert 0.7 < likely_bytes(values) / len(encode_lossless(values)) < 1.5
