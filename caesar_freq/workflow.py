"""What the Snakemake workflow computes from its settings: flags, inputs, jobs, fingerprints."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from caesar_freq.data.fetch import SOURCES
from caesar_freq.errors import ConfigError

#: Keys of `training` that reach the phases.
_SHARED = ("wavelet", "use_dwt", "latent_channels", "low_freq_size", "training_size", "seed")
#: Side of the cells of phases 2 and 3, whatever block phase 1 uses.
_LATENT_CELL = 16
PACKAGE = Path(__file__).parent
_OURS = ("frequency", "teacher", "student", "auto")
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


def use_this_interpreter() -> None:
    """Let ``python`` in a rule be the one that runs Snakemake, with no environment activated.

    A conda environment, where the workflow is told to use one, still goes first.
    """
    folder = os.path.dirname(sys.executable)
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")


def flags(config: Mapping[str, Any], phase: str) -> str:
    """Command line of a phase: its own section and what all phases share, nothing else."""
    settings = {key: config["training"][key] for key in _SHARED} | dict(config[phase])
    if phase != "freq_compressor":
        settings["low_freq_size"] = settings["training_size"] // _LATENT_CELL
    return " ".join(_flag(key, value) for key, value in settings.items())


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
    if codec not in _OURS:
        return None
    if codec == "frequency":
        return "checkpoints/freq_compressor/best_model.pth"
    return "checkpoints/combined_model.pth"


def fingerprint(*modules: str, lazy: bool = True) -> str:
    """Hash of modules and of all modules of the package that they import, directly or not.

    A rule that has it as a parameter reruns when its code changes, and only then. The sources are
    read, never run. Imports inside functions count unless `lazy` is false. Files beside the modules
    of `caesar_freq.reporting` that are no Python (the template) count with them.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_closure(modules, lazy).items()):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
        if name == "caesar_freq.reporting":
            for template in sorted(path.parent.glob("*.j2")):
                digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def evaluation_code(codec: str) -> str:
    """Fingerprint of what measuring a codec runs: an edit of the student leaves peers alone."""
    if codec == "frequency":
        return fingerprint("caesar_freq.evaluate", "caesar_freq.api", lazy=False)
    return fingerprint("caesar_freq.evaluate", lazy=codec in _OURS)


def _closure(modules: Iterable[str], lazy: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path and name not in found:
            found[name] = path
            waiting += _imports(path, lazy)
            waiting.append(name.rpartition(".")[0])  # importing a.b runs a/__init__.py first
    return found


def _imports(path: Path, lazy: bool) -> Iterator[str]:
    """Names below this package that the source at `path` imports; some are no modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source(name: str) -> Path | None:
    """File of a module of this package; None for anything else."""
    package, *parts = name.split(".")
    if package != "caesar_freq" or not parts:
        return None
    path = PACKAGE.joinpath(*parts)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
