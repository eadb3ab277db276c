"""Holds a training phase at a known step, so that a fault strikes there however fast the machine is.

Python runs this file at its start wherever the folder is on PYTHONPATH, as in the rig's commands and
jobs. A file ``hold`` in the working folder, ``{"step": 6, "deaf": false}``, asks for it: the phase that first
saves its state at that step or later (without a step: that has ended) takes it, writes into ``held`` who it is, and waits until that
file is gone or, unless it is deaf, until it is told to stop.

Snakemake's command itself looks at its jobs every few seconds here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

HOLD, HELD = Path("hold"), Path("held")
#: Seconds between two looks of Snakemake at its jobs.
POLL = 3


def claim(step: int | None) -> dict | None:
    """The wish to be held, taken by one process alone; None where there is none for this step."""
    own = Path(f"hold.{os.getpid()}")
    try:
        wanted = json.loads(HOLD.read_text())["step"]
        if (step is None) != (wanted is None) or step is not None and step < wanted:
            return None
        os.rename(HOLD, own)
    except FileNotFoundError:
        return None
    wish = json.loads(own.read_text())
    who = {"pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", ""),
           "node": os.environ.get("SLURMD_NODENAME", "")}  # fmt: skip
    own.write_text(json.dumps(who))
    os.rename(own, HELD)
    return wish


def poll_often() -> None:
    """Look at jobs every `POLL` seconds: the plugin waits 10 s longer each time, up to 180, and has no
    setting for that."""
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(
        lambda self: POLL, lambda self, seconds: None
    )


def install() -> None:
    """Make two places to wait, in the main thread: after a checkpoint, and when a phase has ended."""
    from caesar_freq.training.checkpoint import Checkpointer

    save, finish = Checkpointer.save, Checkpointer.finish

    def wait(step: int | None) -> None:
        wish = claim(step)
        told = signal.getsignal(signal.SIGTERM)  # the phase's own StopHandler
        while wish and HELD.exists() and (wish["deaf"] or not told.requested):
            time.sleep(0.05)

    def save_and_wait(self, state: dict) -> None:
        save(self, state)
        wait(state.get("progress", state)["step"])

    def finish_and_wait(self, results) -> None:
        finish(self, results)
        wait(None)

    Checkpointer.save, Checkpointer.finish = save_and_wait, finish_and_wait


words = sys.orig_argv
if any(Path(word).name == "snakemake" for word in words[:3]) and "--mode" not in words:
    poll_often()
if HOLD.exists() and any(word.startswith("caesar_freq.train_") for word in words):
    install()
