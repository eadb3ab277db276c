"""Bits per value below which no linear prediction gets a field, however well it is fitted.

    python benchmarks/limits.py FIELD.npz --max_error 1e-4
    python benchmarks/limits.py FIELD.npz --nrmse 1e-5

The first variable's first section is rounded to the steps that the bound allows. ``stationary`` is one
predictor for the whole field: the variance of its errors is the geometric mean of the power spectrum
(Kolmogorov 1941), here a multitaper estimate with the rounding noise added, and a Gaussian error of
variance v in units of the squared step takes ``log2(2 pi e v) / 2`` bits. ``local`` is what no coder
can have: the field is cut into blocks, and each block's predictor from decoded neighbours and its error's
variance are fitted to the very values that they predict and cost nothing. The variance is divided by
the values less the weights, so that weights which fit noise gain nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy.signal.windows import dpss

from caesar_freq.errors import run_main

#: Half-bandwidths and numbers of the tapers, blocks, and reach in the same frame and those before.
_TAPERS = ((1.5, 2), (2, 3), (3, 5))
_BLOCKS = ((10, 32, 32), (10, 16, 16), (5, 8, 8), (3, 6, 6))
_REACHES = ((2, 1, 0), (2, 2, 1), (3, 3, 2))


def gaussian_bits(variance: float) -> float:
    """Bits of a Gaussian value of `variance` in squared steps, rounded to whole steps."""
    return 0.5 * np.log2(2 * np.pi * np.e * variance)


def stationary_bits(levels: np.ndarray, bandwidth: float, tapers: int) -> float:
    """Bits per value of the best predictor of a stationary Gaussian field with this spectrum."""
    along = [dpss(n, min(bandwidth, n / 2 - 1e-3), tapers) for n in levels.shape]
    centred = levels - levels.mean()
    spectra = (
        np.abs(np.fft.fftn(centred * a[:, None, None] * b[:, None] * c)) ** 2
        for a, b, c in product(*along)
    )
    return gaussian_bits(np.exp(np.mean(np.log(sum(spectra) / tapers**3))))


def neighbours(reach: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Offsets in frames back, rows and columns of what a decoder knows."""
    offsets = product(range(3), range(-3, 4), range(-3, 4))
    near = [o for o in offsets if max(abs(o[1]), abs(o[2])) <= reach[o[0]]]
    return [(t, y, x) for t, y, x in near if t or (y, x) < (0, 0)]


def local_bits(levels: np.ndarray, block: tuple[int, int, int], reach) -> float:
    """Bits per value of predictors that know each block before they code it."""
    frames, height, width = levels.shape
    padded = np.pad(levels, ((0, 0), (3, 3), (3, 3)), mode="edge")
    total, n = 0.0, 0
    starts = product(*(range(s, e, b) for s, e, b in zip((2, 0, 0), levels.shape, block)))
    for t, y, x in starts:
        end = min(t + block[0], frames), min(y + block[1], height), min(x + block[2], width)
        size = [e - s for e, s in zip(end, (t, y, x))]
        at = [
            np.s_[t - dt : end[0] - dt, y + 3 + dy : end[1] + 3 + dy, x + 3 + dx : end[2] + 3 + dx]
            for dt, dy, dx in neighbours(reach)
        ]
        rows = np.stack([padded[a].ravel() for a in at] + [np.ones(np.prod(size))], axis=1)
        target = levels[t : end[0], y : end[1], x : end[2]].ravel()
        if target.size <= 1.2 * rows.shape[1]:
            continue
        error = target - rows @ np.linalg.lstsq(rows, target, rcond=None)[0]
        variance = np.sum(error**2) / (target.size - rows.shape[1])
        total, n = total + target.size * gaussian_bits(max(variance, 1 / 12)), n + target.size
    return total / n if n else np.inf


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("field", type=Path, help=".npz with data [V, S, T, H, W]")
    bound = parser.add_mutually_exclusive_group(required=True)
    bound.add_argument("--max_error", type=float, help="of the range")
    bound.add_argument("--nrmse", type=float)
    args = parser.parse_args(argv)
    field = np.load(args.field)["data"][0, 0].astype(np.float64)
    step = 2 * args.max_error if args.max_error else 12**0.5 * args.nrmse
    levels = np.rint(field / (step * np.ptp(field)))
    for tapers in _TAPERS:
        print(
            f"stationary, tapers {tapers}: {stationary_bits(levels, *tapers):.3f} bits", flush=True
        )
    for block, reach in product(_BLOCKS, _REACHES):
        bits = local_bits(levels, block, reach)
        print(
            f"local, blocks {block}, {len(neighbours(reach))} neighbours: {bits:.3f} bits",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    run_main(main)
