"""Side checkpoints, random state and the shared flags."""

from __future__ import annotations

import argparse
import os
import random
import signal

import numpy as np
import pytest
import torch

from caesar_freq import workflow
from caesar_freq.errors import ConfigError, ModelError
from caesar_freq.training.args import add_common_args, check_common_args, resolve_device
from caesar_freq.training.checkpoint import (
    Checkpointer,
    install_stop_handler,
    rng_state,
    set_rng_state,
    settings_key,
)


def parsed(tmp_path, *extra):
    data = tmp_path / "x.npz"
    data.write_bytes(b"")
    parser = argparse.ArgumentParser()
    add_common_args(parser, "diffusion")
    return parser.parse_args(["--train_data", str(data), "--val_data", str(data), *extra])


def test_key_ignores_order_and_sees_values():
    assert settings_key({"a": 1, "b": 2}) == settings_key({"b": 2, "a": 1})
    assert settings_key({"a": 1}) != settings_key({"a": 2})


PHASE = "caesar_freq.train_diffusion"


def test_checkpoint_round_trip(tmp_path):
    first = Checkpointer(tmp_path, {"lr": 1}, 10, PHASE)
    assert first.load() is None
    first.save({"step": 3, "w": torch.arange(4.0)})
    again = Checkpointer(tmp_path, {"lr": 1}, 10, PHASE).load()
    assert again["step"] == 3 and torch.equal(again["w"], torch.arange(4.0))
    assert Checkpointer(tmp_path, {"lr": 2}, 10, PHASE).load() is None
    first.finish([])
    assert not first.path.parent.exists()


def test_results_of_an_ended_run_are_put_back_unless_settings_or_code_are_others(
    tmp_path, monkeypatch
):
    def ended(settings=None, module=PHASE):
        return Checkpointer(tmp_path, settings or {"lr": 1}, 10, module).put_back()

    assert not ended()
    results = [tmp_path / name for name in ("best.pth", "history.csv")]
    for path in results:
        path.write_bytes(path.name.encode())
    Checkpointer(tmp_path, {"lr": 1}, 10, PHASE).finish(results)
    for path in results:
        path.unlink()  # as Snakemake does before it runs a rule again
    assert not ended({"lr": 2}) and not ended(module="caesar_freq.train_distillation")
    with monkeypatch.context() as changed:
        changed.setattr("caesar_freq.fingerprints.fingerprint", lambda *_, **__: "other code")
        assert not ended()
    assert not any(path.exists() for path in results)
    assert ended()
    assert [path.read_bytes() for path in results] == [path.name.encode() for path in results]


def test_second_names_work_without_links_and_go_with_the_workflow(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    folder = tmp_path / "checkpoints" / "diffusion"
    keeper = Checkpointer(folder, {}, 1, PHASE)
    (folder / "best.pth").write_bytes(b"weights")
    monkeypatch.setattr(os, "link", refuse)
    keeper.finish([folder / "best.pth"])
    (folder / "best.pth").unlink()
    assert keeper.put_back() and (folder / "best.pth").read_bytes() == b"weights"
    monkeypatch.chdir(tmp_path)
    workflow.forget_second_names()
    assert not (folder / "finished").exists() and (folder / "best.pth").exists()


def test_damaged_checkpoint_is_named(tmp_path):
    keeper = Checkpointer(tmp_path, {}, 1, PHASE)
    keeper.save({"w": torch.zeros(100)})
    keeper.path.write_bytes(keeper.path.read_bytes()[:200])
    with pytest.raises(ModelError, match="last.ckpt"):
        keeper.load()


def test_random_state_survives_a_checkpoint(tmp_path):
    generator = np.random.default_rng(5)
    keeper = Checkpointer(tmp_path, {}, 1, PHASE)
    keeper.save({"rng": rng_state(generator)})

    def draw():
        return random.random(), generator.random(), torch.rand(3).tolist()

    expected = draw()
    draw()
    set_rng_state(keeper.load()["rng"], generator)
    assert draw() == expected


def test_stop_handler_waits_then_exits(tmp_path, capsys):
    old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        stop = install_stop_handler()
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.requested
        with pytest.raises(SystemExit) as left:
            stop.exit(tmp_path)
        assert left.value.code == 128 + signal.SIGUSR1
        assert "SIGUSR1" in capsys.readouterr().err
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def test_documented_defaults(tmp_path):
    args = parsed(tmp_path)
    assert (args.latent_channels, args.low_freq_size, args.training_size) == (32, 16, 256)
    assert (args.epochs, args.lr, args.gpu_mem_gb, args.device) == (100, 1e-4, 16.0, "cuda")
    assert args.use_dwt and not parsed(tmp_path, "--no-use_dwt").use_dwt
    check_common_args(args)


@pytest.mark.parametrize(
    "flags",
    [
        ("--training_size", "128"),
        ("--lr", "-1"),
        ("--epochs", "0"),
        ("--latent_channels", "300"),
        ("--max_steps", "-1"),
        ("--gpu_mem_gb", "nan"),
    ],
)
def test_contradictory_flags_are_named(tmp_path, flags):
    with pytest.raises(ConfigError, match=flags[0]):
        check_common_args(parsed(tmp_path, *flags))


def test_missing_data_file_is_named(tmp_path):
    args = parsed(tmp_path)
    args.val_data[0].unlink()
    with pytest.raises(ConfigError, match="x.npz"):
        check_common_args(args)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_gpu_is_a_clear_error():
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="--device auto"):
        resolve_device("cuda")
