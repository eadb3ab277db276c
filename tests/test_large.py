"""Arrays that are coded chunk by chunk: same bounds, about the same bytes, any source."""

import io

import numpy as np
import pytest
import xarray as xr

import caesar_freq
from caesar_freq.api import encode_to
from caesar_freq.codec import chunks, large, tuning
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.chunk import Written
from caesar_freq.data.files import opened, read
from caesar_freq.data.lazy import LazyArray, Source
from caesar_freq.data.metadata import pack, pack_lazily
from caesar_freq.errors import CaesarError, InputError

MODES = [("abs", 0.5), ("rel", 1e-3), ("rel", 1e-5), ("nrmse", 1e-3), ("psnr", 55.0),
         ("nrmse", 1e-6), ("lossless", 0), ("nrmse", 0)]  # fmt: skip


def field(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return x.astype(np.float32)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 16 frames."""
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 1)


@pytest.fixture
def large_path(small_chunks, monkeypatch):
    """Everything counts as too large; the sample is one or two chunks."""
    monkeypatch.setattr(large, "EXACT_BYTES", 30_000)


def holes():
    x = field((2, 100, 20, 24))
    x[0, :30] = np.nan
    x[0, 40:60, :5] = np.nan
    x[1, 20:36] = 3
    x[1, 50, 2, 2] = np.inf
    return x


def broken(array, mode, bound, **options):
    """Numbers of the variables whose bound does not hold after decoding."""
    decoded = caesar_freq.decode(caesar_freq.encode(array, mode, bound, **options))
    return [
        v
        for v, (a, b) in enumerate(zip(array, decoded, strict=True))
        if not bound_holds(a, b, mode, bound, options.get("fill_value"))
    ]


@pytest.mark.parametrize("mode, bound", MODES)
def test_bounds_hold_chunk_by_chunk(large_path, mode, bound):
    assert broken(field((2, 100, 20, 24)), mode, bound) == []
    assert broken(holes(), mode, bound) == []
    assert broken(field((2, 100, 20, 24)).astype(np.float64), mode, bound) == []


@pytest.mark.parametrize("mode, bound", [("rel", 1e-3), ("nrmse", 1e-3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: np.full((1, 60, 20, 24), 7, np.float32),
        lambda: np.where(np.arange(60 * 480) % 2, 0.0, -0.0).reshape(1, 60, 20, 24),
        lambda: np.resize(np.array([1e308, -1e308]), (1, 60, 20, 24)),
        lambda: np.repeat([0.0, 1e308, -1e308, 1.0], 16 * 480).reshape(1, 64, 20, 24),
        lambda: np.where(np.arange(60 * 480) == 17, 1e38, 0).reshape(1, 60, 20, 24),
        lambda: np.random.default_rng(0).standard_normal((1, 60, 20, 24)).astype(np.float32),
        lambda: field((1, 60, 20, 24)) * 1e-42,
    ],
    ids=["constant", "signed zeros", "huge", "huge steps", "spike", "noise", "denormal"],
)
def test_adversarial_arrays(large_path, make, mode, bound):
    assert broken(make(), mode, bound) == []


def test_signed_zeros_of_small_arrays():
    zeros = np.where(np.arange(480) % 2, 0.0, -0.0)
    assert broken(zeros[None], "rel", 1e-3) == [] == broken(zeros[None], "nrmse", 1e-3)


@pytest.mark.parametrize("mode, bound", [("rel", 1e-3), ("nrmse", 1e-3), ("nrmse", 1e-2)])
def test_bytes_are_about_those_of_the_exact_search(small_chunks, monkeypatch, mode, bound):
    x = field((160, 40, 50))
    exact = len(caesar_freq.encode(x, mode, bound))
    monkeypatch.setattr(large, "EXACT_BYTES", 200_000)
    assert len(caesar_freq.encode(x, mode, bound)) < 1.01 * exact


@pytest.mark.parametrize("mode, bound", [("rel", 1e-3), ("nrmse", 1e-3)])
def test_own_modes_are_used_where_the_sample_gains_by_them(monkeypatch, mode, bound):
    from test_modes import wave_field

    monkeypatch.setattr(chunks, "CHUNK_VALUES", 64 * 40 * 56)
    x = wave_field(320, 40, 56)
    exact = caesar_freq.encode(x, mode, bound)
    monkeypatch.setattr(large, "EXACT_BYTES", 2 * 4 * 64 * 40 * 56)
    data = caesar_freq.encode(x, mode, bound)
    used = caesar_freq.info(exact)["modes_used"]
    assert "own_modes" in used and caesar_freq.info(data)["modes_used"] == used
    assert len(data) < 1.02 * len(exact)
    assert bound_holds(x[None], caesar_freq.decode(data)[None], mode, bound)


def test_the_target_is_met_where_the_sample_is_too_easy(large_path):
    """The sample comes from the middle; noise at both ends decides the error of the whole."""
    x = field((160, 20, 24))
    rng = np.random.default_rng(0)
    x[:32] += 50 * rng.standard_normal((32, 20, 24))
    x[-32:] += 50 * rng.standard_normal((32, 20, 24))
    decoded = caesar_freq.decode(caesar_freq.encode(x, "nrmse", 1e-3))
    error = np.sqrt(np.mean((x.astype(np.float64) - decoded) ** 2)) / np.ptp(x)
    assert 0.99e-3 < error <= 1e-3


def test_result_does_not_depend_on_threads(large_path):
    x = holes()
    streams = {caesar_freq.encode(x, "nrmse", 1e-3, threads=n) for n in (1, 2, 5)}
    assert len(streams) == 1


def test_no_valid_value_is_an_error(large_path):
    with pytest.raises(InputError, match="no finite value"):
        caesar_freq.encode(np.full((60, 20, 24), np.nan), "rel", 1e-3)


def test_only_a_few_chunks_are_in_flight(large_path):
    """Of a lazy array, no more is asked for at a time than there are threads."""
    import threading

    x = field((160, 20, 24))
    lock, state = threading.Lock(), {"now": 0, "most": 0, "reads": 0, "largest": 0}

    def cut(index):
        with lock:
            state["now"] += 1
            state["reads"] += 1
            state["most"] = max(state["most"], state["now"])
        part = x[index].copy()
        state["largest"] = max(state["largest"], part.size)
        with lock:
            state["now"] -= 1
        return part

    out = io.BytesIO()
    encode_to(Source.of(LazyArray(x.shape, x.dtype, cut)), out, "rel", 1e-3, threads=2)
    assert out.getvalue() == caesar_freq.encode(x, "rel", 1e-3)
    assert state["largest"] == 16 * 20 * 24 and state["reads"] >= 30
    # two workers, and the comparison with what was decoded
    assert state["most"] <= 3


def write_sources(folder):
    """The same kinds of arrays in every format; name of file and of variable."""
    x = field((2, 40, 20, 12))
    np.save(folder / "plain.npy", x)
    np.save(folder / "fortran.npy", np.asfortranarray(x[0]))
    np.save(folder / "big.npy", x.astype(">f8"))
    np.save(folder / "half.npy", (x / 1000).astype(np.float16))
    np.savez(folder / "stored.npz", data=x, other=x[0] * 2)
    np.savez_compressed(folder / "deflated.npz", data=x, other=x[0] * 2)
    packed = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10, "_FillValue": -9999}
    holed = np.where(x[0] > 0, x[0], np.nan)
    xr.Dataset(
        {
            "a": (("lon", "time", "lat"), x[0].transpose(2, 0, 1)),
            "b": (("time", "lat", "lon"), holed, {}, {"_FillValue": np.float32(-1)}),
            "c": (("time", "lat", "lon"), holed, {}, packed),
            "d": (("member", "time", "lat", "lon"), x),
        }
    ).to_netcdf(folder / "in.nc")
    names = ["plain.npy", "fortran.npy", "big.npy", "half.npy"]
    cases = [(name, None) for name in names]
    cases += [(n, [k]) for n in ("stored.npz", "deflated.npz") for k in ("data", "other")]
    return cases + [("in.nc", n) for n in (["a"], ["b"], ["c"], ["d"], ["a", "b"])]


def test_every_source_is_read_like_the_whole_file(tmp_path):
    for name, keys in write_sources(tmp_path):
        eager, lazy_metadata = pack(read(tmp_path / name, keys))
        with opened(tmp_path / name, keys) as fields:
            if name != "deflated.npz":
                assert all(isinstance(field.values, LazyArray) for field in fields), name
            source, metadata = pack_lazily(fields)
            assert metadata == lazy_metadata and source.dtype == eager.dtype, name
            assert source.shape == eager.shape, name
            np.testing.assert_array_equal(source.whole(), eager, name)
            cube = eager.reshape(chunks.five_dimensional(eager.shape))
            place = (len(cube) - 1, cube.shape[1] - 1, slice(3, 17), slice(5, 9), slice(2, 7))
            np.testing.assert_array_equal(source.read(place), cube[place], name)


def test_damaged_sources_are_refused(tmp_path):
    write_sources(tmp_path)
    for name in ("plain.npy", "stored.npz", "deflated.npz", "in.nc"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=name), opened(tmp_path / name, ["data"]):
            pass
    np.savez(tmp_path / "flipped.npz", data=field((40, 20)))
    data = bytearray((tmp_path / "flipped.npz").read_bytes())
    data[1000] ^= 1
    (tmp_path / "flipped.npz").write_bytes(data)
    with (
        pytest.raises(CaesarError, match="flipped.npz is damaged"),
        opened(tmp_path / "flipped.npz"),
    ):
        pass


def test_a_chunk_is_moved_where_all_together_miss_the_bound():
    """Errors follow the weight by an exponent that is a little off."""
    squares, coded = [4.0, 9.0, 3.0, 4.0], []

    def rewrite(factors):
        coded.append(factors)
        return {n: Written(b"%d" % n, was[n] * f ** (2 * 0.13)) for n, f in factors.items()}

    was = list(squares)
    bodies = tuning.tune(squares, (19.4, 19.6), 19.5, 0.2, rewrite)
    assert list(bodies) == [1] and bodies[1] == b"1"
    assert 19.4 <= sum(squares) <= 19.6 and len(coded) <= 2
    assert all(factors[1] < 1 for factors in coded)


@pytest.mark.parametrize("wanted", [16.0, 20.5, 25.0])
def test_chunks_are_not_moved_far(wanted):
    assert tuning.weights([4.0, 9.0, 3.0, 4.0], wanted, 0.2) == {}


def test_the_error_of_several_chunks_comes_close_to_its_bound(large_path, monkeypatch):
    array = field((1, 192, 40, 48))
    moved = []
    monkeypatch.setattr(large, "tune", lambda *a: moved.append(tuning.tune(*a)) or moved[-1])
    # several cells a chunk, whose levels can be moved a little
    streams = {
        caesar_freq.encode(array, "nrmse", 1.5e-3, threads=threads, spatial=(("lot", 16),))
        for threads in (1, 3)
    }
    assert len(streams) == 1 and any(moved)
    error = caesar_freq.decode(min(streams)).astype(float) - array
    nrmse = np.sqrt(np.mean(error**2)) / np.ptp(array)
    assert 0.997 * 1.5e-3 < nrmse <= 1.5e-3
