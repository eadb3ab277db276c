"""Statistics of one part of a data set, read chunk by chunk."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import boxes
from caesar_freq.codec.statistics import Statistics
from caesar_freq.compression import job
from caesar_freq.compression.parts import Part, PartOfSource
from caesar_freq.data.lazy import Source
from caesar_freq.errors import run_main


def survey(source: Source, part: Part, fill_value: float | None = None) -> dict:
    """Survey a part.

    Returns
    -------
    dict
        ``variable`` (number), and ``chunks``: a `Statistics` as a dict for each.
    """
    piece, found = PartOfSource(source, part), []
    for place in boxes(piece.shape):
        values = piece.read(place.index)
        found.append(asdict(Statistics.of(Chunk(values, place, fill_value, False))))
    return {"variable": part.variable, "chunks": found}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``survey``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.survey", description=__doc__)
    job.add_input(parser)
    job.add_part(parser)
    job.add_output(parser)
    args = parser.parse_args(argv)
    with job.measured(args), job.opened_source(args.input, args.variables) as (source, _):
        job.write_json(args.output, survey(source, job.part_of(args), job.fill_of(args)))
    return 0


if __name__ == "__main__":
    run_main(main)
