"""Split data into training, validation and test files without leakage.

``python -m caesar_freq.split --inputs a.nc b.nc --method time --output_dir data/climate``

writes ``train.npz``, ``val.npz`` and ``test.npz`` (key ``data``, ``[V, S, T, H, W]``) and
``manifest.json`` with the sha256 of every input and the exact index ranges. Values are not
changed: NaN and fill values stay, the dtype stays. (Reading NetCDF turns its ``_FillValue`` into
NaN; a fill value that the file does not declare is named with ``--fill_value``.)

Sections are often less independent than their names suggest: two climate scenarios share their
historical years number for number. So every frame is hashed, and a frame of val or test that train
has seen too is reported; between sections it is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caesar_freq import __version__
from caesar_freq.atomic import write_bytes
from caesar_freq.data.files import fill_value_of, read
from caesar_freq.data.layout import ROLES, stack_variables, to_sections
from caesar_freq.data.leakage import seen_in_training
from caesar_freq.data.sections import Sections, save_sections, stored_fill
from caesar_freq.errors import ConfigError, InputError, run_main

NAMES = ("train", "val", "test")
METHODS = ("time", "section")


def load(
    paths: Sequence[Path], variables: Sequence[str] | None, roles: dict[str, str]
) -> tuple[np.ndarray, list[str]]:
    """Inputs as one array ``[V, S, T, H, W]`` and the variables' names.

    Several inputs are stacked as sections. Unnamed dimensions are those of ``encode``: a 5-D array is
    taken as it is, a 4-D one is ``[V, T, H, W]``.

    Raises
    ------
    InputError
        If a file cannot be read or the inputs do not fit together.
    """
    arrays, names = [], []
    for path in paths:
        fields = read(path, variables)
        names = [field.name for field in fields]
        if len(fields) == 1 and fields[0].values.ndim > 3 and not fields[0].dims:
            values = fields[0].values
            arrays.append(values if values.ndim == 5 else values[:, None])
            names = [str(v) for v in range(len(values))]
        else:
            arrays.append(stack_variables([to_sections(f, roles) for f in fields], names))
    first = arrays[0]
    for path, array in zip(paths, arrays, strict=True):
        same = array.shape[:1] + array.shape[2:] == first.shape[:1] + first.shape[2:]
        if not same or array.dtype != first.dtype:
            raise InputError(
                f"{path} is {array.dtype} {array.shape} but {paths[0]} is {first.dtype} "
                f"{first.shape} (variable, section, time, height, width); inputs stack as "
                "sections, so all other sizes must agree: split them one by one"
            )
    return np.concatenate(arrays, axis=1), names


def ranges(length: int, fractions: Sequence[float], gap: int, what: str) -> list[tuple[int, int]]:
    """Index ranges of train, val and test along an axis of `length`, `gap` apart.

    Raises
    ------
    ConfigError
        If fractions are not shares of 1 or a part would be empty.
    """
    if len(fractions) != 3 or not all(0 < f < 1 for f in fractions):
        raise ConfigError(f"fractions are {list(fractions)}; give three shares between 0 and 1")
    if abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions {list(fractions)} add up to {sum(fractions):g}, not to 1")
    if gap < 0:
        raise ConfigError(f"the gap is {gap}; give 0 or more")
    usable = length - 2 * gap
    # the tiny addition keeps 0.3 * 10 from becoming 2 when it is just below 3 in binary
    sizes = [max(1, int(usable * fraction + 1e-9)) for fraction in fractions]
    sizes[0] = usable - sizes[1] - sizes[2]
    if sizes[0] < 1:
        gaps = f" with two gaps of {gap}" if gap else ""
        raise ConfigError(
            f"{length} {what}{gaps} leave {max(usable, 0)} for train, val and test; choose a "
            "smaller gap, other fractions, another method or more data"
        )
    starts = [0, sizes[0] + gap, sizes[0] + sizes[1] + 2 * gap]
    return [(a, a + n) for a, n in zip(starts, sizes, strict=True)]


def split(
    inputs: Sequence[Path],
    output_dir: Path,
    variables: Sequence[str] | None = None,
    roles: dict[str, str] | None = None,
    method: str = "time",
    fractions: Sequence[float] = (0.6, 0.15, 0.25),
    gap: int = 16,
    fill_value: float | None = None,
) -> dict:
    """Write the three files and the manifest; returns the manifest.

    Parameters
    ----------
    inputs : sequence of paths
    output_dir : path
        Created if missing.
    variables : sequence of str, optional
        Names in NetCDF or keys in npz files.
    roles : dict, optional
        Dimension names by role, see `data.layout.axis_order`.
    method : {"time", "section"}
        Contiguous in time with a gap, or whole sections (no gap: sections are independent).
    fractions : three floats
    gap : int
        Frames between parts that no part gets.
    fill_value : float, optional
        Recorded in the files and the manifest; the values keep it. By default what ``.npz``
        inputs of this project record.

    Raises
    ------
    InputError, ConfigError
        See `load` and `ranges`; also if an input is given twice, or sections that go to different
        parts share frames.
    """
    digests = _digests(inputs)
    array, names = load(inputs, variables, roles or {})
    fill_value = _common_fill(inputs, fill_value, array)
    axis = 2 if method == "time" else 1
    gap = gap if method == "time" else 0
    parts = ranges(array.shape[axis], fractions, gap, "frames" if axis == 2 else "sections")
    pieces = {
        name: array[(slice(None),) * axis + (slice(start, stop),)]
        for name, (start, stop) in zip(NAMES, parts, strict=True)
    }
    repeated = seen_in_training(pieces)
    if method == "section" and any(repeated.values()):
        raise InputError(
            f"frames of the sections for val ({repeated['val']}) and test ({repeated['test']}) "
            "occur in train too, number for number; split with --method time, or drop a section"
        )
    manifest = {
        "caesar_freq": __version__,
        "inputs": [{"path": str(path), "sha256": digest} for path, digest in digests.items()],
        "variables": names,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "method": method,
        "gap": gap,
        "fill_value": fill_value,
        "frames_seen_in_training": repeated,
        "splits": {},
    }
    _make_folder(output_dir)
    for (name, piece), (start, stop) in zip(pieces.items(), parts, strict=True):
        path = output_dir / f"{name}.npz"
        save_sections(path, Sections(piece, fill_value))
        manifest["splits"][name] = {
            "axis": method, "start": start, "stop": stop, "shape": list(piece.shape),
            "sha256": _sha256(path),
        }  # fmt: skip
        print(f"{name}: {method} {start}..{stop - 1} of {array.shape[axis]} -> {path}", flush=True)
    for name, count in repeated.items():
        if count:
            print(f"note: {count} frames of {name} occur in train too, number for number")
    # Last, so that a manifest means that all it describes is there.
    write_bytes(output_dir / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
    return manifest


def _digests(inputs: Sequence[Path]) -> dict[Path, str]:
    """SHA-256 of each input; no two may be the same, or training would weigh one twice."""
    digests: dict[Path, str] = {}
    for path in map(Path, inputs):
        if not path.is_file():
            raise InputError(f"{path} does not exist or is not a file; check the path")
        digest = _sha256(path)
        same = [other for other, known in digests.items() if known == digest]
        if same or path in digests:
            raise InputError(f"{path} has the same content as {(same or [path])[0]}; name it once")
        digests[path] = digest
    return digests


def _common_fill(inputs: Sequence[Path], given: float | None, array: np.ndarray) -> float | None:
    """The fill value given, else the one that the inputs were written with."""
    fills = {stored_fill(path) for path in inputs if Path(path).suffix == ".npz"} - {None}
    for unwritten in {fill_value_of(path, None) for path in inputs} - {None}:
        if (array == array.dtype.type(unwritten)).any():
            fills.add(unwritten)
    if given is not None or not fills:
        return given
    if len(fills) > 1:
        raise InputError(
            f"the inputs have different fill values ({', '.join(map(str, fills))}); name one with "
            "--fill_value, or split them one by one"
        )
    return fills.pop()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make folder {path}: {error.strerror}; choose another --output_dir"
        ) from error


def parse_roles(entries: Sequence[str]) -> dict[str, str]:
    """``["time=t", "width=lon"]`` as a dict.

    Raises
    ------
    ConfigError
        If an entry has another form or role.
    """
    roles = {}
    for entry in entries:
        role, equals, name = entry.partition("=")
        if not equals or role not in ROLES or not name:
            raise ConfigError(
                f"--dims {entry!r} is not ROLE=NAME; roles are {', '.join(ROLES)}, "
                "for instance time=month"
            )
        roles[role] = name
    return roles


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``split``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.split", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--inputs",
        nargs="+",
        type=Path,
        required=True,
        help=".npz, .npy or .nc files; several stack as sections",
    )
    parser.add_argument("--variables", nargs="+", help="variables (nc) or keys (npz) to take")
    parser.add_argument(
        "--dims",
        nargs="+",
        default=[],
        metavar="ROLE=NAME",
        help="dimension names, e.g. time=month height=lat width=lon section=member",
    )
    parser.add_argument("--fill_value", type=float, help="value that marks missing data (recorded)")
    parser.add_argument("--method", choices=METHODS, default="time")
    parser.add_argument(
        "--fractions",
        nargs=3,
        type=float,
        default=[0.6, 0.15, 0.25],
        metavar=("TRAIN", "VAL", "TEST"),
    )
    parser.add_argument("--gap", type=int, default=16, help="frames between parts (default: 16)")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    split(args.inputs, args.output_dir, args.variables, parse_roles(args.dims), args.method,
          args.fractions, args.gap, args.fill_value)  # fmt: skip
    return 0


if __name__ == "__main__":
    run_main(main)
