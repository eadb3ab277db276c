"""What commands are given: values and files, checked before any work, with errors that name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caesar_freq.errors import CorruptStreamError, InputError, ModelError
from caesar_freq.generators import generators_of

if TYPE_CHECKING:  # the commands load as little as they can
    from caesar_freq.codec.container import Container

#: Relative bounds have a default; an absolute one would depend on the data.
DEFAULT_BOUNDS = {"rel": 1e-3, "nrmse": 1e-3, "pw_rel": 1e-3, "lossless": 0.0}


def bound_of(mode: str, bound: float | None) -> float:
    """The bound to keep: the one given, or the default of the mode where it has one."""
    if bound is None and mode not in DEFAULT_BOUNDS:
        raise InputError(f"--mode {mode} needs a bound; give one with --bound")
    if mode == "lossless" and bound:
        raise InputError(f"--mode lossless takes no bound; drop --bound {bound:g}")
    return DEFAULT_BOUNDS[mode] if bound is None else bound


def range_of(name: str, text: str | None) -> slice | int | None:
    """The part of an axis that ``a:b``, ``a:``, ``:b`` or ``a`` names."""
    if text is None:
        return None
    try:
        ends = [int(end) if end.strip() else None for end in text.split(":")]
        if len(ends) == 2:
            return slice(*ends)
        (number,) = ends
        return int(number)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--{name} {text} is not a range; give start:stop, such as 10:20, :20 or -5:"
        ) from error


def check_source(path: Path) -> None:
    """Refuse an input that is not there."""
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; check the path")


def info_of(source: Path) -> dict[str, Any]:
    """What `caesar_freq.info` says of a file."""
    from caesar_freq.codec.contents import info as read_info

    check_source(source)
    with open(source, "rb") as file:
        return named(source, read_info, file)


def models_of(stream: Container, source: Path, model: str | None, device: str) -> tuple:
    """Predictors of generated frames and the frequency model that a stream is to be decoded with."""
    from caesar_freq.codec.model import load_frequency_model

    generators = []
    if stream.header.generator_sha256 and model:
        generators = generators_of(info_of(source), model, device)
    return generators, load_frequency_model(model) if model and not generators else None


def named(source: Path, function: Callable, *arguments, **options):
    """Call `function`; errors about a stream get the file's name."""
    try:
        return function(*arguments, **options)
    except (CorruptStreamError, ModelError) as error:
        raise type(error)(about(source, error)) from error


def about(source: Path, error: Exception) -> str:
    """The message of an error, which names the file."""
    return str(error) if str(source) in str(error) else f"{source}: {error}"


def names_of(source: Path, metadata: bytes) -> list[str] | None:
    """Names of the variables in a file, None where it has none."""
    if not metadata:
        return None
    from caesar_freq.data.metadata import field_names

    return named(source, field_names, metadata)


def check_target(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output that cannot be written before the work is done."""
    if path.suffix.lower() not in suffixes:
        raise InputError(f"OUT is {path}; its name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"OUT is {path}, which is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist; make it first")
