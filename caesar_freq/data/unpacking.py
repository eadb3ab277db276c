"""Stored numbers become what they mean: packed integers floats, fill values NaN (CF 2.5, 8.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caesar_freq.data.field import FILL_ATTRS
from caesar_freq.errors import InputError

# Attributes in packed units: meaningless once the data are floats.
_PACKING = ("scale_factor", "add_offset", "_Unsigned", "valid_range", "valid_min", "valid_max")


def is_packed(attrs: Mapping[str, Any]) -> bool:
    """Whether attributes say that numbers are stored as packed integers."""
    return "scale_factor" in attrs or "add_offset" in attrs


def unpack(raw: np.ndarray, attrs: dict[str, Any], what: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Unpack to float and turn fill values into NaN; attributes of the packing are dropped.

    Floats that are not packed come back from `refilled` bit by bit.

    Raises
    ------
    InputError
        If an attribute of the packing is not a number; the message begins with `what`.
    """
    raw, fills = np.asarray(raw, raw.dtype.newbyteorder("=")), fill_values(attrs)
    # floats are compared in the stored type: float32(1e20) is not float64(1e20)
    missing = [raw == (f.astype(raw.dtype) if raw.dtype.kind == "f" else f) for f in fills]
    if raw.dtype.kind == "i" and attrs.get("_Unsigned") == "true":
        raw = raw.view(raw.dtype.str.replace("i", "u"))
    packed = is_packed(attrs)
    # half precision has no room for the numbers of NaN
    values = raw.astype(np.float32) if raw.dtype.itemsize == 2 and not packed else raw
    if packed:
        scale = _number(attrs, "scale_factor", 1, what)
        offset = _number(attrs, "add_offset", 0, what)
        values = (raw * scale + offset).astype(_unpacked_dtype(raw.dtype, scale, offset))
        attrs = {key: value for key, value in attrs.items() if key not in (*_PACKING, *FILL_ATTRS)}
        if fills:  # CDO and NCO know NaN for missing only if it is declared
            attrs["_FillValue"] = values.dtype.type(np.nan)
        return _replaced(values, missing, nans(values.dtype, 1).repeat(len(fills))), attrs
    if not fills:
        return values, attrs
    numbered = nans(values.dtype, len(fills) + 1)
    if not np.isnan(fills[0]):
        values = _replaced(values, [_same_bits(values, numbered[0])], numbered[-1:])
    return _replaced(values, missing, numbered), attrs


def nans(dtype: np.dtype, count: int) -> np.ndarray:
    """NaN of different bits, the usual one first.

    NaN number k stands for the k-th of the `fill_values` in the codec's array, the next for a NaN
    that was there. All are the same to whoever looks at the array.
    """
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    return (np.array(np.nan, dtype).view(unsigned) + np.arange(count, dtype=unsigned)).view(dtype)


def refilled(values: np.ndarray, fills: np.ndarray) -> np.ndarray:
    """Inverse of `unpack` without packing: fill values, in the type of `values`, where they were."""
    if not fills.size:
        return values
    numbered = nans(values.dtype, len(fills) + 1)
    places = [_same_bits(values, number) for number in numbered]
    return _replaced(values, places, np.append(fills, numbered[0]))


def _same_bits(values: np.ndarray, number: np.floating) -> np.ndarray:
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    return values.view(unsigned) == number.view(unsigned)


def _replaced(values: np.ndarray, places: Sequence[np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """`values` with a number at each of the `places`; the first counts where there are several."""
    for at, number in reversed(list(zip(places, numbers))):
        if at.any():
            values = np.where(at, number, values)
    return values


def fill_values(attrs: Mapping[str, Any]) -> list[np.ndarray]:
    """The numbers that stand for "no value"; some files note text there, which cannot occur."""
    stated = [np.ravel(attrs[key]) for key in FILL_ATTRS if key in attrs]
    return [fill for group in stated if group.dtype.kind in "iuf" for fill in group]


def _number(attrs: Mapping[str, Any], name: str, default: float, what: str) -> float:
    value = attrs.get(name, default)
    try:
        return float(np.asarray(value).item())
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{what} has the {name} {value!r}, which is not one number; mend the attribute"
        ) from error


def _unpacked_dtype(stored: np.dtype, scale: float, offset: float) -> np.dtype:
    """float32 where it resolves an eighth of the packing quantum for every code, else float64."""
    if stored.kind == "f":
        return stored
    largest = abs(offset) + abs(scale) * np.iinfo(stored).max
    fine = np.spacing(np.float32(largest)) <= abs(scale) / 8
    return np.dtype(np.float32 if fine else np.float64)
