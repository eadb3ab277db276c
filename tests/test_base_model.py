"""The packaged base model: simulated fields, training sets, the recipe, and earlier models."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import netCDF4
import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import model as model_module
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.data import fetch, simulated, training_sets
from caesar_freq.data.sections import load_sections
from caesar_freq.errors import InputError

ASSETS = Path(caesar_freq.__file__).parent / "assets"
SHAPE = (10, 20, 24)
KINDS = [simulated.random_field, simulated.climate, simulated.passive_scalar, simulated.showers,
         simulated.intermittent, partial(simulated.gray_scott, stride=5)]  # fmt: skip


# --- simulated fields -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_arguments_decide_a_field(kind):
    field = kind(SHAPE, 1)
    assert field.shape == SHAPE and field.dtype == np.float32
    assert np.isfinite(field).all() and np.ptp(field) > 0
    np.testing.assert_array_equal(kind(SHAPE, 1), field)
    assert not np.array_equal(kind(SHAPE, 2), field)
    both = simulated.realisations(kind, SHAPE, [1, 2])
    assert both.shape == (1, 2, *SHAPE)
    np.testing.assert_array_equal(both[0, 0], field)


@pytest.mark.parametrize("slope", [2.0, 4.0])
def test_random_field_has_the_spectrum_asked_for(slope):
    # a window, since one corner of a periodic field is not periodic itself
    plane = simulated.random_field((1, 256, 256), 3, slope)[0] * np.outer(*[np.hanning(256)] * 2)
    power = np.abs(np.fft.fft2(plane)) ** 2
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(256, 1 / 256)] * 2))
    centres = np.array([12, 24, 48, 96])
    rings = [np.log(power[(k > c / 1.2) & (k < c * 1.2)].mean()) for c in centres]
    assert np.polyfit(np.log(centres), rings, 1)[0] == pytest.approx(-slope, abs=0.3)


def test_random_field_changes_with_speed_and_carries_noise():
    def change(**arguments):
        return np.diff(simulated.random_field((32, 32, 32), 4, 5.0, **arguments), axis=0).std()

    assert change(speed=4.0) > 2 * change(speed=1.0)
    assert change(noise=0.1) == pytest.approx(np.hypot(change(), 0.1 * np.sqrt(2)), rel=0.1)


def test_climate_repeats_every_year_but_for_its_weather():
    calm = simulated.climate((36, 24, 40), 5, period=12, weather=0.0)
    assert np.abs(calm[24:] - calm[12:24]).max() < 0.02  # the trend alone
    assert np.abs(calm[6] - calm[0]).max() > 0.2
    poles, equator = calm[:, [0, -1]].mean(), calm[:, 12].mean()
    assert equator > poles + 0.5


def test_reaction_stays_between_its_limits_and_makes_a_pattern():
    field = simulated.gray_scott((4, 48, 48), 6, stride=200)
    assert field.min() >= 0 and field.max() < 1
    assert field[-1].std() > 0.05


def test_stirring_moves_values_without_making_new_ones():
    still, stirred = (simulated.passive_scalar((8, 64, 64), 7, reach=r) for r in (1e-6, 1.0))
    assert np.ptp(stirred) < 1.1 * np.ptp(still)
    slopes = [np.abs(np.gradient(f[-1], axis=0)).max() for f in (still, stirred)]
    assert slopes[1] > 1.3 * slopes[0]  # fronts
    np.testing.assert_allclose(still[-1], still[0], atol=1e-3)


def test_showers_leave_the_rest_dry():
    field = simulated.showers((16, 32, 32), 8, cover=0.2)
    assert field.min() == 0 and np.mean(field > 0) == pytest.approx(0.2, abs=0.01)
    assert simulated.intermittent(SHAPE, 8).min() > 0


# --- training sets ----------------------------------------------------------------------------


def _netcdf(folder: Path, **variables: np.ndarray) -> bytes:
    path = folder / "made.nc"
    with netCDF4.Dataset(path, "w") as dataset:
        for name, values in variables.items():
            dims = tuple(f"{name}{i}" for i in range(values.ndim))
            for dim, size in zip(dims, values.shape):
                dataset.createDimension(dim, size)
            variable = dataset.createVariable(name, values.dtype, dims, fill_value=None)
            variable[...] = values
    return path.read_bytes()


def _sdist(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"thing-1.0/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index whose archives hold small stand-ins; `served` is what was downloaded."""
    from PIL import Image

    wind = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    depth = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    pixels = np.arange(3 * 4 * 2, dtype=np.uint16).reshape(3, 4, 2)
    pages = [Image.fromarray(np.full((3, 4), i, np.uint8)) for i in range(10)]
    stack = io.BytesIO()
    pages[0].save(stack, "tiff", save_all=True, append_images=pages[1:])
    contents = {
        "arome_2016": _netcdf(tmp_path, x_wind_10m=wind, y_wind_10m=-wind),
        "norkyst_depths": _netcdf(tmp_path, temperature=depth, u=-depth),
        "two_photon": _netcdf(tmp_path, imaging=pixels),
        "mitosis": _netcdf(tmp_path, volume=pixels),
        "cells": stack.getvalue(),
    }  # fmt: skip
    served, packages, archives = [], {}, {}
    for old in {s.package for s in training_sets.PACKAGED.values()}:
        files = {m: contents[name] for name, s in training_sets.PACKAGED.items()
                 if s.package == old and name in contents for m in s.members}  # fmt: skip
        filename = f"{old.project}-1.0.tar.gz"
        archive = _sdist(files)
        archives[filename] = archive
        packages[old] = replace(old, filename=filename, sha256=hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(training_sets, "PACKAGED", {
        name: replace(training_sets.PACKAGED[name],
                      package=packages[training_sets.PACKAGED[name].package])
        for name in contents
    })  # fmt: skip
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple/")

    def get(url, package):
        if url.endswith(f"/{package.project}/"):
            page = f'<a href="files/{package.filename}">{package.filename}</a>'
            return page.encode(), "text/html", url
        served.append(package.filename)
        return archives[url.rsplit("/", 1)[-1]], "", url

    monkeypatch.setattr("caesar_freq.data.packages._get", get)
    return served


def test_sets_come_out_of_pinned_packages_one_download_each(index, tmp_path):
    sets = {n: load_sections(training_sets.make(n, tmp_path / "sets")).values
            for n in training_sets.PACKAGED}  # fmt: skip
    shapes = {name: values.shape for name, values in sets.items()}
    assert shapes == {
        "arome_2016": (2, 1, 2, 3, 4), "norkyst_depths": (2, 1, 3, 4, 5),
        "mitosis": (2, 1, 3, 4, 2), "two_photon": (1, 1, 2, 3, 4), "cells": (1, 2, 2, 3, 4),
    }  # fmt: skip
    np.testing.assert_array_equal(sets["arome_2016"][1], -sets["arome_2016"][0])
    np.testing.assert_array_equal(sets["two_photon"][0, 0, 1, 0], [1, 3, 5, 7])  # time is last
    np.testing.assert_array_equal(sets["cells"][0, :, :, 0, 0], [[0, 5], [2, 7]])
    assert len(index) == len(set(index)) == 4
    training_sets.make("cells", tmp_path / "sets")  # is there already
    assert len(index) == 4


def test_unknown_sets_are_reported(tmp_path):
    with pytest.raises(InputError, match="'era5'.*arome_2016.*turbulence_fast"):
        training_sets.make("era5", tmp_path)


def test_nothing_that_judges_the_model_trains_it():
    """By file: the members of all sources on request are no member of a training set."""
    members = {m for s in training_sets.PACKAGED.values() for m in s.members}
    judged = {"A1B_north_america.nc", "E1_north_america.nc", "arome_subset_16Nov2015.nc",
              "norkyst800_subset_16Nov2015.nc", "dt_med_allsat_phy_l4_2005T2.nc",
              "cylinder_nektar_wake.mat"}  # fmt: skip
    assert not {Path(m).name for m in members} & judged
    assert all(s.licence for s in training_sets.PACKAGED.values())
    assert set(fetch.SOURCES["iris_a1b_e1"].files) <= judged


# --- the recipe -------------------------------------------------------------------------------


@pytest.fixture
def recipe(monkeypatch):
    """benchmarks/train_base.py with tiny sets."""
    path = Path(__file__).parents[1] / "benchmarks" / "train_base.py"
    spec = importlib.util.spec_from_file_location("train_base", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = partial(simulated.realisations, simulated.random_field, (8, 24, 24))
    made = {"SIMULATED": {"rough": partial(tiny, [1])}, "SELECTION": {"kept": partial(tiny, [2])}}
    for name, sets in made.items():
        monkeypatch.setattr(training_sets, name, sets)
        monkeypatch.setattr(module, name, sets)
    monkeypatch.setattr(module, "HELD_OUT", {"other": lambda folder: tiny([3])})
    return module


def test_recipe_writes_model_and_card_and_keeps_the_model_before(
    index, recipe, tmp_path, monkeypatch
):
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "base.cfm").write_bytes(FrequencyModel.base().to_bytes())
    command = ["--work_dir", str(tmp_path / "work"), "--assets", str(assets), "--epochs", "1",
               "--rows_per_set", "50", "--sets", "rough", "two_photon", "--held_out", "other"]  # fmt: skip
    assert recipe.main(command) == 0
    model = load_frequency_model(assets / "base.cfm")
    before = FrequencyModel.base()
    assert model.fingerprint != before.fingerprint
    (kept,) = (assets / "models").iterdir()
    assert kept.name == f"{before.fingerprint[:16]}.cfm"
    assert load_frequency_model(kept).fingerprint == before.fingerprint

    text = (assets / "base_card.md").read_text()
    values = load_sections(tmp_path / "work" / "sets" / "rough.npz").values
    digest = hashlib.sha256(values).hexdigest()
    assert model.fingerprint in text
    assert f"| rough | training | 1 x 1 x 8 x 24 x 24 | {digest} |" in text
    wanted = recipe.PACKAGED["two_photon"]
    assert f"| {wanted.package.filename} | {wanted.package.sha256} |" in text
    assert f"| {wanted.members[0]} | {wanted.licence} |" in text
    assert "| kept | selection | 1 x 1 x 8 x 24 x 24 |" in text
    array = recipe.HELD_OUT["other"](tmp_path)
    size = len(caesar_freq.encode(array, "nrmse", 1e-3, model=model, embed_model=False))
    row = next(line for line in text.splitlines() if line.startswith("| other |"))
    assert row.split("|")[3].strip() == f"{array.nbytes / size:.2f}"
    assert json.loads(text.split("```json")[1].split("```")[0])["seed"] == recipe.SEED

    # again: nothing is trained or measured anew
    monkeypatch.setattr(recipe.train_freq_compressor, "main", None)
    monkeypatch.setattr(recipe, "encode", None)
    assert recipe.main(command) == 0
    assert (assets / "base_card.md").read_text() == text
    assert len(list((assets / "models").iterdir())) == 1


# --- what the package holds -------------------------------------------------------------------


def test_the_card_belongs_to_the_packaged_model():
    assert FrequencyModel.base().fingerprint in (ASSETS / "base_card.md").read_text()
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) <= 100_000


def test_files_of_earlier_base_models_decode(tmp_path, monkeypatch):
    field = simulated.random_field((16, 24, 24), 9)
    base = FrequencyModel.base()
    earlier = replace(base, b3=base.b3 + 60)
    monkeypatch.setattr(model_module, "_ASSETS", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "base.cfm").write_bytes(base.to_bytes())
    (tmp_path / "models" / f"{earlier.fingerprint[:16]}.cfm").write_bytes(earlier.to_bytes())
    FrequencyModel.packaged.cache_clear()
    try:
        data = caesar_freq.encode(field, "rel", 1e-4, model=earlier)
        about = caesar_freq.info(data)
        assert not about["model_embedded"]
        assert earlier.fingerprint.startswith(about["model_fingerprint"])
        assert np.abs(caesar_freq.decode(data) - field).max() <= 1e-4 * np.ptp(field)
        assert FrequencyModel.packaged("0" * 16) is None
    finally:
        FrequencyModel.packaged.cache_clear()


def test_packaged_models_are_named_by_their_fingerprint():
    kept = list((ASSETS / "models").glob("*.cfm"))
    assert kept
    for path in kept:
        model = load_frequency_model(path)
        assert path.stem == model.fingerprint[:16]
        assert FrequencyModel.packaged(path.stem).fingerprint == model.fingerprint
