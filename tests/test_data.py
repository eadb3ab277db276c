"""Reading and writing files."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import xarray as xr
from field_helpers import assert_same

from caesar_freq import cli
from caesar_freq.data import files, metadata
from caesar_freq.data.field import Field
from caesar_freq.data.lazy import unreadable
from caesar_freq.errors import InputError


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def main_ok(*arguments) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    assert stop.value.code == 0


def _dataset() -> xr.Dataset:
    """A data set with the usual trouble: odd axis order, text, scalars, 2-D longitude, bounds."""
    values = _rng().normal(280, 9, (4, 3, 5, 2)).astype("f4")
    values[1, 0] = np.nan
    return xr.Dataset(
        {
            "t2m": (("lat", "time", "lon", "member"), values, {"units": "K", "levels": [1.5, 2.5]}),
            "time_bnds": (("time", "nv"), np.arange(6.0).reshape(3, 2)),
        },
        coords={
            "time": ("time", [0.5, 1.5, 9.0], {"units": "days since 2000-01-01",
                                               "calendar": "360_day", "bounds": "time_bnds"}),
            "lat": ("lat", np.linspace(-1, 1, 4).astype("f4"), {"units": "degrees_north"}),
            "lon2": (("lat", "lon"), np.linspace(0, 7, 20).reshape(4, 5)),
            "member": ("member", ["control", "größer"]),
            "height": ((), 2.0),
        },
        attrs={"Conventions": "CF-1.8", "run": np.int32(7)},
    )  # fmt: skip


@pytest.fixture
def netcdf(tmp_path):
    path = tmp_path / "in.nc"
    _dataset().to_netcdf(path, encoding={"t2m": {"_FillValue": np.float32(1e20)}})
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".nc"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1,), (3, 4), (2, 3, 4), (2, 1, 3, 4), (1, 2, 3, 4, 5)])
def test_what_is_written_is_read(tmp_path, suffix, dtype, shape):
    values = _rng().normal(size=shape).astype(dtype)
    values.flat[0] = np.nan
    path = tmp_path / f"x{suffix}"
    files.write(path, [Field("data", values)])
    (field,) = files.read(path)
    np.testing.assert_array_equal(field.values, values, strict=True)


def test_netcdf_keeps_everything_through_pack_and_file(netcdf, tmp_path):
    (field,) = files.read(netcdf)
    assert field.name == "t2m" and np.isnan(field.values[1, 0]).all()
    assert set(field.coords) == {"time", "time_bnds", "lat", "lon2", "member", "height"}
    array, described = metadata.pack([field])
    assert array.shape == (1, 2, 3, 4, 5)  # variable, member, time, lat, lon
    (unpacked,) = metadata.unpack(array.copy(), described)
    assert_same(field, unpacked)
    files.write(tmp_path / "out.nc", [unpacked])
    (again,) = files.read(tmp_path / "out.nc")
    assert_same(field, again)


def test_written_netcdf_means_the_same_to_xarray(netcdf, tmp_path):
    files.write(tmp_path / "out.nc", files.read(netcdf))
    with xr.open_dataset(netcdf) as before, xr.open_dataset(tmp_path / "out.nc") as after:
        xr.testing.assert_identical(before.load(), after.load())


def test_packed_integers_become_floats_that_resolve_the_quantum(tmp_path):
    codes = _rng().integers(-32000, 32000, (3, 4, 5)).astype("i2")
    codes[0, 0, 0] = -32767
    fine = {"scale_factor": 1e-3, "add_offset": 1.0, "_FillValue": np.int16(-32767)}
    far = {"scale_factor": 1e-3, "add_offset": 1e6}
    xr.Dataset({"fine": (("t", "y", "x"), codes, fine), "far": (("t", "y", "x"), codes, far)}
               ).to_netcdf(tmp_path / "p.nc")  # fmt: skip
    near, distant = files.read(tmp_path / "p.nc", ["fine", "far"])
    assert near.values.dtype == np.float32 and distant.values.dtype == np.float64
    assert np.isnan(near.values[0, 0, 0]) and np.isnan(near.values).sum() == 1
    np.testing.assert_allclose(near.values.flat[1:], codes.ravel()[1:] * 1e-3 + 1, atol=1e-5)
    assert np.array_equal(np.rint((distant.values - 1e6) / 1e-3), codes)
    assert not {"scale_factor", "add_offset"} & set(near.attrs)
    # else CDO and NCO would take NaN for a number
    assert np.isnan(near.attrs["_FillValue"]) and near.attrs["_FillValue"].dtype == np.float32
    assert "_FillValue" not in distant.attrs


def test_big_endian_and_half_precision_are_read_as_native_floats(tmp_path):
    values = _rng().normal(size=(3, 4))
    np.savez(tmp_path / "b.npz", data=values.astype(">f8"), half=values.astype("f2"))
    (field,) = files.read(tmp_path / "b.npz")
    np.testing.assert_array_equal(field.values, values, strict=True)
    (half,) = files.read(tmp_path / "b.npz", ["half"])
    assert half.values.dtype == np.float32 and np.array_equal(half.values, values.astype("f2"))


def test_a_number_equal_to_the_fill_value_is_not_taken_for_a_hole(tmp_path):
    values = np.array([[0.0, 1.0], [np.nan, 3.0]], "f4")
    field = Field("rain", values, ("y", "x"), {"_FillValue": np.float32(0)})
    files.write(tmp_path / "r.nc", [field])
    (back,) = files.read(tmp_path / "r.nc")
    np.testing.assert_array_equal(back.values, values)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8"])
@pytest.mark.parametrize("first", [1e20, np.nan])
def test_every_kind_of_missing_comes_back_as_it_was(tmp_path, dtype, first):
    dtype = np.dtype(dtype)
    x = np.arange(8, dtype=dtype)
    x[:6] = first, -99, -88, np.nan, -np.nan, np.inf
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("x", 8)
        endian = "big" if dtype.str[0] == ">" else "native"
        variable = file.createVariable("u", dtype, ("x",), fill_value=first, endian=endian)
        variable.missing_value = np.array([-99, -88], dtype)
        variable.set_auto_maskandscale(False)
        variable[:] = x
    for name in ("out.nc", "o.cfq", "parts.nc"):
        if name == "out.nc":
            files.write(tmp_path / name, files.read(tmp_path / "x.nc"))
        elif name == "o.cfq":
            main_ok("compress", tmp_path / "x.nc", tmp_path / name)
            continue
        else:
            main_ok("decompress", tmp_path / "o.cfq", tmp_path / name)
        with netCDF4.Dataset(tmp_path / name) as file:
            file.set_auto_maskandscale(False)
            after = file["u"][:6]
            assert after.tobytes() == x[:6].astype(after.dtype).tobytes()
            assert np.isnan(file["u"]._FillValue) == np.isnan(first)
            assert file["u"].missing_value.tolist() == [-99, -88]
    (field,) = files.read(tmp_path / "x.nc")
    assert np.isnan(field.values[:5]).all() and not np.isnan(field.values[5:]).any()


@pytest.mark.parametrize("shape, chunks", [((6, 4, 5), [6, 4, 5]), ((3000, 20, 20), [655, 20, 20])])
def test_what_may_grow_may_grow_again(tmp_path, shape, chunks):
    """`ncrcat` joins files along dimensions without limit only."""
    x = np.zeros(shape, "f4")
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in zip(("time", "y", "x"), (None, *shape[1:])):
            file.createDimension(name, size)
        file.createVariable("time", "f8", ("time",))[:] = np.arange(shape[0])
        for name in ("u", "v"):
            file.createVariable(name, "f4", ("time", "y", "x"))[:] = x
    names = ["--var", "u", "--var", "v"]
    main_ok("compress", tmp_path / "x.nc", tmp_path / "o.cfq", *names, "--mode", "lossless")
    main_ok("decompress", tmp_path / "o.cfq", tmp_path / "parts.nc")
    files.write(tmp_path / "out.nc", files.read(tmp_path / "x.nc", ["u", "v"]))
    for name in ("out.nc", "parts.nc"):
        with netCDF4.Dataset(tmp_path / name) as file:
            assert [file.dimensions[d].isunlimited() for d in ("time", "y", "x")] == [
                True,
                False,
                False,
            ]
            assert file["u"].shape == file["v"].shape == shape and file["time"].shape == shape[:1]
            assert file["u"].chunking() == chunks
            assert np.array_equal(file["time"][:], np.arange(shape[0])) and not file["v"][:].any()


def test_two_variables_may_grow_without_a_coordinate(tmp_path):
    x = np.arange(6, dtype="f4").reshape(2, 3)
    fields = [Field(name, x, ("t", "x"), unlimited=("t",)) for name in "uv"]
    files.write(tmp_path / "o.nc", fields)
    for field in files.read(tmp_path / "o.nc", ["u", "v"]):
        np.testing.assert_array_equal(field.values, x)
        assert field.unlimited == ("t",)


def test_variables_of_other_types_are_left_out(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("x", 2)
        lengths = file.createVLType(np.int32, "lengths")
        file.createVariable("ragged", lengths, ("x",))[0] = np.arange(3, dtype="i4")
        variable = file.createVariable("u", "f4", ("x",))
        variable[:], variable.coordinates = 1, "ragged"
    (field,) = files.read(tmp_path / "x.nc")
    assert field.coords == {} and field.values.tolist() == [1, 1]


def test_a_coordinate_that_cannot_be_read_is_one_sentence(tmp_path):
    path = tmp_path / "x.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 64)
        options = {"zlib": True, "fletcher32": True, "contiguous": False}
        file.createVariable("x", "f8", ("x",), **options)[:] = np.arange(64) ** 1.5
        file.createVariable("u", "f4", ("x",))[:] = 1
    data = bytearray(path.read_bytes())
    place = data.index(b"\x78\x5e")  # what zlib begins with at level 4
    data[place + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="x.nc is damaged: a part of it cannot be read"):
        files.read(path)


def test_a_filter_that_is_not_installed_is_no_damage():
    error = RuntimeError("NetCDF: Filter error: undefined filter encountered")
    assert "not installed here" in str(unreadable("x.nc", error))
    assert "damaged" not in str(unreadable("x.nc", error))


@pytest.mark.parametrize("factor", ["a tenth", np.array([0.1, 0.2]), np.array([], "f8")])
def test_a_scale_factor_that_is_no_number_is_named(tmp_path, factor):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        file.createDimension("x", 2)
        file.createVariable("u", "i2", ("x",))[:] = 1
        file["u"].setncattr("scale_factor", factor)
    with pytest.raises(InputError, match="variable 'u' in .*x.nc has the scale_factor .*mend"):
        files.read(tmp_path / "x.nc")


def test_odd_fill_values_of_packed_data(tmp_path):
    codes = np.array([-1, 0, 5, -2], "i1")
    with netCDF4.Dataset(tmp_path / "u.nc", "w") as file:
        file.createDimension("x", 4)
        variable = file.createVariable("u", "i1", ("x",), fill_value=np.int8(-1))
        variable.set_auto_maskandscale(False)
        variable.setncatts({"scale_factor": np.float32(0.5), "_Unsigned": "true",
                            "missing_value": "none"})  # fmt: skip
        variable[:] = codes
    (field,) = files.read(tmp_path / "u.nc")
    np.testing.assert_array_equal(field.values, np.array([np.nan, 0, 2.5, 127], "f4"), strict=True)


def test_any_name_fits_an_npz_and_a_coordinate_may_be_a_field(netcdf, tmp_path):
    fields = [Field(name, np.ones(3, "f4")) for name in ("file", "allow_pickle")]
    files.write(tmp_path / "n.npz", fields)
    assert [f.name for f in files.read(tmp_path / "n.npz", ["file", "allow_pickle"])] == [
        "file",
        "allow_pickle",
    ]
    both = files.read(netcdf, ["t2m", "lon2"])
    files.write(tmp_path / "both.nc", both)
    for before, after in zip(both, files.read(tmp_path / "both.nc", ["t2m", "lon2"]), strict=True):
        assert_same(before, after)


def _bad_files(folder):
    np.savez(folder / "keys.npz", temperature=np.ones((2, 3), "f4"), mask=np.ones(3, "f4"))
    np.savez(folder / "integers.npz", data=np.arange(6).reshape(2, 3))
    np.savez(folder / "bool.npz", data=np.ones((2, 3), bool))
    np.savez(folder / "six.npz", data=np.ones((1,) * 6, "f4"))
    np.savez(folder / "scalar.npz", data=np.float32(1))
    np.savez(folder / "empty.npz", data=np.ones((0, 3), "f4"))
    np.savez(folder / "complex.npz", data=np.ones(3, "c8"))
    np.savez(folder / "objects.npz", data=np.array([{}, None], object))
    np.save(folder / "objects.npy", np.array([{}, None], object))
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "named.npy", np.ones(3, "f4"))
    for name in ("garbage.npz", "garbage.npy", "garbage.nc", "garbage.tif"):
        (folder / name).write_bytes(b"not an array at all")
    (folder / "nothing.npz").write_bytes(b"")
    (folder / "links.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    np.savez(folder / "whole.npz", data=np.ones(99, "f4"))
    (folder / "cut.npz").write_bytes((folder / "whole.npz").read_bytes()[:200])
    several = {name: (("y", "x"), np.ones((2, 3), "f4")) for name in ("u", "v")}
    several["n"] = (("y", "x"), np.ones((2, 3), "i4"))
    xr.Dataset(several).to_netcdf(folder / "several.nc")
    xr.Dataset({"n": several["n"]}).to_netcdf(folder / "integers.nc")


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("absent.npz", None, "does not exist"),
        ("keys.npz", None, "temperature, mask"),
        ("keys.npz", ["nope"], "'nope'"),
        ("integers.npz", None, "int64.*float32"),
        ("bool.npz", None, "bool"),
        ("six.npz", None, "6 dimensions"),
        ("scalar.npz", None, "0 dimensions"),
        ("empty.npz", None, "empty"),
        ("complex.npz", None, "complex64"),
        ("objects.npz", None, "Python objects"),
        ("objects.npy", None, "Python objects"),
        ("text.npy", None, "dtype"),
        ("named.npy", ["u"], "one unnamed array"),
        ("garbage.npz", None, "damaged"),
        ("garbage.npy", None, "damaged"),
        ("garbage.nc", None, "damaged"),
        ("garbage.tif", None, ".npy, .npz, .nc"),
        ("field.h5", None, "name ends in .nc; rename it, or make a link"),
        ("field.grb2", None, "cdo -f nc4 copy"),
        ("links.nc", None, "HDF5 file that the NetCDF library does not open.*links"),
        ("nothing.npz", None, "damaged"),
        ("cut.npz", None, "damaged"),
        ("several.nc", None, "u, v"),
        ("several.nc", ["w"], "'w'.*u, v, n"),
        ("several.nc", ["n"], "int32.*scale_factor"),
        ("integers.nc", None, "no float variable"),
    ],
)
def test_bad_input_is_one_sentence_that_names_it(tmp_path, name, keys, says):
    _bad_files(tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        files.read(tmp_path / name, keys)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["npy", "npz", "nc"])
def test_a_link_is_followed(tmp_path, suffix):
    """Results are often links to a larger disk."""
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / f"x.{suffix}", tmp_path / "disk" / f"there.{suffix}"
    link.symlink_to(target)
    for n in (1, 2):  # dangling at first
        files.write(link, [Field("data", np.full(3, n, "f4"))])
        assert link.is_symlink() and not target.is_symlink()
        assert files.read(target)[0].values.tolist() == [n] * 3
    assert [path.name for path in (tmp_path / "disk").iterdir()] == [target.name]


def test_a_failed_write_leaves_nothing(tmp_path):
    fields = [Field("a", np.ones((2, 3), "f4"), ("y", "x")), Field("b", np.ones(3, "f4"), ("y",))]
    with pytest.raises(InputError, match="'b' has 3 points along 'y'"):
        files.write(tmp_path / "x.nc", fields)
    with pytest.raises(InputError, match="can hold one array"):
        files.write(tmp_path / "x.npy", fields)
    with pytest.raises(InputError, match="cannot write"):
        files.write(tmp_path / "no" / "x.npz", fields)
    assert not list(tmp_path.iterdir())
