"""Arrays to ``.cfq`` streams; `decoder` is the way back."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caesar_freq.codec.bodies import Bodies
from caesar_freq.codec.census import WITHOUT_VARIABLE
from caesar_freq.codec.checking import broken_variable
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import Box, boxes, five_dimensional, is_table
from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import in_order
from caesar_freq.codec.effort import effort_of
from caesar_freq.codec.encoder import Encoder
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.large import LargeVariable, fits
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.options import Options, Whole, check_call
from caesar_freq.codec.parts import parts
from caesar_freq.codec.refit import refitted
from caesar_freq.codec.relative import (
    log_bound,
    log_magnitudes,
    without_logarithm,
)
from caesar_freq.codec.segments import models_in
from caesar_freq.codec.statistics import span
from caesar_freq.codec.strategies import models_for
from caesar_freq.codec.targets import allowed_nrmse
from caesar_freq.data.lazy import Source
from caesar_freq.data.sections import missing
from caesar_freq.errors import InputError, ModelError
from caesar_freq.kernels.memory import trim

#: Bounds below which the transform works in float64 (pointwise and RMS, relative to the range).
_DOUBLE_POINTWISE, _DOUBLE_RMS = 2e-4, 1e-5
#: Streams below this many bytes are also coded with the packaged model, which need not be stored.
_SMALL_STREAM = 100_000
#: In streams of so few bytes steps and the name of the model are left out where no chunk needs them.
_TINY = 512


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
    check_call(source, options)
    if len({p.sha256 for p in predictors}) > 1:
        raise ModelError(
            "teacher and student come from different files, but a stream names one; merge them "
            "with caesar_freq.merge and give the combined_model.pth"
        )
    effort, double = effort_of(options.effort), _needs_double(source, options, whole)
    for exact in (False, True):
        with ThreadPoolExecutor(options.workers) as pool:
            write = partial(
                _stream, source, options, predictors=predictors, pool=pool, folder=folder,
                exact=exact, whole=whole, double=double, effort=effort,
            )  # fmt: skip
            found = [write(model)]
            head, bodies, _ = found[0]
            alone = whole is None and not predictors
            if alone and bodies.size >= _TINY and _may_be_blocks(source, options):
                # without levels, which the table has, and faster
                found.append(write(model, narrow=False, effort=replace(effort, levels=False)))
            if options.embed_model is None and len(head) + bodies.size < _SMALL_STREAM:
                # here the model's own bytes count: the packaged one may be better, it costs none
                if model.fingerprint != FrequencyModel.base().fingerprint:
                    found.append(write(FrequencyModel.base().on(model.device)))
            if effort.fitted and options.embed_model is not False:
                chunks = partial(_chunk, source, options)
                fitted = refitted(model, Header.unpack(head)[0], chunks)
                if fitted is not None:
                    found.append(write(fitted))
            head, bodies, variables = min(found, key=lambda s: len(s[0]) + s[1].size)
        out.seek(0)
        out.truncate()
        out.write(head)
        bodies.copy_to(out)
        bodies.close()
        stream = Container(out)
        trim()
        broken = broken_variable(stream, source, options, model, predictors, variables)
        if broken is None:
            return stream.size
        # errors were estimated from coefficients; measured on decoded values they are exact
    raise RuntimeError(
        f"internal error: variable {broken} breaks the bound {options.mode} {options.bound} "
        "after decoding; nothing was written, please report the data"
    )


def _stream(
    source, options, model, predictors, pool, folder, exact, whole, double, effort, narrow=True
) -> tuple[bytes, Bodies, list[Variable]]:
    """Head and bodies of the stream under one model, and its variables.

    `exact` and `effort` are as `Encoder` has them, `double` and `narrow` as `Header` does; generated
    frames need frames.
    """
    header = Header(
        source.shape, source.dtype, options.mode, float(options.bound),
        double, [], options.fill_value, metadata=options.metadata,
        narrow=narrow and not predictors,
    )  # fmt: skip
    places = list(header.places())
    make = partial(_chunk, source, options)
    bodies, embed = Bodies(folder), options.embed_model
    if options.lossless:
        for written in in_order(
            pool, lambda place: make(place).write_lossless(), places, options.workers
        ):
            bodies.append(written.body)
    else:
        encoder = Encoder(
            header, model, pool, models_for(options.strategy, predictors, options.spacing),
            options.strategy, options.spacing, options.spatial, exact=exact,
            effort=effort,
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
        if embed or (embed is None and FrequencyModel.packaged(model.fingerprint) is None):
            header.model = model.to_bytes()
    for predictor in predictors:
        if predictor.kind in models_in(bodies.modes):
            header.generator_sha256 = predictor.sha256
            header.generator_source = predictor.source
    header.linked = bodies.modes["linked"] > 0
    header.chunks = bodies.table
    variables = header.variables
    spare = whole is None and not embed and bodies.size < _TINY
    if spare and WITHOUT_VARIABLE.issuperset(+bodies.modes):
        header.variables, header.model = [], b""
    return header.pack(), bodies, variables


def _may_be_blocks(source: Source, options: Options) -> bool:
    """Whether a table of time and short lines has to be compared with blocks of frames.

    Those are up to 2^16 frames long and so take half the bytes of seasons and tides at loose bounds.
    """
    _, _, frames, height, width = five_dimensional(source.shape)
    asked = effort_of(options.effort).levels and not options.lossless
    return asked and frames > 1 and is_table(height, width)


def _chunk(source: Source, options: Options, place: Box) -> Chunk:
    values = source.read(place.index).reshape(place.shape)
    return Chunk(values, place, options.fill_value, options.logarithmic)


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


def _needs_double(source: Source, options: Options, whole=None) -> bool:
    if options.mode in ("nrmse", "psnr"):
        return allowed_nrmse(options.mode, options.bound) < _DOUBLE_RMS
    if options.mode == "rel":
        return options.bound < _DOUBLE_POINTWISE
    if options.mode not in ("abs", "pw_rel"):
        return False
    bound = log_bound(options.bound, source.dtype) if options.logarithmic else options.bound
    if whole and not options.logarithmic:
        return bound < _DOUBLE_POINTWISE * max(variable.range for variable in whole.variables)
    lows, highs = {}, {}
    for place in boxes(five_dimensional(source.shape)):
        values, v = source.read(place.index), place.variable
        for at in parts(values):
            finite = values[at][~missing(values[at], options.fill_value)]
            if options.logarithmic:
                ignored = without_logarithm(finite)
                finite = log_magnitudes(finite, ignored)[~ignored]
            if finite.size:
                lows[v] = min(finite.min(), lows.get(v, np.inf))
                highs[v] = max(finite.max(), highs.get(v, -np.inf))
    spread = max((span(low, highs[v]) for v, low in lows.items()), default=0.0)
    return bound < _DOUBLE_POINTWISE * spread
