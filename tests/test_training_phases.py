"""Phases 2 and 3 and the merge as commands, with tiny networks on travelling waves."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from caesar_freq import merge, train_diffusion, train_distillation, train_freq_compressor
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.errors import ConfigError, ModelError, run_main
from caesar_freq.models.conditions import filled
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import Predictor, load_predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.models.wiener import WienerFit
from caesar_freq.training import generative
from caesar_freq.training.distiller import Distiller, halvings
from caesar_freq.training.generative import Batch, draw_blocks, make_batch
from caesar_freq.training.loop import Progress, Task, learning_rate, prepared
from caesar_freq.training.loop import _evaluate as evaluate_task
from caesar_freq.training.losses import OBJECTIVES, bits, multi_scale_error, spectrum_error
from caesar_freq.training.memory import micro_batch

SMALL = ("--training_size", "32", "--low_freq_size", "2", "--latent_channels", "8",
         "--batch_size", "2", "--device", "cpu", "--epochs", "1000", "--evaluations", "2",
         "--checkpoint_every", "2")  # fmt: skip
TEACHER = ("--unet_dim", "8", "--dim_mults", "1", "2", "--diffusion_steps", "8",
           "--interpo_rate", "3", "--n_frame", "7")  # fmt: skip
STUDENT = ("--student_base_channels", "8", "--student_channel_mults", "1", "2",
           "--student_num_res_blocks", "1", "--teacher_steps", "8")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from threads, and lose much when the machine is busy."""
    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(threads)
    os.environ.pop("OMP_NUM_THREADS")
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable


def drifting(seed, frames=40, size=32):
    """A pattern that drifts two cells a frame: easy for a network that knows motion."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    ky, kx = np.fft.fftfreq(size)[:, None] * size, np.arange(size // 2 + 1)
    spectrum *= np.exp(-(ky**2 + kx**2) / 30)
    pattern = np.fft.irfft2(spectrum)
    return np.stack([np.roll(pattern, (2 * t, t), (0, 1)) for t in range(frames)])


def tensors_of_base():
    """The packaged frequency model as phase 1 stores it."""
    state = FrequencyModel.base().state_dict()
    return {k: torch.from_numpy(v.astype(np.int32 if v.dtype == np.uint32 else v.dtype))
            for k, v in state.items()}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Files of a whole small run, and the flags of its phases."""
    folder = tmp_path_factory.mktemp("run")
    for name, seeds in (("train", (1, 2, 3)), ("val", (4,))):
        data = np.stack([drifting(s) for s in seeds])[None].astype(np.float32)
        np.savez(folder / f"{name}.npz", data=data)
    config = {"latent_channels": 8, "wavelet": "haar", "use_dwt": True}
    torch.save({"model_state_dict": tensors_of_base(), "config": config,
                "format": "caesar-freq/frequency/1"}, folder / "freq.pth")  # fmt: skip
    data = ("--train_data", str(folder / "train.npz"), "--val_data", str(folder / "val.npz"),
            "--freq_compressor_path", str(folder / "freq.pth"))  # fmt: skip
    teacher = (*data, *SMALL, *TEACHER)
    student = (*data, *SMALL, *STUDENT, "--teacher_path", str(folder / "diffusion_best.pth"))
    train_diffusion.main([*teacher, "--max_steps", "60", "--lr", "3e-3",
                          "--output_dir", str(folder)])  # fmt: skip
    os.rename(folder / "history.csv", folder / "teacher.csv")
    train_distillation.main([*student, "--max_steps", "60", "--lr", "3e-3",
                             "--output_dir", str(folder)])  # fmt: skip
    os.rename(folder / "history.csv", folder / "student.csv")
    return folder, teacher, student


def history(path):
    with open(path) as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_histories_tell_losses_and_bytes(run):
    folder, *_ = run
    for name in ("teacher", "student"):
        rows = history(folder / f"{name}.csv")
        assert [row["step"] for row in rows] == [30, 60]
        assert all(np.isfinite(list(row.values())).all() for row in rows)
        assert min(row["val_byte_ratio"] for row in rows) > 0
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_teacher_is_no_worse_than_what_it_starts_from(run):
    folder, *_ = run
    assert min(row["val_rmse_ratio"] for row in history(folder / "teacher.csv")) < 1.02


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


def test_training_learns_motion():
    student = student_of(moving, 0.0, (0.005, 0.02), (1, 2), 60)
    truth = np.stack([moving(s) for s in (40, 41, 42)])
    noise = np.full(truth.shape[:2], 2e-3, np.float32)
    noise[:, [1, 2, 4, 5]] = np.inf
    linear = filled(student.layout, student.wiener, truth, noise)
    errors = [((z - truth) ** 2).mean() for z in (linear, student.restore(truth, noise, 0.01))]
    assert errors[1] < 0.5 * errors[0]


def test_results_load_safely_and_leave_no_resume_folder(run):
    folder, *_ = run
    assert not (folder / "resume").exists()
    part = torch.load(folder / "student_best.pth", weights_only=True)
    assert {"student_state_dict", "wiener", "config", "format"} <= set(part)
    assert part["config"]["frequency_model"] == FrequencyModel.base().fingerprint
    block = drifting(9, 7)[None, ::3].astype(np.float32)
    for kind, name in (("teacher", "diffusion_best.pth"), ("student", "student_best.pth")):
        frames = load_predictor(folder / name, kind).predict(block, 0.02)
        assert frames.shape == (1, 4, 32, 32) and np.isfinite(frames).all()


def kill_and_resume(module, flags, path):
    """Weights of an undisturbed run, and of one that SIGKILL struck, whose results were then lost."""
    main = {"train_diffusion": train_diffusion, "train_distillation": train_distillation}[
        module
    ].main
    results = []
    for name in ("whole", "killed"):
        out = path / name
        out.mkdir()
        if name == "killed":
            command = [sys.executable, "-m", f"caesar_freq.{module}", *flags,
                       "--output_dir", str(out)]  # fmt: skip
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while not list(out.glob("resume/*/last.ckpt")) and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert list(out.glob("resume/*/last.ckpt"))
            main([*flags, "--output_dir", str(out)])
            for lost in (*out.glob("*_best.pth"), out / "history.csv"):
                lost.unlink()
        main([*flags, "--output_dir", str(out)])
        assert (out / "history.csv").exists()
        results.append(torch.load(next(out.glob("*_best.pth")), weights_only=True))
    return results


@pytest.mark.parametrize("module", ["train_diffusion", "train_distillation"])
def test_killed_run_ends_with_the_same_weights(module, run, tmp_path, capsys):
    _, teacher, student = run
    flags = (*teacher, "--max_steps", "8")
    if module == "train_distillation":
        flags = (*student, "--max_steps", "8", "--progressive")
    whole, killed = kill_and_resume(module, flags, tmp_path)
    said = capsys.readouterr().out
    assert "resumed at step" in said and said.count("this run had ended") == 1
    key = next(k for k in whole if k.endswith("state_dict"))
    for name, value in whole[key].items():
        assert torch.equal(value, killed[key][name]), name


def test_stop_signal_saves_and_says_how_to_go_on(run, tmp_path):
    _, teacher, _ = run
    command = [sys.executable, "-m", "caesar_freq.train_diffusion", *teacher, "--max_steps", "4000",
               "--output_dir", str(tmp_path)]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not list(tmp_path.glob("resume/*/last.ckpt")) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM" in errors and "last.ckpt" in errors


def test_merge_combines_what_belongs_together(run, tmp_path):
    folder, *_ = run
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"sha256": "feed"}')
    out = tmp_path / "combined_model.pth"
    merge.main(["--freq_compressor_path", str(folder / "freq.pth"),
                "--diffusion_path", str(folder / "diffusion_best.pth"),
                "--distillation_path", str(folder / "student_best.pth"),
                "--manifests", str(manifest), "--output", str(out)])  # fmt: skip
    combined = torch.load(out, weights_only=True)
    assert set(combined) == {"freq_compressor", "diffusion", "single_step_diffusion", "config",
                             "format"}  # fmt: skip
    card = (tmp_path / "model_card.md").read_text()
    assert "feed" in card and load_predictor(out, "student").sha256 in card
    assert (tmp_path / "model.safetensors").stat().st_size > 1000
    keys = drifting(9, 7)[None, ::3].astype(np.float32)
    alone = load_predictor(folder / "student_best.pth", "student").predict(keys, 0.02)
    np.testing.assert_array_equal(load_predictor(out, "student").predict(keys, 0.02), alone)


def test_merge_refuses_strangers(run, tmp_path):
    folder, *_ = run
    files = [folder / name for name in ("freq.pth", "diffusion_best.pth", "student_best.pth")]
    with pytest.raises(ModelError, match="student_best.pth has format"):
        merge.merge(files[0], files[2], files[2])
    other = torch.load(files[2], weights_only=True)
    other["config"]["layout"]["channels"] = 9
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth"):
        merge.merge(files[0], files[1], tmp_path / "other.pth")
    other["config"]["frequency_model"] = "0" * 64
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="another frequency compressor"):
        merge.merge(files[0], files[1], tmp_path / "other.pth")


def test_student_refuses_a_wrong_teacher(run, tmp_path):
    folder, _, student = run
    wrong = [*student, "--output_dir", str(tmp_path), "--max_steps", "1"]
    with pytest.raises(ModelError, match="is no teacher"):
        train_distillation.main([*wrong, "--teacher_path", str(folder / "student_best.pth")])
    with pytest.raises(ModelError, match="same latent settings"):
        train_distillation.main([*wrong, "--latent_channels", "9"])
    cfm = resources.files("caesar_freq") / "assets" / "base.cfm"
    with pytest.raises(ModelError, match="gone"):
        train_distillation.main([*wrong, "--freq_compressor_path", str(cfm) + ".gone"])


@pytest.mark.parametrize(
    "flags", [("--n_frame", "8"), ("--dim_mults", "0"), ("--evaluations", "0")]
)
def test_impossible_teacher_flags_are_named(flags, run, tmp_path):
    with pytest.raises(ConfigError, match=flags[0]):
        train_diffusion.main([*run[1], *flags, "--output_dir", str(tmp_path)])


def test_teacher_steps_must_halve(run, tmp_path):
    assert halvings(32) == [16, 8, 4, 2, 1]
    with pytest.raises(ConfigError, match="--teacher_steps"):
        train_distillation.main([*run[2], "--teacher_steps", "6", "--output_dir", str(tmp_path)])


def test_training_goes_on_from_a_student_of_the_same_size(run, tmp_path):
    folder, _, flags = run
    more = [*flags, "--max_steps", "2", "--lr", "1e-9", "--evaluations", "1", "--output_dir", str(tmp_path),
            "--init", str(folder / "student_best.pth")]  # fmt: skip
    train_distillation.main(more)
    before, after = (
        torch.load(path / "student_best.pth", weights_only=True)["student_state_dict"]
        for path in (folder, tmp_path)
    )
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="of another size"):
        train_distillation.main([*more, "--student_base_channels", "4"])
    with pytest.raises(ModelError, match="holds no student"):
        train_distillation.main([*more, "--init", str(folder / "diffusion_best.pth")])


@pytest.mark.parametrize("limits", [("0", "0.5"), ("0.5", "0.1"), ("0.1", "2")])
def test_impossible_ranges_of_steps_are_named(limits, run, tmp_path):
    for main, flags in zip((train_diffusion.main, train_distillation.main), run[1:]):
        with pytest.raises(ConfigError, match="--step_range"):
            main([*flags, "--step_range", *limits, "--output_dir", str(tmp_path)])


def wiener_of(layout, block):
    fit = WienerFit(layout)
    fit.add(block)
    return fit.solve()


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


@pytest.mark.parametrize(
    ("module", "paths", "ways"),
    [
        (train_freq_compressor, [], "--batch_size"),
        (train_diffusion, ["freq"], "--unet_dim or --training_size"),
        (train_distillation, ["freq", "teacher"], "--student_base_channels or --training_size"),
    ],
)
def test_exhausted_gpu_memory_is_one_sentence_that_says_what_to_lower(
    module, paths, ways, tmp_path, monkeypatch, capsys
):
    def exhausted(device, budget):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(module, "cap_memory", exhausted)
    data = tmp_path / "data.npz"
    np.savez(data, data=np.zeros((1, 1, 8, 32, 32), np.float32))
    flags = {"freq": "--freq_compressor_path", "teacher": "--teacher_path"}
    given = [word for path in paths for word in (flags[path], str(data))]
    with pytest.raises(SystemExit) as left:
        run_main(module.main, ["--train_data", str(data), "--val_data", str(data), *SMALL, *given,
                               "--gpu_mem_gb", "7", "--output_dir", str(tmp_path)])  # fmt: skip
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"error: the GPU's memory is exhausted within --gpu_mem_gb 7; lower {ways}, or raise "
        "--gpu_mem_gb on a larger card"
    ]
