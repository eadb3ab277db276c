"""Processes of the rig, told from all others by a variable in their environment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

#: Holds the rig's folder. Not named SLURM_*, so that it reaches what runs inside of a job step.
MARK = "CAESAR_RIG"


def members(folder: Path, node: str | None = None) -> list[int]:
    """Daemons, jobs and clients of the rig in `folder`; only what runs on `node`, if given."""
    mark, on_node = f"{MARK}={folder}", f"SLURMD_NODENAME={node}"
    found = []
    for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        environment = text(pid, "environ").split("\0")
        # slurmstepd writes its title over its environment
        files = open_files(pid) if text(pid, "cmdline").startswith("slurmstepd") else []
        ours = mark in environment or any(name.startswith(f"{folder}/") for name in files)
        there = node is None or on_node in environment or any(f"-{node}" in name for name in files)
        if ours and there and pid != os.getpid():
            found.append(pid)
    return found


def end(pid: int, number: int = signal.SIGTERM, patience: float = 30) -> None:
    """Signal a process and wait; SIGKILL if it is still there after `patience` seconds."""
    for sent in (number, signal.SIGKILL):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return
        if wait_until(lambda: gone(pid), patience, "", fail=False):
            return


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    return text(pid, "stat").rpartition(")")[2].split()[:1] in ([], ["Z"])


def text(pid: int, name: str) -> str:
    """A file of /proc, empty where there is none."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def open_files(pid: int) -> list[str]:
    """Names of the files that a process has open."""
    try:
        return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, fail: bool = True, pause: float = 0.3
) -> bool:
    """Ask again and again; RuntimeError naming `what` after `seconds`, or False without `fail`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    if fail:
        raise RuntimeError(f"timed out waiting for {what}")
    return False
