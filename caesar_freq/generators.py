"""Teacher and student as the options --model, --strategy and --device name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from caesar_freq.errors import InputError, ModelError


def generators_for(model: str, strategy: str | None, device: str) -> list:
    """Predictors for `strategy`; for auto, and without a strategy, those that `model` has."""
    if strategy == "frequency" or (strategy is None and not model.endswith(".pth")):
        return []
    if model == "base":
        raise InputError(
            f"--strategy {strategy} needs a trained model; give --model combined_model.pth"
        )
    if strategy in ("student", "teacher"):
        return _load(model, [strategy], device)
    predictor = _predictor_module()
    checkpoint = predictor.load_checkpoint(model)
    kinds = [kind for kind, (section, *_) in predictor.KINDS.items() if section in checkpoint]
    if strategy and not kinds:
        raise ModelError(
            f"{model} holds no teacher or student for --strategy {strategy}; give a "
            "combined_model.pth"
        )
    return _load(model, kinds, device)


def generators_of(header: Mapping[str, Any], model: str, device: str) -> list:
    """Predictors that a file with generated frames needs."""
    if not header["generator_sha256"]:
        return []
    from caesar_freq.codec.segments import models_in

    return _load(model, sorted(models_in(header["modes_used"])), device)


def _load(model: str, kinds: Sequence[str], device: str) -> list:
    predictor = _predictor_module()
    if device == "cuda" and not import_module("torch").cuda.is_available():
        raise InputError("--device cuda needs a CUDA device and there is none; use --device cpu")
    return [predictor.load_predictor(model, kind, device) for kind in kinds]


def _predictor_module():
    """`models.predictor`, imported only where frames are generated since it needs torch."""
    try:
        return import_module("caesar_freq.models.predictor")
    except ModuleNotFoundError as error:
        raise missing("generated frames need", error) from error


def missing(what: str, error: ModuleNotFoundError) -> InputError:
    """An error that names the package to install."""
    return InputError(
        f"{what} the package {error.name}, which is not installed; install it with pip install "
        "'caesar-freq[workflow]'"
    )
