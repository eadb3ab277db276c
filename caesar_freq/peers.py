"""Other compressors behind one small contract: SZ3, SPERR, ZFP and lossless zstd.

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
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Protocol

import numpy as np

from caesar_freq.errors import InputError

_INSTALL = "install the peers with: pip install 'caesar-freq[peers]'"


class Peer(Protocol):
    """A compressor with one of its ways to be set."""

    setting: str
    guess: dict[str, float]  # by criterion: a first knob, in units of the target

    def compress(self, values: np.ndarray, knob: float, spread: float) -> bytes:
        """Code `values`; the larger the `knob`, the fewer bytes."""

    def decompress(self, data: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Inverse of `compress`, whatever the `setting` was."""


class SZ3:
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


class SPERR:
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


class ZFP:
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


class Zstd:
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


_SETTINGS = {
    ("sz3", "nrmse"): (SZ3, ("LORENZO_REG", "INTERP_LORENZO", "INTERP")),
    ("sz3", "max_rel"): (SZ3, ("LORENZO_REG", "INTERP_LORENZO", "INTERP")),
    ("sperr", "nrmse"): (SPERR, ("q", "bpp")),
    ("sperr", "max_rel"): (SPERR, ("pwe", "q")),
    ("zfp", "nrmse"): (ZFP, ()),
    ("zfp", "max_rel"): (ZFP, ()),
    ("zstd", "lossless"): (Zstd, ("shuffle", "bitshuffle")),
}
_PACKAGES = {
    "sz3": "pysz",
    "sperr": "numcodecs-wasm-sperr",
    "zfp": "zfpy",
    "zstd": "numcodecs",
}  # fmt: skip
NAMES = tuple(_PACKAGES)


def peers(name: str, criterion: str) -> list[Peer]:
    """The ways to set the peer `name` that are worth trying for `criterion`.

    Raises
    ------
    InputError
        If there is no such peer, it does not know the criterion, or it is not installed.
    """
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


def _squeezed(values: np.ndarray) -> np.ndarray:
    """Contiguous values without axes of length 1 (one axis stays)."""
    return np.ascontiguousarray(np.atleast_1d(values.squeeze()))
