"""One order of IEEE operations everywhere: kernels, libraries and thread counts give the same bits."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from bit_files import FILES, field
from test_kernels import use  # noqa: F401 a fixture

import caesar_freq
from caesar_freq import kernels
from caesar_freq.codec.quantise import fit_alphas, frequency_classes
from caesar_freq.codec.search import step_of
from caesar_freq.kernels.eigen import eigh
from caesar_freq.kernels.errors import compare, log2_bits, size_histogram
from caesar_freq.kernels.logarithms import exp2, log2
from caesar_freq.kernels.ordered import product
from caesar_freq.transform.axis import KINDS
from caesar_freq.transform.blocks import LARGEST_CELL, Transform
from caesar_freq.transform.in_time import in_time, log2_bits_in_time
from caesar_freq.transform.matrices import dct_matrix, lapped_core
from caesar_freq.transform.modes import _inner_products

NAMES = ("portable", "avx2", "native", "numba")


@pytest.mark.parametrize("name", FILES)
def test_files_are_the_same_whatever_the_kernels(use, name):  # noqa: F811
    array, mode, bound, options = FILES[name]
    streams, arrays = set(), set()
    for number, kernel in enumerate(NAMES):
        use(kernel)
        streams.add(caesar_freq.encode(array, mode, bound, threads=1 + 2 * (number % 2), **options))
        arrays.add(caesar_freq.decode(min(streams)).tobytes())
    assert len(streams) == 1 and len(arrays) == 1


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import caesar_freq
from caesar_freq.kernels.eigen import eigh
from caesar_freq.kernels.logarithms import exp2, log2
from bit_files import FILES
for name in sys.argv[2:]:
    array, mode, bound, options = FILES[name]
    print(hashlib.sha256(caesar_freq.encode(array, mode, bound, **options)).hexdigest())
x = np.random.default_rng(0).random(50_000) * 100
whole = np.rint(x.reshape(50, -1))
for found in (log2(x), exp2(x), eigh(whole @ whole.T)[1]):
    print(hashlib.sha256(found.tobytes()).hexdigest())
print(hashlib.sha256(np.log2(x).tobytes()).hexdigest())
"""


def digests(names, **environment):
    """Hashes of some files, then of our logarithms, powers and eigenvectors and of numpy's logarithms, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), *names],
        env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_files_do_not_depend_on_the_threads_of_other_libraries():
    names = ["modes", "holes", "levels", "chosen"]
    one, four = (
        digests(names, **{f"{n}_NUM_THREADS": threads for n in ("OMP", "OPENBLAS", "MKL", "NUMBA")})
        for threads in ("1", "4")
    )
    assert len(one) == len(names) + 4 and one == four


def test_files_do_not_depend_on_the_processor():
    """Libraries are told to do without what other processors lack; numpy's logarithm then changes."""
    names = ["signs", "chosen", "tight", "modes"]
    less = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Prescott",
    }
    here = digests(names)
    assert digests(names, CAESAR_FREQ_KERNELS="portable", **less)[:-1] == here[:-1]
    assert digests([], NUMBA_CPU_NAME="generic", **less)[:-1] == here[len(names) : -1]


@pytest.mark.parametrize("n", [1, 1000])
def test_logarithms_and_powers_are_close_to_those_of_numpy(n):
    rng = np.random.default_rng(n)
    x = np.ldexp(rng.uniform(1, 2, n), rng.integers(-1022, 1024, n))
    near = 1 + rng.uniform(-1e-3, 1e-3, n)
    y = rng.uniform(-1022, 1024, n)
    for ours, theirs in ((log2(x), np.log2(x)), (log2(near), np.log2(near)), (exp2(y), np.exp2(y))):
        np.testing.assert_array_max_ulp(ours, theirs, 4)
    special = exp2(np.array([0, 10, -1022, 1024, -5000, np.inf, -np.inf, np.nan]))
    tiny = np.finfo(np.float64).tiny
    np.testing.assert_array_equal(special, [1, 1024, tiny, np.inf, tiny, np.inf, tiny, np.nan])
    assert np.array_equal(log2(np.array([1.0, 0.25, 2.0**1023])), [0, -2, 1023])
    assert log2(np.ones((2, 3))).shape == exp2(np.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind, shape, time_block, cell",
    [(kind, *case) for kind in KINDS for case in (
        ((33, 40, 52), 16, 16), ((1, 1, 1), 16, 8), ((5, 7, 300), 16, 8), ((64, 97, 33), 64, 32),
        ((3, 1, 130), 2, 16), ((17, 31, 2), 6, 16), ((3, 90, 131), 4, 64), ((1, 2, 1030), 1, 512),
        # few lines: more blocks of either size than there is room for beside one another
        ((700, 1, 1), 4, 8), ((203, 3, 5), 16, 8), ((1, 1, 777), 16, 8), ((2, 100, 3), 16, 8))
     if case[-1] <= LARGEST_CELL[kind]],
)  # fmt: skip
def test_transforms_have_the_same_bits(use, dtype, kind, shape, time_block, cell):  # noqa: F811
    x = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    transform = Transform(shape, time_block, cell, kind)
    use("numba")
    planes = transform.forward(x)
    values = transform.inverse(planes)
    found = [(transform.forward(torch.from_numpy(x)), transform.inverse(torch.from_numpy(planes)))]
    for name in ("portable", "native"):
        use(name)
        found.append((transform.forward(x), transform.inverse(planes)))
    for forward, inverse in found:
        assert bytes(np.asarray(forward)) == planes.tobytes()
        assert bytes(np.asarray(inverse)) == values.tobytes()
    assert np.abs(values - x).max() < 30 * np.finfo(dtype).eps + 2e-11 * (kind == "cdf97")


def test_matrices_are_rounded_once():
    """What any machine has to compute; their entries were checked with 50 digits."""
    parts = [dct_matrix(size) for size in range(1, 65)] + [lapped_core(n) for n in range(1, 33)]
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    assert digest == "e3efe7a8ce421bcbbb340c6d4a5701b58e6ca94756f5e7091eed76b0900fdb89"
    n = np.arange(16)
    expected = np.cos(np.pi / 16 * (n + 0.5) * n[:, None]) / np.sqrt(8)
    expected[0] /= np.sqrt(2)
    np.testing.assert_allclose(dct_matrix(16), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 63, 65, 4096, 100_003])
def test_error_sums_have_the_same_bits(use, dtype, n):  # noqa: F811
    rng = np.random.default_rng(n)
    a = rng.standard_normal(n).astype(dtype)
    b = (a + 0.01 * rng.standard_normal(n)).astype(dtype)
    mask = rng.random(n) < 0.1
    results = set()
    for name in ("native", "portable", "numba", "torch"):
        use("native" if name == "torch" else name)
        x, y, m = (torch.from_numpy(v) if name == "torch" else v for v in (a, b, mask))
        bits = [log2_bits(x, 1e3, more) if dtype == np.float32 else 0 for more in (0, 16)]
        results.add((*compare(x, y, m, 0.37), size_histogram(x).tobytes(), *bits))
    assert len(results) == 1
    largest, squares, _, bits, more = results.pop()
    error = (a - b.astype(np.float64))[~mask]
    assert largest == (np.abs(error).max() if error.size else 0)
    assert np.isclose(squares, np.sum((error / 0.37) ** 2), rtol=1e-12)
    if dtype == np.float32:
        squared = (a.astype(np.float64) * 1e3) ** 2
        assert abs(bits / 2**15 - np.log2(1 + squared).sum()) <= 0.012 * n
        assert abs((more - bits) / 2**15 - np.sum(16 * squared / (1 + squared))) <= 1e-4 * n


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(1, 9, 40), (33, 20, 30), (130, 17, 8), (2000, 1, 1), (700, 2, 3), (40, 3, 11)]
)
def test_time_after_space_is_the_transform_and_has_the_same_bits(use, kind, shape):  # noqa: F811
    x = field(shape, 3).astype(np.float32)
    for time_block in (1, 16, 128):
        whole, results = Transform(shape, time_block, 16, kind), set()
        for name in NAMES:
            use(name)
            spectra = Transform(shape, 1, 16, kind).forward(x)
            planes = in_time(whole.time, spectra)
            bits = log2_bits_in_time(whole.time, spectra, 1e3, 16)
            assert bits == log2_bits(planes, 1e3, 16)
            results.add((planes.tobytes(), bits))
        assert len(results) == 1
        expected = whole.forward(x)
        np.testing.assert_allclose(planes, expected, rtol=0, atol=4e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["native", "numba"])
def test_an_error_that_is_no_number_shows(use, name):  # noqa: F811
    use(name)
    a = np.zeros(1000, np.float32)
    b = a.copy()
    b[10], b[500] = np.nan, 1
    assert np.isnan(compare(a, b)[0])


def test_prediction_factors_have_the_same_bits_in_torch():
    planes = Transform((64, 40, 50)).forward(field((64, 40, 50), 8))
    classes = frequency_classes(*planes.shape[2:4])
    alphas = fit_alphas(planes, classes)
    assert alphas.any()
    assert np.array_equal(fit_alphas(torch.from_numpy(planes), classes), alphas)


def test_inner_products_are_exact_in_any_order():
    x = field((30, 70_000), 9)
    shuffled = np.random.default_rng(0).permutation(70_000)
    found = _inner_products(x)
    assert _inner_products(np.ascontiguousarray(x[:, shuffled])).tobytes() == found.tobytes()
    exact = x.astype(np.float64) @ x.T.astype(np.float64)
    assert np.abs(found - exact).max() < 1e-9 * np.abs(exact).max()


@pytest.mark.parametrize("name", ["native", "numba"])
@pytest.mark.parametrize("n", [1, 2, 3, 40, 130])
def test_eigenvectors_are_those_of_the_matrix(use, name, n):  # noqa: F811
    use(name)
    rng = np.random.default_rng(n)
    t = np.arange(n)
    waves = np.stack([np.sin(0.37 * t), np.cos(0.37 * t), 1e-3 * np.sin(0.9 * t)])
    square = rng.standard_normal((n, n))
    for matrix in (square @ square.T, square + square.T, waves.T @ waves, np.zeros((n, n)), np.eye(n),
                   np.diag(t - 3.0), np.ones((n, n))):  # fmt: skip
        values, vectors = eigh(matrix)
        size = np.linalg.norm(matrix, 2)
        assert np.abs(matrix @ vectors - vectors * values).max() <= 1e-14 * size * n**0.5
        assert np.abs(vectors.T @ vectors - np.eye(n)).max() < 1e-14 * n**0.5
        assert np.abs(values - np.linalg.eigvalsh(matrix)).max() <= 1e-14 * size * n**0.5
        assert np.all(np.diff(values) >= 0)


@pytest.mark.parametrize("n", [1, 2, 5, 33])
def test_eigenvectors_and_products_have_the_same_bits(use, n):  # noqa: F811
    rng, found = np.random.default_rng(n), set()
    square, low = rng.standard_normal((n, n)), rng.standard_normal((n, 2))
    x = rng.standard_normal((3, 7, 1030))
    for name in NAMES:
        use(name)
        every = [eigh(matrix) for matrix in (square + square.T, low @ low.T, np.zeros((n, n)))]
        made = [product(square[:, :1] + np.arange(7), x.astype(t)) for t in ("f4", "f8", "i8")]
        found.add(b"".join(part.tobytes() for parts in (*every, made) for part in parts))
    assert len(found) == 1


def test_kernels_are_native_here(use):  # noqa: F811
    """Else the tests above compare numba with itself."""
    use("native")
    if kernels.library() is None:
        pytest.skip("the package was installed without native kernels")


def test_steps_are_powers_of_two_rounded_to_nearest():
    for index in [*range(-5000, 5000, 7), -20000, 3 * 512]:
        assert step_of(index) == pytest.approx(2 ** (index / 512), rel=3e-16)
    assert step_of(-1024) == 0.25 and step_of(256) == np.sqrt(2.0)
