"""Speed of this codec beside SZ3, SPERR and ZFP on 64 MB of simulated flow at equal NRMSE.

    python benchmarks/speed.py [--rounds 5] [--sections 4]

All codecs take turns in one process, round after round, so that a busy machine slows all of them;
the table gives the median speed and the median of the ratios to SZ3 and SPERR within a round. Peers
run on one thread, in the setting that is fastest at its usual ratio. Peak memory is taken in a
process that does nothing else. Writes ``speed.md``, ``speed.json`` and ``speed.png``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import caesar_freq
from caesar_freq import metrics, peer_files, peer_search, peers
from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import run_main
from caesar_freq.measuring import peak_memory_mb

TARGET = 1e-3
FLOW = Flow(frames=256, stride=6)
SEEDS = (401, 402, 403, 404)
#: Peer, and the way to set it.
PEERS = {"SZ3": ("sz3", "INTERP_LORENZO"), "SPERR": ("sperr", "q"), "ZFP": ("zfp", "accuracy")}


@dataclass
class Codec:
    """A codec with one of its settings: what is timed."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]
    threads: int


def ours() -> dict[str, Codec]:
    """Our codec on one and all threads, and at every effort where there are several."""
    levels = range(4) if "effort" in inspect.signature(caesar_freq.encode).parameters else ()
    settings = [("CAESAR-Freq", {})] + [(f"effort {level}", {"effort": level}) for level in levels]
    counts = dict.fromkeys((1, os.cpu_count()))
    found = {}
    for name, options in settings:
        for threads in counts if not options else (1,):
            found[f"{name}, {threads} thread{'s' * (threads > 1)}"] = Codec(
                partial(caesar_freq.encode, mode="nrmse", bound=TARGET, threads=threads, **options),
                partial(caesar_freq.decode, threads=threads),
                threads,
            )
    return found


def peer(name: str, array: np.ndarray) -> Codec:
    """A peer, its knob searched on the first section."""
    short, setting = PEERS[name]
    (chosen,) = [p for p in peers.peers(short, "nrmse") if p.setting == setting]
    spread = float(metrics.variable_ranges(array)[0])

    def evaluate(knob: float) -> tuple[float, int]:
        data = chosen.compress(array[0, 0], knob, spread)
        decoded = chosen.decompress(data, array[0, 0].shape, array.dtype)
        return float(np.sqrt(np.mean((decoded - array[0, 0]) ** 2.0))) / spread, len(data)

    knob = peer_search.largest_knob(evaluate, TARGET, chosen.guess["nrmse"] * TARGET)
    settings = [peer_search.Setting(chosen, 0, knob)]
    return Codec(partial(peer_files.encode, name=short, settings=settings), peer_files.decode, 1)


def seconds(call: Callable, threads: int = 0) -> tuple[float, object]:
    """(seconds, result) of a call; of one thread seconds of the processor, which others cannot take."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    result = call()
    return clock() - start, result


def rounds(codecs: dict[str, Codec], array: np.ndarray, count: int) -> dict[str, dict]:
    """Times of all codecs, in turns; what is slow once (compiled kernels) is done before."""
    times = {name: {"encode": [], "decode": []} for name in codecs}
    for codec in codecs.values():
        codec.decode(codec.encode(array[:, :1, :16]))
    for number in range(count):
        for name, codec in codecs.items():
            encode, data = seconds(lambda: codec.encode(array), codec.threads)  # noqa: B023
            decode, decoded = seconds(lambda: codec.decode(data), codec.threads)  # noqa: B023
            times[name]["encode"].append(encode)
            times[name]["decode"].append(decode)
            times[name]["cr"] = array.nbytes / len(data)
            times[name]["nrmse"] = metrics.distortion(array, decoded).nrmse
            print(f"round {number + 1}: {name} {encode:.2f} s, {decode:.2f} s", flush=True)
    return times


def memory(path: Path, name: str, action: str) -> float:
    """Peak memory in arrays, the array itself among it, of encoding or decoding once."""
    command = [sys.executable, __file__, "--data", str(path), "--measure", name, action]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure_memory(path: Path, name: str, action: str) -> float:
    """The same, in that process: what comes on top of interpreter, modules and kernels."""
    part = np.load(path, mmap_mode="r")[:, :1, :16].copy()
    codec = ours()[name] if name in ours() else peer(name, part)
    codec.decode(codec.encode(part))
    idle = peak_memory_mb()
    stored = path.with_name(f"{path.stem}_{name.split()[0].strip(',')}.bin")
    if action == "encode":
        write_bytes(stored, codec.encode(np.load(path)))
    else:
        codec.decode(stored.read_bytes())
    return (peak_memory_mb() - idle) * 1e6 / path.stat().st_size


def start_up(stream: Path) -> dict[str, float | str]:
    """Median seconds of commands that need no network, and which big packages they import."""
    command = [sys.executable, "-m", "caesar_freq.cli"]
    out: dict[str, float | str] = {}
    for words in (["--version"], ["info", str(stream)]):
        times = [
            seconds(lambda: subprocess.run([*command, *words], capture_output=True, check=True))[0]  # noqa: B023
            for _ in range(5)
        ]
        code = (
            "import sys, caesar_freq.cli as c\n"
            f"sys.argv[1:] = {words!r}\n"
            "try: c.main()\nexcept SystemExit: pass\n"
            "print([m for m in ('torch', 'numba', 'scipy') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        out[words[0]] = statistics.median(times)
        out[f"{words[0]} imports"] = done.stdout.splitlines()[-1]
    return out


def table(times: dict[str, dict], peaks: dict[str, dict], starts: dict, mb: float) -> str:
    """The Markdown of all that was measured."""
    lines = [f"# Speed at NRMSE {TARGET:g}", "",
             f"{mb:.0f} MB of simulated flow, float32; {platform.machine()}, {os.cpu_count()} cores;"
             f" medians of {len(next(iter(times.values()))['encode'])} rounds in turns. A ratio of 1"
             " is the peer's speed. Seconds of one thread are those of the processor, of more those of the clock."
             " Memory is the peak in arrays, input and output among it, interpreter and modules not.",
             "", "| codec | CR | NRMSE | encode MB/s | decode MB/s | encode / SZ3 | decode / SZ3 |"
             " encode / SPERR | decode / SPERR | memory encode | memory decode |",
             "| --- |" + " ---: |" * 10]  # fmt: skip
    for name, one in times.items():
        cells = [f"{one['cr']:.2f}", f"{one['nrmse']:.3g}"]
        cells += [f"{mb / statistics.median(one[a]):.1f}" for a in ("encode", "decode")]
        cells += [f"{relative(times, name, rival, a):.2f}" for rival in ("SZ3", "SPERR")
                  for a in ("encode", "decode")]  # fmt: skip
        cells += [f"{peaks[name][a]:.1f}" if name in peaks else "–" for a in ("encode", "decode")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "## Start-up", ""]
    for words in ("--version", "info"):
        lines.append(
            f"- `caesar-freq {words}`: {starts[words]:.2f} s; of torch, numba, scipy it imports"
            f" {starts[f'{words} imports']}"
        )
    return "\n".join(lines) + "\n"


def relative(times: dict[str, dict], name: str, rival: str, action: str) -> float:
    """Median over the rounds of the speed of `name` over that of `rival`."""
    pairs = zip(times[rival][action], times[name][action], strict=True)
    return statistics.median(theirs / own for theirs, own in pairs)


def plot(times: dict[str, dict], mb: float) -> bytes:
    """Ratio against speed, encoding and decoding, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from caesar_freq.reporting.plots import png

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
    for axis, action in zip(axes, ("encode", "decode"), strict=True):
        for name, one in times.items():
            speed = mb / statistics.median(one[action])
            axis.plot(speed, one["cr"], "s" if name in PEERS else "o",
                      color="#D55E00" if name in PEERS else "#0072B2")  # fmt: skip
            axis.annotate(name, (speed, one["cr"]), xytext=(4, 4), textcoords="offset points",
                          fontsize=8)  # fmt: skip
        axis.set(xscale="log", xlabel=f"{action} MB/s")
        axis.grid(color="#E3E6EA")
        axis.margins(x=0.25)
    axes[0].set_ylabel(f"compression ratio at NRMSE {TARGET:g}")
    return png(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument(
        "--sections", type=int, choices=range(1, 5), default=4, help="16 MB each (default: 4)"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        print(measure_memory(args.data, *args.measure))
        return 0
    path = args.output_dir / "simulated" / f"speed_{args.sections}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        print("simulating", flush=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, realisations(FLOW, SEEDS[: args.sections]))
    array = np.load(path)
    codecs = ours() | {name: peer(name, array) for name in PEERS}
    times = rounds(codecs, array, args.rounds)
    peaks = {name: {a: memory(path, name, a) for a in ("encode", "decode")} for name in codecs}
    stream = path.with_suffix(".cfq")
    write_bytes(stream, caesar_freq.encode(array[:, :1, :32], "nrmse", TARGET))
    starts = start_up(stream)
    mb = array.nbytes / 1e6
    text = table(times, peaks, starts, mb)
    write_bytes(args.output_dir / "speed.md", text.encode())
    content = {"mb": mb, "times": times, "memory": peaks, "start_up": starts}
    write_bytes(args.output_dir / "speed.json", (json.dumps(content, indent=1) + "\n").encode())
    write_bytes(args.output_dir / "speed.png", plot(times, mb))
    print(text)
    return 0


if __name__ == "__main__":
    run_main(main)
