"""This codec and its peers side by side, at equal error, on every data file of a folder.

    python benchmarks/peers.py --data_dir DIR [--targets 1e-2 1e-3 1e-4] [--max_rel 1e-3]

takes ``.npz`` files (key ``data``, [V, S, T, H, W]), runs the rules ``evaluate`` and ``report`` on them
and prints the table of compression ratios of all that lies in its output folder. What was measured
before on the same data and targets is kept and not run again unless ``--fresh`` is given: use that
after a change of code.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from caesar_freq import report
from caesar_freq.errors import InputError, run_main
from caesar_freq.evaluate import OURS
from caesar_freq.peers import NAMES

LOSSLESS = "zstd"


def jobs(args: argparse.Namespace, files: list[Path]) -> Iterator[list[str]]:
    """Commands of the jobs to run: each a data set, a codec and a criterion."""
    for file in files:
        for codec in args.codecs:
            criteria = [("nrmse", args.targets), ("max_rel", args.max_rel)]
            if codec == LOSSLESS:
                criteria = [("lossless", [])]
            elif codec == "frequency":
                criteria.append(("lossless", []))
            for criterion, targets in criteria:
                if criterion != "lossless" and not targets:
                    continue
                output = args.output_dir / "raw" / file.stem / f"{codec}_{criterion}.json"
                command = [
                    sys.executable, "-m", "caesar_freq.evaluate", "--data", str(file),
                    "--dataset", file.stem, "--codec", codec, "--criterion", criterion,
                    "--model", args.model, "--output", str(output),
                ]  # fmt: skip
                if targets:
                    command += ["--targets", *map(str, targets)]
                if args.fresh or not measured(output, file, targets):
                    yield command


def measured(output: Path, file: Path, targets: list[float]) -> bool:
    """Whether `output` holds these targets for the data as they are now."""
    if not output.exists() or output.stat().st_mtime < file.stat().st_mtime:
        return False
    records = json.loads(output.read_text())["records"]
    return [r["target"] for r in records] == (targets or [0.0])


def run(command: list[str]) -> None:
    """Run one job."""
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise InputError(f"{' '.join(command)} ended with exit code {done.returncode}; see above")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of .npz files")
    parser.add_argument(
        "--targets",
        type=float,
        nargs="*",
        default=[1e-2, 1e-3, 1e-4],
        help="equal NRMSE (default: 1e-2 1e-3 1e-4)",
    )
    parser.add_argument(
        "--max_rel",
        type=float,
        nargs="*",
        default=[1e-3],
        help="equal largest error over range (default: 1e-3)",
    )
    parser.add_argument(
        "--codecs", nargs="+", choices=[*OURS, *NAMES], default=["frequency", *NAMES]
    )
    parser.add_argument("--model", default="base", help="model of our codecs (default: base)")
    parser.add_argument("--jobs", type=int, default=1, help="jobs at a time (default: 1)")
    parser.add_argument("--fresh", action="store_true", help="measure all again")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results/peers"))
    args = parser.parse_args(argv)  # fmt: skip
    files = sorted(args.data_dir.glob("*.npz"))
    if not files:
        raise InputError(f"{args.data_dir} has no .npz files; make some with caesar_freq.split")
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, jobs(args, files)))
    return report.main(
        ["--results", str(args.output_dir / "raw"), "--output_dir", str(args.output_dir)]
    )


if __name__ == "__main__":
    run_main(main)
