"""Arrays to ``.cfq`` streams; `decoder` is the way back."""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caesar_freq.codec.bodies import Bodies
from caesar_freq.codec.choose import SPATIAL
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import Box, boxes, five_dimensional
from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_chunks, in_order
from caesar_freq.codec.effort import USUAL, effort_of
from caesar_freq.codec.encoder import Encoder
from caesar_freq.codec.header import DTYPES, MODES, Header, Variable
from caesar_freq.codec.large import LargeVariable, fits
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.plan import STRATEGIES, models_for
from caesar_freq.codec.refit import refitted
from caesar_freq.codec.relative import (
    log_bound,
    log_magnitudes,
    relative_bound_holds,
    without_logarithm,
)
from caesar_freq.codec.segments import models_in
from caesar_freq.codec.statistics import span
from caesar_freq.data.lazy import Source
from caesar_freq.data.sections import missing
from caesar_freq.errors import InputError, ModelError
from caesar_freq.kernels.errors import compare

#: Bounds below which the transform works in float64 (pointwise and RMS, relative to the range).
_DOUBLE_POINTWISE, _DOUBLE_RMS = 2e-4, 1e-5
#: Streams below this many bytes are also coded with the packaged model, which need not be stored.
_SMALL_STREAM = 100_000


_SMALLEST = 5e-324


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
        return self.threads or os.cpu_count() or 1

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


def encode_array(
    array: np.ndarray,
    options: Options,
    model: FrequencyModel,
    predictors: list[Predictor] | tuple = (),
) -> bytes:
    """Compress `array` (1-D to 5-D, float32 or float64) to a stream.

    Raises
    ------
    InputError
        If the array or an option is not one that can be compressed.
    """
    out = io.BytesIO()
    encode_source(Source.of(np.asarray(array)), out, options, model, predictors)
    return out.getvalue()


def encode_source(
    source: Source,
    out: BinaryIO,
    options: Options,
    model: FrequencyModel,
    predictors: list[Predictor] | tuple = (),
    folder: Path | None = None,
    whole: Whole | None = None,
) -> int:
    """Compress a source chunk by chunk to an empty, seekable file; returns the stream's length.

    Parameters
    ----------
    whole : Whole, optional
        Where `source` is only a part of an array: bounds are relative to the ranges of the whole,
        and a part without any valid value is no error.
    folder : Path, optional
        For temporary files of about the size of the stream; without, those are kept in memory.

    Raises
    ------
    InputError
        If the data or an option is not one that can be compressed.
    """
    _check(source, options)
    if len({p.sha256 for p in predictors}) > 1:
        raise ModelError(
            "teacher and student come from different files, but a stream names one; merge them "
            "with caesar_freq.merge and give the combined_model.pth"
        )
    for exact in (False, True):
        with ThreadPoolExecutor(options.workers) as pool:
            write = partial(
                _stream, source, options, predictors=predictors, pool=pool, folder=folder,
                exact=exact, whole=whole,
            )  # fmt: skip
            found = [write(model)]
            head, bodies = found[0]
            if options.embed_model is None and len(head) + bodies.size < _SMALL_STREAM:
                # here the model's own bytes count: the packaged one may be better, it costs none
                if model.fingerprint != FrequencyModel.base().fingerprint:
                    found.append(write(FrequencyModel.base().on(model.device)))
            if effort_of(options.effort).fitted and options.embed_model is not False:
                chunks = partial(_chunk, source, options)
                fitted = refitted(model, Header.unpack(head)[0], chunks)
                if fitted is not None:
                    found.append(write(fitted))
            head, bodies = min(found, key=lambda s: len(s[0]) + s[1].size)
        out.seek(0)
        out.truncate()
        out.write(head)
        bodies.copy_to(out)
        bodies.close()
        stream = Container(out)
        broken = _broken_variable(stream, source, options, model, predictors)
        if broken is None:
            return stream.size
        # errors were estimated from coefficients; measured on decoded values they are exact
    raise RuntimeError(
        f"internal error: variable {broken} breaks the bound {options.mode} {options.bound} "
        "after decoding; nothing was written, please report the data"
    )


def _stream(source, options, model, predictors, pool, folder, exact, whole) -> tuple[bytes, Bodies]:
    """Head and bodies of the stream under one model; `exact` as `Encoder` has it."""
    header = Header(
        source.shape, source.dtype, options.mode, float(options.bound),
        _needs_double(source, options, whole), [], options.fill_value, metadata=options.metadata,
    )  # fmt: skip
    places = list(boxes(five_dimensional(source.shape)))
    make = partial(_chunk, source, options)
    bodies = Bodies(folder)
    if options.lossless:
        for written in in_order(
            pool, lambda place: make(place).write_lossless(), places, options.workers
        ):
            bodies.append(written.body)
    else:
        encoder = Encoder(
            header, model, pool, models_for(options.strategy, predictors, options.spacing),
            options.strategy, options.spacing, options.spatial, exact=exact,
            effort=effort_of(options.effort),
        )  # fmt: skip
        any_valid = whole is not None
        for v in range(five_dimensional(header.shape)[0]):
            own = [place for place in places if place.variable == v]
            encoder = replace(encoder, known=whole and whole.variables[whole.first + v])
            variable, coded, valid = _encode_variable(encoder, make, own, options, folder)
            any_valid |= valid
            header.variables.append(variable)
            bodies.take(coded)
        if not any_valid:
            raise InputError(
                "the data holds no finite value (all NaN, infinite or fill values); "
                "check the variable, or use the mode lossless to store it as it is"
            )
        header.fingerprint = model.fingerprint
        embed = options.embed_model
        if embed or (embed is None and FrequencyModel.packaged(model.fingerprint) is None):
            header.model = model.to_bytes()
    for predictor in predictors:
        if predictor.kind in models_in(bodies.modes):
            header.generator_sha256 = predictor.sha256
            header.generator_source = predictor.source
    header.linked = bodies.modes["linked"] > 0
    header.chunks = bodies.table
    return header.pack(), bodies


def _chunk(source: Source, options: Options, place: Box) -> Chunk:
    return Chunk(source.read(place.index), place, options.fill_value, options.logarithmic)


def _encode_variable(encoder, make, places, options, folder) -> tuple[Variable, Bodies, bool]:
    """One variable, whole if it is small or has generated frames; and whether a value is valid."""
    n_values = sum(math.prod(place.shape) for place in places)
    if not fits(n_values, encoder.header.double) and not encoder.predictors:
        return LargeVariable(encoder, make, places, options.workers, folder).encode()
    chunks = list(encoder.pool.map(make, places))
    variable, written = encoder.encode_variable(chunks)
    bodies = Bodies(folder)
    for one in written:
        bodies.append(one.body)
    return variable, bodies, not all(c.empty for c in chunks)


def _check(array: Source, options: Options) -> None:
    """All checks of the call that need no value."""
    if array.dtype not in DTYPES:
        raise InputError(
            f"the data is of type {array.dtype}; only float32 and float64 can be compressed, "
            "convert it first, for instance with astype('float32')"
        )
    if not 1 <= len(array.shape) <= 5:
        raise InputError(
            f"the data has {len(array.shape)} dimensions {array.shape}; 1 to 5 are possible, "
            "reshape it or compress its parts"
        )
    if 0 in array.shape:
        raise InputError(f"the data is empty, its shape is {array.shape}")
    if options.mode not in MODES:
        raise InputError(f"unknown mode {options.mode!r}; choose one of {', '.join(MODES)}")
    if options.strategy not in STRATEGIES:
        raise InputError(
            f"unknown strategy {options.strategy!r}; choose one of {', '.join(STRATEGIES)}"
        )
    effort_of(options.effort)
    if options.mode != "lossless" and not (options.bound >= 0 and np.isfinite(options.bound)):
        raise InputError(f"the bound is {options.bound}; it must be a finite number of at least 0")
    if options.mode == "pw_rel" and options.bound >= 1:
        raise InputError(
            f"the bound is {options.bound}; for pw_rel it is a part of each value's size and must "
            "be below 1"
        )


def _needs_double(source: Source, options: Options, whole=None) -> bool:
    if options.mode == "psnr":
        return 10 ** (-options.bound / 20) < _DOUBLE_RMS
    if options.mode == "nrmse":
        return options.bound < _DOUBLE_RMS
    if options.mode == "rel":
        return options.bound < _DOUBLE_POINTWISE
    if options.mode not in ("abs", "pw_rel"):
        return False
    bound = log_bound(options.bound, source.dtype) if options.logarithmic else options.bound
    if whole and not options.logarithmic:
        return bound < _DOUBLE_POINTWISE * max(variable.range for variable in whole.variables)
    lows, highs = {}, {}
    for place in boxes(five_dimensional(source.shape)):
        part = source.read(place.index)
        finite = part[~missing(part, options.fill_value)]
        if options.logarithmic:
            ignored = without_logarithm(finite)
            finite = log_magnitudes(finite, ignored)[~ignored]
        if finite.size:
            v = place.variable
            lows[v] = min(finite.min(), lows.get(v, np.inf))
            highs[v] = max(finite.max(), highs.get(v, -np.inf))
    spread = max((span(low, highs[v]) for v, low in lows.items()), default=0.0)
    return bound < _DOUBLE_POINTWISE * spread


def _broken_variable(stream: Container, source: Source, options, model, predictors) -> int | None:
    """Decode what was written; the number of a variable whose bound does not hold there."""
    variables = stream.header.variables
    squares: Counter = Counter()
    counts: Counter = Counter()
    for place, after in decode_chunks(stream, predictors, options.threads, model):
        before, v = source.read(place.index), place.variable
        spread = variables[v].range if variables else 0.0
        found = _chunk_error(before, after, options, spread)
        if found is None:
            return v
        squares[v] += found[0]
        counts[v] += found[1]
    if options.mode not in ("nrmse", "psnr"):
        return None
    for v, variable in enumerate(variables):
        limit = options.bound if options.mode == "nrmse" else 10 ** (-options.bound / 20)
        if counts[v] and not np.sqrt(squares[v] / counts[v]) <= limit * bool(variable.range):
            return v
    return None


def _chunk_error(before, after, options: Options, spread: float) -> tuple[float, int] | None:
    """Squared error over the range and count of the valid values; None if the bound is broken.

    The bound of a mean is for the caller to judge.
    """
    averaged = options.mode in ("nrmse", "psnr") and not options.lossless
    if not averaged or not np.isfinite(spread):
        mode, bound = options.mode, options.bound
        if averaged or (mode == "rel" and bound):
            # a constant has to stay what it is, but for the sign of zero
            mode, bound = "abs", max(0 if averaged else bound * spread, _SMALLEST)
        held = bound_holds(before, after, mode, bound, options.fill_value)
        return (0.0, 0) if held else None
    masked = missing(before, options.fill_value)
    n_masked = int(np.count_nonzero(masked))
    largest, squares = compare(before, after, masked, spread or 1.0)
    if not largest < np.inf or (n_masked and not _same_bits(before[masked], after[masked])):
        return None
    return squares, masked.size - n_masked


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    bits = np.uint32 if a.dtype == np.float32 else np.uint64
    return np.array_equal(a.view(bits), b.view(bits))


def bound_holds(before, after, mode: str, bound: float, fill_value: float | None = None) -> bool:
    """Whether `after` keeps the bound of one variable and every masked value bit by bit."""
    if mode == "lossless" or bound == 0:
        return _same_bits(before, after)
    masked = missing(before, fill_value)
    if not _same_bits(before[masked], after[masked]):
        return False
    if mode == "pw_rel":
        return relative_bound_holds(before[~masked], after[~masked], bound)
    good = before[~masked] if masked.any() else before
    if not good.size:
        return True
    spread = span(good.min(), good.max())
    scale = spread if 0 < spread < np.inf else 1.0
    largest, squares = compare(before, after, masked, scale)
    if mode in ("abs", "rel"):
        return largest <= (bound if mode == "abs" else bound * spread)
    if not np.isfinite(spread):
        return largest == 0
    limit = (bound if mode == "nrmse" else 10 ** (-bound / 20)) * spread
    return float(np.sqrt(squares / good.size)) * scale <= limit
