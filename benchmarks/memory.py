"""Peak memory of the commands on files of growing size, each in a fresh process.

    python benchmarks/memory.py [--sizes 64 256 2048] [--threads 2] [--mode rel] [--bound 1e-3]
    python benchmarks/memory.py --calls [FILE.npy ...] [--threads 2] [--mode rel]

Prints a table: peak resident memory in MB and as a part of the array's size, seconds and
compression ratio. Files are made by a formula, part by part, in a folder that is removed.

With `--calls`, of ``encode`` and ``decode`` of arrays (of 16, 32 and 64 MB by the formula, if none are
given) in several modes, or one: peaks over what the process held when the codec had coded a small part, the
array itself and the result among them, in arrays.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 512
_MB = 1 << 20
_IDLE = "import sys, caesar_freq.cli\n"
_COMMAND = "import sys\nfrom caesar_freq.cli import main\nmain(sys.argv[1:])\n"
_MEMORY = (
    "import sys, numpy, caesar_freq\na = numpy.load(sys.argv[1])\n"
    "threads = int(sys.argv[2])\n"
    "caesar_freq.encode(a, sys.argv[3], float(sys.argv[4]), threads=threads)\n"
)
_CALL = """import sys
from pathlib import Path
import numpy
import caesar_freq
from caesar_freq.measuring import peak_memory_mb

path, stream, action, mode, bound, threads = (f(a) for f, a in zip(
    (Path, Path, str, str, float, int), sys.argv[1:]))
part = numpy.load(path, mmap_mode="r")
part = part[(slice(1),) * (part.ndim - 3) + (slice(16), slice(128), slice(128))].copy()
caesar_freq.decode(caesar_freq.encode(part, mode, bound, threads=threads), threads=threads)
idle = peak_memory_mb()
if action == "encode":
    stream.write_bytes(caesar_freq.encode(numpy.load(path), mode, bound, threads=threads))
else:
    caesar_freq.decode(stream.read_bytes(), threads=threads)
print(peak_memory_mb() - idle)
"""
#: Modes and bounds of the calls; the last two work in float64.
_BOUNDS = (("nrmse", 1e-2), ("nrmse", 1e-3), ("rel", 1e-3), ("pw_rel", 1e-2), ("pw_rel", 1e-3),
           ("rel", 1e-5), ("lossless", 0.0))  # fmt: skip


def make(path: Path, megabytes: int) -> None:
    """A float32 file ``[T, 512, 512]``: two patterns that drift apart, and a little noise."""
    frames = megabytes * _MB // (4 * SIDE * SIDE)
    y, x = (axis * np.float32(2 * np.pi / SIDE) for axis in np.ogrid[0:SIDE, 0:SIDE])
    slow = sum(np.sin(k * x + (5 - k) * y) / k for k in range(1, 6))
    fast = sum(np.cos(3 * k * x - 7 * k * y) / k**2 for k in range(1, 4))
    noise = 0.002 * np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    np.lib.format.open_memmap(path, "w+", np.float32, (frames, SIDE, SIDE))
    for start in range(0, frames, 16):
        part = np.lib.format.open_memmap(path, "r+")[start : start + 16]
        for t, frame in enumerate(part, start):
            frame[...] = np.roll(slow, t, 1) + np.roll(fast, -2 * t, 0)
            # a shift of its own for every frame makes the noise new to the codec
            frame += np.roll(noise, 7919 * t)


def measure(program: str, *arguments) -> tuple[float, float]:
    """Peak memory in MB and seconds of a Python program in a process of its own."""
    wrapper = (
        "import resource, subprocess, sys\n"
        "code = subprocess.call([sys.executable, '-c', *sys.argv[1:]], stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", wrapper, program, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit / _MB, time.perf_counter() - start


def kinds(array: np.ndarray) -> dict[str, np.ndarray]:
    """An array as it is, in float64, and with a disc of missing values in every frame."""
    y, x = np.ogrid[-1 : 1 : 1j * array.shape[-2], -1 : 1 : 1j * array.shape[-1]]
    missing = np.where(x * x + y * y < 0.2, np.array(np.nan, array.dtype), array)
    return {"float32": array, "float64": array.astype(np.float64), "missing values": missing}


def calls(files: list[Path], threads: int, only: str | None) -> None:
    """Measure and print `encode` and `decode` of arrays in memory."""
    print(
        f"{threads} threads\n\n| array, MB | kind | mode | encode, arrays | decode, arrays | CR |"
    )
    print("|---:|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        path, stream = Path(folder) / "x.npy", Path(folder) / "x.cfq"
        for file in files or (16, 32, 64):
            if isinstance(file, int):
                make(path, file)
            for kind, array in kinds(np.load(file if isinstance(file, Path) else path)).items():
                np.save(path, array)
                size = array.nbytes / 1e6
                for mode, bound in [b for b in _BOUNDS if only in (None, b[0])]:
                    found = []
                    for action in ("encode", "decode"):
                        command = (path, stream, action, mode, bound, threads)
                        done = subprocess.run(
                            [sys.executable, "-c", _CALL, *map(str, command)],
                            stdout=subprocess.PIPE, text=True, check=True,
                        )  # fmt: skip
                        found.append(float(done.stdout) / size)
                    ratio = array.nbytes / stream.stat().st_size
                    print(f"| {size:.0f} | {kind} | {mode} {bound:g} | {found[0]:.1f} | "
                          f"{found[1]:.1f} | {ratio:.1f} |", flush=True)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 2048], help="in MB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mode", help="default: rel, of calls all")
    parser.add_argument("--bound", type=float, default=1e-3)
    parser.add_argument("--skip-encode", action="store_true", help="measure the commands alone")
    parser.add_argument(
        "--calls", type=Path, nargs="*", metavar="FILE", help="measure calls on arrays instead"
    )
    args = parser.parse_args()
    if args.calls is not None:
        calls(args.calls, args.threads, args.mode)
        return
    args.mode = args.mode or "rel"
    options = ("--mode", args.mode, "--bound", args.bound, "--threads", args.threads)
    idle, _ = measure(_IDLE)
    print(f"{args.mode} {args.bound:g}, {args.threads} threads; Python alone takes {idle:.0f} MB\n")
    print("| array, MB | step | peak, MB | peak / array | seconds | CR |")
    print("|---:|---|---:|---:|---:|---:|")
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            array, packed, back = (Path(folder) / n for n in ("x.npy", "x.cfq", "y.npy"))
            make(array, size)
            rows = [("compress", _COMMAND, ("compress", array, packed, *options))]
            rows.append(
                ("decompress", _COMMAND, ("decompress", packed, back, "--threads", args.threads))
            )
            part = ("--frames", "5", "--threads", args.threads)
            rows.append(("one frame", _COMMAND, ("decompress", packed, back, *part)))
            if not args.skip_encode:
                rows.append(("encode()", _MEMORY, (array, args.threads, args.mode, args.bound)))
            for name, program, arguments in rows:
                peak, seconds = measure(program, *arguments)
                ratio = array.stat().st_size / packed.stat().st_size
                print(f"| {size} | {name} | {peak:.0f} | {peak / size:.2f} | {seconds:.0f} | "
                      f"{ratio:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
