"""Values that ZFP's decompressor wrote: found, proved and coded as its coefficients."""

from pathlib import Path

import numpy as np
import pytest
from test_lattice import kinds, same_bits

import caesar_freq
from caesar_freq.codec import chunks
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import Box
from caesar_freq.codec.layout import ZFP
from caesar_freq.codec.zfp import block_axes, decode_zfp, encode_zfp, find_lattice
from caesar_freq.entropy.bands import MAX_COEFFICIENT, decode_bands, encode_bands
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.zfp import Axis, coefficients, samples, slabs

GOLDEN = Path(__file__).parent / "golden"


def field(shape, dtype=np.float32, offset=0.0):
    """Drifting waves with noise."""
    t, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    wave = np.sin(0.11 * x + 0.3 * t) * np.cos(0.07 * y - 0.1 * t)
    noise = np.random.default_rng(0).normal(size=shape)
    return (offset + wave + 0.02 * noise).astype(dtype)


def box_of(shape, start=(0, 0, 0)):
    return Box(0, 0, *(slice(a, a + n) for a, n in zip(start, shape)))


def truncated(values, n_axes=2, exponent=-9):
    """What ZFP would make of `values` at a fixed tolerance, by the matrix of its transform."""
    axes = block_axes(values.shape, (0, 0, 0), n_axes)
    numbers = np.rint(coefficients(np.ldexp(values.astype(np.float64), -exponent), axes))
    whole = samples(numbers.astype(np.int64), axes).astype(np.float64)
    return np.ldexp(whole, exponent - 2 * n_axes).astype(values.dtype)


def through_zfp(values, n_axes, **settings):
    """`values` after ZFP's compressor and decompressor, and the bytes it takes."""
    zfpy = pytest.importorskip("zfpy", reason="zfpy, the peer that wrote such data, is missing")
    size, out = 0, np.empty_like(values)
    parts = {1: np.ndindex(values.shape[:2]), 2: np.ndindex(values.shape[:1]), 3: [()]}[n_axes]
    for at in parts:
        data = zfpy.compress_numpy(np.ascontiguousarray(values[at]), **settings)
        out[at], size = zfpy.decompress_numpy(data), size + len(data)
    return out, size


@pytest.mark.parametrize("shape", [(12, 40, 48), (9, 41, 47), (5, 34, 61), (1, 90, 87)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("tolerance", [1e-1, 3e-3])
def test_what_zfp_wrote_comes_back_bit_by_bit_in_fewer_bytes(n_axes, shape, dtype, tolerance):
    if shape[0] == 1 and n_axes == 3:
        pytest.skip("one frame has no blocks of frames")
    written, size = through_zfp(field(shape, dtype), n_axes, tolerance=tolerance)
    data = caesar_freq.encode(written, "lossless", 0)
    assert kinds(data) == [ZFP]
    assert same_bits(caesar_freq.decode(data), written)
    assert len(data) < size


def test_lines_and_narrow_ranges_at_fixed_precision_are_found_too():
    written, size = through_zfp(field((4, 20, 90)), 1, tolerance=1e-2)
    data = caesar_freq.encode(written, "lossless", 0)
    assert kinds(data) == [ZFP] and len(data) < size
    assert same_bits(caesar_freq.decode(data), written)
    written, size = through_zfp(field((6, 40, 44), offset=300.0), 2, precision=16)
    data = caesar_freq.encode(written, "lossless", 0)
    assert kinds(data) == [ZFP] and len(data) < size
    assert same_bits(caesar_freq.decode(data), written)


@pytest.mark.parametrize("mode, bound", [
    ("abs", 1e-5), ("rel", 1e-6), ("nrmse", 1e-6), ("psnr", 130.0), ("pw_rel", 1e-6)
])  # fmt: skip
def test_every_tight_bound_is_served_by_exact_values(mode, bound):
    written = truncated(field((6, 40, 45)))
    data = caesar_freq.encode(written, mode, bound)
    assert kinds(data) == [ZFP]
    assert same_bits(caesar_freq.decode(data), written)
    assert set(caesar_freq.info(data)["modes_used"]) == {"zfp_coefficients"}


def test_loose_bounds_are_served_by_the_transform():
    written = truncated(field((6, 40, 45)))
    assert ZFP not in kinds(caesar_freq.encode(written, "nrmse", 3e-2))


@pytest.mark.parametrize("start", [(1, 2, 3), (3, 1, 2), (2, 3, 1), (4, 8, 0)])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_chunks_may_cut_blocks_anywhere(start, n_axes):
    whole = truncated(field((20, 40, 48)), n_axes)
    values = whole[tuple(slice(a, a + n) for a, n in zip(start, (13, 27, 42)))]
    values = np.ascontiguousarray(values)
    lattice = find_lattice(values, box_of(values.shape, start))
    assert [axis.size for axis in lattice.axes] == [1] * (3 - n_axes) + [4] * n_axes
    data = encode_zfp(values, lattice)
    assert data[4] == 0, "every value is on the lattice, those of cut blocks too"
    assert same_bits(decode_zfp(data, values.shape, values.dtype), values)


def test_large_arrays_are_cut_into_chunks_that_cut_blocks(monkeypatch):
    monkeypatch.setattr(chunks, "_TILE", 30)
    monkeypatch.setattr(chunks, "_TILE_VALUES", 30 * 70)
    values = truncated(field((1, 103, 70)))
    data = caesar_freq.encode(values, "lossless", 0)
    assert set(kinds(data)) == {ZFP} and len(kinds(data)) > 1
    assert same_bits(caesar_freq.decode(data), values)


@pytest.mark.parametrize(
    "length, before", [(1, 0), (1, 3), (2, 1), (3, 3), (7, 2), (12, 0), (9, 1)]
)
def test_blocks_of_any_samples_have_a_basis(length, before):
    axis = Axis(length, 4, before)
    assert axis.sizes.sum() == length and len(axis.sizes) == axis.count
    assert len(set(axis.places.tolist())) == length and axis.places.max() < 4 * axis.count
    rng = np.random.default_rng(length)
    one = (Axis(1), Axis(length, 4, before), Axis(3))
    numbers = rng.integers(-1000, 1000, (1, length, 3))
    again = coefficients(samples(numbers, one) / 4.0, one)
    np.testing.assert_array_equal(again, numbers)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_slabs_hold_whole_blocks(before):
    axes = (Axis(23, 4, before), Axis(5), Axis(6))
    numbers = np.random.default_rng(0).integers(-99, 99, (23, 5, 6))
    parts = [samples(numbers[at], part) for at, part in slabs(axes, 100)]
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate(parts), samples(numbers, axes))


OTHERS = {
    "smooth": field((8, 40, 40)),
    "noise": np.random.default_rng(1).normal(size=(8, 40, 40)).astype(np.float32),
    "packed": np.rint(field((8, 40, 40)) * 500) / np.float32(500),
    "packed in powers of two": np.rint(field((8, 40, 40)) * 512) / np.float32(512),
    "whole numbers": np.rint(field((8, 40, 40)) * 90),
    "float64": field((8, 40, 40), np.float64),
    "constant": np.full((8, 40, 40), np.float32(3)),
    "huge": field((8, 40, 40)) * np.float32(3e38),
    "tiny": field((8, 40, 40)) * np.float32(1e-40),
    "narrower than a block": truncated(field((40, 40, 3))),
    "infinite": np.where(field((8, 40, 40)) > 0, np.float32(np.inf), 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_have_no_such_lattice(name):
    assert find_lattice(OTHERS[name], box_of(OTHERS[name].shape)) is None


def test_a_few_values_off_the_lattice_are_stored_beside():
    values = truncated(field((6, 40, 45)))
    values[2, 3, 4], values[5, 39, 44], values[0, 0, 0] = 1.234567, 5e-7, -0.0
    data = caesar_freq.encode(values, "lossless", 0)
    assert kinds(data) == [ZFP]
    assert same_bits(caesar_freq.decode(data), values)


def test_many_values_off_it_or_none_at_all_are_left_to_others():
    values = truncated(field((6, 40, 45)))
    lattice = find_lattice(values, box_of(values.shape))
    off, gone, large = values.copy(), values.copy(), values.copy()
    off[:, 17:22, 10:22] += np.float32(0.0123)
    gone[3, 20, 20] = np.nan
    large[1, 2, 3] = 1e30
    for array in (off, gone, large):
        assert encode_zfp(array, lattice) is None
        data = caesar_freq.encode(array, "lossless", 0)
        assert ZFP not in kinds(data) and same_bits(caesar_freq.decode(data), array)


def test_it_is_not_coded_where_it_cannot_win(monkeypatch):
    values = truncated(field((6, 40, 45)))
    chunk = Chunk(values, box_of(values.shape), None)
    short = type(chunk.write_lossless())(b"\0" * 700)
    del chunk.__dict__["_zfp"]
    monkeypatch.setattr("caesar_freq.codec.chunk.encode_zfp", None)
    assert chunk._smaller_zfp(short) is short


def test_bands_take_every_size():
    rng = np.random.default_rng(3)
    axes = (Axis(5, 4), Axis(7, 4, 1), Axis(6, 4))
    sizes = 2.0 ** rng.uniform(0, 27, (5, 7, 6))
    numbers = (np.minimum(sizes, MAX_COEFFICIENT) * rng.choice([-1, 0, 1], sizes.shape)).astype(int)
    numbers[0, 0, 0], numbers[4, 6, 5] = MAX_COEFFICIENT, -MAX_COEFFICIENT
    data = encode_bands(numbers, axes)
    np.testing.assert_array_equal(decode_bands(data, axes), numbers)
    with pytest.raises(CorruptStreamError, match="length"):
        decode_bands(data + b"\1" * 9, axes)


def test_a_golden_stream_stays_decodable():
    """What ZFP 1.0.1 made of `field` at a tolerance of 0.02, blocks of 4 x 4, and its stream."""
    values = np.load(GOLDEN / "zfp.npz")["data"]
    data = (GOLDEN / "zfp.cfq").read_bytes()
    assert kinds(data) == [ZFP] and same_bits(caesar_freq.decode(data), values)
    assert caesar_freq.encode(values, "lossless", 0) == data
    assert caesar_freq.info(data)["bytes_by_stream"]["zfp_coefficients"] > 0.9 * len(data)


def test_damage_is_an_error_or_an_array():
    values = truncated(field((6, 40, 45)))
    values[2, 3, 4] = 1.234567
    data = encode_zfp(values, find_lattice(values, box_of(values.shape)))
    rng = np.random.default_rng(1)
    for at in [*range(12), *rng.integers(12, len(data), 40)]:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.integers(8)
        try:
            decoded = decode_zfp(bytes(broken), values.shape, values.dtype)
        except CorruptStreamError:
            continue
        assert decoded.shape == values.shape and decoded.dtype == values.dtype
    for cut in (0, 3, 4, 7):
        with pytest.raises(CorruptStreamError):
            decode_zfp(data[:cut], values.shape, values.dtype)
    with pytest.raises(CorruptStreamError, match="larger"):
        decode_zfp(b"\3" + data[1:], (3, 60, 60), values.dtype)
    for head in (b"\0\0", b"\4\0", b"\2\x40"):
        with pytest.raises(CorruptStreamError, match="unknown"):
            decode_zfp(head + data[2:], values.shape, values.dtype)


@pytest.mark.parametrize("strange", [np.nan, np.inf, 1.7e308])
def test_numbers_beyond_any_lattice_are_refused_quietly(strange):
    values = np.ldexp(truncated(field((6, 40, 45), np.float64)), -900)
    lattice = find_lattice(values, box_of(values.shape))
    values[2, 7, 9] = strange
    assert lattice is not None and encode_zfp(values, lattice) is None
