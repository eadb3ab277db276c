"""A field as it comes from a file: values and everything needed to write them back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caesar_freq.data.lazy import ArrayLike
from caesar_freq.errors import InputError

# Attributes of a NetCDF variable that say which stored number means "no value".
FILL_ATTRS = ("_FillValue", "missing_value")


@dataclass(frozen=True)
class Coordinate:
    """An auxiliary variable (axis, 2-D longitude, cell bounds, grid mapping), as stored.

    Attributes
    ----------
    dims : tuple of str
        Dimension names, in the order of the axes of `values`.
    values : ndarray
        Any dtype without Python objects except text (dtype ``U``); never decoded or unpacked.
    attrs : dict
        Attributes as stored; text, numbers, lists of text or 1-D number arrays.
    """

    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Field:
    """One variable of a file.

    Attributes
    ----------
    name : str
        Variable name (NetCDF; in a group ``group/name``), key (npz) or "data" (npy).
    values : ndarray or LazyArray of float32 or float64, 1-D to 5-D
        Packed integers are unpacked; NetCDF cells equal to the fill value are NaN.
    dims : tuple of str
        Dimension names; empty for formats that have none (npy, npz).
    attrs : dict
        Attributes of the variable, without those that only describe packing.
    coords : dict of str to Coordinate
        Every auxiliary variable the field refers to.
    file_attrs : dict
        Global attributes of the file.
    unlimited : tuple of str
        Those of `dims` that may grow (NetCDF), such as time in files that others append to.
    """

    name: str
    values: ArrayLike
    dims: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    coords: Mapping[str, Coordinate] = field(default_factory=dict)
    file_attrs: Mapping[str, Any] = field(default_factory=dict)
    unlimited: tuple[str, ...] = ()


def seen_from(name: str, other: str, known: Collection[str]) -> str | None:
    """What the variable `name` means by `other`: the one in its own group or in the next above."""
    group = name
    while group:
        group = group.rpartition("/")[0]
        path = f"{group}/{other}" if group else other
        if path in known:
            return path
    return None


def check_values(values: np.ndarray, what: str, path: str | Path) -> np.ndarray:
    """Return `values` as native float32/float64 of 1 to 5 dimensions.

    Parameters
    ----------
    values : ndarray
        Array as read; float16 is widened to float32 (exact).
    what : str
        What to call the array in messages, such as "array 'data'".
    path : str or Path
        File it came from, for messages.

    Raises
    ------
    InputError
        If the dtype is not a float of at most 64 bits, or the shape is empty, 0-D or beyond 5-D.
    """
    return np.ascontiguousarray(values, dtype=checked_type(values, what, path))


def checked_type(values: ArrayLike, what: str, path: str | Path) -> np.dtype:
    """The dtype that `check_values` would give, without touching the values; same errors."""
    kind, where = values.dtype.kind, f"{what} in {path}"
    if kind in "iub":
        raise InputError(
            f"{where} holds {values.dtype} numbers, but only float32 and float64 are compressed; "
            "convert it (numpy: array.astype('float32')), or for NetCDF give it a scale_factor "
            "attribute so that it is read as packed floats"
        )
    if kind != "f" or values.dtype.itemsize > 8:
        raise InputError(
            f"{where} has dtype {values.dtype}, but only float32 and float64 are compressed; "
            "save it as one of these (complex data: real and imaginary part as two arrays)"
        )
    if not 1 <= values.ndim <= 5:
        raise InputError(
            f"{where} has {values.ndim} dimensions {values.shape}, but 1 to 5 are supported; "
            "reshape it, or split it into several arrays"
        )
    if 0 in values.shape:
        raise InputError(f"{where} is empty (shape {values.shape}); there is nothing to compress")
    return np.dtype(np.float64 if values.dtype.itemsize == 8 else np.float32)
