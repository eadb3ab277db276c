"""Tables of what generation saves say what the records say, losses included."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_cli_generated import write_combined

from caesar_freq.data.turbulence import Flow
from caesar_freq.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import generative
import generative_quality
import generative_report


def record(strategy, size, field="waves", target=1e-2, **more):
    return {
        "model": "", "domain": "in-domain", "field": field, "target": target, "strategy": strategy,
        "bytes": size, "original": 4000, "nrmse": target, "seconds": 1.0, "modes": {"plain": 16},
    } | more  # fmt: skip


RECORDS = [
    record("frequency", 100), record("restoration", 90), record("student", 130),
    record("both", 120), record("auto", 89, modes={"plain+restoration": 16}, seconds=3.0),
    record("frequency", 1000, "noise"), record("auto", 1003, "noise"),
]  # fmt: skip


def test_savings_are_percent_of_the_plain_file():
    table = generative_report.savings(RECORDS).set_index("field")
    row = table.loc["waves"]
    assert row["plain CR"] == 40 and row["auto time"] == 3
    assert [round(row[c]) for c in ("restoration", "keyframes", "both", "auto")] == [
        10,
        -30,
        -20,
        11,
    ]


def test_losses_are_in_the_table_and_listed():
    text = generative_report.markdown(generative_report.savings(RECORDS))
    assert (
        "| waves | 0.01 | 40.0 | +10.0 | -30.0 | -20.0 | +11.0 | plain+restoration | 3.0 |" in text
    )
    assert "| noise | 0.01 | 4.0 | – | – | – | -0.3 | plain | 1.0 |" in text
    assert text.split("larger than plain")[1].split() == ["-", "noise,", "0.01:", "3", "bytes"]
    assert generative_report.plot(generative_report.savings(RECORDS)).startswith(b"\x89PNG")


def test_spectrum_finds_a_wave_where_it_is():
    y, x = np.mgrid[:64, :64]
    wave = np.cos(2 * np.pi * (6 * x + 8 * y) / 64)[None]
    assert np.argmax(generative_quality.spectrum(wave)) + 1 == 10


def test_a_wider_box_has_the_same_flow(monkeypatch):
    """The wavenumber where the force acts doubles, so eddies keep their size in grid points."""
    monkeypatch.setattr(generative, "Flow", partial(Flow, size=64, spin_up=300, viscosity=8e-3,
                                                    force_wavenumber=4, initial_wavenumber=3))  # fmt: skip
    small, wide = (generative.turbulence(5, 8, side) for side in (64, 128))
    assert wide.shape == (8, 128, 128)
    assert np.std(wide) == pytest.approx(np.std(small), rel=0.2)
    slope = [np.std(np.diff(x, axis=2)) / np.std(x) for x in (small, wide)]
    assert slope[1] == pytest.approx(slope[0], rel=0.2)


def test_a_run_measures_what_is_missing_and_compares_ways_to_fill_in(tmp_path, monkeypatch, capsys):
    write_combined(tmp_path / "model.pth")
    t, y, x = np.ogrid[:32, :40, :40]
    moving = np.sin(x / 4 + t / 3) * np.cos(y / 5) + 0.1 * np.random.default_rng(0).random(
        (32, 40, 40)
    )
    np.savez(tmp_path / "winds.npz", data=moving.astype(np.float32)[None, None])
    monkeypatch.setattr(generative, "STRIDES", ())
    monkeypatch.setattr(generative, "turbulence", lambda *_, **__: moving.astype(np.float32))
    monkeypatch.setattr(generative_quality, "ENSEMBLE", 2)
    argv = ["--model", tmp_path / "model.pth", "--zero_shot", tmp_path / "winds.npz", "--targets",
            "1e-2", "--frames", "32", "--side", "32", "--output_dir", tmp_path / "out"]  # fmt: skip
    assert generative.main([str(a) for a in argv]) == 0
    lines = (tmp_path / "out" / "records.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert {r["strategy"] for r in found} == set(generative.STRATEGIES)
    assert {r["field"] for r in found} == {"winds", "turbulence, other regime"}
    assert all(r["nrmse"] <= 1e-2 and r["bytes"] > 0 for r in found)
    text = (tmp_path / "out" / "savings.md").read_text()
    assert "| linear interpolation | 1.000 |" in text and "mean of 2" in text
    monkeypatch.setattr(generative, "measure", None)  # nothing is measured twice
    assert generative.main([str(a) for a in argv]) == 0


def test_a_file_that_is_not_there_is_refused(tmp_path):
    argv = ["--model", "m.pth", "--in_domain", str(tmp_path / "no.npz")]
    with pytest.raises(InputError, match=r"no\.npz does not exist"):
        generative.fields(generative.parse(argv))


@pytest.mark.parametrize("name", ["turbulence", "turbulence_wide", "winds"])
def test_the_models_measured_are_those_described_and_save_bytes(name):
    folder = Path(generative.__file__).with_name("models")
    sha = hashlib.sha256((folder / f"{name}.pth").read_bytes()).hexdigest()
    assert f"| {sha[:16]} |" in (folder / "README.md").read_text()
    if name != "winds":
        flow = Flow(size=64, frames=16, stride=20, spin_up=300, viscosity=8e-3, force_wavenumber=4,
                    initial_wavenumber=3)  # fmt: skip
        student = generative.load_predictor(folder / f"{name}.pth", "student")
        x = generative.simulate(flow, 5)
        plain, restored = (
            generative.measure(x, 1e-2, strategy, student)["bytes"]
            for strategy in ("frequency", "restoration")
        )
        assert restored < 0.97 * plain
