"""What the jobs of a compression have in common: their flags, their input, their own measurements."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caesar_freq.atomic import write_bytes
from caesar_freq.compression.parts import Part
from caesar_freq.data.files import fill_value_of, opened
from caesar_freq.data.lazy import Source
from caesar_freq.data.metadata import pack_lazily
from caesar_freq.errors import InputError

#: Modes in which the bound of the whole follows from that of its parts.
MODES = ("rel", "abs", "nrmse", "psnr", "lossless")


def add_input(parser: argparse.ArgumentParser) -> None:
    """Flags that name the data set."""
    parser.add_argument("--input", type=Path, required=True, help=".zarr, .nc, .npy or .npz")
    parser.add_argument("--variables", nargs="+", help="default: the only one, or the key data")
    parser.add_argument("--fill_value", type=float, help="value that marks missing data")


def add_part(parser: argparse.ArgumentParser) -> None:
    """Flags that name the part of it."""
    parser.add_argument("--variable", type=int, required=True, help="number of the variable")
    parser.add_argument("--sections", type=_range, required=True, metavar="A:B")
    parser.add_argument("--frames", type=_range, required=True, metavar="A:B")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Flags for the result and for what making it took."""
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--usage", type=Path, help="JSON of memory and time that the job took")
    parser.add_argument("--asked_mb", type=int, default=0, help="memory asked for, for that file")


def add_gathered(parser: argparse.ArgumentParser) -> None:
    """Flags for results of all parts."""
    parser.add_argument("--folder", type=Path, required=True, help="p00000 and so on lie there")
    parser.add_argument("--parts", type=int, required=True, help="how many there are")


def part_of(args: argparse.Namespace) -> Part:
    """The part that the flags name."""
    return Part(args.variable, args.sections, args.frames)


@contextmanager
def opened_source(path: Path, variables: list[str] | None) -> Iterator[tuple[Source, bytes]]:
    """The data set as the codec sees it, unread, and its metadata."""
    with opened(path, variables) as fields:
        yield pack_lazily(fields)


def fill_of(args: argparse.Namespace) -> float | None:
    """The value that marks missing data, as the flags or the format have it."""
    return fill_value_of(args.input, args.fill_value)


def gathered(folder: Path, count: int, suffix: str) -> list[Path]:
    """Files of all parts, in order.

    Raises
    ------
    InputError
        If one is missing.
    """
    paths = [folder / f"{part_name(number)}{suffix}" for number in range(count)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is missing; make it first (snakemake does)")
    return paths


def part_name(number: int) -> str:
    """Name of a part in file names."""
    return f"p{number:05}"


def write_json(path: Path, content: Any) -> None:
    """Write atomically, one entry a line."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Inverse of `write_json`.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or missing ({error}); make it again") from error


@contextmanager
def measured(args: argparse.Namespace) -> Iterator[None]:
    """Write ``args.usage`` when the work is done: peak resident memory as the kernel counts it."""
    began = time.monotonic()
    yield
    if args.usage:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        write_json(
            args.usage,
            {
                "asked_mb": args.asked_mb,
                "peak_mb": round(spent.ru_maxrss * 1024 / 1e6, 1),
                "seconds": round(time.monotonic() - began, 2),
                "cpu_seconds": round(spent.ru_utime + spent.ru_stime, 2),
            },
        )


def _range(text: str) -> slice:
    try:
        start, stop = map(int, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not START:STOP") from None
    return slice(start, stop)
