"""What a fault led to, what a user saw meanwhile, and the table of it all."""

from __future__ import annotations

import csv
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from case import ROOT, Case
from held import HELD_AT

from caesar_freq import status

REPORT = ROOT / "results" / "cluster"


@dataclass
class Outcome:
    """What a case showed; `problem` is empty if all of it held."""

    fault: str
    phase: str
    node: str = ""
    ended: str = ""
    went_on: str = ""
    start: str = ""
    asked: str = ""
    identical: bool = False
    others_untouched: bool = False
    seconds: int = 0
    problem: str = ""


def shown(case: Case) -> str:
    """What ``caesar-freq status`` misses about the held trainer."""
    (run,) = (run for run in status.runs(case.folder) if run["phase"] in case.phase)
    expected = {"state": "running", "step": HELD_AT, "job": case.job, "node": case.node}
    missed = [f"{key} {run[key]}" for key, value in expected.items() if run[key] != value]
    missed += [key for key in ("epoch", "loss", "eta", "metrics") if not run[key]]
    keep("status", status.text_of(case.folder))
    return f"status shows {', '.join(missed)}" if missed else ""


def used(case: Case, outcome: Outcome, finished: Path) -> str:
    """What ``caesar-freq status --efficiency`` misses about the ended job, and what a retry asked."""
    row, first = (
        next(row for row in status.efficiency(folder) if row["rule"] == case.phase)
        for folder in (case.folder, finished)
    )
    needed = ("asked_minutes", "minutes", "asked_mb", "mb", "asked_cpus", "cpus", "asked_gpu_gb")
    missed = [key for key in needed if row[key] is None]
    keep("efficiency", status.efficiency_text(case.folder))
    if missed:
        return f"efficiency misses {', '.join(missed)}"
    outcome.asked = f"{row['asked_mb']:g} MB, GPU {row['asked_gpu_gb']:g} GB"
    keys = ("asked_mb", "asked_minutes", "asked_gpu_gb")
    if "retried" in outcome.went_on and not all(row[key] > first[key] for key in keys):
        return f"the retry asked for no more: {outcome.asked}"
    return ""


def keep(name: str, text: str) -> None:
    """What a user saw, beside the tables."""
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / f"{name}.txt").write_text(f"{text}\n")


def commit() -> str:
    """What was tested; empty outside of git."""
    asked = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def report(rows: list[Outcome], name: str, seconds: float) -> None:
    """Table of faults as CSV and Markdown, and what it proves; printed as well."""
    REPORT.mkdir(parents=True, exist_ok=True)
    with open(REPORT / f"{name}.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    heads = ("fault", "phase", "on node", "the trainer", "went on by", "began again",
             "asked in the end", "weights identical", "finished work untouched", "seconds")  # fmt: skip
    yes = {True: "yes", False: "NO"}
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        lines.append(
            (row.fault, row.phase, row.node, row.ended, row.went_on or row.problem.splitlines()[0],
             row.start, row.asked, yes[row.identical], yes[row.others_untouched], str(row.seconds))
        )  # fmt: skip
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    good = [row for row in rows if not row.problem]
    text += (
        f"\n{len(good)} of {len(rows)} cases ended with the weights of an undisturbed run, bit for bit, and "
        f"repeated no finished work. Commit {commit()}, {time.strftime('%F', time.gmtime())}, "
        f"{os.cpu_count()} cores, {seconds / 60:.1f} min.\n"
    )
    (REPORT / f"{name}.md").write_text(text)
    print(f"\n{text}", flush=True)
