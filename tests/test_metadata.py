"""Axis recognition, and metadata that come back bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from field_helpers import assert_same, assert_same_attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from caesar_freq.data import metadata
from caesar_freq.data.field import Coordinate, Field
from caesar_freq.data.layout import axis_order, to_sections
from caesar_freq.errors import CorruptStreamError, InputError


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.permutations(["time", "depth", "lat", "lon"]))
@settings(max_examples=24, deadline=None)
def test_any_axis_order_survives_pack_and_unpack(dims):
    sizes = {"time": 2, "depth": 3, "lat": 4, "lon": 5}
    values = _rng().normal(size=[sizes[dim] for dim in dims])
    field = Field("u", values, tuple(dims))
    array, described = metadata.pack([field, Field("v", -values, tuple(dims))])
    assert array.shape[0] == 2 and array.shape[2] == 2  # variables, time
    left, right = metadata.unpack(array, described)
    assert_same(left, field)
    np.testing.assert_array_equal(right.values, -values)


def test_roles_override_recognition_and_are_checked():
    field = Field("u", np.zeros((2, 3, 4)), ("a", "b", "c"))
    assert to_sections(field).shape == (2, 1, 3, 4)
    assert to_sections(field, {"time": "c"}).shape == (1, 4, 2, 3)
    assert to_sections(field, {"time": "b", "height": "a"}).shape == (1, 3, 2, 4)
    assert axis_order(field, {"section": "b", "width": "a"}) == ([1], [], [2], [0])
    for roles, says in [
        ({"time": "d"}, "a, b, c"),
        ({"tim": "a"}, "section, time"),
        ({"time": "a", "width": "a"}, "share"),
    ]:
        with pytest.raises(InputError, match=says):
            to_sections(field, roles)


def test_time_is_recognised_by_its_units():
    coords = {"n": Coordinate(("n",), np.arange(4.0), {"units": "hours since 1970-01-01"})}
    field = Field("u", np.zeros((2, 3, 4)), ("a", "b", "n"), coords=coords)
    assert to_sections(field).shape == (1, 4, 2, 3)


def test_plain_arrays_need_no_metadata_and_keep_their_shape():
    values = np.ones((3, 4), "f4")
    array, described = metadata.pack([Field("data", values)])
    assert described == b"" and array.shape == (3, 4)
    array, described = metadata.pack([Field("wind", values)])
    assert array.shape == (3, 4) and metadata.unpack(array, described)[0].name == "wind"


def test_fields_that_do_not_fit_together_are_refused():
    plain = Field("a", np.ones((3, 4), "f4"))
    with pytest.raises(InputError, match="one by one"):
        metadata.pack([plain, Field("b", np.ones((3, 5), "f4"))])
    with pytest.raises(InputError, match="one by one"):
        metadata.pack([plain, Field("b", np.ones((3, 4)))])
    with pytest.raises(InputError, match="twice"):
        metadata.pack([plain, plain])


@given(
    dtype=st.sampled_from(["f4", "f8", "i1", "i4", "i8", "u2", "S3"]),
    shape=st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 2)]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_coordinates_of_any_type_come_back_bit_for_bit(dtype, shape, seed):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    values = np.frombuffer(_rng(seed).bytes(size), dtype).reshape(shape)
    dims = tuple("abc"[: len(shape)])
    coord = Coordinate(dims, values, {"n": np.float64(0.1), "v": np.arange(2, dtype="i2")})
    field = Field("u", np.zeros((2, 2)), ("y", "x"), {"text": "ß"}, {"c": coord})
    (back,) = metadata.unpack(*metadata.pack([field]))
    assert back.coords["c"].values.tobytes() == values.tobytes()
    assert back.coords["c"].values.shape == shape and back.coords["c"].values.dtype == dtype
    assert_same_attrs(back.coords["c"].attrs, coord.attrs)


def test_smooth_coordinates_take_few_bytes():
    lon, lat = np.meshgrid(np.linspace(5, 9, 192, dtype="f4"), np.linspace(60, 62, 128, dtype="f4"))
    coords = {"lon": Coordinate(("y", "x"), lon), "lat": Coordinate(("y", "x"), lat)}
    field = Field("u", np.zeros((128, 192), "f4"), ("y", "x"), coords=coords)
    assert len(metadata.pack([field])[1]) < (lon.nbytes + lat.nbytes) / 40


def test_damaged_metadata_are_reported():
    coords = {"x": Coordinate(("x",), _rng().normal(size=9))}
    field = Field("u", np.ones((3, 9)), ("y", "x"), {"units": "m"}, coords)
    array, described = metadata.pack([field])
    for damaged in (described[:3], described[:-9], b"\0" * 20, described[:5] + b"x" * 60):
        with pytest.raises(CorruptStreamError, match="metadata"):
            metadata.unpack(array, damaged)
    with pytest.raises(CorruptStreamError, match="metadata"):
        metadata.unpack(array[..., :-1], described)
