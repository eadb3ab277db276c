"""The workflow on a real SLURM, with faults. `make test-cluster` runs this; it takes root and apt."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from case import ALLOWED, OUTPUTS, ROOT, SNAKEMAKE, environment, undisturbed, write_profile
from faults import FAULTS, run_case
from outcomes import Outcome, report
from processes import members
from rig import Rig, usable

WANTED = os.environ.get("CAESAR_TEST_CLUSTER", "")
pytestmark = [
    pytest.mark.skipif(WANTED not in ("all", "once"), reason="make test-cluster"),
    pytest.mark.skipif(not usable(), reason="needs root and Debian's SLURM"),
]
#: Every fault on every phase (make test-cluster), or every fault once, on one phase after the other.
CASES = [(fault, phase) for fault in FAULTS for phase in OUTPUTS]
if WANTED != "all":
    CASES = list(zip(FAULTS, itertools.cycle(OUTPUTS)))
#: Cases at a time; no more than there are nodes with a GPU, and they mostly wait.
LANES = 4


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("rig")) as cluster:
        yield cluster
    assert members(cluster.folder) == []
    print("\nno process of the rig is left")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """An undisturbed run of the three phases on this machine, without SLURM."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def outcomes(rig, finished, tmp_path_factory) -> dict[tuple[str, str], Outcome]:
    folder = tmp_path_factory.mktemp("faults")

    rows: dict[tuple[str, str], Outcome] = {}
    began = time.monotonic()
    waiting = iter(enumerate(CASES))

    def lane() -> None:
        for number, case in waiting:
            rows[case] = run_case(*case, rig, finished, folder / str(number))
            print(f"\n{rows[case]}", flush=True)

    # daemons, so that an interrupted test run ends without them
    lanes = [threading.Thread(target=lane, daemon=True) for _ in range(LANES)]
    for thread in lanes:
        thread.start()
    try:
        for thread in lanes:
            thread.join()
    finally:
        list(waiting)  # nothing more is begun
    report([rows[case] for case in CASES], "faults", time.monotonic() - began)
    return rows


def test_cluster_check_says_on_which_nodes_each_phase_fits(rig, finished, tmp_path):
    for path in (ROOT / "workflow", finished / "waves.npz", finished / "faults.yaml"):
        (tmp_path / path.name).symlink_to(path)

    def check(**edits: str) -> subprocess.CompletedProcess:
        write_profile(rig, tmp_path / "profiles" / "slurm", **edits)
        return subprocess.run(
            [sys.executable, "-m", "caesar_freq.cli", "cluster", "check", "--configfile",
             "faults.yaml"],
            cwd=tmp_path, env=environment(rig), capture_output=True, text=True,
        )  # fmt: skip

    good = check()
    assert good.returncode == 0, good.stdout + good.stderr
    first = {line.split()[0]: line for line in good.stdout.splitlines() if line.split()[1] == "1"}
    for phase, nodes in ALLOWED.items():
        assert set(first[phase].partition("gpu: ")[2].split()) == nodes
    bad = check(gpumem16g="gpumem99g")
    assert bad.returncode == 1
    assert "never: train_diffusion asks for a GPU with 16 GB (constraint=gpumem99g)" in bad.stdout


def test_a_phase_that_no_node_can_serve_is_named_within_a_minute(rig, finished):
    write_profile(rig, finished / "profiles" / "slurm", gpumem16g="gpumem99g")
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
