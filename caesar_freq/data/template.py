"""A field without its values: what a file needs before the first value is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from caesar_freq.data.arrangement import Arrangement
from caesar_freq.data.field import Coordinate, Field


@dataclass(frozen=True)
class Template:
    """Name, dimensions, coordinates and attributes as in `Field`, and where its values go.

    Attributes
    ----------
    variables : range
        Variables of the codec's array [V, S, T, H, W] that are this field: one, or all of them if
        the array has no names.
    arrangement : Arrangement
        Its axes, in that array's order.
    """

    name: str
    variables: range
    arrangement: Arrangement
    dims: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    coords: Mapping[str, Coordinate] = field(default_factory=dict)
    file_attrs: Mapping[str, Any] = field(default_factory=dict)
    unlimited: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the field."""
        return self.arrangement.shape

    def cut(self, frames: slice, rows: slice, columns: slice) -> Template:
        """The template of a part of the field, its coordinates cut alike."""
        parts = [slice(None)] * len(self.shape)
        for axes, part in zip(self.arrangement.roles[2:], (frames, rows, columns)):
            for axis in axes:
                parts[axis] = part
        shape = tuple(len(range(n)[part]) for n, part in zip(self.shape, parts))
        by_name = dict(zip(self.dims, parts))
        coords = {
            name: replace(
                coord,
                values=coord.values[tuple(by_name.get(dim, slice(None)) for dim in coord.dims)],
            )
            for name, coord in self.coords.items()
        }
        return replace(self, coords=coords, arrangement=replace(self.arrangement, shape=shape))

    def numbered(self, first: int, count: int) -> Template:
        """The template for `count` variables from `first` on."""
        shape = list(self.shape)
        for axis in self.arrangement.roles[0]:
            shape[axis] = count
        return replace(
            self,
            variables=range(first, first + count),
            arrangement=replace(self.arrangement, shape=tuple(shape)),
        )

    def filled(self, values: np.ndarray) -> Field:
        """The field with `values`, of the template's shape."""
        return Field(
            self.name, values, self.dims, self.attrs, self.coords, self.file_attrs, self.unlimited
        )
