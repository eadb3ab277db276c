"""Levels of effort: the bound holds at each, and more effort gives no more bytes."""

import numpy as np
import pytest
from test_modes import wave_field
from test_search import field

import caesar_freq
from caesar_freq.cli import main
from caesar_freq.codec import refit
from caesar_freq.codec.stream import bound_holds
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


def test_only_more_effort_finds_modes_and_grids():
    def used(x, bound, level):
        data = caesar_freq.encode(x, "nrmse", bound, effort=level)
        return set(caesar_freq.info(data)["modes_used"])

    assert used(vortices(), 1e-3, 1) == {"plain"} and used(vortices(), 1e-3, 2) == {"own_modes"}
    assert used(grid(), 1e-5, 0) == {"plain"} and used(grid(), 1e-5, 1) == {"lattice"}


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
    rng = np.random.default_rng(0)
    # spikes: sizes that the packaged tables do not expect
    x = (rng.standard_normal((64, 96, 96)) * (rng.random((64, 96, 96)) < 0.02)).astype(np.float32)
    usual = caesar_freq.encode(x, "nrmse", 3e-3, spatial=(("dct", 8),))
    data = caesar_freq.encode(x, "nrmse", 3e-3, spatial=(("dct", 8),), effort=3)
    assert caesar_freq.info(data)["model_embedded"] and len(data) < len(usual)
    assert bound_holds(x[None], caesar_freq.decode(data)[None], "nrmse", 3e-3)
    monkeypatch.setattr(refit, "code_lengths", lambda pmf, bins, magnitudes: np.zeros(len(bins)))
    data = caesar_freq.encode(x, "nrmse", 3e-3, spatial=(("dct", 8),), effort=3)
    assert not caesar_freq.info(data)["model_embedded"]
