"""Time, memory and frames of one measurement; its record in words and in numbers of JSON."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from caesar_freq import metrics
from caesar_freq.atomic import atomic_path
from caesar_freq.data.sections import Sections

OURS = ("frequency", "restoration", "teacher", "student", "auto")
CRITERIA = ("nrmse", "max_rel", "lossless")
# A call faster than this is timed once more, so that loading and compiling code does not count.
_REPEAT_BELOW_SECONDS = 2.0


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result, seconds) of a call; a fast one runs twice and its faster run counts."""
    best, result = math.inf, None
    for _ in range(2):
        start = time.perf_counter()
        result = call()
        first, best = best, min(best, time.perf_counter() - start)
        if math.isfinite(first) or best > _REPEAT_BELOW_SECONDS:
            break
    return result, best


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB, all of it: interpreter, array, codec."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        # bytes on macOS, KiB elsewhere; /proc is better: this one inherits the parent's peak
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def slices_path(compressed: Path) -> Path:
    """Where the frame for the error map of a compressed file is kept."""
    return compressed.with_name(f"{compressed.stem}_slice.npz")


def keep_slices(source: Sections, decoded: np.ndarray, path: Path) -> None:
    """The middle frame of the first section of the first variable, original and decoded.

    Missing values are NaN in both.
    """
    middle = source.values.shape[2] // 2
    missing = source.mask[0, 0, middle]
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            original=np.where(missing, np.nan, source.values[0, 0, middle]),
            decoded=np.where(missing, np.nan, decoded[0, 0, middle]),
            frame=middle,
            range=metrics.variable_ranges(source.values[:1], source.fill_value)[0],
        )


def in_words(record: dict) -> str:
    """One line on a record."""
    head = "{dataset} {codec} {criterion} {target:g}: ".format(**record)
    if record["status"] == "failed":
        return head + f"FAILED: {record['error']}"
    head += "CR {cr:.4g}, NRMSE {nrmse:.4g}, max {max_error_rel:.4g}, ".format(**record)
    return head + ("bound held" if record["bound_held"] else "BOUND BROKEN")
