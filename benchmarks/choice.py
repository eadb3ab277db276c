"""How good the encoder's choice of a transform is, and what it costs.

    python benchmarks/choice.py FILE.npz ... [--targets 1e-2 1e-3 1e-4] [--csv OUT.csv]

For the first variable and section of every file and each NRMSE: bytes at equal error of the transform
that `codec.choose.choose_transform` takes over those of the best one, which is found by coding the
whole volume with all of them, wavelets and larger cells as well, and the quantiser that files use; and the part of the
processor time of a whole encoding at default effort that choosing takes.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caesar_freq.api import encode
from caesar_freq.codec.candidates import SPATIAL, WAVELETS, larger_cells, sample, time_blocks
from caesar_freq.codec.choose import choose_transform, lagrangian
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import RoundingModel, step_of
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.data.blocks import volumes
from caesar_freq.errors import run_main
from caesar_freq.kernels.errors import compare, size_histogram
from caesar_freq.transform.blocks import MAX_BLOCK, ORTHONORMAL, Transform, block_values

#: An error this near the one asked for, as a part of it, needs no second coding.
_CLOSE = 0.004


def bits_at(x: np.ndarray, choice: tuple[str, int, int], nrmse: float, dead_zone: float) -> float:
    """Bits of `x` ``[T, H, W]`` at a root-mean-square error of its values.

    Coded at most twice, the second time very near that error; what is left of the difference is
    corrected for.
    """
    kind, cell, block = choice
    encoder = VolumeEncoder(x, Transform(x.shape, block, cell, kind), FrequencyModel.base(), True)
    rounding = RoundingModel(encoder.histogram(), x.size, dead_zone)
    index = rounding.index_for(nrmse)
    for _ in range(2):
        step = step_of(index)
        try:
            code = encoder.encode(step, dead_zone)
        except LevelOverflow:
            return np.inf
        bits = 8 * len(code.data)
        if kind in ORTHONORMAL:
            squares = encoder.coefficient_error(code, step)
        else:
            squares = compare(x, encoder.decoded(code, step))[1]
        off = np.sqrt(squares / x.size) / nrmse
        if abs(off - 1) < _CLOSE:
            break
        index = rounding.index_for(rounding.error(index) / off)
    return bits + lagrangian(step) * (squares - nrmse**2 * x.size)


def candidates(shape: tuple[int, int, int]) -> list[tuple[str, int, int]]:
    """Kind, cell and time block of all transforms of a volume ``[T, H, W]``."""
    spatial = SPATIAL + larger_cells(shape) + WAVELETS
    return [
        (*one, t) for one in spatial for t in time_blocks(shape[0])
        if block_values(shape, t, one[1]) <= MAX_BLOCK
    ]  # fmt: skip


def likely_step(x: np.ndarray, nrmse: float, dead_zone: float) -> float:
    """About the step at which `x` errs by `nrmse`, as the encoder guesses it."""
    part = np.ascontiguousarray(sample(x))
    planes = Transform(part.shape).forward(part)
    rounding = RoundingModel(size_histogram(planes), part.size, dead_zone)
    return step_of(rounding.index_for(nrmse))


def judge(x: np.ndarray, nrmse: float) -> dict[str, object]:
    """Regret of the choice, in percent of the best, and its part of the time."""
    model = FrequencyModel.base()
    dead_zone = model.dead_zone_at(nrmse)
    step = likely_step(x, nrmse, dead_zone)
    started = time.process_time()
    found = choose_transform(x, step, dead_zone, model, refined=True)
    chosen = (found.kind, found.cell, found.time_block)
    choosing = time.process_time() - started
    bits = {choice: bits_at(x, choice, nrmse, dead_zone) for choice in candidates(x.shape)}
    best = min(bits, key=bits.get)
    started = time.process_time()
    encode(x, "nrmse", nrmse, threads=1)
    whole = time.process_time() - started
    return {
        "nrmse": nrmse, "values": x.size, "chosen": "{}{} x{}".format(*chosen), "best": "{}{} x{}".format(*best),
        "regret_percent": round(100 * (bits[chosen] / bits[best] - 1), 2),
        "time_percent": round(100 * choosing / whole, 1),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--targets", nargs="+", type=float, default=[1e-2, 1e-3, 1e-4])
    parser.add_argument("--csv", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    rows = []
    for path in args.files:
        volume = next(volumes(path))
        for nrmse in args.targets:
            rows.append({"data": volume.dataset, **judge(volume.values, nrmse)})
            print(*rows[-1].values(), sep="  ", flush=True)
    for name in ("regret_percent", "time_percent"):
        values = [row[name] for row in rows]
        print(f"{name}: mean {np.mean(values):.2f}, largest {max(values):.2f}")
    with open(args.csv, "w", newline="") if args.csv else sys.stdout as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return 0


if __name__ == "__main__":
    run_main(main)
