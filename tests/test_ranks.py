"""Several processes train as one with the same batch does, stop together and resume."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import SMALL, TEACHER, drifting, tensors_of_base

from caesar_freq import train_diffusion
from caesar_freq.errors import ConfigError
from caesar_freq.training import ranks
from caesar_freq.training.ranks import Ranks

ROOT = Path(train_diffusion.__file__).parents[1]
BATCH = ("--batch_size", "3", "--seed", "7")  # three items for two processes: shares of 1 and 2


def test_every_item_is_taken_once():
    for size in (1, 2, 3, 5):
        items = [i for rank in range(size) for i in range(5)[Ranks(rank, size).share(5)]]
        assert items == list(range(5))
    with pytest.raises(ConfigError, match="--batch_size 2 has no share for each of 3 processes"):
        Ranks(0, 3).share(2)


def test_phase_1_says_that_it_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        ranks.refuse_many()


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for name, seed in (("train", 1), ("val", 4)):
        np.savez(folder / f"{name}.npz", data=drifting(seed)[None, None].astype(np.float32))
    config = {"latent_channels": 8, "wavelet": "haar", "use_dwt": True}
    torch.save({"model_state_dict": tensors_of_base(), "config": config,
                "format": "caesar-freq/frequency/1"}, folder / "freq.pth")  # fmt: skip
    return ["--train_data", str(folder / "train.npz"), "--val_data", str(folder / "val.npz"),
            "--freq_compressor_path", str(folder / "freq.pth"), *SMALL, *TEACHER, *BATCH]  # fmt: skip


def start(flags, folder, size, *more) -> list[subprocess.Popen]:
    """The processes of one training run."""
    module = ("-m", "caesar_freq.train_diffusion")
    return launch([*module, *flags, "--output_dir", str(folder), *more], size)


def launch(arguments, size) -> list[subprocess.Popen]:
    """Processes that know of each other, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size),
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, *arguments]
    return [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(size)
    ]  # fmt: skip


def finish(processes, code=0) -> list[str]:
    out = [process.communicate(timeout=400)[0] for process in processes]
    assert [p.returncode for p in processes] == [code] * len(processes), out
    return out


ADD_UP = """
import torch
from caesar_freq.training.ranks import join
ranks = join(torch.device("cpu"))
a, b, unused = (torch.nn.Parameter(torch.zeros(n)) for n in (2, 3, 1))
a.grad, b.grad = torch.full((2,), 1.0 + ranks.rank), torch.full((3,), 10.0 * ranks.rank)
print(ranks.add_up([a, unused, b], 0.25, float(ranks.rank)), a.grad.tolist(), b.grad.tolist())
"""


def test_gradients_and_numbers_are_summed():
    for text in finish(launch(["-c", ADD_UP], 2)):
        assert text.splitlines()[-1] == "[0.5, 1.0] [3.0, 3.0] [10.0, 10.0, 10.0]"


def history(folder):
    with open(folder / "history.csv") as stream:
        return list(csv.DictReader(stream))


def weights(folder):
    return torch.load(folder / "diffusion_best.pth", weights_only=True)["diffusion_state_dict"]


def test_two_processes_give_the_curve_and_the_weights_of_one(flags, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    steps = ("--max_steps", "6", "--lr", "3e-3")
    finish(start(flags, one, 1, *steps))
    out = finish(start(flags, two, 2, *steps))
    # only the first process evaluates
    assert ["val_byte_ratio" in text for text in out] == [True, False]
    assert [row["step"] for row in history(two)] == ["3", "6"]
    for a, b in zip(history(one), history(two), strict=True):
        assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), rel=1e-4)
        assert float(a["val_byte_ratio"]) == pytest.approx(float(b["val_byte_ratio"]), rel=1e-3)
    expected, found = weights(one), weights(two)
    # Adam divides by the size of a gradient, and so magnifies the rounding of tiny ones
    far = sum(float(((found[name] - value) ** 2).sum()) for name, value in expected.items())
    assert far < 1e-6 * sum(float((value**2).sum()) for value in expected.values())


def test_a_signal_to_one_process_stops_all_and_one_process_goes_on(flags, tmp_path):
    processes = start(flags, tmp_path, 2, "--max_steps", "100000", "--evaluations", "1")
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("resume/*/last.ckpt")):
        assert all(p.poll() is None for p in processes) and time.monotonic() < deadline
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    out = finish(processes, 128 + signal.SIGTERM)
    assert all("run the same command to continue" in text for text in out)
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "stopped"
    (single,) = start(flags, tmp_path, 1, "--max_steps", "100000", "--evaluations", "1")
    for line in single.stdout:
        if "resumed at step" in line:
            break
    else:
        pytest.fail("did not resume")
    single.terminate()
    finish([single], 128 + signal.SIGTERM)
