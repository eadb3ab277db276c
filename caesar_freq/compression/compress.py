"""Compress one part of a data set under the ranges of the whole."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from caesar_freq.atomic import atomic_path
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.codec.options import Options, Whole
from caesar_freq.codec.stream import encode_source
from caesar_freq.compression import job
from caesar_freq.compression.parts import PartOfSource
from caesar_freq.compression.ranges import load
from caesar_freq.errors import InputError, run_main


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``compress_part``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.compress", description=__doc__)
    job.add_input(parser)
    job.add_part(parser)
    parser.add_argument(
        "--ranges", required=True, type=job.Path, help="of caesar_freq.compression.ranges"
    )
    parser.add_argument("--mode", choices=job.MODES, required=True)
    parser.add_argument("--bound", type=float, default=0.0, help="in the unit of the mode")
    parser.add_argument("--model", default="base", help="base or a frequency model (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    job.add_output(parser)
    args = parser.parse_args(argv)
    model, part = load_frequency_model(args.model), job.part_of(args)
    options = Options(
        args.mode, args.bound, fill_value=job.fill_of(args), threads=args.threads,
        embed_model=FrequencyModel.packaged(model.fingerprint) is None,
    )  # fmt: skip
    whole = Whole(load(args.ranges), part.variable)
    with job.measured(args), job.opened_source(args.input, args.variables) as (source, _):
        piece = PartOfSource(source, part)
        with atomic_path(args.output) as temporary, open(temporary, "w+b") as out:
            try:
                size = encode_source(
                    piece, out, options, model, folder=args.output.parent, whole=whole
                )
            except InputError as error:
                raise InputError(f"{args.input}: {error}") from error
    print(f"{args.output}: {size} bytes, CR {piece.nbytes / size:.2f}")
    return 0


if __name__ == "__main__":
    run_main(main)
