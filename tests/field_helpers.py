"""Comparison and shapes of fields, shared by tests."""

from __future__ import annotations

import math

import numpy as np
from hypothesis.extra import numpy as hnp

from caesar_freq.data.field import Field


def assert_same(left: Field, right: Field) -> None:
    """Values, names, dimensions, coordinates and attributes agree bit for bit."""
    np.testing.assert_array_equal(left.values, right.values, strict=True)
    assert (left.name, left.dims) == (right.name, right.dims)
    assert_same_attrs(left.attrs, right.attrs)
    assert_same_attrs(left.file_attrs, right.file_attrs)
    assert left.coords.keys() == right.coords.keys()
    for name, coord in left.coords.items():
        other = right.coords[name]
        assert coord.dims == other.dims
        np.testing.assert_array_equal(coord.values, other.values)
        assert coord.values.dtype == other.values.dtype
        assert_same_attrs(coord.attrs, other.attrs)


def assert_same_attrs(left, right) -> None:
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(np.asarray(left[name]), np.asarray(right[name]), strict=True)


def shapes_up_to(n_values: int, max_side: int):
    """Strategy for shapes of 1 to 5 axes; without a limit, few huge arrays would take all the time."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=max_side)
    return shapes.filter(lambda shape: math.prod(shape) <= n_values)
