"""Other compressors behind one small contract: SZ3, SPERR, ZFP, TTHRESH, EBCC and lossless zstd.

``compress(values, knob, spread) -> bytes`` and ``decompress(data, shape, dtype) -> values``, where
`values` is 1-D to 3-D float32 or float64, finite, with a range above 0, and `knob` is the peer's
own knob, growing with the error and relative to `spread`, the range of the whole variable. What a
knob does to the error is the peer's affair: it is searched until the measured error is right
(`peer_search`).

Axes of length 1 are dropped before a peer sees the values: ZFP and SPERR would spend up to three
times the bits on them.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Protocol

import numpy as np

from caesar_freq.errors import InputError

_INSTALL = "install the peers with: pip install 'caesar-freq[peers]'"


class Peer(Protocol):
    """A compressor with one of its ways to be set."""

    setting: str
    guess: dict[str, float]  # by criterion: a first knob, in units of the target
    layouts: tuple[int, ...]  # frames in a block that are worth trying; 0 is the whole volume
    seconds: float  # of the processor; a search starts no new round after so many

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        """Code `values`; the larger the `knob`, the fewer bytes."""

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Inverse of `compress`, whatever the `setting` was."""


class _Quick:
    """A peer that is fast enough to be searched to the end on every layout.

    SPERR's transform depends on the length of a block, slow fields want the whole volume,
    independent frames want 1.
    """

    layouts = (0, 64, 32, 16, 1)
    seconds = math.inf


class SZ3(_Quick):
    """SZ3 (Liang et al., IEEE Trans. Big Data 2023) through `pysz`, absolute error bound.

    Parameters
    ----------
    setting : {"LORENZO_REG", "INTERP_LORENZO", "INTERP"}
        Prediction algorithm; SZ3's own choice (INTERP_LORENZO) is up to a third off the best.
    """

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.guess = {"nrmse": math.sqrt(3), "max_rel": 1.0}  # errors are nearly uniform
        self._sz = _load("pysz")

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        config = self._sz.szConfig()
        config.errorBoundMode = self._sz.szErrorBoundMode.ABS
        config.absErrorBound = knob * spread
        config.cmprAlgo = getattr(self._sz.szAlgorithm, self.setting)
        return self._sz.sz.compress(_squeezed(values), config)[0].tobytes()

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        stored = np.frombuffer(data, np.uint8).copy()  # pysz wants to own what it reads
        squeezed = [n for n in shape if n > 1] or [1]
        return self._sz.sz.decompress(stored, dtype, tuple(squeezed))[0].reshape(shape)


class SPERR(_Quick):
    """SPERR (Li et al., IPDPS 2023) through `numcodecs-wasm-sperr`.

    Parameters
    ----------
    setting : {"q", "bpp", "pwe"}
        Knob: quantisation step or rate (for a mean error; a rate ends inside a bit plane, which
        is better at loose errors), or pointwise error (with outlier coding). The rate of a knob
        k is 1/2 log2(1 + 1/k^2), that of a Gaussian source at the noise-to-signal ratio k^2.
    """

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self.guess = {"nrmse": 100.0 if setting == "bpp" else 4.0, "max_rel": 1.0}
        self._codec = _load("numcodecs_wasm_sperr").Sperr

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        value = math.log2(1 + knob**-2) / 2 if self.setting == "bpp" else knob * spread
        codec = self._codec(mode=self.setting, **{self.setting: value})
        return bytes(codec.encode(_squeezed(values)))

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        codec = self._codec(mode="q", q=1.0)  # the stream, not the codec, says how to decode
        return np.asarray(codec.decode(np.frombuffer(data, np.uint8))).reshape(shape)


class ZFP(_Quick):
    """ZFP (Lindstrom, TVCG 2014) through `zfpy` in fixed-accuracy mode.

    Its tolerance is rounded down to a power of two: it lands up to a factor two under a target.
    """

    setting = "accuracy"
    guess = {"nrmse": 30.0, "max_rel": 4.0}

    def __init__(self) -> None:
        self._zfpy = _load("zfpy")

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        return self._zfpy.compress_numpy(_squeezed(values), tolerance=knob * spread)

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return self._zfpy.decompress_numpy(data).reshape(shape)


class Zstd(_Quick):
    """Lossless: byte or bit shuffle, then zstd level 9 (`numcodecs.Blosc`); no knob.

    Takes any values, NaN and constant ones too.
    """

    guess: dict[str, float] = {}

    def __init__(self, setting: str) -> None:
        self.setting = setting
        blosc = _load("numcodecs").Blosc
        shuffle = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}[setting]
        self._codec = blosc(cname="zstd", clevel=9, shuffle=shuffle)

    def compress(self, values: np.ndarray, knob: float = 0.0, spread: float = 0.0) -> bytes:
        return bytes(self._codec.encode(np.ascontiguousarray(values)))

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(self._codec.decode(data), dtype).reshape(shape)


class Tthresh:
    """TTHRESH (Ballester-Ripoll et al., TVCG 2019) through `numcodecs-wasm-tthresh`.

    Codes a mean error only, and volumes with three axes longer than 1 only. The WebAssembly build
    fails to decode some volumes of more than some 32 frames; blocks of 16 work.
    """

    setting = "rmse"
    guess = {"nrmse": 0.9}
    layouts = (0, 16)
    seconds = 60.0

    def __init__(self) -> None:
        self._codec = _load("numcodecs_wasm_tthresh").Tthresh

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        codec = self._codec(eb_mode="rmse", eb_rmse=knob * spread)
        with _silent():
            return bytes(codec.encode(_squeezed(values)))

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        codec = self._codec(eb_mode="rmse", eb_rmse=1.0)
        with _silent():
            return np.asarray(codec.decode(np.frombuffer(data, np.uint8))).reshape(shape)


class EBCC:
    """EBCC (Huang et al. 2025), JPEG 2000 frame by frame, through `numcodecs-wasm-ebcc`.

    Takes float32 and frames of at least 32 x 32 only. Its pointwise bound does not always hold: like any peer's it counts where
    it was measured to.

    Parameters
    ----------
    setting : {"jpeg2000-only", "absolute"}
        Knob: the rate, as that of `SPERR`; or the pointwise error (with a coded residual).
    """

    guess = {"nrmse": 20.0, "max_rel": 0.99}
    layouts = (0,)
    seconds = 60.0

    def __init__(self, setting: str) -> None:
        self.setting = setting
        self._codec = _load("numcodecs_wasm_ebcc").Ebcc

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        if values.dtype != np.float32:
            raise InputError(f"ebcc codes float32 only, not {values.dtype}")
        if self.setting == "absolute":
            codec = self._codec(residual="absolute", error=knob * spread, base_cr=10.0)
        else:
            bits = math.log2(1 + knob**-2) / 2
            codec = self._codec(residual="jpeg2000-only", base_cr=32 / bits)
        return bytes(codec.encode(_squeezed(values)))

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        codec = self._codec(residual="jpeg2000-only", base_cr=10.0)
        return np.asarray(codec.decode(np.frombuffer(data, np.uint8))).reshape(shape)


_SETTINGS = {
    ("sz3", "nrmse"): (SZ3, ("LORENZO_REG", "INTERP_LORENZO", "INTERP")),
    ("sz3", "max_rel"): (SZ3, ("LORENZO_REG", "INTERP_LORENZO", "INTERP")),
    ("sperr", "nrmse"): (SPERR, ("q", "bpp")),
    ("sperr", "max_rel"): (SPERR, ("pwe", "q")),
    ("zfp", "nrmse"): (ZFP, ()),
    ("zfp", "max_rel"): (ZFP, ()),
    ("tthresh", "nrmse"): (Tthresh, ()),
    ("ebcc", "nrmse"): (EBCC, ("jpeg2000-only",)),
    ("ebcc", "max_rel"): (EBCC, ("absolute",)),
    ("zstd", "lossless"): (Zstd, ("shuffle", "bitshuffle")),
}
_PACKAGES = {
    "sz3": "pysz",
    "sperr": "numcodecs-wasm-sperr",
    "zfp": "zfpy",
    "zstd": "numcodecs",
    "tthresh": "numcodecs-wasm-tthresh",
    "ebcc": "numcodecs-wasm-ebcc",
}  # fmt: skip
NAMES = tuple(_PACKAGES)
#: Why a peer has no result for a criterion that other peers meet.
WITHOUT = {("tthresh", "max_rel"): "TTHRESH has no pointwise bound"}


def peers(name: str, criterion: str) -> list[Peer]:
    """The ways to set the peer `name` that are worth trying for `criterion`.

    Raises
    ------
    InputError
        If there is no such peer, it does not know the criterion, or it is not installed.
    """
    if (name, criterion) in WITHOUT:
        raise InputError(f"{WITHOUT[name, criterion]}: leave it out for the criterion {criterion}")
    if (name, criterion) not in _SETTINGS:
        known = ", ".join(f"{n} ({c})" for n, c in _SETTINGS)
        raise InputError(f"no peer {name!r} for the criterion {criterion!r}; there are: {known}")
    kind, settings = _SETTINGS[name, criterion]
    return [kind(setting) for setting in settings] or [kind()]


def version(name: str) -> str:
    """Package and version behind the peer `name`, e.g. ``pysz 1.1.0``."""
    package = _PACKAGES[name]
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError as error:
        raise InputError(f"the peer {name} needs the package {package}; {_INSTALL}") from error


def _load(module: str):
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"cannot import {module} ({error}); {_INSTALL}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches the process's standard output: TTHRESH prints on every call."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _squeezed(values: np.ndarray) -> np.ndarray:
    """Contiguous values without axes of length 1 (one axis stays)."""
    return np.ascontiguousarray(np.atleast_1d(values.squeeze()))
