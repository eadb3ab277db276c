"""What a compressed file carries besides values: names, dimensions, coordinates, attributes.

``pack`` turns the fields of a file into one array for the codec plus opaque bytes; ``unpack``
restores the fields from the decoded array and those bytes, everything but the values bit for bit.

Layout of the bytes (little-endian): length of the JSON part (uint32), the JSON part (zlib), then
the coordinates one after another. Coordinates of fine grids can outweigh the compressed values,
so each is differenced along its axes as integers (exact, wrapping), its bytes are shuffled, and
the result goes through zlib; the shortest of a few ways to difference is kept.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from caesar_freq.data.arrangement import Arrangement
from caesar_freq.data.field import Coordinate, Field
from caesar_freq.data.layout import axis_order, check_alike, from_sections
from caesar_freq.data.lazy import Source
from caesar_freq.data.template import Template
from caesar_freq.errors import CorruptStreamError, InputError

# The name of an array that has none in its file.
_UNNAMED = "data"
_DAMAGED = "the metadata of the compressed file are damaged; copy the file again from its source"
# Axes to difference along, tried in turn: as it is, slope, curvature, both axes of a 2-D grid.
_DIFFERENCES: tuple[tuple[int, ...], ...] = ((), (-1,), (-1, -1), (-1, 0))


def pack(
    fields: Sequence[Field], roles: Mapping[str, str] | None = None
) -> tuple[np.ndarray, bytes]:
    """Join fields to one array and describe them.

    Parameters
    ----------
    fields : sequence of Field
        Of one file; several must agree in shape (as [S, T, H, W]) and dtype.
    roles : mapping, optional
        See `caesar_freq.data.layout.axis_order`.

    Returns
    -------
    array : ndarray
        A single field without dimension names as it is (1-D to 5-D); else [V, S, T, H, W].
    metadata : bytes
        Empty for a single unnamed array.

    Raises
    ------
    InputError
        If fields do not fit together.
    """
    source, metadata = pack_lazily(fields, roles)
    return source.whole(), metadata


def pack_lazily(
    fields: Sequence[Field], roles: Mapping[str, str] | None = None
) -> tuple[Source, bytes]:
    """As `pack`, but values are read from the fields when they are asked for."""
    if len({field.name for field in fields}) < len(fields):
        raise InputError(f"{fields[0].name!r} is named twice; name every variable once")
    if len(fields) == 1 and not fields[0].dims:
        (field,) = fields
        described = field.name != _UNNAMED or field.attrs or field.coords or field.file_attrs
        return Source.of(field.values), metadata_to_bytes(fields) if described else b""
    for field in fields:
        if field.values.ndim == 5 and not field.dims:
            raise InputError(
                f"{field.name!r} is 5-D, so it already holds several variables; take it alone"
            )
    arrangements = [
        Arrangement(f.values.shape, ((), *map(tuple, axis_order(f, roles)))) for f in fields
    ]
    check_alike([(f.name, a.sizes, f.values.dtype) for f, a in zip(fields, arrangements)])
    shape = (len(fields), *arrangements[0].sizes)
    source = Source([field.values for field in fields], arrangements, shape)
    return source, metadata_to_bytes(fields, roles)


def unpack(array: np.ndarray, metadata: bytes) -> list[Field]:
    """Fields from a decoded array and the bytes of `pack`.

    Raises
    ------
    CorruptStreamError
        If the bytes are damaged or belong to an array of another shape.
    """
    found = templates(array.shape, metadata)
    if found[0].arrangement == Arrangement.plain(array.shape):
        return [found[0].filled(array)]
    return [
        template.filled(from_sections(values, template.arrangement.order, template.shape))
        for template, values in zip(found, array, strict=True)
    ]


def field_names(metadata: bytes) -> list[str]:
    """Names of the fields that the bytes of `pack` describe.

    Raises
    ------
    CorruptStreamError
        If the bytes are damaged.
    """
    return [entry["name"] for entry in _header(metadata)["fields"]]


def metadata_to_bytes(fields: Sequence[Field], roles: Mapping[str, str] | None = None) -> bytes:
    """Everything about `fields` except their values, as compact bytes."""
    coords = {name: coord for field in fields for name, coord in field.coords.items()}
    described, buffers = [], []
    for name, coord in coords.items():
        entry, data = _coord_to_bytes(coord)
        described.append({"name": name, **entry})
        buffers.append(data)
    header = {
        "fields": [
            {
                "name": field.name,
                "dims": field.dims,
                "shape": field.values.shape,
                "order": sum(axis_order(field, roles), []),
                "attrs": _attrs_to_json(field.attrs),
                "coords": [list(coords).index(name) for name in field.coords],
                **({"unlimited": field.unlimited} if field.unlimited else {}),
            }
            for field in fields
        ],
        "coords": described,
        "file_attrs": _attrs_to_json(fields[0].file_attrs),
    }
    text = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    return struct.pack("<I", len(text)) + text + b"".join(buffers)


def templates(shape: Sequence[int], metadata: bytes) -> list[Template]:
    """The fields of a decoded array of `shape`, all but their values.

    Parameters
    ----------
    shape : sequence of int
        As `pack` made the array.
    metadata : bytes
        From `pack`.

    Raises
    ------
    CorruptStreamError
        If the bytes are damaged or belong to an array of another shape.
    """
    if not metadata:
        return [_whole(_UNNAMED, shape)]
    header = _header(metadata)
    try:
        coords, place = [], 4 + struct.unpack_from("<I", metadata)[0]
        for entry in header["coords"]:
            coord = _coord_from_bytes(entry, metadata[place : place + entry["size"]])
            coords.append((entry["name"], coord))
            place += entry["size"]
        file_attrs = _attrs_from_json(header["file_attrs"])
        return [
            replace(
                template,
                dims=tuple(entry["dims"]),
                attrs=_attrs_from_json(entry["attrs"]),
                coords=dict(coords[index] for index in entry["coords"]),
                file_attrs=file_attrs,
                unlimited=tuple(entry.get("unlimited", ())),
            )
            for entry, template in zip(header["fields"], _places(header, shape), strict=True)
        ]
    except (zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
        raise CorruptStreamError(_DAMAGED) from error


def _whole(name: str, shape: Sequence[int]) -> Template:
    """The template of an array that the codec took as it is."""
    n_variables = shape[0] if len(shape) > 3 else 1
    return Template(name, range(n_variables), Arrangement.plain(shape))


def _places(header: Mapping[str, Any], shape: Sequence[int]) -> list[Template]:
    """Names and arrangements of the fields; a single one without dimensions is the array itself."""
    entries = header["fields"]
    if len(entries) == 1 and not entries[0]["dims"]:
        if tuple(entries[0]["shape"]) != tuple(shape):
            raise ValueError("another array")
        return [_whole(entries[0]["name"], shape)]
    if len(shape) != 5 or shape[0] != len(entries):
        raise ValueError("another array")
    places = []
    for v, entry in enumerate(entries):
        arrangement = Arrangement.ordered(entry["shape"], entry["order"], shape[1:])
        if sorted(entry["order"]) != list(range(len(entry["shape"]))) or (
            arrangement.sizes != tuple(shape[1:])
        ):
            raise ValueError("another array")
        places.append(Template(entry["name"], range(v, v + 1), arrangement))
    return places


def _header(data: bytes) -> dict[str, Any]:
    """The JSON part: descriptions of fields, coordinates and the file."""
    try:
        (size,) = struct.unpack_from("<I", data)
        header = json.loads(zlib.decompress(data[4 : 4 + size]))
        header["fields"][0]["name"], header["coords"], header["file_attrs"]
        return header
    except (struct.error, zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
        raise CorruptStreamError(_DAMAGED) from error


def _attrs_to_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Text and lists of text as they are; numbers as dtype, shape and bytes, so exactly."""
    described: dict[str, Any] = {}
    for name, value in attrs.items():
        if isinstance(value, str) or (isinstance(value, list) and value):
            described[name] = value
        else:
            number = np.asarray(value)
            raw = number.astype(number.dtype.newbyteorder("<")).tobytes().hex()
            described[name] = {"dtype": number.dtype.str[1:], "shape": number.shape, "hex": raw}
    return described


def _attrs_from_json(described: Mapping[str, Any]) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    for name, value in described.items():
        if isinstance(value, dict):
            stored = np.frombuffer(bytes.fromhex(value["hex"]), "<" + value["dtype"])
            # [()] turns a 0-D array into the scalar that was there
            value = stored.astype(value["dtype"]).reshape(value["shape"])[()]
        attrs[name] = value
    return attrs


def _coord_to_bytes(coord: Coordinate) -> tuple[dict[str, Any], bytes]:
    """Description and bytes of a coordinate."""
    values = coord.values
    entry = {"dims": coord.dims, "shape": values.shape, "attrs": _attrs_to_json(coord.attrs)}
    if values.dtype.kind == "U":
        best = zlib.compress(json.dumps(values.ravel().tolist()).encode(), 9)
        return {**entry, "dtype": "text", "size": len(best)}, best
    integers = _as_integers(np.ascontiguousarray(values))
    ways = _DIFFERENCES[: {0: 1, 1: 3}.get(integers.ndim, 4)]
    candidates = [(_deflate(integers, axes), axes) for axes in ways]
    best, axes = min(candidates, key=lambda candidate: len(candidate[0]))
    return {**entry, "dtype": values.dtype.str[1:], "axes": axes, "size": len(best)}, best


def _coord_from_bytes(entry: Mapping[str, Any], data: bytes) -> Coordinate:
    shape, raw = tuple(entry["shape"]), zlib.decompress(data)
    if entry["dtype"] == "text":
        values = np.array(json.loads(raw), dtype=str).reshape(shape)
    else:
        dtype = np.dtype("<" + entry["dtype"])
        item = _integer_type(dtype)
        count = math.prod(shape) * dtype.itemsize // item.itemsize
        planes = np.frombuffer(raw, np.uint8).reshape(item.itemsize, count)
        integers = np.ascontiguousarray(planes.T).view(item).reshape(_integer_shape(shape, dtype))
        for axis in reversed(entry["axes"]):
            integers = np.cumsum(integers, axis=axis, dtype=item)
        values = integers.view(dtype).reshape(shape).astype(dtype.newbyteorder("="))
    return Coordinate(tuple(entry["dims"]), values, _attrs_from_json(entry["attrs"]))


def _deflate(integers: np.ndarray, axes: Sequence[int]) -> bytes:
    for axis in axes:
        integers = np.diff(integers, axis=axis, prepend=integers.dtype.type(0))
    planes = np.ascontiguousarray(integers).reshape(-1, 1).view(np.uint8)
    return zlib.compress(np.ascontiguousarray(planes.T).tobytes(), 9)


def _integer_type(dtype: np.dtype) -> np.dtype:
    """Unsigned integers of the size of `dtype`; single bytes for text of fixed length."""
    return np.dtype("u1" if dtype.kind == "S" else f"<u{dtype.itemsize}")


def _integer_shape(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    return (*shape, dtype.itemsize) if dtype.kind == "S" else shape


def _as_integers(values: np.ndarray) -> np.ndarray:
    little = values.astype(values.dtype.newbyteorder("<"))
    integers = np.frombuffer(little.tobytes(), _integer_type(values.dtype))
    return integers.reshape(_integer_shape(values.shape, values.dtype))
