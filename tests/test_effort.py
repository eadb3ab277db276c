"""Levels of effort: the bound holds at each, and more effort gives no more bytes."""

from dataclasses import replace

import numpy as np
import pytest
from test_modes import wave_field
from test_search import field

import caesar_freq
from caesar_freq.cli import main
from caesar_freq.codec import chunk, chunks
from caesar_freq.codec import large as large_module
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.errors import InputError

#: A small sample may mislead a cheap choice by this much.
TOLERANCE = 1.01


def vortices():
    return wave_field(64, 40, 56).astype(np.float32)


def grid():
    x = field((20, 40, 50), 3)
    return (np.rint(x / np.ptp(x) * 4000) / 8).astype(np.float32)


@pytest.mark.parametrize("make", [field, vortices, grid])
@pytest.mark.parametrize("mode, bound", [("nrmse", 1e-3), ("rel", 1e-3), ("nrmse", 1e-5)])
def test_bound_holds_and_effort_saves_bytes(make, mode, bound):
    x = make()
    streams = [caesar_freq.encode(x, mode, bound, effort=level) for level in range(4)]
    for data in streams:
        assert bound_holds(x[None], caesar_freq.decode(data)[None], mode, bound)
    sizes = [len(data) for data in streams]
    assert all(more <= TOLERANCE * less for less, more in zip(sizes, sizes[1:]))
    assert streams[2] == caesar_freq.encode(x, mode, bound)
    assert streams[0] == caesar_freq.encode(x, mode, bound, effort=np.int64(0))


def test_only_more_effort_finds_modes_and_grids():
    def used(x, bound, level):
        data = caesar_freq.encode(x, "nrmse", bound, effort=level)
        return set(caesar_freq.info(data)["modes_used"])

    assert used(vortices(), 1e-3, 1) == {"plain"} and used(vortices(), 1e-3, 2) == {"own_modes"}
    assert used(grid(), 1e-5, 0) == {"plain"} and used(grid(), 1e-5, 1) == {"lattice"}


@pytest.mark.parametrize("mode", ["rel", "nrmse"])
@pytest.mark.parametrize("large", [False, True])
def test_no_effort_makes_noise_larger_than_it_is(monkeypatch, mode, large):
    x = np.random.default_rng(0).standard_normal((3, 17, 19)).astype(np.float32)
    if large:
        monkeypatch.setattr(chunks, "CHUNK_VALUES", 1)
        monkeypatch.setattr(large_module, "EXACT_BYTES", 1)
    data = caesar_freq.encode(x, mode, 1e-12, effort=0)
    assert len(data) < x.nbytes + 100
    assert np.array_equal(caesar_freq.decode(data), x)


def test_thirty_two_frames_may_be_one_block():
    x = np.linspace(0, 1, 32)[:, None, None] + field((1, 64, 64), 5) / 50
    transform = caesar_freq.info(caesar_freq.encode(x.astype(np.float32), "nrmse", 1e-3))
    assert transform["transforms"][0]["time_block"] == 32


@pytest.mark.parametrize("level", [-1, 4, 1.5, True, "3", None])
def test_an_unknown_effort_is_refused(level):
    with pytest.raises(InputError, match="effort is .*; choose 0"):
        caesar_freq.encode(np.zeros((4, 8, 8), np.float32), effort=level)
    with pytest.raises(InputError, match="effort is"):
        caesar_freq.CAESARFreq(effort=level)


def test_the_class_and_the_command_take_an_effort(tmp_path, capsys):
    x = field()
    fast, _ = caesar_freq.CAESARFreq(effort=0).compress(x, 1e-3)
    assert bytes(fast) == caesar_freq.encode(x, "nrmse", 1e-3, effort=0)
    np.save(tmp_path / "x.npy", x)
    command = ["compress", str(tmp_path / "x.npy"), str(tmp_path / "x.cfq"), "--mode", "nrmse"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--effort", "0"])
    assert not end.value.code
    assert len((tmp_path / "x.cfq").read_bytes()) == pytest.approx(len(bytes(fast)), abs=400)
    with pytest.raises(SystemExit) as end:
        main([*command, "--effort", "4"])
    assert end.value.code and "effort" in capsys.readouterr().err


def test_fitted_tables_are_stored_and_counted_where_they_pay(monkeypatch):
    monkeypatch.setattr(chunk, "_ASK_LATTICE", np.inf)  # levels need no tables
    # all bins with the tables of one: nothing is more in need of a fit
    base = FrequencyModel.base()
    bad = replace(base, grid_pmf=np.repeat(base.grid_pmf[:, 40:41], len(base.pmf), axis=1))
    x = field((64, 64, 64))

    def coded(model, **options):
        return caesar_freq.encode(x, "nrmse", 1e-4, model=model, embed_model=True, **options)

    data = coded(bad, effort=3)
    assert len(data) < 0.9 * len(coded(bad))
    assert caesar_freq.info(data)["model_fingerprint"] != bad.fingerprint[:16]
    assert bound_holds(x[None], caesar_freq.decode(data)[None], "nrmse", 1e-4)
    # tables that fit already are not stored again
    kept = caesar_freq.info(coded(base, effort=3))["model_fingerprint"]
    assert base.fingerprint.startswith(kept)
