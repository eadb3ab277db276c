"""After Snakemake was killed (SIGKILL, a reboot of the login node): its jobs and the folder's lock.

Snakemake does not find the jobs of a killed predecessor and would run the same rule beside them, on
the same files. Their names start with the profile's prefix and their working directory is the run's
folder: that is how they are found, with ``squeue`` alone. A job that ends well takes its own
outputs off Snakemake's list of incomplete files, so that awaited work is not repeated.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caesar_freq.errors import ConfigError

_POLL = 2.0
#: Seconds in which a cancelled job must be gone; KillWait and a slow epilogue take their time.
_CANCEL = 180.0


@dataclass(frozen=True)
class Orphan:
    """A job of an earlier run that SLURM still holds."""

    number: str
    rule: str
    state: str


def orphans(prefix: str, folder: Path) -> list[Orphan]:
    """The user's jobs whose names start with `prefix` and that work in `folder`.

    Raises
    ------
    ConfigError
        If there is no SLURM here or it does not answer.
    """
    found = []
    for line in _squeue("-o", "%A|%T|%j|%k|%Z"):
        number, state, name, comment, where = line.split("|", 4)
        if name.startswith(f"{prefix}_") and Path(where).resolve() == folder.resolve():
            rule = comment.removeprefix("rule_").split("_wildcards_")[0]
            found.append(Orphan(number, rule, state))
    return found


def settle(jobs: Sequence[Orphan], wait: bool) -> None:
    """Cancel `jobs`, or let them end if `wait`; returns when SLURM holds none of them.

    Raises
    ------
    ConfigError
        If a cancelled job does not go away.
    """
    if not jobs:
        return
    numbers = [job.number for job in jobs]
    if not wait:
        subprocess.run(["scancel", *numbers], check=False)
    end = None if wait else time.monotonic() + _CANCEL
    while left := _still_there(numbers):
        if end is not None and time.monotonic() > end:
            raise ConfigError(f"jobs {' '.join(left)} do not end; ask the site, then try again")
        time.sleep(_POLL)


def refuse_while_running(folder: Path) -> None:
    """Make sure that no Snakemake of this machine works in `folder`.

    Raises
    ------
    ConfigError
        Naming the process. One on another login node is not seen.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where, words = (
                (process / "cwd").resolve(),
                (process / "cmdline").read_bytes().split(b"\0"),
            )
        except OSError:  # gone, or another user's
            continue
        # those inside of jobs (--mode remote) are what `settle` is for
        named = any(Path(os.fsdecode(word)).name == "snakemake" for word in words[:3])
        ours = named and b"--mode" not in words
        if ours and where == folder.resolve() and int(process.name) != os.getpid():
            raise ConfigError(
                f"Snakemake (process {process.name}) still runs in {folder}; stop it first, or let it work"
            )


def unlock(snakefile: Path, configfile: Path | None) -> None:
    """Take back Snakemake's lock of the present folder.

    Raises
    ------
    ConfigError
        With Snakemake's own words if it cannot.
    """
    command = [sys.executable, "-m", "snakemake", "--unlock", "--cores", "1"]
    command += ["--snakefile", str(snakefile)]
    command += ["--configfile", str(configfile)] if configfile else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"the folder cannot be unlocked: {' '.join(done.stderr.split())}")


def _still_there(numbers: Sequence[str]) -> list[str]:
    present = {line.strip() for line in _squeue("-o", "%A")}
    return [number for number in numbers if number in present]


def _squeue(*options: str) -> list[str]:
    if not shutil.which("squeue"):
        raise ConfigError("there is no squeue here; run this where sbatch works")
    command = ["squeue", "--noheader", "--user", str(os.getuid()), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"squeue failed: {done.stderr.strip()}")
    return [line for line in done.stdout.splitlines() if line]
