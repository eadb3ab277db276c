"""Offset and range of every variable, gathered from the surveys of its parts.

Bounds are relative to these, so no part can be compressed before all have been surveyed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from caesar_freq.codec.header import Variable
from caesar_freq.codec.statistics import Statistics, variable_of
from caesar_freq.compression import job
from caesar_freq.errors import InputError, run_main


def ranges(surveys: Sequence[dict], lossless: bool = False) -> list[Variable]:
    """One `Variable` for each variable, with offset and range alone.

    Raises
    ------
    InputError
        If no part of any variable holds a finite value and they are not to be kept losslessly.
    """
    chunks: dict[int, list[Statistics]] = {}
    for found in surveys:
        statistics = [Statistics(**chunk) for chunk in found["chunks"]]
        chunks.setdefault(found["variable"], []).extend(statistics)
    if not lossless and all(s.empty for own in chunks.values() for s in own):
        raise InputError(
            "the data holds no finite value (all NaN, infinite or fill values); check the "
            "variables, or use the mode lossless to store it as it is"
        )
    return [variable_of(own) for _, own in sorted(chunks.items())]


def load(path: Path) -> list[Variable]:
    """What `main` wrote."""
    return [Variable(**entry) for entry in job.read_json(path)]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``ranges``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.ranges", description=__doc__)
    job.add_gathered(parser)
    parser.add_argument("--lossless", action="store_true", help="no finite value is no error")
    job.add_output(parser)
    args = parser.parse_args(argv)
    with job.measured(args):
        paths = job.gathered(args.folder, args.parts, ".json")
        found = ranges([job.read_json(path) for path in paths], args.lossless)
        job.write_json(args.output, [_numbers(variable) for variable in found])
    return 0


def _numbers(variable: Variable) -> dict[str, float]:
    return {key: value for key, value in asdict(variable).items() if key in ("offset", "range")}


if __name__ == "__main__":
    run_main(main)
