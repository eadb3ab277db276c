"""Bounds are checked on what a decoder makes of the bytes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from caesar_freq.codec.chunks import Box
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_chunks
from caesar_freq.codec.header import Variable
from caesar_freq.codec.options import Options
from caesar_freq.codec.relative import relative_bound_holds
from caesar_freq.codec.statistics import span
from caesar_freq.codec.targets import allowed_nrmse
from caesar_freq.data.lazy import Source
from caesar_freq.data.sections import missing
from caesar_freq.kernels.errors import compare
from caesar_freq.kernels.memory import empty

_SMALLEST = 5e-324


def broken_variable(
    stream: Container, source: Source, options, model, predictors, variables: list[Variable]
) -> int | None:
    """Decode what was written; the number of a variable whose bound does not hold there.

    The `variables`, of which the ranges are looked at, need not be in the stream.
    """
    squares: Counter = Counter()
    counts: Counter = Counter()

    def check(place: Box, after: np.ndarray) -> tuple[int, tuple[float, int] | None]:
        spread = variables[place.variable].range if variables else 0.0
        return place.variable, _chunk_error(source.read(place.index), after, options, spread)

    for v, found in decode_chunks(stream, predictors, options.threads, model, use=check):
        if found is None:
            return v
        squares[v] += found[0]
        counts[v] += found[1]
    if options.mode not in ("nrmse", "psnr"):
        return None
    for v, variable in enumerate(variables):
        limit = allowed_nrmse(options.mode, options.bound)
        if counts[v] and not np.sqrt(squares[v] / counts[v]) <= limit * bool(variable.range):
            return v
    return None


def _chunk_error(before, after, options: Options, spread: float) -> tuple[float, int] | None:
    """Squared error over the range and count of the valid values; None if the bound is broken.

    The bound of a mean is for the caller to judge.
    """
    averaged = options.mode in ("nrmse", "psnr") and not options.lossless
    if not averaged or not np.isfinite(spread):
        mode, bound = options.mode, options.bound
        if averaged or (mode == "rel" and bound):
            # a constant has to stay what it is, but for the sign of zero
            mode, bound = "abs", max(0 if averaged else bound * spread, _SMALLEST)
        held = bound_holds(before, after, mode, bound, options.fill_value)
        return (0.0, 0) if held else None
    masked = missing(before, options.fill_value, empty(before.shape, bool))
    n_masked = int(np.count_nonzero(masked))
    largest, squares = compare(before, after, masked, spread or 1.0)
    if not largest < np.inf or (n_masked and not _same_bits(before[masked], after[masked])):
        return None
    return squares, masked.size - n_masked


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    bits = np.uint32 if a.dtype == np.float32 else np.uint64
    return np.array_equal(a.view(bits), b.view(bits))


def bound_holds(before, after, mode: str, bound: float, fill_value: float | None = None) -> bool:
    """Whether `after` keeps the bound of one variable and every masked value bit by bit."""
    if mode == "lossless" or bound == 0:
        return _same_bits(before, after)
    masked = missing(before, fill_value, empty(before.shape, bool))
    if not _same_bits(before[masked], after[masked]):
        return False
    if mode == "pw_rel":
        good = (before, after) if not masked.any() else (before[~masked], after[~masked])
        return relative_bound_holds(*good, bound)
    good = before[~masked] if masked.any() else before
    if not good.size:
        return True
    spread = span(good.min(), good.max())
    scale = spread if 0 < spread < np.inf else 1.0
    largest, squares = compare(before, after, masked, scale)
    if mode in ("abs", "rel"):
        return largest <= (bound if mode == "abs" else bound * spread)
    if not np.isfinite(spread):
        return largest == 0
    limit = allowed_nrmse(mode, bound) * spread
    return float(np.sqrt(squares / good.size)) * scale <= limit
