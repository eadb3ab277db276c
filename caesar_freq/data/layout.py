"""From the fields of a file to the codec's array [V, S, T, H, W], and back.

NetCDF variables come with named dimensions in any order; the codec wants variable, section, time,
height, width. Time is recognised by the CF conventions, the last two remaining dimensions are
height and width, and whatever else there is (levels, members) is flattened into sections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from caesar_freq.data.field import Field
from caesar_freq.errors import InputError

ROLES = ("section", "time", "height", "width")
# Names of time dimensions without CF attributes, lower case.
_TIME_NAMES = ("time", "t", "valid_time", "ocean_time", "frame")


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
    if "time" not in axes:
        found = [axis for axis in left if _is_time(field, axis)] if field.values.ndim > 1 else []
        if not field.dims and field.values.ndim > 2 and len(left) > 2:
            found = left[-3:-2]
        axes["time"] = found[:1]
        left = [axis for axis in left if axis not in axes["time"]]
    for role in ("width", "height"):
        if role not in axes:
            axes[role] = [left.pop()] if left else []
        left = [axis for axis in left if axis not in axes[role]]
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
    first = arrays[0]
    for array, name in zip(arrays, names, strict=True):
        if array.shape != first.shape or array.dtype != first.dtype:
            raise InputError(
                f"{name!r} is {array.dtype} {array.shape} (section, time, height, width) but "
                f"{names[0]!r} is {first.dtype} {first.shape}; variables taken together must "
                "agree, so take them one by one"
            )
    return np.stack(arrays)


def _axis_of(field: Field, role: str, name: str) -> int:
    if role not in ROLES:
        raise InputError(f"{role!r} is not a dimension role; roles are {', '.join(ROLES)}")
    if name not in field.dims:
        raise InputError(
            f"{field.name!r} has no dimension {name!r} to use as {role}; its dimensions are: "
            f"{', '.join(field.dims) or '(unnamed)'}"
        )
    return field.dims.index(name)


def _is_time(field: Field, axis: int) -> bool:
    """CF conventions, section 4.4: a time axis says so by axis, standard name or 'since' units."""
    if not field.dims:
        return False
    name = field.dims[axis]
    attrs = field.coords[name].attrs if name in field.coords else {}
    return (
        attrs.get("axis") == "T"
        or attrs.get("standard_name") == "time"
        or " since " in str(attrs.get("units", ""))
        or name.lower() in _TIME_NAMES
    )
