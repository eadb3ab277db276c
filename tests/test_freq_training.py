"""Phase 1: exact rounding, pmf fits, quantiser shapes, selection, and resuming after SIGKILL."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import caesar_freq
from caesar_freq import train_freq_compressor as phase1
from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.data.blocks import Volume
from caesar_freq.entropy import pmf_fit
from caesar_freq.entropy.network import UNIT_BIN, bins_reference
from caesar_freq.entropy.tables import build_tables
from caesar_freq.errors import ConfigError, InputError
from caesar_freq.training import grid_fit
from caesar_freq.training.qat import MagnitudeBits, ScaleNetwork
from caesar_freq.training.quantiser_fit import fit_centroids, fit_dead_zones
from caesar_freq.training.rows import encoders, gather
from caesar_freq.transform.blocks import Transform

NETWORK = ("w1", "b1", "w2", "b2", "w3", "b3")


def waves(frames: int, size: int, seed: int) -> np.ndarray:
    """Drifting waves with a falling spectrum and a little noise, float32 ``[T, H, W]``."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(*(np.arange(n) / 16 for n in (frames, size, size)), indexing="ij")
    out = 0.002 * rng.standard_normal(t.shape)
    for k in range(1, 24):
        a, b, c, phase = rng.standard_normal(4)
        out += np.sin(k * (0.2 * a * t + 0.5 * b * y + 0.5 * c * x) + 6 * phase) / k**1.5
    out -= out.mean()
    return (out / np.ptp(out)).astype(np.float32)


def rng_features(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 128, (n, 24), dtype=np.uint8)


def wild_network(seed: int) -> ScaleNetwork:
    """A network whose weights reach their limits and whose bins cover the range."""
    torch.manual_seed(seed)
    network = ScaleNetwork()
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.mul_(6).add_(0.02)
            layer.bias.normal_(0, 2)
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_network_is_the_integer_network(dtype):
    features = rng_features(20_000)
    for seed in range(4):
        network = wild_network(seed)
        weights = network.integers()
        network.rounding = True
        with torch.no_grad():
            position = network.to(dtype)(torch.from_numpy(features).to(dtype)).numpy()
        expected = bins_reference(features, tuple(weights[name] for name in NETWORK))
        assert len(np.unique(expected)) > 10
        np.testing.assert_array_equal(np.clip(position, 0, 79), expected)


def test_integers_go_back_into_a_network_and_rounding_passes_gradients():
    network = wild_network(1)
    weights = network.integers()
    other = ScaleNetwork()
    other.load_integers(weights)
    for name, value in other.integers().items():
        np.testing.assert_array_equal(value, weights[name])
    other.rounding = True
    other(torch.from_numpy(rng_features(500)).float()).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in other.parameters())


def test_law_of_a_model_has_the_code_lengths_of_its_tables():
    """The training loss is the real cost: against the table's own probabilities, too."""
    model = FrequencyModel.base()
    law = MagnitudeBits()
    law.load_pmf(model.pmf)
    bins, m = (a.ravel() for a in np.meshgrid(np.arange(20, 60), np.arange(12), indexing="ij"))
    with torch.no_grad():
        learned = law(torch.from_numpy(bins + 0.5).float(), torch.from_numpy(m).float()).numpy()
    ideal = pmf_fit.code_lengths(model.pmf, bins, m)
    frequent = ideal < 12
    np.testing.assert_allclose(learned[frequent], ideal[frequent], rtol=2e-3, atol=2e-3)
    tables = build_tables(model.pmf)
    known = frequent & (m < tables.escape[bins])
    slots = np.maximum(1, tables.cumulative[bins, m + 1] - tables.cumulative[bins, m])
    real = 16 - np.log2(slots) + (m > 0)
    np.testing.assert_allclose(real[known], ideal[known], atol=0.15)


def test_pmf_fit_finds_the_law_that_made_the_data():
    truth = np.array([[20_000, 16_384, 8 << 20, 2 << 20]] * 80, np.uint32)
    rng = np.random.default_rng(3)
    n = 200_000
    second = rng.random(n) < 0.25
    m = rng.geometric(np.where(second, 1 / 8, 1 / 2))
    m[rng.random(n) < 20_000 / 65_536] = 0
    bins = np.full(n, 44)
    pmf = pmf_fit.fit_pmf(bins, m, np.ones(n))
    np.testing.assert_allclose(pmf[44].astype(float), truth[44], rtol=0.06)
    loss = pmf_fit.code_lengths(pmf, bins, m).mean() - pmf_fit.code_lengths(truth, bins, m).mean()
    assert loss < 1e-4


def test_pmf_weights_count_like_repeated_rows():
    rng = np.random.default_rng(5)
    m, bins = rng.geometric(0.4, 40_000) - 1, rng.integers(38, 42, 40_000)
    weights = rng.integers(1, 4, 40_000)
    weighted = pmf_fit.fit_pmf(bins, m, weights)
    repeated = pmf_fit.fit_pmf(
        np.repeat(bins, weights), np.repeat(m, weights), np.ones(weights.sum())
    )
    # the prior counts for less among more rows, which rare magnitudes feel
    probabilities = [2.0 ** -pmf_fit.code_lengths(p, bins, m) for p in (weighted, repeated)]
    np.testing.assert_allclose(*probabilities, rtol=0.05, atol=1e-4)


def test_bins_without_data_borrow_a_shape_of_their_own_scale():
    rng = np.random.default_rng(4)
    bins = np.repeat(np.arange(30, 50), 5000)
    scale = 2.0 ** ((bins + 0.5 - UNIT_BIN) / 4)
    m = np.rint(np.abs(rng.laplace(0, scale))).astype(np.int64)
    pmf = pmf_fit.fit_pmf(bins, m, np.ones(len(m)))
    model = replace(FrequencyModel.base(), pmf=pmf)  # checks the ranges
    assert (np.diff(pmf[:, 0].astype(int)) <= 0).all(), "larger scales have fewer zeros"
    mix, long = pmf[:, 1] / 2.0**16, 2.0**24 / pmf[:, 2:]
    mean = (1 - mix) * long[:, 0] + mix * long[:, 1]
    assert (np.diff(mean[40:]) > 0).all(), "larger scales have larger magnitudes"
    # an unseen bin costs about what its Laplace law would
    large = np.rint(np.abs(rng.laplace(0, 2.0 ** (20.5 / 4), 20_000)))
    bits = pmf_fit.code_lengths(pmf, np.full(20_000, 60), large).mean()
    assert bits < np.log2(2 * np.e * 2.0 ** (20.5 / 4)) + 0.1
    assert (np.diff(model.tables.cumulative, axis=1) >= 0).all()


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume("waves", 0, 0, waves(16, 48, 1), 0.0, 1.0)


def test_gather_gives_every_set_the_same_say_and_repeats_itself(volume):
    model = FrequencyModel.base()
    first, again = (gather([volume], model, 2, 500, 9) for _ in range(2))
    for name in ("features", "magnitudes", "weights"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    bits = np.log2(1 + 2.0 * first.magnitudes) + 0.05
    edges = np.flatnonzero(np.diff(first.weights)) + 1
    per_set = [part.sum() for part in np.split(bits * first.weights, edges)]
    assert len(per_set) > 12, "six transforms, keyframes and residuals, two steps each"
    np.testing.assert_allclose(per_set, per_set[0], rtol=1e-3)
    # short time blocks of generated frames are among them: 18 an octave of the block
    assert {18 * 1, 18 * 2, 18 * 4} <= set(np.unique(first.features[:, 21]).tolist())


def test_nothing_that_varies_is_an_input_error():
    flat = Volume("flat", 0, 0, np.zeros((4, 8, 8), np.float32), 0.0, 1.0)
    with pytest.raises(InputError, match="nothing that varies"):
        gather([flat], FrequencyModel.base(), 1, 10, 0)


def test_lambda_bpp_moves_the_dead_zones_and_trades_error_for_bits(volume):
    base = FrequencyModel.base()
    parts = encoders([volume], base, 1)
    narrow, neutral, wide = (fit_dead_zones(base, parts, v) for v in (0.001, 0.01, 0.05))
    loose = slice(3, None)  # at tight bounds few coefficients are near the threshold
    assert (narrow.dead_zone <= neutral.dead_zone)[loose].all()
    assert (neutral.dead_zone <= wide.dead_zone)[loose].all()
    assert narrow.dead_zone[5] < neutral.dead_zone[5] < wide.dead_zone[5]
    encoder = VolumeEncoder(volume.values, Transform(volume.values.shape, 16, 16, "lot"), base)
    step = 0.02
    codes = [encoder.encode(step, m.dead_zone_at(6e-3)) for m in (narrow, wide)]
    sizes = [len(code.data) for code in codes]
    errors = [encoder.coefficient_error(code, step) for code in codes]
    assert sizes[0] > sizes[1] and errors[0] < errors[1]


def test_centroids_lower_the_error_at_the_same_levels(volume):
    base = FrequencyModel.base()
    plain = replace(base, centroid=np.zeros((20, 3), np.int8))
    fitted = fit_centroids(plain, encoders([volume], plain, 1))
    assert fitted.centroid.any()
    errors = []
    for model in (plain, fitted):
        encoder = VolumeEncoder(volume.values, Transform(volume.values.shape, 16, 16, "lot"), model)
        errors.append(encoder.coefficient_error(encoder.encode(0.02, 0.6), 0.02))
    assert errors[1] < errors[0]


def test_tables_of_the_dependent_quantiser_fit_its_levels(volume):
    base = replace(FrequencyModel.base(), grid_pmf=None, grid_centroid=None)
    first = replace(
        base, grid_pmf=grid_fit._first(base.pmf), grid_centroid=np.zeros((20, 3), np.int8)
    )
    fitted = grid_fit.fit_grids(base, [volume], 0)
    assert fitted.fingerprint == grid_fit.fit_grids(base, [volume], 0).fingerprint
    costs = []
    for model in (first, fitted):
        x, step = volume.values, 0.02
        encoder = VolumeEncoder(x, Transform(x.shape, 16, 16, "lot"), model, True)
        code = encoder.encode(step, 0.6)
        costs.append(8 * len(code.data) + lagrangian(step) * encoder.coefficient_error(code, step))
    assert costs[1] < 0.99 * costs[0]
    flat = replace(volume, values=np.zeros_like(volume.values))
    assert grid_fit.fit_grids(base, [flat], 0).grid_pmf is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("train", 1), ("val", 2)):
        np.savez(folder / f"{name}.npz", data=waves(16, 48, seed)[None, None])
    return folder


def flags(data, output, **changes) -> list[str]:
    values = {
        "train_data": data / "train.npz", "val_data": data / "val.npz", "output_dir": output,
        "device": "cpu", "epochs": 50, "max_steps": 40, "lr": 5e-3, "steps_per_volume": 2,
        "rows_per_set": 400, "batch_size": 1, "evaluations": 2, "checkpoint_every": 15, **changes,
    }  # fmt: skip
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole")
    assert phase1.main(flags(data, output)) == 0
    return output


def test_training_writes_a_model_that_codes(data, uninterrupted):
    saved = torch.load(uninterrupted / "best_model.pth", weights_only=True)
    assert saved["format"] == "caesar-freq/frequency/1"
    assert saved["config"]["lambda_bpp"] == 0.01
    model = load_frequency_model(uninterrupted / "best_model.pth")
    assert model.fingerprint == load_frequency_model(uninterrupted / "best_model.cfm").fingerprint
    x = np.load(data / "val.npz")["data"]
    stream = caesar_freq.encode(x, "nrmse", 1e-3, model=model)
    error = np.sqrt(np.mean((caesar_freq.decode(stream).astype(float) - x) ** 2)) / np.ptp(x)
    assert error <= 1e-3
    with open(uninterrupted / "history.csv") as table:
        history = list(csv.DictReader(table))
    assert [int(row["step"]) for row in history] == [20, 40]
    assert float(history[1]["val_log2_bytes"]) < float(history[0]["val_log2_bytes"])
    assert not (uninterrupted / "resume").exists()


def test_resume_after_sigkill_is_bit_identical(data, uninterrupted, tmp_path):
    command = [sys.executable, "-m", "caesar_freq.train_freq_compressor", *flags(data, tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("resume/*/last.ckpt")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "best_model.pth").exists()
    assert list(tmp_path.glob("resume/*/last.ckpt"))
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resumed at step" in again.stdout
    whole, resumed = ((d / "best_model.cfm").read_bytes() for d in (uninterrupted, tmp_path))
    assert whole == resumed
    histories = []
    for folder in (uninterrupted, tmp_path):
        with open(folder / "history.csv") as table:
            rows = list(csv.DictReader(table))
        histories.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    assert histories[0] == histories[1]


def test_a_start_model_takes_part_in_the_selection(data, tmp_path):
    # a learning rate that spoils any model: the start must win
    phase1.main(flags(data, tmp_path, init="base", lr=10.0, max_steps=10, evaluations=1))
    chosen = load_frequency_model(tmp_path / "best_model.cfm")
    assert chosen.fingerprint == FrequencyModel.base().fingerprint
    with open(tmp_path / "history.csv") as table:
        first, last = csv.DictReader(table)
    assert int(first["step"]) == 0 and first["best"] == "1" and last["best"] == "0"


def test_lambda_bpp_reaches_a_start_model_that_wins(data, tmp_path):
    spoilt = {"init": "base", "lr": 10.0, "max_steps": 1, "evaluations": 1}
    phase1.main(flags(data, tmp_path, **spoilt, lambda_bpp=0.05))
    chosen, base = load_frequency_model(tmp_path / "best_model.cfm"), FrequencyModel.base()
    assert (chosen.dead_zone[3:] >= base.dead_zone[3:]).all()
    assert chosen.dead_zone[4] > base.dead_zone[4]
    np.testing.assert_array_equal(chosen.pmf, base.pmf)


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [({"lambda_bpp": 0}, "lambda_bpp"), ({"dct_block_size": 5, "training_size": 160},
                                         "dct_block_size"),
     ({"evaluations": 0}, "evaluations"), ({"train_data": "missing.npz"}, "missing.npz")],
)  # fmt: skip
def test_wrong_settings_are_named(data, tmp_path, changes, culprit):
    with pytest.raises(ConfigError, match=culprit):
        phase1.main(flags(data, tmp_path, **changes))
    assert not (tmp_path / "best_model.pth").exists()
