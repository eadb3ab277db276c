"""Filling of masked cells, data files and training blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesar_freq.data.blocks import BlockSampler, volumes
from caesar_freq.data.filling import fill_masked
from caesar_freq.data.sections import Sections, load_sections, save_sections
from caesar_freq.errors import InputError


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- filling ----------------------------------------------------------------------------------


@given(
    shape=st.sampled_from([(1, 1), (6,) * 2, (5, 1, 1), (3, 1, 9), (4, 7, 5), (2, 3, 4, 5)]),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["f4", "f8"]),
)
@settings(max_examples=60, deadline=None)
def test_filled_values_are_finite_and_valid_ones_untouched(shape, share, seed, dtype):
    values = _rng(seed).normal(size=shape).astype(dtype)
    mask = _rng(seed + 1).random(shape) < share
    filled = fill_masked(np.where(mask, np.nan, values).astype(dtype), mask)
    assert filled.dtype == dtype and filled.shape == shape
    assert np.array_equal(filled[~mask], values[~mask])
    assert np.isfinite(filled).all()
    frames = values.shape[-3] if values.ndim > 2 else 1
    for volume, own, hole in zip(
        *(x.reshape(-1, frames, *shape[-2:]) for x in (filled, values, mask)), strict=True
    ):
        valid = own[~hole] if not hole.all() else np.zeros(1)
        assert valid.min() <= volume.min() and volume.max() <= valid.max()


def test_filling_continues_a_smooth_field():
    y, x = np.mgrid[0:64, 0:64] / 64
    field = (np.sin(3 * x) + np.cos(2 * y))[None]
    mask = np.zeros(field.shape, bool)
    mask[:, 20:30, 15:40] = True
    error = fill_masked(np.where(mask, 1e20, field), mask) - field
    # a membrane cannot continue curvature; the mean of the field would be off by a third
    assert np.abs(error).max() < 0.03 * np.ptp(field)


def test_empty_frames_are_interpolated_in_time_and_extremes_do_not_overflow():
    series = np.arange(6.0).reshape(6, 1, 1)
    mask = np.zeros(series.shape, bool)
    mask[[0, 2, 3, 5]] = True
    filled = fill_masked(np.where(mask, np.nan, series), mask)
    np.testing.assert_allclose(filled.ravel(), [1, 1, 2, 3, 4, 4])
    huge = np.full((1, 4, 4), 1.7e308)
    hole = np.eye(4, dtype=bool)[None]
    assert np.array_equal(fill_masked(huge, hole), huge)
    assert not fill_masked(np.full((2, 3, 3), np.nan), np.ones((2, 3, 3), bool)).any()


# --- blocks -----------------------------------------------------------------------------------


@pytest.fixture
def data_files(tmp_path):
    wide = _rng(1).normal(5, 2, (2, 2, 20, 12, 30)).astype("f4")
    wide[0, :, :, 3:6, 4] = np.nan
    wide[1, 0, 4] = 1e20
    save_sections(tmp_path / "wide.npz", Sections(wide, 1e20))
    small = _rng(2).normal(-300, 9, (2, 1, 16, 7, 8))
    small[1] = 3.0
    save_sections(tmp_path / "small.npz", Sections(small))
    return [tmp_path / "wide.npz", tmp_path / "small.npz"]


def test_data_files_keep_values_and_fill_value(data_files):
    wide, small = map(load_sections, data_files)
    assert wide.fill_value == 1e20 and small.fill_value is None
    assert wide.mask[1, 0, 4].all() and wide.mask.sum() == 12 * 30 + 2 * 20 * 3
    assert small.values.dtype == np.float64


def test_volumes_are_normalised_by_their_variable(data_files):
    found = {(v.dataset, v.variable, v.section): v for v in volumes(data_files)}
    assert set(found) == {("wide", 0, 0), ("wide", 0, 1), ("wide", 1, 0), ("wide", 1, 1),
                          ("small", 0, 0)}  # fmt: skip
    for volume in found.values():
        assert volume.values.dtype == np.float32 and np.isfinite(volume.values).all()
    both = np.stack([found["wide", 1, s].values for s in (0, 1)])
    assert np.ptp(both) == pytest.approx(1, abs=1e-5)
    small = found["small", 0, 0]
    original = load_sections(data_files[1]).values[0, 0]
    np.testing.assert_allclose(small.values * small.scale + small.offset, original, atol=1e-4)


def test_blocks_depend_on_seed_and_step_alone(data_files):
    first, second = (BlockSampler(data_files, 8, 10, seed=3) for _ in range(2))
    late = second.sample(7, 4)
    for step in range(8):
        last = first.sample(step, 4)
    np.testing.assert_array_equal(last, late, strict=True)
    assert not np.array_equal(late, BlockSampler(data_files, 8, 10, seed=4).sample(7, 4))
    assert set(first.shapes) == {(8, 10, 10), (8, 7, 8)}
    assert {first.sample(step, 2).shape for step in range(30)} == {(2, 8, 10, 10), (2, 8, 7, 8)}


def test_blocks_are_cut_from_the_volumes(data_files):
    sampler = BlockSampler(data_files[1], 16, 256, seed=0)
    (volume,) = volumes(data_files[1])
    np.testing.assert_array_equal(sampler.sample(0, 1)[0], volume.values)
    flipped = BlockSampler(data_files[1], 16, 256, seed=0, flips=True)
    seen = {flipped.sample(step, 1).tobytes() for step in range(20)}
    assert len(seen) == 4


def test_training_data_that_cannot_serve_are_refused(tmp_path, data_files):
    with pytest.raises(InputError, match="small has 16 frames"):
        BlockSampler(data_files, 17, 10, seed=0)
    save_sections(tmp_path / "flat.npz", Sections(np.full((1, 1, 4, 3, 3), np.nan, "f4")))
    with pytest.raises(InputError, match="flat.npz"):
        BlockSampler(tmp_path / "flat.npz", 2, 8, seed=0)
    np.savez(tmp_path / "flat3.npz", data=np.ones((4, 3, 3), "f4"))
    with pytest.raises(InputError, match="3-D"):
        load_sections(tmp_path / "flat3.npz")
