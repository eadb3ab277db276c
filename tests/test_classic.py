"""NetCDF classic files that are cut off."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from caesar_freq.data.classic import missing_bytes
from caesar_freq.data.files import read
from caesar_freq.errors import InputError

FORMATS = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA")


def _write(path, form, *, records, helpers):
    """A float field [5, 3, 7], as records or not, with attributes and further variables."""
    with netCDF4.Dataset(path, "w", format=form) as out:
        out.title = "odd length"
        out.createDimension("time", None if records else 5)
        out.createDimension("y", 3)
        out.createDimension("x", 7)
        if helpers:
            out.createVariable("flag", "i1", ("time", "y"))[:] = np.ones((5, 3))
            out.createVariable("y", "f8", ("y",))[:] = np.arange(3)
            out.createVariable("number", "i2", ())[...] = 3
        field = out.createVariable("wind", "f4", ("time", "y", "x"), fill_value=np.float32(9))
        field.units = "m s-1"
        field[:] = np.arange(105).reshape(5, 3, 7)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("helpers", [True, False])
def test_a_file_that_is_cut_off_is_refused_and_a_whole_one_read(tmp_path, form, records, helpers):
    path = tmp_path / "wind.nc"
    _write(path, form, records=records, helpers=helpers)
    assert missing_bytes(path) == 0
    (field,) = read(path, ["wind"])
    assert field.values[-1, -1, -1] == 104
    whole = path.read_bytes()
    # `wind` comes last and holds floats, so its last byte is the file's
    for lost in (1, 4, 28, 100, 300):
        path.write_bytes(whole[:-lost])
        with pytest.raises(InputError, match=rf"wind.nc is cut off: it lacks {lost} bytes"):
            read(path, ["wind"])


@pytest.mark.parametrize("form", FORMATS)
def test_a_header_that_is_cut_off_is_refused(tmp_path, form):
    path = tmp_path / "wind.nc"
    _write(path, form, records=True, helpers=True)
    whole = path.read_bytes()
    for size in (3, 5, 9, 40, 150):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="wind.nc"):
            read(path, ["wind"])


@pytest.mark.parametrize("form", FORMATS)
def test_a_header_in_disorder_is_never_shown_to_the_library(tmp_path, monkeypatch, form):
    """Some of them end the process there by a segmentation fault."""
    path = tmp_path / "wind.nc"
    _write(path, form, records=True, helpers=True)
    whole = path.read_bytes()

    def touched(*_):
        raise AssertionError("the library was called")

    monkeypatch.setattr(netCDF4, "Dataset", touched)
    wide = 8 if form == "NETCDF3_64BIT_DATA" else 4
    at = whole.index(b"time") - wide  # the length of the first name
    for length in (-1, -(1 << 20), 1 << 30):
        path.write_bytes(
            whole[:at] + length.to_bytes(wide, "big", signed=True) + whole[at + wide :]
        )
        with pytest.raises(InputError, match="wind.nc is damaged: its header"):
            read(path, ["wind"])


def test_a_name_that_is_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "wind.nc"
    _write(path, "NETCDF3_CLASSIC", records=True, helpers=True)
    for name in (b"units", b"title", b"number"):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(name, b"\xbc" + name[1:]))
        with pytest.raises(InputError, match="wind.nc is damaged: a part of it cannot be read"):
            read(path, ["wind"])
        path.write_bytes(whole)


def test_one_record_variable_of_short_values_has_no_padding(tmp_path):
    path = tmp_path / "count.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as out:
        out.createDimension("time", None)
        out.createDimension("x", 3)
        out.createVariable("count", "i1", ("time", "x"))[:] = np.ones((7, 3))
    assert missing_bytes(path) == 0
    path.write_bytes(path.read_bytes()[:-4])
    assert 1 <= missing_bytes(path) <= 4


def test_a_file_without_records_yet_is_whole(tmp_path):
    path = tmp_path / "empty.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as out:
        out.createDimension("time", None)
        out.createVariable("wind", "f4", ("time",))
    assert missing_bytes(path) == 0


def test_other_formats_are_left_to_the_library(tmp_path):
    path = tmp_path / "wind.nc"
    _write(path, "NETCDF4", records=True, helpers=True)
    assert missing_bytes(path) == 0
