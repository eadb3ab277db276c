"""Splitting without leakage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from caesar_freq.data.sections import load_sections
from caesar_freq.errors import ConfigError, InputError
from caesar_freq.split import main, parse_roles, ranges, split

PARTS = ("train", "val", "test")


def _series(shape=(2, 3, 60, 4, 5), seed=0, dtype="f4"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _save(path, values):
    np.savez(path, data=values)
    return path


def _parts(folder):
    return [load_sections(folder / f"{name}.npz").values for name in PARTS]


@pytest.mark.parametrize("length", [3, 10, 61, 240])
@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.9, 0.05, 0.05), (0.2, 0.4, 0.4)])
def test_ranges_tile_the_axis_but_for_the_gaps(length, gap, fractions):
    if length - 2 * gap < 3:
        with pytest.raises(ConfigError, match="gaps of"):
            ranges(length, fractions, gap, "frames")
        return
    parts = ranges(length, fractions, gap, "frames")
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert [b[0] - a[1] for a, b in zip(parts, parts[1:], strict=False)] == [gap, gap]
    assert all(stop > start for start, stop in parts)


def test_time_split_is_exact_and_described(tmp_path):
    values = _series(dtype="f8")
    values[0, 0, 5, 1] = np.nan
    values[1, 2, 50, 0, 0] = np.inf
    source = _save(tmp_path / "in.npz", values)
    manifest = split([source], tmp_path / "out", gap=7)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    for name, part in zip(PARTS, _parts(tmp_path / "out"), strict=True):
        entry = manifest["splits"][name]
        expected = values[:, :, entry["start"] : entry["stop"]]
        np.testing.assert_array_equal(part, expected, strict=True)
        assert entry["shape"] == list(part.shape)
        written = (tmp_path / "out" / f"{name}.npz").read_bytes()
        assert entry["sha256"] == hashlib.sha256(written).hexdigest()
    assert manifest["inputs"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["dtype"] == "float64" and manifest["shape"] == [2, 3, 60, 4, 5]
    assert manifest["splits"]["val"]["start"] - manifest["splits"]["train"]["stop"] == 7


def test_section_split_keeps_whole_sections(tmp_path):
    values = _series((1, 5, 8, 4, 5))
    split([_save(tmp_path / "in.npz", values)], tmp_path, method="section",
          fractions=(0.6, 0.2, 0.2))  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(_parts(tmp_path), axis=1), values)


def test_fill_values_are_recorded_and_kept(tmp_path):
    values = _series()
    values[0, 0, :, 0, 0] = 1e20
    manifest = split([_save(tmp_path / "in.npz", values)], tmp_path, gap=2, fill_value=1e20)
    train = load_sections(tmp_path / "train.npz")
    assert manifest["fill_value"] == train.fill_value == 1e20
    assert (train.values[0, 0, :, 0, 0] == np.float32(1e20)).all()
    assert train.mask.sum() == train.values.shape[2]
    split([tmp_path / "train.npz"], tmp_path / "again", gap=2)
    assert load_sections(tmp_path / "again" / "val.npz").fill_value == 1e20


def test_cells_never_written_in_netcdf_are_recorded_as_fill_values(tmp_path):
    fills = []
    for written in (40, 30):
        with netCDF4.Dataset(tmp_path / f"{written}.nc", "w") as file:
            for name, size in (("time", 40), ("y", 4), ("x", 5)):
                file.createDimension(name, size)
            variable = file.createVariable("u", "f4", ("time", "y", "x"))
            variable[:written] = np.random.default_rng(written).random((written, 4, 5))
        manifest = split([tmp_path / f"{written}.nc"], tmp_path / str(written), gap=2)
        fills.append(manifest["fill_value"])
    assert fills == [None, 9.969209968386869e36]


def test_netcdf_inputs_of_any_axis_order_stack_as_sections(tmp_path):
    values = _series((2, 30, 4, 5))
    values[0, 3] = np.nan
    for number, section in enumerate(values):
        data = xr.Dataset({
            "u": (("time", "lat", "lon"), section),
            "v": (("time", "lat", "lon"), -section),
            "mask": (("lat", "lon"), np.ones((4, 5), "i4")),
        })  # fmt: skip
        data["u"].encoding["_FillValue"] = data["v"].encoding["_FillValue"] = np.float32(-999)
        data.transpose("lon", "time", "lat").to_netcdf(tmp_path / f"{number}.nc")
    inputs = [str(tmp_path / f"{number}.nc") for number in range(2)]
    code = main(["--inputs", *inputs, "--variables", "u", "v", "--gap", "2",
                 "--output_dir", str(tmp_path / "out")])  # fmt: skip
    assert code == 0
    train, val, test = _parts(tmp_path / "out")
    assert train.shape[:2] == (2, 2) and train.dtype == np.float32
    n = train.shape[2]
    np.testing.assert_array_equal(train[0], values[:, :n])
    np.testing.assert_array_equal(test[1], -values[:, -test.shape[2] :])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["variables"] == ["u", "v"] and len(manifest["inputs"]) == 2


def test_named_dimensions_reach_their_roles(tmp_path):
    values = _series((40, 3, 5))
    data = xr.Dataset({"q": (("month", "station", "level"), values)})
    data.to_netcdf(tmp_path / "q.nc")
    split([tmp_path / "q.nc"], tmp_path, gap=1,
          roles=parse_roles(["time=month", "section=station"]))  # fmt: skip
    train = load_sections(tmp_path / "train.npz").values
    assert train.shape[1] == 3 and train.shape[3:] == (1, 5)
    np.testing.assert_array_equal(train[0, :, :, 0], values[: train.shape[2]].swapaxes(0, 1))


def test_arrays_without_names_follow_the_encoder(tmp_path):
    for values, shape in [(_series((9, 4, 5)), (1, 1, 9, 4, 5)),
                          (_series((2, 9, 4, 5)), (2, 1, 9, 4, 5))]:  # fmt: skip
        manifest = split([_save(tmp_path / "in.npz", values)], tmp_path, gap=1)
        assert manifest["shape"] == list(shape)


def test_scenarios_with_a_common_past_are_not_split_by_section(tmp_path):
    first, second, third = (_series((1, 1, 60, 4, 5), seed) for seed in range(3))
    third[:, :, :40] = first[:, :, :40]
    values = np.concatenate([first, second, third], axis=1)
    source = _save(tmp_path / "in.npz", values)
    with pytest.raises(InputError, match=r"test \(40\).*--method time"):
        split([source], tmp_path / "s", method="section", fractions=(0.4, 0.3, 0.3))
    assert not (tmp_path / "s").exists()
    manifest = split([source], tmp_path / "t", gap=2)
    assert manifest["frames_seen_in_training"] == {"val": 0, "test": 0}


def test_frames_repeated_in_time_are_reported(tmp_path, capsys):
    values = _series((1, 1, 40, 4, 5))
    values[0, 0, -2:] = values[0, 0, 3]
    values[0, 0, 5] = values[0, 0, -5] = np.nan
    manifest = split([_save(tmp_path / "in.npz", values)], tmp_path, gap=2)
    assert manifest["frames_seen_in_training"] == {"val": 0, "test": 2}
    assert "2 frames of test" in capsys.readouterr().out


def test_all_missing_data_can_be_split(tmp_path):
    split([_save(tmp_path / "in.npz", np.full((1, 1, 9, 2, 2), np.nan))], tmp_path, gap=1)
    assert all(np.isnan(part).all() for part in _parts(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"gap": 40}, ConfigError, "60 frames with two gaps of 40"),
        ({"gap": -1}, ConfigError, "-1"),
        ({"fractions": (0.5, 0.5, 0.5)}, ConfigError, "1.5"),
        ({"fractions": (1.0, 0.0, 0.0)}, ConfigError, "between 0 and 1"),
        ({"variables": ["u"]}, InputError, "no key 'u'.*data"),
        ({"inputs": ["in.npz", "in.npz"]}, InputError, "same content"),
        ({"inputs": ["in.npz", "copy.npz"]}, InputError, "copy.npz has the same content"),
        ({"inputs": ["in.npz", "double.npz"]}, InputError, "double.npz is float64"),
        ({"inputs": ["in.npz", "short.npz"]}, InputError, "short.npz is float32"),
        ({"inputs": ["absent.npz"]}, InputError, "absent.npz does not exist"),
        ({"inputs": ["two.npz"], "method": "section"}, ConfigError, "2 sections"),
        ({"output_dir": "in.npz"}, InputError, "cannot make folder"),
    ],
)
def test_refusals_say_why_and_leave_nothing(tmp_path, monkeypatch, arguments, error, says):
    monkeypatch.chdir(tmp_path)
    values = _series()
    for name, array in [("in", values), ("double", values.astype("f8")), ("copy", values),
                        ("short", values[:, :, 1:]), ("two", values[:, :2])]:  # fmt: skip
        _save(tmp_path / f"{name}.npz", array)
    arguments = {"inputs": ["in.npz"], "output_dir": "out", **arguments}
    arguments["inputs"] = [Path(name) for name in arguments["inputs"]]
    arguments["output_dir"] = Path(arguments["output_dir"])
    with pytest.raises(error, match=says):
        split(**arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("entry", ["time", "=t", "time=", "zeit=t"])
def test_malformed_dimension_names_are_refused(entry):
    with pytest.raises(ConfigError, match="ROLE=NAME"):
        parse_roles([entry])
