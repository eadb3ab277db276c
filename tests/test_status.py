"""What is shown of runs: progress files of every state, logs of every attempt, asked against used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caesar_freq import progress, status
from caesar_freq.errors import ConfigError
from caesar_freq.progress import ProgressFile

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "checkpoints" / "diffusion"
    folder.mkdir(parents=True)
    return folder


def begin(folder, key="k", start=0):
    return ProgressFile(folder, "diffusion", key, n_steps=40, steps_per_epoch=20, start=start)


def shown(folder) -> dict:
    (run,) = status.runs(folder)
    return run


def test_a_run_tells_where_it_is_and_how_it_ended(tmp_path, checkpoints, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURMD_NODENAME", "gpu5")
    with begin(checkpoints) as file:
        file.update(10, 0.5, val_byte_ratio=0.9)
        run = shown(tmp_path)
        assert (run["state"], run["step"], run["epoch"], run["job"]) == ("running", 10, 0.5, "77")
        assert run["eta"] >= 0
        file.update(11, 0.4)  # sooner than the interval: kept in memory
        assert shown(tmp_path)["step"] == 10
        text = status.text_of(tmp_path)
        for part in (
            "diffusion",
            "10/40",
            "0.5/2.0",
            "0.9000 bytes/plain",
            "77",
            "gpu5",
            "running",
        ):
            assert part in text
    run = shown(tmp_path)
    assert (run["state"], run["step"], run["attempt"]) == ("finished", 11, 1)


@pytest.mark.parametrize(
    ("error", "state"), [(SystemExit(143), "stopped"), (MemoryError("no room"), "failed")]
)
def test_an_ended_attempt_is_counted_and_the_next_keeps_its_metrics(
    tmp_path, checkpoints, error, state
):
    with pytest.raises(type(error)), begin(checkpoints) as file:
        file.update(10, 0.5, bits_per_value=3.0)
        raise error
    assert shown(tmp_path)["state"] == state
    assert ("MemoryError: no room" in status.text_of(tmp_path)) == (state == "failed")
    with begin(checkpoints, start=10):
        run = shown(tmp_path)
        assert (run["attempt"], run["step"], run["metrics"]) == (2, 10, {"bits_per_value": 3.0})
    with begin(checkpoints, key="other settings"):
        assert shown(tmp_path)["attempt"] == 1


def test_a_silent_run_is_stale_and_a_dead_one_gone(tmp_path, checkpoints):
    record = begin(checkpoints).record
    now = time.time()
    assert status.state(record, now) == "running"
    elsewhere = record | {"host": "another", "pid": 2**30, "updated": now - 200}
    assert status.state(elsewhere, now) == "running"
    assert status.state(elsewhere | {"updated": now - 400}, now) == "stale"
    slow = elsewhere | {"updated": now - 400, "gap": 60.0}  # its evaluations take a minute
    assert status.state(slow, now) == "running"
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert status.state(record | {"pid": ended.pid}, now) == "gone"


def test_progress_that_cannot_be_written_stops_no_run(tmp_path, capsys):
    file = ProgressFile(tmp_path / "missing", "diffusion", "k", 4, 2)
    with file:
        file.update(1, 0.5, loss2=1.0)
        file.update(2, 0.5, loss2=1.0)
    assert capsys.readouterr().err.count("progress is not shown") == 1


def test_damaged_files_are_no_runs(tmp_path, checkpoints):
    (checkpoints / progress.NAME).write_text('{"phase": ')
    assert status.runs(tmp_path) == []


def test_nothing_has_run(tmp_path, capsys):
    assert status.main([str(tmp_path)]) == 0
    assert "nothing has run here yet" in capsys.readouterr().out
    assert status.main([str(tmp_path), "--efficiency"]) == 0
    assert "no job has ended here yet" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no folder"):
        status.main([str(tmp_path / "missing")])


BENCHMARK = """\
s\th:m:s\tmax_rss\tmean_load\tthreads\tresources
{seconds}\t0:02:00\t{rss}\t150.0\t4\t{{'mem_mb': 8000, 'runtime': 60, 'gpu_mem_gb': 16}}
"""


def test_asked_and_used_of_every_rule(tmp_path, checkpoints, capsys):
    folder = tmp_path / "results" / "benchmarks" / "evaluate"
    folder.mkdir(parents=True)
    for name, seconds, rss in (("a_nrmse_0.01", 120.0, 2000), ("b_nrmse_0.01", 600.0, 4000)):
        (folder / f"{name}.tsv").write_text(BENCHMARK.format(seconds=seconds, rss=rss))
    (folder.parent / "train_diffusion.tsv").write_text(BENCHMARK.format(seconds=60.0, rss=100))
    (folder.parent / "split.tsv").write_text("s\tmax_rss\tmean_load\n0.1\t-\t-\n")
    with begin(checkpoints) as file:
        file.update(1, 0.5, peak_gpu_gb=12.5)
    rows = {row["rule"]: row for row in status.efficiency(tmp_path)}
    assert rows["evaluate"]["jobs"] == 2
    assert (rows["evaluate"]["mb"], rows["evaluate"]["asked_mb"]) == (4000, 8000)
    assert (rows["evaluate"]["minutes"], rows["evaluate"]["asked_minutes"]) == (10, 60)
    assert (rows["train_diffusion"]["gpu_gb"], rows["train_diffusion"]["asked_gpu_gb"]) == (
        12.5,
        16,
    )
    assert rows["split"]["asked_mb"] is None
    status.main([str(tmp_path), "--efficiency"])
    text = capsys.readouterr().out
    for part in (
        "4000 of 8000 (50 %)",
        "10.0 of 60 (17 %)",
        "12.5 of 16 (78 %)",
        "1.5 of 4 (38 %)",
    ):
        assert part in text
    status.main([str(tmp_path), "--efficiency", "--json"])
    assert len(json.loads(capsys.readouterr().out)["efficiency"]) == 3


def test_jobs_end_when_their_benchmark_is_written(tmp_path):
    logs, benchmarks = tmp_path / "logs", tmp_path / "results" / "benchmarks"
    for folder in (logs / "evaluate", logs / "slurm", benchmarks / "evaluate"):
        folder.mkdir(parents=True)
    for name in ("evaluate/w_sz3_nrmse_0.01", "evaluate/w_zfp_nrmse_0.01", "merge", "slurm/x"):
        (logs / f"{name}.log").touch()
    (benchmarks / "evaluate" / "w_sz3_nrmse_0.01.tsv").touch()
    rows = {row["rule"]: (row["ended"], row["started"]) for row in status.jobs(tmp_path)}
    assert rows == {"evaluate": (1, 2), "merge": (0, 1)}
    assert "1 of 2" in status.text_of(tmp_path)


def logging_shell() -> str:
    """What all rules start with, as bash gets it."""
    text = (ROOT / "workflow" / "Snakefile").read_text()
    code = text.split("shell.prefix(")[1].split("\n)")[0]
    return eval(f"({code})").replace("{{", "{").replace("}}", "}")


def test_a_log_keeps_every_attempt(tmp_path):
    log = tmp_path / "logs" / "a.log"
    log.parent.mkdir()
    for attempt in (1, 2):
        log.unlink(missing_ok=True)  # as Snakemake does before a job
        command = f"{logging_shell()} (echo words {attempt}; exit 3) 2>&1 | logged logs/a.log"
        done = subprocess.run(["bash", "-c", f"set -euo pipefail; {command}"], cwd=tmp_path)
        assert done.returncode == 3
    lines = log.read_text().splitlines()
    assert [line[:8] for line in lines] == ["== run 1", "words 1", "== run 2", "words 2"]
    assert [row["started"] for row in status.jobs(tmp_path)] == [1]
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert rules.count("| logged {log}") == len([line for line in rules.splitlines() if line.startswith("rule ")])  # fmt: skip


def test_a_signal_to_the_whole_job_leaves_the_program_its_log(tmp_path):
    """SLURM tells every process of a job to stop: shell, program, tee."""
    (tmp_path / "logs").mkdir()
    program = (
        "import signal, sys, time\n"
        "def told(*_): print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), told()))\n"
        "print('here', flush=True); time.sleep(60)"
    )
    command = f'{logging_shell()} "{sys.executable}" -c "$PROGRAM" 2>&1 | logged logs/a.log'
    job = subprocess.Popen(["bash", "-c", f"set -euo pipefail; {command}"], cwd=tmp_path,
                           env=os.environ | {"PROGRAM": program}, stdout=subprocess.PIPE,
                           text=True, start_new_session=True)  # fmt: skip
    while "here" not in job.stdout.readline():
        pass
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(30) == 143
    assert (tmp_path / "logs" / "a.log").read_text().splitlines()[-1] == "saved"
