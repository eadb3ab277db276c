"""Distortion as the tables report it, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caesar_freq.errors import InputError
from caesar_freq.metrics import bound_held, distortion, psnr, to_five_axes, variable_ranges


def test_nrmse_and_psnr_are_relative_to_each_variables_range():
    x = np.zeros((2, 1, 1, 2, 2), np.float32)
    x[0] = [[0, 1], [2, 10]]
    x[1] = [[0, 100], [200, 1000]]
    y = x.copy()
    y[0, ..., 0, 0] += 1  # one of four values off by a tenth of the range
    y[1, ..., 0, 0] += 1  # the same difference is a thousandth there
    measured = distortion(x, y)
    assert measured.nrmse_by_variable == pytest.approx((0.05, 0.0005))
    assert measured.max_error_rel_by_variable == pytest.approx((0.1, 0.001))
    assert measured.nrmse == pytest.approx(0.05)
    assert measured.psnr == pytest.approx(-20 * math.log10(0.05))
    assert psnr(1e-3) == pytest.approx(60)


def test_errors_are_taken_in_float64():
    x = np.array([0, 1e8], np.float32)
    y = x.copy()
    y[1] = np.nextafter(y[1], np.float32(np.inf))
    assert distortion(x, y).max_error_rel == pytest.approx(8e-8)


def test_masked_values_carry_no_error_but_must_keep_their_bits():
    x = np.array([[0, 1, np.nan, np.inf, -999]], np.float32)
    assert variable_ranges(x, fill_value=-999) == [1]
    kept = distortion(x, x.copy(), fill_value=-999)
    assert kept.nrmse == 0 and kept.masked_equal and bound_held(kept, "nrmse", 1e-3)
    for place, value in ((2, 0), (3, -np.inf), (4, -998)):
        y = x.copy()
        y[0, place] = value
        changed = distortion(x, y, fill_value=-999)
        assert not changed.masked_equal and not bound_held(changed, "nrmse", 1e-3)
    other_nan = x.copy()
    other_nan.view(np.uint32)[0, 2] ^= 1
    assert not distortion(x, other_nan, fill_value=-999).masked_equal


@pytest.mark.parametrize("criterion", ["nrmse", "max_rel", "lossless"])
def test_a_value_that_becomes_nan_breaks_every_bound(criterion):
    x = np.arange(8, dtype=np.float64)
    y = x.copy()
    y[3] = np.nan
    assert not bound_held(distortion(x, y), criterion, 0.5)


def test_a_nan_in_the_first_variable_does_not_hide_behind_the_others():
    x = np.random.default_rng(0).normal(size=(3, 1, 2, 3, 4))
    y = x.copy()
    y[0, 0, 0, 0, 0] = np.nan
    assert math.isnan(distortion(x, y).nrmse)


def test_constant_variables_have_to_be_met_exactly():
    x = np.full((4, 4), 3.0)
    assert distortion(x, x).nrmse == 0
    assert distortion(x, x + 1e-9).nrmse == math.inf


def test_bound_is_met_at_equality_and_not_above():
    x = np.array([0.0, 1.0, 2.0, 4.0])
    y = x + [0, 0.5, 0, 0]
    assert bound_held(distortion(x, y), "max_rel", 0.125)
    assert not bound_held(distortion(x, y), "max_rel", 0.124)
    assert not bound_held(distortion(x, y), "lossless", 1.0)


def test_axes_are_added_in_front():
    assert to_five_axes(np.zeros(3, np.float32)).shape == (1, 1, 1, 1, 3)
    assert to_five_axes(np.zeros((2, 3, 4, 5), np.float32)).shape == (2, 1, 3, 4, 5)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (np.zeros((2, 3), int), np.zeros((2, 3), int)),
        (np.zeros((1,) * 6), np.zeros((1,) * 6)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_what_cannot_be_compared_is_refused(x, y):
    with pytest.raises(InputError):
        distortion(x, y)


def test_an_unknown_criterion_is_refused():
    measured = distortion(np.arange(3.0), np.arange(3.0))
    with pytest.raises(InputError, match="psnr"):
        bound_held(measured, "psnr", 40)
