"""Variables of Zarr stores (format 2 or 3), read where and when they are asked for.

Dimension names are those of format 3 or xarray's attribute ``_ARRAY_DIMENSIONS``. Only metadata and
coordinates are read on opening.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from caesar_freq.data.field import Coordinate, Field, check_values, checked_type, seen_from
from caesar_freq.data.lazy import LazyArray, unreadable
from caesar_freq.data.unpacking import is_packed, unpack
from caesar_freq.errors import InputError

_DIMS = "_ARRAY_DIMENSIONS"


@contextmanager
def opened(path: Path, names: Sequence[str] | None) -> Iterator[list[Field]]:
    """See `caesar_freq.data.files.opened`."""
    try:
        import zarr
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path} is read by the package {error.name}, which is not installed; install it with "
            "pip install 'caesar-freq[zarr]'"
        ) from error
    try:
        store = zarr.open(path, mode="r")
        arrays = _arrays(store)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no Zarr store ({error}); check the path") from error
    if isinstance(store, zarr.Array):
        if names and list(names) != ["data"]:
            raise InputError(f"{path} is a Zarr array without a name; drop {list(names)!r}")
        yield [_field("data", store, {}, {}, path)]
        return
    names = list(names or [_only_float_array(arrays, path)])
    for name in names:
        if name not in arrays:
            raise InputError(
                f"{path} has no variable {name!r}; its variables are: "
                f"{', '.join(sorted(arrays)) or '(none)'}"
            )
    file_attrs = _attrs(store.attrs)
    yield [_field(name, arrays[name], arrays, file_attrs, path) for name in names]


def _arrays(store) -> dict[str, Any]:
    """All arrays of a group by name; those in inner groups are called ``group/name``."""
    members = store.members(max_depth=None) if hasattr(store, "members") else ()
    return {name: member for name, member in members if hasattr(member, "dtype")}


def _only_float_array(arrays: Mapping[str, Any], path: Path) -> str:
    """Name of the one array that can only be meant."""
    auxiliary = {helper for name in arrays for helper in _helpers(name, arrays)}
    choices = [
        name
        for name, array in arrays.items()
        if name not in auxiliary
        and array.ndim
        and (array.dtype.kind == "f" or (array.dtype.kind in "iu" and is_packed(array.attrs)))
    ]
    most = max((arrays[name].ndim for name in choices), default=0)
    best = [name for name in choices if arrays[name].ndim == most]
    if len(best) == 1:
        return best[0]
    if best:
        raise InputError(
            f"{path} has several float variables ({', '.join(sorted(best))}); name the one(s) to use "
            "(on the command line: --var NAME, once for each)"
        )
    raise InputError(
        f"{path} has no float variable; its variables are: {', '.join(sorted(arrays)) or '(none)'}"
    )


def _field(name, array, arrays: Mapping[str, Any], file_attrs, path: Path) -> Field:
    what, stored = f"variable {name!r}", _attrs(array.attrs)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{what} in {path} does not hold numbers; name another one")
    if array.metadata.zarr_format == 2 and array.fill_value:
        # as xarray has it: there, the fill value marks what is missing; 0 is also everybody's default
        stored.setdefault("_FillValue", np.asarray(array.fill_value, array.dtype))
    decoded = array.dtype.kind == "f" or is_packed(stored)

    def values(raw: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        return unpack(raw, stored, f"{what} in {path}") if decoded else (raw, stored)

    def cut(index) -> np.ndarray:
        try:
            raw = np.asarray(array[index])
        except (OSError, RuntimeError, ValueError) as error:
            raise unreadable(path, error) from error
        return check_values(values(raw)[0], what, path)

    # an array without memory of its own tells type and attributes
    hollow, attrs = values(np.empty(0, array.dtype))
    hollow = np.broadcast_to(np.empty((), hollow.dtype), array.shape)
    return Field(
        name,
        LazyArray(
            tuple(array.shape),
            checked_type(hollow, what, path),
            cut,
            math.prod(array.chunks) * array.dtype.itemsize,
        ),
        _dims(array),
        attrs,
        _coords(name, arrays),
        file_attrs,
    )


def _helpers(name: str, arrays: Mapping[str, Any]) -> Iterator[str]:
    """Arrays that one refers to by its dimensions or its attribute ``coordinates``."""
    for other in (*_dims(arrays[name]), *_named(arrays[name])):
        path = seen_from(name, other, arrays)
        if path:
            yield path


def _coords(name: str, arrays: Mapping[str, Any]) -> dict[str, Coordinate]:
    coords = {}
    for helper in _helpers(name, arrays) if name in arrays else ():
        other = arrays[helper]
        if helper not in (name, *coords):
            values = np.asarray(other[...])
            if values.dtype.kind in "iuf":
                native = values.astype(values.dtype.newbyteorder("="))
                coords[helper] = Coordinate(_dims(other), native, _attrs(other.attrs))
            elif values.dtype.kind in "UTO":
                coords[helper] = Coordinate(_dims(other), values.astype(str), _attrs(other.attrs))
    return coords


def _dims(array) -> tuple[str, ...]:
    """Dimension names, empty if it has none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get(_DIMS, ())
    return () if None in names else tuple(names)


def _named(array) -> list[str]:
    named = array.attrs.get("coordinates", "")
    return named.split() if isinstance(named, str) else []


def _attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as a NetCDF file could hold them: what is neither text nor numbers becomes JSON."""
    found = {}
    for key, value in attrs.items():
        if key == "_FillValue" and isinstance(value, str):
            # xarray's spelling in format 3: the bytes of a float64 in base 64
            value = np.frombuffer(base64.b64decode(value), "<f8")
        if key == _DIMS:
            continue
        numbers = np.asarray(value) if not isinstance(value, (str, dict)) else None
        if isinstance(value, str) or (numbers is not None and numbers.dtype.kind == "U"):
            found[key] = value
        elif numbers is not None and numbers.dtype.kind in "iuf":
            found[key] = numbers
        else:
            found[key] = json.dumps(value)
    return found
