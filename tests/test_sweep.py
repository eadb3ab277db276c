"""Sweeps: what is tried, trials that continue and are not repeated, tables, submitit's executors."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caesar_freq import sweep
from caesar_freq.errors import CaesarError, ConfigError
from caesar_freq.sweeps import results
from caesar_freq.sweeps.space import Axis, combinations, parse_axis

PHASE_1 = ("--device", "cpu", "--epochs", "1", "--steps_per_volume", "1", "--rows_per_set", "400",
           "--batch_size", "1", "--evaluations", "1", "--init", "base", "--checkpoint_every", "1",
           "--max_steps", "3")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("train", "val"):
        field = rng.standard_normal((1, 1, 8, 16, 16)).cumsum(2).cumsum(3).cumsum(4)
        np.savez(folder / f"{name}.npz", data=field.astype(np.float32))
    return ("--train_data", str(folder / "train.npz"), "--val_data", str(folder / "val.npz"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(folder, data, *arguments, axes=("lambda_bpp=0.01,0.05",)):
    sets = [word for axis in axes for word in ("--set", axis)]
    return sweep.main(["freq_compressor", *sets, "--output_dir", str(folder), *arguments, "--",
                       *data, *PHASE_1])  # fmt: skip


def rows_of(folder):
    with open(folder / "sweep.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_axes():
    assert parse_axis("dim_mults=1 2,1 2 4") == Axis("dim_mults", ("1 2", "1 2 4"), "list")
    assert parse_axis("lr=1e-4..1e-2:log") == Axis("lr", ("1e-4", "1e-2"), "log")
    grid = combinations([parse_axis("a=1,2"), parse_axis("b=x,y,z")], None, 0)
    assert len(grid) == 6 and grid[0] == {"a": "1", "b": "x"} and grid[-1] == {"a": "2", "b": "z"}


def test_random_draws_are_within_their_range_and_extend():
    axes = [parse_axis("lr=1e-4..1e-2:log"), parse_axis("dim=8..16:int"), parse_axis("x=0..1")]
    draws = combinations(axes, 200, 0)
    rates = np.array([float(d["lr"]) for d in draws])
    assert 1e-4 <= rates.min() and rates.max() <= 1e-2
    assert 0.35 < np.mean(rates < 1e-3) < 0.65  # half of the decades
    assert {int(d["dim"]) for d in draws} == set(range(8, 17))
    assert combinations(axes, 20, 0) == draws[:20]
    assert combinations(axes, 20, 1) != draws[:20]
    assert len(combinations([parse_axis("a=1,2"), parse_axis("b=1,2")], 10, 0)) == 4


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        (["lr"], "has no name or no values"),
        (["lr=1,,2"], "has an empty value"),
        (["lr=1,1"], "names a value twice"),
        (["lr=1..2"], "which has no grid"),
        (["lr=1..2:cubic"], "cubic is no scale"),
        (["lr=2..1"], "the range is empty"),
        (["lr=0..1:log"], "begins above 0"),
        (["lr=a..b"], "ends of a range are numbers"),
        (["lr=0.5..1.5:int"], "whole ends"),
        (["lr=1e-3", "lr=1e-4"], "given twice"),
        (["momentum=0.9"], "has no such setting; it has batch_size"),
        (["use_dwt=maybe"], "neither true nor false"),
        (["lr=fast"], "invalid float value: 'fast'"),
        (["epochs=0"], "--epochs is 0; give a whole number"),
        (["seed=1", "device=cpu"], "has no such setting"),
    ],
)
def test_a_bad_specification_is_one_sentence_before_any_work(tmp_path, data, axes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run(tmp_path / "s", data, axes=axes)
    assert not (tmp_path / "s").exists()


def test_flags_of_the_phase_go_behind_the_dashes():
    with pytest.raises(ConfigError, match="--train_data x.npz: .*go behind --, as in"):
        sweep.main(["diffusion", "--set", "lr=1,2", "--train_data", "x.npz"])


def test_trials_of_the_grid_run_once_and_end_in_tables_and_a_plot(tmp_path, data, capsys):
    folder = tmp_path / "s"
    assert run(folder, data, "--jobs", "2") == 0
    rows = rows_of(folder)
    assert {row["lambda_bpp"] for row in rows} == {"0.01", "0.05"}
    for row in rows:
        trial = folder / "trials" / row["trial"]
        with open(trial / "history.csv") as stream:
            best = [r for r in csv.DictReader(stream) if r["best"] == "1"][-1]
        assert float(row["val_bytes"]) == float(best["val_bytes"])
        assert int(row["model_bytes"]) == (trial / "best_model.pth").stat().st_size
    assert [float(row["val_bytes"]) for row in rows] == sorted(float(r["val_bytes"]) for r in rows)
    assert "yes" in {row["pareto"] for row in rows}
    assert (folder / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "sweep.md").read_text().count("\n") == 4
    times = {p: p.stat().st_mtime_ns for p in folder.glob("trials/*/best_model.pth")}
    capsys.readouterr()
    # one trial more: the others are neither repeated nor renamed
    assert run(folder, data, axes=["lambda_bpp=0.01,0.05,0.02"]) == 0
    assert "3 trials, 1 to run" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_a_failed_trial_is_named_and_the_others_go_on(tmp_path, data, capsys):
    with pytest.raises(CaesarError, match="1 of 2 trials have no result"):
        run(tmp_path, data, axes=["init=base,missing.cfm"])
    assert "missing.cfm" in capsys.readouterr().err
    assert {row["state"] for row in rows_of(tmp_path)} == {"ended", "open"}


def test_an_interrupted_sweep_continues_where_it_was(tmp_path, data):
    folder = tmp_path / "s"
    command = [sys.executable, "-m", "caesar_freq.sweep", "freq_compressor", "--set",
               "lambda_bpp=0.01,0.05", "--output_dir", str(folder), "--", *data, *PHASE_1,
               "--max_steps", "100000", "--epochs", "100000"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(sweep.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(folder.glob("trials/*/resume/*/last.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 128 + signal.SIGTERM
    assert "run the same command to continue" in errors
    (progress,) = folder.glob("trials/*/progress.json")  # the second trial was not begun
    record = json.loads(progress.read_text())
    assert record["state"] == "stopped" and record["attempt"] == 1
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        log = progress.with_name("trial.log")
        # the log is written first
        while json.loads(progress.read_text())["attempt"] == 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert json.loads(progress.read_text())["attempt"] == 2
        assert "resumed at step" in log.read_text()
    finally:
        process.terminate()
        process.wait(90)


def test_a_trial_is_stopped_by_a_handler_in_the_thread_that_waits_for_it(tmp_path):
    """As in a job of submitit."""
    program = """
import os, signal, sys, threading, time
from pathlib import Path
from caesar_freq.sweeps.launch import Trial

child = "import signal, sys; signal.signal(15, lambda *_: sys.exit(5)); print(flush=True); signal.pause()"
trial = Trial([sys.executable, "-c", child], Path("trial"))

def told(*_):
    trial.stop()
    sys.exit(3)

def tell():
    while not Path("trial/trial.log").exists() or not Path("trial/trial.log").stat().st_size:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGUSR2)

signal.signal(signal.SIGUSR2, told)
threading.Thread(target=tell).start()
trial()
"""
    environment = os.environ | {"PYTHONPATH": str(Path(sweep.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, timeout=300
    )
    assert done.returncode == 3


@pytest.mark.parametrize("executor", ["submitit-debug", "submitit-local"])
def test_submitit_runs_the_same_trials(tmp_path, data, executor):
    pytest.importorskip("submitit")
    assert run(tmp_path, data, "--executor", executor, axes=["lambda_bpp=0.05"]) == 0
    (row,) = rows_of(tmp_path)
    assert row["state"] == "ended" and float(row["val_bytes"]) > 0


def test_unknown_parameters_of_submitit_are_refused(tmp_path, data):
    pytest.importorskip("submitit")
    flags = ("--executor", "submitit-local", "--slurm")
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        run(tmp_path, data, *flags, "mem")
    with pytest.raises(ConfigError, match="submitit-local|local"):
        run(tmp_path, data, *flags, "colour=red")


def test_the_front_is_what_no_other_trial_beats():
    rows = [dict(m=1.0, c=3.0), dict(m=2.0, c=2.0), dict(m=2.0, c=2.5), dict(m=3.0, c=2.0),
            dict(m=4.0, c=1.0), dict(m=4.0, c=1.0)]  # fmt: skip
    assert results.pareto(rows, "m", "c") == [True, True, False, False, True, True]
