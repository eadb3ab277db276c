"""The head of a ``.cfq`` stream: everything but the chunks themselves.

::

    magic "CFQ", version, varint length of the body, body, CRC-32C of all before, chunks

All numbers are little-endian. The body holds, in this order: dtype and dimensions, shape, error
mode and bound, float precision of the transform, the variables (`Variable`), fill value, model,
generator, metadata and the chunk table (length and CRC-32C of each chunk; offsets follow by
summing, so any chunk can be read alone).

A stream joined of parts (`codec.joining`) has one `Variable` for each part instead, behind the
numbers of chunks (`runs`) that follow each of them.
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import google_crc32c
import numpy as np

from caesar_freq.codec.chunks import Box, boxes, chunk_count, five_dimensional, is_narrow
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.axis import KINDS
from caesar_freq.transform.blocks import CELLS, LARGEST_CELL, MAX_TIME_BLOCK

MAGIC = b"CFQ"
VERSION = 1
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
MODES = ("abs", "rel", "nrmse", "psnr", "lossless", "pw_rel")
#: Beside the number of dimensions: see `Header.narrow`.
_NARROW = 8
#: Time blocks up to this are numbers of their own; those after it stand for its doubles.
_LAST_OWN = 128
#: Steps ``2 ** (index / 512)`` of these indices are floats, the smallest 0.
_STEP_INDICES = range(-(1 << 20), 1 << 19)
_KIND_NAMES = {number: name for name, number in KINDS.items()}
#: Largest array that a header may announce, in values.
MAX_VALUES = 1 << 40


@dataclass
class Variable:
    """Normalisation, step and transform that the chunks of a variable share.

    The step is ``2 ** (step_index / 512)`` of the range.
    """

    offset: float
    range: float
    step_index: int = 0
    kind: str = "dct"
    cell: int = 16
    time_block: int = 16

    @property
    def step(self) -> float:
        """Normalised quantisation step."""
        return 2.0 ** (self.step_index / 512)

    def pack(self) -> bytes:
        """Serialise."""
        layout = KINDS[self.kind] | CELLS.index(self.cell) << 2
        number = self.time_block
        if number > _LAST_OWN:  # a power of two
            number = _LAST_OWN + (number // _LAST_OWN).bit_length() - 1
        return struct.pack("<ddiBB", self.offset, self.range, self.step_index, layout, number)

    @classmethod
    def unpack(cls, reader: Reader) -> Variable:
        """Inverse of `pack`."""
        offset, spread, step, layout, number = struct.unpack("<ddiBB", reader.take(22))
        if layout & 3 not in _KIND_NAMES or layout >> 2 >= len(CELLS) or step not in _STEP_INDICES:
            raise CorruptStreamError("the header names an unknown transform; is the file newer?")
        kind, cell = _KIND_NAMES[layout & 3], CELLS[layout >> 2]
        time_block = number if number <= _LAST_OWN else _LAST_OWN << number - _LAST_OWN
        if not 1 <= time_block <= MAX_TIME_BLOCK or cell > LARGEST_CELL[kind]:
            raise CorruptStreamError("the header names an impossible time block or cell")
        return cls(offset, spread, step, kind, cell, time_block)


@dataclass
class Header:
    """Parsed head of a stream; see the fields' names.

    `linked` says that some chunks refer to the section before (`codec.linked`), `narrow` how
    narrow arrays are cut (`chunks.boxes`).
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    mode: str
    bound: float
    double: bool
    variables: list[Variable]
    fill_value: float | None = None
    fingerprint: str = ""
    model: bytes = b""
    generator_sha256: str = ""
    generator_source: str = ""
    metadata: bytes = b""
    linked: bool = False
    chunks: list[tuple[int, int]] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    narrow: bool = True

    def places(self) -> Iterator[Box]:
        """Those of the chunks, in their order."""
        return boxes(five_dimensional(self.shape), self.narrow)

    def variable_of(self, number: int, place: Box) -> Variable | None:
        """What the chunk of this number and place was coded with; None in a lossless stream."""
        if not self.variables:
            return None
        return self.variables[bisect(self._ends, number) if self.runs else place.variable]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.runs))

    def pack(self) -> bytes:
        """Serialise with magic, version and checksum."""
        flags = (
            bool(self.double)
            | (self.fill_value is not None) << 1
            | bool(self.model) << 2
            | bool(self.generator_sha256) << 3
            | bool(self.metadata) << 4
            | bool(self.variables) << 5
            | bool(self.linked) << 6
            | bool(self.runs) << 7
        )
        narrow = self.narrow and is_narrow(five_dimensional(self.shape))
        body = bytes([DTYPES.index(self.dtype), len(self.shape) | _NARROW * narrow])
        body += b"".join(varint(n) for n in self.shape)
        body += struct.pack("<BdB", MODES.index(self.mode), self.bound, flags)
        if self.variables:
            if self.runs:
                body += b"".join(map(varint, (len(self.runs), *self.runs)))
            body += b"".join(v.pack() for v in self.variables)
            body += bytes.fromhex(self.fingerprint)[:8]
        if self.fill_value is not None:
            body += struct.pack("<d", self.fill_value)
        if self.model:
            body += varint(len(self.model)) + self.model
        if self.generator_sha256:
            source = self.generator_source.encode()
            body += bytes.fromhex(self.generator_sha256) + varint(len(source)) + source
        if self.metadata:
            body += varint(len(self.metadata)) + self.metadata
        for length, checksum in self.chunks:
            body += varint(length) + struct.pack("<I", checksum)
        head = MAGIC + bytes([VERSION]) + varint(len(body)) + body
        return head + struct.pack("<I", google_crc32c.value(head))

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Header, int]:
        """Parse a stream's head; returns it and its length in bytes.

        Raises
        ------
        CorruptStreamError
            If `data` is not ours, of a later version, truncated or altered.
        """
        if not data.startswith(MAGIC):
            raise CorruptStreamError("this is not a CAESAR-Freq file (its first bytes are not CFQ)")
        reader = Reader(data)
        reader.take(len(MAGIC))
        version = reader.byte()
        if version != VERSION:
            raise CorruptStreamError(
                f"the file has format version {version}, this program reads {VERSION}; "
                "install the release that wrote it"
            )
        body = reader.take(reader.varint())
        end = len(data) - len(reader.rest())
        if len(data) < end + 4 or struct.unpack("<I", data[end : end + 4])[0] != (
            google_crc32c.value(bytes(data[:end]))
        ):
            raise CorruptStreamError("the header is truncated or altered (checksum mismatch)")
        return cls._parse(Reader(body)), end + 4

    @classmethod
    def _parse(cls, reader: Reader) -> Header:
        dtype, ndim = reader.byte(), reader.byte()
        narrow, ndim = bool(ndim & _NARROW), ndim & ~_NARROW
        if dtype >= len(DTYPES) or not 1 <= ndim <= 5:
            raise CorruptStreamError("the header announces an unknown data type or shape")
        shape = tuple(reader.varint() for _ in range(ndim))
        if min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_VALUES:
            raise CorruptStreamError(f"the header announces an impossible shape {shape}")
        mode, bound, flags = struct.unpack("<BdB", reader.take(10))
        if mode >= len(MODES):
            raise CorruptStreamError("the header announces an unknown error mode")
        header = cls(shape, DTYPES[dtype], MODES[mode], bound, bool(flags & 1), [])
        header.linked = bool(flags & 64)
        header.narrow = narrow or not is_narrow(five_dimensional(shape))
        n_chunks = chunk_count(five_dimensional(shape), header.narrow)
        if flags & 32:
            count = five_dimensional(shape)[0]
            if flags & 128:
                header.runs = _read_runs(reader, n_chunks)
                count = len(header.runs)
            header.variables = [Variable.unpack(reader) for _ in range(count)]
            header.fingerprint = reader.take(8).hex()
        if flags & 2:
            header.fill_value = struct.unpack("<d", reader.take(8))[0]
        if flags & 4:
            header.model = reader.take(reader.varint())
        if flags & 8:
            header.generator_sha256 = reader.take(32).hex()
            header.generator_source = reader.take(reader.varint()).decode(errors="replace")
        if flags & 16:
            header.metadata = reader.take(reader.varint())
        if n_chunks * 5 > reader.left:
            raise CorruptStreamError("the header's chunk table is incomplete")
        for _ in range(n_chunks):
            length = reader.varint()
            header.chunks.append((length, struct.unpack("<I", reader.take(4))[0]))
        if reader.left:
            raise CorruptStreamError("the header holds more than its fields")
        return header


def _read_runs(reader: Reader, n_chunks: int) -> list[int]:
    """Numbers of chunks of the parts of a joined stream."""
    count = reader.varint()
    if not 1 <= count <= min(n_chunks, reader.left):
        raise CorruptStreamError("the header announces an impossible number of parts")
    runs = [reader.varint() for _ in range(count)]
    if min(runs) < 1 or sum(runs) != n_chunks:
        raise CorruptStreamError("the header's parts do not cover its chunks")
    return runs
