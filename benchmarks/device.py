"""Speed of the codec's kernels on every device there is: C on the processor, torch there and on a GPU.

    python benchmarks/device.py [--rounds 3] [--frames 256] [--mode nrmse] [--bound 1e-3]

Simulated flow; arrays start and end in the host's memory, so transfers count. Devices take turns, and
the bytes that they write have to be the same. Prints a table and writes ``device.md`` and
``device.json``. The first call on a device is not timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import caesar_freq
from caesar_freq.atomic import write_bytes
from caesar_freq.codec.backend import kernels
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_array
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import fit_alphas, frequency_classes
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import run_main
from caesar_freq.transform.blocks import Transform

SEED = 401
#: Steps over the bound at which the kernels are timed; about what the encoder ends at.
STEP = 4.0


def devices() -> dict[str, str | None]:
    """Names for the table, and what `backend.kernels` calls them."""
    found: dict[str, str | None] = {"C, processor": None, "torch, processor": "cpu"}
    for number in range(torch.cuda.device_count()):
        found[f"torch, {torch.cuda.get_device_name(number)}"] = f"cuda:{number}"
    return found


def kernel_calls(x: np.ndarray, step: float, device: str | None) -> dict[str, Callable]:
    """Every kernel on one chunk `x` ``[T, H, W]``, with its input made on the processor."""
    model, host, here = FrequencyModel.base(), kernels(), kernels(device)
    transform = Transform(x.shape, 16, 16, "lot")
    planes = host.forward(transform, x)
    classes = frequency_classes(*planes.shape[2:4])
    alphas = fit_alphas(planes, classes)
    q, _ = host.quantise(planes, step, 0.6, alphas, classes)
    used = host.ends_of(q)
    bins, state, words = host.encode_blocks(q, used, transform, model)

    def dequantise() -> np.ndarray:
        out = np.empty_like(planes)
        here.dequantise(q, bins, step, alphas, classes, model.centroid, out)
        return out

    return {
        "transform": lambda: here.forward(transform, x),
        "quantise": lambda: here.quantise(planes, step, 0.6, alphas, classes),
        "contexts, network, rANS": lambda: here.encode_blocks(q, used, transform, model),
        "the same, decoding": lambda: here.decode_blocks(used, state, words, transform, model),
        "dequantise": dequantise,
        "inverse transform": lambda: here.inverse(transform, planes.copy()),
    }


def file_calls(
    array: np.ndarray, mode: str, bound: float, device: str | None
) -> dict[str, Callable]:
    """Encoding and decoding of a whole array."""
    model = FrequencyModel.base().on(device)
    data = caesar_freq.encode(array, mode, bound)
    return {
        "encode": lambda: caesar_freq.encode(array, mode, bound, model=model),
        "decode": lambda: decode_array(Container(data), device=device),
    }


def measure(
    calls: dict[str, dict[str, Callable]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds by call and device, devices in turns.

    Raises
    ------
    RuntimeError
        If a device returns other bytes than the first.
    """
    times: dict[str, dict[str, list[float]]] = {}
    for what in next(iter(calls.values())):
        first = None
        for number in range(rounds + 1):
            for device, own in calls.items():
                start = time.perf_counter()
                result = own[what]()
                seconds = time.perf_counter() - start
                found = [np.asarray(part).tobytes() for part in
                         (result if isinstance(result, tuple) else (result,))]  # fmt: skip
                first = first or found
                if found != first:
                    raise RuntimeError(f"{device}: {what} gives other bytes than C")
                if number:
                    times.setdefault(what, {}).setdefault(device, []).append(seconds)
    return times


def table(times: dict[str, dict[str, list[float]]], mb: float, title: str) -> str:
    """MB/s of the median, as Markdown."""
    names = list(next(iter(times.values())))
    lines = [
        f"# {title}",
        "",
        f"| MB/s | {' | '.join(names)} |",
        "| --- |" + " ---: |" * len(names),
    ]
    for what, own in times.items():
        speeds = (mb / statistics.median(own[name]) for name in names)
        lines.append(f"| {what} | " + " | ".join(f"{speed:.1f}" for speed in speeds) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="rows and columns (default: 128)")
    parser.add_argument("--mode", default="nrmse", choices=["nrmse", "rel", "abs"])
    parser.add_argument("--bound", type=float, default=1e-3, help="(default: %(default)s)")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    array = realisations(Flow(frames=args.frames, stride=6, size=args.size), (SEED,))
    x = ((array[0, 0] - array.mean()) / np.ptp(array)).astype(np.float32)
    there = devices()
    times = measure(
        {name: kernel_calls(x, STEP * args.bound, device) for name, device in there.items()},
        args.rounds,
    ) | measure(
        {name: file_calls(array, args.mode, args.bound, device) for name, device in there.items()},
        args.rounds,
    )
    mb = array.nbytes / 1e6
    text = table(
        times, mb,
        f"{mb:.0f} MB of simulated flow, {args.mode} {args.bound:g}, {platform.machine()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads",
    )  # fmt: skip
    if not torch.cuda.is_available():
        text += "\nThere is no CUDA device here: nothing was measured on a GPU.\n"
    write_bytes(args.output_dir / "device.md", text.encode())
    content = {"mb": mb, "devices": there, "seconds": times}
    write_bytes(args.output_dir / "device.json", (json.dumps(content, indent=1) + "\n").encode())
    print(text)
    return 0


if __name__ == "__main__":
    run_main(main)
