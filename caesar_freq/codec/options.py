"""Options of a call, and what can be said of them before a value is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from caesar_freq.codec.backend import workers_of
from caesar_freq.codec.candidates import SPATIAL
from caesar_freq.codec.effort import USUAL, effort_of
from caesar_freq.codec.header import DTYPES, MODES, Variable
from caesar_freq.codec.strategies import STRATEGIES
from caesar_freq.data.lazy import Source
from caesar_freq.errors import InputError


@dataclass(frozen=True)
class Options:
    """How to encode; see `api.encode` for the meaning of the fields."""

    mode: str = "rel"
    bound: float = 1e-3
    strategy: str = "frequency"
    fill_value: float | None = None
    metadata: bytes = b""
    threads: int | None = None
    embed_model: bool | None = None
    spatial: tuple[tuple[str, int], ...] = SPATIAL
    spacing: int | None = None
    effort: int = USUAL

    @property
    def workers(self) -> int:
        """Number of threads, and of chunks in flight."""
        return workers_of(self.threads)

    @property
    def lossless(self) -> bool:
        """Whether every bit is kept."""
        return self.mode == "lossless" or self.bound == 0

    @property
    def logarithmic(self) -> bool:
        """Whether logarithms of the values are coded."""
        return self.mode == "pw_rel" and not self.lossless


@dataclass(frozen=True)
class Whole:
    """The array of which a source is a part.

    Attributes
    ----------
    variables : sequence of Variable
        Offset and range of each of its variables.
    first : int
        Number of the one that is the source's first.
    """

    variables: Sequence[Variable]
    first: int = 0


def _is_bound(bound: object) -> bool:
    try:
        return isinstance(bound, Real) and 0 <= float(bound) < math.inf
    except OverflowError:  # an integer
        return False


def check_call(source: Source, options: Options) -> None:
    """All checks of the call that need no value."""
    if source.dtype not in DTYPES:
        raise InputError(
            f"the data is of type {source.dtype}; only float32 and float64 can be compressed, "
            "convert it first, for instance with astype('float32')"
        )
    if not 1 <= len(source.shape) <= 5:
        raise InputError(
            f"the data has {len(source.shape)} dimensions {source.shape}; 1 to 5 are possible, "
            "reshape it or compress its parts"
        )
    if 0 in source.shape:
        raise InputError(f"the data is empty, its shape is {source.shape}")
    if options.mode not in MODES:
        raise InputError(f"unknown mode {options.mode!r}; choose one of {', '.join(MODES)}")
    if options.strategy not in STRATEGIES:
        raise InputError(
            f"unknown strategy {options.strategy!r}; choose one of {', '.join(STRATEGIES)}"
        )
    effort_of(options.effort)
    workers_of(options.threads)
    if not isinstance(options.fill_value, Real | None):
        raise InputError(f"the fill value is {options.fill_value!r}; give a number or None")
    if not isinstance(options.metadata, bytes):
        raise InputError(f"the metadata are {type(options.metadata).__name__}; give bytes")
    if options.mode != "lossless" and not _is_bound(options.bound):
        raise InputError(f"the bound is {options.bound}; it must be a finite number of at least 0")
    if options.mode == "pw_rel" and options.bound >= 1:
        raise InputError(
            f"the bound is {options.bound}; for pw_rel it is a part of each value's size and must "
            "be below 1"
        )
