"""Compress a synthetic Zarr store on the rig, as many jobs, and compare their memory with requests.

    python tests/cluster/scale.py DIR [--gb 20] [--part_mb 1024] [--jobs 2] [--minutes 0]

DIR keeps the store, the results and ``scale.json``; the same command goes on where it stopped, as it
does after ``--minutes`` (running jobs are waited for). ``make test-scale`` runs this; it needs what the
rig needs, and 1.1 times the size of the store on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]

from processes import members, text  # noqa: E402
from rig import Rig  # noqa: E402
from synthetic_zarr import NAMES, make  # noqa: E402

ROOT = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


class Watch(threading.Thread):
    """Looks every few seconds at the jobs of the rig: memory asked for, and resident memory.

    Attributes
    ----------
    jobs : dict
        By job id: ``what``, ``asked_mb`` and ``peak_mb``, the largest sum over all processes of the job,
        Snakemake's own among them, as SLURM counts it. Shared pages count once for each process.
    """

    def __init__(self, rig: Rig, pause: float = 3) -> None:
        super().__init__(daemon=True)
        self.rig, self.pause, self.jobs, self.stopped = rig, pause, {}, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(self.pause):
            listed = self.rig.ask("squeue", "-h", "-o", "%A|%m|%k").stdout
            for line in listed.splitlines():
                number, memory, what = line.split("|")
                what = re.split(r"_wildcards_|_[0-9a-f]{8}-", what)[0]
                self.jobs.setdefault(
                    number, {"what": what, "asked_mb": megabytes(memory), "peak_mb": 0}
                )
            for number, used in self.resident().items():
                if number in self.jobs:
                    self.jobs[number]["peak_mb"] = max(self.jobs[number]["peak_mb"], used)

    def resident(self) -> dict[str, int]:
        """MiB by job id at this moment."""
        used: dict[str, int] = {}
        for pid in members(self.rig.folder):
            number = re.search(r"(?:^|\0)SLURM_JOB_ID=(\d+)", text(pid, "environ"))
            size = re.search(r"VmRSS:\s+(\d+) kB", text(pid, "status"))
            if number and size:
                used[number[1]] = used.get(number[1], 0) + int(size[1]) // 1024
        return used

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
        self.join()


def megabytes(text: str) -> int:
    """MiB of a size as squeue prints it."""
    number, unit = re.fullmatch(r"([\d.]+)([KMGT]?)", text).groups()
    return round(float(number) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1 << 20}[unit])


def settings(folder: Path, part_mb: int, jobs: int) -> None:
    """The shipped profile for the rig, and the tiny configuration with the store to compress."""
    profile = (ROOT / "profiles" / "slurm" / "profile.yaml").read_text()
    profile = profile.replace("# slurm-status-command", "slurm-status-command")
    profile = re.sub(r"^jobs: .*", f"jobs: {jobs}", profile, flags=re.M)
    (folder / "profiles" / "slurm").mkdir(parents=True, exist_ok=True)
    (folder / "profiles" / "slurm" / "profile.yaml").write_text(
        profile + "slurm-init-seconds-before-status-checks: 5\n"
    )
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text())
    config["datasets"] = {"waves": {"source": "turbulence"}}
    config["compress"] = {
        "wind": {
            "input": "wind.zarr",
            "variables": list(NAMES),
            "mode": "nrmse",
            "bound": 1e-3,
            "part_mb": part_mb,
        }
    }
    (folder / "scale.yaml").write_text(yaml.safe_dump(config))


def run(folder: Path, jobs: int, part_mb: int, minutes: float) -> int:
    """One call of Snakemake on a fresh rig; adds what it saw to ``scale.json``; its exit code."""
    settings(folder, part_mb, jobs)
    with Rig(folder / "rig") as rig:
        watch = Watch(rig)
        watch.start()
        began = time.monotonic()
        with open(folder / "master.log", "a") as log:
            master = subprocess.Popen(
                [SNAKEMAKE, "compress", "--profile", "profiles/slurm", "--snakefile",
                 ROOT / "workflow" / "Snakefile", "--configfile", "scale.yaml"],
                cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=rig.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            code = master.wait(minutes * 60 or None)
        except subprocess.TimeoutExpired:
            master.send_signal(signal.SIGTERM)  # submits no more, waits for what runs
            code = master.wait()
        seconds = round(time.monotonic() - began)
        watch.stop()
    history = folder / "scale.json"
    runs = json.loads(history.read_text()) if history.exists() else []
    runs.append({"seconds": seconds, "code": code, "jobs": list(watch.jobs.values())})
    history.write_text(json.dumps(runs, indent=1))
    return code


def report(folder: Path) -> str:
    """What SLURM saw, behind the workflow's own table."""
    runs = json.loads((folder / "scale.json").read_text())
    jobs = [job for one in runs for job in one["jobs"]]
    lines = [
        (folder / "results" / "compressed" / "wind.md").read_text(),
        f"{len(jobs)} SLURM jobs in {sum(one['seconds'] for one in runs)} s "
        f"({len(runs)} calls of Snakemake, {os.cpu_count()} cores).",
        "",
        "| SLURM job | number | memory asked for, MiB | largest peak, all processes, MiB |",
        "|---|---|---|---|",
    ]
    for what in sorted({job["what"] for job in jobs}):
        own = [job for job in jobs if job["what"] == what]
        asked, peak = min(job["asked_mb"] for job in own), max(job["peak_mb"] for job in own)
        lines.append(f"| {what} | {len(own)} | {asked} | {peak} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gb", type=float, default=20)
    parser.add_argument("--part_mb", type=int, default=1024)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at the same time")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many; 0: never")
    args = parser.parse_args(argv)
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "wind.done"
    if not done.exists():
        made = make(folder / "wind.zarr", args.gb)
        done.write_text(f"{made}\n")
    code = run(folder, args.jobs, args.part_mb, args.minutes)
    if code == 0:
        table = report(folder)
        target = ROOT / "results" / "cluster"
        target.mkdir(parents=True, exist_ok=True)
        (target / "scale.md").write_text(table)
        print(table)
    else:
        print(f"not finished; see {folder}/master.log, and give the same command to go on")
    return code


if __name__ == "__main__":
    sys.exit(main())
