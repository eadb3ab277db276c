"""How a data set is cut into the parts that jobs compress, and what a part needs.

A part is a range of frames of one section of one variable, or some whole sections where those are
small. It begins and ends where chunks of the whole do, so that its chunks are the whole's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.chunks import chunk_frames, five_dimensional
from caesar_freq.codec.layout import RUN
from caesar_freq.codec.region import Region
from caesar_freq.data.lazy import Source
from caesar_freq.errors import ConfigError

MB = 1_000_000
#: Memory of a job (measured: docs/scaling.md), a third more than was seen: MB of the programs, two Snakemakes
#: of a cluster job among them, and arrays of the size of what is coded at once, at most so many values.
#: A larger part is read chunk by chunk.
_PROGRAM_MB, _ARRAYS, _CODED_VALUES = 500, 7, 1 << 24


@dataclass(frozen=True)
class Part:
    """Place of a part in ``[V, S, T, H, W]``; all of height and width."""

    variable: int
    sections: slice
    frames: slice

    def region(self, shape: Sequence[int]) -> Region:
        """The part as a region of an array of `shape` (1-D to 5-D)."""
        height, width = five_dimensional(tuple(shape))[3:]
        return Region(
            (self.variable,), self.sections, self.frames, slice(0, height), slice(0, width)
        )

    def place(self, index: tuple) -> tuple:
        """Where ``(variable, section, time, height, width)`` of the part lies in the whole."""
        _, section, time, height, width = index
        time = slice(time.start + self.frames.start, time.stop + self.frames.start)
        return (self.variable, section + self.sections.start, time, height, width)


class PartOfSource:
    """A part of a source, to be read as a source of its own."""

    def __init__(self, source: Source, part: Part) -> None:
        self._source, self._part = source, part
        self.shape, self.dtype = part.region(source.shape).shape, source.dtype

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, index: tuple) -> np.ndarray:
        """See `Source.read`."""
        return self._source.read(self._part.place(index))


def cut(shape: Sequence[int], itemsize: int, part_mb: int) -> list[Part]:
    """Parts of at most `part_mb` MB (10**6 bytes) each, in the order in which a stream has them.

    Parameters
    ----------
    shape : 1-D to 5-D
    itemsize : int
        Bytes of a value.

    Raises
    ------
    ConfigError
        If a single layer of chunks is larger.
    """
    variables, n_sections, n_frames, height, width = five_dimensional(tuple(shape))
    frame = height * width * itemsize
    layer = min(chunk_frames(height, width), n_frames)
    if layer * frame > part_mb * MB:
        raise ConfigError(
            f"part_mb is {part_mb}, but chunks have {layer} frames of {height} x {width}, together "
            f"{math.ceil(layer * frame / MB)} MB; give at least that"
        )
    frames = part_mb * MB // frame
    frames -= frames % layer
    if frames >= n_frames:
        frames, sections = n_frames, _whole_runs(max(1, part_mb * MB // (n_frames * frame)))
    else:
        sections = 1
    return [
        Part(v, slice(s, min(s + sections, n_sections)), slice(t, min(t + frames, n_frames)))
        for v in range(variables)
        for s in range(0, n_sections, sections)
        for t in range(0, n_frames, frames)
    ]


def _whole_runs(sections: int) -> int:
    """At most so many, so that links between sections of a part are links of the whole, too."""
    if sections >= RUN:
        return sections - sections % RUN
    return 1 << (sections.bit_length() - 1)  # RUN is a power of 2


def memory_mb(part: Part, shape: Sequence[int], itemsize: int, block_bytes: int) -> int:
    """Memory that a job asks for.

    Parameters
    ----------
    block_bytes : int
        See `LazyArray`: a file whose own chunks are large costs two of them while one is cut.
    """
    values = min(math.prod(part.region(shape).shape), _CODED_VALUES)
    coded = values * max(itemsize, 4)
    return math.ceil(_PROGRAM_MB + (_ARRAYS * coded + 2 * block_bytes) / MB)
