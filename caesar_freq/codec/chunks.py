"""How an array is cut into chunks that are coded independently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caesar_freq.transform.axis import near_equal_sizes

#: Chunks aim at this many values: enough context to learn from, few enough for a core's memory.
CHUNK_VALUES = 1 << 22
_TILE = 512
_TILE_VALUES = 1 << 18
_LONG_BLOCK = 64
_BLOCK = 16


@dataclass(frozen=True)
class Box:
    """A chunk's place: variable, section and slices of time, height and width."""

    variable: int
    section: int
    time: slice
    height: slice
    width: slice
    #: Time, height and width (0, 1, 2) in the order in which they are coded.
    axes: tuple[int, int, int] = (0, 1, 2)

    @property
    def index(self) -> tuple:
        """Index into ``[V, S, T, H, W]``."""
        return (self.variable, self.section, self.time, self.height, self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the chunk as it is coded; where `axes` are not in their order, some have length 1."""
        return tuple(self.extent[axis] for axis in self.axes)

    @property
    def extent(self) -> tuple[int, int, int]:
        """``(T, H, W)`` of the chunk as it lies in the array."""
        return tuple(s.stop - s.start for s in (self.time, self.height, self.width))

    def __str__(self) -> str:
        parts = (("time", self.time), ("height", self.height), ("width", self.width))
        where = ", ".join(f"{name} {s.start}:{s.stop}" for name, s in parts)
        return f"variable {self.variable}, section {self.section}, {where}"


def five_dimensional(shape: tuple[int, ...]) -> tuple[int, int, int, int, int]:
    """``(V, S, T, H, W)`` of a 1-D to 5-D shape: W; H W; T H W; V T H W."""
    if len(shape) == 4:
        return (shape[0], 1, *shape[1:])
    return (1,) * (5 - len(shape)) + tuple(shape)


def _slices(sizes: list[int]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends)]


def _most_rows(width: int, narrow: bool) -> int:
    return max(_TILE, _TILE_VALUES // width) if narrow else _TILE


def is_table(height: int, width: int) -> bool:
    """Whether frames are short lines, so that time and they may be a table."""
    return min(height, width) == 1 and max(height, width) <= _TILE


def is_narrow(shape: tuple[int, int, int, int, int]) -> bool:
    """Whether chunks of an array are others than those that streams had at first."""
    height, width = shape[3:]
    tall = height > _TILE and _most_rows(width, True) > _TILE
    return tall or is_table(height, width)


def _limits(height: int, width: int, narrow: bool) -> tuple[int, int, int]:
    """Largest number of frames, rows and columns of a chunk."""
    if narrow and is_table(height, width):
        frames = _most_rows(max(height, width), True)
        return frames - frames % _TILE, height, width
    rows = -(-height // -(-height // _most_rows(width, narrow)))
    columns = max(_TILE, _TILE_VALUES // rows)
    widest = -(-width // -(-width // columns))
    frames = max(_BLOCK, CHUNK_VALUES // (rows * widest))
    frames -= frames % (_LONG_BLOCK if frames >= _LONG_BLOCK else _BLOCK)
    return frames, rows, columns


def chunk_frames(height: int, width: int) -> int:
    """Frames of all chunks but the last of a section: parts of a stream begin at multiples of it."""
    return _limits(height, width, True)[0]


def chunk_count(shape: tuple[int, int, int, int, int], narrow: bool = True) -> int:
    """Number of chunks, without listing them."""
    variables, sections, frames, height, width = shape
    longest, _, columns = _limits(height, width, narrow)
    rows = -(-height // _most_rows(width, narrow))
    return variables * sections * -(-frames // longest) * rows * -(-width // columns)


def boxes(shape: tuple[int, int, int, int, int], narrow: bool = True) -> Iterator[Box]:
    """Chunks of ``(V, S, T, H, W)`` in the order in which a stream holds them.

    Those of `narrow` arrays are as tall as those of low arrays are wide, and where every frame is
    one line, stations or a single cell, time stands for height. Streams did not have that at first.
    """
    variables, sections, frames, height, width = shape
    longest, _, widest = _limits(height, width, narrow)
    times = [slice(t, min(t + longest, frames)) for t in range(0, frames, longest)]
    rows = _slices(near_equal_sizes(height, _most_rows(width, narrow)))
    columns = _slices(near_equal_sizes(width, widest))
    axes = (0, 1, 2)
    if narrow and is_table(height, width):
        axes = (1, 0, 2) if height == 1 else (2, 0, 1)
    for v in range(variables):
        for s in range(sections):
            for time in times:
                for row in rows:
                    for column in columns:
                        yield Box(v, s, time, row, column, axes)
