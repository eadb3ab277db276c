"""This codec and its peers side by side, at equal error, on data files and simulated fields.

    python benchmarks/peers.py --data_dir DIR [DIR ...] [--jobs N] [--codecs NAME ...]

takes every ``.npz`` file of the folders (key ``data``, [V, S, T, H, W]) and the fields of
`simulated`, runs the rule ``evaluate`` once for each data set, codec and error, and writes
``ratios.md``, ``ratios.csv`` and ``ratios.png`` to its output folder. What was measured before is
kept, so an interrupted run goes on where it stopped. A record is measured again when the data, the
peer's version or the search of its setting has changed, and one of ours when our code or the model
has: no result of a peer depends on these. ``--fresh`` measures all again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import peers_report
import simulated

from caesar_freq.atomic import write_bytes
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.errors import InputError, run_main
from caesar_freq.fingerprints import OURS, evaluation_code, peer_code
from caesar_freq.peers import NAMES, WITHOUT, version

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

    def done(self, model: str) -> bool:
        """Whether it was measured on these data with this version of the peer, or of our code."""
        if not self.output.exists():
            return False
        (record,) = json.loads(self.output.read_text())["records"]
        return self.about(model).items() <= record.items()

    def about(self, model: str) -> dict[str, str]:
        """What its result hangs on; a record that tells something else is out of date."""
        return {
            "data_sha256": sha256(self.file),
            "measured_with": measured_with(self.codec, model),
        }

    def run(self, model: str) -> None:
        """Measure, in a process of its own."""
        self.output.unlink(missing_ok=True)
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
        content = json.loads(self.output.read_text())
        content["records"][0] |= self.about(model)
        write_bytes(self.output, (json.dumps(content, indent=1) + "\n").encode())


@cache
def sha256(file: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def measured_with(codec: str, model: str) -> str:
    """The version of a peer and of the search of its setting, or of our code and its model."""
    if codec not in OURS:
        return f"{version(codec)}, searched by {peer_code()}"
    return f"{evaluation_code(codec)}, model {load_frequency_model(model).fingerprint[:16]}"


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
        return args.fresh or not one.done(args.model)

    if not args.report_only:
        with ThreadPoolExecutor(args.jobs) as pool:
            waiting = [one for one in measurements(args, files) if needed(one)]
            list(pool.map(lambda one: one.run(args.model), waiting))
    print(peers_report.write(args.output_dir / "raw", args.output_dir))
    return 0


if __name__ == "__main__":
    run_main(main)
