"""Holds a training phase at a known step, so that a fault strikes there however fast the machine is.

Python runs this file at its start wherever the folder is on PYTHONPATH, as in the rig's jobs. A file
``hold`` in the working folder, ``{"step": 6, "deaf": false}``, asks for it: the phase that first
saves its state at that step or later takes it, writes into ``held`` who it is, and waits until that
file is gone or, unless it is deaf, until it is told to stop.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

HOLD, HELD = Path("hold"), Path("held")


def claim(step: int) -> dict | None:
    """The wish to be held, taken by one process alone; None where there is none for this step."""
    own = Path(f"hold.{os.getpid()}")
    try:
        if step < json.loads(HOLD.read_text())["step"]:
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


def install() -> None:
    """Make saving a checkpoint the place to wait, in the main thread between two steps."""
    from caesar_freq.training.checkpoint import Checkpointer

    save = Checkpointer.save

    def save_and_wait(self, state: dict) -> None:
        save(self, state)
        wish = claim(state.get("progress", state)["step"])
        told = signal.getsignal(signal.SIGTERM)  # the phase's own StopHandler
        while wish and HELD.exists() and (wish["deaf"] or not told.requested):
            time.sleep(0.05)

    Checkpointer.save = save_and_wait


if HOLD.exists() and any(word.startswith("caesar_freq.train_") for word in sys.orig_argv):
    install()
