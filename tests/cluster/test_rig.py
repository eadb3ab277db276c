"""The workflow on a real SLURM, with faults. `make test-cluster` runs this; it takes root and apt."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from faults import OUTPUTS, ROOT, SNAKEMAKE, Outcome, run_case, write_profile  # noqa: E402
from processes import members  # noqa: E402
from rig import Rig, usable  # noqa: E402
from test_pipeline import waves  # noqa: E402

pytestmark = [
    pytest.mark.skipif("CAESAR_TEST_CLUSTER" not in os.environ, reason="make test-cluster"),
    pytest.mark.skipif(not usable(), reason="needs root and Debian's SLURM"),
    pytest.mark.xdist_group("rig"),
]
REPORT = ROOT / "results" / "cluster"
#: What strikes each phase. Phases run side by side, each on the node that is its own.
TABLE = {
    "train_freq_compressor": ["scancel", "master killed, recover", "node failure"],
    "train_diffusion": ["requeue", "wall-time limit", "preemption without grace"],
    "train_distillation": ["master killed, recover --wait", "preemption with grace", "scancel"],
}  # fmt: skip
CASES = [(fault, phase) for phase, faults in TABLE.items() for fault in faults]


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    for number in (signal.SIGTERM, signal.SIGINT):  # so that the cluster is taken down as well
        signal.signal(number, signal.default_int_handler)
    with Rig(tmp_path_factory.mktemp("rig")) as cluster:
        yield cluster
    assert members(cluster.folder) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """An undisturbed run of the three phases on this machine, without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    np.savez(folder / "waves.npz", data=waves())
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text())
    for phase in ("freq_compressor", "diffusion", "distillation"):
        config[phase] |= {"epochs": 1000, "max_steps": 12, "checkpoint_every": 3}
    (folder / "faults.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [SNAKEMAKE, OUTPUTS["train_distillation"], "--profile", ROOT / "profiles" / "local",
         "--cores", "2", "--snakefile", ROOT / "workflow" / "Snakefile",
         "--configfile", "faults.yaml"],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def outcomes(rig, finished, tmp_path_factory) -> dict[tuple[str, str], Outcome]:
    folder = tmp_path_factory.mktemp("faults")

    rows: list[Outcome] = []

    def lane(phase: str) -> None:
        for number, fault in enumerate(TABLE[phase]):
            rows.append(run_case(fault, phase, rig, finished, folder / f"{phase}{number}"))
            print(f"\n{rows[-1]}", flush=True)

    # daemons, so that an interrupted test run ends without them
    lanes = [threading.Thread(target=lane, args=(phase,), daemon=True) for phase in TABLE]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    rows.sort(key=lambda row: CASES.index((row.fault, row.phase)))
    write_report(rows)
    return {(row.fault, row.phase): row for row in rows}


def write_report(rows: list[Outcome]) -> None:
    """Table of faults as CSV and Markdown, printed as well."""
    REPORT.mkdir(parents=True, exist_ok=True)
    with open(REPORT / "faults.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    lines = ["| fault | phase | went on by | resumed at step | weights identical | other work untouched "
             "| seconds |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        yes = {True: "yes", False: "NO"}
        lines.append(
            f"| {row.fault} | {row.phase} | {row.went_on or row.problem.splitlines()[0]} | "
            f"{row.resumed} | {yes[row.identical]} | {yes[row.others_untouched]} | {row.seconds} |"
        )
    text = "\n".join(lines) + "\n"
    (REPORT / "faults.md").write_text(text)
    print(f"\n{text}", flush=True)


def test_a_phase_that_no_node_can_serve_is_named_within_a_minute(rig, finished):
    write_profile(finished / "profiles" / "slurm", gpumem16g="gpumem99g")
    began = time.monotonic()
    done = subprocess.run(
        [SNAKEMAKE, "--profile", "profiles/slurm", "--snakefile", ROOT / "workflow" / "Snakefile",
         "--configfile", "faults.yaml", "--forcerun", "train_diffusion"],
        cwd=finished, env=rig.environment | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "train_diffusion asks for a GPU with 16 GB (constraint=gpumem99g)" in said
    assert "g24 (gpu:large:1,gpumem:24G; " in said
    assert rig.ask("squeue", "-h", "-t", "all").stdout == ""
    assert seconds < 60
    print(f"\na phase that fits nowhere: refused by name after {seconds:.0f} s, nothing submitted")


@pytest.mark.parametrize(("fault", "phase"), CASES)
def test_the_same_command_goes_on_to_the_same_weights(outcomes, fault, phase):
    outcome = outcomes[fault, phase]
    assert not outcome.problem, outcome.problem
    assert outcome.identical and outcome.others_untouched
