"""How long a NetCDF classic file (formats 1, 2 and 5) has to be, by its own header.

The NetCDF library reads what lies beyond the end of such a file as zeros, so a download or a run
that was cut off would be compressed without a word, and a damaged header may crash it: this looks
first. HDF5 (NetCDF-4) notices by itself.

Source: "File Format Specifications", NetCDF User's Guide.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from caesar_freq.errors import InputError

# nc_type to bytes of a value
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12


class _Header:
    """Numbers of a header, one after another; lengths have 4 bytes, in format 5 eight."""

    def __init__(self, file: BinaryIO, version: int) -> None:
        self.file = file
        self.length_format = ">q" if version == 5 else ">i"
        self.offset_format = ">i" if version == 1 else ">q"

    def number(self, form: str = ">i") -> int:
        data = self.file.read(struct.calcsize(form))
        return struct.unpack(form, data)[0]  # struct.error at the end of the file

    def length(self) -> int:
        length = self.number(self.length_format)
        if length < 0:
            raise ValueError(f"length {length}")
        return length

    def skip(self, size: int) -> None:
        self.file.seek(-(-size // 4) * 4, 1)

    def items(self, kind: int) -> range:
        """The list that follows, which may be absent."""
        tag, count = self.number(), self.length()
        if tag not in (0, kind):
            raise ValueError(f"tag {tag}")
        return range(count)

    def skip_attributes(self) -> None:
        for _ in self.items(_ATTRIBUTE):
            self.skip(self.length())
            size = _SIZES[self.number()]
            self.skip(size * self.length())


def missing_bytes(path: Path) -> int:
    """Bytes that the file lacks; 0 if it is complete or not of a classic format.

    Raises
    ------
    InputError
        If the header itself is damaged or cut off.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3:] not in (b"\x01", b"\x02", b"\x05"):
            return 0
        try:
            needed = _needed(_Header(file, magic[3]))
        except (ValueError, LookupError, struct.error) as error:
            raise InputError(
                f"{path} is damaged: its header ends in disorder; copy it again"
            ) from error
        return max(0, needed - file.seek(0, 2))


def _needed(header: _Header) -> int:
    """End of the last value, without the padding that not every writer adds."""
    records = header.number(header.length_format)
    dims = []
    for _ in header.items(_DIMENSION):
        header.skip(header.length())
        dims.append(header.length())
    header.skip_attributes()
    fixed, recorded = [0], []
    for _ in header.items(_VARIABLE):
        header.skip(header.length())
        shape = [dims[header.length()] for _ in range(header.length())]
        header.skip_attributes()
        size = _SIZES[header.number()]
        header.length()  # vsize, which overflows for large variables
        begin = header.number(header.offset_format)
        if shape[:1] == [0]:  # the record dimension has no length of its own
            recorded.append((begin, size * math.prod(shape[1:])))
        else:
            fixed.append(begin + size * math.prod(shape))
    if records < 0 or not recorded:  # -1: written as a stream, the length tells
        return max(fixed)
    # records are padded to four bytes, except those of a variable that is alone
    one = sum(-(-size // 4) * 4 for _, size in recorded) if len(recorded) > 1 else recorded[0][1]
    last = [(records - 1) * one + begin + size for begin, size in recorded if records]
    return max(fixed + last)
