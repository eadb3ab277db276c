"""The other side of ``hold/sitecustomize.py``: asking a trainer to stand still, and waiting for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from processes import wait_until

#: Steps of a phase, between two checkpoints, and at which it is held.
STEPS, SAVED_EVERY, HELD_AT = 12, 3, 6
#: Seconds after which a wait is given up. Nothing depends on how fast the machine is.
PATIENCE = 900


def ask_to_hold(folder: Path, deaf: bool = False, ended: bool = False) -> None:
    """The next trainer of `folder` at step `HELD_AT` waits there, or one that has `ended`.

    A deaf one waits until it is killed.
    """
    (folder / "hold").write_text(json.dumps({"step": None if ended else HELD_AT, "deaf": deaf}))


def await_hold(folder: Path, command: subprocess.Popen) -> dict:
    """Wait until the trainer stands still: its process, job and node; RuntimeError if `command` ends."""
    held = folder / "held"
    wait_until(lambda: held.exists() or command.poll() is not None, PATIENCE, "a trainer to hold")
    if not held.exists():
        raise RuntimeError("the command ended before its trainer was held")
    return json.loads(held.read_text())


def release(folder: Path) -> None:
    """Let the held trainer go on."""
    (folder / "held").unlink()
