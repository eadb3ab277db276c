"""Tables of the benchmarks say what the records say; what was measured is kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caesar_freq import evaluate
from caesar_freq.data.simulated import random_field
from caesar_freq.errors import ConfigError, InputError
from caesar_freq.reporting.records import _MEASURED

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import choice
import device as device_bench
import gpu_memory
import limits
import peers as peers_bench
import peers_report
import simulated
import speed


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for number in (1, 2):
        (tmp_path / f"d{number}").mkdir()
        np.savez(tmp_path / f"d{number}" / f"waves{number}.npz", data=np.zeros((1, 1, 2, 3, 4)))
    monkeypatch.setattr(peers_bench.subprocess, "run", evaluated)
    return tmp_path


def evaluated(command: list[str], env: dict) -> SimpleNamespace:
    """What the rule `evaluate` leaves behind, without its work."""
    args = evaluate.parse(command[3:])
    size = 100 + 7 * len(args.codec) + len(args.dataset) * len(args.criterion)
    file = evaluate.compressed_path(args.output, args.codec, args.targets[0], False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    record = dict.fromkeys(_MEASURED, 1.0) | {
        "dataset": args.dataset, "codec": args.codec, "criterion": args.criterion,
        "target": args.targets[0], "original_bytes": 9600, "compressed_file": file.name,
        "status": "ok", "bound_held": True, "compressed_bytes": size, "cr": 9600 / size,
    }  # fmt: skip
    content = {"format": "caesar-freq/evaluation/1", "records": [record]}
    args.output.write_text(json.dumps(content))
    return SimpleNamespace(returncode=0)


def bench(folder: Path, *more) -> Path:
    out = folder / "results"
    argv = ["--data_dir", folder / "d1", folder / "d2", "--no-simulated", "--output_dir", out,
            "--targets", "1e-2", "--max_rel", "1e-2", *more]  # fmt: skip
    assert peers_bench.main([str(a) for a in argv]) == 0
    return out


def records(out: Path) -> dict[tuple, dict]:
    found = [r for p in (out / "raw").rglob("*.json") for r in json.loads(p.read_text())["records"]]
    return {(r["dataset"], r["codec"], r["criterion"]): r for r in found}


def test_a_run_goes_on_where_it_stopped_and_reports_what_it_has(folder, capsys, monkeypatch):
    out = bench(folder, "--codecs", "zfp", "tthresh")
    first = records(out)
    assert set(first) == {
        (f"waves{n}", *pair)
        for n in (1, 2)
        for pair in (("zfp", "nrmse"), ("zfp", "max_rel"), ("tthresh", "nrmse"))
    }
    assert "TTHRESH has no max_rel" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    bench(folder, "--codecs", "frequency", "zfp")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    both = records(out)
    assert first.items() <= both.items() and ("waves1", "frequency", "nrmse") in both
    text = (out / "ratios.md").read_text()
    gains = [
        both[f"waves{n}", "frequency", "nrmse"]["cr"]
        / max(both[f"waves{n}", codec, "nrmse"]["cr"] for codec in ("zfp", "tthresh"))
        for n in (1, 2)
    ]
    assert f"| NRMSE 0.01 | 2 | {np.sqrt(np.prod(gains)):.3f} | {min(gains):.3f} |" in text
    assert (out / "ratios.png").read_bytes().startswith(b"\x89PNG")
    ours = out / "raw" / "waves1" / "frequency_nrmse_0.01.json"
    peer = ours.with_name("zfp_nrmse_0.01.json")
    before = ours.stat().st_mtime_ns, peer.stat().st_mtime_ns
    bench(folder, "--codecs", "frequency", "zfp")
    assert before == (ours.stat().st_mtime_ns, peer.stat().st_mtime_ns)
    # an edit of our code makes our records out of date, and no peer's
    monkeypatch.setattr(peers_bench, "evaluation_code", lambda codec: "edited")
    peers_bench.measured_with.cache_clear()
    bench(folder, "--codecs", "frequency", "zfp")
    assert ours.stat().st_mtime_ns > before[0] and peer.stat().st_mtime_ns == before[1]
    # other data under the same name make all out of date
    np.savez(folder / "d1" / "waves1.npz", data=np.ones((1, 1, 2, 3, 4)))
    peers_bench.sha256.cache_clear()
    bench(folder, "--codecs", "zfp")
    assert peer.stat().st_mtime_ns > before[1]
    peers_bench.measured_with.cache_clear()


def test_every_loss_and_gap_is_listed(tmp_path):
    def row(dataset, **ratios):
        return peers_report.Row(dataset, "nrmse", 1e-2, ratios)

    rows = [row("a", frequency=4.0, sz3=2.0), row("b", frequency=3.0, sz3=4.0, sperr=2.0),
            row("c", frequency=None, sz3=4.0), row("d", frequency=9.0)]  # fmt: skip
    loaded = [
        {"dataset": "c", "codec": "frequency", "criterion": "nrmse", "target": 1e-2,
         "status": "failed", "error": "no luck"},
        {"dataset": "d", "codec": "sz3", "criterion": "nrmse", "target": 1e-2,
         "status": "missing", "error": ""},
    ]  # fmt: skip
    text = peers_report.markdown(rows, loaded)
    assert f"| NRMSE 0.01 | 2 | {(2 * 0.75) ** 0.5:.3f} | 0.750 | b | 1 |" in text
    losses = text.split("## Losses")[1].split("##")[0].strip()
    assert losses == "- b, NRMSE 0.01: CAESAR-Freq 3 against SZ3 4 (-25.0 %)"
    assert "c, frequency, nrmse 0.01: no luck" in text and "not measured yet: 1" in text
    assert peers_report.plot(rows).startswith(b"\x89PNG")


def test_folders_are_checked_before_anything_runs(folder):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no .npz"):
        peers_bench.data_files([folder / "d1", folder / "empty"])
    with pytest.raises(InputError, match="two data files are called waves1.npz"):
        peers_bench.data_files([folder / "d1", folder / "d1"])


@pytest.mark.parametrize("name", ["sim_climate", "sim_scalar", "sim_gray_scott"])
def test_simulated_fields_are_alive_and_come_again(name):
    field = simulated.SETS[name]()
    assert field.dtype == np.float32 and field.ndim == 5 and np.isfinite(field).all()
    change = np.abs(np.diff(field, axis=2)).mean(axis=(1, 2, 3, 4))
    assert (change > 1e-3 * field.std(axis=(1, 2, 3, 4))).all()
    np.testing.assert_array_equal(field[..., :8, :8], simulated.SETS[name]()[..., :8, :8])


def test_speeds_are_compared_within_a_round():
    times = {
        "CAESAR-Freq, 1 thread": {"encode": [4.0, 8.0, 4.0], "decode": [2.0, 2.0, 2.0]},
        "SZ3": {"encode": [1.0, 4.0, 2.0], "decode": [1.0, 1.0, 1.0]},
        "SPERR": {"encode": [2.0, 8.0, 4.0], "decode": [4.0, 4.0, 4.0]},
    }
    for one in times.values():
        one |= {"cr": 10.0, "nrmse": 1e-3}
    assert speed.relative(times, "CAESAR-Freq, 1 thread", "SZ3", "encode") == 0.5
    peaks = {name: {"encode": 3.0, "decode": 2.0} for name in times}
    starts = {"--version": 0.1, "--version imports": "[]", "info": 0.2, "info imports": "['numba']"}
    text = speed.table(times, peaks, starts, 16.0)
    assert (
        "| CAESAR-Freq, 1 thread | 10.00 | 0.001 | 4.0 | 8.0 | 0.50 | 0.50 | 1.00 | 2.00 |" in text
    )
    assert "`caesar-freq info`: 0.20 s; of torch, numba, scipy it imports ['numba']" in text
    assert speed.plot(times, 16.0).startswith(b"\x89PNG")


def test_every_codec_that_is_timed_keeps_the_target():
    rng = np.random.default_rng(0)
    t, y, x = np.meshgrid(np.arange(16.0), np.arange(24.0), np.arange(20.0), indexing="ij")
    field = np.sin(0.3 * x + 0.2 * t) * np.cos(0.2 * y) + 0.01 * rng.standard_normal(x.shape)
    array = field.astype(np.float32)[None, None]
    codecs = speed.ours() | {name: speed.peer(name, array) for name in speed.PEERS}
    times = speed.rounds(codecs, array, 2)
    assert len(times) >= 4
    for one in times.values():
        assert len(one["encode"]) == len(one["decode"]) == 2
        assert one["nrmse"] <= speed.TARGET and one["cr"] > 1


def test_devices_are_compared_byte_by_byte(tmp_path, capsys):
    assert device_bench.main(["--rounds", "1", "--frames", "4", "--size", "16",
                              "--output_dir", str(tmp_path)]) == 0  # fmt: skip
    content = json.loads((tmp_path / "device.json").read_text())
    assert {"transform", "contexts, network, rANS", "encode", "decode"} <= set(content["seconds"])
    for times in content["seconds"].values():
        assert list(times) == list(content["devices"]) and all(len(t) == 1 for t in times.values())
    text = (tmp_path / "device.md").read_text()
    assert text in capsys.readouterr().out
    assert ("nothing was measured on a GPU" in text) == (len(content["devices"]) == 2)
    calls = {"a": {"x": lambda: np.zeros(3)}, "b": {"x": lambda: np.ones(3)}}
    with pytest.raises(RuntimeError, match="b: x gives other bytes than C"):
        device_bench.measure(calls, 1)


@pytest.mark.parametrize("nrmse", [1e-2, 1e-3])
@pytest.mark.parametrize("slope, speed", [(3.0, 1.0), (5.0, 0.2)])
def test_choice_of_a_transform_is_within_one_percent_of_the_best(slope, speed, nrmse):
    x = random_field((64, 48, 64), 2, slope, speed)
    found = choice.judge((x - x.mean()) / np.ptp(x), nrmse)
    assert 0 <= found["regret_percent"] <= 1


def test_gpu_memory_runs_every_phase_and_claims_nothing_on_a_cpu(tmp_path, capsys):
    tiny = Path(__file__).parent / "config" / "tiny.yaml"
    out = tmp_path / "results" / "gpu_memory.md"
    options = ["--configfile", str(tiny), "--device", "cpu", "--steps", "1", "--output", str(out)]
    assert gpu_memory.main(options) == 0
    rows = [line.split(" | ") for line in out.read_text().splitlines() if "not measured" in line]
    assert [row[0].strip("| ") for row in rows] == ["freq_compressor", "diffusion", "distillation"]
    assert [row[4] for row in rows] == ["8", "16", "12"]
    assert out.read_text() in capsys.readouterr().out


def test_gpu_memory_tells_a_phase_that_outgrows_its_budget_or_fails():
    row = gpu_memory.Row
    text = gpu_memory.table(
        [row("diffusion", 16, 4, 2, 12.34), row("distillation", 12, 4, 1, 12.5),
         row("freq_compressor", 8, 8, 1, None, "error: the GPU's memory is exhausted")],
        "a card",
    )  # fmt: skip
    assert "| diffusion | 4 | 2 | 12.34 | 16 | yes |" in text
    assert "| distillation | 4 | 1 | 12.50 | 12 | NO |" in text
    assert "error: the GPU's memory is exhausted |" in text


def test_gpu_memory_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(gpu_memory.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA GPU here; --device cpu"):
        gpu_memory.main([])


def test_limits_of_prediction_know_noise_and_waves():
    rng = np.random.default_rng(0)
    noise = np.rint(rng.normal(0, 100, (12, 32, 32)))
    bits = limits.gaussian_bits(100**2)
    assert limits.stationary_bits(noise, 2, 3) == pytest.approx(bits, abs=0.05)
    assert limits.local_bits(noise, (10, 16, 16), (2, 1, 0)) == pytest.approx(bits, abs=0.05)
    t, y, x = np.ogrid[0:12, 0:32, 0:32]
    waves = np.rint(1000 * np.sin(0.4 * x + 0.3 * y - 0.5 * t))
    assert limits.local_bits(waves, (10, 16, 16), (2, 1, 0)) < 1
