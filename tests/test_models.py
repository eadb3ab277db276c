"""Networks, sampler and the predictor that the codec sees."""

from __future__ import annotations

import subprocess
import sys

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

from caesar_freq.errors import ModelError
from caesar_freq.models.conditions import filled
from caesar_freq.models.diffusion import (
    implied_clean,
    implied_velocity,
    noisy,
    sample,
    start_noise,
    velocity,
)
from caesar_freq.models.predictor import KEYFRAME_NOISE, KINDS, Predictor, load_predictor
from caesar_freq.models.student import MotionStudent, windows
from caesar_freq.models.unet3d import Unet3D
from caesar_freq.models.wiener import linear_weights


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


STUDENT = {"base_channels": 4, "channel_mults": [1, 2], "num_res_blocks": 1, "patch": 2}
TEACHER = {"dim": 8, "dim_mults": [1, 2], "channels": 8, "res_blocks": 1}


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 2), (8, 8)])
def test_unet_fits_any_grid_and_starts_without_correction(size):
    network = Unet3D(dim=8, dim_mults=(1, 2, 2), channels=8)
    x = torch.randn(2, 8, 7, *size)
    noise = torch.from_numpy(levels(2))
    out = network(x, x, noise, torch.rand(2), torch.zeros(2))
    assert out.shape == x.shape and not out.any()
    out = perturbed(network)(x, x, noise, torch.rand(2), torch.zeros(2))
    assert torch.isfinite(out).all() and out.std() > 0


def test_unet_sees_every_input():
    network = perturbed(Unet3D(dim=8, dim_mults=(1, 2), channels=8)).eval()
    x, given = torch.randn(1, 8, 7, 3, 3), torch.randn(1, 8, 7, 3, 3)
    noise = torch.from_numpy(levels(noise=0.02))
    base = (x, given, noise, torch.full((1,), 0.5), torch.full((1,), -3.0))
    with torch.no_grad():
        reference = network(*base)
        for i in range(5):
            changed = [z + 0.5 if i == j else z for j, z in enumerate(base)]
            assert not torch.allclose(network(*changed), reference), i
        whole = torch.full_like(noise, 0.02)
        assert not torch.allclose(network(x, given, whole, *base[3:]), reference)


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


def test_windows_hold_the_nearest_known_frames():
    frames = torch.arange(7.0)[None, :, None, None].expand(1, 7, 2, 2)
    noise = torch.from_numpy(levels(noise=0.1))  # 0, 3 and 6 are known
    noise[0, 3] = 0.3
    found = windows(frames, noise, torch.tensor([[1, 3, 0]]))
    assert found.own[:, 0, 0].tolist() == [1, 3, 0]
    # where there is no second one, the first stands in; where there is none, the nearest known
    assert found.around[:, :, 0, 0].tolist() == [[0, 0, 3, 6], [0, 0, 6, 6], [0, 0, 3, 6]]
    assert found.distance.tolist() == [[-1, -1, 2, 5], [-3, -3, 3, 3], [0, 0, 3, 6]]
    assert torch.isinf(found.noise[0, 0]) and found.noise[0, 3] == pytest.approx(0.3)
    whole = windows(frames, torch.full((1, 7), 0.1), torch.tensor([[2, 6]]))
    assert whole.around[:, :, 0, 0].tolist() == [[0, 1, 3, 4], [4, 5, 6, 6]]


def ask(network, frames, noise, targets=range(7), log_step=-5.0):
    """All targets of blocks whose missing frames are as given."""
    n = len(frames)
    with torch.no_grad():
        return network(frames, torch.as_tensor(noise), torch.full((n,), log_step),
                       torch.tensor(list(targets)).expand(n, -1))  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (37, 49), (16, 16)])
@pytest.mark.parametrize("patch", [2, 4])
def test_student_fits_any_frame_and_starts_from_the_baselines(size, patch):
    network = MotionStudent(**{**STUDENT, "patch": patch})
    frames = torch.randn(2, 7, *size)
    out = ask(network, frames, levels(2))
    torch.testing.assert_close(out[:, KEYS], frames[:, KEYS], atol=2e-5, rtol=0)
    weights = torch.tensor(linear_weights(np.array(KEYS), np.array(MISSING))).float()
    linear = torch.einsum("mk,nkyx->nmyx", weights, frames[:, KEYS])
    expected = (frames[:, MISSING] + linear) / 2
    torch.testing.assert_close(out[:, MISSING], expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(ask(network, frames, levels(2, missing=())), frames, atol=2e-5,
                               rtol=0)  # fmt: skip


def test_student_does_not_know_the_unit():
    network = perturbed(MotionStudent(**STUDENT)).eval()
    frames = torch.randn(1, 7, 16, 16)
    out = ask(network, frames, levels(noise=0.05))
    larger = ask(network, 8 * frames + 5, levels(noise=0.4), log_step=-2.0)
    torch.testing.assert_close(larger, 8 * out + 5, atol=1e-3, rtol=1e-4)


def test_student_output_depends_on_every_known_frame_around():
    network = perturbed(MotionStudent(**STUDENT)).eval()
    frames = torch.randn(1, 7, 16, 16)
    for noise, target, around in (
        (levels(), 1, (0, 1, 3, 6)),
        (levels(missing=()), 3, range(1, 6)),
    ):
        reference = ask(network, frames, noise, [target])
        for i in range(7):
            changed = frames.clone()
            changed[:, i] += torch.randn(16, 16)
            same = torch.equal(ask(network, changed, noise, [target]), reference)
            assert same == (i not in around), (target, i)


def test_both_networks_act_on_the_noise_level():
    frames = torch.randn(1, 7, 16, 16)
    student = perturbed(MotionStudent(**STUDENT)).eval()
    quiet, loud = (ask(student, frames, levels(noise=z, missing=())) - frames for z in (0.002, 0.2))
    # the correction is in units of the noise
    assert loud.std() > 3 * quiet.std() > 0


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_predictor_repeats_in_a_fresh_process(kind, wiener, tmp_path):
    if kind == "teacher":
        network, architecture = perturbed(Unet3D(**TEACHER)), TEACHER
    else:
        network, architecture = perturbed(MotionStudent(**STUDENT)), STUDENT
    part = write(tmp_path / "best.pth", kind, network, architecture, wiener)
    torch.save({KINDS[kind][0]: part}, tmp_path / "combined.pth")
    np.save(tmp_path / "blocks.npy", waves(5))
    np.save(tmp_path / "noise.npy", levels(5))
    predictor = load_predictor(tmp_path / "best.pth", kind)
    frames = predictor.restore(waves(5), levels(5), 0.03)
    assert frames.shape == (5, 7, 33, 20) and frames.dtype == np.float32
    assert np.isfinite(frames).all() and (predictor.kind, predictor.keyframes) == (kind, (0, 3, 6))
    assert len(predictor.sha256) == 64 and predictor.source == "best.pth"
    script = (
        "import sys, numpy as np\n"
        "from caesar_freq.models.predictor import load_predictor\n"
        "p = load_predictor(sys.argv[1] + '/combined.pth', sys.argv[2])\n"
        "blocks, noise = (np.load(f'{sys.argv[1]}/{name}.npy') for name in ('blocks', 'noise'))\n"
        "np.save(sys.argv[1] + '/out.npy', p.restore(blocks, noise, 0.03))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), kind], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), frames)


def small(kind, wiener):
    network = perturbed(Unet3D(**TEACHER) if kind == "teacher" else MotionStudent(**STUDENT))
    return Predictor(kind, network, wiener, LAYOUT, 4)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_interpolation_and_restoration_are_one_call(kind, wiener):
    predictor, blocks = small(kind, wiener), waves(2)
    noise = levels(2, KEYFRAME_NOISE * 0.03)
    spoilt = blocks.copy()
    spoilt[:, MISSING] = np.nan  # nobody looks at them
    out = predictor.restore(spoilt, noise, 0.03)
    assert np.isfinite(out).all()
    frames = predictor.predict(blocks[:, KEYS], 0.03)
    np.testing.assert_allclose(out[:, MISSING], frames, atol=1e-5)
    whole = predictor.restore(blocks, levels(2, missing=()), 0.03)
    assert whole.shape == blocks.shape and not np.allclose(whole, blocks, atol=1e-4)
    for pattern in ((1, 3, 5), (2, 3, 4, 5)):  # keyframes at other distances
        assert np.isfinite(predictor.restore(blocks, levels(2, missing=pattern), 0.03)).all()


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_part_of_the_frames_is_the_same_as_in_all(kind, wiener):
    predictor, blocks = small(kind, wiener), waves(1)
    everything = predictor.restore(blocks, levels(), 0.03)
    some = predictor.restore(blocks, levels(), 0.03, targets=[4, 1])
    np.testing.assert_allclose(some, everything[:, [4, 1]], atol=1e-6)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_restoration_takes_blocks_of_any_length(kind, wiener):
    predictor = small(kind, wiener)
    for frames in (1, 2, 20):
        blocks = waves(1, frames=frames)
        out = predictor.restore(blocks, levels(missing=(), frames=frames), 0.03)
        assert out.shape == blocks.shape and np.isfinite(out).all()
    missing = (1, 2, 4, 5, 7, 8, 18)
    out = predictor.restore(waves(1, frames=20), levels(missing=missing, frames=20), 0.03)
    assert out.shape == (1, 20, 33, 20) and np.isfinite(out).all()
    with pytest.raises(ModelError, match="none of 7 frames"):
        predictor.restore(waves(1, frames=20), levels(missing=range(2, 19), frames=20), 0.03)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_restoration_of_a_block_does_not_depend_on_its_company(kind, wiener):
    predictor, blocks = small(kind, wiener), waves(6)
    noise = levels(6)
    noise[3:] = 0.02
    together = predictor.restore(blocks, noise, 0.03)
    for i in (1, 4):
        alone = predictor.restore(blocks[i : i + 1], noise[i : i + 1], 0.03)
        np.testing.assert_allclose(alone, together[i : i + 1], atol=1e-5)


def test_untrained_teacher_is_the_baseline(wiener):
    blocks = waves(1)
    teacher = Predictor("teacher", Unet3D(**TEACHER), wiener, LAYOUT, 4)
    out = teacher.restore(blocks, levels(), 0.02)
    np.testing.assert_allclose(out, filled(LAYOUT, wiener, blocks, levels()), atol=1e-6)


def test_noise_scale_changes_the_teacher(wiener):
    network = perturbed(Unet3D(**TEACHER))
    keys = waves(1)[:, KEYS]
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
    part = torch.load(tmp_path / "t.pth", weights_only=True)
    part["format"] = "caesar-freq/diffusion/1"
    torch.save(part, tmp_path / "t.pth")
    with pytest.raises(ModelError, match=r"t\.pth is of a release .* train phases 2 and 3 again"):
        load_predictor(tmp_path / "t.pth", "teacher")
