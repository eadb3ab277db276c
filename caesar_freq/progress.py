"""How far a run is, in a small file that others read while it runs (`caesar_freq.status`).

The file is ``progress.json`` in the folder of the results. It is no declared output of the workflow
and no result depends on it: where it cannot be written, the run goes on.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from caesar_freq.atomic import write_bytes
from caesar_freq.errors import InputError
from caesar_freq.printing import finite

NAME = "progress.json"
#: Seconds between two writes, at least.
_INTERVAL = 5.0


class ProgressFile:
    """Context manager: "running" inside; then "finished", "stopped" (by a signal) or "failed".

    Parameters
    ----------
    folder : path
        Exists.
    phase : str
    key : str
        What names the run; starting the same run again is its next attempt.
    n_steps, steps_per_epoch : int
    start : int
        Step at which this attempt starts.
    write : bool
        False in all but one of several processes of a run.
    """

    def __init__(self, folder: str | Path, phase: str, key: str, n_steps: int,
                 steps_per_epoch: int, start: int = 0, write: bool = True) -> None:  # fmt: skip
        self.path = Path(folder) / NAME
        self._start, self._began, self._written = start, time.time(), 0.0
        self._per_epoch, self._broken, self._writes = steps_per_epoch, False, write
        before = read(self.path) or {}
        again = before.get("key") == key and before.get("state") != "finished"
        self.record: dict[str, Any] = {
            "phase": phase, "state": "running", "key": key, "step": start, "steps": n_steps,
            "epoch": start / steps_per_epoch, "epochs": n_steps / steps_per_epoch, "loss": None,
            "metrics": before.get("metrics", {}) if again else {},
            "attempt": before.get("attempt", 0) + 1 if again else 1,
            "job": os.environ.get("SLURM_JOB_ID"), "pid": os.getpid(),
            "node": os.environ.get("SLURMD_NODENAME") or platform.node(), "host": platform.node(),
            "started": self._began, "updated": self._began, "gap": _INTERVAL, "eta": None,
        }  # fmt: skip

    def __enter__(self) -> ProgressFile:
        self._write()
        return self

    def update(self, step: int, loss: float, **metrics: float | None) -> None:
        """After optimiser step `step`; `metrics` are kept until they come again."""
        now, record = time.time(), self.record
        record |= {"step": step, "epoch": step / self._per_epoch, "loss": loss}
        record["metrics"] |= {name: value for name, value in metrics.items() if value is not None}
        if now - self._written < _INTERVAL and not metrics:
            return
        done = step - self._start
        if done:
            record["eta"] = (now - self._began) / done * (record["steps"] - step)
        record["gap"] = max(record["gap"], now - self._written)
        self._write()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self.record["state"], self.record["eta"] = "finished", None
        if error is not None:
            stopped = isinstance(error, SystemExit | KeyboardInterrupt)
            self.record["state"] = "stopped" if stopped else "failed"
            if not stopped:
                self.record["reason"] = f"{kind.__name__}: {error}".split("\n")[0]
        self._write()

    def _write(self) -> None:
        self._written = self.record["updated"] = time.time()
        if not self._writes:
            return
        try:
            write_bytes(self.path, json.dumps(finite(self.record)).encode())
        except (OSError, InputError) as error:
            if not self._broken:
                print(f"progress is not shown: {error}", file=sys.stderr, flush=True)
            self._broken = True


def read(path: str | Path) -> dict[str, Any] | None:
    """A progress file, or None where there is none that can be read."""
    try:
        record = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "phase" in record else None
