"""Pointwise bounds: corrections of the values that the transform codec left too far off."""

from __future__ import annotations

import math

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


def rounded(restored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float64 values in the output dtype; what is beyond its largest number becomes that number."""
    limit = np.finfo(dtype).max
    return np.clip(restored, -limit, limit).astype(dtype)


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
    positions = np.flatnonzero(violations(original, restored, bound, working) & ~ignore)

    def coded(in_context: bool) -> tuple[bytes, np.ndarray] | None:
        grid = _CONTEXT_GRID if in_context else _GAP_GRID
        unit = working - room if in_context else working
        multiples = _multiples(original, restored, positions, unit, grid)
        if multiples is None:
            return None
        fixed = apply_corrections(restored, positions, multiples, unit, grid)
        wrong = violations(original, fixed, bound, working) & ~ignore
        if wrong.any():
            # rounding to the output dtype took one at the very end of its cell out: the next
            # cell reaches it
            multiples += np.where(wrong.ravel()[positions], np.sign(multiples), 0).astype(np.int32)
            fixed = apply_corrections(restored, positions, multiples, unit, grid)
            if (violations(original, fixed, bound, working) & ~ignore).any():
                return None
        if not in_context:
            return encode_outliers(positions.astype(np.int64), multiples, original.size), fixed
        volume = np.zeros(original.shape, np.int32)
        volume.ravel()[positions] = multiples
        return _IN_CONTEXT + encode_sparse(volume), fixed

    dense = len(positions) > _TOO_DENSE * original.size
    gaps = None if dense else coded(in_context=False)
    if gaps and len(gaps[0]) <= _WORTH_CONTEXTS * other_bytes:
        return gaps
    found = [way for way in (gaps, coded(in_context=True)) if way]
    if dense and not found:
        return coded(in_context=False)
    return min(found, key=lambda way: len(way[0]), default=None)


def _multiples(original, restored, positions, unit: float, grid) -> np.ndarray | None:
    """Signed multiples (int32) at flat `positions` in cells of `grid`; None if one is too large."""
    if unit <= 0:
        return None
    cell, shift = grid
    error = original.ravel()[positions].astype(np.float64) - restored.ravel()[positions]
    multiples = np.maximum(1, np.ceil((np.abs(error) / unit - (1 - shift)) / cell))
    if not np.all(multiples < 1 << 20):
        return None
    return (np.sign(error) * multiples).astype(np.int32)


def apply_corrections(restored, positions, multiples, unit: float, grid) -> np.ndarray:
    """`restored` float64 with corrections at flat `positions` added."""
    cell, shift = grid
    fixed = restored.copy()
    sizes = cell * np.abs(multiples) - shift
    fixed.ravel()[positions] += np.sign(multiples) * sizes * unit
    return fixed


def decode_corrections(
    data: bytes, restored: np.ndarray, working: float, room: float = 0.0
) -> np.ndarray:
    """Apply the corrections in `data` to `restored` (float64 ``[T, H, W]``)."""
    if len(data) > 1 and data.startswith(_IN_CONTEXT):
        volume = decode_sparse(data[1:], restored.shape)
        positions = np.flatnonzero(volume)
        return apply_corrections(
            restored, positions, volume.ravel()[positions], working - room, _CONTEXT_GRID
        )
    positions, multiples = decode_outliers(data, restored.size)
    return apply_corrections(restored, positions, multiples, working, _GAP_GRID)
