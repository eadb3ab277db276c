"""Low bits of coefficients at steps so fine that the entropy model knows nothing of their sizes.

Its scale bins end at some hundred steps, and far above, a bit of a level costs nearly two. So each
shell of frequencies is coded in units of ``2 ** shift`` steps, in which a quarter of its coefficients
are below 2, and what that leaves of each follows in `shift` bits as they are: they are as good as
random. Units are powers of two, so nothing is rounded by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.packing import Reader
from caesar_freq.codec.quantise import ERROR_UNIT
from caesar_freq.entropy.context import shells
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.blocks import Transform

#: Coarser normalised steps are the entropy model's own.
COARSEST = 2.0**-17
#: Bits that coefficients have to give away in the mean: for fewer, the dependent quantiser, which is
#: used without them only, saves more.
_LEAST = 3.0
#: No encoder has larger shifts: float64 has no more bits.
_MOST = 56


@dataclass(frozen=True)
class Shell:
    """Where the coefficients of a shell are, those of slots in use only."""

    planes: tuple
    valid: np.ndarray

    def of(self, planes: np.ndarray) -> np.ndarray:
        """Its coefficients, float ``[n]``."""
        return planes[self.planes][self.valid]

    def put(self, planes: np.ndarray, values: np.ndarray) -> None:
        """Replace them."""
        part = planes[self.planes]
        part[self.valid] = values
        planes[self.planes] = part


def _shells(transform: Transform) -> Iterator[Shell]:
    """All shells, from low to high frequency."""
    starts, positions = shells(*transform.planes_shape[1:4])
    time, rows, columns = transform.time.mask, transform.rows.mask, transform.columns.mask
    for start, end in zip(starts, starts[1:]):
        i, j, k = positions[start:end].T
        along_rows, along_columns = rows.T[j], columns.T[k]
        valid = time[:, i][:, :, None, None] & along_rows[:, :, None] & along_columns[:, None]
        yield Shell((slice(None), i, j, k), valid)


def shifts_of(planes: np.ndarray, step: float, transform: Transform) -> list[int] | None:
    """Shift of every shell; None where low bits do not pay.

    Parameters
    ----------
    planes : float [nt, bt, bh, bw, nh, nw]
        Coefficients of normalised values.
    step : float
        Normalised step.
    transform : Transform
        Whose coefficients they are.
    """
    if step > COARSEST:
        return None
    shifts, given = [], 0
    for shell in _shells(transform):
        sizes = np.abs(shell.of(planes))
        quarter = np.partition(sizes, sizes.size // 4)[sizes.size // 4]
        shifts.append(int(np.clip(np.frexp(quarter / step)[1] - 1, 0, _MOST)))
        given += shifts[-1] * sizes.size
    return shifts if given >= _LEAST * transform.n_coefficients else None


def in_units(
    planes: np.ndarray, step: float, shifts: list[int], transform: Transform
) -> np.ndarray:
    """Coefficients in the units of their shells, with half a step more where there are low bits.

    Rounded to whole units they leave low bits of ``-2 ** (shift - 1)`` to ``2 ** (shift - 1) - 1``
    steps, rounded down.
    """
    out = planes.copy()
    for shell, shift in zip(_shells(transform), shifts):
        if shift:
            shell.put(out, np.ldexp(shell.of(planes) + planes.dtype.type(step / 2), -shift))
    return out


def low_bits(
    units: np.ndarray, coarse: np.ndarray, step: float, shifts: list[int], transform: Transform
) -> bytes:
    """What `add_low_bits` needs to bring `coarse`, made of levels, next to `units` of `in_units`."""
    parts = [bytes(shifts)]
    for shell, shift in zip(_shells(transform), shifts):
        if shift:
            half = 1 << (shift - 1)
            left = (shell.of(units).astype(np.float64) - shell.of(coarse)) / (step / 2.0**shift)
            low = np.clip(np.floor(left), -half, half - 1).astype(np.int64) + half
            bits = low[:, None] >> np.arange(shift)[::-1] & 1
            parts.append(np.packbits(bits.astype(np.uint8)).tobytes())
    return b"".join(parts)


def add_low_bits(coarse: np.ndarray, data: bytes, step: float, transform: Transform) -> None:
    """Make coefficients of what levels alone stand for, in place.

    Parameters
    ----------
    coarse : float [nt, bt, bh, bw, nh, nw]
        In the units of shells, which the result has no more.
    data : bytes
        Of `low_bits`.
    step : float
    transform : Transform

    Raises
    ------
    CorruptStreamError
        If `data` has not the length that its shifts say, or shifts are impossible.
    """
    reader = Reader(data)
    shifts = list(reader.take(len(shells(*transform.planes_shape[1:4])[0]) - 1))
    if max(shifts) > _MOST:
        raise CorruptStreamError("the low bits of coefficients are more than any has")
    for shell, shift in zip(_shells(transform), shifts):
        if shift:
            high = shell.of(coarse)
            packed = np.frombuffer(reader.take(-(-high.size * shift // 8)), np.uint8)
            bits = np.unpackbits(packed, count=high.size * shift).reshape(-1, shift)
            low = bits @ (1 << np.arange(shift)[::-1]) - (1 << (shift - 1))
            found = high.astype(np.float64) + low * (step / 2.0**shift)
            shell.put(coarse, np.ldexp(found, shift).astype(coarse.dtype))
    if reader.left:
        raise CorruptStreamError("there are more low bits of coefficients than coefficients")


def squared_error(planes: np.ndarray, found: np.ndarray, step: float) -> int:
    """Of coefficients, as `quantise.coefficient_error` counts it."""
    total = 0
    shape = (-1, *planes.shape[2:])
    for before, after in zip(planes.reshape(shape), found.reshape(shape)):
        error = (before.astype(np.float64) - after) / step
        total += int(np.rint(error * error * ERROR_UNIT).astype(np.int64).sum())
    return total
