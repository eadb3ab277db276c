"""Variable-length integers and bounds-checked reading of byte strings."""

from __future__ import annotations

from caesar_freq.errors import CorruptStreamError


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Sequential reader of a byte string that never reads past its end.

    Raises
    ------
    CorruptStreamError
        From every method, when the string is too short or a number is too long.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or self._at + count > len(self._data):
            raise CorruptStreamError("the file is truncated or altered: a part of it is missing")
        self._at += count
        return bytes(self._data[self._at - count : self._at])

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """The next LEB128 integer, below 2**63."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 56:
                raise CorruptStreamError("the file is altered: a length is out of range")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left)
