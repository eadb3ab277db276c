"""Pointwise bounds: corrections of the values that the transform codec left too far off."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from caesar_freq.codec.outliers import decode_outliers, encode_outliers
from caesar_freq.entropy.sparse import decode_sparse, encode_sparse

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
#: So many values are converted to float64 at once.
_BLOCK = 1 << 16
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


def restore_values(decoded: np.ndarray, offset: float, spread: float) -> np.ndarray:
    """Normalised values back in the variable's units, float64."""
    return decoded.astype(np.float64) * spread + offset


def rounded(restored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float64 values in the output dtype; what is beyond its largest number becomes that number."""
    limit = np.finfo(dtype).max
    out = np.empty(restored.shape, dtype)
    for part, values in _blocks(out, restored):
        part[...] = np.clip(values, -limit, limit)
    return out


def _blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The same parts of arrays of one shape, so that copies of another type stay small."""
    step = max(1, len(arrays[0]) * _BLOCK // max(1, arrays[0].size))
    for start in range(0, len(arrays[0]), step):
        yield tuple(array[start : start + step] for array in arrays)


def rounding_room(offset: float, spread: float, dtype: np.dtype) -> float:
    """Largest error of rounding a value of a variable with this mean and range to `dtype`."""
    limits = np.finfo(dtype)
    exponent = math.frexp(min(abs(offset) + spread, float(limits.max)))[1]
    return math.ldexp(1.0, exponent - limits.nmant - 2)


def violations(original: np.ndarray, restored: np.ndarray, bound: float, working: float):
    """Where `restored` (float64) is too far off, before or after rounding to the output dtype."""
    out = np.empty(original.shape, bool)
    for part, before, after in _blocks(out, original, restored):
        exact = before.astype(np.float64)
        output = rounded(after, original.dtype).astype(np.float64)
        # written so that a NaN counts as a violation
        part[...] = ~((np.abs(exact - after) <= working) & (np.abs(exact - output) <= bound))
    return out


def correct(
    original: np.ndarray,
    restored: np.ndarray,
    bound: float,
    working: float,
    ignore: np.ndarray,
    other_bytes: int = 0,
    room: float = 0.0,
) -> tuple[bytes, np.ndarray] | None:
    """Corrections for `restored`, and `restored` with them applied; None if they cannot help.

    Parameters
    ----------
    original, restored : arrays of one shape [T, H, W]; `restored` float64
    bound, working : float
        The bound in the output dtype, and the one to aim at (`working_bound`).
    ignore : bool array
        Masked values, restored by other means.
    other_bytes : int
        What the rest of the chunk takes.
    room : float
        `rounding_room` of the variable.
    """
    if working <= 0:
        return None
    off = violations(original, restored, bound, working)
    off &= ~ignore
    positions = np.flatnonzero(off)
    wanted, found = original.ravel()[positions], restored.ravel()[positions]

    def coded(in_context: bool) -> tuple[bytes, np.ndarray] | None:
        """Corrections and the values that they make of those at `positions`."""
        grid = _CONTEXT_GRID if in_context else _GAP_GRID
        unit = working - room if in_context else working
        multiples = _multiples(wanted, found, unit, grid)
        if multiples is None:
            return None
        fixed = _corrected(found, multiples, unit, grid)
        wrong = violations(wanted, fixed, bound, working)
        if wrong.any():
            # rounding to the output dtype took one at the very end of its cell out: the next
            # cell reaches it
            multiples += np.where(wrong, np.sign(multiples), 0).astype(np.int32)
            fixed = _corrected(found, multiples, unit, grid)
            if violations(wanted, fixed, bound, working).any():
                return None
        if not in_context:
            return encode_outliers(positions.astype(np.int64), multiples, original.size), fixed
        volume = np.zeros(original.shape, np.int32)
        volume.ravel()[positions] = multiples
        return _IN_CONTEXT + encode_sparse(volume), fixed

    dense = len(positions) > _TOO_DENSE * original.size
    best = None if dense else coded(in_context=False)
    if not best or len(best[0]) > _WORTH_CONTEXTS * other_bytes:
        ways = [way for way in (best, coded(in_context=True)) if way]
        best = min(ways, key=lambda way: len(way[0]), default=None)
        if dense and not best:
            best = coded(in_context=False)
    if best is None:
        return None
    fixed = restored.copy()
    fixed.ravel()[positions] = best[1]
    return best[0], fixed


def _multiples(original, restored, unit: float, grid) -> np.ndarray | None:
    """Signed multiples (int32) in cells of `grid`, one for each value; None if one is too large."""
    if unit <= 0:
        return None
    cell, shift = grid
    error = original.astype(np.float64) - restored
    multiples = np.maximum(1, np.ceil((np.abs(error) / unit - (1 - shift)) / cell))
    if not np.all(multiples < 1 << 20):
        return None
    return (np.sign(error) * multiples).astype(np.int32)


def _corrected(values: np.ndarray, multiples: np.ndarray, unit: float, grid) -> np.ndarray:
    """Float64 `values` with their corrections added."""
    cell, shift = grid
    sizes = cell * np.abs(multiples) - shift
    return values + np.sign(multiples) * sizes * unit


def decode_corrections(
    data: bytes, restored: np.ndarray, working: float, room: float = 0.0
) -> np.ndarray:
    """Apply the corrections in `data` to `restored` (float64 ``[T, H, W]``, changed in place)."""
    if len(data) > 1 and data.startswith(_IN_CONTEXT):
        volume = decode_sparse(data[1:], restored.shape)
        positions = np.flatnonzero(volume)
        multiples, unit, grid = volume.ravel()[positions], working - room, _CONTEXT_GRID
    else:
        positions, multiples = decode_outliers(data, restored.size)
        unit, grid = working, _GAP_GRID
    values = restored.ravel()
    values[positions] = _corrected(values[positions], multiples, unit, grid)
    return values.reshape(restored.shape)
