"""Arrays made to break bounds, and requests that must be refused.

Each array is encoded with one choice of kernels and threads, again with another, which must give
the same bytes, and decoded from the bytes by both, which must give the same values. The error is
measured here, in extended precision (``numpy.longdouble``, 64 bits of mantissa on x86), not by
the code that the encoder checks itself with.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fuzz_arrays import ARRAYS, LAYOUTS, laid_out, random_shape

import caesar_freq
from caesar_freq import kernels
from caesar_freq.codec import backend
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_array
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.errors import InputError
from caesar_freq.metrics import to_five_axes

BASE = FrequencyModel.base()
#: Values of `CAESAR_FREQ_KERNELS` that stand for C, and all with torch on the processor.
COMPILED = ("native", "avx2", "portable")
KERNELS = (*COMPILED, "numba", "torch")
MODES = ("nrmse", "rel", "abs", "pw_rel", "psnr", "lossless")
#: What rounding in float64 may add to an error that the encoder held to be within its bound.
_ROUNDING = {"abs": 0.0, "rel": 2e-16, "pw_rel": 2e-16, "nrmse": 1e-12, "psnr": 1e-12}


#: What is no array of float32 or float64 with 1 to 5 axes, or no bound: refused in words.
REFUSED: dict[str, tuple[Callable[[], np.ndarray], str, float, dict]] = {
    "float16": (lambda: np.ones((3, 4), np.float16), "rel", 1e-3, {}),
    "int16": (lambda: np.ones((3, 4), np.int16), "abs", 1e-3, {}),
    "int64": (lambda: np.arange(9), "abs", 1.0, {}),
    "bool": (lambda: np.ones(9, bool), "lossless", 0.0, {}),
    "complex": (lambda: np.ones((3, 4), complex), "rel", 1e-3, {}),
    "object": (lambda: np.array([1.0, None]), "rel", 1e-3, {}),
    "words": (lambda: np.array(["a", "b"]), "rel", 1e-3, {}),
    "times": (lambda: np.array(["2020-01-01"], "M8[D]"), "rel", 1e-3, {}),
    "longdouble": (lambda: np.ones(9, np.longdouble), "rel", 1e-3, {}),
    "0 axes": (lambda: np.array(1.0), "rel", 1e-3, {}),
    "6 axes": (lambda: np.ones((2, 1, 2, 1, 2, 1)), "rel", 1e-3, {}),
    "empty": (lambda: np.ones((3, 0, 4)), "rel", 1e-3, {}),
    "all NaN": (lambda: np.full((3, 4), np.nan), "nrmse", 1e-3, {}),
    "negative bound": (lambda: np.ones((3, 4)), "rel", -1e-3, {}),
    "bound NaN": (lambda: np.ones((3, 4)), "nrmse", np.nan, {}),
    "bound inf": (lambda: np.ones((3, 4)), "abs", np.inf, {}),
    "pw_rel of 1": (lambda: np.ones((3, 4)), "pw_rel", 1.0, {}),
    "mode": (lambda: np.ones((3, 4)), "mse", 1e-3, {}),
    "effort": (lambda: np.ones((3, 4)), "rel", 1e-3, {"effort": 4}),
}


@dataclass
class Case:
    """An array, how it is coded, and how it is coded again."""

    name: str
    array: np.ndarray
    mode: str
    bound: float
    options: dict = field(default_factory=dict)
    ways: tuple[tuple[str, int], tuple[str, int]] = (("native", 1), ("portable", 2))
    refused: bool = False


class Cases:
    """The cases by number: the same seed and number give the same case."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def case(self, number: int) -> Case:
        """Make a case."""
        rng = np.random.default_rng([self.seed, number])
        if rng.random() < 0.05:
            name = str(rng.choice(list(REFUSED)))
            make, mode, bound, options = REFUSED[name]
            return Case(name, make(), mode, bound, options, refused=True)
        dtype = np.dtype(rng.choice([np.float32, np.float64]))
        make = ARRAYS[int(rng.integers(len(ARRAYS)))]
        with np.errstate(all="ignore"):
            array = make(rng, random_shape(rng), np.finfo(dtype)).astype(dtype)
        mode, options = str(rng.choice(MODES)), {"effort": int(rng.integers(4))}
        bound = _bound(rng, mode, array)
        finite = array[np.isfinite(array)]
        if rng.random() < 0.15 and finite.size:
            options["fill_value"] = float(rng.choice([finite[0], -999.0]))
        first = rng.choice(COMPILED)
        second = rng.choice([name for name in KERNELS if name != first])
        ways = (str(first), int(rng.integers(1, 3))), (str(second), int(rng.integers(1, 3)))
        layout = str(rng.choice(LAYOUTS))
        kind = make.__name__.strip("_")
        name = f"{kind} {dtype} {array.shape} {layout} {mode} {bound:.3g} {options} {ways}"
        return Case(name, laid_out(array, layout), mode, bound, options, ways)

    def run(self, number: int) -> tuple[str, str]:
        """(name, outcome) of a case."""
        case = self.case(number)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of overflow, for instance: none is expected
                return case.name, judge(case)
        except Exception as error:
            return case.name, f"FAILURE: {type(error).__name__}: {error}"

    def keep(self, number: int, folder: Path) -> Path:
        """Write the array of a case."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"bounds-{self.seed}-{number}.npy"
        np.save(path, self.case(number).array)
        return path


def _bound(rng: np.random.Generator, mode: str, array: np.ndarray) -> float:
    if mode == "lossless":
        return 0.0
    if mode == "psnr":
        return float(rng.uniform(5, 150))
    bound = float(10 ** rng.uniform(-9, -0.5))
    if mode == "pw_rel":
        return bound
    if rng.random() < 0.08:
        return float(rng.choice([0.0, 1e-310, 5e-324, 1.0, 1e308]))
    valid = array[np.isfinite(array)]
    size = float(np.abs(valid).max()) if valid.size else 0.0
    return bound * size if mode == "abs" and size else bound


def use(name: str) -> str | None:
    """Choose kernels by name for this process; returns the device of torch, if it is that."""
    os.environ["CAESAR_FREQ_KERNELS"] = "native" if name == "torch" else name
    kernels.library.cache_clear()
    backend.kernels.cache_clear()
    return "cpu" if name == "torch" else None


def judge(case: Case) -> str:
    """What the codec makes of a case."""
    nothing = not _valid(case.array, case.options.get("fill_value")).any()
    try:
        streams = [_encode(case, *way) for way in case.ways]
    except InputError as error:
        if case.refused or (nothing and case.mode != "lossless"):
            return "refused" if len(str(error)) > 20 else "FAILURE: refused without a reason"
        return f"FAILURE: refused: {error}"
    if case.refused:
        return "FAILURE: taken though it should be refused"
    if streams[0] != streams[1]:
        return "FAILURE: kernels write other bytes"
    arrays = [_decode(streams[0], *way) for way in case.ways]
    if arrays[0].tobytes() != arrays[1].tobytes():
        return "FAILURE: kernels restore other values"
    if arrays[0].shape != case.array.shape or arrays[0].dtype != case.array.dtype.newbyteorder("="):
        return f"FAILURE: {arrays[0].dtype} {arrays[0].shape} comes back"
    wrong = broken(case.array, arrays[0], case.mode, case.bound, case.options.get("fill_value"))
    return f"FAILURE: {wrong}" if wrong else f"{case.mode} held"


def _encode(case: Case, name: str, threads: int) -> bytes:
    model = BASE.on(use(name))
    return caesar_freq.encode(
        case.array, case.mode, case.bound, model=model, threads=threads, **case.options
    )


def _decode(stream: bytes, name: str, threads: int) -> np.ndarray:
    return decode_array(Container(stream), device=use(name), threads=threads)


def _valid(array: np.ndarray, fill_value: float | None) -> np.ndarray:
    try:
        valid = np.isfinite(array)
    except TypeError:  # an array of objects or words
        return np.ones(array.shape, bool)
    return valid if fill_value is None else valid & (array != array.dtype.type(fill_value))


def broken(
    original: np.ndarray, decoded: np.ndarray, mode: str, bound: float, fill_value: float | None
) -> str:
    """What is wrong with a decoded array; empty if its bound holds for every variable."""
    original = original.astype(decoded.dtype)
    for x, y in zip(to_five_axes(original), to_five_axes(decoded), strict=True):
        valid = _valid(x, fill_value)
        exact = mode == "lossless" or bound == 0
        same = x.view(f"u{x.itemsize}") == y.view(f"u{x.itemsize}")
        if not same[(~valid) | exact].all():
            return "values that should come back bit by bit do not"
        if exact or not valid.any():
            continue
        a, b = x[valid].astype(np.longdouble), y[valid].astype(np.longdouble)
        error, spread = np.abs(a - b), a.max() - a.min()
        if mode == "pw_rel":
            if (np.signbit(a) != np.signbit(b)).any():
                return "a sign changes"
            off, limit = (error - bound * np.abs(a) * (1 + _ROUNDING[mode])).max(), 0.0
        elif mode == "abs":
            off, limit = error.max(), bound
        elif mode == "rel":
            off, limit = error.max(), bound * spread
        else:
            target = bound if mode == "nrmse" else 10 ** (-bound / 20)
            off, limit = np.sqrt(np.mean(error**2)), target * spread
        if not off <= limit * (1 + _ROUNDING[mode]):
            return f"error {off:.6g} above {limit:.6g} ({mode})"
    return ""
