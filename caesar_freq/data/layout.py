"""From the fields of a file to the codec's array [V, S, T, H, W], and back.

NetCDF variables come with named dimensions in any order; the codec wants variable, section, time,
height, width. Time, height and width are recognised by the CF conventions or their usual names; the
last remaining dimensions take the roles that nobody claims, and whatever else there is (levels,
members) is flattened into sections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.data.field import Field, seen_from
from caesar_freq.errors import InputError

ROLES = ("section", "time", "height", "width")


@dataclass(frozen=True)
class _Signs:
    """What gives a dimension away: CF conventions, chapter 4, or a usual name (lower case)."""

    axis: str
    standard_names: tuple[str, ...]
    units: tuple[str, ...]
    names: tuple[str, ...]


_SIGNS = {
    "time": _Signs(
        "T", ("time",), (" since ",), ("time", "t", "valid_time", "ocean_time", "frame")
    ),
    "width": _Signs(
        "X",
        ("longitude", "grid_longitude", "projection_x_coordinate"),
        ("degrees_east", "degree_east"),
        ("lon", "longitude", "x", "width"),
    ),
    "height": _Signs(
        "Y",
        ("latitude", "grid_latitude", "projection_y_coordinate"),
        ("degrees_north", "degree_north"),
        ("lat", "latitude", "y", "height"),
    ),
}


def axis_order(field: Field, roles: Mapping[str, str] | None = None) -> tuple[list[int], ...]:
    """Axes of a field that make up section, time, height and width.

    Parameters
    ----------
    field : Field
        With or without named dimensions; without, axes count from the last: W, H, T, S.
    roles : mapping, optional
        Role ("section", "time", "height", "width") to dimension name, for what the default
        recognition would get wrong. All dimensions without a role become sections.

    Returns
    -------
    tuple of four lists of int
        Axis numbers per role; an empty list stands for a missing axis of length 1.

    Raises
    ------
    InputError
        If a role or a dimension name does not exist, or one dimension has two roles.
    """
    roles = dict(roles or {})
    axes = {role: [_axis_of(field, role, name)] for role, name in roles.items()}
    given = [axis for chosen in axes.values() for axis in chosen]
    if len(set(given)) < len(given):
        raise InputError(f"two roles share one dimension of {field.name!r}: {roles}; use one each")
    left = [axis for axis in range(field.values.ndim) if axis not in given]
    for role in _SIGNS:
        # A series alone is a line of numbers to the codec, so its one axis is the width.
        if role not in axes and (found := [axis for axis in left if _plays(field, axis, role)]):
            if field.values.ndim > 1:
                axes[role] = found[-1:]
                left.remove(found[-1])
    for role in ("width", "height"):
        if role not in axes:
            axes[role] = [left.pop()] if left else []
    if "time" not in axes:
        axes["time"] = [left.pop()] if left and not field.dims else []
    axes["section"] = axes.get("section", []) + left
    return tuple(axes[role] for role in ROLES)


def to_sections(field: Field, roles: Mapping[str, str] | None = None) -> np.ndarray:
    """Values of one field as [S, T, H, W]; see `axis_order` for the rules and errors."""
    axes = axis_order(field, roles)
    shape = [math.prod(field.values.shape[axis] for axis in group) for group in axes]
    return np.ascontiguousarray(field.values.transpose(sum(axes, []))).reshape(shape)


def from_sections(array: np.ndarray, order: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Undo `to_sections`.

    Parameters
    ----------
    array : ndarray [S, T, H, W]
        Values in the codec's order.
    order : sequence of int
        The axes of `axis_order`, joined to one permutation.
    shape : sequence of int
        Shape of the field before.
    """
    permuted = array.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(permuted.transpose(np.argsort(order)))


def stack_variables(arrays: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Join [S, T, H, W] arrays of equal shape and dtype to [V, S, T, H, W].

    Raises
    ------
    InputError
        If shapes or dtypes differ.
    """
    check_alike([(n, a.shape, a.dtype) for n, a in zip(names, arrays, strict=True)])
    return np.stack(arrays)


def check_alike(described: Sequence[tuple[str, tuple[int, ...], np.dtype]]) -> None:
    """Raise InputError unless all of (name, [S, T, H, W] shape, dtype) agree but for the name."""
    first, shape, dtype = described[0]
    for name, *other in described:
        if other != [shape, dtype]:
            raise InputError(
                f"{name!r} is {other[1]} {other[0]} (section, time, height, width) but "
                f"{first!r} is {dtype} {shape}; variables taken together must "
                "agree, so take them one by one"
            )


def _axis_of(field: Field, role: str, name: str) -> int:
    if role not in ROLES:
        raise InputError(f"{role!r} is not a dimension role; roles are {', '.join(ROLES)}")
    if name not in field.dims:
        raise InputError(
            f"{field.name!r} has no dimension {name!r} to use as {role}; its dimensions are: "
            f"{', '.join(field.dims) or '(unnamed)'}"
        )
    return field.dims.index(name)


def _plays(field: Field, axis: int, role: str) -> bool:
    """Whether a dimension gives itself away as time, height or width."""
    if not field.dims:
        return False
    name, signs = field.dims[axis], _SIGNS[role]
    coordinate = seen_from(field.name, name, field.coords)
    attrs = field.coords[coordinate].attrs if coordinate else {}
    return (
        attrs.get("axis") == signs.axis
        or attrs.get("standard_name") in signs.standard_names
        or any(unit in str(attrs.get("units", "")) for unit in signs.units)
        or name.lower() in signs.names
    )
