"""Distortion of a decoded array, as the tables report it.

Every error is taken in float64 over the values that are finite in the original, per variable, and
is relative to the range (max - min of those values) of that variable: NRMSE = RMSE / range and
PSNR = -20 log10(NRMSE). What is not finite in the original, or equals its fill value, carries
no error: it must come back bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from caesar_freq.data.sections import missing
from caesar_freq.errors import InputError


def to_five_axes(array: np.ndarray) -> np.ndarray:
    """View `array` as [V, S, T, H, W] by adding missing leading axes.

    Raises
    ------
    InputError
        If the array is not of float32 or float64, is empty, or has 0 or more than 5 axes.
    """
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"expected float32 or float64 data, got {array.dtype}; convert it first")
    if not 1 <= array.ndim <= 5 or array.size == 0:
        raise InputError(
            f"expected 1 to 5 axes of length >= 1 ([V, S, T, H, W]), got shape {array.shape}"
        )
    if array.ndim == 4:  # [V, T, H, W]
        return array[:, None]
    return array.reshape((1,) * (5 - array.ndim) + array.shape)


@dataclass(frozen=True)
class Distortion:
    """How far a decoded array is from its original; the worst variable counts.

    Attributes
    ----------
    nrmse : float
        Largest NRMSE of all variables; nan where a decoded value is not finite but should be.
    psnr : float
        -20 log10(nrmse) in dB; inf where nothing is lost.
    max_error_rel : float
        Largest pointwise error of all variables, relative to the variable's range.
    nrmse_by_variable, max_error_rel_by_variable : tuple of float
        The same for each variable in order.
    masked_equal : bool
        Whether masked values came back bit for bit (True where nothing is masked).
    """

    nrmse: float
    psnr: float
    max_error_rel: float
    nrmse_by_variable: tuple[float, ...]
    max_error_rel_by_variable: tuple[float, ...]
    masked_equal: bool

    def as_dict(self) -> dict:
        """Plain types, ready for JSON."""
        return asdict(self)


def variable_ranges(array: np.ndarray, fill_value: float | None = None) -> np.ndarray:
    """Range (max - min) of the valid values of each variable, float64 [V]; 0 where none is valid.

    Parameters
    ----------
    array : ndarray of 1 to 5 axes, float
    fill_value : float, optional
        Values equal to it are not valid, as NaN and infinities are not.
    """
    volumes = to_five_axes(array)
    return np.array([_range(v[valid_values(v, fill_value)]) for v in volumes])


def valid_values(array: np.ndarray, fill_value: float | None = None) -> np.ndarray:
    """True where `array` is finite and not the fill value."""
    return ~missing(array, fill_value)


def distortion(
    original: np.ndarray, decoded: np.ndarray, fill_value: float | None = None
) -> Distortion:
    """Compare a decoded array with its original.

    Parameters
    ----------
    original, decoded : ndarray of 1 to 5 axes, float32 or float64, equal shape and dtype
    fill_value : float, optional
        Marks masked values of `original` beside NaN and infinities.

    Raises
    ------
    InputError
        If shapes or dtypes differ, or are not what the codec takes.
    """
    original, decoded = np.asarray(original), np.asarray(decoded)
    if original.shape != decoded.shape:
        raise InputError(
            f"cannot compare: the original has shape {original.shape}, the decoded array"
            f" {decoded.shape}; give the file that was made from this original"
        )
    if original.dtype != decoded.dtype:
        raise InputError(
            f"cannot compare: the original is {original.dtype}, the decoded array"
            f" {decoded.dtype}; an error is judged in the type of the original"
        )
    nrmse, max_error, masked_equal = [], [], True
    for x, y in zip(to_five_axes(original), to_five_axes(decoded), strict=True):
        valid = valid_values(x, fill_value)
        masked_equal &= _equal_bits(x[~valid], y[~valid])
        rms, worst = _relative_errors(x[valid], y[valid])
        nrmse.append(rms)
        max_error.append(worst)
    # max() of Python and of numpy differ on nan: numpy's keeps it, and a nan must not hide
    total = float(np.max(nrmse))
    return Distortion(
        nrmse=total,
        psnr=psnr(total),
        max_error_rel=float(np.max(max_error)),
        nrmse_by_variable=tuple(nrmse),
        max_error_rel_by_variable=tuple(max_error),
        masked_equal=bool(masked_equal),
    )


def psnr(nrmse: float) -> float:
    """Peak signal-to-noise ratio in dB of an NRMSE: -20 log10(nrmse), inf at 0."""
    return -20 * math.log10(nrmse) if nrmse > 0 else (math.inf if nrmse == 0 else math.nan)


def bound_held(measured: Distortion, criterion: str, target: float) -> bool:
    """Whether a decoded array keeps what was asked for.

    Parameters
    ----------
    criterion : {"nrmse", "max_rel", "lossless"}
    target : float
        The bound; for "lossless" it is not looked at, the error must be 0.
    """
    if criterion == "lossless":
        return measured.masked_equal and measured.max_error_rel == 0
    if criterion not in ("nrmse", "max_rel"):
        raise InputError(f"unknown criterion {criterion!r}; choose nrmse, max_rel or lossless")
    error = measured.nrmse if criterion == "nrmse" else measured.max_error_rel
    # `error <= target` is false for nan, `error > target` would be too and miss it
    return measured.masked_equal and error <= target


def _range(values: np.ndarray) -> float:
    """max - min in float64, 0 without values; inf where the difference overflows."""
    if values.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.float64(values.max()) - np.float64(values.min()))


def _relative_errors(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """RMS and largest error of 1-D valid values, both relative to the range of `x`.

    A constant variable has no range, and one near the ends of float64 an infinite one: their
    error is 0 when they are met exactly, else infinite.
    """
    spread = _range(x)
    if spread == 0 or math.isinf(spread):
        return (0.0, 0.0) if np.array_equal(x, y) else (math.inf, math.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(x.astype(np.float64) - y.astype(np.float64)) / spread
    return float(np.sqrt(np.mean(np.square(error)))), float(np.max(error))


def _equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equality that tells NaN payloads and signed zeros apart."""
    bits = np.dtype(f"u{a.dtype.itemsize}")
    a, b = (np.ascontiguousarray(z.astype(z.dtype.newbyteorder("="))) for z in (a, b))
    return bool(np.array_equal(a.view(bits), b.view(bits)))
