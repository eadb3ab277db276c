"""This codec and its peers side by side, at equal error, on data files and simulated fields.

    python benchmarks/peers.py --data_dir DIR [DIR ...] [--jobs N] [--fresh_ours]

takes every ``.npz`` file of the folders (key ``data``, [V, S, T, H, W]) and the fields of
`simulated`, runs the rule ``evaluate`` once for each data set, codec and error, and writes
``ratios.md``, ``ratios.csv`` and ``ratios.png`` to its output folder. What was measured before on the
same data is kept, so an interrupted run goes on where it stopped; give ``--fresh_ours`` after a
change of our code (no result of a peer depends on it) and ``--fresh`` to measure all again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import peers_report
import simulated

from caesar_freq.errors import InputError, run_main
from caesar_freq.evaluate import OURS
from caesar_freq.peers import NAMES, WITHOUT

LOSSLESS = "zstd"
# the error that matters most first: a run that is cut short then has it on all sets
NRMSE = (1e-3, 1e-2, 1e-4, 3e-3, 1e-5)
MAX_REL = (1e-3, 1e-2, 1e-4)


@dataclass(frozen=True)
class Measurement:
    """One data set, codec and error; a record of `evaluate`."""

    file: Path
    codec: str
    criterion: str
    target: float
    output_dir: Path

    @property
    def output(self) -> Path:
        """Where its record goes."""
        name = f"{self.codec}_{self.criterion}_{self.target:g}.json"
        return self.output_dir / "raw" / self.file.stem / name

    def older_records(self) -> list[Path]:
        """Files that hold its record."""
        found = []
        for path in sorted(self.output.parent.glob(f"{self.codec}_{self.criterion}*.json")):
            targets = [record["target"] for record in json.loads(path.read_text())["records"]]
            if self.target in targets:
                found.append(path)
        return found

    def done(self) -> bool:
        """Whether it was measured on the data as they are now."""
        return any(
            path.stat().st_mtime >= self.file.stat().st_mtime for path in self.older_records()
        )

    def run(self, model: str) -> None:
        """Measure, in a process of its own."""
        for path in self.older_records():
            path.unlink()
        command = [
            sys.executable, "-m", "caesar_freq.evaluate", "--data", str(self.file),
            "--dataset", self.file.stem, "--codec", self.codec, "--criterion", self.criterion,
            "--model", model, "--output", str(self.output),
        ]  # fmt: skip
        if self.criterion != "lossless":
            command += ["--targets", repr(self.target)]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise InputError(f"{' '.join(command)} ended with exit code {done.returncode}")


def measurements(args: argparse.Namespace, files: Sequence[Path]) -> Iterator[Measurement]:
    """All that was asked for: error by error, codec by codec."""
    errors = [("nrmse", target) for target in args.targets]
    errors += [("max_rel", target) for target in args.max_rel]
    for criterion, target in [*errors, ("lossless", 0.0)]:
        for codec in args.codecs:
            lossless = criterion == "lossless"
            if lossless and codec not in (LOSSLESS, "frequency"):
                continue
            if (codec == LOSSLESS and not lossless) or (codec, criterion) in WITHOUT:
                continue
            for file in files:
                yield Measurement(file, codec, criterion, target, args.output_dir)


def data_files(folders: Sequence[Path]) -> list[Path]:
    """The ``.npz`` files of all folders; a name must come once."""
    files = []
    for folder in folders:
        found = sorted(folder.glob("*.npz"))
        if not found:
            raise InputError(f"{folder} has no .npz files; make some with caesar_freq.split")
        files += found
    names = [file.stem for file in files]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two data files are called {name}.npz; rename one of them")
    return files


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data_dir", type=Path, nargs="*", default=[], help="folders of .npz files"
    )
    parser.add_argument(
        "--simulated", action=argparse.BooleanOptionalAction, default=True,
        help="take the simulated fields, too (default)",
    )  # fmt: skip
    parser.add_argument("--targets", type=float, nargs="*", default=NRMSE, help="equal NRMSE")
    parser.add_argument(
        "--max_rel", type=float, nargs="*", default=MAX_REL, help="equal largest error over range"
    )
    parser.add_argument(
        "--codecs", nargs="+", choices=[*OURS, *NAMES], default=["frequency", *NAMES]
    )
    parser.add_argument("--model", default="base", help="model of our codecs (default: base)")
    parser.add_argument("--jobs", type=int, default=1, help="jobs at a time (default: 1)")
    parser.add_argument("--fresh", action="store_true", help="measure all again")
    parser.add_argument("--fresh_ours", action="store_true", help="measure our codecs again")
    parser.add_argument("--report_only", action="store_true", help="measure nothing")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results/peers"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then write the tables and the plot."""
    args = parse(argv)
    files = data_files(args.data_dir)
    if args.simulated:
        files += simulated.files(args.output_dir.parent / "simulated")

    def needed(one: Measurement) -> bool:
        return args.fresh or (args.fresh_ours and one.codec in OURS) or not one.done()

    if not args.report_only:
        with ThreadPoolExecutor(args.jobs) as pool:
            waiting = [one for one in measurements(args, files) if needed(one)]
            list(pool.map(lambda one: one.run(args.model), waiting))
    print(peers_report.write(args.output_dir / "raw", args.output_dir))
    return 0


if __name__ == "__main__":
    run_main(main)
