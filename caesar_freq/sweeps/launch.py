"""Where the trials of a sweep run: processes of this machine, or jobs by submitit.

Every trial is the phase's own command in a process of its own. A stop reaches it as SIGTERM, upon
which it saves its state; the next start of the same trial goes on from there.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caesar_freq.atomic import write_bytes
from caesar_freq.errors import ConfigError, InputError

#: Seconds that a process which was told to stop gets to save its state.
_GRACE = 60
_LIVE = {"RUNNING", "PENDING", "REQUEUED", "SUSPENDED", "CONFIGURING", "COMPLETING", "PREEMPTED"}


@dataclass
class Trial:
    """A command and the folder in which it works."""

    command: list[str]
    folder: Path

    def __post_init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Run the command to its end; what it prints is added to ``trial.log``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _meet()
        with open(self.folder / "trial.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
            code = self.process.wait()
        self.process = None
        return code

    def stop(self) -> None:
        """Let the process save its state, and wait until it has ended."""
        process = self.process
        if process is None:
            return
        process.terminate()
        if not _ended(process.pid, _GRACE):
            process.kill()
            _ended(process.pid, math.inf)

    def checkpoint(self) -> Any:
        """Called by submitit in the job that is about to end: the same trial is queued again."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        return DelayedSubmission(Trial(self.command, self.folder))

    def __getstate__(self) -> dict:
        return {"command": self.command, "folder": self.folder, "process": None}


def _ended(pid: int, seconds: float) -> bool:
    """Whether a child ends in time.

    It is left to be reaped. ``Popen.wait`` would never return where a signal interrupted it in the
    same thread, as in a job of submitit: it holds a lock.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return True
        except ChildProcessError:  # reaped
            return True
        time.sleep(0.1)
    return False


def _meet() -> None:
    """Tell the processes of a job of several tasks about each other (`training.ranks`)."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SUBMITIT_EXECUTOR" in os.environ:
        environment = _submitit().helpers.TorchDistributedEnvironment()
        # the list of GPUs that SLURM gave stays; LOCAL_RANK chooses in it
        environment.export(set_cuda_visible_devices=False)


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` and leave when the process is told to end, by Ctrl-C or a scheduler."""

    def handler(number: int, frame: Any) -> None:
        stop()
        name = signal.Signals(number).name
        print(f"stopped by {name}; run the same command to continue", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def run_here(trials: Sequence[Trial], at_a_time: int, ended: Callable[[Trial, int], None]) -> None:
    """Run trials as processes of this machine, `at_a_time` of them; call `ended` after each."""
    pool = ThreadPoolExecutor(at_a_time)
    stopped = False

    def run(trial: Trial) -> int | None:
        return None if stopped else trial()

    def stop() -> None:
        nonlocal stopped
        stopped = True
        for trial in trials:
            trial.stop()

    with stopping(stop), pool:
        waiting = {pool.submit(run, trial): trial for trial in trials}
        for future in as_completed(waiting):
            ended(waiting[future], future.result())


def run_jobs(trials: Sequence[Trial], at_a_time: int, ended: Callable[[Trial, int], None],
             cluster: str, folder: Path, parameters: dict[str, Any]) -> None:  # fmt: skip
    """Run trials by submitit: on SLURM as one job array with checkpoint and requeue.

    Jobs that an earlier driver submitted and that still wait or run are adopted, not submitted
    again. Stopping this process cancels its jobs.

    Parameters
    ----------
    cluster : {"slurm", "local", "debug"}
    folder : Path
        Of submitit's own files.
    parameters : dict
        For ``update_parameters`` of the executor.

    Raises
    ------
    ConfigError, InputError
        If submitit or SLURM is missing, or a parameter is unknown.
    """
    submitit = _submitit()
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        if cluster == "slurm":
            parameters = parameters | {"slurm_array_parallelism": at_a_time}
        executor.update_parameters(name="caesar-sweep", **parameters)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--executor {cluster}: {reason}; see caesar-freq sweep --help"
        ) from error
    adopted = [_adopted(submitit, trial, folder) for trial in trials] if cluster == "slurm" else []
    jobs = {id(t): job for t, job in zip(trials, adopted) if job is not None}
    fresh = [trial for trial in trials if id(trial) not in jobs]
    if fresh:
        with executor.batch():
            submitted = [executor.submit(trial) for trial in fresh]
        for trial, job in zip(fresh, submitted, strict=True):
            jobs[id(trial)] = job
            trial.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(trial.folder / "job_id", job.job_id.encode())
    print(f"{len(fresh)} jobs submitted, {len(trials) - len(fresh)} adopted", flush=True)

    def stop() -> None:
        for job in jobs.values():
            if not job.done():
                job.cancel()

    waiting = list(trials)
    with stopping(stop):
        while waiting:
            for trial in [t for t in waiting if cluster == "debug" or jobs[id(t)].done()]:
                waiting.remove(trial)
                try:
                    code = max(jobs[id(trial)].results(), key=abs)  # of all tasks of the job
                except Exception as error:  # what submitit raises for jobs that SLURM ended
                    print(f"{trial.folder.name}: {str(error).splitlines()[0]}", file=sys.stderr)
                    code = 1
                ended(trial, code)
            if waiting:
                time.sleep(2 if cluster == "local" else 15)


def _adopted(submitit: Any, trial: Trial, folder: Path) -> Any | None:
    """The SLURM job that an earlier driver submitted for this trial, if it still lives."""
    path = trial.folder / "job_id"
    if not path.is_file():
        return None
    job = submitit.SlurmJob(folder, path.read_text(), tasks=[0])
    return job if job.state in _LIVE else None


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise InputError(
            "sweeps by jobs need the package submitit, which is not installed; install it with "
            "pip install 'caesar-freq[sweep]', or use --executor local"
        ) from error
    return submitit
