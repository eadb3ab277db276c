"""The command ``caesar-freq``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from caesar_freq import __version__
from caesar_freq.arguments import (
    about,
    bound_of,
    check_source,
    check_target,
    info_of,
    models_of,
    named,
    names_of,
    range_of,
)
from caesar_freq.cluster.command import app as cluster
from caesar_freq.errors import InputError, run_main
from caesar_freq.generators import generators_for, missing
from caesar_freq.printing import show

#: Rule modules that are commands of their own; each prints its flags with --help.
RULES = ("split", "train-freq-compressor", "train-diffusion", "train-distillation", "merge",
         "evaluate", "report")  # fmt: skip
#: Commands with their own modules and flags, as the rules have.
TOOLS = ("status", "sweep")

app = typer.Typer(
    name="caesar-freq",
    help="Error-bounded compression of spatio-temporal fields.",
    # \b keeps the lines; wrapping would split the names at their hyphens
    epilog="\b\nRule modules and tools, each with its own --help:\n"
    + "\n".join(f"  {name}" for name in (*RULES, *TOOLS))
    + "\n\n\b\n--version alone prints the version.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cluster, name="cluster")


Mode = StrEnum("Mode", ["abs", "rel", "nrmse", "psnr", "pw_rel", "lossless"])
Strategy = StrEnum("Strategy", ["frequency", "auto", "restoration", "student", "teacher", "both"])
DeviceName = StrEnum("DeviceName", ["auto", "cpu", "cuda"])
Model = Annotated[str, typer.Option(help="base, a .cfm or .pth file")]
GivenModel = Annotated[str | None, typer.Option(help="the model that the file names (see info)")]
Var = Annotated[list[str] | None, typer.Option("--var", help="variable (nc) or key (npz); repeat")]
Device = Annotated[
    DeviceName,
    typer.Option(
        help="cuda: for the codec and generated frames; auto: a GPU for generated frames only"
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="default: all cores")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Part = Annotated[
    str | None, typer.Option(metavar="A:B", help="part of this axis, as in Python; default: all")
]
Compressed = Annotated[Path, typer.Argument(metavar="IN", help=".cfq")]


@app.command()
def compress(
    source: Annotated[Path, typer.Argument(metavar="IN", help=".npy, .npz, .nc or .zarr")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".cfq")],
    mode: Annotated[Mode, typer.Option(help="what the bound limits")] = Mode.rel,
    bound: Annotated[
        float | None, typer.Option(help="in the unit of the mode; rel, nrmse, pw_rel: 0.001")
    ] = None,
    var: Var = None,
    model: Model = "base",
    strategy: Annotated[
        Strategy | None, typer.Option(help="default: auto with a combined model, else frequency")
    ] = None,
    interpo_rate: Annotated[
        int | None, typer.Option(min=2, help="distance of keyframes; default: the best there is")
    ] = None,
    fill_value: Annotated[float | None, typer.Option(help="value that marks missing data")] = None,
    effort: Annotated[
        int, typer.Option(min=0, max=3, help="0 is fastest, 3 gives the fewest bytes")
    ] = 2,
    device: Device = DeviceName.auto,
    threads: Threads = None,
) -> None:
    """Compress a file so that its error bound holds after decompression."""
    from caesar_freq.api import encode_to
    from caesar_freq.atomic import atomic_path
    from caesar_freq.data.files import fill_value_of, opened
    from caesar_freq.data.metadata import pack_lazily

    check_target(target, (".cfq",))
    limit = bound_of(mode.value, bound)
    strategy_name = strategy.value if strategy else None
    with opened(source, var) as fields:
        values, metadata = pack_lazily(fields)
        generators = generators_for(model, strategy_name, device.value)
        if interpo_rate and not generators:
            raise InputError(
                f"--interpo-rate {interpo_rate} is about generated frames, and none are asked for; "
                "give --model combined_model.pth or drop it"
            )
        with atomic_path(target) as temporary, open(temporary, "w+b") as out:
            try:
                size = encode_to(
                    values, out, mode.value, limit, folder=target.parent, model=model,
                    fill_value=fill_value_of(source, fill_value), metadata=metadata, generator=generators,
                    strategy=strategy_name, threads=threads, device=device.value,
                    interpo_rate=interpo_rate, effort=effort,
                )  # fmt: skip
            except InputError as error:
                raise InputError(about(source, error)) from error
    print(f"{target}: {size} bytes, CR {values.nbytes / size:.2f}")


@app.command()
def decompress(
    source: Compressed,
    target: Annotated[Path, typer.Argument(metavar="OUT", help=".npy, .npz or .nc")],
    frames: Part = None,
    rows: Part = None,
    columns: Part = None,
    var: Annotated[
        list[str] | None, typer.Option("--var", help="variables to restore; repeat")
    ] = None,
    model: GivenModel = None,
    device: Device = DeviceName.auto,
    threads: Threads = None,
) -> None:
    """Restore the array, with names, coordinates and attributes where the format has them.

    With --frames, --rows, --columns or --var only that part is read and decoded.
    """
    from caesar_freq.codec.backend import codec_device
    from caesar_freq.codec.container import Container
    from caesar_freq.data.files import SUFFIXES
    from caesar_freq.transfer import decompress_file, select

    check_target(target, SUFFIXES)
    parts = {"frames": frames, "rows": rows, "columns": columns}
    ranges = {name: range_of(name, text) for name, text in parts.items()}
    check_source(source)
    with open(source, "rb") as file:
        stream = named(source, Container, file)
        generators, frequency = models_of(stream, source, model, device.value)
        try:
            selection = named(source, select, stream, var, **ranges)
        except InputError as error:
            raise InputError(about(source, error)) from error
        named(
            source, decompress_file, stream, target, selection,
            predictors=generators, model=frequency, threads=threads,
            device=codec_device(device.value),
        )  # fmt: skip
    for field in selection.fields:
        print(f"{target}: {field.name}, {stream.header.dtype} {field.shape}")


@app.command()
def info(source: Compressed, as_json: AsJson = False) -> None:
    """Show what a compressed file holds, without decoding it; exit code 1 if it is cut off."""
    header = info_of(source)
    header["names"] = names_of(source, header["metadata"])
    header["metadata"] = len(header["metadata"])
    show(header, as_json)
    if not header["complete"]:
        raise typer.Exit(1)


@app.command()
def verify(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help=".npy, .npz, .nc or .zarr")],
    compressed: Annotated[Path, typer.Argument(metavar="COMPRESSED", help=".cfq")],
    var: Var = None,
    model: GivenModel = None,
    device: Device = DeviceName.auto,
    as_json: AsJson = False,
) -> None:
    """Decode and compare with the original; exit code 1 if the bound does not hold."""
    from caesar_freq.codec.backend import codec_device
    from caesar_freq.codec.container import Container
    from caesar_freq.comparison import compare
    from caesar_freq.data.files import opened
    from caesar_freq.data.metadata import pack_lazily

    check_source(compressed)
    with open(compressed, "rb") as file:
        stream = named(compressed, Container, file)
        named(compressed, stream.check_complete)
        generators, frequency = models_of(stream, compressed, model, device.value)
        names = var or names_of(compressed, stream.header.metadata)
        with opened(original, names) as fields:
            result = named(
                compressed, compare, pack_lazily(fields)[0], stream, names,
                predictors=generators, model=frequency, device=codec_device(device.value),
            )  # fmt: skip
    show(result, as_json)
    if not result["bound_held"]:
        raise typer.Exit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    run_main(_run, list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    """Run a command or a rule module; what the user or the system did wrong is one sentence."""
    try:
        if arguments == ["--version"]:
            print(__version__)
            return 0
        if arguments and arguments[0] in (*RULES, *TOOLS):
            return _rule_main(arguments[0])(arguments[1:]) or 0
        code = app(arguments or ["--help"], prog_name=app.info.name, standalone_mode=False) or 0
        if code == 130:  # what typer makes of Ctrl-C, without a word
            raise KeyboardInterrupt
        return code
    except OSError as error:
        raise InputError(f"{error.filename or 'input or output'}: {error.strerror}") from error
    except Exception as error:
        # click or the copy of it inside newer typers: known by what both have
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message().rstrip(".").replace("Value error, ", "")
        if (word := _word_of(error, arguments)) and word not in message:
            message += f" (it is {word})"
        known = {"cluster", *(command.callback.__name__ for command in app.registered_commands)}
        words = ["caesar-freq", *(word for word in arguments[:1] if word in known), "--help"]
        raise InputError(f"{message}; see {' '.join(words)}") from error


def _word_of(error: Exception, arguments: Sequence[str]) -> str | None:
    """What the option was given that an error of the parser is about."""
    for name in getattr(getattr(error, "param", None), "opts", ()):
        for word, following in zip(arguments, [*arguments[1:], None]):
            if word == name:
                return following
            if word.startswith(f"{name}="):
                return word.removeprefix(f"{name}=")
    return None


def _rule_main(rule: str) -> Callable[[list[str]], int]:
    try:
        return import_module(f"caesar_freq.{rule.replace('-', '_')}").main
    except ModuleNotFoundError as error:
        raise missing(f"{rule} needs", error) from error


if __name__ == "__main__":
    main()
