"""What the Snakemake workflow computes from its settings: flags, inputs, jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import UserString
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caesar_freq.data.fetch import SOURCES
from caesar_freq.errors import ConfigError
from caesar_freq.fingerprints import OURS, PACKAGE

#: Keys of `training` that decide the result of a phase, and all that a phase checks. Phase 1 has no
#: tiles; its flags for them are checked, not used.
_SHARED = ("wavelet", "use_dwt", "seed", "latent_channels", "low_freq_size", "training_size")
_UNUSED = {"freq_compressor": ("latent_channels", "low_freq_size", "training_size")}
#: Keys of a phase that change no result.
_HOW_TO_RUN = ("checkpoint_every",)
#: Side of the cells of phases 2 and 3, whatever block phase 1 uses.
_LATENT_CELL = 16
#: Peers without a criterion (`peers.WITHOUT`).
_WITHOUT = {("tthresh", "max-rel")}


def check_settings(config: Mapping[str, Any]) -> None:
    """Settings against each other; the schema has checked them one by one.

    Raises
    ------
    ConfigError
        Naming the keys, their values and what is possible.
    """
    training, phase2 = config["training"], config["diffusion"]
    wanted = 2 * config["freq_compressor"]["dct_block_size"] * training["low_freq_size"]
    if training["training_size"] != wanted:
        raise ConfigError(
            f"training: training_size is {training['training_size']}, but it must be 2 x "
            f"dct_block_size x low_freq_size = {wanted}; change one of the three"
        )
    if wanted % _LATENT_CELL:
        raise ConfigError(
            f"training: training_size is {wanted}; phases 2 and 3 need a multiple of {_LATENT_CELL}"
        )
    start = _init_path(config)
    if start and not start.is_file():
        raise ConfigError(
            f"freq_compressor: init is {start}, which does not exist; give none, base or a model"
        )
    if phase2["interpo_rate"] >= phase2["n_frame"]:
        raise ConfigError(
            f"diffusion: interpo_rate {phase2['interpo_rate']} leaves a block of n_frame "
            f"{phase2['n_frame']} frames with one keyframe; choose a smaller one"
        )
    steps = config["distillation"]["teacher_steps"]
    if steps < 2 or steps & (steps - 1):
        raise ConfigError(f"distillation: teacher_steps is {steps}; give a power of 2, at least 2")
    evaluation = config["evaluation"]
    if not evaluation["nrmse"] and not evaluation["max_rel"]:
        raise ConfigError("evaluation: nrmse and max_rel are both empty; give at least one error")
    for name, data in config["datasets"].items():
        total = sum(data["fractions"])
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"datasets: fractions of {name} add up to {total:g}, not to 1")
        for path in data.get("files", []):
            if not Path(path).is_file():
                raise ConfigError(f"datasets: {name} names {path}, which does not exist")


def compression_plans(config: Mapping[str, Any]) -> dict[str, Any]:
    """`compression.plan.Plan` of every entry of the section ``compress``, by name.

    Raises
    ------
    ConfigError
        Naming the entry, what is wrong and what is possible.
    """
    if not config["compress"]:
        return {}
    from caesar_freq.compression.plan import plan  # reads arrays: of no use to other runs

    return {name: plan(name, entry) for name, entry in config["compress"].items()}


def use_this_interpreter() -> None:
    """Let ``python`` in a rule be the one that runs Snakemake, with no environment activated.

    A conda environment, where the workflow is told to use one, still goes first.
    """
    folder = os.path.dirname(sys.executable)
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def forget_second_names() -> None:
    """Remove those that training phases gave their results, after a workflow that ended well."""
    for folder in Path("checkpoints").glob("*/finished"):
        shutil.rmtree(folder, ignore_errors=True)


class Untracked(UserString):
    """Flags that change no result.

    Snakemake records parameters of plain types only, so that other flags of this type rerun nothing.
    """


def flags(config: Mapping[str, Any], phase: str) -> str:
    """Flags that decide the result of a phase: of its own section and of what all phases share."""
    return _joined(config, phase, used=True)


def run_flags(config: Mapping[str, Any], phase: str) -> Untracked:
    """The other flags of a phase."""
    return Untracked(_joined(config, phase, used=False))


def _joined(config: Mapping[str, Any], phase: str, used: bool) -> str:
    settings = {key: config["training"][key] for key in _SHARED} | dict(config[phase])
    if phase != "freq_compressor":
        settings["low_freq_size"] = settings["training_size"] // _LATENT_CELL
    unused = (*_UNUSED.get(phase, ()), *_HOW_TO_RUN)
    return " ".join(
        _flag(key, value) for key, value in settings.items() if (key not in unused) == used
    )


def start_model(config: Mapping[str, Any]) -> str:
    """SHA-256 of the model that phase 1 starts from: another one in the same place retrains it."""
    path = _init_path(config)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def _init_path(config: Mapping[str, Any]) -> Path | None:
    init = config["freq_compressor"]["init"]
    if init == "base":
        return PACKAGE / "assets" / "base.cfm"
    return None if init == "none" else Path(init)


def _flag(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no-{key}"
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return f"--{key} {value}"


def raw_inputs(config: Mapping[str, Any], dataset: str) -> list[str]:
    """What the split of a data set depends on: its files, or the folder its source makes."""
    data = config["datasets"][dataset]
    return list(data["files"]) if "files" in data else [f"data/raw/{data['source']}"]


def split_files(config: Mapping[str, Any], dataset: str) -> str:
    """Files that the split of a data set reads."""
    data = config["datasets"][dataset]
    if "files" in data:
        return " ".join(f"'{path}'" for path in data["files"])
    return " ".join(f"data/raw/{data['source']}/{file}" for file in SOURCES[data["source"]].files)


def split_flags(config: Mapping[str, Any], dataset: str) -> str:
    """Flags of the split of a data set."""
    data = config["datasets"][dataset]
    parts = [f"--method {data['method']}", _flag("fractions", data["fractions"])]
    if data["method"] == "time":
        parts.append(f"--gap {data['gap']}")
    if "variables" in data:
        parts.append(_flag("variables", data["variables"]))
    if "dims" in data:
        parts.append(_flag("dims", [f"{role}={name}" for role, name in data["dims"].items()]))
    if "fill_value" in data:
        parts.append(f"--fill_value={data['fill_value']!r}")
    return " ".join(parts)


def evaluation_jobs(config: Mapping[str, Any]) -> list[str]:
    """``dataset/codec_criterion_target`` of every measurement."""
    evaluation = config["evaluation"]
    pairs = [("nrmse", t) for t in evaluation["nrmse"]]
    pairs += [("max-rel", t) for t in evaluation["max_rel"]]
    jobs = []
    for dataset in config["datasets"]:
        for codec in evaluation["codecs"]:
            if codec == "zstd":
                jobs.append(f"{dataset}/zstd_lossless_0")
            else:
                jobs += [
                    f"{dataset}/{codec}_{name}_{target:g}"
                    for name, target in pairs
                    if (codec, name) not in _WITHOUT
                ]
    return jobs


def model_of(codec: str) -> str | None:
    """Checkpoint that a codec needs: frequency mode depends on phase 1 alone, peers on none."""
    if codec not in OURS:
        return None
    if codec == "frequency":
        return "checkpoints/freq_compressor/best_model.pth"
    return "checkpoints/combined_model.pth"
