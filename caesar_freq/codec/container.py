"""The bytes of a stream, wherever they lie: only what is asked for is read."""

from __future__ import annotations

import io
import os
import threading
from typing import BinaryIO

from caesar_freq.codec.header import MAGIC, Header
from caesar_freq.codec.layout import chunk_kind
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError, InputError

#: Enough for the magic, the version and the length of the header.
_START = len(MAGIC) + 1 + 10


def _refuse_others(data: object) -> None:
    """Raise InputError if `data` is neither bytes nor a binary file; a path is the usual mistake."""
    if isinstance(data, (str, os.PathLike)):
        raise InputError(
            f"{data} is a path, and bytes or an open file are needed; use CfqFile({str(data)!r}), or "
            "open it first"
        )
    if isinstance(data, io.TextIOBase) or not hasattr(data, "seek"):
        raise InputError(
            f"{type(data).__name__} holds no bytes; give bytes or a file opened with mode 'rb'"
        )


class Container:
    """Random access to a stream in memory or in a file.

    Parameters
    ----------
    data : bytes, memoryview, mmap or seekable binary file
        A file is read from its start, at several places by turns, and left open.

    Attributes
    ----------
    size : int
        Length in bytes.
    header : Header

    Raises
    ------
    CorruptStreamError
        If the head of the stream is not ours, truncated or altered.
    InputError
        If `data` is a path or something else that holds no bytes.
    """

    def __init__(self, data: bytes | memoryview | BinaryIO) -> None:
        # an mmap has both interfaces; its buffer needs no lock
        try:
            self._view = memoryview(data).cast("B")
            self.size = len(self._view)
        except TypeError:
            _refuse_others(data)
            self._view, self._file, self._lock = None, data, threading.Lock()
            self.size = data.seek(0, io.SEEK_END)
        self.header, start = self._header()
        self._ends = [start]
        for length, _ in self.header.chunks:
            self._ends.append(self._ends[-1] + length)

    @property
    def head_size(self) -> int:
        """Bytes before the first chunk."""
        return self._ends[0]

    @property
    def complete(self) -> bool:
        """Whether the stream ends where its header says."""
        return self._ends[-1] == self.size

    def check_complete(self) -> None:
        """Raise CorruptStreamError if it is not."""
        if not self.complete:
            raise CorruptStreamError("the file is truncated, or something was appended to it")

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; fewer where the stream ends."""
        if self._view is not None:
            return bytes(self._view[start : start + length])
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)

    def chunk(self, number: int) -> bytes:
        """Body of a chunk; shorter than it should be if the stream is truncated."""
        return self.read(self._ends[number], self.header.chunks[number][0])

    def kind(self, number: int) -> int:
        """Kind of a chunk, from its first byte alone; -1 if it is missing."""
        first = self.read(self._ends[number], min(1, self.header.chunks[number][0]))
        return chunk_kind(first) if first else -1

    def _header(self) -> tuple[Header, int]:
        start = self.read(0, _START)
        if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
            return Header.unpack(start)  # which says what is wrong
        reader = Reader(start)
        reader.take(len(MAGIC) + 1)
        length = reader.varint()
        size = len(MAGIC) + 1 + len(varint(length)) + length + 4
        if size > self.size:
            raise CorruptStreamError("the header is truncated or altered (longer than the file)")
        return Header.unpack(self.read(0, size))
