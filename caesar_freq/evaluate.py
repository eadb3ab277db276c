"""Rule ``evaluate``: one data set through one codec; sizes of files, errors of fresh decoders.

Every target gives one compressed file beside the ``--output`` JSON, and one record in it. A second
process, which has seen nothing but the files, decodes them and measures. The only size that
counts is that of the file on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caesar_freq import __version__, metrics, peer_files, peer_search, peers
from caesar_freq.atomic import write_bytes
from caesar_freq.data.sections import Sections, load_sections
from caesar_freq.errors import CaesarError, ConfigError, InputError, run_main
from caesar_freq.measuring import (
    CRITERIA,
    OURS,
    in_words,
    keep_slices,
    peak_memory_mb,
    slices_path,
    timed,
)
from caesar_freq.printing import finite

_MODES = {"nrmse": "nrmse", "max_rel": "rel", "lossless": "lossless"}


@dataclass(frozen=True)
class Job:
    """What to run: one codec on one array.

    Attributes
    ----------
    data : Path
        ``.npz`` with the key ``data``.
    dataset, codec, criterion : str
        Name in the tables; one of `OURS` or `peers.NAMES`; one of `CRITERIA`.
    model : str
        ``base``, a frequency checkpoint, or the combined checkpoint that teacher and student need.
    fill_value : float or None
        Instead of the one that the data file may hold.
    threads : int
        Of our codec; peers run on one.
    """

    data: Path
    dataset: str
    codec: str
    criterion: str
    model: str = "base"
    fill_value: float | None = None
    threads: int = 1

    def load(self) -> Sections:
        """The array in native byte order, with the fill value of the job or else of the file."""
        stored = load_sections(self.data)
        values = stored.values.astype(stored.values.dtype.newbyteorder("="), copy=False)
        fill_value = stored.fill_value if self.fill_value is None else self.fill_value
        return Sections(values, fill_value)

    def check(self) -> None:
        """Refuse what cannot be run before anything is spent on it."""
        if self.codec in OURS:
            if self.codec != "frequency" and self.model == "base":
                raise ConfigError(
                    f"codec {self.codec} needs --model with the combined checkpoint;"
                    " the base model has no teacher or student"
                )
            from caesar_freq.codec.model import load_frequency_model

            load_frequency_model(self.model)
            generators(self.codec, self.model)
            return
        peers.peers(self.codec, self.criterion)
        peers.version(self.codec)


def generators(codec: str, model: str) -> list:
    """The predictors that our `codec` may use, from a combined checkpoint."""
    if codec == "frequency":
        return []
    from caesar_freq.models.predictor import load_predictor  # torch only when needed

    kinds = (codec,) if codec in ("student", "teacher") else ("student",)
    return [load_predictor(model, kind) for kind in kinds]


def encoder(job: Job, source: Sections, target: float) -> tuple[Callable[[], bytes], dict]:
    """The call that compresses, and what the record tells about it.

    The search of a peer's knob happens here, outside of what is timed; our own encoder searches its
    step as a part of encoding.

    Raises
    ------
    TargetMissedError
        If a peer has no setting that meets the target.
    """
    array, fill_value = source.values, source.fill_value
    if job.codec in OURS:
        from caesar_freq.api import encode  # numba only when needed

        predictors = generators(job.codec, job.model)
        return lambda: encode(
            array, _MODES[job.criterion], target, model=job.model, generator=predictors or None,
            strategy=job.codec, fill_value=fill_value, threads=job.threads,
        ), {"codec_version": f"caesar-freq {__version__}", "threads": job.threads}  # fmt: skip
    found = peer_search.find_settings(array, job.codec, job.criterion, target, fill_value)
    settings = [s and s.describe() for s in found]
    about = {"codec_version": peers.version(job.codec), "threads": 1, "peer_settings": settings}
    return lambda: peer_files.encode(array, job.codec, found, fill_value), about


def decoder(job: Job) -> Callable[[bytes], np.ndarray]:
    """The call that decodes a file of the job's codec, models loaded."""
    if job.codec not in OURS:
        return peer_files.decode
    from caesar_freq.api import decode

    predictors = generators(job.codec, job.model)
    return lambda data: decode(data, generator=predictors, model=job.model, threads=job.threads)


def compress(job: Job, source: Sections, target: float, path: Path) -> dict:
    """Compress to `path`; the record without what decoding will tell."""
    array = source.values
    call, about = encoder(job, source, target)
    data, seconds = timed(call)
    write_bytes(path, data)
    size = os.path.getsize(path)
    return {
        **about,
        "compressed_bytes": size,
        "cr": array.nbytes / size,
        "bits_per_value": 8 * size / array.size,
        "encode_seconds": seconds,
        "encode_mb_per_s": array.nbytes / 1e6 / seconds,
        **(_inside(job, data) if job.codec in OURS else {}),
    }


def _inside(job: Job, data: bytes) -> dict:
    """What our file says about itself, and the bytes a decoder needs besides it."""
    from caesar_freq.codec.contents import info

    about = info(data)
    generated = about["modes_used"].keys() - {"plain"} if about["generator_sha256"] else ()
    outside = os.path.getsize(job.model) if generated else 0
    if not about["model_embedded"]:
        from caesar_freq.codec.model import load_frequency_model

        outside += len(load_frequency_model(job.model).to_bytes())
    keys = ("bytes_by_stream", "modes_used", "transforms", "model_fingerprint", "model_embedded")
    return {**{key: about[key] for key in keys}, "model_bytes_not_in_file": outside}


def measure(job: Job, criterion: str, target: float, path: Path) -> dict:
    """Decode a file and measure it (in the fresh process); keeps slices for the error maps."""
    source, data, decode = job.load(), path.read_bytes(), decoder(job)
    decoded, seconds = timed(lambda: decode(data))
    measured = metrics.distortion(source.values, decoded, source.fill_value)
    if criterion == "nrmse":
        keep_slices(source, decoded, slices_path(path))
    return {
        **measured.as_dict(),
        "bound_held": metrics.bound_held(measured, criterion, target),
        "decode_seconds": seconds,
        "decode_mb_per_s": source.values.nbytes / 1e6 / seconds,
        "decode_peak_memory_mb": peak_memory_mb(),
    }


def in_fresh_process(job: Job, target: float, path: Path) -> dict:
    """`measure` in a new interpreter, which gets the files' names and nothing else."""
    command = [
        sys.executable, "-m", "caesar_freq.evaluate", "--measure", str(path),
        "--data", str(job.data), "--dataset", job.dataset, "--codec", job.codec,
        "--criterion", job.criterion, "--targets", repr(target), "--model", str(job.model),
        "--threads", str(job.threads), "--output", str(path),
    ]  # fmt: skip
    if job.fill_value is not None:
        command += [f"--fill_value={job.fill_value!r}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CaesarError(f"decoding {path} in a fresh process failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def evaluate(job: Job, targets: Sequence[float], output: Path) -> list[dict]:
    """Run a job; returns its records, which are also in `output`.

    A peer that cannot meet a target, or any codec that breaks on the data, makes a record with
    ``status: failed`` and the reason; the report shows it.

    Raises
    ------
    CaesarError
        If the data, the model or an option cannot be used.
    """
    job.check()
    source = job.load()
    output.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for target in targets:
        path = compressed_path(output, job.codec, target, len(targets) > 1)
        record = _common(job, source.values, target, path)
        try:
            record |= compress(job, source, target, path)
            record |= in_fresh_process(job, target, path)
            record |= {"status": "ok", "peak_memory_mb": peak_memory_mb()}
        except Exception as error:  # a codec that breaks is a result, and must be seen as one
            path.unlink(missing_ok=True)
            record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        print(in_words(record), flush=True)
        records.append(record)
    content = finite({"format": "caesar-freq/evaluation/1", "records": records})
    write_bytes(output, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return records


def compressed_path(output: Path, codec: str, target: float, several: bool) -> Path:
    """Name of the compressed file of a target, beside the JSON file."""
    suffix = ".cfq" if codec in OURS else f".{codec}"
    return output.with_name(f"{output.stem}_{target:.3g}{suffix}" if several
                            else f"{output.stem}{suffix}")  # fmt: skip


def _common(job: Job, array: np.ndarray, target: float, path: Path) -> dict:
    return {
        "dataset": job.dataset,
        "codec": job.codec,
        "criterion": job.criterion,
        "target": target,
        "data": str(job.data),
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "original_bytes": array.nbytes,
        "compressed_file": path.name,
        "model": str(job.model) if job.codec in OURS else None,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line of the rule ``evaluate``."""
    parser = argparse.ArgumentParser(
        prog="caesar_freq.evaluate", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help=".npz with the key data")
    parser.add_argument("--dataset", required=True, help="name in the tables")
    parser.add_argument("--codec", required=True, choices=[*OURS, *peers.NAMES])
    parser.add_argument("--criterion", required=True, choices=CRITERIA, help="error made equal")
    parser.add_argument("--targets", "--target", type=float, nargs="+", help="errors to stay under")
    parser.add_argument("--model", default="base", help="base or a checkpoint (%(default)s)")
    parser.add_argument("--fill_value", type=float, help="value that marks missing data")
    parser.add_argument("--threads", type=int, default=1, help="threads of our codec (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the records")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.criterion == "lossless":
        args.targets = [0.0]
    elif not args.targets or not all(0 < target < 1 for target in args.targets):
        raise InputError("--targets must be errors between 0 and 1, for instance 1e-2 1e-3")
    if args.threads < 1:
        raise InputError(f"--threads must be at least 1, not {args.threads}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run a job, or (internally) the fresh process that decodes one file of it."""
    args = parse(argv)
    job = Job(args.data, args.dataset, args.codec, args.criterion, args.model, args.fill_value,
              args.threads)  # fmt: skip
    if args.measure:
        result = measure(job, args.criterion, args.targets[0], args.measure)
        print(json.dumps(result))
        return 0
    evaluate(job, args.targets, args.output)
    return 0


if __name__ == "__main__":
    run_main(main)
