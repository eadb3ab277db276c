"""Pointwise bounds: corrections of the values that the transform codec left too far off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from caesar_freq.codec.outliers import decode_outliers, encode_outliers
from caesar_freq.codec.parts import parts
from caesar_freq.entropy.sparse import decode_sparse, encode_sparse
from caesar_freq.kernels.memory import empty

#: Begins corrections that are coded in context; those coded by gaps begin with their number and
#: end there if it is 0.
_IN_CONTEXT = b"\0"
#: Contexts are not tried where gaps take less than this part of a chunk's other bytes: visiting
#: every value is then not worth the time. Gaps are not tried where more than this part of the
#: values is corrected: they never win there.
_WORTH_CONTEXTS, _TOO_DENSE = 0.02, 0.1
#: Multiple m of a correction is ``cell * m - shift`` bounds. By gaps: 1.9 m - 0.4, so that 1 brings
#: errors from 0.5 to 2.5 bounds back within one. In context: cells as wide as they can be, in units
#: of the bound less `rounding_room`.
_GAP_GRID, _CONTEXT_GRID = (1.9, 0.4), (1.99999, 0.0)
#: Relative distance kept from the bound, and the drift of a float32 inverse transform between
#: devices in units of the range (measured below 3e-7); float64 leaves only its own rounding.
_MARGIN, _DRIFT_SINGLE, _DRIFT_DOUBLE = 1e-5, 1e-6, 1e-13
#: The same for frames that a network makes (measured: 1e-5 of their scatter), and its root mean
#: square (measured: 1e-6).
NETWORK_DRIFT_LARGEST, NETWORK_DRIFT = 3e-5, 3e-6


def working_bound(bound: float, spread: float, double: bool, generated: bool) -> float:
    """Bound to keep on this device so that `bound` holds on another; may be <= 0 (impossible)."""
    drift = _DRIFT_DOUBLE if double else _DRIFT_SINGLE
    if generated:
        drift = max(drift, NETWORK_DRIFT_LARGEST)
    return bound * (1 - _MARGIN) - drift * spread


def restored_values(decoded: np.ndarray, offset: float, spread: float) -> np.ndarray:
    """Normalised values back in the variable's units, float64."""
    return decoded.astype(np.float64) * spread + offset


def rounded(restored: np.ndarray, dtype: np.dtype, out: np.ndarray | None = None) -> np.ndarray:
    """Values in the output dtype (in `out`, if there is one); what is beyond its largest number
    becomes that number."""
    limit = np.finfo(dtype).max
    out = empty(restored.shape, dtype) if out is None else out
    for at in parts(out):
        out[at] = np.clip(restored[at], -limit, limit)
    return out


def rounding_room(offset: float, spread: float, dtype: np.dtype) -> float:
    """Largest error of rounding a value of a variable with this mean and range to `dtype`."""
    limits = np.finfo(dtype)
    exponent = math.frexp(min(abs(offset) + spread, float(limits.max)))[1]
    return math.ldexp(1.0, exponent - limits.nmant - 2)


def violations(original: np.ndarray, restored: np.ndarray, bound: float, working: float):
    """Where `restored` (float64) is too far off, before or after rounding to the output dtype."""
    exact = original.astype(np.float64)
    output = rounded(restored, original.dtype).astype(np.float64)
    # written so that a NaN counts as a violation
    return ~((np.abs(exact - restored) <= working) & (np.abs(exact - output) <= bound))


class Corrections:
    """What is added to decoded values, frame after frame.

    Parameters
    ----------
    take : callable
        Signed multiples of the next so many frames, integers [t, H, W], in cells of the grid; 0 where
        nothing is added.
    unit : float
        Of the grid.
    grid : tuple of float
        See `_GAP_GRID`.
    """

    def __init__(
        self, take: Callable[[int], np.ndarray], unit: float, grid: tuple[float, float]
    ) -> None:
        self._take, self._unit, self._grid = take, unit, grid

    def add(self, values: np.ndarray) -> None:
        """Add those of the next frames to their float64 `values` ``[t, H, W]`` in place."""
        multiples = self._take(len(values)).ravel()
        here = np.flatnonzero(multiples)
        flat = values.ravel()
        flat[here] = _corrected(flat[here], multiples[here], self._unit, self._grid)


@dataclass(frozen=True)
class _Scattered:
    """Planes ``[H, W]`` of zeros but for `values` (int arrays that follow one another) where `at`."""

    at: np.ndarray
    values: list[np.ndarray]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.at.shape

    def __iter__(self) -> Iterator[np.ndarray]:
        todo, some, used = iter(self.values), np.zeros(0, np.int32), 0
        for here in self.at:
            plane, count = np.zeros(here.shape, np.int32), int(np.count_nonzero(here))
            while used + count > len(some):
                some, used = np.concatenate([some[used:], next(todo)]), 0
            plane[here] = some[used : used + count]
            used += count
            yield plane


class _TooFar(Exception):
    """A value that no correction brings within the bound."""


def correct(
    original: np.ndarray,
    decoded: np.ndarray,
    bound: float,
    working: float,
    ignore: np.ndarray,
    other_bytes: int = 0,
    room: float = 0.0,
    scale: tuple[float, float] = (0.0, 1.0),
) -> bytes | None:
    """Corrections for the values that `decoded` stands for; None if they cannot help.

    Parameters
    ----------
    original, decoded : arrays of one shape [T, H, W]
    bound, working : float
        The bound in the output dtype, and the one to aim at (`working_bound`).
    ignore : bool array
        Masked values, restored by other means.
    other_bytes : int
        What the rest of the chunk takes.
    room : float
        `rounding_room` of the variable.
    scale : (offset, spread)
        Of `restored_values`.
    """
    if working <= 0:
        return None
    off = empty(original.shape, bool)
    for at in parts(off):
        off[at] = violations(original[at], restored_values(decoded[at], *scale), bound, working)
        off[at] &= ~ignore[at]
    count = int(np.count_nonzero(off))

    def multiples(unit: float, grid) -> Iterator[tuple[slice, np.ndarray]]:
        for at in parts(off):
            here = off[at]
            wanted, found = original[at][here], restored_values(decoded[at][here], *scale)
            yield at, _reaching(wanted, found, bound, working, unit, grid)

    def coded(in_context: bool) -> bytes | None:
        try:
            if not in_context:
                found = [some for _, some in multiples(working, _GAP_GRID)]
                places = np.flatnonzero(off).astype(np.int64)
                return encode_outliers(places, np.concatenate(found), off.size)
            found = [_small(some) for _, some in multiples(working - room, _CONTEXT_GRID)]
            return _IN_CONTEXT + encode_sparse(_Scattered(off, found))
        except _TooFar:
            return None

    dense = count > _TOO_DENSE * original.size
    best = None if dense else coded(in_context=False)
    if not best or len(best) > _WORTH_CONTEXTS * other_bytes:
        ways = [way for way in (best, coded(in_context=True)) if way]
        best = min(ways, key=len, default=None)
        if dense and not best:
            best = coded(in_context=False)
    return best


def _small(values: np.ndarray) -> np.ndarray:
    """Int32 `values` in bytes if they fit."""
    return values.astype(np.int8) if np.all(np.abs(values) < 128) else values


def _reaching(wanted, found, bound: float, working: float, unit: float, grid) -> np.ndarray:
    """Signed multiples (int32) in cells of `grid` that bring float64 `found` to `wanted`."""
    if unit <= 0:
        raise _TooFar
    cell, shift = grid
    error = wanted.astype(np.float64) - found
    sizes = np.maximum(1, np.ceil((np.abs(error) / unit - (1 - shift)) / cell))
    if not np.all(sizes < 1 << 20):
        raise _TooFar
    multiples = (np.sign(error) * sizes).astype(np.int32)
    wrong = violations(wanted, _corrected(found, multiples, unit, grid), bound, working)
    if wrong.any():
        # rounding to the output dtype took one at the very end of its cell out: the next
        # cell reaches it
        multiples += np.where(wrong, np.sign(multiples), 0).astype(np.int32)
        if violations(wanted, _corrected(found, multiples, unit, grid), bound, working).any():
            raise _TooFar
    return multiples


def _corrected(values: np.ndarray, multiples: np.ndarray, unit: float, grid) -> np.ndarray:
    """Float64 `values` with their corrections added."""
    cell, shift = grid
    sizes = cell * np.abs(multiples) - shift
    return values + np.sign(multiples) * sizes * unit


def decode_corrections(
    data: bytes, shape: tuple[int, int, int], working: float, room: float = 0.0
) -> Corrections:
    """What `correct` coded for an array of `shape`.

    Raises
    ------
    CorruptStreamError
        If `data` is damaged; of those in context when frames are taken.
    """
    if len(data) > 1 and data.startswith(_IN_CONTEXT):
        planes = decode_sparse(data[1:], shape)
        return Corrections(
            lambda count: np.stack(list(islice(planes, count))), working - room, _CONTEXT_GRID
        )
    places, multiples = decode_outliers(data, math.prod(shape))
    start = 0

    def take(count: int) -> np.ndarray:
        nonlocal start
        frames = np.zeros((count, *shape[1:]), np.int32)
        first, start = start, start + frames.size
        low, high = np.searchsorted(places, (first, start))
        frames.ravel()[places[low:high] - first] = multiples[low:high]
        return frames

    return Corrections(take, working, _GAP_GRID)


def restored_parts(
    decoded: np.ndarray, offset: float, spread: float, corrections: Corrections | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Float64 values of a normalised volume with its corrections, part by part."""
    for at in parts(decoded):
        values = restored_values(decoded[at], offset, spread)
        if corrections is not None:
            corrections.add(values)
        yield at, values
