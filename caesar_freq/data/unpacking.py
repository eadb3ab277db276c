"""Stored numbers become what they mean: packed integers floats, fill values NaN (CF 2.5, 8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from caesar_freq.data.field import FILL_ATTRS

# Attributes in packed units: meaningless once the data are floats.
_PACKING = ("scale_factor", "add_offset", "_Unsigned", "valid_range", "valid_min", "valid_max")


def is_packed(attrs: Mapping[str, Any]) -> bool:
    """Whether attributes say that numbers are stored as packed integers."""
    return "scale_factor" in attrs or "add_offset" in attrs


def unpack(raw: np.ndarray, attrs: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Unpack to float and turn fill values into NaN; attributes of the packing are dropped."""
    missing = np.zeros(raw.shape, dtype=bool)
    for fill in fill_values(attrs):
        # Floats are compared in the stored type: float32(1e20) is not float64(1e20).
        missing |= raw == (fill.astype(raw.dtype) if raw.dtype.kind == "f" else fill)
    if raw.dtype.kind == "i" and attrs.get("_Unsigned") == "true":
        raw = raw.view(raw.dtype.str.replace("i", "u"))
    packed = is_packed(attrs)
    values = raw
    if packed:
        scale = float(np.ravel(attrs.get("scale_factor", 1))[0])
        offset = float(np.ravel(attrs.get("add_offset", 0))[0])
        values = (raw * scale + offset).astype(_unpacked_dtype(raw.dtype, scale, offset))
        attrs = {key: value for key, value in attrs.items() if key not in (*_PACKING, *FILL_ATTRS)}
    if missing.any():
        values = np.where(missing, values.dtype.type(np.nan), values)
    return values, attrs


def fill_values(attrs: Mapping[str, Any]) -> list[np.ndarray]:
    """The numbers that stand for "no value"; some files note text there, which cannot occur."""
    stated = [np.ravel(attrs[key]) for key in FILL_ATTRS if key in attrs]
    return [fill for group in stated if group.dtype.kind in "iuf" for fill in group]


def _unpacked_dtype(stored: np.dtype, scale: float, offset: float) -> np.dtype:
    """float32 where it resolves an eighth of the packing quantum for every code, else float64."""
    if stored.kind == "f":
        return stored
    largest = abs(offset) + abs(scale) * np.iinfo(stored).max
    fine = np.spacing(np.float32(largest)) <= abs(scale) / 8
    return np.dtype(np.float32 if fine else np.float64)
