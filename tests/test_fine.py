"""Low bits of coefficients: tight bounds of float64 data cost what they have to, and hold."""

import numpy as np
import pytest
from bit_files import field
from test_kernels import use  # noqa: F401 a fixture

import caesar_freq
from caesar_freq.codec.container import Container
from caesar_freq.codec.fine import COARSEST, add_low_bits, in_units, low_bits, shifts_of
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.volume import decode_volume
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.blocks import Transform

MODEL = FrequencyModel.base()
#: Blocks of unequal length along all axes.
SHAPE = (19, 37, 45)


def smooth(shape=SHAPE):
    """float64 values with structure at all scales, range 1."""
    x = field(shape, 12, np.float64)
    return (x - x.min()) / np.ptp(x)


def bits(x, mode, bound):
    data = caesar_freq.encode(x, mode, bound)
    return 8 * len(data) / x.size, data


def test_ten_times_the_precision_costs_its_bits_and_no_more():
    x = smooth((32, 48, 64))
    found = [bits(x, "nrmse", bound)[0] for bound in (1e-7, 1e-8, 1e-9, 1e-10)]
    assert np.all(np.abs(np.diff(found) - np.log2(10)) < 0.1)


@pytest.mark.parametrize("bound", [1e-8, 1e-10, 1e-12])
def test_bounds_hold_and_files_are_smaller_than_without_a_loss(bound):
    x = smooth()
    lossless = len(caesar_freq.encode(x, "lossless", 0.0))
    for mode in ("rel", "nrmse"):
        data = bits(x, mode, bound)[1]
        error = caesar_freq.decode(data) - x
        size = np.abs(error).max() if mode == "rel" else np.sqrt(np.mean(error**2))
        assert 0 < size <= bound * np.ptp(x)
        assert caesar_freq.info(data)["bytes_by_stream"]["low_bits"] > 0
        assert len(data) < 0.9 * lossless


def test_a_sample_that_float32_restores_exactly_tells_no_error():
    """Its error of 0 was taken for a ratio, and no step has an error of 0."""
    x = np.random.default_rng(0).standard_normal((1, 17, 19)).astype(np.float32)
    x = x.astype(np.float64)
    for bound in (1e-11, 1e-12):
        after = caesar_freq.decode(caesar_freq.encode(x, "nrmse", bound))
        assert np.sqrt(np.mean((after - x) ** 2)) <= bound * np.ptp(x)


def test_coarse_steps_and_small_levels_have_no_low_bits():
    x = smooth()
    transform = Transform(SHAPE, 16, 8)
    planes = VolumeEncoder(x, transform, MODEL).planes
    assert shifts_of(planes, 2 * COARSEST, transform) is None
    assert shifts_of(planes, COARSEST / 64, transform)
    assert shifts_of(1e-6 * planes, COARSEST / 64, transform) is None
    assert "low_bits" not in caesar_freq.info(bits(x, "nrmse", 1e-4)[1])["bytes_by_stream"]


@pytest.mark.parametrize("kind, cell", [("dct", 8), ("lot", 16), ("haar", 16), ("cdf97", 16)])
def test_only_slots_in_use_have_low_bits(kind, cell):
    transform, step = Transform(SHAPE, 16, cell, kind), 1e-9
    planes = VolumeEncoder(smooth(), transform, MODEL).planes
    shifts = shifts_of(planes, step, transform)
    units = in_units(planes, step, shifts, transform)
    coarse = np.rint(units / step) * step
    data = low_bits(units, coarse, step, shifts, transform)
    sums = np.add.outer(
        np.add.outer(*map(np.arange, planes.shape[1:3])), np.arange(planes.shape[3])
    )
    counts = [int(transform.mask[:, sums == s].sum()) for s in range(len(shifts))]
    assert len(data) == len(shifts) + sum(-(-n * k // 8) for n, k in zip(counts, shifts))
    add_low_bits(coarse, data, step, transform)
    assert np.abs(coarse - planes)[transform.mask].max() < 0.51 * step
    assert not coarse[~transform.mask].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_error_told_is_that_of_the_decoder(dtype):
    transform, step = Transform(SHAPE, 16, 16), 2.0**-19
    x = smooth().astype(dtype)
    encoder = VolumeEncoder(x, transform, MODEL, True)
    code = encoder.encode(step, 0.6)
    assert code.low
    after = decode_volume(code.data, step, transform, MODEL, dtype)
    np.testing.assert_array_equal(encoder.decoded(code, step), after)
    told, found = encoder.coefficient_error(code, step), np.sum((after.astype(float) - x) ** 2)
    assert told == pytest.approx(found, rel=0.02)
    assert found < 1.02 * x.size * step**2 / 12


def test_sections_that_refer_to_one_another_have_none():
    x = smooth((16, 32, 32))
    sections = np.stack([x, x + 1e-5 * smooth((16, 32, 32))[:, ::-1], x[:, :, ::-1]])[None]
    data = caesar_freq.encode(sections, "rel", 1e-8)
    assert np.abs(caesar_freq.decode(data) - sections).max() <= 1e-8 * np.ptp(sections)


def test_effort_three_leaves_tables_alone_where_low_bits_are_apart():
    x = smooth((16, 48, 48))
    data = caesar_freq.encode(x, "nrmse", 1e-9, effort=3)
    assert np.sqrt(np.mean((caesar_freq.decode(data) - x) ** 2)) <= 1e-9 * np.ptp(x)
    assert len(data) < 1.01 * len(caesar_freq.encode(x, "nrmse", 1e-9))


def volume():
    """Data of a volume with low bits, and how to decode it."""
    transform, step = Transform((8, 16, 16), 8, 8), 1e-8
    code = VolumeEncoder(smooth((8, 16, 16)), transform, MODEL).encode(step, 0.5)
    return code, lambda data: decode_volume(data, step, transform, MODEL, np.float64)


def test_damaged_low_bits_are_refused():
    code, decode = volume()
    at = code.data.index(code.low)
    head, rest = code.data[:at], code.data[at + len(code.low) :]
    assert decode(head + code.low + rest).shape == (8, 16, 16)
    many = bytes([200]) + code.low[1:]
    with pytest.raises(CorruptStreamError, match="more than any"):
        decode(head + many + rest)
    fewer = bytes([code.low[0] - 8]) + code.low[1:]
    with pytest.raises(CorruptStreamError, match="more low bits"):
        decode(head + fewer + rest)
    with pytest.raises(CorruptStreamError):
        decode(head + bytes([code.low[0] + 8]) + code.low[1:] + rest)
    with pytest.raises(CorruptStreamError, match="unknown quantiser"):
        decode(bytes([code.data[0] | 2]) + code.data[1:])


def test_streams_name_what_older_releases_do_not_know():
    data = caesar_freq.encode(smooth((8, 16, 16)), "nrmse", 1e-9)
    body = Container(data).chunk(0)
    assert body[1] & 4
