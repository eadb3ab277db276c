"""Decode one part from the bytes of the joined file and compare it with the data set.

Nothing is taken from the encoder but the file: errors are those of the decoded values in their own
dtype, and ranges those of the original values.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_chunks
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.compression import job
from caesar_freq.compression.parts import Part, PartOfSource
from caesar_freq.data.lazy import Source
from caesar_freq.data.sections import missing
from caesar_freq.errors import CorruptStreamError, InputError, run_main


def verify(source: Source, part: Part, stream: Container, model, threads: int = 1) -> dict:
    """Compare a part.

    Returns
    -------
    dict
        ``variable`` (number), ``count`` of valid values, their ``low`` and ``high``, ``squares`` (sum
        of squared errors) and ``max_error``, ``special_equal`` (all other values are the same bit
        by bit) and ``bits_equal`` (all values are).

    Raises
    ------
    InputError
        If the file does not hold an array of this shape and dtype.
    CorruptStreamError
        If it is damaged.
    """
    header = stream.header
    if header.shape != source.shape or header.dtype != source.dtype:
        raise InputError(
            f"it holds {header.dtype} {header.shape} but the data set is {source.dtype} "
            f"{source.shape}; compress it again"
        )
    piece, region = PartOfSource(source, part), part.region(source.shape)
    bits = np.uint32 if source.dtype == np.float32 else np.uint64
    low, high, count, squares, largest = np.inf, -np.inf, 0, 0.0, 0.0
    special_equal = bits_equal = True
    for place, after in decode_chunks(stream, (), threads, model, region):
        before = piece.read(place.index)
        same = before.view(bits) == np.ascontiguousarray(after).view(bits)
        special = missing(before, header.fill_value)
        bits_equal &= bool(same.all())
        special_equal &= bool(same[special].all())
        valid = before[~special].astype(np.float64)
        if not valid.size:
            continue
        error = np.abs(valid - after[~special])
        low, high = min(low, float(valid.min())), max(high, float(valid.max()))
        count, squares = count + valid.size, squares + float(error @ error)
        largest = max(largest, float(np.nan_to_num(error.max(), nan=np.inf)))
    return {
        "variable": part.variable, "count": count, "low": low, "high": high, "squares": squares,
        "max_error": largest, "special_equal": special_equal, "bits_equal": bits_equal,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``verify_part``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.verify", description=__doc__)
    job.add_input(parser)
    job.add_part(parser)
    parser.add_argument("--compressed", type=Path, required=True, help=".cfq")
    parser.add_argument("--model", default="base", help="model that the file was written with")
    parser.add_argument("--threads", type=int, default=1)
    job.add_output(parser)
    args = parser.parse_args(argv)
    model = load_frequency_model(args.model)
    with job.measured(args), job.opened_source(args.input, args.variables) as (source, _):
        with open(args.compressed, "rb") as file:
            try:
                found = verify(source, job.part_of(args), Container(file), model, args.threads)
            except (CorruptStreamError, InputError) as error:
                raise type(error)(f"{args.compressed}: {error}") from error
        job.write_json(args.output, found)
    return 0


if __name__ == "__main__":
    run_main(main)
