"""What a compressed data set is worth: ratio, errors of every variable, memory of its jobs.

Ends with exit code 2, and names the variable, if a bound does not hold.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from caesar_freq.compression import job
from caesar_freq.errors import CaesarError, run_main


class BrokenBound(CaesarError):
    """The compressed file does not keep its bound."""


def judge(parts: Sequence[dict], mode: str, bound: float) -> list[dict]:
    """Errors of each variable from what `verify` found in its parts, and whether the bound holds."""
    rows = []
    for number in sorted({part["variable"] for part in parts}):
        own = [part for part in parts if part["variable"] == number]
        count = sum(part["count"] for part in own)
        spread = max(p["high"] for p in own) - min(p["low"] for p in own) if count else 0.0
        rms = math.sqrt(math.fsum(part["squares"] for part in own) / count) if count else 0.0
        largest = max(part["max_error"] for part in own)
        limits = {
            "abs": (largest, bound),
            "rel": (largest, bound * spread),
            "nrmse": (rms, bound * spread),
            "psnr": (rms, 10 ** (-bound / 20) * spread),
        }
        if mode == "lossless" or bound == 0:
            held = all(part["bits_equal"] for part in own)
        else:
            error, limit = limits[mode]
            held = error <= limit and all(part["special_equal"] for part in own)
        rows.append(
            {
                "variable": number,
                "values": count,
                "range": spread,
                "nrmse": rms / spread if spread else rms,
                "max_error_rel": largest / spread if spread else largest,
                "bound_held": held,
            }
        )
    return rows


def usage(folder: Path, parts: int) -> list[dict]:
    """By rule: number of jobs, memory asked for and used, time."""
    names = {"all", *map(job.part_name, range(parts))}  # others are of an earlier part_mb
    rows = []
    for rule in sorted(path for path in folder.iterdir() if path.is_dir()):
        jobs = [job.read_json(path) for path in rule.glob("*.json") if path.stem in names]
        rows.append(
            {
                "rule": rule.name,
                "jobs": len(jobs),
                "asked_mb": min(one["asked_mb"] for one in jobs),
                "peak_mb": max(one["peak_mb"] for one in jobs),
                "over_their_request": sum(one["peak_mb"] > one["asked_mb"] for one in jobs),
                "seconds": round(sum(one["seconds"] for one in jobs), 1),
                "cpu_seconds": round(sum(one["cpu_seconds"] for one in jobs), 1),
            }
        )
    return rows


def markdown(result: dict) -> str:
    """The result as two tables."""
    lines = [
        f"{result['original_bytes']} bytes in {result['parts']} parts became {result['bytes']}: "
        f"CR {result['cr']:.1f} ({result['mode']} {result['bound']:g}).",
        "",
        "| variable | NRMSE | largest error / range | bound held |",
        "|---|---|---|---|",
    ]
    for row in result["variables"]:
        lines.append(
            f"| {row['variable']} | {row['nrmse']:.3g} | {row['max_error_rel']:.3g} | "
            f"{'yes' if row['bound_held'] else 'NO'} |"
        )
    lines += [
        "",
        "| rule | jobs | memory asked for, MB | largest peak, MB | over their request | CPU s | wall s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["usage"]:
        lines.append(
            f"| {row['rule']} | {row['jobs']} | {row['asked_mb']} | {row['peak_mb']} | "
            f"{row['over_their_request']} | {row['cpu_seconds']} | {row['seconds']} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``compression_table``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.table", description=__doc__)
    job.add_gathered(parser)
    parser.add_argument(
        "--receipt", type=Path, required=True, help="of caesar_freq.compression.join"
    )
    parser.add_argument("--usage_dir", type=Path, required=True, help="a folder for each rule")
    parser.add_argument("--mode", choices=job.MODES, required=True)
    parser.add_argument("--bound", type=float, default=0.0)
    parser.add_argument("--output", type=Path, required=True, help=".json; .md goes beside it")
    args = parser.parse_args(argv)
    found = [job.read_json(path) for path in job.gathered(args.folder, args.parts, ".json")]
    receipt = job.read_json(args.receipt)
    result = {
        "mode": args.mode,
        "bound": args.bound,
        **receipt,
        "cr": receipt["original_bytes"] / receipt["bytes"],
        "variables": judge(found, args.mode, args.bound),
        "usage": usage(args.usage_dir, args.parts),
    }
    broken = [row["variable"] for row in result["variables"] if not row["bound_held"]]
    if broken:
        raise BrokenBound(
            f"variables {broken} break the bound {args.mode} {args.bound:g}; please report the data"
        )
    job.write_bytes(args.output.with_suffix(".md"), markdown(result).encode())
    job.write_json(args.output, result)
    print(markdown(result))
    return 0


if __name__ == "__main__":
    run_main(main)
