"""Zarr stores as inputs: what is read, when, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray
import zarr

from caesar_freq.cli import main
from caesar_freq.data.files import opened
from caesar_freq.data.metadata import pack_lazily, templates
from caesar_freq.errors import InputError


def dataset() -> xarray.Dataset:
    t, y, x = np.ogrid[0:6, 0:5, 0:7]
    wind = (t + 0.1 * y - 0.01 * x).astype(np.float32)
    wind[2, 1:3, 2] = np.nan
    coords = {"time": ("time", np.arange(6.0), {"units": "days since 2000-01-01"}),
              "lat": ("lat", np.linspace(-10, 10, 5)), "lon": ("lon", np.linspace(0, 30, 7))}  # fmt: skip
    attrs = {"units": "m s-1", "valid": [0.0, 9.0]}
    return xarray.Dataset({"wind": (("time", "lat", "lon"), wind, attrs)}, coords, {"title": "t"})


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_of_xarray_is_read_with_its_coordinates(tmp_path, version):
    path = tmp_path / "wind.zarr"
    dataset().to_zarr(path, zarr_format=version, consolidated=False)
    with opened(path) as (field,):
        assert (field.name, field.dims) == ("wind", ("time", "lat", "lon"))
        assert field.values.dtype == np.float32
        np.testing.assert_array_equal(field.values[...], dataset()["wind"].values)
        assert field.attrs["units"] == "m s-1"
        source, metadata = pack_lazily([field])
        (template,) = templates(source.shape, metadata)
    assert source.shape == (1, 1, 6, 5, 7)
    np.testing.assert_array_equal(template.coords["lon"].values, np.linspace(0, 30, 7))
    assert template.file_attrs["title"] == "t"


@pytest.mark.parametrize("version", [2, 3])
def test_packed_integers_and_fill_values_become_floats(tmp_path, version):
    path = tmp_path / "packed.zarr"
    encoding = {"wind": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -999}}
    dataset().to_zarr(path, zarr_format=version, encoding=encoding, consolidated=False)
    with opened(path, ["wind"]) as (field,):
        values = field.values[...]
    np.testing.assert_array_equal(np.isnan(values), np.isnan(dataset()["wind"].values))
    np.testing.assert_allclose(values, dataset()["wind"].values, atol=0.0051)


def test_only_the_chunks_that_are_asked_for_are_read(tmp_path):
    path = tmp_path / "bare.zarr"
    array = zarr.create_array(path, shape=(8, 6, 4), chunks=(2, 6, 4), dtype="f4", compressors=None)
    array[...] = np.arange(192, dtype="f4").reshape(8, 6, 4)
    (path / "c" / "3" / "0" / "0").write_bytes(b"damaged")
    with opened(path) as (field,):
        assert (field.name, field.dims) == ("data", ())
        part = field.values[2:5, 1:2, :]
        np.testing.assert_array_equal(part, np.arange(192).reshape(8, 6, 4)[2:5, 1:2])
        with pytest.raises(InputError, match="a part of it cannot be read"):
            field.values[6:8, :, :]


def test_the_commands_take_a_store(tmp_path):
    dataset().to_zarr(tmp_path / "wind.zarr", consolidated=False)
    target, restored = tmp_path / "wind.cfq", tmp_path / "back.nc"
    for arguments in (["compress", "wind.zarr", "wind.cfq"], ["verify", "wind.zarr", "wind.cfq"],
                      ["decompress", "wind.cfq", "back.nc"]):  # fmt: skip
        command = [arguments[0], *(str(tmp_path / name) for name in arguments[1:])]
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    assert target.stat().st_size
    with xarray.open_dataset(restored, decode_times=False) as after:
        error = np.abs(after["wind"].values - dataset()["wind"].values)
        assert np.nanmax(error) <= 1e-3 * 6
        np.testing.assert_array_equal(after["lon"].values, np.linspace(0, 30, 7))


def test_arrays_in_groups_come_back_in_their_groups(tmp_path):
    inner = dataset().rename(wind="gust").drop_vars("lon")
    tree = xarray.DataTree.from_dict({"/": dataset(), "/inner": inner})
    tree.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    names = ["wind", "inner/gust"]
    options = [word for name in names for word in ("--var", name)]
    for arguments in (
        ["compress", "tree.zarr", "t.cfq", *options],
        ["decompress", "t.cfq", "b.nc"],
    ):
        command = [str(tmp_path / a) if "." in a else a for a in arguments]
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    with opened(tmp_path / "tree.zarr", names) as fields, opened(tmp_path / "b.nc", names) as after:
        for one, other in zip(fields, after):
            assert one.coords.keys() == other.coords.keys() and "lon" in one.coords
            assert np.nanmax(np.abs(one.values[...] - other.values[...])) <= 1e-3 * 6


def refusals(folder):
    zarr.save_group(folder / "damaged.zarr", u=np.ones(3, "f4"))
    for path in (folder / "damaged.zarr" / "u").glob("*.json"):
        path.write_text("{")
    group = zarr.open_group(folder / "group.zarr", mode="w")
    for name in ("u", "v"):
        group.create_array(name, shape=(4, 5), dtype="f4")
    group.create_array("mask", shape=(4, 5), dtype="i1")
    zarr.open_group(folder / "empty.zarr", mode="w")
    (folder / "file.zarr").write_bytes(b"no store")
    return [
        ("group.zarr", None, "several float variables (u, v); name the one(s) to use"),
        ("group.zarr", ["w"], "has no variable 'w'; its variables are: mask, u, v"),
        ("group.zarr", ["mask"], "holds int8 numbers, but only float32 and float64"),
        ("empty.zarr", None, "has no float variable; its variables are: (none)"),
        ("file.zarr", None, "is no Zarr store"),
        ("damaged.zarr", None, "is no Zarr store (Expecting property name"),
        ("none.zarr", None, "is no Zarr store"),
    ]


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    for name, variables, sentence in refusals(tmp_path):
        with pytest.raises(InputError, match=re.escape(sentence)) as found:
            with opened(tmp_path / name, variables):
                pass
        assert name in str(found.value)
        assert "\n" not in str(found.value)
