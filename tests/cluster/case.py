"""One phase of one run on the rig: starting it, holding it at a step, looking at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from accounting import ACCOUNT
from held import HELD_AT, PATIENCE, SAVED_EVERY, STEPS, await_hold
from processes import wait_until
from rig import Rig
from test_pipeline import waves

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
class Case:
    """One phase of one run on the rig."""

    rig: Rig
    folder: Path
    phase: str
    partition: str = "gpu"
    master: subprocess.Popen | None = None
    job: str = ""
    node: str = ""
    trainer: int = 0

    @property
    def output(self) -> Path:
        return self.folder / OUTPUTS[self.phase]

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.rig)

    def start(self) -> None:
        """Type the command."""
        if self.rig.stopped:  # while another thread still worked on a case
            raise RuntimeError("the rig was stopped")
        with open(self.folder / "master.log", "a") as log:
            self.master = subprocess.Popen(
                [SNAKEMAKE, OUTPUTS[self.phase], "--profile", "profiles/slurm", "--snakefile",
                 ROOT / "workflow" / "Snakefile", "--configfile", "faults.yaml"],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def await_hold(self) -> None:
        """Wait until the trainer stands still."""
        who = await_hold(self.folder, self.master)
        self.job, self.node, self.trainer = who["job"], who["node"], who["pid"]

    def said(self) -> str:
        """The end of what the commands printed."""
        return (self.folder / "master.log").read_text()[-1500:]

    def jobs(self) -> list[str]:
        """Numbers of unfinished jobs of this folder."""
        lines = self.rig.ask("squeue", "-h", "-o", "%Z|%A").stdout.splitlines()
        return [line.rpartition("|")[2] for line in lines if line.startswith(f"{self.folder}|")]

    def await_state(self, job: str, *states: str) -> None:
        """Wait until SLURM says so, also of a job that has ended."""
        asked = ("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")
        wait_until(lambda: self.rig.ask(*asked).stdout.strip() in states, PATIENCE,
                   f"job {job} to be {' or '.join(states)}", pause=1)  # fmt: skip

    def finish(self) -> int:
        """Wait for the master."""
        return self.master.wait(timeout=PATIENCE)

    def recover(self, *options: str) -> str:
        """``caesar-freq cluster recover`` in this folder."""
        done = subprocess.run(
            [sys.executable, "-m", "caesar_freq.cli", "cluster", "recover", "--configfile",
             "faults.yaml", "--snakefile", ROOT / "workflow" / "Snakefile", *options],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"recover: {done.stdout}{done.stderr}")
        return done.stdout

    def kill_master(self) -> None:
        self.master.kill()
        self.master.wait()

    def clean_up(self) -> None:
        """Leave nothing that runs."""
        if self.master and self.master.poll() is None:
            self.kill_master()
        for job in self.jobs():
            self.rig.ask("scancel", "--signal=KILL", "--full", job)
            self.rig.ask("scancel", job)
        held = self.folder / "held"
        if held.exists():
            try:
                os.kill(json.loads(held.read_text())["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass


def environment(rig: Rig) -> dict[str, str]:
    """Of commands that start jobs: the code of this checkout, and trainers that can be held."""
    path = f"{ROOT}{os.pathsep}{Path(__file__).with_name('hold')}"
    return rig.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def undisturbed(folder: Path) -> Path:
    """Run the three phases in `folder` on this machine, without SLURM."""
    np.savez(folder / "waves.npz", data=waves())
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text())
    for phase in ("freq_compressor", "diffusion", "distillation"):
        config[phase] |= {"epochs": 1000, "max_steps": STEPS, "checkpoint_every": SAVED_EVERY,
                          "evaluations": STEPS // HELD_AT}  # fmt: skip
    (folder / "faults.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [SNAKEMAKE, OUTPUTS["train_distillation"], "--profile", ROOT / "profiles" / "local",
         "--cores", "2", "--snakefile", ROOT / "workflow" / "Snakefile",
         "--configfile", "faults.yaml"],
        cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    return folder


def write_profile(rig: Rig, folder: Path, partition: str = "gpu", **edits: str) -> None:
    """The shipped profile as one would adapt it to the rig, with quick polls; `edits` replace texts."""
    text = (ROOT / "profiles" / "slurm" / "profile.yaml").read_text()
    edits |= {'gpu_partition: "gpu"': f'gpu_partition: "{partition}"'}
    if rig.accounting:
        edits |= {'# slurm_account: "myaccount"': f'slurm_account: "{ACCOUNT}"'}
    else:
        edits |= {"# slurm-status-command": "slurm-status-command"}
    for old, new in edits.items():
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.yaml").write_text(text + "slurm-init-seconds-before-status-checks: 2\n")
