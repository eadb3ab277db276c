"""What the generative modes save: bytes of files at equal NRMSE, with and without the networks.

    python benchmarks/generative.py --model combined_model.pth
        [--in_domain FILE.npz ...] [--zero_shot FILE.npz ...] [--also NAME=OTHER.pth ...]
    python benchmarks/generative.py --model combined_model.pth --speed

Every field is coded plain, in each of the modes forced, and with `auto`, to the same NRMSE, which
is checked on the decoded array. In-domain are the turbulence of `data.turbulence` with its usual
parameters, from a seed of its own, at three distances of frames, and the files given as such:
fields of the sort the model was trained on, never the very data. The files have the key ``data``,
``[V, S, T, H, W]``; of each, one part of at most ``--frames`` and ``--side`` is measured.

Records are added to ``records.jsonl`` in ``--output_dir`` and not measured again; tables
(``savings.md``, ``savings.csv``) and plots are made of all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import generative_quality
import generative_report
import generative_speed
import numpy as np

import caesar_freq
from caesar_freq.atomic import write_bytes
from caesar_freq.data.turbulence import Flow, simulate
from caesar_freq.errors import InputError, run_main
from caesar_freq.models.predictor import load_predictor

TARGETS = (3e-2, 1e-2, 3e-3, 1e-3, 1e-4)
STRATEGIES = ("frequency", "restoration", "student", "both", "auto")
#: Solver steps between frames; 5 is what most of the training sees.
STRIDES = (5, 10, 20)
SEED = 901


def turbulence(stride: int, frames: int, side: int, **regime) -> np.ndarray:
    """A corner of a flow that no model has seen; beyond its box, one of the same flow in a wider box."""
    flow = Flow(frames=frames, stride=stride, **regime)
    times = max(1, -(-side // flow.size))
    flow = replace(
        flow, size=times * flow.size, viscosity=flow.viscosity / times**2,
        force_wavenumber=times * flow.force_wavenumber,
        initial_wavenumber=times * flow.initial_wavenumber,
    )  # fmt: skip
    return simulate(flow, SEED)[:, :side, :side]


def from_file(path: Path, frames: int, side: int) -> np.ndarray:
    """The first variable's first section, its first frames, the middle of each."""
    field = np.load(path)["data"][0, 0, :frames]
    starts = [max(0, (n - side) // 2) for n in field.shape[1:]]
    return np.ascontiguousarray(field[:, starts[0] :, starts[1] :][:, :side, :side])


def fields(args: argparse.Namespace) -> dict[tuple[str, str], Callable[[], np.ndarray]]:
    """Field of every domain and name."""
    size = {"frames": args.frames, "side": args.side}
    found: dict = {
        ("in-domain", f"turbulence, stride {n}"): lambda n=n: turbulence(n, **size) for n in STRIDES
    }
    other = {"viscosity": 3e-3, "force_wavenumber": 6, "force_amplitude": 6.0}
    found["zero-shot", "turbulence, other regime"] = lambda: turbulence(10, **size, **other)
    for domain, paths in (("in-domain", args.in_domain), ("zero-shot", args.zero_shot)):
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path} does not exist; give .npz files with the key data")
            found[domain, path.stem] = lambda path=path: from_file(path, **size)
    return found


def measure(x: np.ndarray, target: float, strategy: str, student) -> dict:
    """Bytes, processor seconds and what else is worth knowing of one field in one mode."""
    generator = {} if strategy == "frequency" else {"generator": student}
    start = time.process_time()
    data = caesar_freq.encode(x, "nrmse", target, strategy=strategy, **generator, threads=1)
    seconds = time.process_time() - start
    decoded = caesar_freq.decode(data, generator=student, threads=1)
    error = np.sqrt(np.mean((decoded.astype(np.float64) - x) ** 2)) / np.ptp(x.astype(np.float64))
    if not error <= target:
        raise RuntimeError(f"{strategy} at {target:g}: NRMSE {error:g}")
    return {
        "bytes": len(data), "original": x.nbytes, "nrmse": float(error), "seconds": seconds,
        "modes": caesar_freq.info(data)["modes_used"],
    }  # fmt: skip


def models(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Names of the models to compare, with their files."""
    yield "", args.model
    for text in args.also:
        name, _, path = text.partition("=")
        if not path:
            raise InputError(f"--also {text} is not NAME=FILE.pth")
        yield name, Path(path)


def savings(args: argparse.Namespace) -> list[dict]:
    """All records, those that were missing measured."""
    path = args.output_dir / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("model", "domain", "field", "target", "strategy")
    known = {tuple(r[k] for k in keys) for r in records}
    todo = fields(args)
    # what is loaded or compiled once is no part of any time
    caesar_freq.encode(np.random.default_rng(0).random((16, 32, 32)), "nrmse", 1e-2)
    for model, file in models(args):
        student = load_predictor(file, "student")
        for (domain, name), make in todo.items():
            x = None
            for target in args.targets:
                for strategy in STRATEGIES:
                    key = (model if strategy != "frequency" else "", domain, name, target, strategy)
                    if key in known:
                        continue
                    x = make() if x is None else x
                    record = dict(zip(keys, key)) | measure(x, target, strategy, student)
                    print(json.dumps(record), flush=True)
                    records.append(record)
                    known.add(key)
                    write_bytes(path, "".join(json.dumps(r) + "\n" for r in records).encode())
    return records


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--model", type=Path, required=True, help="combined_model.pth or student_best.pth"
    )
    parser.add_argument("--teacher", type=Path, help="file of the teacher, if it is another one")
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=FILE", help="other models")
    parser.add_argument("--in_domain", type=Path, nargs="*", default=[], help=".npz files")
    parser.add_argument("--zero_shot", type=Path, nargs="*", default=[], help=".npz files")
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS), help="NRMSE")
    parser.add_argument("--frames", type=int, default=48, help="of each field (%(default)s)")
    parser.add_argument("--side", type=int, default=128, help="of each frame (%(default)s)")
    parser.add_argument("--speed", action="store_true", help="time the networks instead")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("benchmarks/results/generative"), help="%(default)s"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing and write tables and plots."""
    args = parse(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.speed:
        print(generative_speed.write(args.model, args.output_dir, args.teacher))
        return 0
    records = savings(args)
    field = turbulence(10, args.frames, args.side)
    quality = generative_quality.measure(field, args.model, args.output_dir, args.teacher)
    print(generative_report.write(records, quality, args.output_dir))
    return 0


if __name__ == "__main__":
    run_main(main)
