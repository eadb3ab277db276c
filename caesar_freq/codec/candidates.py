"""The transforms that a volume may have, and the sample of it that tells them apart."""

from __future__ import annotations

import numpy as np

from caesar_freq.transform.blocks import block_values

#: Spatial transforms ``(kind, cell)`` to choose from; time blocks are chosen apart.
SPATIAL = (("lot", 16), ("dct", 16), ("lot", 8), ("dct", 8), ("lot", 32), ("dct", 32))
#: Where few frames or rows would make small blocks of these, larger cells are tried, too, as long as
#: their blocks hold at most so many values.
LARGER, _LARGER_BLOCK = (
    (("dct", 64), ("lot", 64), ("dct", 128), ("dct", 256), ("dct", 512)), 1 << 16
)  # fmt: skip
#: Those that are hardly ever the best, for the highest effort; the second for the borders of plumes in
#: still air, too.
WAVELETS = (("haar", 16), ("cdf97", 16))
#: Short ones are for what moves too fast: storms, cells under a microscope; long ones for climate, and
#: those beyond `LONG` for series of small frames.
TIME_BLOCKS = (1, 4, 16, 32, 64, 128, 256, 512, 1024)
LONG = 128
#: Fewer frames than this are one block of this length.
_SHORT = 16
#: Values of a sample, and rows and columns that it has at least; with so many that cells of 32 have
#: neighbours, blocks beyond `LONG` are looked at.
SAMPLE_VALUES, _LEAST_SIDE, _ENOUGH = 1 << 20, 64, 96


def sample(x: np.ndarray, n_values: int = SAMPLE_VALUES) -> np.ndarray:
    """Central part of `x` ``[T, H, W]`` of about `n_values` values, time kept longest."""
    frames, height, width = x.shape
    if x.size <= n_values:
        return x
    # whole long blocks: a few frames more would be cut into shorter ones
    longest = longest_block(x.shape, n_values)
    enough = max(longest, n_values // (height * width))
    frames = min(frames, enough - enough % longest)
    side = max(_LEAST_SIDE, int(np.sqrt(n_values / frames)))
    if height <= side:
        side = max(side, n_values // (frames * height))
    sizes = (frames, min(height, side), min(width, side))
    starts = [(n - m) // 2 for n, m in zip(x.shape, sizes)]
    return x[tuple(slice(a, a + m) for a, m in zip(starts, sizes))]


def longest_block(shape: tuple[int, int, int], n_values: int) -> int:
    """The longest blocks of which a sample of so many values holds one."""
    frames = n_values // (min(shape[1], _ENOUGH) * min(shape[2], _ENOUGH))
    return max([LONG, *(t for t in TIME_BLOCKS if t <= frames)])


def larger_cells(shape: tuple[int, int, int]) -> tuple[tuple[str, int], ...]:
    """Those of `LARGER` that a volume ``[T, H, W]`` may have."""
    return tuple(
        (kind, cell) for kind, cell in LARGER
        if max(shape[1:]) > cell // 2 and block_values(shape, LONG, cell) <= _LARGER_BLOCK
    )  # fmt: skip


def time_blocks(frames: int) -> list[int]:
    """Lengths of which no two make the same blocks of so many frames."""
    longest = next((t for t in TIME_BLOCKS if t >= max(frames, _SHORT)), TIME_BLOCKS[-1])
    return [t for t in TIME_BLOCKS if t <= longest and (t < frames or t >= _SHORT)]
