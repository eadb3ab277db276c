"""A Zarr store of any size, made chunk by chunk: waves of many lengths that travel apart.

    python benchmarks/synthetic_zarr.py wind.zarr --gb 20

Two variables ``u`` and ``v`` ``[time, y, x]`` of float32, 1024 x 1024, chunks of 16 x 512 x 512. At no
time is more than one row of chunks in memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import zarr

SIDE, BLOCK, TILE = 1024, 16, 512
NAMES = ("u", "v")
#: Waves of a field, and the longest and shortest of them in cycles a side.
_WAVES, _CYCLES = 24, (2, 60)


def frames_of(gigabytes: float) -> int:
    """Frames of each variable (whole chunks) of a store of about so many GB (10**9 bytes)."""
    block = len(NAMES) * BLOCK * SIDE * SIDE * 4
    return BLOCK * max(1, round(gigabytes * 1e9 / block))


def frames(seed: int, start: int, count: int) -> np.ndarray:
    """Frames from number `start` on, ``[count, SIDE, SIDE]`` float32.

    Amplitudes fall with the wave number to the power 1.3; white noise of 1e-4 of the range is on top.
    """
    rng = np.random.default_rng(seed)
    number = np.exp(rng.uniform(*np.log(_CYCLES), _WAVES))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, _WAVES, 1))
    speed = 0.02 * np.sqrt(number) * rng.standard_normal(_WAVES)
    axis = 2 * np.pi / SIDE * np.arange(SIDE) * number[:, None]
    time = speed[:, None] * np.arange(start, start + count)
    # cos(a + b) = cos a cos b - sin a sin b: a product of matrices with 2 * _WAVES columns
    across = axis * np.cos(angle)
    along = (axis * np.sin(angle))[:, None] + (time + phase)[:, :, None]
    along = along.reshape(_WAVES, -1)
    weight = number[:, None] ** -1.3
    left = np.concatenate([weight * np.cos(along), -weight * np.sin(along)]).T.astype(np.float32)
    right = np.concatenate([np.cos(across), np.sin(across)]).astype(np.float32)
    values = (left @ right).reshape(count, SIDE, SIDE)
    noise = np.random.default_rng((seed, start)).random(values.shape, np.float32)
    return values + np.float32(5e-4) * (noise - np.float32(0.5))


def make(path: Path, gigabytes: float) -> int:
    """Write the store; returns the number of bytes of its arrays."""
    group = zarr.open_group(path, mode="w")
    shape = (frames_of(gigabytes), SIDE, SIDE)
    for seed, name in enumerate(NAMES):
        array = group.create_array(
            name, shape=shape, chunks=(BLOCK, TILE, TILE), dtype="f4", compressors=None,
            dimension_names=("time", "y", "x"),
        )  # fmt: skip
        for start in range(0, shape[0], BLOCK):
            array[start : start + BLOCK] = frames(seed, start, BLOCK)
    return len(NAMES) * int(np.prod(shape, dtype=object)) * 4


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path, help=".zarr")
    parser.add_argument("--gb", type=float, default=20)
    args = parser.parse_args(argv)
    print(f"{args.path}: {make(args.path, args.gb)} bytes")


if __name__ == "__main__":
    main()
