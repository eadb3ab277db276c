"""Files with frames made by a teacher or student, through the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from caesar_freq import cli
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.models.predictor import KINDS, build_network


def field(frames=32):
    """A wave that moves slowly: frames between keyframes are easy to tell."""
    t, y, x = np.ogrid[:frames, :32, :32]
    noise = np.random.default_rng(0).standard_normal((frames, 32, 32))
    return (np.sin(x / 5 + t / 40) * np.cos(y / 7) + 1e-3 * noise).astype(np.float32)


def random_walk(n_frame):
    """Moments of a slow random walk, whose best estimate is linear between the nearest keyframes."""
    time = np.arange(n_frame)
    one = np.exp(-np.abs(time[:, None] - time) / 200)
    return torch.tensor(np.broadcast_to(one, (256, n_frame, n_frame)).copy()).float()


def write_combined(path, seed=0):
    """A combined checkpoint with small untrained networks."""
    torch.manual_seed(seed)
    layout = {"n_frame": 16, "interpo_rate": 3, "channels": 8, "wavelet": "haar", "use_dwt": True}
    networks = {
        "teacher": {"dim": 8, "dim_mults": [1], "channels": 8},
        "student": {"base_channels": 8, "channel_mults": [1], "num_res_blocks": 1},
    }
    wiener = {"covariance": random_walk(16)}
    state = FrequencyModel.base().state_dict()
    frequency = {
        name: torch.from_numpy(np.array(value, copy=True)) for name, value in state.items()
    }
    combined = {
        "freq_compressor": {"model_state_dict": frequency},
        "format": "caesar-freq/combined/1",
    }
    for kind, (section, weights, layout_format) in KINDS.items():
        config = {"network": networks[kind], "layout": layout, "diffusion_steps": 2}
        combined[section] = {
            weights: build_network(kind, networks[kind]).state_dict(), "wiener": wiener, "config": config,
            "format": layout_format,
        }  # fmt: skip
    torch.save(combined, path)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in a folder with data and a combined model; exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", field())
    write_combined("model.pth")

    def call(line):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(line.split())
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


STRATEGIES = {
    "frequency": {"plain"},
    "teacher": {"teacher"},
    "student": {"student"},
    "auto": {"plain", "student", "teacher"},
}


def test_files_of_every_strategy_keep_their_bound_in_a_fresh_process(run):
    for strategy, kinds in STRATEGIES.items():
        name = f"{strategy}.cfq"
        code, _, err = run(f"compress x.npy {name} --model model.pth --strategy {strategy}")
        assert code == 0, err
        about = json.loads(run(f"info {name} --json")[1])
        used = set(about["modes_used"])
        assert sum(about["modes_used"].values()) == 32 and used <= kinds
        assert bool(about["generator_sha256"]) == bool(used & {"student", "teacher"})
    program = (
        "import sys\nfrom caesar_freq.cli import main\n"
        "for name in sys.argv[1:]:\n"
        "    try: main(f'verify x.npy {name}.cfq --model model.pth'.split())\n"
        "    except SystemExit as stop: assert stop.code == 0, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *STRATEGIES],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bound_held            True") == len(STRATEGIES)


def test_combined_model_means_auto_and_is_never_worse_than_frequency(run, tmp_path):
    sizes = {}
    for options in ("", " --strategy auto", " --strategy frequency"):
        assert run(f"compress x.npy x.cfq --mode nrmse --model model.pth{options}")[0] == 0
        sizes[options] = (tmp_path / "x.cfq").read_bytes()
    assert sizes[""] == sizes[" --strategy auto"]
    # naming the generator in the head takes some bytes, no more
    assert len(sizes[""]) <= len(sizes[" --strategy frequency"]) + 60


def test_generated_frames_need_the_very_model(run, tmp_path):
    assert run("compress x.npy x.cfq --model model.pth --strategy student")[0] == 0
    write_combined("other.pth", seed=1)
    for options, words in [("", "needs the model model.pth"), (" --model other.pth", "sha256"),
                           (" --model absent.pth", "absent.pth does not exist")]:  # fmt: skip
        code, out, err = run(f"decompress x.cfq y.npy{options}")
        assert code == 2 and words in err and err.count("\n") == 1 and out == ""
    assert not (tmp_path / "y.npy").exists()
    assert run("decompress x.cfq y.npy --model model.pth")[0] == 0
    x, y = np.load("x.npy"), np.load("y.npy")
    assert np.abs(x - y).max() <= 1e-3 * np.ptp(x)


def test_model_without_networks_cannot_generate(run):
    checkpoint = torch.load("model.pth", weights_only=True)
    torch.save({"freq_compressor": checkpoint["freq_compressor"]}, "plain.pth")
    for strategy in ("auto", "student", "teacher"):
        code, _, err = run(f"compress x.npy x.cfq --model plain.pth --strategy {strategy}")
        assert code == 2 and "plain.pth holds no" in err and "combined_model.pth" in err
    assert run("compress x.npy x.cfq --model plain.pth")[0] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(run):
    code, _, err = run("compress x.npy x.cfq --model model.pth --device cuda")
    assert code == 2 and "--device cpu" in err
