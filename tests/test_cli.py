"""The command line: files of every format there and back, as a user runs it."""

import json
import subprocess
import sys
from dataclasses import replace

import netCDF4
import numpy as np
import pytest
import xarray as xr

import caesar_freq
from caesar_freq import cli
from caesar_freq.codec.model import FrequencyModel


def field(shape=(12, 20, 24), seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return x.astype(np.float32)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an own folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def succeed(result):
    code, out, err = result
    assert code == 0, err
    return out


def dataset():
    x = field()
    holes = x * 3 + 1
    holes[:, :5, :5] = np.nan
    attrs = {"units": "K", "long_name": "air temperature"}
    encoding = {"_FillValue": np.float32(1e20)}
    return xr.Dataset(
        {
            "t2m": (("time", "lat", "lon"), x, attrs),
            "wind": (("time", "lat", "lon"), holes, {}, encoding),
        },
        coords={"time": np.arange(12.0), "lat": np.linspace(40, 50, 20), "lon": np.arange(24)},
        attrs={"title": "two variables"},
    )


@pytest.mark.parametrize("mode, bound", [("abs", 0.5), ("rel", 1e-2), ("nrmse", 1e-3),
                                         ("psnr", 50), ("pw_rel", 1e-2), ("lossless", None)])  # fmt: skip
def test_every_mode_keeps_its_bound(run, mode, bound):
    x = field()
    np.save("x.npy", x)
    options = [] if bound is None else ["--bound", bound]
    assert "CR" in succeed(run("compress", "x.npy", "x.cfq", "--mode", mode, *options))
    report = json.loads(succeed(run("verify", "x.npy", "x.cfq", "--json")))
    assert report["bound_held"] and report["mode"] == mode
    succeed(run("decompress", "x.cfq", "y.npy"))
    y = np.load("y.npy")
    assert y.dtype == x.dtype and y.shape == x.shape
    assert report["max_error"] == np.abs(y.astype(np.float64) - x).max()
    size = np.abs(x.astype(np.float64))
    assert report["max_error_pw_rel"] == (np.abs(y.astype(np.float64) - x) / size).max()
    if mode == "lossless":
        np.testing.assert_array_equal(x, y)
        assert report["psnr"] is None  # infinite, which JSON cannot say
    else:
        assert 0 < report["max_error_rel"] and report["cr"] > 2


def test_a_bound_on_each_value_survives_in_a_fresh_process(tmp_path):
    x = field()
    x[:, :4] = 0
    np.save(tmp_path / "x.npy", x)
    for arguments in (
        ("compress", "x.npy", "x.cfq", "--mode", "pw_rel", "--bound", "1e-2"),
        ("verify", "x.npy", "x.cfq", "--json"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "caesar_freq.cli", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["bound_held"] and 0.005 < report["max_error_pw_rel"] <= 0.01


def test_a_bound_on_each_value_of_one_or_more_is_refused(run):
    np.save("x.npy", field())
    code, _, err = run("compress", "x.npy", "x.cfq", "--mode", "pw_rel", "--bound", 1)
    assert code != 0 and "x.npy" in err and "below 1" in err


def test_default_is_a_relative_bound_of_a_thousandth(run):
    np.save("x.npy", field())
    succeed(run("compress", "x.npy", "x.cfq"))
    about = json.loads(succeed(run("info", "x.cfq", "--json")))
    assert (about["mode"], about["bound"]) == ("rel", 1e-3)


def test_netcdf_comes_back_with_coordinates_and_attributes(run):
    dataset().to_netcdf("in.nc")
    succeed(run("compress", "in.nc", "x.cfq", "--var", "t2m", "--var", "wind", "--bound", 1e-4))
    succeed(run("decompress", "x.cfq", "out.nc"))
    with xr.open_dataset("in.nc") as before, xr.open_dataset("out.nc") as after:
        assert after.attrs == before.attrs
        for name in ("t2m", "wind"):
            assert after[name].dims == before[name].dims and after[name].attrs == before[name].attrs
            np.testing.assert_array_equal(np.isnan(after[name]), np.isnan(before[name]))
            error = np.abs(after[name].astype(float) - before[name].astype(float)).max()
            spread = before[name].astype(float).max() - before[name].astype(float).min()
            assert 0 < error <= 1e-4 * spread
        for name in before.coords:
            xr.testing.assert_identical(after[name], before[name])
    report = json.loads(succeed(run("verify", "in.nc", "x.cfq", "--json")))
    assert [v["name"] for v in report["variables"]] == ["t2m", "wind"]
    assert all(v["bound_held"] for v in report["variables"]) and report["special_values_equal"]


def test_npz_keeps_its_keys(run):
    x = field((2, 1, 6, 16, 18))
    np.savez("x.npz", data=x, wind=x[0, 0] * 2)
    succeed(run("compress", "x.npz", "data.cfq"))
    succeed(run("compress", "x.npz", "wind.cfq", "--var", "wind"))
    for name, shape in [("data", x.shape), ("wind", x.shape[2:])]:
        succeed(run("decompress", f"{name}.cfq", f"{name}.npz"))
        with np.load(f"{name}.npz") as archive:
            assert archive.files == [name] and archive[name].shape == shape
        succeed(run("verify", "x.npz", f"{name}.cfq"))


def test_fill_values_come_back_and_do_not_widen_the_range(run):
    x = field()
    x[:, :4] = -9999
    np.save("x.npy", x)
    succeed(run("compress", "x.npy", "x.cfq", "--fill-value", "-9999"))
    succeed(run("verify", "x.npy", "x.cfq"))
    succeed(run("decompress", "x.cfq", "y.npy"))
    y = np.load("y.npy")
    np.testing.assert_array_equal(y == -9999, x == -9999)
    good = x != -9999
    assert np.abs(y - x)[good].max() <= 1e-3 * np.ptp(x[good]) * (1 + 1e-6)


def test_cells_never_written_in_netcdf_are_missing(run):
    """Nothing declares their 1e37, which would be the range that a relative bound is about."""
    x = field()
    with netCDF4.Dataset("x.nc", "w") as file:
        for name, size in zip("tyx", x.shape):
            file.createDimension(name, size)
        file.createVariable("u", "f4", tuple("tyx"))[: len(x) // 2] = x[: len(x) // 2]
    succeed(run("compress", "x.nc", "x.cfq"))
    succeed(run("verify", "x.nc", "x.cfq"))
    succeed(run("decompress", "x.cfq", "y.npy"))
    restored = np.load("y.npy").reshape(x.shape)
    written, rest = np.split(restored, [len(x) // 2])
    assert np.abs(written - x[: len(written)]).max() <= 1e-3 * np.ptp(x[: len(written)])
    assert (rest == np.float32(9.969209968386869e36)).all()


def test_verify_exits_with_1_when_the_bound_is_broken(run):
    x = field((2, 6, 16, 18))
    np.save("x.npy", x)
    succeed(run("compress", "x.npy", "x.cfq"))
    x[1, 3, 4, 5] += 1
    np.save("other.npy", x)
    code, out, err = run("verify", "other.npy", "x.cfq", "--json")
    report = json.loads(out)
    assert code == 1 and err == "" and not report["bound_held"]
    assert [v["bound_held"] for v in report["variables"]] == [True, False]
    assert report["max_error"] > 0.9


def test_verify_notices_a_lost_missing_value(run):
    x = field()
    np.save("x.npy", x)
    succeed(run("compress", "x.npy", "x.cfq"))
    x[0, 0, 0] = np.nan
    np.save("holes.npy", x)
    code, out, _ = run("verify", "holes.npy", "x.cfq", "--json")
    assert code == 1 and not json.loads(out)["special_values_equal"]


def test_info_counts_all_bytes_in_both_forms(run, tmp_path):
    np.save("x.npy", field())
    succeed(run("compress", "x.npy", "x.cfq"))
    about = json.loads(succeed(run("info", "x.cfq", "--json")))
    size = (tmp_path / "x.cfq").stat().st_size
    assert about["compressed_bytes"] == size == sum(about["bytes_by_stream"].values())
    ((mode, frames),) = about["modes_used"].items()
    assert about["shape"] == [12, 20, 24] and frames == 12
    text = succeed(run("info", "x.cfq"))
    assert f"compressed_bytes      {size}\n" in text and f"{mode} 12" in text


def test_info_of_a_file_that_is_cut_off_claims_no_ratio_for_it(run, tmp_path):
    np.save("x.npy", field())
    succeed(run("compress", "x.npy", "x.cfq"))
    whole = json.loads(succeed(run("info", "x.cfq", "--json")))
    data = (tmp_path / "x.cfq").read_bytes()
    for other in (data[:-1], data + b"more"):
        (tmp_path / "y.cfq").write_bytes(other)
        code, out, _ = run("info", "y.cfq", "--json")
        about = json.loads(out)
        assert code == 1 and whole["complete"] and not about["complete"]
        assert about["cr"] == whole["cr"] and about["compressed_bytes"] == len(data)


def test_trained_model_is_used_and_embedded(run, tmp_path):
    base = FrequencyModel.base()
    model = replace(base, b3=base.b3 + 100)
    (tmp_path / "model.cfm").write_bytes(model.to_bytes())
    # noise: a stream so large that the bytes of its model do not matter
    np.save("x.npy", np.random.default_rng(0).random((6, 128, 128), np.float32))
    succeed(run("compress", "x.npy", "x.cfq", "--model", "model.cfm", "--bound", 1e-4))
    about = json.loads(succeed(run("info", "x.cfq", "--json")))
    assert about["model_embedded"] and model.fingerprint.startswith(about["model_fingerprint"])
    succeed(run("verify", "x.npy", "x.cfq"))


def test_threads_do_not_change_the_file(run, tmp_path):
    np.save("x.npy", field((3, 2, 6, 16, 18)))
    for threads in (1, 3):
        succeed(run("compress", "x.npy", f"{threads}.cfq", "--threads", threads))
    assert (tmp_path / "1.cfq").read_bytes() == (tmp_path / "3.cfq").read_bytes()


def test_help_and_version(run):
    assert "compress" in succeed(run()) and "train-diffusion" in succeed(run("--help"))
    assert succeed(run("--version")).strip() == caesar_freq.__version__
    assert "--bound" in succeed(run("compress", "--help"))


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "caesar_freq", "--version"], capture_output=True)
    assert done.returncode == 0 and caesar_freq.__version__.encode() in done.stdout


def test_rule_modules_get_their_arguments(run):
    np.savez("x.npz", data=field((1, 1, 80, 8, 8)))
    succeed(run("split", "--inputs", "x.npz", "--method", "time", "--gap", 2, "--output_dir", "d"))
    with np.load("d/train.npz") as train:
        assert train["data"].ndim == 5
    for rule in cli.RULES:
        assert "--output" in succeed(run(rule, "--help"))
    for tool in cli.TOOLS:
        assert f"caesar-freq {tool}" in succeed(run(tool, "--help"))


def test_a_fresh_process_needs_no_torch(tmp_path):
    """Frequency mode is for machines without it, and its import would cost seconds."""
    np.save(tmp_path / "x.npy", field())
    commands = [
        "compress x.npy x.cfq",
        "verify x.npy x.cfq",
        "decompress x.cfq y.npy",
        "info x.cfq",
    ]
    program = (
        "import sys\nsys.modules['torch'] = None\nfrom caesar_freq.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    try: main(line.split())\n"
        "    except SystemExit as stop: assert not stop.code, (line, stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *commands], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npy").shape == (12, 20, 24)
