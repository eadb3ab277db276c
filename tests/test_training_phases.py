"""Phases 2 and 3 and the merge as commands, with tiny networks on travelling waves."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from importlib import resources

import numpy as np
import pytest
import torch
from training_runs import (
    SMALL,
    STUDENT,
    TEACHER,
    drifting,
    one_thread,  # noqa: F401 a fixture
    tensors_of_base,
)

from caesar_freq import merge, train_diffusion, train_distillation, train_freq_compressor
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.errors import ConfigError, ModelError, run_main
from caesar_freq.models.predictor import load_predictor
from caesar_freq.training import frequency_trainer
from caesar_freq.training.distiller import halvings


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


@pytest.mark.parametrize(
    ("module", "trainer", "paths", "ways"),
    [
        (train_freq_compressor, frequency_trainer, [], "--batch_size"),
        (train_diffusion, train_diffusion, ["freq"], "--unet_dim or --training_size"),
        (train_distillation, train_distillation, ["freq", "teacher"],
         "--student_base_channels or --training_size"),
    ],
)  # fmt: skip
def test_exhausted_gpu_memory_is_one_sentence_that_says_what_to_lower(
    module, trainer, paths, ways, tmp_path, monkeypatch, capsys
):
    def exhausted(device, budget):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(trainer, "cap_memory", exhausted)
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
