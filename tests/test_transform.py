"""The transforms invert exactly, keep energy and sort frequencies."""

import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st

from caesar_freq.transform.axis import KINDS, near_equal_sizes
from caesar_freq.transform.blocks import Transform
from caesar_freq.transform.latent import from_cells, latents, to_cells
from caesar_freq.transform.wavelets import WAVELETS

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40))


@given(
    SHAPES,
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([8, 16, 32]),
    st.sampled_from([1, 2, 6, 16, 64, 128]),
)
@settings(max_examples=60, deadline=None)
def test_inverse_restores_any_shape(shape, kind, cell, time_block):
    x = np.random.default_rng(0).standard_normal(shape)
    transform = Transform(shape, time_block, cell, kind)
    y = transform.forward(x)
    assert y.shape == transform.planes_shape
    assert not y[~transform.mask].any()
    np.testing.assert_allclose(transform.inverse(y), x, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "kind", "cell"),
    [((1, 1, 1100), "dct", 512), ((3, 150, 90), "dct", 64), ((2, 1, 700), "dct", 256),
     ((1, 129, 300), "dct", 128), ((5, 70, 130), "lot", 64)],
)  # fmt: skip
def test_large_cells_pack_what_is_smooth_into_few_coefficients(shape, kind, cell):
    t, y, x = (np.arange(n) / 100 for n in shape)
    volume = np.sin(3 * x + 1) + np.cos(2 * y)[:, None] * x + t[:, None, None]
    transform = Transform(shape, 16, cell, kind)
    coefficients = transform.forward(volume)
    np.testing.assert_allclose(transform.inverse(coefficients), volume, atol=1e-10)
    energy = np.sort((coefficients**2).ravel())[::-1]
    assert energy[: volume.size // 100].sum() > 0.999 * energy.sum()


def test_cells_that_would_take_long_to_prepare_are_refused():
    for kind, cell in (("lot", 128), ("haar", 64), ("dct", 1024), ("dct", 48)):
        with pytest.raises(ValueError, match=f"cell {cell}"):
            Transform((1, 64, 64), 1, cell, kind)


@pytest.mark.parametrize("kind", ["dct", "lot"])
def test_coefficient_error_is_value_error(kind):
    rng = np.random.default_rng(1)
    shape = (17, 37, 49)
    transform = Transform(shape, 16, 16, kind)
    x = rng.standard_normal(shape)
    error = rng.standard_normal(transform.planes_shape) * transform.mask
    moved = transform.inverse(transform.forward(x) + error) - x
    assert np.isclose(np.sum(moved**2), np.sum(error**2), rtol=1e-12)
    assert transform.mask.sum() == x.size


def test_haar_is_orthonormal_on_even_sizes():
    x = np.random.default_rng(2).standard_normal((4, 32, 48))
    y = Transform(x.shape, 16, 16, "haar").forward(x)
    assert np.isclose(np.sum(y**2), np.sum(x**2), rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_slots_rise_in_frequency(kind):
    n = np.arange(64)
    transform = Transform((1, 1, 64), 1, 16, kind)
    strongest = []
    for cycles in (1, 9, 17, 25, 31):
        wave = np.cos(2 * np.pi * cycles * (n + 0.3) / 64)[None, None]
        energy = (transform.forward(wave) ** 2).sum(axis=(0, 1, 2, 4, 5))
        strongest.append(int(np.argmax(energy)))
    assert strongest == sorted(strongest)
    assert strongest[0] <= 2 and strongest[-1] >= 12


@pytest.mark.parametrize("kind, name", [("haar", "haar"), ("cdf97", "bior4.4")])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 6, 16, 41])
def test_wavelets_are_those_of_pywavelets(kind, name, length):
    x = np.random.default_rng(4).standard_normal((2, length, 3))
    low, high = WAVELETS[kind].split(x)
    expected = pywt.dwt(x, name, mode="periodization", axis=1)
    np.testing.assert_allclose((low, high), expected, atol=1e-14)
    joined = pywt.idwt(low, high, name, mode="periodization", axis=1)
    np.testing.assert_allclose(WAVELETS[kind].join(low, high), joined, atol=1e-14)


def test_near_equal_sizes_cover_the_axis():
    assert near_equal_sizes(37, 16) == [13, 12, 12]
    assert near_equal_sizes(1, 16) == [1]


@pytest.mark.parametrize("use_dwt", [True, False])
def test_latents_are_the_low_end_of_the_cells(use_dwt):
    x = np.random.default_rng(3).standard_normal((2, 3, 37, 49)).astype(np.float32)
    cells = to_cells(x, "haar", use_dwt)
    assert cells.shape == (2, 3, 256, 3, 4)
    np.testing.assert_array_equal(latents(x, "haar", use_dwt, 32), cells[:, :, :32])
    np.testing.assert_allclose(from_cells(cells, 37, 49, "haar", use_dwt), x, atol=1e-5)


def test_latents_keep_a_smooth_frame():
    y, x = np.mgrid[0:256, 0:256] / 256
    frame = (np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y)).astype(np.float32)
    cells = to_cells(frame)
    assert cells.shape == (256, 16, 16)
    kept = np.sum(cells[:32].astype(np.float64) ** 2) / np.sum(cells.astype(np.float64) ** 2)
    assert kept > 0.999


@pytest.mark.parametrize("kind", ["dct", "lot", "haar", "cdf97"])
@pytest.mark.parametrize("shape", [(32, 48, 64), (20, 33, 50), (1, 16, 16), (5, 1, 70)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_memory_of_the_input_makes_no_difference(kind, shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    transform = Transform(shape, 16, 16, kind)
    kept = x.copy()
    planes = transform.forward(x)
    assert np.array_equal(x, kept)
    assert transform.forward(x, overwrite=True).tobytes() == planes.tobytes()
    back = transform.inverse(planes)
    assert transform.inverse(planes.copy(), overwrite=True).tobytes() == back.tobytes()
