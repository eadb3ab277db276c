"""The native kernels and the portable ones give the same bits, whatever the instruction set."""

import shutil
import sys
import weakref
from threading import Event, Thread

import numpy as np
import pytest
from side_streams import decoded_sparse

from caesar_freq import kernels
from caesar_freq.codec import backend, portable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import ERROR_UNIT, fit_alphas, frequency_classes
from caesar_freq.codec.volume import decode_volume, encode_levels
from caesar_freq.entropy.levels import decode_levels
from caesar_freq.entropy.levels import encode_levels as encode_levels_of_grid
from caesar_freq.entropy.sparse import encode_sparse
from caesar_freq.errors import ConfigError, CorruptStreamError
from caesar_freq.kernels import jit
from caesar_freq.kernels.errors import size_histogram
from caesar_freq.kernels.memory import zeros
from caesar_freq.kernels.values import normalised, restored
from caesar_freq.transform.blocks import Transform


@pytest.fixture
def use(monkeypatch):
    """Choose kernels by name for this test; the former ones are back afterwards."""

    def choose(name):
        monkeypatch.setenv("CAESAR_FREQ_KERNELS", name)
        kernels.library.cache_clear()
        backend.kernels.cache_clear()
        return backend.kernels()

    yield choose
    monkeypatch.undo()
    kernels.library.cache_clear()
    backend.kernels.cache_clear()
    kernels.library()


def levels(shape, transform, spread, seed=0):
    """Levels whose size falls with frequency, some of them beyond every table."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).cumsum(0).cumsum(1).cumsum(2).astype(np.float32)
    planes = transform.forward(x)
    classes = frequency_classes(*planes.shape[2:4])
    alphas = fit_alphas(planes, classes)
    q, fits = portable.quantise(planes, np.abs(x).max() / spread, 0.6, alphas, classes)
    assert fits
    return planes, q, alphas, classes


CASES = [
    ((33, 40, 52), 16, 16, "lot", 100), ((5, 7, 9), 16, 8, "dct", 1e6), ((1, 1, 70), 16, 8, "dct", 9),
    ((64, 24, 24), 64, 8, "haar", 1000), ((16, 65, 33), 16, 32, "lot", 30),
    ((1, 1, 900), 1, 256, "dct", 300), ((3, 130, 70), 4, 64, "dct", 300),
]  # fmt: skip


def test_built_where_there_is_a_compiler():
    if shutil.which("cc") or shutil.which("gcc"):
        assert kernels.library() is not None


@pytest.mark.parametrize("name", ["portable", "avx2", "native"])
@pytest.mark.parametrize("shape, time_block, cell, kind, spread", CASES)
def test_same_bytes_and_bins_as_numba(use, name, shape, time_block, cell, kind, spread):
    model = FrequencyModel.base()
    transform = Transform(shape, time_block, cell, kind)
    _, q, alphas, _ = levels(shape, transform, spread)
    use("numba")
    expected = encode_levels(q, alphas, transform, model)
    values = decode_volume(expected.data, 0.01, transform, model, np.float32)
    if kernels.CHOICES[name] >= 0 and use(name) is portable:
        pytest.skip("the package was installed without native kernels")
    code = encode_levels(q, alphas, transform, model)
    assert code.data == expected.data
    assert np.array_equal(code.bins, expected.bins)
    decoded = decode_volume(expected.data, 0.01, transform, model, np.float32)
    assert np.array_equal(decoded, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_levels_and_reconstruction(use, dtype):
    transform = Transform((40, 30, 50), 16, 16, "lot")
    planes, q, alphas, classes = levels((40, 30, 50), transform, 200)
    planes, model = planes.astype(dtype), FrequencyModel.base()
    bins = np.random.default_rng(1).integers(0, 80, q.shape).astype(np.uint8)
    results = []
    for name in ("numba", "native"):
        chosen = use(name)
        found, fits = chosen.quantise(planes, 0.03, 0.6, alphas, classes)
        out = np.empty_like(planes)
        chosen.dequantise(found, bins, 0.03, alphas, classes, model.centroid, out)
        results.append((found, fits, out, chosen.ends_of(found)))
    for a, b in zip(*results):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["numba", "native"])
def test_a_level_that_does_not_fit_is_noticed(use, name):
    planes = np.zeros((1, 1, 1, 1, 2, 2), np.float64)
    planes[..., 0, 1] = 1e12
    classes = frequency_classes(1, 1)
    _, fits = use(name).quantise(planes, 1.0, 0.5, np.zeros(6, np.int64), classes)
    assert not fits
    planes[..., 0, 1] = np.nan
    assert not use(name).quantise(planes, 1.0, 0.5, np.zeros(6, np.int64), classes)[1]


def test_a_pointer_keeps_a_temporary_array_alive():
    array = np.zeros(3)
    known = weakref.ref(array)
    address = kernels.pointer(array)
    del array
    assert known() is not None
    del address
    assert known() is None


def test_memory_of_a_call_is_not_given_to_other_threads(use):
    """Centroids of a call were once freed before the kernel read them."""
    native = use("native")
    if native is portable:
        pytest.skip("the kernels are not built")
    transform = Transform((16, 32, 32), 16, 8, "lot")
    planes, q, alphas, classes = levels((16, 32, 32), transform, 30)
    centroid = FrequencyModel.base().centroid
    bins = np.zeros(q.shape, np.uint8)
    expected = np.empty_like(planes)
    portable.dequantise(q, bins, 0.1, alphas, classes, centroid, expected)
    done = Event()

    def churn():
        while not done.is_set():
            np.full(2 * centroid.size, 99, np.int8)

    others = [Thread(target=churn) for _ in range(2)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for other in others:
            other.start()
        for _ in range(300):
            found = np.empty_like(planes)
            native.dequantise(q, bins, 0.1, alphas, classes, centroid, found)
            np.testing.assert_array_equal(found, expected)
    finally:
        sys.setswitchinterval(before)
        done.set()
        for other in others:
            other.join()


def test_an_unknown_choice_is_refused(use):
    with pytest.raises(ConfigError, match="numba, portable, avx2, native"):
        use("cuda")


@pytest.mark.parametrize("spread", [0.3, 1, 5, 1e4, 1e9])
def test_sparse_volumes_have_the_same_bytes(use, spread):
    values = np.rint(np.random.default_rng(0).standard_normal((4, 30, 50)) * spread)
    volume = np.clip(values, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    use("numba")
    data = encode_sparse(volume)
    np.testing.assert_array_equal(decoded_sparse(data, volume.shape), volume)
    use("native")
    assert encode_sparse(volume) == data
    np.testing.assert_array_equal(decoded_sparse(data, volume.shape), volume)


def test_garbage_decodes_to_the_same_sparse_volume_or_error(use):
    rng = np.random.default_rng(1)
    for data in [bytes(300), b"\xff" * 300, *(rng.bytes(n) for n in range(0, 300, 7))]:
        results = []
        for name in ("numba", "native"):
            use(name)
            try:
                results.append(decoded_sparse(data, (3, 20, 30)).tobytes())
            except CorruptStreamError as error:
                results.append(str(error))
        assert results[0] == results[1]


def test_kernels_of_other_sources_are_refused(use, monkeypatch):
    if kernels.library() is None:
        pytest.skip("the package was installed without native kernels")
    monkeypatch.setattr(kernels, "VERSION", kernels.VERSION + 1)
    with pytest.raises(ConfigError, match="built from other sources"):
        use("native")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_error_of_coefficients_in_any_order(use, dtype):
    transform = Transform((40, 30, 50), 16, 16, "lot")
    planes, q, alphas, classes = levels((40, 30, 50), transform, 200)
    planes, model = planes.astype(dtype), FrequencyModel.base()
    bins = np.random.default_rng(1).integers(0, 80, q.shape).astype(np.uint8)
    totals = set()
    for name in ("numba", "portable", "native"):
        chosen = use(name)
        found, _ = chosen.quantise(planes, 0.03, 0.6, alphas, classes)
        arguments = (0.03, alphas, classes, model.centroid)
        totals.add(chosen.coefficient_error(found, bins, *arguments, planes))
        decoded = np.empty_like(planes)
        chosen.dequantise(found, bins, *arguments, decoded)
    assert len(totals) == 1
    squares = float(np.sum((decoded.astype(np.float64) - planes) ** 2))
    assert totals.pop() * 0.03**2 / ERROR_UNIT == pytest.approx(squares, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_histogram_and_values(use, dtype):
    x = np.random.default_rng(0).standard_normal((5, 7, 9)).astype(dtype) * 1e3
    mask = np.random.default_rng(1).random(x.shape) < 0.2
    results = []
    for name in ("numba", "native"):
        use(name)
        other = np.float64 if dtype == np.float32 else np.float32
        both = [normalised(x, mask, 17.3, 2.7e3, d) for d in (dtype, other)]
        back = [restored(v.copy(), 17.3, 2.7e3, d) for v in both for d in (dtype, other)]
        results.append([size_histogram(x), *both, *back])
    for a, b in zip(*results):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert results[0][0].sum() == x.size and not results[0][1][mask].any()
    limit = np.finfo(np.float32).max
    assert restored(np.array([2.0, -2.0]), 0, 3e38, np.float32).tolist() == [limit, -limit]


@pytest.mark.parametrize("shape, top, masked", [
    ((5, 23, 31), 255, 0.0), ((4, 20, 17), 3, 0.3), ((3, 9, 40), (1 << 22) - 1, 0.1), ((2, 1, 50), 40, 0),
    ((6, 70, 80), 4000, 0.05), ((1, 1, 1), 1, 0),
])  # fmt: skip
def test_levels_in_c_are_those_of_numba(use, shape, top, masked):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).cumsum(0).cumsum(1).cumsum(2)
    x = (x - x.min()) / max(np.ptp(x), 1e-9) * top + rng.standard_normal(shape) * (top / 50)
    values = np.rint(x).clip(0, top).astype(np.int64)
    skip = rng.random(shape) < masked
    found = []
    for name in ("numba", "native"):
        use(name)
        data = encode_levels_of_grid(values, skip, top, 1 << 30)
        decoded = decode_levels(data, skip, top)
        assert np.array_equal(decoded[~skip], values[~skip])
        damaged = decode_damaged(data, skip, top)
        small = encode_levels_of_grid(values, skip, top, 1)
        found.append((data, decoded.tobytes(), damaged, small is None))
    assert found[0] == found[1]


def decode_damaged(data, skip, top):
    """What becomes of damaged bytes: the same levels or the same error."""
    damaged = bytearray(data)
    for place in range(3, len(data), 7):
        damaged[place] ^= 0x5A
    try:
        return decode_levels(bytes(damaged), skip, top).tobytes()
    except CorruptStreamError as error:
        return str(error)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 12345, 3_000_001])
def test_large_arrays_begin_where_a_huge_page_does(size):
    array = zeros((size,), np.float32)
    assert array.shape == (size,) and not array.any()
    assert array.ctypes.data % (1 << 21) == 0
    array[:] = 1
    assert array.sum(dtype=np.float64) == size


def test_a_folder_for_compiled_code_is_not_needed(monkeypatch):
    """In a container neither the package nor the home may be writable."""

    def refuse(_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.dispatcher.FunctionCache", refuse)
    double = jit.njit(nogil=True, cache=True)(lambda x: 2 * x)
    assert double(4) == 8 and double._dispatcher.nopython_signatures
