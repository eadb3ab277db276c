"""Variables of NetCDF files, with everything needed to write them back unchanged.

Coordinates, bounds and grid mappings are carried as stored (no decoding of times or units), so
that they come back bit for bit; only the data themselves are decoded: packed integers become
floats and fill values NaN, as xarray does it.
"""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from caesar_freq.data.classic import missing_bytes
from caesar_freq.data.field import FILL_ATTRS, Coordinate, Field, check_values, checked_type
from caesar_freq.data.lazy import LazyArray, unreadable
from caesar_freq.data.parts import Parts, sorted_parts
from caesar_freq.data.template import Template
from caesar_freq.data.unpacking import fill_values, is_packed, refilled, unpack
from caesar_freq.data.variables import (
    attributes,
    helpers,
    listed,
    only_float_variable,
    variables_of,
    wrong,
)
from caesar_freq.errors import InputError

_CHUNK_VALUES = 1 << 18
# Dimension names given to arrays that have none, last axis last.
_PLAIN_DIMS = ("variable", "section", "time", "height", "width")


def read(path: Path, names: Sequence[str] | None) -> list[Field]:
    """See `caesar_freq.data.files.read`."""
    with opened(path, names) as fields:
        return [replace(field, values=field.values[...]) for field in fields]


@contextmanager
def opened(path: Path, names: Sequence[str] | None) -> Iterator[list[Field]]:
    """See `caesar_freq.data.files.opened`."""
    try:
        if missing := missing_bytes(Path(path)):
            raise InputError(
                f"{path} is cut off: it lacks {missing} bytes that its header announces; copy it again"
            )
        dataset = netCDF4.Dataset(path)
    except OSError as error:
        raise InputError(f"{path} {wrong(path, error)}") from error
    except (RuntimeError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    with dataset:
        dataset.set_auto_maskandscale(False)
        dataset.set_auto_chartostring(False)
        try:
            fields = _read_fields(dataset, path, names)
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error
        yield fields


def _read_fields(dataset: netCDF4.Dataset, path: Path, names: Sequence[str] | None) -> list[Field]:
    names = list(names or [only_float_variable(dataset, path)])
    known = variables_of(dataset)
    for name in names:
        if name not in known:
            raise InputError(
                f"{path} has no variable {name!r}; its variables are: {listed(dataset)}"
            )
    lock = threading.Lock()  # the library is not for several threads at once
    file_attrs = {key: dataset.getncattr(key) for key in dataset.ncattrs()}
    return [_read_field(known, name, path, lock, file_attrs) for name in names]


@contextmanager
def _created(path: Path) -> Iterator[netCDF4.Dataset]:
    """A new file; where the library cannot write it, an OSError that names `path`."""
    try:
        with netCDF4.Dataset(path, "w", format="NETCDF4") as dataset:
            yield dataset
    except (PermissionError, RuntimeError) as error:
        # a full disk is called either "Permission denied" or "NetCDF: HDF error"
        if isinstance(error, RuntimeError) and not str(error).startswith("NetCDF: "):
            raise
        if "name" in str(error).lower():  # illegal, in use, or too long
            raise InputError(
                f"a variable, dimension or attribute cannot have its name in NetCDF ({error}); "
                "write to .npz"
            ) from error
        reason = f"{getattr(error, 'strerror', None) or error}, perhaps since the disk is full"
        raise OSError(errno.EIO, reason, str(path)) from error


def write(path: Path, fields: Sequence[Field]) -> None:
    """See `caesar_freq.data.files.write`; writes in place, so give it a temporary path."""
    with _created(path) as dataset:
        dataset.setncatts(dict(fields[0].file_attrs))
        names = {field.name for field in fields}
        for field in fields:
            dims = field.dims or _PLAIN_DIMS[-field.values.ndim :]
            _write_coords(dataset, field, names)
            values, attrs = _with_fill(field)
            _write_variable(dataset, field.name, dims, values, attrs, field.unlimited)


class _FillTaken(Exception):
    """A value of the field of this number equals its fill value."""


def write_parts(path: Path, templates: Sequence[Template], dtype: np.dtype, parts: Parts) -> None:
    """See `caesar_freq.data.parts.write_parts`; writes in place."""
    templates = list(templates)
    while True:
        try:
            return _write_parts(path, templates, dtype, parts)
        except _FillTaken as taken:
            (number,) = taken.args
            attrs = _nan_as_fill(templates[number].attrs, dtype)
            templates[number] = replace(templates[number], attrs=attrs)


def _write_parts(path, templates, dtype, parts) -> None:
    with _created(path) as dataset:
        dataset.setncatts(dict(templates[0].file_attrs))
        names = {template.name for template in templates}
        variables, fills = [], []
        for template in templates:
            dims = template.dims or _PLAIN_DIMS[-len(template.shape) :]
            _write_coords(dataset, template, names)
            variables.append(
                _create_variable(
                    dataset, template.name, dims, template.shape, dtype, template.attrs,
                    template.unlimited,
                )
            )  # fmt: skip
            fills.append(np.array(fill_values(template.attrs), dtype))
        for number, where, values in sorted_parts(templates, parts):
            fill = fills[number]
            if np.isin(values, fill[~np.isnan(fill)]).any():
                raise _FillTaken(number)
            variables[number][where] = refilled(values, fill)


def _write_coords(dataset, field: Field | Template, names: set[str]) -> None:
    """Write coordinates that are neither there already nor fields of their own."""
    there = variables_of(dataset)
    for name, coord in field.coords.items():
        if name not in there and name not in names:
            _write_variable(dataset, name, coord.dims, coord.values, coord.attrs, field.unlimited)


def _read_field(
    known: Mapping[str, netCDF4.Variable],
    name: str,
    path: Path,
    lock: threading.Lock,
    file_attrs: Mapping[str, Any],
) -> Field:
    variable = known[name]
    stored, what = attributes(variable), f"variable {name!r}"
    if not isinstance(variable.dtype, np.dtype) or variable.dtype.kind not in "iuf":
        raise InputError(f"{what} in {path} does not hold numbers; name another one")
    decoded = variable.dtype.kind == "f" or is_packed(stored)

    def values(raw: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        return unpack(raw, stored, f"{what} in {path}") if decoded else (raw, stored)

    def cut(index) -> np.ndarray:
        try:
            with lock:
                raw = np.asarray(variable[index])
        except (OSError, RuntimeError) as error:
            raise unreadable(path, error) from error
        return check_values(values(raw)[0], what, path)

    # an array without memory of its own tells type and attributes
    hollow, attrs = values(np.empty(0, variable.dtype))
    hollow = np.broadcast_to(np.empty((), hollow.dtype), variable.shape)
    return Field(
        name,
        LazyArray(
            variable.shape,
            checked_type(hollow, what, path),
            cut,
            _block_bytes(variable),
        ),
        tuple(variable.dimensions),
        attrs,
        _read_coords(known, name),
        file_attrs,
        tuple(dim.name for dim in variable.get_dims() if dim.isunlimited()),
    )


def _block_bytes(variable: netCDF4.Variable) -> int:
    """Size of an HDF5 chunk; 0 where the variable lies in one piece and any part can be read."""
    chunks = variable.chunking() if variable.group().data_model.startswith("NETCDF4") else None
    return math.prod(chunks) * variable.dtype.itemsize if isinstance(chunks, list) else 0


def _read_coords(known: Mapping[str, netCDF4.Variable], name: str) -> dict[str, Coordinate]:
    """All variables that `name` refers to by its dimensions or attributes, and they in turn."""
    coords: dict[str, Coordinate] = {}
    queue = [name]
    while queue:
        for other in helpers(known, queue.pop()):
            if other == name or other in coords:
                continue
            source = known[other]
            values = np.asarray(source[...])
            # NetCDF-4 strings come as objects, big-endian numbers as they are
            native = str if source.dtype is str else values.dtype.newbyteorder("=")
            values = values.astype(native)
            if values.dtype.kind in "iufUS":
                coords[other] = Coordinate(tuple(source.dimensions), values, attributes(source))
                queue.append(other)
    return coords


def _with_fill(field: Field) -> tuple[np.ndarray, dict[str, Any]]:
    """Values and attributes to store: NaN goes back to the fill values the file had.

    Where a real value happens to equal the fill value, NaN itself becomes the fill value: a
    reader must never take a number for a hole.
    """
    attrs = dict(field.attrs)
    fills = np.array(fill_values(attrs), dtype=field.values.dtype)
    if not fills.size:
        return field.values, attrs
    if np.isin(field.values, fills[~np.isnan(fills)]).any():
        return field.values, _nan_as_fill(attrs, field.values.dtype)
    return refilled(field.values, fills), attrs


def _nan_as_fill(attrs: Mapping[str, Any], dtype: np.dtype) -> dict[str, Any]:
    attrs = {key: value for key, value in attrs.items() if key not in FILL_ATTRS}
    return {**attrs, "_FillValue": np.dtype(dtype).type(np.nan)}


def _write_variable(
    dataset: netCDF4.Dataset,
    name: str,
    dims: Sequence[str],
    values: np.ndarray,
    attrs: Mapping[str, Any],
    unlimited: Sequence[str],
) -> None:
    text = values.dtype.kind == "U"
    dtype = str if text else values.dtype
    variable = _create_variable(dataset, name, dims, values.shape, dtype, attrs, unlimited)
    variable[...] = values.astype(object) if text else values


def _create_variable(
    dataset: netCDF4.Dataset,
    name: str,
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: np.dtype | type,
    attrs: Mapping[str, Any],
    unlimited: Sequence[str],
) -> netCDF4.Variable:
    """A variable without values, its group and dimensions made where they are new."""
    group = dataset
    for part in name.split("/")[:-1]:
        group = group.groups.get(part) or group.createGroup(part)
    for dim, size in zip(dims, shape, strict=True):
        known = _visible(group, dim)
        if known is None or (known.size != size and dim not in group.dimensions):
            group.createDimension(dim, None if dim in unlimited else size)
        elif known.size != size and not (known.isunlimited() and not known.size):
            raise InputError(
                f"variable {name!r} has {size} points along {dim!r} but another one has "
                f"{known.size}; write them to separate files"
            )
    attrs = dict(attrs)
    fill = attrs.pop("_FillValue", None)
    # None means: no _FillValue attribute, as in the file it came from
    variable = group.createVariable(
        name.split("/")[-1], dtype, tuple(dims), fill_value=fill,
        chunksizes=_chunks(dims, shape, unlimited),
    )  # fmt: skip
    variable.set_auto_maskandscale(False)
    variable.set_auto_chartostring(False)
    variable.setncatts(attrs)
    return variable


def _chunks(
    dims: Sequence[str], shape: Sequence[int], unlimited: Sequence[str]
) -> list[int] | None:
    """Chunks of several small frames where a variable may grow; the library would take one."""
    growing = [axis for axis, dim in enumerate(dims) if dim in unlimited]
    chunks = [max(1, size) for size in shape]
    for axis in growing[:1]:
        frame = math.prod(chunks) // chunks[axis]
        chunks[axis] = min(chunks[axis], _CHUNK_VALUES // frame)
    return chunks if growing and 0 not in chunks else None


def _visible(group: netCDF4.Group | None, dim: str) -> netCDF4.Dimension | None:
    """The dimension of this name in a group or above it."""
    while group is not None:
        if dim in group.dimensions:
            return group.dimensions[dim]
        group = group.parent
    return None
