"""Which chunks of a stream refer to others, and their levels, each decoded once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from caesar_freq.codec.chunks import chunk_count, five_dimensional
from caesar_freq.codec.coders import plain_transform
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import Header
from caesar_freq.codec.layout import LINKED, VOLUME
from caesar_freq.codec.linked import Decoded, may_link
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.reading import split_body
from caesar_freq.errors import CorruptStreamError


def chunks_per_section(header: Header) -> int:
    """How many chunks before a chunk the one at the same place in the section before lies."""
    n_variables, n_sections, *_ = shape = five_dimensional(header.shape)
    return chunk_count(shape, header.narrow) // (n_variables * n_sections)


class Links:
    """Levels of the chunks that are linked to one another.

    Parameters
    ----------
    stream : Container
    model : FrequencyModel
    body : callable
        A chunk's checked body by its number.
    ahead : int
        Chunks that may be asked for out of order; levels of earlier ones are forgotten.
    """

    def __init__(
        self, stream: Container, model: FrequencyModel, body: Callable[[int], bytes], ahead: int
    ) -> None:
        self._stream, self._model, self._body, self._ahead = stream, model, body, ahead
        self._boxes = list(stream.header.places())
        self._distance = chunks_per_section(stream.header)
        self._known: dict[int, _Entry] = {}
        self._lock = Lock()

    def of(self, number: int) -> Decoded | None:
        """Levels of a chunk that refers to another or is referred to; None for any other."""
        kind, after = self._stream.kind(number), number + self._distance
        if kind != LINKED and not (
            kind == VOLUME and after < len(self._boxes) and self._stream.kind(after) == LINKED
        ):
            return None
        with self._lock:
            for old in [n for n in self._known if n < number - self._distance - self._ahead]:
                del self._known[old]
        return self._decoded(number)

    def _decoded(self, number: int) -> Decoded:
        with self._lock:
            entry = self._known.setdefault(number, _Entry())
        # chunks wait only for earlier ones, so no two wait for each other
        with entry.lock:
            if entry.decoded is None:
                entry.decoded = self._decode(number)
        return entry.decoded

    def _decode(self, number: int) -> Decoded:
        kind, _, data = split_body(self._body(number))
        box, innovation = self._boxes[number], None
        variable = self._stream.header.variable_of(number, box)
        if kind not in (VOLUME, LINKED) or (kind == LINKED and not may_link(box.section)):
            raise CorruptStreamError("the section before is not one that it can refer to")
        if kind == LINKED:
            before = number - self._distance
            # parts of a joined stream have transforms of their own, and links stay within a part
            if self._stream.header.variable_of(before, self._boxes[before]) != variable:
                raise CorruptStreamError("the section before is of another part of the whole")
            try:
                innovation = self._decoded(before).innovation
            except CorruptStreamError as error:
                raise CorruptStreamError(
                    f"it refers to chunk {before} ({self._boxes[before]}), which is damaged: {error}"
                ) from error
        return Decoded(data, plain_transform(box.shape, variable), self._model, innovation)


class _Entry:
    def __init__(self) -> None:
        self.lock, self.decoded = Lock(), None
