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

    @property
    def index(self) -> tuple:
        """Index into ``[V, S, T, H, W]``."""
        return (self.variable, self.section, self.time, self.height, self.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(T, H, W)`` of the chunk."""
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


def _limits(height: int, width: int) -> tuple[int, int, int]:
    """Largest number of frames, rows and columns of a chunk."""
    rows = -(-height // -(-height // _TILE))
    columns = max(_TILE, _TILE_VALUES // rows)
    widest = -(-width // -(-width // columns))
    frames = max(_BLOCK, CHUNK_VALUES // (rows * widest))
    frames -= frames % (_LONG_BLOCK if frames >= _LONG_BLOCK else _BLOCK)
    return frames, rows, columns


def chunk_frames(height: int, width: int) -> int:
    """Frames of all chunks but the last of a section: parts of a stream begin at multiples of it."""
    return _limits(height, width)[0]


def chunk_count(shape: tuple[int, int, int, int, int]) -> int:
    """Number of chunks, without listing them."""
    variables, sections, frames, height, width = shape
    longest, _, columns = _limits(height, width)
    return variables * sections * -(-frames // longest) * -(-height // _TILE) * -(-width // columns)


def boxes(shape: tuple[int, int, int, int, int]) -> Iterator[Box]:
    """Chunks of ``(V, S, T, H, W)`` in the order in which a stream holds them."""
    variables, sections, frames, height, width = shape
    longest, _, widest = _limits(height, width)
    times = [slice(t, min(t + longest, frames)) for t in range(0, frames, longest)]
    rows = _slices(near_equal_sizes(height, _TILE))
    columns = _slices(near_equal_sizes(width, widest))
    for v in range(variables):
        for s in range(sections):
            for time in times:
                for row in rows:
                    for column in columns:
                        yield Box(v, s, time, row, column)
