"""Faults on a running training phase, and what has to hold after the same command ran again.

A case starts from a finished run without the outputs of one phase, submits that phase, stops its
trainer (SIGSTOP) once it has saved a checkpoint, so that the fault always strikes in the middle,
lets the fault happen, and goes on as a user would.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from processes import wait_until
from rig import Rig

ROOT = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
OUTPUTS = {
    "train_freq_compressor": "checkpoints/freq_compressor/best_model.pth",
    "train_diffusion": "checkpoints/diffusion/diffusion_best.pth",
    "train_distillation": "checkpoints/distillation/student_best.pth",
}
#: Nodes of the rig that have a phase's 8, 16 and 12 GB of GPU memory.
ALLOWED = {
    "train_freq_compressor": {"g8", "g12", "g24", "g40"},
    "train_diffusion": {"g24", "g40"},
    "train_distillation": {"g12", "g24", "g40"},
}


@dataclass
class Outcome:
    """What a case showed; `problem` is empty if all of it held."""

    fault: str
    phase: str
    went_on: str = ""
    resumed: str = ""
    identical: bool = False
    others_untouched: bool = False
    seconds: int = 0
    problem: str = ""


@dataclass
class Case:
    """One phase of one run on the rig."""

    rig: Rig
    folder: Path
    phase: str
    partition: str = "gpu"
    options: list[str] = field(default_factory=list)
    master: subprocess.Popen | None = None
    job: str = ""
    node: str = ""

    @property
    def output(self) -> Path:
        return self.folder / OUTPUTS[self.phase]

    @property
    def environment(self) -> dict[str, str]:
        return self.rig.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def write_profile(self) -> None:
        """The shipped profile as a site without accounts would adapt it, with this partition."""
        write_profile(self.folder / "profiles" / "slurm", partition=self.partition)

    def start(self) -> None:
        """Type the command."""
        with open(self.folder / "master.log", "a") as log:
            self.master = subprocess.Popen(
                [SNAKEMAKE, OUTPUTS[self.phase], "--profile", "profiles/slurm", "--snakefile",
                 ROOT / "workflow" / "Snakefile", "--configfile", "faults.yaml", *self.options],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def trainers(self) -> list[int]:
        """Processes of the phase that train in this folder (the module, not what started it)."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                here = (path / "cwd").resolve() == self.folder
            except OSError:
                continue
            if here and f"caesar_freq.{self.phase}".encode() in words[1:3]:
                found.append(int(path.name))
        return found

    def signal_trainers(self, number: int) -> None:
        for pid in self.trainers():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def hold(self) -> None:
        """Wait for a checkpoint and stop the trainer there."""
        pattern = f"{Path(OUTPUTS[self.phase]).parent}/resume/*/last.ckpt"
        wait_until(lambda: any(self.folder.glob(pattern)) or self.master.poll() is not None, 240,
                   f"a checkpoint of {self.phase}", pause=0.02)  # fmt: skip
        self.signal_trainers(signal.SIGSTOP)
        line = self.squeue("%A %N")[0].split()
        self.job, self.node = line[0], line[1]

    def squeue(self, fields: str) -> list[str]:
        """Lines of squeue about unfinished jobs of this folder."""
        lines = self.rig.ask("squeue", "-h", "-o", f"%Z|{fields}").stdout.splitlines()
        return [line.partition("|")[2] for line in lines if line.startswith(f"{self.folder}|")]

    def state(self) -> str:
        """State of the job, also after its end."""
        return self.rig.ask("squeue", "-h", "-t", "all", "-j", self.job, "-o", "%T").stdout.strip()

    def finish(self) -> int:
        """Wait for the master."""
        return self.master.wait(timeout=300)

    def recover(self, *options: str) -> str:
        """``caesar-freq cluster recover`` in this folder."""
        done = subprocess.run(
            [sys.executable, "-m", "caesar_freq.cli", "cluster", "recover", "--configfile",
             "faults.yaml", "--snakefile", ROOT / "workflow" / "Snakefile", *options],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"recover: {done.stdout}{done.stderr}")
        return done.stdout

    def kill_master(self) -> None:
        self.master.kill()
        self.master.wait()


def scancel(case: Case) -> None:
    """The user or the administrator cancels the job; the trainer gets SIGTERM and may save."""
    case.rig.ask("scancel", case.job)
    case.signal_trainers(signal.SIGCONT)


def wall_time(case: Case) -> None:
    """The job outlives its time limit: the trainer stands still until SLURM kills it."""
    wait_until(lambda: case.state() in ("TIMEOUT", "COMPLETING", "FAILED"), 170, "the time limit",
               pause=1)  # fmt: skip


def requeue(case: Case) -> None:
    """``scontrol requeue``: killed and started again under the same number."""
    case.rig.ask("scontrol", "requeue", case.job)


def preemption(case: Case) -> None:
    """A job of a better partition takes the node's GPU."""
    done = case.rig.ask("sbatch", "--parsable", "-p", "gpu", "-w", case.node, "--gpus=1", "-t", "1",
                        "--job-name", "rival", "-o", "/dev/null", "--wrap", "sleep 3")  # fmt: skip
    case.signal_trainers(signal.SIGCONT)
    rival = done.stdout.strip()
    wait_until(lambda: case.rig.ask("squeue", "-h", "-t", "all", "-j", rival, "-o", "%T").stdout
               .strip() == "COMPLETED", 90, "the rival job", pause=1)  # fmt: skip


def node_failure(case: Case) -> None:
    """The node's daemon and all its processes die; the controller notices; the node comes back."""
    case.rig.stop_node(case.node)
    case.rig.ask("scontrol", "update", f"nodename={case.node}", "state=down", "reason=test")
    case.rig.start_node(case.node)
    case.rig.ask("scontrol", "update", f"nodename={case.node}", "state=resume")


def master_killed(case: Case) -> None:
    """Snakemake gets SIGKILL; its job lives on until `recover` cancels it."""
    case.kill_master()
    said = case.recover()
    if f"job {case.job} ({case.phase}): RUNNING" not in said or case.squeue("%A"):
        raise RuntimeError(f"recover missed job {case.job}: {said}")


def master_killed_wait(case: Case) -> None:
    """The same, but the job is let to end: its work is not repeated."""
    case.kill_master()
    case.signal_trainers(signal.SIGCONT)
    case.recover("--wait")
    if not case.output.exists():
        raise RuntimeError("the awaited job left no weights")


@dataclass(frozen=True)
class Fault:
    """How a fault is made: by `strike`, in a partition, with further options of snakemake."""

    strike: Callable[[Case], None]
    partition: str = "gpu"
    options: tuple[str, ...] = ()


FAULTS = {
    "scancel": Fault(scancel),
    "wall-time limit": Fault(wall_time, options=("runtime=1",)),
    "requeue": Fault(requeue),
    "preemption without grace": Fault(preemption, "scavenge"),
    "preemption with grace": Fault(preemption, "patient"),
    "node failure": Fault(node_failure),
    "master killed, recover": Fault(master_killed),
    "master killed, recover --wait": Fault(master_killed_wait),
}


def run_case(name: str, phase: str, rig: Rig, finished: Path, folder: Path) -> Outcome:
    """Run a fault against a phase; problems are in the answer."""
    began, outcome, fault = time.monotonic(), Outcome(name, phase), FAULTS[name]
    options = [f"--set-resources={phase}:{option}" for option in fault.options]
    case = Case(rig, folder.resolve(), phase, fault.partition, options)
    try:
        shutil.copytree(finished, folder)
        case.write_profile()
        for path in case.output.parent.iterdir():
            path.unlink()
        before = others(case)
        case.start()
        case.hold()
        if case.node not in ALLOWED[phase]:
            raise RuntimeError(f"the job is on {case.node}")
        fault.strike(case)
        outcome.went_on = go_on(case)
        log = (folder / "logs" / f"{phase}.log").read_text()
        match = re.search(r"resumed at step (\d+ of \d+)", log)
        outcome.resumed = match[1] if match else "ran to its end"
        outcome.identical = same(torch_load(case.output), torch_load(finished / OUTPUTS[phase]))
        outcome.others_untouched = others(case) == before
        if not match and "--wait" not in name:
            outcome.problem = "started afresh"
        elif not outcome.identical:
            outcome.problem = "other weights"
        elif not outcome.others_untouched:
            outcome.problem = "finished work was repeated"
    except Exception as error:
        outcome.problem = f"{type(error).__name__}: {error}"
    finally:
        if case.master and case.master.poll() is None:
            case.kill_master()
        for line in case.squeue("%A"):
            rig.ask("scancel", line)
        case.signal_trainers(signal.SIGKILL)
    outcome.seconds = round(time.monotonic() - began)
    return outcome


def go_on(case: Case) -> str:
    """Wait for the command, type it again while it fails; says what that took."""
    killed = case.master.poll() is not None
    if not killed and case.finish() == 0:
        text = (case.folder / "master.log").read_text()
        jobs = len(set(re.findall(r"SLURM jobid (\d+)", text)))
        return "requeued by SLURM" if jobs == 1 else f"retried by Snakemake ({jobs} jobs)"
    for _ in range(2):
        case.start()
        if case.finish() == 0:
            return "same command again"
    raise RuntimeError((case.folder / "master.log").read_text()[-1500:])


def others(case: Case) -> dict[str, int]:
    """Times of all results but those of the case's phase."""
    paths = [p for name in ("checkpoints", "data") for p in (case.folder / name).rglob("*")]
    return {
        str(path.relative_to(case.folder)): path.stat().st_mtime_ns
        for path in paths
        if path.is_file() and case.output.parent not in path.parents
    }


def write_profile(folder: Path, partition: str = "gpu", **edits: str) -> None:
    """The shipped profile for the rig: no accounts, quick polls; `edits` replace texts."""
    text = (ROOT / "profiles" / "slurm" / "profile.yaml").read_text()
    edits |= {"# slurm-status-command": "slurm-status-command",
              'gpu_partition: "gpu"': f'gpu_partition: "{partition}"'}  # fmt: skip
    for old, new in edits.items():
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.yaml").write_text(text + "slurm-init-seconds-before-status-checks: 2\n")


def torch_load(path: Path):
    """All tensors and settings of a checkpoint."""
    return torch.load(path, weights_only=True)


def same(a, b) -> bool:
    """Bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b
