"""Generated blocks in streams: chosen by bytes, bounded, tied to their model's file."""

from pathlib import Path

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import chunk
from caesar_freq.codec.checking import bound_holds
from caesar_freq.errors import CorruptStreamError, ModelError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def no_levels(monkeypatch):
    """A field that repeats itself exactly is cheapest as levels; here blocks are compared."""
    monkeypatch.setattr(chunk, "_ASK_LATTICE", np.inf)


class Motion:
    """Predictor that shifts keyframes by a known speed: perfect for `moving`, bad elsewhere."""

    n_frame, interpo_rate = 16, 3
    keyframes = (0, 3, 6, 9, 12, 15)
    source = "motion.pth"
    restores, spacings = False, (3,)

    def __init__(self, kind="student", sha256="ab" * 32, speed=3, drift=0.0):
        self.kind, self.sha256, self.speed, self.drift = kind, sha256, speed, drift

    def restore(self, frames, noise, step, targets):
        keys = [int(np.flatnonzero(np.isfinite(noise[0, : t + 1]))[-1]) for t in targets]
        made = [np.roll(frames[:, k], self.speed * (t - k), axis=-1) for t, k in zip(targets, keys)]
        return np.stack(made, axis=1).astype(np.float32) + np.float32(self.drift)

    def predict(self, keyframes, step):
        """Only streams of the first kind, which are no longer written, need it."""
        missing = [t for t in range(self.n_frame) if t % self.interpo_rate]
        frames = [
            np.roll(keyframes[:, t // 3], self.speed * (t % 3), axis=-1) + self.drift
            for t in missing
        ]
        return np.stack(frames, axis=1).astype(np.float32)


def moving(frames=40, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((48, 64)).astype(np.float32)
    for axis in (0, 1):
        base = base + np.roll(base, 1, axis) + np.roll(base, 2, axis)
    return np.stack([np.roll(base, 3 * t, axis=1) for t in range(frames)])


CASES = [("nrmse", 1e-2), ("rel", 1e-2), ("abs", 0.05), ("psnr", 45.0)]


@pytest.mark.parametrize("mode, bound", CASES)
def test_auto_uses_a_good_predictor_and_keeps_the_bound(mode, bound):
    x = moving()
    plain = caesar_freq.encode(x, mode, bound)
    auto = caesar_freq.encode(x, mode, bound, generator=Motion())
    assert len(auto) < 0.8 * len(plain)
    about = caesar_freq.info(auto)
    assert about["modes_used"] == {"student": 40}
    assert about["bytes_by_stream"]["keyframes"] > 0
    assert sum(about["bytes_by_stream"].values()) == len(auto)
    decoded = caesar_freq.decode(auto, generator=Motion())
    assert bound_holds(x, decoded, mode, bound)


def test_auto_never_takes_a_bad_predictor():
    x = moving()
    plain = caesar_freq.encode(x, "nrmse", 1e-2)
    auto = caesar_freq.encode(x, "nrmse", 1e-2, generator=Motion(speed=-9))
    assert auto == plain


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_forced_mode_keeps_the_bound_even_if_it_costs(kind):
    x = moving()
    bad = Motion(kind, speed=-9)
    data = caesar_freq.encode(x, "rel", 1e-3, generator=bad, strategy=kind)
    assert caesar_freq.info(data)["modes_used"][kind] == 40
    assert bound_holds(x, caesar_freq.decode(data, generator=bad), "rel", 1e-3)


@pytest.mark.parametrize("mode, bound", [("rel", 1e-2), ("abs", 0.05)])
def test_pointwise_bound_survives_another_device_s_rounding(mode, bound):
    x = moving()
    data = caesar_freq.encode(x, mode, bound, generator=Motion())
    spread = np.ptp(x)
    # drift of the network relative to the range, as large as the encoder allows for
    other = Motion(drift=1e-5)
    decoded = caesar_freq.decode(data, generator=other)
    assert not np.array_equal(decoded, caesar_freq.decode(data, generator=Motion()))
    limit = bound if mode == "abs" else bound * spread
    assert np.abs(decoded.astype(np.float64) - x).max() <= limit


def test_stream_names_the_model_it_needs():
    data = caesar_freq.encode(moving(), "nrmse", 1e-2, generator=Motion())
    for generator in (None, Motion(sha256="cd" * 32)):
        with pytest.raises(ModelError, match=r"motion\.pth with sha256 abab"):
            caesar_freq.decode(data, generator=generator)
    assert caesar_freq.info(data)["generator_sha256"] == "ab" * 32


def test_generators_of_two_files_are_refused():
    pair = [Motion("student"), Motion("teacher", sha256="cd" * 32)]
    with pytest.raises(ModelError, match="merge them"):
        caesar_freq.encode(moving(), "nrmse", 1e-2, generator=pair)
    with pytest.raises(ModelError, match="needs a teacher model"):
        caesar_freq.encode(moving(), "nrmse", 1e-2, generator=Motion(), strategy="teacher")


def test_streams_of_the_first_kind_stay_decodable():
    """Whole blocks in their model's own layout; written by format version 1, no longer written."""
    data = (GOLDEN / "made_blocks.cfq").read_bytes()
    assert caesar_freq.info(data)["modes_used"] == {"student": 16, "plain": 3}
    decoded = caesar_freq.decode(data, generator=Motion())
    assert bound_holds(moving(19)[:, :24, :32], decoded, "nrmse", 2e-2)
    expected = np.load(GOLDEN / "made_blocks.npz")["data"]
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=1e-4)
    longer = Motion()
    longer.n_frame = 19
    with pytest.raises(CorruptStreamError, match="another length"):
        caesar_freq.decode(data, generator=longer)


def test_missing_values_and_float64_in_generated_blocks():
    x = moving().astype(np.float64)
    x[2:5, 10:20, 10:20] = np.nan
    data = caesar_freq.encode(x, "nrmse", 1e-2, generator=Motion(), strategy="student")
    decoded = caesar_freq.decode(data, generator=Motion())
    np.testing.assert_array_equal(np.isnan(decoded), np.isnan(x))
    assert bound_holds(x, decoded, "nrmse", 1e-2)
