"""Damaged streams against the decoder: every one must end in a clear error or in an array.

    python benchmarks/fuzz.py [--cases 100000] [--jobs 2] [--seed 0]
    python benchmarks/fuzz.py --replay FILE

Cases are mutations of small valid files of every mode, kind of chunk and coding of masks, with
and without checksums put right (only then do the inner decoders see the damage). Worker processes
with limited memory decode them. A worker that dies, hangs or runs out of memory, an exception other
than `CorruptStreamError` or `ModelError`, damage behind right checksums that nobody notices, and an
array of another shape or type than the header announces are failures; they are kept below
``--output_dir`` and the exit code is 1. Numba does not check indices: run it with
``NUMBA_BOUNDSCHECK=1`` and an own ``NUMBA_CACHE_DIR`` to see reads out of bounds as errors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import google_crc32c
import numpy as np

import caesar_freq
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import boxes, chunk_count, five_dimensional
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.header import MODES, Header
from caesar_freq.codec.layout import VOLUME
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import varint
from caesar_freq.codec.search import step_index
from caesar_freq.codec.statistics import Statistics, variable_of
from caesar_freq.errors import CaesarError, CorruptStreamError, InputError, ModelError, run_main

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
#: Streams whose header announces more than this are not decoded, only read by `info`.
LARGEST_BYTES = 64 << 20
#: What a worker may allocate in all; decoding needs a few times the array.
MEMORY_BYTES = 6 << 30
HANG_SECONDS = 60
#: Bytes of variable-length integers and of plain ones at their extremes.
_EXTREMES = (b"\0", b"\x7f", b"\x80\x01", b"\xff" * 4 + b"\x07", b"\xff" * 4 + b"\x0f",
             b"\xff" * 8 + b"\x7f", b"\xff" * 9, b"\x80" * 10, b"\0" * 8, b"\xff\xff\xff\x7f",
             b"\0\0\0\x80", b"\0\0\0\0\0\0\xf0\x7f", b"\0\0\0\0\0\0\xf8\x7f")  # fmt: skip


class Still:
    """A predictor that repeats keyframes: reaches the decoder of generated and restored frames."""

    kind, sha256, source = "student", "ab" * 32, "still.pth"
    n_frame, interpo_rate, keyframes = 16, 3, (0, 3, 6, 9, 12, 15)
    restores, spacings = True, (2, 3, 5)

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """See `codec.coders.Predictor`."""
        missing = [t for t in range(self.n_frame) if t % self.interpo_rate]
        return np.stack([keyframes[:, t // 3] for t in missing], axis=1)

    def restore(self, frames: np.ndarray, noise: np.ndarray, step: float, targets=None):
        """See `codec.coders.Predictor`."""
        last = np.maximum.accumulate(np.where(np.isinf(noise[0]), 0, np.arange(len(noise[0]))))
        return 0.9 * frames[:, last if targets is None else last[targets]]


def arrays() -> dict[str, np.ndarray]:
    """Small arrays of every sort that takes its own way through the codec."""
    rng = np.random.default_rng(5)
    t, y, x = np.meshgrid(np.arange(18.0), np.arange(20.0), np.arange(30.0), indexing="ij")
    smooth = np.sin(0.3 * x + 0.1 * t) * np.cos(0.2 * y) + 0.01 * rng.standard_normal(x.shape)
    holes, clouds, kinds = smooth.copy(), smooth.copy(), smooth.copy()
    holes[4:6, 3:9, 2:8] = np.nan
    clouds[rng.random(x.shape) < 0.3] = np.nan
    kinds[0, 0, :3] = [np.inf, -np.inf, np.nan]
    spikes = smooth.copy()
    spikes[rng.random(x.shape) < 0.02] += 3
    made = {
        "smooth": smooth,
        "holes": holes,
        "clouds": clouds,
        "kinds": kinds,
        "spikes": spikes,
        "noise": rng.standard_normal((5, 17, 13)),
        "packed": np.rint(100 * smooth) / 16,
        "radar": np.maximum(0, np.rint(40 * smooth)) * 0.1,
        "levels": rng.integers(0, 6, (7, 16, 9)) * 0.5,
        "constant": np.full((3, 9, 8), 7.0),
        "variables": np.stack([smooth[:4], 9 * smooth[:4] ** 2])[:, None],
        "line": smooth.ravel()[:700],
        "long": np.cumsum(rng.standard_normal((70, 9, 8)), axis=0),
        "positive": np.exp(4 * smooth[:6]),
        # a few patterns in time carry all: stored as the field's own modes
        "modes": _patterns((64, 40, 48)),
        # sections alike: all but the first are predicted from the one before
        "linked": np.stack([smooth + 0.05 * n * smooth[:, ::-1] for n in range(4)])[None],
        "series": np.cumsum(rng.standard_normal((6000, 1, 1)), axis=0),
    }
    many = {f"{name}32": array.astype(np.float32) for name, array in made.items()}
    return many | {f"{name}64": made[name] for name in ("smooth", "holes", "packed", "positive")}


def _patterns(shape: tuple[int, int, int]) -> np.ndarray:
    """Two standing patterns that swing at odd frequencies, and a little noise."""
    rng = np.random.default_rng(6)
    t = np.arange(shape[0])[:, None, None]
    patterns = rng.standard_normal((2, *shape[1:]))
    swings = np.sin(0.83 * t) * patterns[0] + np.cos(1.91 * t + 0.4) * patterns[1]
    return swings + 1e-4 * rng.standard_normal(shape)


#: Bounds by mode; modes that come later are tried with 1e-2.
_BOUNDS = {"psnr": (45.0,), "lossless": (0.0,), "abs": (1e-2,), "nrmse": (1e-2,),
           "rel": (2e-2, 1e-3)}  # fmt: skip


def corpus(names: Sequence[str] | None = None) -> dict[str, bytes]:
    """Valid streams by name: golden files and arrays (default: all) in every mode."""
    made = arrays()
    found = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.cfq"))}
    for name in names or made:
        for mode in MODES:
            for bound in _BOUNDS.get(mode, (1e-2,)):
                try:
                    found[f"{name}-{mode}-{bound:g}"] = caesar_freq.encode(made[name], mode, bound)
                except InputError:  # a mode that does not take such data
                    continue
    smooth, holes = made["smooth32"], made["holes32"]
    for kind, cell in (("haar", 16), ("cdf97", 16), ("lot", 32), ("dct", 8), ("lot", 8)):
        found[f"{kind}{cell}"] = caesar_freq.encode(smooth, "nrmse", 1e-3, spatial=((kind, cell),))
    for strategy in ("restoration", "student", "both"):
        for mode, bound in (("nrmse", 1e-2), ("rel", 1e-2)):
            found[f"{strategy}-{mode}"] = caesar_freq.encode(
                smooth, mode, bound, generator=Still(), strategy=strategy
            )
    for block in (1, 4, 128):
        found[f"blocks{block}"] = _in_blocks(made["long32"], block)
    other = replace(FrequencyModel.base(), b3=FrequencyModel.base().b3 + 100)
    found["joined-linked"] = _joined(made["linked32"], 2, other)
    found["linked-model"] = caesar_freq.encode(
        made["linked32"], "rel", 1e-2, model=other, embed_model=True
    )
    found["model"] = caesar_freq.encode(smooth, "rel", 1e-3, model=other, embed_model=True)
    found["apart"] = caesar_freq.encode(smooth, "rel", 1e-3, model=other, embed_model=False)
    found["metadata"] = caesar_freq.encode(
        np.where(np.isnan(holes), np.float32(-999), holes),
        "abs", 1e-2, fill_value=-999.0, metadata=b"some names" * 9,
    )  # fmt: skip
    return found


def _in_blocks(array: np.ndarray, block: int) -> bytes:
    """A stream with time blocks of so many frames, whether that is best or not."""
    head = Header(array.shape, array.dtype, "nrmse", 1e-2, False, [])
    chunk = Chunk(array, next(boxes(five_dimensional(array.shape))), None)
    variable = replace(
        variable_of([Statistics.of(chunk)]), step_index=step_index(0.02), time_block=block
    )
    model = FrequencyModel.base()
    coder = PlainCoder(chunk.normalised(variable, False), variable, model)
    written = chunk.write_coded(coder.code(variable.step, 0.5), VOLUME, head, variable)
    head.variables, head.fingerprint = [variable], model.fingerprint
    return Parts(head, b"", []).packed([written.body])


def _joined(array: np.ndarray, sections: int, model: FrequencyModel) -> bytes:
    """A stream of ``[1, S, T, H, W]`` joined of parts of so many sections, under a stored model."""
    streams = [
        caesar_freq.encode(array[:, s : s + sections], "nrmse", 1e-2, model=model, embed_model=True)
        for s in range(0, array.shape[1], sections)
    ]
    parts = [Parts.of(stream) for stream in streams]
    head = replace(
        parts[0].header, shape=array.shape, linked=any(part.header.linked for part in parts),
        variables=[part.header.variables[0] for part in parts],
        runs=[len(part.bodies) for part in parts],
    )  # fmt: skip
    return Parts(head, b"", []).packed([body for part in parts for body in part.bodies])


def regroup(header: Header, other: Header, rng: np.random.Generator) -> Header:
    """A header that is well-formed but tells something else about the same chunks."""
    shape, known = list(header.shape), header.variables + other.variables
    n_chunks, changed = len(header.chunks), {}
    if header.variables and rng.random() < 0.6:  # parts with transforms of other streams
        cuts = sorted(set(rng.integers(1, n_chunks + 1, int(rng.integers(1, 4))).tolist()))
        changed["runs"] = np.diff([0, *cuts, *([n_chunks] if cuts[-1] < n_chunks else [])]).tolist()
        count = len(changed["runs"])
        changed["variables"] = [known[int(rng.integers(len(known)))] for _ in range(count)]
    if header.variables and rng.random() < 0.3:
        changed["double"] = not header.double
    if rng.random() < 0.3:
        changed["linked"] = not header.linked
    if rng.random() < 0.3:
        changed["mode"] = str(rng.choice(MODES))
    if rng.random() < 0.3:
        changed["dtype"] = other.dtype
    if rng.random() < 0.3 and len(other.variables) == len(header.variables):
        changed["fingerprint"], changed["model"] = other.fingerprint, other.model
    if rng.random() < 0.4:
        axis = int(rng.integers(len(shape)))
        new = max(1, shape[axis] + int(rng.choice([-1, 1, 7, shape[axis]])))
        resized = (*shape[:axis], new, *shape[axis + 1 :])
        whole, now = five_dimensional(resized), five_dimensional(header.shape)
        if chunk_count(whole) == n_chunks and whole[0] == now[0]:
            changed["shape"] = resized
    return replace(header, **changed)


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to three damages, some of them with pieces of `other`."""
    out = bytearray(data)
    for _ in range(1 + int(rng.integers(3))):
        # half of the damage goes where lengths, tables and flags are
        end = len(out) if rng.random() < 0.5 else min(len(out), 40)
        at, length = int(rng.integers(end + 1)), int(rng.geometric(0.15))
        match int(rng.integers(9)):
            case 0 if out:
                out[at % len(out)] ^= 1 << int(rng.integers(8))
            case 1:
                out[at : at + length] = rng.bytes(len(out[at : at + length]))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.bytes(length)
            case 5:
                extreme = _EXTREMES[int(rng.integers(len(_EXTREMES)))]
                out[at : at + (len(extreme) if rng.random() < 0.5 else 1)] = extreme
            case 6:
                place = int(rng.integers(len(other) + 1))
                out[at : at + length] = other[place : place + length]
            case 7:
                out[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length
            case 8 if out:
                out[at % len(out)] = (out[at % len(out)] + int(rng.choice([1, 255]))) & 255
    return bytes(out)


@dataclass
class Parts:
    """A stream taken apart at its checksums."""

    header: Header
    head: bytes  # the header's bytes before its checksum
    bodies: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Parts:
        header, at = Header.unpack(data)
        bodies, end = [], at
        for length, _ in header.chunks:
            bodies.append(data[end : end + length])
            end += length
        return cls(header, data[: at - 4], bodies)

    def packed(self, bodies: list[bytes]) -> bytes:
        """The stream with other chunks and right checksums."""
        table = [(len(body), google_crc32c.value(body)) for body in bodies]
        return replace(self.header, chunks=table).pack() + b"".join(bodies)


class Cases:
    """The cases by number: the same seed and number give the same bytes."""

    def __init__(self, seed: int, streams: dict[str, bytes]) -> None:
        self.seed, self.streams = seed, streams
        self.names = list(self.streams)
        self.parts = {name: Parts.of(data) for name, data in self.streams.items()}

    def case(self, number: int) -> tuple[str, bytes, bool]:
        """(name, stream, whether its checksums are right) of a case."""
        rng = np.random.default_rng([self.seed, number])
        name, other = (self.names[int(rng.integers(len(self.names)))] for _ in range(2))
        data, parts, second = self.streams[name], self.parts[name], self.parts[other]
        way = int(rng.choice(5, p=[0.15, 0.15, 0.5, 0.1, 0.1]))
        if way == 0:
            return f"{name} damaged", mutate(data, self.streams[other], rng), False
        if way == 1:
            # magic and version stay, and the length is that of the body, so that parsing goes on
            start = 4 + (1 if data[4] < 128 else 2 if data[5] < 128 else 3)
            body = mutate(parts.head[start:], second.head[5:], rng)
            head = parts.head[:4] + varint(len(body)) + body
            checked = head + google_crc32c.value(head).to_bytes(4, "little")
            return f"{name} header", checked + b"".join(parts.bodies), True
        bodies = list(parts.bodies)
        at = int(rng.integers(len(bodies)))
        piece = second.bodies[int(rng.integers(len(second.bodies)))]
        if way == 2:
            bodies[at] = mutate(bodies[at], piece, rng)
            return f"{name} chunk", parts.packed(bodies), True
        if way == 4:
            told = replace(parts, header=regroup(parts.header, second.header, rng))
            return f"{name} regrouped", told.packed(bodies), True
        bodies[at] = piece
        return f"{name} with a chunk of {other}", parts.packed(bodies), True


def judge(stream: bytes, checked: bool, unharmed: bytes | None = None) -> str:
    """What a decoder makes of a stream: an outcome that counts, or ``FAILURE: …``."""
    try:
        about = caesar_freq.info(stream)
    except CorruptStreamError:
        about = None
    except Exception as error:
        return f"FAILURE: info raises {type(error).__name__}: {error}"
    if about and about["original_bytes"] > LARGEST_BYTES:
        return "too large to be decoded here"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # damaged numbers overflow as they do
            if len(stream) % 4 == 0:  # random access takes its own way to the chunks
                part = caesar_freq.decode(stream, columns=0, generator=Still(), threads=1)
            decoded = caesar_freq.decode(stream, generator=Still(), threads=1)
    except CorruptStreamError:
        return "CorruptStreamError"
    except ModelError:
        return "ModelError"
    except CaesarError as error:
        return f"FAILURE: decode raises {type(error).__name__}: {error}"
    except Exception as error:
        return f"FAILURE: decode raises {type(error).__name__}: {error}"
    header, _ = Header.unpack(stream)
    if decoded.shape != header.shape or decoded.dtype != header.dtype:
        return f"FAILURE: {decoded.dtype} {decoded.shape} instead of {header.dtype} {header.shape}"
    if len(stream) % 4 == 0 and not np.array_equal(part, decoded[..., :1], equal_nan=True):
        return "FAILURE: a part differs from the whole"
    if not checked and stream != unharmed:
        return "FAILURE: damage went unnoticed"
    return "decoded"


def run_cases(
    cases: Cases, numbers: range, step: Callable[[int], None] = lambda number: None
) -> tuple[Counter, list[tuple[int, str, str]]]:
    """Outcomes of cases: a `Counter`, and (number, name, outcome) of each failure."""
    outcomes: Counter = Counter()
    failures = []
    for number in numbers:
        step(number)
        name, stream, checked = cases.case(number)
        outcome = judge(stream, checked, cases.streams[name.split()[0]])
        outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("FAILURE"):
            failures.append((number, name, outcome))
    return outcomes, failures


def _work(cases: Cases, numbers: range, at, results) -> None:
    """A worker process: says in `at` which case it is on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def step(number: int) -> None:
        at.value = number

    results.put(run_cases(cases, numbers, step))


@dataclass
class Worker:
    """A range of cases in a process of its own, restarted behind a case that kills it."""

    cases: Cases
    numbers: range
    outcomes: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    left: list[range] = field(default_factory=list)
    process: multiprocessing.Process | None = None

    def start(self, context) -> None:
        self.at, self.results = context.Value("q", -1), context.Queue()
        self.seen = (-1, time.monotonic())
        self.process = context.Process(
            target=_work, args=(self.cases, self.numbers, self.at, self.results)
        )
        self.process.start()

    def watch(self, context) -> bool:
        """Whether it is still at work; collects results, ends hangs, goes on after a crash."""
        try:
            outcomes, failures = self.results.get(timeout=0.5)
        except queue.Empty:
            now = self.at.value
            if now != self.seen[0]:
                self.seen = (now, time.monotonic())
            hangs = time.monotonic() - self.seen[1] > HANG_SECONDS
            if self.process.is_alive() and not hangs:
                return True
            self.process.kill()
            self.process.join()
            if now < 0:
                raise RuntimeError("a worker ends before its first case") from None
            why = "hang" if hangs else f"the process ends with {self.process.exitcode}"
            self.failures.append((now, "", f"FAILURE: {why}"))
            self.outcomes["FAILURE"] += 1
            # outcomes of the cases before it are lost with the process: run those again
            self.left = [range(self.numbers.start, now), range(now + 1, self.numbers.stop)]
            return False
        self.process.join()
        self.outcomes += outcomes
        self.failures += failures
        return False


def fuzz(cases: Cases, n_cases: int, jobs: int, size: int = 2000) -> tuple[Counter, list]:
    """Run cases ``0 .. n_cases`` in `jobs` processes, each for `size` cases at a time."""
    context = multiprocessing.get_context("fork")
    waiting = [range(a, min(a + size, n_cases)) for a in range(0, n_cases, size)]
    busy: list[Worker] = []
    outcomes: Counter = Counter()
    failures: list = []
    while waiting or busy:
        while waiting and len(busy) < jobs:
            worker = Worker(cases, waiting.pop(0))
            worker.start(context)
            busy.append(worker)
        for worker in list(busy):
            if worker.watch(context):
                continue
            busy.remove(worker)
            outcomes += worker.outcomes
            failures += worker.failures
            waiting += [numbers for numbers in worker.left if len(numbers)]
            print(f"{sum(outcomes.values())} cases, {len(failures)} failures", flush=True)
    return outcomes, failures


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=Path, help="a kept failure to decode in this process")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results/fuzz"))
    args = parser.parse_args(argv)
    if args.replay:
        print(judge(args.replay.read_bytes(), True))
        return 0
    start = time.monotonic()
    cases = Cases(args.seed, corpus())
    outcomes, failures = fuzz(cases, args.cases, args.jobs)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number, name, outcome in sorted(failures):
        name, stream, _ = cases.case(number)
        (args.output_dir / f"{args.seed}-{number}.cfq").write_bytes(stream)
        print(f"case {number} ({name}): {outcome}")
    summary = {"cases": sum(outcomes.values()), "seed": args.seed, "outcomes": dict(outcomes),
               "failures": sorted(failures), "seconds": round(time.monotonic() - start)}  # fmt: skip
    (args.output_dir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    run_main(main)
