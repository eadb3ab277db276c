"""The linear baseline: filling in by Wiener filters, and what networks are shown of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from wave_blocks import (
    KEYS,
    LAYOUT,
    MISSING,
    fitted,
    levels,
    waves,
)

from caesar_freq.errors import ConfigError, ModelError
from caesar_freq.models.conditions import conditions, filled
from caesar_freq.models.layout import Layout
from caesar_freq.models.wiener import WienerFit, linear_weights


@pytest.fixture(scope="module")
def wiener():
    return fitted()


def test_layout_names_keyframes_and_refuses_open_blocks():
    assert Layout().keyframes == (0, 3, 6, 9, 12, 15)
    assert Layout().missing == (1, 2, 4, 5, 7, 8, 10, 11, 13, 14)
    with pytest.raises(ConfigError, match="n_frame 15"):
        Layout(n_frame=15)


@pytest.mark.parametrize("wavelet,use_dwt", [("haar", True), ("cdf97", True), ("haar", False)])
@pytest.mark.parametrize("shape", [(37, 49), (16, 32), (1, 5)])
def test_tensor_latents_are_the_codec_latents(wavelet, use_dwt, shape):
    layout = Layout(channels=20, wavelet=wavelet, use_dwt=use_dwt)
    frames = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32)
    tensor = torch.from_numpy(frames).requires_grad_()
    latents = layout.latents(tensor)
    np.testing.assert_allclose(latents.detach(), layout.cells(frames)[:, :, :20], atol=2e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layout.latents(tensor), latents, atol=0, rtol=0)
    latents.sum().backward()
    assert tensor.grad.abs().sum() > 0


def test_keyframes_at_any_distance_end_the_block():
    assert Layout().keyframes_at(5) == (0, 5, 10, 15)
    assert Layout().keyframes_at(2) == (0, 2, 4, 6, 8, 10, 12, 14, 15)
    assert Layout().keyframes_at(3) == Layout().keyframes


def test_linear_weights_reproduce_a_ramp_and_are_flat_beyond():
    known, missing = np.array([2, 5, 9]), np.array([0, 3, 4, 8, 12])
    found = linear_weights(known, missing) @ known
    np.testing.assert_allclose(found, [2, 3, 4, 8, 9])


@pytest.mark.parametrize("missing", [MISSING, [1, 3, 5], [2, 3, 4, 5]])
def test_wiener_beats_linear_interpolation_on_waves(wiener, missing):
    blocks = waves(seed=1)
    known = [t for t in range(7) if t not in missing]
    estimate = filled(LAYOUT, wiener, blocks, levels(6, 1e-3, missing))
    np.testing.assert_array_equal(estimate[:, known], blocks[:, known])
    weights = linear_weights(np.array(known), np.array(missing))
    linear = np.einsum("mk,nkyx->nmyx", weights, blocks[:, known])
    error = ((estimate[:, missing] - blocks[:, missing]) ** 2).mean()
    assert error < 0.6 * ((linear - blocks[:, missing]) ** 2).mean()


def test_wiener_never_looks_at_missing_frames(wiener):
    blocks = waves(1)
    spoilt = blocks.copy()
    spoilt[:, MISSING] = np.nan
    np.testing.assert_array_equal(
        filled(LAYOUT, wiener, spoilt, levels()), filled(LAYOUT, wiener, blocks, levels())
    )


def test_wiener_trusts_noisy_frames_less(wiener):
    noise = levels(noise=1e-3)[0]
    weights, left = wiener.posterior(noise)
    noise[3] = 10
    doubtful, more = wiener.posterior(noise)
    energetic = wiener.energy > 1e-3
    assert np.abs(doubtful[energetic, :, 1]).max() < 0.1 * np.abs(weights[energetic, :, 1]).max()
    assert (more >= left - 1e-9).all() and more.sum() > 2 * left.sum()


def test_wiener_expects_the_error_that_it_leaves(wiener):
    blocks = waves(24, seed=2)
    variance = wiener.posterior(levels(noise=1e-3)[0])[1]
    error = filled(LAYOUT, wiener, blocks, levels(24, 1e-3)) - blocks
    cells = LAYOUT.cells(error)[:, MISSING]
    found = (cells**2).mean((0, 3, 4)).T
    assert 0.3 < variance.sum() / found.sum() < 3


def test_wiener_trusts_unseen_frequencies_like_linear_interpolation():
    fit = WienerFit(LAYOUT)
    fit.add(np.zeros((7, 16, 16), np.float32))
    weights, left = fit.solve().posterior(levels(noise=0.0)[0])
    linear = linear_weights(np.array(KEYS), np.array(MISSING))
    np.testing.assert_allclose(weights, np.broadcast_to(linear, weights.shape), atol=1e-6)
    assert np.isfinite(left).all() and (left > 0).all()


def test_blocks_that_cannot_be_filled_in_are_refused(wiener):
    with pytest.raises(ModelError, match="up to 7, not 9"):
        wiener.posterior(levels(frames=9)[0])
    with pytest.raises(ModelError, match="none of 7 frames"):
        wiener.posterior(levels(missing=range(7))[0])


def test_long_series_are_filled_in_as_well_as_blocks(wiener):
    series = waves(4, frames=23)
    missing = [t for t in range(23) if t % 3]  # ends with a missing frame
    noise = levels(4, 1e-3, missing, 23)
    estimate = filled(LAYOUT, wiener, series, noise)
    weights = linear_weights(np.arange(0, 23, 3), np.array(missing))
    linear = np.einsum("mk,nkyx->nmyx", weights, series[:, ::3])
    error = ((estimate[:, missing] - series[:, missing]) ** 2).mean((0, 2, 3))
    other = ((linear - series[:, missing]) ** 2).mean((0, 2, 3))
    assert error[:-4].mean() < 0.9 * other[:-4].mean()
    scale = conditions(LAYOUT, wiener, series, noise, 0.01).scale
    assert np.isfinite(scale).all() and (scale > 0).all()


def test_conditions_turn_truth_into_a_correction_and_back(wiener):
    blocks = waves(2)
    given = conditions(LAYOUT, wiener, blocks, levels(2), 0.02)
    correction = given.correction_of(blocks)
    assert correction[:, :, MISSING].std() > 0.05
    np.testing.assert_allclose(correction[:, :, KEYS], 0, atol=1e-3)
    truth = LAYOUT.cells(blocks)[:, :, :8]
    np.testing.assert_allclose(given.latents_with(correction), truth, atol=1e-5)
    frames = given.frames_with(correction)
    np.testing.assert_allclose(LAYOUT.cells(frames[:, :, :32, :16])[:, :, :8],
                               truth[..., :2, :1], atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(given.render(correction) + given.frames, frames, atol=1e-5)
    part = given.part(slice(1, 2))
    np.testing.assert_array_equal(part.frames_with(correction[1:]), frames[1:])


def test_a_unit_of_correction_is_the_noise_or_what_wiener_expects_to_leave(wiener):
    given = conditions(LAYOUT, wiener, waves(1), levels(noise=0.03), 0.02)
    np.testing.assert_allclose(given.scale[0][:, KEYS], 0.03)
    left = wiener.posterior(levels(noise=0.03)[0])[1]
    np.testing.assert_allclose(given.scale[0][:, MISSING], np.sqrt(left[:8]), rtol=1e-5)
