"""Networks of phases 2 and 3, the linear baseline, and what the codec sees of them."""

import numpy as np
import pytest
import torch

from caesar_freq.models.diffusion import clean, ddim_step, noisy, sample, start_noise, velocity
from caesar_freq.models.predictor import Layout, Predictor, conditions
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import STEPS, Wiener, WienerFit
from caesar_freq.training.losses import multi_scale_error, spectrum_error, squared_error
from caesar_freq.train_distillation import _halvings, _implied

LAYOUT = Layout(channels=8)


def unet(seed=0, **options):
    torch.manual_seed(seed)
    network = Unet3D(**({"dim": 8, "dim_mults": (1, 2), "channels": 8} | options))
    torch.nn.init.normal_(network.outlet[-1].weight, std=0.2)
    return network.eval()


def smooth_blocks(n, seed=0, size=32):
    """Blocks of sums of travelling waves."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(16), np.arange(size), np.arange(size), indexing="ij")
    blocks = []
    for _ in range(n):
        a, b, c = rng.uniform(-0.3, 0.3, (3, 4, 1, 1, 1))
        phase = rng.uniform(0, 6, (4, 1, 1, 1))
        blocks.append(0.1 * np.sin(a * x + b * y + c * t + phase).sum(0))
    return np.array(blocks, np.float32)


def fitted(blocks, layout=LAYOUT):
    fit = WienerFit(len(layout.keyframes), len(layout.missing), layout.channels)
    keys, missing = (layout.cells(blocks[:, list(i)]) for i in (layout.keyframes, layout.missing))
    for index in range(len(STEPS)):
        fit.add(index, keys, missing)
    return fit.solve()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("mults", [(1, 2), (1, 2, 4, 8)])
def test_unet_takes_any_size(size, mults):
    network = unet(dim_mults=mults, res_blocks=2)
    x = torch.randn(2, 8, 16, *size)
    out = network(x, x, torch.zeros(16), torch.rand(2), torch.zeros(2))
    assert out.shape == x.shape and torch.isfinite(out).all()


def test_unet_starts_without_a_correction():
    network = Unet3D(8, (1, 2), 8)
    x = torch.randn(1, 8, 16, 4, 4)
    assert not network(x, x, torch.zeros(16), torch.ones(1), torch.zeros(1)).any()


def test_unet_sees_every_input():
    network = unet()
    x, keys = torch.randn(1, 8, 16, 4, 4), torch.zeros(16)
    arguments = [x, x.flip(2), keys, torch.tensor([0.5]), torch.tensor([-4.0])]
    before = network(*arguments)
    for i, other in enumerate([x + 1, x + 1, keys + 1, torch.tensor([0.9]), torch.tensor([-1.0])]):
        changed = [*arguments[:i], other, *arguments[i + 1 :]]
        assert not torch.allclose(before, network(*changed))


def test_velocity_and_clean_are_inverse():
    x0, noise, t = torch.randn(3, 2, 4, 2, 2), torch.randn(3, 2, 4, 2, 2), torch.rand(3)
    x = noisy(x0, noise, t)
    torch.testing.assert_close(clean(x, velocity(x0, noise, t), t), x0, atol=1e-5, rtol=1e-5)


def test_sampler_reaches_the_truth_with_a_perfect_network():
    x0 = torch.randn(2, 2, 4, 2, 2)

    def perfect(x, t):
        angle = (np.pi / 2 * t)[:, None, None, None, None]
        noise = (x - torch.cos(angle) * x0) / torch.sin(angle)
        return velocity(x0, noise, t)

    for steps in (1, 4, 32):
        torch.testing.assert_close(
            sample(perfect, start_noise(x0.shape), steps), x0, atol=1e-4, rtol=1e-4
        )
    t, s = torch.tensor([0.8, 0.8]), torch.tensor([0.3, 0.3])
    x = noisy(x0, start_noise(x0.shape), t)
    reached = ddim_step(perfect, x, t, s)
    torch.testing.assert_close(_implied(x, reached, t, s), x0, atol=1e-4, rtol=1e-4)


def test_noise_is_the_same_for_every_item_and_run():
    a, b = start_noise((3, 4, 2, 2, 2)), start_noise((1, 4, 2, 2, 2))
    assert torch.equal(a[2], b[0])
    assert not torch.equal(a, start_noise((3, 4, 2, 2, 2), seed=1))


def test_progressive_stages_halve_down_to_one():
    assert _halvings(32) == [16, 8, 4, 2, 1]
    assert _halvings(2) == [1]


def test_wiener_beats_linear_interpolation_on_waves():
    wiener = fitted(smooth_blocks(24))
    test = smooth_blocks(6, seed=9)
    keys, missing = LAYOUT.cells(test[:, list(LAYOUT.keyframes)]), list(LAYOUT.missing)
    truth = LAYOUT.cells(test[:, missing])
    linear = np.stack([
        keys[:, t // 3] * (1 - t % 3 / 3) + keys[:, t // 3 + 1] * (t % 3 / 3) for t in missing
    ], 1)  # fmt: skip
    error = np.mean((wiener.interpolate(keys, 0.01) - truth) ** 2)
    assert error < 0.8 * np.mean((linear - truth) ** 2)


def test_wiener_is_exact_for_data_that_keyframes_determine():
    rng = np.random.default_rng(0)
    slope, start = rng.standard_normal((2, 40, 1, 256, 1, 1))
    t = np.arange(16).reshape(1, 16, 1, 1, 1)
    cells = (start + slope * t).astype(np.float32)
    fit = WienerFit(6, 10, 8)
    keys, missing = cells[:, list(LAYOUT.keyframes)], cells[:, list(LAYOUT.missing)]
    for index in range(len(STEPS)):
        fit.add(index, keys, missing)
    wiener = fit.solve()
    left = wiener.interpolate(keys, STEPS[2]) - missing
    assert np.abs(left).max() < 0.05 * np.abs(missing).max()


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("shape", [(32, 32), (37, 21)])
def test_predictor_contract(kind, shape):
    wiener = fitted(smooth_blocks(6))
    predictor = Predictor(kind, unet(), wiener, LAYOUT, steps=4)
    keys = smooth_blocks(5, size=48)[:, list(LAYOUT.keyframes), : shape[0], : shape[1]]
    frames = predictor.predict(keys, 0.02)
    assert frames.shape == (5, 10, *shape) and frames.dtype == np.float32
    np.testing.assert_array_equal(frames, predictor.predict(keys, 0.02))
    other = predictor.predict(keys[:, ::-1].copy(), 0.02)
    assert not np.allclose(frames, other)
    # a block's prediction does not depend on its company
    np.testing.assert_allclose(predictor.predict(keys[2:3], 0.02), frames[2:3], atol=1e-5)


def test_untrained_predictor_is_the_baseline():
    wiener = fitted(smooth_blocks(6))
    network = Unet3D(8, (1, 2), 8)
    keys = smooth_blocks(1)[:, list(LAYOUT.keyframes)]
    frames = Predictor("student", network, wiener, LAYOUT).predict(keys, 0.02)
    given = conditions(LAYOUT, wiener, keys, 0.02)
    from caesar_freq.transform.latent import from_cells

    expected = from_cells(given.missing_cells.astype(np.float32), 32, 32)
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_keyframes_of_other_spacings():
    layout = Layout(interpo_rate=5)
    assert layout.keyframes == (0, 5, 10, 15)
    assert sorted(layout.keyframes + layout.missing) == list(range(16))


def test_losses_vanish_only_at_the_truth():
    a, b = torch.randn(2, 8, 16, 8, 8), torch.randn(2, 8, 16, 8, 8)
    weight = torch.ones(1, 8, 16, 1, 1)
    for loss in (squared_error, multi_scale_error, spectrum_error):
        assert loss(a, a, weight) == 0 and loss(a, b, weight) > 0
    # the spectrum ignores where a pattern is, the squared error does not
    moved = a.roll(2, dims=-1)
    assert spectrum_error(a, moved, weight) < 1e-8 < squared_error(a, moved, weight)


def test_wiener_weights_depend_on_the_step():
    low = Wiener(np.zeros((7, 256, 10, 6), np.float32), np.ones(8, np.float32),
                 np.ones((7, 8), np.float32))  # fmt: skip
    low.weights[-1] = 1
    assert low.at(STEPS[0] / 10)[0].max() == 0
    assert low.at(STEPS[-1] * 10)[0].min() == 1
    assert 0 < low.at(np.sqrt(STEPS[-1] * STEPS[-2]))[0].mean() < 1
