"""What an archive of many TB needs, from the measured rates of a smaller compression.

    python benchmarks/scaling.py results/scale/results/compressed/wind.json [--tb 100]

The JSON is what the workflow's section ``compress`` writes. Prints a table for several sizes of parts:
parts, SLURM jobs, core hours, wall time on so many cores, files, submissions a minute. Everything is
proportional to bytes or to the number of jobs; nothing here is measured at that size.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

#: CPU seconds of a SLURM job besides its rule: two starts of Snakemake (measured).
START = 5.0
#: Members of a group of surveys or verifications in profiles/slurm.
GROUP = 8
#: Files of a part: result, usage, log, benchmark and Snakemake's record of three rules, the outputs
#: of which have one record each (counted).
FILES_OF_A_PART = 19
#: Largest array of one stream, in values (codec.header.MAX_VALUES), of 4 bytes each.
STREAM_BYTES = 4 << 40


@dataclass(frozen=True)
class Need:
    """What one choice of the part size needs; times in hours."""

    parts: int
    jobs: int
    core_hours: float
    wall_hours: float
    files: int
    submissions_a_minute: float


def need(total_bytes: float, part_bytes: float, seconds_a_byte: float, cores: int) -> Need:
    """Requirements.

    Parameters
    ----------
    seconds_a_byte : float
        CPU seconds of survey, compression and verification together for each byte of the data set.
    cores : int
        Jobs at the same time, one core each.
    """
    parts = math.ceil(total_bytes / part_bytes)
    streams = math.ceil(total_bytes / STREAM_BYTES)
    jobs = parts + 2 * math.ceil(parts / GROUP) + streams
    seconds = total_bytes * seconds_a_byte + jobs * START
    wall = seconds / cores / 3600
    return Need(parts, jobs, seconds / 3600, wall, parts * FILES_OF_A_PART, jobs / (60 * wall))


def rate(result: dict) -> float:
    """CPU seconds a byte of the rules that read the values, from a table of the workflow."""
    rows = [row for row in result["usage"] if row["rule"] != "join"]
    return sum(row["cpu_seconds"] for row in rows) / result["original_bytes"]


def table(result: dict, terabytes: float, cores: int) -> str:
    """Markdown, one row a part size."""
    seconds = rate(result)
    lines = [
        f"{terabytes:g} TB on {cores} cores at {1e-6 / seconds:.1f} MB/s a core (survey, compression "
        f"and verification together), CR {result['cr']:.0f}; "
        f"{math.ceil(terabytes * 1e12 / STREAM_BYTES)} streams.",
        "",
        "| part | parts | SLURM jobs | core hours | hours | files | submissions a minute |",
        "|---|---|---|---|---|---|---|",
    ]
    for gigabytes in (0.25, 1, 4, 16):
        n = need(terabytes * 1e12, gigabytes * 1e9, seconds, cores)
        lines.append(
            f"| {gigabytes:g} GB | {n.parts} | {n.jobs} | {n.core_hours:.0f} | {n.wall_hours:.1f} | "
            f"{n.files} | {n.submissions_a_minute:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("result", type=Path, help="JSON of the rule compression_table")
    parser.add_argument("--tb", type=float, default=100)
    parser.add_argument("--cores", type=int, default=256)
    args = parser.parse_args(argv)
    print(table(json.loads(args.result.read_text()), args.tb, args.cores))


if __name__ == "__main__":
    main()
