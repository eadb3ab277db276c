"""`caesar-freq decompress` of a part: values, coordinates and attributes cut alike."""

import numpy as np
import pytest
import xarray as xr
from test_cli import dataset, field, run, succeed

__all__ = ["run"]


@pytest.fixture
def whole(run):
    """A folder with two variables in x.cfq and the whole of it in whole.nc."""
    ds = dataset()
    ds["lon2d"] = (("lat", "lon"), np.add.outer(np.arange(20.0), np.arange(24.0)))
    ds["time_bounds"] = (("time", "side"), np.arange(24.0).reshape(12, 2))
    ds["time"].attrs["bounds"] = "time_bounds"
    ds["t2m"].attrs["coordinates"] = "lon2d"
    ds.to_netcdf("in.nc")
    succeed(run("compress", "in.nc", "x.cfq", "--var", "t2m", "--var", "wind"))
    succeed(run("decompress", "x.cfq", "whole.nc"))
    with xr.open_dataset("whole.nc", decode_coords="all") as ds:
        yield ds


def test_netcdf_part_is_what_xarray_would_cut(run, whole):
    succeed(run("decompress", "x.cfq", "part.nc", "--frames", "3:-2", "--rows", "-4:",
                "--columns", ":10", "--var", "wind", "--var", "t2m"))  # fmt: skip
    expected = whole.isel(time=slice(3, -2), lat=slice(-4, None), lon=slice(10))
    with xr.open_dataset("part.nc", decode_coords="all") as part:
        xr.testing.assert_identical(part, expected)
    out = succeed(run("decompress", "x.cfq", "one.nc", "--frames", "-1", "--var", "wind"))
    assert "wind, float32 (1, 20, 24)" in out
    with xr.open_dataset("one.nc") as part:
        np.testing.assert_array_equal(part["wind"], whole["wind"][11:])
        np.testing.assert_array_equal(part["time"], whole["time"][11:])
        assert "t2m" not in part


def test_dimensions_in_another_order(run):
    values = field((24, 12, 3, 20))
    dims = ("lon", "time", "level", "lat")
    xr.Dataset({"v": (dims, values)}, {"lat": np.arange(20.0)}).to_netcdf("in.nc")
    succeed(run("compress", "in.nc", "x.cfq"))
    succeed(run("decompress", "x.cfq", "whole.nc"))
    succeed(run("decompress", "x.cfq", "part.nc", "--frames", "2:5", "--rows", "7:9"))
    with xr.open_dataset("whole.nc") as whole, xr.open_dataset("part.nc") as part:
        assert np.abs(whole["v"].values - values).max() <= 1e-3 * np.ptp(values)
        xr.testing.assert_identical(part, whole.isel(time=slice(2, 5), lat=slice(7, 9)))


def test_npz_and_npy_parts(run, whole):
    succeed(run("decompress", "x.cfq", "part.npz", "--frames", "4", "--rows", "2:3"))
    with np.load("part.npz") as part:
        assert part.files == ["t2m", "wind"]
        np.testing.assert_array_equal(part["wind"], whole["wind"][4:5, 2:3])
    succeed(run("decompress", "x.cfq", "part.npy", "--var", "t2m", "--columns", "20:"))
    np.testing.assert_array_equal(np.load("part.npy"), whole["t2m"][..., 20:])


def test_variables_without_names_have_numbers(run):
    np.savez("x.npz", data=field((3, 2, 6, 16, 18)))
    succeed(run("compress", "x.npz", "x.cfq"))
    succeed(run("decompress", "x.cfq", "whole.npz"))
    for names, chosen in [("data", slice(None)), ("2", slice(2, 3))]:
        succeed(run("decompress", "x.cfq", "part.npz", "--var", names, "--frames", ":2"))
        np.testing.assert_array_equal(
            np.load("part.npz")["data"], np.load("whole.npz")["data"][chosen, :, :2]
        )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--frames", "0:13"],
            "x.cfq: frames 0:13 reaches beyond the array: 13 is not within 0:12",
        ),
        (["--rows", "5:5"], "x.cfq: rows 5:5 is empty"),
        (["--columns", "a:b"], "--columns a:b is not a range; give start:stop"),
        (["--columns", "1:2:3"], "--columns 1:2:3 is not a range"),
        (["--var", "t3m"], "x.cfq: there is no variable 't3m'; there are: t2m, wind"),
        (["--var", "wind", "--var", "wind"], "named twice"),
    ],
)
def test_bad_parts_are_named_and_leave_nothing(run, whole, tmp_path, options, message):
    code, _, err = run("decompress", "x.cfq", "part.nc", *options)
    assert code == 2 and message in err and not list(tmp_path.glob("*part*"))


def test_a_damaged_chunk_leaves_no_file(run, tmp_path):
    np.save("x.npy", field())
    succeed(run("compress", "x.npy", "x.cfq"))
    data = bytearray((tmp_path / "x.cfq").read_bytes())
    data[-5] ^= 1
    (tmp_path / "x.cfq").write_bytes(data)
    for target in ("y.npy", "y.npz", "y.nc"):
        code, _, err = run("decompress", "x.cfq", target)
        assert code == 2 and "x.cfq: chunk 0 " in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.cfq", "x.npy"]


def test_a_value_that_equals_the_fill_value_is_no_hole(run):
    """Found only when that part is decoded: the file is begun again with NaN as fill value."""
    x = field()
    x[:, :4] = np.nan
    encoding = {"_FillValue": np.float32(7)}
    xr.Dataset({"v": (("t", "y", "x"), x, {}, encoding)}).to_netcdf("in.nc")
    succeed(run("compress", "in.nc", "x.cfq", "--mode", "lossless"))
    succeed(run("decompress", "x.cfq", "same.nc"))
    with xr.open_dataset("same.nc") as same:
        assert same["v"].encoding["_FillValue"] == 7
        np.testing.assert_array_equal(same["v"], x)
    # a stream whose values hold the number that its metadata name as fill value
    import caesar_freq
    from caesar_freq.data.files import read
    from caesar_freq.data.metadata import pack

    array, metadata = pack(read("in.nc"))
    array[0, 0, 3, 9, 9] = 7
    with open("x.cfq", "wb") as file:
        file.write(caesar_freq.encode(array, "lossless", 0, metadata=metadata))
    succeed(run("decompress", "x.cfq", "taken.nc"))
    with xr.open_dataset("taken.nc") as taken:
        assert np.isnan(taken["v"].encoding["_FillValue"])
        np.testing.assert_array_equal(taken["v"], array[0, 0])
