"""Streams: bounds hold after decoding, whatever the array; damage is noticed."""

import os
from fractions import Fraction

import numpy as np
import pytest
from field_helpers import shapes_up_to
from hypothesis import given, settings
from hypothesis import strategies as st

import caesar_freq
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.header import Header
from caesar_freq.errors import CaesarError, CorruptStreamError, InputError, ModelError


def field(shape, seed=0, dtype=np.float32):
    """Smooth field with some noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for axis in range(len(shape)):
        x = np.cumsum(x, axis=axis) / np.sqrt(np.arange(1, shape[axis] + 1)).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    return x.astype(dtype)


def variables(array):
    return array if array.ndim >= 4 else array[None]


def assert_bound(original, mode, bound, fill_value=None, **options):
    data = caesar_freq.encode(original, mode, bound, fill_value=fill_value, **options)
    decoded = caesar_freq.decode(data)
    assert decoded.shape == original.shape
    assert decoded.dtype == original.dtype.newbyteorder("=")
    native = original.astype(decoded.dtype)
    for before, after in zip(variables(native), variables(decoded), strict=True):
        assert bound_holds(before, after, mode, bound, fill_value)
    return data


MODES = [("abs", 1e-2), ("rel", 1e-2), ("rel", 1e-5), ("nrmse", 1e-2), ("nrmse", 1e-6),
         ("psnr", 45.0), ("pw_rel", 1e-2), ("pw_rel", 1e-7), ("lossless", 0), ("rel", 0)]  # fmt: skip
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1e30, -1e30]


@given(
    shape=shapes_up_to(20_000, max_side=12),
    dtype=st.sampled_from([np.float32, np.float64]),
    mode=st.sampled_from(MODES),
    specials=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(SPECIAL)), max_size=4),
    seed=st.integers(0, 5),
)
@settings(max_examples=120, deadline=None)
def test_bound_holds_for_any_array(shape, dtype, mode, specials, seed):
    x = field(shape, seed, dtype)
    for place, value in specials:
        x.ravel()[place % x.size] = value
    if np.isfinite(x).any() or mode[0] == "lossless":
        assert_bound(x, *mode)


@pytest.mark.parametrize("mode, bound", MODES)
def test_bound_is_used_not_only_held(mode, bound):
    x = field((2, 2, 20, 37, 49))
    data = assert_bound(x, mode, bound)
    decoded = caesar_freq.decode(data)
    spread = np.ptp(x, axis=(1, 2, 3, 4)).astype(np.float64)
    error = np.sqrt(((x.astype(np.float64) - decoded) ** 2).mean(axis=(1, 2, 3, 4))) / spread
    target = {"nrmse": bound, "psnr": 10 ** (-bound / 20)}.get(mode)
    if target:
        assert (error <= target).all() and (error >= 0.97 * target).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.full((3, 40, 40), 273.15, np.float32),
        lambda: np.where(np.arange(4000) == 17, 1e38, 0).astype(np.float32),
        lambda: np.array([1e308, -1e308] * 40),
        lambda: (field((16, 20, 20)) * 1e-42).astype(np.float32),
        lambda: np.resize(np.float32([1, -1]), (5, 31, 33)),
        lambda: field((40, 30, 20)).T,
        lambda: field((40, 30, 20))[::2, ::-1],
        lambda: field((10, 30, 20)).astype(">f4"),
        lambda: field((6, 30, 20), dtype=np.float64) + 1e9,
        lambda: np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32),
        lambda: np.multiply.outer(np.arange(6.0).reshape(2, 3), np.ones((5, 9, 9))),
        lambda: np.exp(field((7, 29, 31), dtype=np.float64) * 100).clip(1e-300, 1e300),
        lambda: np.resize(np.float32([3.4e38, -3.4e38]), (5, 31, 33)),
        lambda: np.resize([0.0, -0.0, 1e-310, -5e-324], (5, 31, 33)),
        lambda: np.where(np.arange(900).reshape(10, 90) % 90 < 40, np.nan, field((3, 10, 90))),
        lambda: field((1, 1, 997)),
        lambda: field((13, 17, 101)),
    ],
    ids=["constant", "spike", "huge", "denormal", "alternating", "transposed", "strided",
         "big-endian", "offset", "noise", "constant sections", "huge range", "extremes", "zeros",
         "NaN blocks", "one row", "prime sizes"],
)  # fmt: skip
@pytest.mark.parametrize(
    "mode, bound", [("rel", 1e-3), ("nrmse", 1e-3), ("abs", 1e-2), ("pw_rel", 1e-3)]
)
def test_adversarial_arrays(make, mode, bound):
    assert_bound(make(), mode, bound)


@pytest.mark.parametrize("mode", ["rel", "nrmse", "abs"])
@pytest.mark.parametrize("bound", [1e308, 1e-310])
def test_bounds_at_the_ends_of_the_floats(mode, bound):
    assert_bound(field((4, 20, 20), dtype=np.float64), mode, bound)
    assert_bound(np.linspace(-90, 90, 80).reshape(5, 16), mode, bound)  # on a grid


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-145, 1e145, 1e160, 1e300])
@pytest.mark.parametrize("mode, bound", [("nrmse", 1e-2), ("psnr", 80.0), ("rel", 1e-3)])
def test_squares_of_errors_need_not_be_floats(mode, bound, size):
    assert_bound(field((12, 31, 33), dtype=np.float64) * size, mode, bound)


def test_constant_takes_few_bytes():
    assert len(caesar_freq.encode(np.full((4, 3, 60, 90, 100), 7, np.float32), "rel", 1e-3)) < 400
    assert len(caesar_freq.encode(np.zeros(10**6), "nrmse", 1e-3)) < 150


def test_specials_and_fill_values_return_bit_by_bit():
    x = field((2, 20, 30, 40))
    x[0, :, :10, :10] = np.nan
    x[0, 3].view(np.uint32)[0, 0] = 0x7FC12345  # a NaN with a payload
    x[1, 5, 5, 5], x[1, 6, 6, 6] = np.inf, -np.inf
    x[1, :, 20:] = 1e20
    data = assert_bound(x, "rel", 1e-3, fill_value=1e20)
    decoded = caesar_freq.decode(data)
    masked = ~np.isfinite(x) | (x == np.float32(1e20))
    np.testing.assert_array_equal(decoded.view(np.uint32)[masked], x.view(np.uint32)[masked])
    assert len(data) < x.nbytes / 3


def test_result_does_not_depend_on_threads():
    x = field((3, 2, 20, 30, 40))
    one = caesar_freq.encode(x, "nrmse", 1e-3, threads=1)
    assert one == caesar_freq.encode(x, "nrmse", 1e-3, threads=4)


def test_several_chunks_cover_the_array():
    x = field((2, 1030, 300))
    data = assert_bound(x, "rel", 1e-3)
    assert caesar_freq.info(data)["n_chunks"] > 1


@pytest.mark.parametrize("kind, cell", [("haar", 16), ("cdf97", 16), ("lot", 32), ("dct", 8)])
def test_forced_transforms(kind, cell):
    data = assert_bound(field((33, 37, 49)), "nrmse", 1e-3, spatial=((kind, cell),))
    (used,) = caesar_freq.info(data)["transforms"]
    assert (used["kind"], used["cell"]) == (kind, cell)


def test_info_counts_every_byte():
    x = field((2, 1, 40, 37, 49))
    x[0, 0, :, 0, 0] = np.nan
    data = caesar_freq.encode(x, "rel", 1e-3, metadata=b"names", effort=0)  # without levels
    about = caesar_freq.info(data)
    assert sum(about["bytes_by_stream"].values()) == len(data) == about["compressed_bytes"]
    assert about["modes_used"] == {"plain": 80} and about["metadata"] == b"names"
    assert about["cr"] == x.nbytes / len(data)


def test_trained_model_travels_in_the_file(tmp_path):
    from dataclasses import replace

    from caesar_freq.codec.model import FrequencyModel

    base = FrequencyModel.base()
    other = replace(base, b3=base.b3 + 100)
    x = field((16, 37, 49))
    embedded = caesar_freq.encode(x, "rel", 1e-3, model=other, embed_model=True)
    assert caesar_freq.info(embedded)["model_embedded"]
    apart = caesar_freq.encode(x, "rel", 1e-3, model=other, embed_model=False)
    np.testing.assert_array_equal(
        caesar_freq.decode(embedded), caesar_freq.decode(apart, model=other)
    )
    with pytest.raises(ModelError, match="neither in it nor in this release"):
        caesar_freq.decode(apart)


def test_small_streams_do_without_a_model_that_does_not_pay():
    from dataclasses import replace

    from caesar_freq.codec.model import FrequencyModel

    base = FrequencyModel.base()
    worse = replace(base, b3=base.b3 + 400)
    x = field((16, 37, 49))
    data = caesar_freq.encode(x, "rel", 1e-2, model=worse)
    assert data == caesar_freq.encode(x, "rel", 1e-2)
    assert not caesar_freq.info(data)["model_embedded"]


def test_api_class_counts_all_bytes():
    codec = caesar_freq.CAESARFreq()
    x = field((20, 37, 49))
    compressed, total = codec.compress(x, eb=1e-3)
    assert total == len(bytes(compressed))
    for source in (compressed, bytes(compressed)):
        decoded = codec.decompress(source)
        assert np.sqrt(np.mean((decoded - x) ** 2)) <= 1e-3 * np.ptp(x)
    batch, total = codec.compress(iter([{"input": x[None]}, {"input": x[None, :5]}]), eb=1e-2)
    shapes = [a.shape for a in codec.decompress(bytes(batch))]
    assert shapes == [(1, 20, 37, 49), (1, 5, 37, 49)] and total == len(bytes(batch))
    with pytest.raises(CorruptStreamError):
        codec.decompress(bytes(batch)[:-5])


@pytest.mark.parametrize(
    "array, options, message",
    [
        (np.zeros((1, 1, 1, 1, 1, 1), np.float32), {}, "6 dimensions"),
        (np.zeros(5, np.int32), {}, "int32"),
        (np.zeros((0, 3), np.float32), {}, "empty"),
        (np.full(9, np.nan, np.float32), {}, "no finite value"),
        (np.ones(5, np.float32), {"bound": -1}, "bound is -1"),
        (np.ones(5, np.float32), {"bound": np.nan}, "bound is nan"),
        (np.ones(5, np.float32), {"mode": "pw_rel", "bound": 1.0}, "must be below 1"),
        (np.ones(5, np.float32), {"mode": "max"}, "unknown mode 'max'"),
        (np.ones(5, np.float32), {"strategy": "best"}, "unknown strategy 'best'"),
    ],
)
def test_bad_input_is_named(array, options, message):
    with pytest.raises(InputError, match=message):
        caesar_freq.encode(array, **options)


def test_damage_never_goes_unnoticed():
    x = field((2, 1, 20, 37, 49))
    x[0, 0, 3, 4, 5] = np.nan
    data = bytearray(caesar_freq.encode(x, "rel", 1e-3))
    rng = np.random.default_rng(0)
    for place in [*range(70), *rng.integers(0, len(data), 80)]:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(CorruptStreamError):
            caesar_freq.decode(bytes(broken))
    for length in (0, 2, 10, 60, len(data) // 2, len(data) - 1):
        with pytest.raises(CorruptStreamError):
            caesar_freq.decode(bytes(data[:length]))
    with pytest.raises(CorruptStreamError, match="appended"):
        caesar_freq.decode(bytes(data) + b"x")


def test_damaged_chunk_is_named():
    x = field((2, 1, 20, 37, 49))
    data = bytearray(caesar_freq.encode(x, "rel", 1e-3))
    data[-10] ^= 1
    with pytest.raises(CorruptStreamError, match=r"chunk 1 \(variable 1"):
        caesar_freq.decode(bytes(data))


def test_altered_chunks_with_a_right_checksum_stay_safe():
    """Past the checksum, parsers must still never crash or read out of bounds."""
    import google_crc32c

    x = field((18, 37, 49))
    x[3, 4, 5] = np.nan
    data = caesar_freq.encode(x, "rel", 1e-3)
    header, at = Header.unpack(data)
    rng = np.random.default_rng(1)
    for _ in range(150):
        body = bytearray(data[at:])
        for place in rng.integers(0, len(body) if rng.random() < 0.5 else 60, 1 + rng.integers(3)):
            body[place] = rng.integers(256)
        if rng.random() < 0.2:
            body = body[: rng.integers(1, len(body))]
        header.chunks = [(len(body), google_crc32c.value(bytes(body)))]
        try:
            decoded = caesar_freq.decode(header.pack() + bytes(body))
        except CaesarError:
            continue
        assert decoded.shape == x.shape


GOLDEN = os.path.join(os.path.dirname(__file__), "golden")


def golden_cases():
    ramp = np.add.outer(np.arange(20.0), np.sin(np.arange(30.0))).astype(np.float32)
    cube = np.stack([np.roll(ramp, i, axis=1) for i in range(18)])
    holes = cube.copy()
    holes[4:6, 3:9, 2:8] = np.nan
    t, y, x = np.ogrid[0:18, 0:20, 0:30]
    drifting = ((x + t) % 15 - 7) ** 2 + ((y - t) % 12 - 6) ** 2 < 20
    clouds = np.where(drifting, np.float32(np.nan), cube)
    waves = np.sin(0.37 * np.arange(48.0)[:, None, None] - 0.21 * x + y / 4).astype(np.float32)
    bowl = np.sqrt(t * t + 3.0 * y * y + 2.0 * x * x - x * y + 9).astype(np.float32)
    busy = cube + np.random.default_rng(0).standard_normal(cube.shape) * (x > 20) * (y > 8)
    signed = np.exp(cube / 3 - 4) * np.where(x + y > 30, -1, 1) * (x % 11 > 1)
    years = np.arange(90.0)[:, None, None]
    drift = np.sin(years / 40 + x[:, :10, :16] / 9) + 0.02 * np.cos(0.7 * years + y[:, :10, :16])
    cut = np.where(np.sin(x / 4 + t) + np.cos(y / 3 - t) > 0.8, 1 + busy / 100, 0)
    packed = np.rint(bowl * 20 + busy) / 20
    hours = np.arange(1300.0)[:, None] / 24
    stations = np.sin(6.283 * hours + x[0, 0, :7]) + np.cumsum(np.sin(hours**2), 0) / 9
    filled = np.where((x - 9) ** 2 + (y - 11) ** 2 < 90, bowl + busy / 90, packed)
    return {
        "least_squares": (bowl + busy.astype(np.float32) / 50, "rel", 1e-5),
        "partial": (filled.astype(np.float32), "rel", 1e-5),
        # the first was written when no chunk had more than 512 rows
        "short_tiles": (stations.astype(np.float32), "rel", 1e-3),
        "tall_tiles": (stations.astype(np.float32), "rel", 1e-3),
        "long_blocks": (drift.astype(np.float32), "nrmse", 1e-2),
        "dependent": (busy.astype(np.float32), "nrmse", 3e-3),
        "edges": (cut.astype(np.float32), "nrmse", 1e-2),
        "contexts": (busy.astype(np.float32), "rel", 2e-2),
        "pw_rel": (signed.astype(np.float32), "pw_rel", 1e-3),
        "fine": (busy + bowl, "nrmse", 1e-9),
        "rel": (cube, "rel", 1e-3),
        "one_value": (np.exp(-((cube - 10) ** 2) * 99).astype(np.float32), "psnr", 9),
        "nrmse64": (cube.astype(np.float64), "nrmse", 1e-3),
        "holes": (holes, "abs", 0.01),
        "lossless": (holes, "lossless", 0),
        "clouds": (clouds, "rel", 1e-2),
        "folded": (bowl, "lossless", 0),
        "set_apart": (busy.astype(np.float32).astype(np.float64) ** 2, "lossless", 0),
        "short": (busy.astype(np.float32).astype(np.float64), "lossless", 0),
        "modes": (waves, "nrmse", 1e-4),
        "linked": (
            np.stack([cube, cube + 0.2 * waves[:18], cube - 0.1 * waves[:18]])[None],
            "nrmse",
            1e-3,
        ),
        "lattice": (np.where(drifting, np.float32(np.nan), np.rint(cube * 10) / 10), "nrmse", 1e-4),
    }


def test_time_blocks_follow_the_speed_of_what_moves():
    slow = golden_cases()["long_blocks"][0]
    rng = np.random.default_rng(0)
    still = (rng.random((64, 64)) > 0.99) * 9.0 + 0.02 * rng.standard_normal((64, 64))
    fast = np.stack([np.roll(still, (7 * t, 11 * t), (0, 1)) for t in range(24)])
    for x, blocks in ((slow, {128}), (fast.astype(np.float32), {1, 4})):
        data = caesar_freq.encode(x, "nrmse", 1e-2)
        assert caesar_freq.info(data)["transforms"][0]["time_block"] in blocks


@pytest.mark.parametrize("name", sorted(golden_cases()))
def test_golden_streams_stay_decodable(name):
    """Files of format version 1 decode for ever; regenerate with GENERATE_EXPECTED=1."""
    array, mode, bound = golden_cases()[name]
    path = os.path.join(GOLDEN, f"{name}.cfq")
    if os.environ.get("GENERATE_EXPECTED"):
        with open(path, "wb") as stream:
            stream.write(caesar_freq.encode(array, mode, bound))
    with open(path, "rb") as stream:
        data = stream.read()
    decoded = caesar_freq.decode(data)
    if os.environ.get("GENERATE_EXPECTED"):
        np.savez_compressed(path.replace(".cfq", ".npz"), data=decoded)
    assert decoded.dtype == array.dtype
    assert bound_holds(array[None], decoded[None], mode, bound)
    # one level off anywhere would move values by far more than another device's rounding
    expected = np.load(path.replace(".cfq", ".npz"))["data"]
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=1e-5)


def test_one_value_that_keeps_the_bound_takes_next_to_nothing():
    """Neither steps nor a model's name are in the head where no chunk needs them."""
    x = np.full((2, 3, 40, 50), 0.25, np.float32)
    x += 1e-4 * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    x[:, 1, 2, 3], x[0, 2, 5, 5] = 9.0, np.nan
    for mode, bound, one in (("nrmse", 2e-2, True), ("abs", 4.4, True), ("abs", 4.3, False)):
        data = caesar_freq.encode(x[:, None], mode, bound)
        about = caesar_freq.info(data)
        assert (about["modes_used"] == {"constant": 6}) == one
        assert (about["transforms"] == []) == one
        assert len(data) < 80 or not one
        assert bound_holds(x[0], caesar_freq.decode(data)[0, 0], mode, bound)
        assert bound_holds(x[1], caesar_freq.decode(data)[1, 0], mode, bound)
    assert len(caesar_freq.encode(x[1], "nrmse", 2e-2)) < 40
    assert len(caesar_freq.encode(x[1], "nrmse", 2e-2, embed_model=True)) > 1000


def test_one_value_half_a_range_away_keeps_the_bound_without_rounding():
    """The middle of two float64 numbers may be none: rounded, one of them is a little farther away."""
    for x in np.random.default_rng(0).standard_normal((200, 6)):
        decoded = caesar_freq.decode(caesar_freq.encode(x, "rel", 0.5))
        allowed = (Fraction(x.max()) - Fraction(x.min())) / 2
        assert all(abs(Fraction(a) - Fraction(b)) <= allowed for a, b in zip(x, decoded))


@pytest.mark.parametrize("mode", ["abs", "pw_rel"])
def test_fill_values_do_not_ask_for_double_precision(mode):
    """They would count as a huge range, next to which every bound is tiny."""
    x = np.linspace(1, 2, 600, dtype=np.float32).reshape(3, 10, 20)
    holes = x.copy()
    holes[:, 2:4] = 1e20 if mode == "abs" else 0.0
    holes[0, 0, 0] = 1e20
    for array, fill_value in ((x, None), (holes, 1e20)):
        data = caesar_freq.encode(array, mode, 1e-3, fill_value=fill_value)
        assert not Header.unpack(data)[0].double
