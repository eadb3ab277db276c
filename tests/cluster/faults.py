"""Faults on a running training phase, and what has to hold after the same command ran again.

A case starts from a finished run without the outputs of one phase, submits that phase, whose trainer
stands still at a known step just after it saved its state (`hold/sitecustomize.py`), lets the fault
happen there, and goes on as a user would.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from case import ALLOWED, OUTPUTS, Case, write_profile
from held import HELD_AT, ask_to_hold, release
from outcomes import Outcome, shown, used
from rig import Rig


def scancel(case: Case) -> None:
    """The user or the administrator cancels the job; the trainer gets SIGTERM and may save."""
    case.rig.ask("scancel", case.job)


def out_of_memory(case: Case) -> None:
    """The kernel kills the trainer."""
    os.kill(case.trainer, signal.SIGKILL)


def wall_time(case: Case) -> None:
    """The job outlives its time limit and does not listen: SLURM kills it."""
    case.rig.ask("scontrol", "update", f"jobid={case.job}", "TimeLimit=1")
    case.await_state(case.job, "TIMEOUT", "FAILED")


def requeue(case: Case) -> None:
    """``scontrol requeue``: ended and started again under the same number."""
    case.rig.ask("scontrol", "requeue", case.job)


def preemption(case: Case) -> None:
    """A job of a better partition takes the node's GPU."""
    done = case.rig.run("sbatch", "--parsable", "-p", "urgent", "-w", case.node, "--gpus=1", "-t",
                        "5", "--job-name", "rival", "-o", "/dev/null", "--wrap", "sleep 1")  # fmt: skip
    case.await_state(done.stdout.strip(), "COMPLETED")


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
    if f"job {case.job} ({case.phase}): RUNNING" not in said or case.jobs():
        raise RuntimeError(f"recover missed job {case.job}: {said}")


def master_killed_wait(case: Case) -> None:
    """The same, but the job is let to end: its work is not repeated."""
    case.kill_master()
    release(case.folder)
    case.recover("--wait")
    if not case.output.exists():
        raise RuntimeError("the awaited job left no weights")


@dataclass(frozen=True)
class Fault:
    """How a fault is made: by `strike`, to a job in a partition.

    Attributes
    ----------
    deaf : bool
        The trainer does not hear that it is to stop, as if its step took for ever.
    begun : int
        How often the phase begins: once more after a fault that ends it.
    grace : bool
        SLURM gives the trainer more time to save its state than it can need.
    ended : bool
        It strikes after the last step, when the results are written but Snakemake does not know yet.
    """

    strike: Callable[[Case], None]
    partition: str = "gpu"
    deaf: bool = False
    begun: int = 2
    grace: bool = False
    ended: bool = False


#: What a phase says that had ended before.
PUT_BACK = "this run had ended"
FAULTS = {
    "wall-time limit": Fault(wall_time, deaf=True),
    "preemption without grace": Fault(preemption, "scavenge"),
    "preemption with grace": Fault(preemption, "patient", grace=True),
    "out of memory": Fault(out_of_memory),
    "requeue": Fault(requeue),
    "requeue after the last step": Fault(requeue, ended=True),
    "node failure": Fault(node_failure),
    "scancel": Fault(scancel),
    "master killed, recover": Fault(master_killed),
    "master killed, recover --wait": Fault(master_killed_wait, begun=1),
}


def run_case(name: str, phase: str, rig: Rig, finished: Path, folder: Path) -> Outcome:
    """Run a fault against a phase; problems are in the answer."""
    began, outcome, fault = time.monotonic(), Outcome(name, phase), FAULTS[name]
    case = Case(rig, folder.resolve(), phase, fault.partition)
    try:
        shutil.copytree(finished, folder)
        write_profile(rig, folder / "profiles" / "slurm", partition=fault.partition)
        for path in case.output.parent.iterdir():
            path.unlink()
        shutil.rmtree(folder / "logs")
        before = others(case)
        ask_to_hold(case.folder, fault.deaf, fault.ended)
        case.start()
        case.await_hold()
        outcome.node = case.node
        if case.node not in ALLOWED[phase]:
            raise RuntimeError(f"the job is on {case.node}")
        outcome.problem = "" if fault.ended else shown(case)
        fault.strike(case)
        outcome.went_on = go_on(case)
        log = (folder / "logs" / f"{phase}.log").read_text()
        begun, steps = log.count("== run "), re.findall(r"resumed at step (\d+) of", log)
        outcome.ended, outcome.start = how(log, fault, begun, steps)
        outcome.identical = same(torch_load(case.output), torch_load(finished / OUTPUTS[phase]))
        outcome.others_untouched = others(case) == before
        outcome.problem = (
            outcome.problem
            or problem(outcome, fault, begun, list(map(int, steps)))
            or used(case, outcome, finished)
        )
    except Exception as error:
        outcome.problem = f"{type(error).__name__}: {error}"
    finally:
        case.clean_up()
    outcome.seconds = round(time.monotonic() - began)
    return outcome


def how(log: str, fault: Fault, begun: int, steps: list[str]) -> tuple[str, str]:
    """How the trainer ended, and where its successor began."""
    if begun == 1:
        return "let to end", "not"
    if fault.ended:
        return "had ended", "not: results put back" if PUT_BACK in log else "afresh"
    ended = "stopped, state saved" if "state saved in" in log else "killed"
    return ended, "at step " + ", then ".join(steps) if steps else "afresh"


def problem(outcome: Outcome, fault: Fault, begun: int, steps: list[int]) -> str:
    """What did not hold."""
    if begun != fault.begun:
        return f"the phase began {begun} times instead of {fault.begun}"
    if fault.ended and (steps or outcome.start == "afresh"):
        return f"began again {outcome.start}, though it had ended"
    if not fault.ended and len(steps) != begun - 1 or min(steps, default=HELD_AT) < HELD_AT:
        return f"began again {outcome.start}, not from the state of step {HELD_AT}"
    if fault.grace and outcome.ended == "killed":
        return "killed, although there was time to save"
    if not outcome.identical:
        return "other weights"
    return "" if outcome.others_untouched else "finished work was repeated"


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
    raise RuntimeError(case.said())


def others(case: Case) -> dict[str, int]:
    """Times of all results but those of the case's phase."""
    paths = [p for name in ("checkpoints", "data") for p in (case.folder / name).rglob("*")]
    return {
        str(path.relative_to(case.folder)): path.stat().st_mtime_ns
        for path in paths
        if path.is_file() and case.output.parent not in path.parents
    }


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
