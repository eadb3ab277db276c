"""Resume after anything: periodic side checkpoints keyed by the settings, and polite stops.

The checkpoint lies in ``output_dir/resume/<key>/last.ckpt``. The key is a hash of the settings, so
that a run with other settings never continues a stranger's weights, and the path is no declared
output of the workflow, which deletes declared outputs before it reruns a rule.

Between the end of a phase and the moment when Snakemake knows of it, its job may still be killed, and
its rule then runs again. So a phase that ends leaves its results under a second name in
``output_dir/finished``, from where the next run of the same settings, data and code puts them back.
The workflow removes that folder when it has ended well.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from caesar_freq.atomic import atomic_path
from caesar_freq.errors import ModelError


def settings_key(settings: dict[str, Any]) -> str:
    """Hash `settings` into the 16 hex digits that name a run (order of keys does not matter)."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digests(paths: Iterable[str | Path]) -> list[str]:
    """Return the SHA-256 of each file, for settings that must change when the data do."""
    digests = []
    for path in paths:
        with open(path, "rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests


class Checkpointer:
    """Keeps the state of one run on disk.

    Parameters
    ----------
    output_dir : path
        Folder of the phase's results; created if missing.
    settings : dict
        Everything that the result depends on (flags, hashes of data files). Leave out what only
        says where and how fast to run.
    every_steps : int
        `due` answers True every so many optimiser steps.
    module : str
        The phase's module: results of other code are not put back.
    """

    def __init__(self, output_dir: str | Path, settings: dict[str, Any], every_steps: int,
                 module: str) -> None:  # fmt: skip
        self.key, self.module = settings_key(settings), module
        self.finished = Path(output_dir) / "finished"
        self.path = Path(output_dir) / "resume" / self.key / "last.ckpt"
        self.every_steps = every_steps
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def due(self, step: int) -> bool:
        """Whether the state after `step` optimiser steps should be saved."""
        return step % self.every_steps == 0

    def load(self) -> dict[str, Any] | None:
        """Return the saved state (tensors on the CPU), or None where there is none.

        Raises
        ------
        ModelError
            If the file cannot be read; saving is atomic, so the disk damaged it.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"resume checkpoint {self.path} cannot be read; delete it or pass --no-resume"
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Write `state` (tensors and plain types) so that a crash leaves the old or the new one."""
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)

    def finish(self, results: Iterable[Path]) -> None:
        """Remove the state, now that `results` are complete, and give them their second names."""
        shutil.rmtree(self.finished, ignore_errors=True)  # of earlier runs
        part = self.finished / "part"
        part.mkdir(parents=True)
        for path in results:
            try:
                os.link(path, part / path.name)
            except OSError:  # a file system without links
                shutil.copyfile(path, part / path.name)
        part.rename(self._kept())
        shutil.rmtree(self.path.parent, ignore_errors=True)
        try:
            self.path.parent.parent.rmdir()
        except OSError:  # another run's checkpoint lives there
            pass

    def put_back(self) -> bool:
        """Whether this very run had ended; then its results are where they belong again."""
        if not self.finished.is_dir() or not self._kept().is_dir():
            return False
        for path in self._kept().iterdir():
            with atomic_path(self.finished.parent / path.name) as temporary:
                shutil.copyfile(path, temporary)
        print("this run had ended: its results are put back; --no-resume trains anew", flush=True)
        return True

    def _kept(self) -> Path:
        from caesar_freq.fingerprints import fingerprint  # at the top it would be code of the phase

        return self.finished / f"{self.key}-{fingerprint(self.module, lazy=False)}"


def rng_state(generator: np.random.Generator | None = None) -> dict[str, Any]:
    """Collect the state of every random generator, as types that ``weights_only`` loads.

    `generator` is the run's own NumPy generator, if it has one.
    """
    version, words, gauss = random.getstate()
    return {
        "python": [version, list(words), gauss],
        "numpy": json.dumps(generator.bit_generator.state) if generator is not None else None,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any], generator: np.random.Generator | None = None) -> None:
    """Put back what `rng_state` collected, into the same kind of `generator`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if generator is not None and state["numpy"] is not None:
        generator.bit_generator.state = json.loads(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class StopHandler:
    """Remembers that a scheduler asked the process to stop; the loop looks after every step."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    def exit(self, path: Path) -> None:
        """Leave with the conventional 128 + signal and say how to go on; `path` was just saved."""
        name = signal.Signals(self.signal).name
        print(
            f"stopped by {name}; state saved in {path}, run the same command to continue",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(128 + self.signal)


def install_stop_handler() -> StopHandler:
    """Catch SIGTERM, SIGUSR1 and SIGUSR2 (wall time, preemption) until the current step is done."""
    handler = StopHandler()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, handler)
    return handler
