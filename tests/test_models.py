"""Networks, baseline, sampler and the predictor that the codec sees."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from caesar_freq.errors import ConfigError, ModelError
from caesar_freq.models.conditions import conditions
from caesar_freq.models.diffusion import (
    implied_clean,
    implied_velocity,
    noisy,
    sample,
    start_noise,
    velocity,
)
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import KINDS, Predictor, load_predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import STEPS, WienerFit

LAYOUT = Layout(n_frame=7, interpo_rate=3, channels=8)


def waves(n=6, frames=7, height=33, width=20, seed=0):
    """Blocks of travelling waves ``[n, frames, height, width]``."""
    rng = np.random.default_rng(seed)
    t, y, x = np.ogrid[:frames, :height, :width]
    out = np.zeros((n, frames, height, width), np.float32)
    for block in out:
        for _ in range(4):
            ky, kx, speed, phase = rng.uniform((-0.6, -0.6, -1.0, 0), (0.6, 0.6, 1.0, 6.3))
            block += np.sin(ky * y + kx * x + speed * t + phase) / 8
    return out


def fitted(layout=LAYOUT, **options):
    fit = WienerFit(layout)
    for block in waves(**options):
        for index, step in enumerate(STEPS):
            keys = block[list(layout.keyframes)]
            fit.add(index, np.round(keys / step) * step, block[list(layout.missing)])
    return fit.solve()


@pytest.fixture(scope="module")
def wiener():
    return fitted()


def perturbed(network, scale=0.05):
    """The network with random instead of zero output weights."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return network


def write(path, kind, network, architecture, wiener, layout=LAYOUT, **config):
    section, key, layout_format = KINDS[kind]
    part = {
        key: network.state_dict(), "format": layout_format,
        "wiener": {name: torch.from_numpy(value) for name, value in vars(wiener).items()},
        "config": {"network": architecture, "layout": layout.as_dict(), "diffusion_steps": 4,
                   "noise_scale": 1.0, **config},
    }  # fmt: skip
    torch.save(part, path)
    return part


STUDENT = {"base_channels": 4, "channel_mults": [1, 2], "num_res_blocks": 1, "interpo_rate": 3}
TEACHER = {"dim": 8, "dim_mults": [1, 2], "channels": 8, "res_blocks": 1}


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


def test_linear_weights_reproduce_a_ramp():
    ramp = np.arange(16.0)
    layout = Layout()
    keys = ramp[list(layout.keyframes)]
    np.testing.assert_allclose(layout.linear_weights() @ keys, ramp[list(layout.missing)])


def test_wiener_beats_linear_interpolation_on_waves(wiener):
    blocks = waves(seed=1)
    truth = blocks[:, list(LAYOUT.missing)]
    keys = blocks[:, list(LAYOUT.keyframes)]
    given = conditions(LAYOUT, wiener, keys, STEPS[0])
    linear = np.einsum("mk,nkyx->nmyx", LAYOUT.linear_weights(), keys)
    error = ((given.base_frames.numpy() - truth) ** 2).mean()
    assert error < 0.5 * ((linear - truth) ** 2).mean()


def test_wiener_trusts_unseen_frequencies_like_linear_interpolation():
    fit = WienerFit(LAYOUT)
    for index in range(len(STEPS)):
        fit.add(index, np.zeros((3, 16, 16), np.float32), np.zeros((4, 16, 16), np.float32))
    weights, scale = fit.solve().at(0.01)
    np.testing.assert_allclose(weights, np.broadcast_to(LAYOUT.linear_weights(), weights.shape))
    assert np.isfinite(scale).all() and (scale > 0).all()


def test_wiener_between_fitted_steps_lies_between(wiener):
    middle = wiener.at(np.sqrt(STEPS[2] * STEPS[3]))[0]
    np.testing.assert_allclose(middle, (wiener.weights[2] + wiener.weights[3]) / 2, atol=1e-5)
    np.testing.assert_array_equal(wiener.at(STEPS[-1] * 9)[0], wiener.weights[-1])


def test_conditions_turn_truth_into_a_correction_and_back(wiener):
    blocks = waves(2)
    given = conditions(LAYOUT, wiener, blocks[:, list(LAYOUT.keyframes)], 0.02)
    latents = LAYOUT.cells(blocks[:, list(LAYOUT.missing)])[:, :, :8]
    correction = given.correction_of(latents)
    assert not correction[:, :, list(LAYOUT.keyframes)].any()
    np.testing.assert_allclose(given.latents_with(correction), latents, atol=1e-5)
    frames = given.frames_with(correction)
    np.testing.assert_allclose(LAYOUT.cells(frames[:, :, :32, :16])[:, :, :8],
                               latents[..., :2, :1], atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(given.render(correction) + given.base_frames, frames, atol=1e-5)
    part = given.part(slice(1, 2))
    np.testing.assert_array_equal(part.frames_with(correction[1:]), frames[1:])


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 2), (8, 8)])
def test_unet_fits_any_grid_and_starts_without_correction(size):
    network = Unet3D(dim=8, dim_mults=(1, 2, 2), channels=8)
    x = torch.randn(2, 8, 7, *size)
    out = network(x, x, torch.ones(7), torch.rand(2), torch.zeros(2))
    assert out.shape == x.shape and not out.any()
    out = perturbed(network)(x, x, torch.ones(7), torch.rand(2), torch.zeros(2))
    assert torch.isfinite(out).all() and out.std() > 0


def test_unet_sees_every_input():
    network = perturbed(Unet3D(dim=8, dim_mults=(1, 2), channels=8)).eval()
    x, given = torch.randn(1, 8, 7, 3, 3), torch.randn(1, 8, 7, 3, 3)
    base = (x, given, torch.ones(7), torch.full((1,), 0.5), torch.full((1,), -3.0))
    with torch.no_grad():
        reference = network(*base)
        for i in range(5):
            changed = [z + 0.5 if i == j else z for j, z in enumerate(base)]
            assert not torch.allclose(network(*changed), reference), i


def test_velocity_round_trips():
    x0, noise = torch.randn(3, 2, 4, 3, 3), torch.randn(3, 2, 4, 3, 3)
    t, s = torch.tensor([0.25, 0.5, 0.9]), torch.tensor([0.1, 0.25, 0.5])
    x, y = noisy(x0, noise, t), noisy(x0, noise, s)
    torch.testing.assert_close(
        implied_velocity(x, x0, t), velocity(x0, noise, t), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(implied_clean(x, y, t, s), x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_sampler_with_a_perfect_network_finds_the_truth(scale):
    truth = torch.randn(2, 3, 4, 2, 2)
    noise = scale * start_noise(truth.shape)
    found = sample(lambda x, t: implied_velocity(x, truth, t), noise, 32)
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (37, 49), (16, 16)])
def test_student_fits_any_frame_and_starts_between_baselines(size):
    network = MotionStudent(**STUDENT)
    keys = torch.randn(2, 3, *size)
    linear = torch.einsum("mk,nkyx->nmyx", torch.tensor(LAYOUT.linear_weights()).float(), keys)
    base = torch.randn(2, 4, *size)
    zero, one = torch.zeros_like(base), torch.ones(2)
    out = network(keys, base, zero, one, torch.zeros(2))
    torch.testing.assert_close(out, (base + linear) / 2, atol=2e-5, rtol=0)


def test_student_does_not_know_the_unit():
    network = perturbed(MotionStudent(**STUDENT)).eval()
    keys, base = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 16, 16)
    zero, one = torch.zeros_like(base), torch.ones(1)
    with torch.no_grad():
        out = network(keys, base, zero, one, torch.zeros(1))
        larger = network(8 * keys + 5, 8 * base + 5, zero, one, torch.full((1,), 3.0))
    torch.testing.assert_close(larger, 8 * out + 5, atol=1e-3, rtol=1e-4)


def test_student_output_depends_on_every_keyframe():
    network = perturbed(MotionStudent(**STUDENT)).eval()
    keys, base = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 16, 16)
    with torch.no_grad():

        def run(k):
            return network(k, base, torch.zeros_like(base), torch.ones(1), torch.zeros(1))

        reference = run(keys)
        for i in range(3):
            changed = keys.clone()
            changed[:, i] += torch.randn(16, 16)
            assert not torch.allclose(run(changed), reference)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_predictor_repeats_in_a_fresh_process(kind, wiener, tmp_path):
    if kind == "teacher":
        network, architecture = perturbed(Unet3D(**TEACHER)), TEACHER
    else:
        network, architecture = perturbed(MotionStudent(**STUDENT)), STUDENT
    part = write(tmp_path / "best.pth", kind, network, architecture, wiener)
    torch.save({KINDS[kind][0]: part}, tmp_path / "combined.pth")
    keys = waves(5)[:, list(LAYOUT.keyframes)]
    np.save(tmp_path / "keys.npy", keys)
    predictor = load_predictor(tmp_path / "best.pth", kind)
    frames = predictor.predict(keys, 0.03)
    assert frames.shape == (5, 4, 33, 20) and frames.dtype == np.float32
    assert np.isfinite(frames).all() and (predictor.kind, predictor.keyframes) == (kind, (0, 3, 6))
    assert len(predictor.sha256) == 64 and predictor.source == "best.pth"
    script = (
        "import sys, numpy as np\n"
        "from caesar_freq.models.predictor import load_predictor\n"
        "p = load_predictor(sys.argv[1] + '/combined.pth', sys.argv[2])\n"
        "np.save(sys.argv[1] + '/out.npy', p.predict(np.load(sys.argv[1] + '/keys.npy'), 0.03))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), kind], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), frames)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_restoring_with_missing_frames_fills_them_in(kind, wiener):
    network = perturbed(Unet3D(**TEACHER) if kind == "teacher" else MotionStudent(**STUDENT))
    predictor = Predictor(kind, network, wiener, LAYOUT, 4)
    blocks, noise = waves(2), np.full((2, 7), 0.005, np.float32)
    noise[:, list(LAYOUT.missing)] = np.inf
    out = predictor.restore(blocks, noise, 0.03)
    assert out.shape == blocks.shape and out.dtype == np.float32
    frames = predictor.predict(blocks[:, list(LAYOUT.keyframes)], 0.03)
    np.testing.assert_array_equal(out[:, list(LAYOUT.missing)], frames)
    noise[:, 1] = 0.01
    with pytest.raises(ModelError, match="not those asked for"):
        predictor.restore(blocks, noise, 0.03)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_prediction_of_a_block_does_not_depend_on_its_company(kind, wiener):
    network = perturbed(Unet3D(**TEACHER) if kind == "teacher" else MotionStudent(**STUDENT))
    predictor = Predictor(kind, network, wiener, LAYOUT, 4)
    keys = waves(6)[:, list(LAYOUT.keyframes)]
    together = predictor.predict(keys, 0.03)
    np.testing.assert_allclose(predictor.predict(keys[4:5], 0.03), together[4:5], atol=1e-5)


def test_untrained_teacher_is_the_baseline(wiener):
    keys = waves(1)[:, list(LAYOUT.keyframes)]
    frames = Predictor("teacher", Unet3D(**TEACHER), wiener, LAYOUT, 4).predict(keys, 0.02)
    base = conditions(LAYOUT, wiener, keys, 0.02).base_frames
    np.testing.assert_allclose(frames, base, atol=1e-6)


def test_noise_scale_changes_the_teacher(wiener):
    network = perturbed(Unet3D(**TEACHER))
    keys = waves(1)[:, list(LAYOUT.keyframes)]
    calm, lively = (
        Predictor("teacher", network, wiener, LAYOUT, 4, noise_scale=s).predict(keys, 0.03)
        for s in (0.0, 1.0)
    )
    assert not np.allclose(calm, lively)


def test_wrong_checkpoints_are_named(wiener, tmp_path):
    with pytest.raises(ModelError, match="gone.pth"):
        load_predictor(tmp_path / "gone.pth", "teacher")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ModelError, match="text.pth"):
        load_predictor(tmp_path / "text.pth", "teacher")
    write(tmp_path / "t.pth", "teacher", Unet3D(**TEACHER), TEACHER, wiener)
    with pytest.raises(ModelError, match="no student"):
        load_predictor(tmp_path / "t.pth", "student")
    write(tmp_path / "t.pth", "teacher", Unet3D(**TEACHER), {**TEACHER, "dim": 16}, wiener)
    with pytest.raises(ModelError, match="another architecture"):
        load_predictor(tmp_path / "t.pth", "teacher")
