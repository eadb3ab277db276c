"""Chunk bodies on their way into a stream, whose head is known only after the last of them."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from caesar_freq.codec.census import chunk_census

_BLOCK = 1 << 20


class Bodies:
    """Bodies one after another, in memory or in a nameless file.

    Parameters
    ----------
    folder : Path or None
        Where the file is made; None keeps everything in memory.

    Attributes
    ----------
    table : list of (length, CRC-32C)
    modes : Counter
        Chunks or segments by the mode that coded them.
    """

    def __init__(self, folder: Path | None) -> None:
        self.table: list[tuple[int, int]] = []
        self.modes: Counter = Counter()
        self._folder = folder
        self._file = io.BytesIO() if folder is None else tempfile.TemporaryFile(dir=folder)

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum(length for length, _ in self.table)

    def append(self, body: bytes) -> None:
        """Add one."""
        self._file.write(body)
        self.table.append((len(body), google_crc32c.value(body)))
        self.modes += chunk_census(body, 1)[1]

    def with_others(self, others: dict[int, bytes]) -> Bodies:
        """The same with `others` in place of the bodies of their numbers; these are given back."""
        new = Bodies(self._folder)
        self._file.seek(0)
        for number, (length, _) in enumerate(self.table):
            body = self._file.read(length)
            new.append(others.get(number, body))
        self.close()
        return new

    def take(self, other: Bodies) -> None:
        """Move all of `other` behind these."""
        other.copy_to(self._file)
        self.table += other.table
        self.modes += other.modes
        other.close()

    def copy_to(self, out: BinaryIO) -> None:
        """Write all of them to `out`."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, out, _BLOCK)

    def close(self) -> None:
        """Give memory or file back."""
        self._file.close()
