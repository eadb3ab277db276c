"""The Snakemake workflow: settings that are refused, what rules and configurations say, style."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from caesar_freq.errors import ConfigError
from caesar_freq.settings import validated
from caesar_freq.workflow import check_settings, evaluation_jobs, flags, run_flags

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
BIN = Path(sys.executable).parent
AFTER_PHASE_1 = {"train_freq_compressor", "train_diffusion", "train_distillation"}
CONFIG = {
    "datasets": {"waves": {"files": ["waves.npz"]}},
    "training": {
        "wavelet": "haar", "use_dwt": True, "latent_channels": 8, "low_freq_size": 2,
        "training_size": 32, "seed": 1,
    },
    "freq_compressor": {
        "dct_block_size": 8, "batch_size": 1, "lambda_bpp": 0.01, "epochs": 1, "lr": 1e-3,
    },
    "diffusion": {
        "unet_dim": 8, "dim_mults": [1, 2], "diffusion_steps": 8, "interpo_rate": 3,
        "n_frame": 16, "batch_size": 1, "epochs": 1, "lr": 1e-3,
    },
    "distillation": {
        "teacher_steps": 8, "student_base_channels": 8, "student_channel_mults": [1],
        "student_num_res_blocks": 1, "batch_size": 1, "epochs": 1, "lr": 1e-3,
    },
    "evaluation": {"codecs": ["frequency", "student", "sz3"], "nrmse": [0.01], "max_rel": []},
}  # fmt: skip


class Checkout:
    """A copy of the project with a finished run of empty files, recorded by Snakemake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("caesar_freq", "workflow"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(ROOT / "environment.yml", folder)
        (folder / "waves.npz").touch()
        self.configure(CONFIG)

    def configure(self, config: dict) -> None:
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(config))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        command = [BIN / "snakemake", "--configfile", "tiny.yaml", "--cores", "1", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def finish(self) -> None:
        """Make every output and let Snakemake record settings and code as those of a real run."""
        rows = self.snakemake("--summary").stdout.splitlines()[1:]
        for row in rows:
            output = self.folder / row.split("\t")[0]
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
        done = self.snakemake("--touch", "--forceall")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


def changed(section: str, **values) -> dict:
    return CONFIG | {section: CONFIG[section] | values}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (changed("distillation", epoch=3), "distillation.epoch is unknown; did you mean epochs?"),
        (changed("training", training_size=48), "training_size is 48, but it must be"),
        (changed("diffusion", lr=-1.0), "key diffusion.lr: -1.0 is less than"),
        (changed("evaluation", codecs=["mp3"]), "key evaluation.codecs.0: 'mp3' is not one of"),
        ({k: v for k, v in CONFIG.items() if k != "training"}, "key training is missing"),
        (CONFIG | {"datasets": {"waves": {"files": ["no.npz"]}}}, "names no.npz, which does not"),
        (CONFIG | {"datasets": {"waves": {}}}, "datasets.waves must have either source or files"),
        (CONFIG | {"datasets": {"waves": {"files": ["waves.npz"], "fractions": [0.5, 0.2, 0.2]}}},
         "fractions of waves add up to 0.9, not to 1"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_in_one_sentence(config, sentence, tmp_path, monkeypatch):
    (tmp_path / "waves.npz").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check_settings(validated(config, SCHEMA))


def test_snakemake_shows_that_sentence_and_stops(checkout):
    checkout.configure(changed("distillation", epoch=3))
    failed = checkout.snakemake("--dry-run")
    assert failed.returncode != 0
    lines = [line for line in (failed.stdout + failed.stderr).splitlines() if line.strip()]
    assert "config: key distillation.epoch is unknown; did you mean epochs?" in lines
    assert len(lines) <= 4  # where, what; no traceback, no schema


def test_numbers_without_a_dot_are_numbers():
    schema = {"properties": {"lr": {"type": "number"}, "name": {"type": "string", "default": "x"}}}
    text = yaml.safe_load("lr: 1e-4")
    assert text == {"lr": "1e-4"}  # what YAML 1.1 makes of it
    assert validated(text, schema) == {"lr": 1e-4, "name": "x"}


@pytest.mark.parametrize("name", ["config", "demo"])
def test_shipped_configurations_are_valid_and_complete(name, tmp_path):
    command = [BIN / "snakemake", "--configfile", ROOT / "config" / f"{name}.yaml", "--dry-run",
               "--snakefile", ROOT / "workflow" / "Snakefile", "--directory", tmp_path,
               "--cores", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^train_distillation +1$", done.stdout, re.M)


def test_the_full_size_configuration_has_the_defaults_of_the_flags():
    from caesar_freq import train_diffusion, train_distillation, train_freq_compressor

    modules = {
        "freq_compressor": (train_freq_compressor, []),
        "diffusion": (train_diffusion, ["--freq_compressor_path", "a"]),
        "distillation": (
            train_distillation,
            ["--freq_compressor_path", "a", "--teacher_path", "b"],
        ),
    }
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    required = ["--train_data", "a", "--val_data", "b"]
    chosen = {"init", "evaluations", "checkpoint_every"}  # how to run, not what is documented
    for phase, (module, paths) in modules.items():
        default = vars(module.parser().parse_args(required + paths))
        words = f"{flags(config, phase)} {run_flags(config, phase)}".split()
        given = vars(module.parser().parse_args(required + paths + words))
        assert {k: v for k, v in given.items() if k not in chosen} == {
            k: v for k, v in default.items() if k not in chosen
        }


@pytest.mark.parametrize(("block", "low", "expected"), [(4, 16, 8), (8, 16, 16), (16, 2, 4)])
def test_phases_2_and_3_see_cells_of_16_whatever_block_phase_1_uses(block, low, expected):
    size = 2 * block * low
    config = changed("training", low_freq_size=low, training_size=size)
    config["freq_compressor"] = config["freq_compressor"] | {"dct_block_size": block}
    check_settings(validated(config | {"datasets": {"w": {"source": "turbulence"}}}, SCHEMA))
    checked = f"--low_freq_size {low} --training_size {size} "
    assert checked in f"{run_flags(config, 'freq_compressor')} "
    for phase in ("diffusion", "distillation"):
        assert f"--low_freq_size {expected} --training_size {size} " in flags(config, phase)


def test_every_rule_says_what_it_needs():
    rules = {}
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        parts = re.split(r"^rule (\w+):$", text, flags=re.M)[1:]
        rules |= dict(zip(parts[::2], parts[1::2], strict=True))
    compression = {
        "source",
        "survey",
        "ranges",
        "compress_part",
        "join",
        "verify_part",
        "compression_table",
    }
    assert set(rules) == {
        "fetch", "split", *AFTER_PHASE_1, "merge", "evaluate", "report", *compression,
    }  # fmt: skip
    for name, body in rules.items():
        for directive in ("log", "benchmark", "threads", "resources", "message"):
            assert f"    {directive}:" in body, (name, directive)
        assert "mem_mb" in body
        assert "runtime" in body
        assert "params: config" not in body
        assert "retries" not in body  # those would run inside a cluster job
    memory = {name: re.findall(r"gpu_mem_gb=(\d+)", rules[name]) for name in AFTER_PHASE_1}
    assert memory == {
        "train_freq_compressor": ["8"], "train_diffusion": ["16"], "train_distillation": ["12"],
    }  # fmt: skip


def test_snakemake_lint_finds_nothing(checkout):
    checkout.configure(CONFIG)
    lint = checkout.snakemake("--lint")
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_snakefiles_are_formatted():
    done = subprocess.run([BIN / "snakefmt", "--check", ROOT / "workflow"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_local_profile_reruns_what_was_interrupted():
    local = yaml.safe_load((ROOT / "profiles" / "local" / "profile.yaml").read_text())
    assert local["rerun-incomplete"] is True


def test_a_peer_without_a_pointwise_bound_gets_no_such_job():
    jobs = evaluation_jobs(
        {
            "datasets": {"a": {}},
            "evaluation": {"codecs": ["tthresh", "ebcc"], "nrmse": [1e-2], "max_rel": [1e-3]},
        }
    )
    assert jobs == ["a/tthresh_nrmse_0.01", "a/ebcc_nrmse_0.01", "a/ebcc_max-rel_0.001"]
