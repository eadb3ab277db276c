"""Variables in groups of a NetCDF file, as satellite products have them."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import xarray as xr

from caesar_freq.cli import main
from caesar_freq.data.files import read


def _rain(shape) -> np.ndarray:
    t, y, x = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    return np.sin(2 * x + t) * np.cos(y - t)


@pytest.fixture
def product(tmp_path):
    """A product with its grid in a group, a coordinate above it and a dimension that hides one."""
    path = tmp_path / "rain.nc"
    with netCDF4.Dataset(path, "w") as out:
        out.title = "half-hourly"
        out.createDimension("time", 12)
        out.createVariable("time", "i4", ("time",))[:] = np.arange(12)
        out["time"].units = "hours since 2000-01-01"
        out.createDimension("lat", 3)
        out.createVariable("lat", "f4", ("lat",))[:] = -1
        grid = out.createGroup("Grid")
        for name, size in (("lon", 30), ("lat", 20)):
            grid.createDimension(name, size)
            axis = grid.createVariable(name, "f4", (name,))
            axis[:] = np.arange(size)
            axis.units = {"lon": "degrees_east", "lat": "degrees_north"}[name]
        rain = grid.createVariable("rain", "f4", ("time", "lon", "lat"), fill_value=-9999)
        rain.units = "mm/hr"
        rain[:] = _rain((12, 30, 20))
        rain[2, 3, 4] = np.ma.masked
        inner = grid.createGroup("Intermediate")
        inner.createVariable("index", "i2", ("lon", "lat"))[:] = 7
    return path


@pytest.mark.parametrize("choice", [[], ["--var", "Grid/rain"]])
def test_a_variable_in_a_group_comes_back_in_its_group(product, choice, capsys):
    packed, back = product.with_suffix(".cfq"), product.with_name("back.nc")
    with pytest.raises(SystemExit, match="0"):
        main(["compress", str(product), str(packed), *choice])
    with pytest.raises(SystemExit, match="0"):
        main(["verify", str(product), str(packed), *choice])
    with pytest.raises(SystemExit, match="0"):
        main(["decompress", str(packed), str(back)])
    with xr.open_dataset(product, group="Grid") as old, xr.open_dataset(back, group="Grid") as new:
        assert set(new.variables) == {"rain", "lon", "lat"}
        for name in ("lon", "lat"):
            xr.testing.assert_identical(old[name].variable, new[name].variable)
        assert new.rain.dims == old.rain.dims and new.rain.units == "mm/hr"
        assert np.isnan(new.rain[2, 3, 4]) and new.rain.isnull().sum() == 1
        assert float(abs(new.rain - old.rain).max()) <= 1e-3 * float(
            old.rain.max() - old.rain.min()
        )
    with netCDF4.Dataset(product) as old, netCDF4.Dataset(back) as new:
        assert new.title == "half-hourly"
        assert np.array_equal(new["time"][:], old["time"][:]) and new["time"].units


def test_axes_are_recognised_by_the_coordinates_of_the_group(product):
    (field,) = read(product, None)
    assert list(field.coords) == ["time", "Grid/lon", "Grid/lat"]
    assert field.coords["Grid/lat"].values.shape == (20,)


def test_a_part_keeps_the_coordinates_of_the_group(product):
    packed, back = product.with_suffix(".cfq"), product.with_name("part.nc")
    with pytest.raises(SystemExit, match="0"):
        main(["compress", str(product), str(packed)])
    with pytest.raises(SystemExit, match="0"):
        main(["decompress", str(packed), str(back), "--frames", "2:5", "--rows", "4:9"])
    with netCDF4.Dataset(back) as part:
        assert part["Grid/rain"].shape == (3, 30, 5)
        assert part["time"][:].tolist() == [2, 3, 4]
        assert part["Grid/lat"][:].tolist() == [4, 5, 6, 7, 8]
