"""Numbered cases in processes of their own: one that dies, hangs or eats memory is a failure, too.

What was run is told slice by slice, so that a campaign may be stopped and go on later (`Ledger`).
"""

from __future__ import annotations

import json
import multiprocessing
import queue
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: What a worker may allocate in all; decoding needs a few times the array.
MEMORY_BYTES = 6 << 30
#: Wall time of one case, on a machine that may be busy.
HANG_SECONDS = 300


class Numbered(Protocol):
    """Cases by number: the same seed and number are the same case."""

    seed: int

    def run(self, number: int) -> tuple[str, str]:
        """(name, outcome) of a case; an outcome that begins with FAILURE is one."""

    def keep(self, number: int, folder: Path) -> Path:
        """Write what is needed to look into a case."""


@dataclass
class Slice:
    """What a range of cases came to."""

    start: int
    stop: int
    outcomes: Counter = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)  # number, name, outcome


def run_cases(
    cases: Numbered, numbers: range, step: Callable[[int], None] = lambda number: None
) -> Slice:
    """Run cases in this process."""
    done = Slice(numbers.start, numbers.stop)
    for number in numbers:
        step(number)
        name, outcome = cases.run(number)
        done.outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("FAILURE"):
            done.failures.append((number, name, outcome))
    return done


def _work(cases: Numbered, numbers: range, at, results) -> None:
    """A worker process: says in `at` which case it is on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def step(number: int) -> None:
        at.value = number

    results.put(run_cases(cases, numbers, step))


@dataclass
class Worker:
    """A range of cases in a process of its own."""

    cases: Numbered
    numbers: range

    def start(self, context) -> None:
        self.at, self.results = context.Value("q", -1), context.Queue()
        self.seen = (-1, time.monotonic())
        self.process = context.Process(
            target=_work, args=(self.cases, self.numbers, self.at, self.results)
        )
        self.process.start()

    def watch(self) -> tuple[Slice | None, list[range]] | None:
        """None while it is at work; else what it did, and the cases that are left.

        A case that kills the process is a slice of its own. Outcomes of the cases before it are
        lost with the process: those run again.
        """
        try:
            done = self.results.get(timeout=0.5)
        except queue.Empty:
            now = self.at.value
            if now != self.seen[0]:
                self.seen = (now, time.monotonic())
            hangs = time.monotonic() - self.seen[1] > HANG_SECONDS
            if self.process.is_alive() and not hangs:
                return None
            self.process.kill()
            self.process.join()
            if now < 0:
                raise RuntimeError("a worker ends before its first case") from None
            why = "hang" if hangs else f"the process ends with {self.process.exitcode}"
            died = Slice(now, now + 1, Counter(FAILURE=1), [(now, "", f"FAILURE: {why}")])
            left = [range(self.numbers.start, now), range(now + 1, self.numbers.stop)]
            return died, [numbers for numbers in left if numbers]
        self.process.join()
        return done, []


def campaign(cases: Numbered, waiting: list[range], jobs: int) -> Iterator[Slice]:
    """Run ranges of cases in `jobs` processes; yields what each came to as soon as it is known."""
    context = multiprocessing.get_context("fork")
    waiting = list(waiting)
    busy: list[Worker] = []
    while waiting or busy:
        while waiting and len(busy) < jobs:
            worker = Worker(cases, waiting.pop(0))
            worker.start(context)
            busy.append(worker)
        for worker in list(busy):
            ended = worker.watch()
            if ended:
                busy.remove(worker)
                waiting += ended[1]
                yield ended[0]


class Ledger:
    """Slices on the disk, one a line, with the code they were run on.

    Parameters
    ----------
    path : Path
        JSON lines; made where there is none.
    about : dict
        What the slices hang on (kind, seed, fingerprint of the code); others do not count.
    """

    def __init__(self, path: Path, about: dict) -> None:
        self.path, self.about = path, about

    def slices(self) -> list[Slice]:
        """Those run on what `about` tells."""
        if not self.path.exists():
            return []
        found = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [
            Slice(one["start"], one["stop"], Counter(one["outcomes"]), one["failures"])
            for one in found
            if self.about.items() <= one.items()
        ]

    def add(self, done: Slice) -> None:
        """Append a slice."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(self.about | vars(done)) + "\n")

    def missing(self, numbers: range, size: int) -> list[range]:
        """What of `numbers` was not run, in ranges of at most `size`."""
        left, at = [], numbers.start
        for done in sorted(self.slices(), key=lambda one: one.start):
            left.append(range(at, min(done.start, numbers.stop)))
            at = max(at, done.stop)
        left.append(range(at, numbers.stop))
        return [part[a : a + size] for part in left for a in range(0, len(part), size)]
