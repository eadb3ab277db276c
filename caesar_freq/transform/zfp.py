"""The block transform of ZFP on the lattice of what its decoder can write.

ZFP (Lindstrom 2014, doi:10.1109/TVCG.2014.2346458) cuts arrays into blocks of four samples an axis and
decorrelates each by lifting steps whose inverse is, where no bit falls off the end, the matrix that
its documentation gives, in quarters. Coefficients are integers times a power of two, so values are
integers times that power and a quarter for each axis. Where only the first ``n < 4`` samples of a
block exist (the array ends, or a chunk begins or ends), the columns of that matrix, cut to ``n`` rows,
still span a lattice of ``n`` dimensions, and a basis of it takes their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from caesar_freq.kernels.ordered import product

#: Samples of a block along an axis that is transformed.
BLOCK = 4
#: From coefficients to quarters of samples, by the number of samples that exist.
_BASES = {
    1: np.array([[1]]),
    2: np.array([[3, 2], [1, -2]]),
    3: np.array([[4, 3, 2], [4, 1, -2], [4, -1, 2]]),
    4: np.array([[4, 6, -4, -1], [4, 2, 4, 5], [4, -2, 4, -5], [4, -6, -4, 1]]),
}
#: From samples to coefficients: multiples of 1/16, which float64 holds exactly.
_INVERSES = {n: np.rint(64 * np.linalg.inv(basis)) / 16 for n, basis in _BASES.items()}


@dataclass(frozen=True)
class Axis:
    """How blocks lie along one axis of a chunk.

    Attributes
    ----------
    length : int
        Samples of the chunk.
    size : int
        Samples of a block: `BLOCK`, or 1 where the axis is not transformed.
    before : int
        Samples of the first block that lie before the chunk.
    """

    length: int
    size: int = 1
    before: int = 0

    @property
    def head(self) -> int:
        """Samples of the first block that exist, 0 if it is whole."""
        return min(self.size - self.before, self.length) if self.before else 0

    @property
    def whole(self) -> int:
        """Number of whole blocks."""
        return (self.length - self.head) // self.size

    @property
    def count(self) -> int:
        """Number of blocks, whole or not."""
        return -(-(self.length - self.head) // self.size) + (self.head > 0)

    @property
    def sizes(self) -> np.ndarray:
        """Samples that exist of each block, int64 [count]."""
        sizes = np.full(self.count, self.size)
        if self.head:
            sizes[0] = self.head
        sizes[-1] -= int(sizes.sum()) - self.length
        return sizes

    @property
    def places(self) -> np.ndarray:
        """Where each coefficient lies on an axis of `count` blocks of `size`, int64 [length]."""
        at = np.arange(self.length)
        return np.where(at < self.head, at, at + (self.size - self.head if self.head else 0))

    @property
    def runs(self) -> Iterator[tuple[slice, int, bool]]:
        """Places of blocks that have as many samples, that number, and whether they end a block."""
        end = self.head + self.whole * self.size
        for start, stop, n in (
            (0, self.head, self.head),
            (self.head, end, self.size),
            (end, self.length, self.length - end),
        ):
            if stop > start:
                yield slice(start, stop), n, start < self.head


Axes = tuple[Axis, Axis, Axis]


def _apply(x: np.ndarray, axes: Axes, matrices: dict[int, np.ndarray], inverse: bool) -> np.ndarray:
    for number, axis in enumerate(axes):
        if axis.size == 1:
            continue
        shape = x.shape
        outer = int(np.prod(shape[:number]))
        x = x.reshape(outer, axis.length, -1)
        out = np.empty_like(x)
        for at, n, mirrored in axis.runs:
            matrix = matrices[n]
            if mirrored:
                matrix = matrix[::-1] if inverse else matrix[:, ::-1]
            part = x[:, at].reshape(-1, n, x.shape[2])
            out[:, at] = product(matrix, part).reshape(outer, -1, x.shape[2])
        x = out.reshape(shape)
    return x


def coefficients(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Coefficients of `values` (float64 ``[T, H, W]``), in place of each block's samples."""
    return _apply(values, axes, _INVERSES, False)


def samples(coefficients: np.ndarray, axes: Axes) -> np.ndarray:
    """Samples of integer coefficients (int64), in quarters of a quarter for each axis transformed."""
    return _apply(coefficients, axes, _BASES, True)


def slabs(axes: Axes, values: int) -> Iterator[tuple[slice, Axes]]:
    """Whole blocks of frames of about so many `values`, and the axes of that part."""
    time, rows, columns = axes
    frames = max(1, values // max(1, rows.length * columns.length))
    start = 0
    while start < time.length:
        first = time.head if start == 0 and time.head else 0
        stop = min(start + first + -(-frames // time.size) * time.size, time.length)
        part = replace(time, length=stop - start, before=time.before if start == 0 else 0)
        yield slice(start, stop), (part, rows, columns)
        start = stop
