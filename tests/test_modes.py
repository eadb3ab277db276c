"""Temporal modes of the field itself: the transform, their coding, and when the encoder takes them."""

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec.modes import decode_modes, encode_modes
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.modes import ModeTransform, orthonormal, temporal_modes


def wave_field(frames=96, height=40, width=56, noise=0.0, seed=0):
    """Three travelling waves with a common period that no block length divides."""
    t, y, x = np.ogrid[:frames, :height, :width]
    field = sum(
        np.sin(n * (0.37 * t - 0.21 * x) + y / (3 + n)) / n**2 for n in (1, 2, 3)
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    return (field + noise * rng.standard_normal(field.shape)).astype(np.float32)


def test_modes_leave_no_more_than_they_may():
    x = wave_field(noise=1e-3)
    modes, energies = temporal_modes(x, 1e-5)
    assert modes.shape == (96, 6) and np.all(np.diff(energies) <= 0)
    flat = x.reshape(96, -1).astype(np.float64)
    left = flat - modes @ (modes.T @ flat)
    assert np.mean(left**2) <= 1e-5
    fewer = modes[:, :5]
    assert np.mean((flat - fewer @ (fewer.T @ flat)) ** 2) > 1e-5


@pytest.mark.parametrize("x", [
    np.random.default_rng(0).standard_normal((64, 20, 20)), np.ones((8, 4, 4)),
    np.ones((300, 4, 4)),
])  # fmt: skip
def test_no_modes_where_they_cannot_pay(x):
    assert temporal_modes(x, 1e-6) is None


def test_coded_modes_are_orthonormal_and_as_precise_as_asked():
    x = wave_field()
    found = temporal_modes(x, 1e-9)
    flat = x.reshape(96, -1).astype(np.float64)
    sizes = []
    for noise in (1e-4, 1e-6, 1e-8):
        data = encode_modes(*found, noise)
        basis = decode_modes(data, 96)
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        assert np.mean((flat - basis @ (basis.T @ flat)) ** 2) < 1.1e-9 + 2 * noise
        sizes.append(len(data))
    assert sizes[0] < sizes[1] < sizes[2] < 96 * 6 * 3


def test_dependent_columns_become_zero():
    basis = orthonormal(np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]))
    np.testing.assert_array_equal(basis, [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("kind", ["lot", "dct", "haar"])
def test_transform_keeps_energy_and_inverts(kind):
    x = wave_field(frames=20, height=18, width=34).astype(np.float64)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0]
    transform = ModeTransform(x.shape, basis, 16, kind)
    planes = transform.forward(x)
    assert planes.shape == transform.planes_shape == transform.mask.shape
    np.testing.assert_allclose(transform.inverse(planes), x, atol=1e-12)
    assert np.sum(planes**2) == pytest.approx(np.sum(x**2), rel=1e-3)


@pytest.mark.parametrize("mode, bound", [("nrmse", 1e-4), ("rel", 1e-3), ("psnr", 60)])
def test_encoder_takes_them_where_they_save_bytes(mode, bound):
    x = np.stack([wave_field(noise=2e-5), wave_field(noise=2e-5, seed=1) ** 2])[:, None]
    data = caesar_freq.encode(x, mode, bound)
    info = caesar_freq.info(data)
    assert info["modes_used"] == {"own_modes": 2 * 96}
    assert sum(info["bytes_by_stream"].values()) == len(data)
    decoded = caesar_freq.decode(data)
    for before, after in zip(x.astype(np.float64), decoded.astype(np.float64)):
        spread = np.ptp(before)
        if mode == "rel":
            assert np.abs(before - after).max() <= bound * spread
        else:
            limit = bound if mode == "nrmse" else 10 ** (-bound / 20)
            assert np.sqrt(np.mean((before - after) ** 2)) <= limit * spread
    # the same frames in another order have the same modes but no smoothness for cosines to use
    shuffled = x[:, :, np.random.default_rng(0).permutation(96)]
    assert len(caesar_freq.encode(shuffled, mode, bound)) < 1.5 * len(data)


def test_encoder_leaves_noise_to_others():
    x = np.random.default_rng(2).standard_normal((64, 32, 32)).astype(np.float32)
    info = caesar_freq.info(caesar_freq.encode(x, "nrmse", 1e-3))
    assert "own_modes" not in info["modes_used"]


def test_damaged_modes_are_refused():
    modes, energies = temporal_modes(wave_field(), 1e-9)
    data = encode_modes(modes, energies, 1e-6)
    for damaged in (data[:-1], data + b"\0", b"\0" + data[1:], b"\x7f" + data[1:], b""):
        with pytest.raises(CorruptStreamError):
            decode_modes(damaged, 96)
    rng = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        try:
            assert decode_modes(bytes(bad), 96).shape == (96, modes.shape[1])
        except CorruptStreamError:
            pass
