"""With slurmdbd: accounts, sacct, and sweeps by submitit. `make test-cluster-accounting` runs this."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from accounting import ACCOUNT
from case import ROOT, environment, undisturbed
from faults import run_case, same, torch_load
from held import HELD_AT, PATIENCE, ask_to_hold, await_hold, release
from outcomes import report
from processes import members, wait_until
from rig import Rig, usable
from test_pipeline import waves

pytestmark = [
    pytest.mark.skipif(os.environ.get("CAESAR_TEST_CLUSTER") != "accounting",
                       reason="make test-cluster-accounting"),
    pytest.mark.skipif(not usable(), reason="needs root and Debian's SLURM"),
]  # fmt: skip
CASES = [("preemption with grace", "train_diffusion"), ("wall-time limit", "train_distillation")]
JOBS = ("--executor", "slurm", "--jobs", "2", "--slurm", "slurm_partition=cpu", "--slurm",
        f"slurm_account={ACCOUNT}", "--slurm", "timeout_min=60", "--slurm", "mem_gb=2")  # fmt: skip
DATA = ("--train_data", "waves.npz", "--val_data", "waves.npz")
PHASE_1 = ("freq_compressor", "--set", "lr=1e-3,3e-3,1e-2", "--", *DATA, "--device", "cpu",
           "--epochs", "1000", "--max_steps", "12", "--checkpoint_every", "3", "--batch_size", "1",
           "--evaluations", "1", "--wavelet", "haar", "--init", "none")  # fmt: skip
PHASE_2 = ("diffusion", "--set", "seed=7", "--", *DATA, "--device", "cpu", "--epochs", "1000",
           "--max_steps", "12", "--evaluations", "12", "--checkpoint_every", "3", "--batch_size", "3",
           "--wavelet", "haar", "--training_size", "32", "--low_freq_size", "2", "--latent_channels",
           "8", "--unet_dim", "8", "--dim_mults", "1", "2", "--diffusion_steps", "8",
           "--interpo_rate", "3", "--n_frame", "7", "--lr", "3e-3")  # fmt: skip


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("rig"), accounting=True) as cluster:
        yield cluster
    assert members(cluster.folder) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


class Sweep:
    """The command ``caesar-freq sweep`` in a folder of its own."""

    def __init__(self, folder: Path, words: tuple[str, ...], rig: Rig | None = None,
                 jobs: tuple[str, ...] = ()) -> None:  # fmt: skip
        folder.mkdir(exist_ok=True)
        np.savez(folder / "waves.npz", data=waves())
        cut = words.index("--")
        self.folder, self.rig, self.out = folder.resolve(), rig, folder / "sweeps"
        self.command = [
            sys.executable,
            "-m",
            "caesar_freq.sweep",
            *words[:cut],
            *jobs,
            *words[cut:],
        ]
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.environment = environment(rig) if rig else os.environ | own

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(self.command, cwd=self.folder, env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def finish(self, process: subprocess.Popen | None = None, code: int = 0) -> str:
        """Wait for the command, typed here if it is not yet; what it said."""
        process = process or self.start()
        said = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == code, said + self.logs()
        return said

    def logs(self) -> str:
        paths = [*self.out.glob("trials/*/trial.log"), *self.out.glob("submitit/*.err")]
        return "".join(f"\n--- {path.name}\n{path.read_text()[-2000:]}" for path in paths)

    def rows(self) -> list[dict[str, str]]:
        """The table, by settings."""
        with open(self.out / "sweep.csv", newline="") as stream:
            return sorted(csv.DictReader(stream), key=lambda row: row["trial"])

    def log(self, trial: str) -> str:
        return (self.out / "trials" / trial / "trial.log").read_text()

    def queued(self, fields: str) -> list[str]:
        """Fields of squeue of the jobs of this folder, one line each task."""
        lines = self.rig.ask("squeue", "-h", "-r", "-o", f"%Z|{fields}").stdout.splitlines()
        return [line.partition("|")[2] for line in lines if line.startswith(f"{self.folder}|")]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Sweep:
    """The same trials as processes of this machine."""
    sweep = Sweep(tmp_path_factory.mktemp("local"), PHASE_1)
    sweep.finish()
    assert {row["state"] for row in sweep.rows()} == {"ended"}
    assert len({row["val_bytes"] for row in sweep.rows()}) == 3  # the settings matter
    return sweep


def check_same(sweep: Sweep, local: Sweep) -> None:
    """All trials ended, with the weights of the undisturbed ones."""
    assert [row["state"] for row in sweep.rows()] == ["ended"] * 3
    for row, other in zip(sweep.rows(), local.rows(), strict=True):
        assert (row["trial"], row["val_bytes"]) == (other["trial"], other["val_bytes"])
        ours, theirs = (
            one.out / "trials" / row["trial"] / "best_model.pth" for one in (sweep, local)
        )
        assert same(torch_load(ours), torch_load(theirs))


def test_accounts_are_kept_and_asked_for(rig):
    assert ACCOUNT in rig.run("sacctmgr", "-n", "-P", "list", "assoc", "format=account,user").stdout
    refused = rig.ask("sbatch", "-A", "nosuch", "-p", "cpu", "-o", "/dev/null", "--wrap", "true")
    assert "Invalid account" in refused.stderr
    job = rig.run("sbatch", "--parsable", "-A", ACCOUNT, "-p", "cpu", "-o", "/dev/null", "--wrap",
                  "true").stdout.strip()  # fmt: skip
    asked = ("sacct", "-n", "-P", "-X", "-j", job, "-o", "Account,State")
    wait_until(lambda: rig.ask(*asked).stdout.strip() == f"{ACCOUNT}|COMPLETED", PATIENCE, "sacct")


def test_the_workflow_goes_on_where_sacct_tells_the_state(rig, finished, tmp_path):
    began = time.monotonic()
    rows = [run_case(*case, rig, finished, tmp_path / str(n)) for n, case in enumerate(CASES)]
    report(rows, "faults_accounting", time.monotonic() - began)
    assert [row.problem for row in rows] == [""] * len(CASES)


def test_a_sweep_is_a_job_array_whose_tasks_save_and_are_requeued(rig, local, tmp_path):
    sweep = Sweep(tmp_path / "sweep", PHASE_1, rig, JOBS)
    ask_to_hold(sweep.folder)
    process = sweep.start()
    job = await_hold(sweep.folder, process)["job"]
    arrays, tasks = zip(*(line.split() for line in sweep.queued("%F %K")), strict=True)
    assert len(set(arrays)) == 1 and set(tasks) <= {"0", "1", "2"}
    names = dict(line.split() for line in sweep.queued("%A %F_%K"))
    rig.run("scancel", "--signal=USR2", names[job])  # what SLURM sends before the time limit
    said = sweep.finish(process)
    assert "3 trials, 3 to run" in said and "3 jobs submitted, 0 adopted" in said
    check_same(sweep, local)
    resumed = [
        re.findall(r"resumed at step (\d+) of 12", sweep.log(r["trial"])) for r in sweep.rows()
    ]
    assert sorted(map(len, resumed)) == [0, 0, 1]
    assert min(int(step) for steps in resumed for step in steps) >= HELD_AT
    text = rig.run("sacct", "-n", "-P", "-X", "-j", arrays[0], "-o", "JobID,State,Account").stdout
    assert set(text.split()) == {f"{arrays[0]}_{task}|COMPLETED|{ACCOUNT}" for task in range(3)}


def test_an_interrupted_sweep_cancels_its_jobs_and_continues(rig, local, tmp_path):
    sweep = Sweep(tmp_path / "sweep", PHASE_1, rig, JOBS)
    ask_to_hold(sweep.folder)
    process = sweep.start()
    await_hold(sweep.folder, process)
    process.send_signal(signal.SIGINT)
    assert "run the same command to continue" in sweep.finish(process, 128 + signal.SIGINT)
    wait_until(lambda: not sweep.queued("%A"), PATIENCE, "the cancelled jobs")
    ended = {path: path.stat().st_mtime_ns for path in sweep.out.glob("trials/*/result.json")}
    said = sweep.finish()
    assert f"3 trials, {3 - len(ended)} to run" in said
    assert {path: path.stat().st_mtime_ns for path in ended} == ended
    check_same(sweep, local)
    assert any("resumed at step" in sweep.log(row["trial"]) for row in sweep.rows())


def test_jobs_of_a_killed_sweep_are_adopted(rig, local, tmp_path):
    sweep = Sweep(tmp_path / "sweep", PHASE_1, rig, JOBS)
    ask_to_hold(sweep.folder)
    process = sweep.start()
    await_hold(sweep.folder, process)
    process.kill()
    process.communicate()
    process = sweep.start()
    for line in process.stdout:
        if "adopted" in line:
            break
    assert re.fullmatch(r"0 jobs submitted, [1-3] adopted\n", line), line
    release(sweep.folder)
    sweep.finish(process)
    check_same(sweep, local)
    for row in sweep.rows():
        assert sweep.log(row["trial"]).count("gathering contexts") == 1


def test_two_nodes_give_the_loss_curve_of_one_process(rig, tmp_path):
    frequency = Sweep(
        tmp_path / "one",
        ("freq_compressor", "--set", "seed=7", *PHASE_1[3:], "--latent_channels", "8"),
    )
    frequency.finish()
    (row,) = frequency.rows()
    model = frequency.out / "trials" / row["trial"] / "best_model.pth"
    words = (*PHASE_2, "--freq_compressor_path", str(model))
    one = Sweep(tmp_path / "one", words)
    one.finish()
    two = Sweep(
        tmp_path / "two", words, rig, (*JOBS, "--slurm", "nodes=2", "--slurm", "tasks_per_node=1")
    )
    two.finish()
    (folder,) = two.out.glob("trials/*")
    asked = ("sacct", "-n", "-P", "-X", "-j", (folder / "job_id").read_text(), "-o", "NodeList")
    assert rig.run(*asked).stdout.strip() == "c[1-2]"
    curves = []
    for sweep in (one, two):
        (row,) = sweep.rows()
        with open(sweep.out / "trials" / row["trial"] / "history.csv", newline="") as stream:
            curves.append([float(line["train_loss"]) for line in csv.DictReader(stream)])
    assert len(curves[0]) == 12
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
