"""Join the compressed parts of a data set to one file; no value is coded again.

A small file beside it holds length and checksum: where a join made the same bytes as before, what
follows need not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import google_crc32c

from caesar_freq.atomic import atomic_path
from caesar_freq.codec.joining import join
from caesar_freq.compression import job
from caesar_freq.errors import run_main

_BLOCK = 1 << 22


def checksum(path: Path) -> str:
    """CRC-32C of a file, as hexadecimal text."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            value = google_crc32c.extend(value, block)
    return f"{value:08x}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``join``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.compression.join", description=__doc__)
    job.add_input(parser)
    job.add_gathered(parser)
    parser.add_argument("--receipt", type=Path, required=True, help="JSON: length, checksum")
    job.add_output(parser)
    args = parser.parse_args(argv)
    with job.measured(args):
        paths = job.gathered(args.folder, args.parts, ".cfq")
        with job.opened_source(args.input, args.variables) as (source, metadata):
            shape, nbytes = source.shape, source.nbytes
        with atomic_path(args.output) as temporary:
            with open(temporary, "wb") as out:
                size = join(paths, shape, metadata, out)
            value = checksum(temporary)
        job.write_json(
            args.receipt,
            {"bytes": size, "original_bytes": nbytes, "crc32c": value, "parts": len(paths)},
        )
    print(f"{args.output}: {size} bytes, CR {nbytes / size:.2f}")
    return 0


if __name__ == "__main__":
    run_main(main)
