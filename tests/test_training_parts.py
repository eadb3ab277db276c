"""What a training step is made of, and what networks learn from it in a minute."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_runs import (
    drifting,
    one_thread,  # noqa: F401 a fixture
    wiener_of,
)

from caesar_freq import train_distillation
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.models.conditions import filled
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import Predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.training import generative
from caesar_freq.training.distiller import Distiller
from caesar_freq.training.generative import Batch, draw_blocks, make_batch
from caesar_freq.training.loop import Progress, Task, learning_rate, prepared
from caesar_freq.training.loop import _evaluate as evaluate_task
from caesar_freq.training.losses import OBJECTIVES, bits, multi_scale_error, spectrum_error
from caesar_freq.training.memory import micro_batch


def sharp(seed, frames=7):
    """A drifting pattern with steep edges, which coarse coding blurs and a network can sharpen."""
    x = drifting(seed, frames)
    return (np.tanh(4 * x / x.std()) / 2).astype(np.float32)


def moving(seed, frames=7):
    return (1.2 * drifting(seed, frames)).astype(np.float32)


def student_of(field, restored, steps, mults, n_steps):
    """A small student after some training steps on decoded blocks, the part `restored` whole."""
    layout, model = Layout(n_frame=7, channels=8), FrequencyModel.base()
    wiener = wiener_of(layout, field(0))
    torch.manual_seed(0)
    student = MotionStudent(8, mults, 1)
    optimiser = torch.optim.AdamW(student.parameters(), 5e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generative, "RESTORED", restored)
        for step in range(n_steps):
            rng = np.random.default_rng(step)
            shifts = rng.integers(32, size=(4, 2))
            blocks = np.stack([np.roll(field(rng.integers(6)), s, (1, 2)) for s in shifts])
            batch = make_batch(blocks, (0, step), layout, wiener, model, torch.device("cpu"), steps)
            frames, noise, log_step, targets = batch.frames()
            truth, start = batch.at_targets(batch.truth), batch.at_targets(batch.decoded)
            answer = student(frames, noise, log_step, targets)
            loss = bits(answer, truth, start, torch.full(targets.shape, 1e-8))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimiser.step()
    return Predictor("student", student, wiener, layout)


@pytest.fixture(scope="module")
def restorer():
    return student_of(sharp, 1.0, (0.05, 0.3), (1,), 60)


@pytest.mark.parametrize("step", [0.08, 0.2])
def test_training_restores_fields_that_it_has_not_seen(restorer, step):
    model, errors = FrequencyModel.base(), []
    for seed in range(50, 53):
        truth = sharp(seed)
        decoded = generative.decoded_frames(truth, step, model.dead_zone_at(step / 3.5), model)
        noise = np.full((1, 7), np.sqrt(np.mean((decoded - truth) ** 2)), np.float32)
        answer = restorer.restore(decoded[None], noise, step)[0]
        errors.append([np.mean((z - truth) ** 2) for z in (decoded, answer)])
    decoded, restored = np.sqrt(np.mean(errors, 0))
    assert restored < 0.92 * decoded


def test_trained_student_acts_on_the_noise_level(restorer):
    """The same frames, said to be exact, are left alone."""
    model, truth = FrequencyModel.base(), sharp(60)
    decoded = generative.decoded_frames(truth, 0.2, model.dead_zone_at(0.06), model)
    right = np.sqrt(np.mean((decoded - truth) ** 2))
    errors = {}
    for told in (right / 30, right):
        noise = np.full((1, 7), told, np.float32)
        answer = restorer.restore(decoded[None], noise, 0.2)[0]
        errors[told] = np.sqrt(np.mean((answer - truth) ** 2))
    assert errors[right] < 0.95 * errors[right / 30]
    assert errors[right / 30] == pytest.approx(right, rel=0.05)


def test_blocks_of_few_patterns_are_coded_in_their_own_modes_and_others_are_not():
    rng, model, step = np.random.default_rng(5), FrequencyModel.base(), 0.3
    dead_zone = model.dead_zone_at(step / 3.5)
    patterns = rng.standard_normal((2, 32, 32)) / 6
    few = np.tensordot(rng.standard_normal((16, 2)), patterns, 1).astype(np.float32)
    decoded = generative.decoded_frames(few, step, dead_zone, model)
    own = generative.in_own_modes(few, decoded, step, dead_zone, model)
    assert np.linalg.matrix_rank(own.reshape(16, -1).astype(np.float64), 1e-4) == 2
    assert np.mean((own - few) ** 2) < np.mean((decoded - few) ** 2)
    noise = rng.standard_normal((16, 32, 32)).astype(np.float32) / 6
    coded = generative.decoded_frames(noise, step, dead_zone, model)
    assert generative.in_own_modes(noise, coded, step, dead_zone, model) is coded


def test_training_learns_motion():
    student = student_of(moving, 0.0, (0.005, 0.02), (1, 2), 60)
    truth = np.stack([moving(s) for s in (40, 41, 42)])
    noise = np.full(truth.shape[:2], 2e-3, np.float32)
    noise[:, [1, 2, 4, 5]] = np.inf
    linear = filled(student.layout, student.wiener, truth, noise)
    errors = [((z - truth) ** 2).mean() for z in (linear, student.restore(truth, noise, 0.01))]
    assert errors[1] < 0.5 * errors[0]


def test_only_a_teacher_who_knows_better_is_listened_to():
    layout = Layout(n_frame=7, channels=8)
    truth = drifting(5, 7)[None].astype(np.float32)
    noise = np.full((1, 7), np.inf, np.float32)
    noise[:, ::3] = 0.01
    targets = np.array([[1, 4]])
    batch = Batch(layout, wiener_of(layout, truth[0]), torch.device("cpu"), truth, truth.copy(),
                  noise, np.array([0.05]), targets)  # fmt: skip
    right = batch.correction
    frames = batch.at_targets(truth)
    answer = (frames + 0.1).requires_grad_()

    def term(taught):
        student = SimpleNamespace(layout=layout)
        return Distiller._distillation(
            student, answer, frames, batch, taught, torch.ones(1, 1, 1, 1)
        )

    assert term(right) > 0 and term(right + 1e6) == 0
    term(right).backward()
    assert answer.grad.mean() > 0  # down towards the teacher, who is right


def test_batches_are_what_the_codec_decodes_and_say_how_noisy_it_is():
    layout, model = Layout(n_frame=16, channels=8), FrequencyModel.base()
    blocks = np.stack([drifting(s, 16) for s in range(12)]).astype(np.float32)
    wiener = wiener_of(layout, blocks[0])

    def batch():
        return make_batch(blocks, (1, 2), layout, wiener, model, torch.device("cpu"))

    made, again = batch(), batch()
    for name in ("decoded", "noise", "steps", "targets"):
        np.testing.assert_array_equal(getattr(made, name), getattr(again, name))
    known = np.isfinite(made.noise)
    patterns = {tuple(np.flatnonzero(row)) for row in known}
    assert tuple(range(16)) in patterns and layout.keyframes in patterns and len(patterns) > 2
    error = made.decoded - made.truth
    for item in range(12):
        ratio = made.noise[item, known[item]] / np.sqrt((error[item, known[item]] ** 2).mean())
        assert 0.6 < ratio.min() <= ratio.max() < 1.6
        assert len(set(made.targets[item])) == made.targets.shape[1]
    assert len(set(made.steps)) == 12


def test_selection_keeps_the_weights_of_the_fewest_bytes():
    network = torch.nn.Linear(1, 1)
    found = iter([{"val_byte_ratio": 0.9, "val_rmse_ratio": 0.5},
                  {"val_byte_ratio": 0.8, "val_rmse_ratio": 0.9},
                  {"val_byte_ratio": 0.85, "val_rmse_ratio": 0.1}])  # fmt: skip
    task, progress = Task(network, None, None, lambda weights: next(found)), Progress()
    for step in (1, 2, 3):
        progress.step = step
        average = SimpleNamespace(weights={"weight": torch.tensor([float(step)])})
        evaluate_task(task, average, progress, 1, 0.0)
    assert progress.best["weight"].item() == 2 and progress.best_value == 0.8
    assert [row["best"] for row in progress.history] == [1, 1, 0]


def test_objectives_select_by_their_own_number():
    found = [{"val_byte_ratio": 0.9, "val_spectrum_error": 0.1},
             {"val_byte_ratio": 0.8, "val_spectrum_error": 0.2}]  # fmt: skip
    for objective, kept in (("rate", 2), ("spectrum", 1)):
        rows, progress = iter(found), Progress()
        task = Task(torch.nn.Linear(1, 1), None, None, lambda weights, rows=rows: next(rows),
                    criterion=train_distillation.CRITERIA[objective])  # fmt: skip
        for step in (1, 2):
            progress.step = step
            average = SimpleNamespace(weights={"weight": torch.tensor([float(step)])})
            evaluate_task(task, average, progress, 1, 0.0)
        assert progress.best["weight"].item() == kept
    assert all(s > r for r, s in zip(OBJECTIVES["rate"], OBJECTIVES["spectrum"], strict=True))


def test_rate_loss_is_half_the_logarithm_of_the_error():
    truth, noise = torch.zeros(1, 2, 8, 8), torch.randn(1, 2, 8, 8)
    none = torch.zeros(1, 2)
    assert bits(noise / 4, truth, noise, none) == pytest.approx(-np.log(4), rel=1e-5)
    # far below the floor nothing is gained
    floor = torch.full((1, 2), 100.0)
    assert bits(noise / 4, truth, noise, floor).abs() < 0.01


def test_batches_made_ahead_come_in_order():
    def slow_first(step):
        time.sleep(0.02 if step == 3 else 0)
        return step

    for workers in (0, 1, 3):
        assert list(prepared(slow_first, 3, 9, workers)) == list(range(3, 9))


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(1.0, step, 1000) for step in range(1000)]
    peak = int(np.argmax(rates))
    assert 20 < peak < 100 and rates[0] < 0.1 and rates[-1] < 0.02
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))


def test_blocks_are_a_function_of_their_number():
    class Sampler:
        seed = 3

        def sample(self, number, batch):
            return np.random.default_rng(number).standard_normal((batch, 4, 2, 2))

    first, again = (draw_blocks(Sampler(), 5, 8) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, Sampler().sample(5, 8))


def test_optional_losses_see_what_they_are_for():
    a = torch.randn(1, 2, 16, 16)
    one = torch.ones(1, 1, 1, 1)
    checkerboard = 0.1 * (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    assert multi_scale_error(a, a + checkerboard, one) < 1e-10
    assert multi_scale_error(a, a + 0.1, one) > 0.01
    assert spectrum_error(a, a.roll(3, -1), one) < 1e-8 < spectrum_error(a, 0.5 * a, one)


def test_cpu_takes_the_whole_batch():
    assert micro_batch(torch.device("cpu"), 4, 1.0, lambda: None) == 4
