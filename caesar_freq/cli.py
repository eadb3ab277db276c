"""The command ``caesar-freq``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from caesar_freq import __version__
from caesar_freq.errors import InputError, run_main

app = typer.Typer(
    name="caesar-freq",
    help="Error-bounded compression of spatio-temporal fields.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
#: Rule modules that are commands of their own; each prints its flags with --help.
RULES = {
    "split": "Split data into train, val and test files.",
    "train-freq-compressor": "Phase 1: entropy model and quantiser.",
    "train-diffusion": "Phase 2: 32-step teacher.",
    "train-distillation": "Phase 3: one-step student.",
    "merge": "Merge the checkpoints of the three phases.",
    "evaluate": "Measure a codec on a test file.",
    "report": "Tables and HTML report from measurements.",
}


class Mode(str, Enum):
    """Error modes."""

    abs = "abs"
    rel = "rel"
    nrmse = "nrmse"
    psnr = "psnr"
    lossless = "lossless"


class Strategy(str, Enum):
    """Block modes that the encoder may use."""

    frequency = "frequency"
    auto = "auto"
    student = "student"
    teacher = "teacher"


Model = Annotated[str, typer.Option(help="base, a .cfm or .pth file")]
Var = Annotated[list[str] | None, typer.Option("--var", help="variable (nc) or key (npz); repeat")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda, for generated frames")]
Threads = Annotated[int | None, typer.Option(min=1, help="default: all cores")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]


@app.command()
def compress(
    source: Annotated[Path, typer.Argument(metavar="IN", help=".npy, .npz or .nc")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".cfq")],
    mode: Annotated[Mode, typer.Option(help="what the bound limits")] = Mode.rel,
    bound: Annotated[float, typer.Option(help="in the unit of the mode")] = 1e-3,
    var: Var = None,
    model: Model = "base",
    strategy: Annotated[
        Strategy | None, typer.Option(help="default: auto with a combined model, else frequency")
    ] = None,
    fill_value: Annotated[float | None, typer.Option(help="value that marks missing data")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Compress a file under an error bound that holds at every point."""
    from caesar_freq.api import encode
    from caesar_freq.atomic import write_bytes
    from caesar_freq.data.files import read
    from caesar_freq.data.metadata import pack

    _expect_suffix(target, (".cfq",), "OUT")
    if not target.parent.is_dir():
        raise InputError(f"the folder of {target} does not exist; make it first")
    array, metadata = pack(read(source, var))
    strategy_name = strategy.value if strategy else None
    generators = _generators(model, strategy_name, device)
    try:
        data = encode(
            array, mode.value, bound, model=model, fill_value=fill_value, metadata=metadata,
            generator=generators, strategy=strategy_name, threads=threads,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    write_bytes(target, data)
    print(f"{target}: {len(data)} bytes, CR {array.nbytes / len(data):.2f}")


@app.command()
def decompress(
    source: Annotated[Path, typer.Argument(metavar="IN", help=".cfq")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".npy, .npz or .nc")],
    model: Annotated[
        str | None, typer.Option(help="the model that the file names (see info)")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Restore the array, with names, coordinates and attributes where the format has them."""
    from caesar_freq.data.files import SUFFIXES, write

    _expect_suffix(target, SUFFIXES, "OUT")
    array, header = _decode(source, model, device, threads)
    write(target, _fields(array, header["metadata"]))
    print(f"{target}: {array.dtype} {array.shape}")


@app.command()
def info(
    source: Annotated[Path, typer.Argument(metavar="IN", help=".cfq")], as_json: AsJson = False
) -> None:
    """Show what a compressed file holds, without decoding it."""
    header = _info(_read(source), source)
    header["metadata"] = len(header["metadata"])
    if as_json:
        print(json.dumps(header, indent=2))
        return
    for name, value in header.items():
        print(f"{name:18} {value}")


@app.command()
def verify(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help=".npy, .npz or .nc")],
    compressed: Annotated[Path, typer.Argument(metavar="COMPRESSED", help=".cfq")],
    var: Var = None,
    model: Annotated[str | None, typer.Option(help="the model that the file names")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Decode and compare with the original; exit code 1 if the bound does not hold."""
    from caesar_freq.data.files import read
    from caesar_freq.data.metadata import pack

    decoded, header = _decode(compressed, model, device, None)
    names = var or _names(header["metadata"])
    array, _ = pack(read(original, names))
    result = compare(array, decoded, header)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:14} {value}")
    if not result["bound_held"]:
        raise typer.Exit(1)


def compare(original, decoded, header: dict) -> dict:
    """Errors of `decoded` and whether the bound in `header` (`api.info`) holds in its dtype.

    Returns
    -------
    dict
        ``nrmse, psnr, max_error, max_error_rel, cr, compressed_bytes, mode, bound, bound_held``
        and ``bound_held_by_variable``.

    Raises
    ------
    InputError
        If shapes or dtypes differ.
    """
    import numpy as np

    from caesar_freq.codec.chunks import five_dimensional
    from caesar_freq.codec.stream import bound_holds
    from caesar_freq.metrics import distortion

    measured = distortion(original, decoded, header["fill_value"])
    cubes = [a.reshape(five_dimensional(a.shape)) for a in (original, decoded)]
    held = [
        bound_holds(a, b, header["mode"], header["bound"], header["fill_value"])
        for a, b in zip(*cubes, strict=True)
    ]
    finite = np.isfinite(original)
    if header["fill_value"] is not None:
        finite &= original != original.dtype.type(header["fill_value"])
    difference = original[finite].astype(np.float64) - decoded[finite]
    return {
        "nrmse": measured.nrmse,
        "psnr": measured.psnr,
        "max_error": float(np.abs(difference).max()) if difference.size else 0.0,
        "max_error_rel": measured.max_error_rel,
        "cr": header["cr"],
        "compressed_bytes": header["compressed_bytes"],
        "mode": header["mode"],
        "bound": header["bound"],
        "bound_held": all(held),
        "bound_held_by_variable": held,
    }


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; check the path")
    return path.read_bytes()


def _info(data: bytes, source: Path) -> dict:
    from caesar_freq.api import info as read_info

    return _named(source, read_info, data)


def _decode(source: Path, model: str | None, device: str, threads: int | None):
    from caesar_freq.api import decode

    data = _read(source)
    header = _info(data, source)
    generators = []
    if header["generator_sha256"] and model:
        kinds = [k for k in ("student", "teacher") if header["modes_used"].get(k)]
        generators = _load(model, kinds, device)
    frequency = model if model and not generators else None
    array = _named(source, decode, data, generator=generators, model=frequency, threads=threads)
    return array, header


def _named(source: Path, function, *arguments, **options):
    """Call `function`; errors about a stream get the file's name."""
    from caesar_freq.errors import CorruptStreamError, ModelError

    try:
        return function(*arguments, **options)
    except (CorruptStreamError, ModelError) as error:
        raise type(error)(f"{source}: {error}") from error


def _generators(model: str, strategy: str | None, device: str) -> list:
    """Predictors that `strategy` needs; without one, those that a combined model has."""
    if strategy == "frequency" or (strategy is None and not model.endswith(".pth")):
        return []
    if strategy is None:
        from caesar_freq.models.predictor import KINDS, load_checkpoint

        checkpoint = load_checkpoint(model)
        kinds = [kind for kind, (section, *_) in KINDS.items() if section in checkpoint]
    else:
        kinds = ["student", "teacher"] if strategy == "auto" else [strategy]
        if model == "base":
            raise InputError(
                f"--strategy {strategy} needs a trained model; give --model combined_model.pth"
            )
    return _load(model, kinds, device)


def _load(model: str, kinds: Sequence[str], device: str) -> list:
    try:
        from caesar_freq.models.predictor import load_predictor
    except ImportError as error:
        raise InputError(
            "generated frames need torch; install it with pip install 'caesar-freq[train]'"
        ) from error
    return [load_predictor(model, kind, device) for kind in kinds]


def _names(metadata: bytes) -> list[str] | None:
    if not metadata:
        return None
    from caesar_freq.data.metadata import field_names

    return field_names(metadata)


def _fields(array, metadata: bytes) -> list:
    from caesar_freq.data.metadata import unpack

    return unpack(array, metadata)


def _expect_suffix(path: Path, suffixes: Sequence[str], what: str) -> None:
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{what} is {path}; its name must end in {' or '.join(suffixes)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in RULES:
        module = import_module(f"caesar_freq.{arguments[0].replace('-', '_')}")
        run_main(module.main, arguments[1:])
    run_main(_run_app, arguments)


def _run_app(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(__version__)
        return 0
    return app(arguments, standalone_mode=True) or 0


app.info.epilog = "Rule modules: " + "; ".join(f"{name}: {text}" for name, text in RULES.items())

if __name__ == "__main__":
    main()
