"""Arrays to ``.cfq`` streams and back: the one place that knows the whole format."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import google_crc32c
import numpy as np

from caesar_freq.codec.census import chunk_census
from caesar_freq.codec.choose import SPATIAL
from caesar_freq.codec.chunk import Chunk, Written, read_chunk, span
from caesar_freq.codec.chunks import boxes, five_dimensional
from caesar_freq.codec.coders import STUDENT, TEACHER, Predictor
from caesar_freq.codec.encoder import STRATEGIES, Encoder
from caesar_freq.codec.header import DTYPES, MODES, Header
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.relative import (
    log_bound,
    log_magnitudes,
    relative_bound_holds,
    without_logarithm,
)
from caesar_freq.data.sections import missing
from caesar_freq.errors import CorruptStreamError, InputError, ModelError
from caesar_freq.kernels.errors import compare

#: Bounds below which the transform works in float64 (pointwise and RMS, relative to the range).
_DOUBLE_POINTWISE, _DOUBLE_RMS = 2e-4, 1e-5
#: Streams below this many bytes are also coded with the packaged model, which need not be stored.
_SMALL_STREAM = 100_000
_PREDICTOR_MODES = {"student": STUDENT, "teacher": TEACHER}


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
    array = _checked(array, options)
    if len({p.sha256 for p in predictors}) > 1:
        raise ModelError(
            "teacher and student come from different files, but a stream names one; merge them "
            "with caesar_freq.merge and give the combined_model.pth"
        )
    cube = array.reshape(five_dimensional(array.shape))
    with ThreadPoolExecutor(options.threads or os.cpu_count()) as pool:
        chunks = list(pool.map(
            lambda box: Chunk(
                cube[box.index], box, options.fill_value,
                options.mode == "pw_rel" and options.bound > 0,
            ), boxes(cube.shape)))  # fmt: skip
        data = _stream(array, chunks, options, model, predictors, pool)
        if options.embed_model is None and len(data) < _SMALL_STREAM:
            # here the model's own bytes count: the packaged one, which costs none, may be better
            base = FrequencyModel.base()
            if model.fingerprint != base.fingerprint:
                other = _stream(array, chunks, options, base, predictors, pool)
                data = min(data, other, key=len)
    _verify(data, array, options, model, predictors)
    return data


def _stream(array, chunks, options, model, predictors, pool) -> bytes:
    """The stream of `chunks` under one model."""
    header = Header(
        array.shape, array.dtype, options.mode, float(options.bound), _needs_double(array, options),
        [], options.fill_value, metadata=options.metadata,
    )  # fmt: skip
    if options.mode == "lossless" or options.bound == 0:
        written = list(pool.map(Chunk.write_lossless, chunks))
    else:
        if all(c.empty for c in chunks):
            raise InputError(
                "the data holds no finite value (all NaN, infinite or fill values); "
                "check the variable, or use the mode lossless to store it as it is"
            )
        written = _encode_variables(chunks, header, options, model, predictors, pool)
    frames = sum((chunk_census(w.body, 1)[1] for w in written), Counter())
    for predictor in predictors:
        if frames[predictor.kind]:
            header.generator_sha256 = predictor.sha256
            header.generator_source = predictor.source
    header.chunks = [(len(w.body), google_crc32c.value(w.body)) for w in written]
    return header.pack() + b"".join(w.body for w in written)


def _encode_variables(chunks, header, options, model, predictors, pool) -> list[Written]:
    available = {_PREDICTOR_MODES[p.kind]: p for p in predictors}
    encoder = Encoder(header, model, pool, available, options.strategy, options.spatial)
    written: list[Written] = []
    for v in range(five_dimensional(header.shape)[0]):
        variable, bodies = encoder.encode_variable([c for c in chunks if c.box.variable == v])
        header.variables.append(variable)
        written += bodies
    header.fingerprint = model.fingerprint
    embed = options.embed_model
    if embed or (embed is None and model.fingerprint != FrequencyModel.base().fingerprint):
        header.model = model.to_bytes()
    return written


def _checked(array: np.ndarray, options: Options) -> np.ndarray:
    """The array in native byte order and C order, after all checks of the call."""
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in DTYPES:
        raise InputError(
            f"the data is of type {array.dtype}; only float32 and float64 can be compressed, "
            "convert it first, for instance with astype('float32')"
        )
    if not 1 <= array.ndim <= 5:
        raise InputError(
            f"the data has {array.ndim} dimensions {array.shape}; 1 to 5 are possible, "
            "reshape it or compress its parts"
        )
    if array.size == 0:
        raise InputError(f"the data is empty, its shape is {array.shape}")
    if options.mode not in MODES:
        raise InputError(f"unknown mode {options.mode!r}; choose one of {', '.join(MODES)}")
    if options.strategy not in STRATEGIES:
        raise InputError(
            f"unknown strategy {options.strategy!r}; choose one of {', '.join(STRATEGIES)}"
        )
    if options.mode != "lossless" and not (options.bound >= 0 and np.isfinite(options.bound)):
        raise InputError(f"the bound is {options.bound}; it must be a finite number of at least 0")
    if options.mode == "pw_rel" and options.bound >= 1:
        raise InputError(
            f"the bound is {options.bound}; for pw_rel it is a part of each value's size and must "
            "be below 1"
        )
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _needs_double(array: np.ndarray, options: Options) -> bool:
    if options.mode == "psnr":
        return 10 ** (-options.bound / 20) < _DOUBLE_RMS
    if options.mode == "nrmse":
        return options.bound < _DOUBLE_RMS
    if options.mode == "rel":
        return options.bound < _DOUBLE_POINTWISE
    cube = array.reshape(five_dimensional(array.shape))
    finite = np.isfinite(cube)
    bound = options.bound
    if options.mode == "pw_rel":
        finite &= ~without_logarithm(cube)
        cube, bound = log_magnitudes(cube, ~finite), log_bound(bound, array.dtype)
    spread = max(
        span(part[ok].min(), part[ok].max()) if ok.any() else 0.0 for part, ok in zip(cube, finite)
    )
    return options.mode in ("abs", "pw_rel") and bound < _DOUBLE_POINTWISE * spread


def _verify(data, array, options, model, predictors) -> None:
    """Decode what was written; a pointwise bound that does not hold there is our fault, say so."""
    decoded = decode_array(data, predictors, options.threads, model)
    cube, other = (a.reshape(five_dimensional(a.shape)) for a in (array, decoded))
    for v, (before, after) in enumerate(zip(cube, other)):
        if not bound_holds(before, after, options.mode, options.bound, options.fill_value):
            raise RuntimeError(
                f"internal error: variable {v} breaks the bound {options.mode} {options.bound} "
                "after decoding; nothing was written, please report the data"
            )


def bound_holds(before, after, mode: str, bound: float, fill_value: float | None = None) -> bool:
    """Whether `after` keeps the bound of one variable and every masked value bit by bit."""
    bits = np.uint32 if before.dtype == np.float32 else np.uint64
    if mode == "lossless" or bound == 0:
        return bool(np.array_equal(before.view(bits), after.view(bits)))
    masked = missing(before, fill_value)
    if not np.array_equal(before[masked].view(bits), after[masked].view(bits)):
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


def decode_array(
    data: bytes,
    predictors: list[Predictor] | tuple = (),
    threads: int | None = None,
    model: FrequencyModel | None = None,
) -> np.ndarray:
    """Inverse of `encode_array`.

    Parameters
    ----------
    predictors
        Needed for streams with generated frames.
    model
        Needed for streams that neither hold their model nor use the packaged one.

    Raises
    ------
    CorruptStreamError
        If the stream is truncated or altered; the message says which chunk.
    ModelError
        If it needs a model that was not given.
    """
    header, at = Header.unpack(data)
    if at + sum(length for length, _ in header.chunks) != len(data):
        raise CorruptStreamError("the file is truncated, or something was appended to it")
    network = _model_of(header, model) if header.variables else None
    available = _predictors_of(header, predictors)
    shape = five_dimensional(header.shape)
    out = np.empty(shape, header.dtype)
    ends = np.cumsum([at] + [length for length, _ in header.chunks]).tolist()

    def one(arguments) -> None:
        number, box = arguments
        body = data[ends[number] : ends[number + 1]]
        try:
            if google_crc32c.value(body) != header.chunks[number][1]:
                raise CorruptStreamError("its checksum does not match")
            out[box.index] = read_chunk(body, box, header, network, available)
        except CorruptStreamError as error:
            raise CorruptStreamError(f"chunk {number} ({box}) is damaged: {error}") from error

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(one, enumerate(boxes(shape))))
    return out.reshape(header.shape)


def _model_of(header: Header, given: FrequencyModel | None) -> FrequencyModel:
    if header.model:
        try:
            return FrequencyModel.from_bytes(header.model, "the model in the file")
        except ModelError as error:
            raise CorruptStreamError(f"the file's own model is damaged: {error}") from error
    for model in (given, FrequencyModel.base()):
        if model is not None and model.fingerprint.startswith(header.fingerprint):
            return model
    raise ModelError(
        f"the file was written with the frequency model {header.fingerprint}, which is neither in "
        "it nor in this release; give that model"
    )


def _predictors_of(header: Header, predictors) -> dict[int, Predictor]:
    if not header.generator_sha256:
        return {}
    found = [p for p in predictors if p.sha256 == header.generator_sha256]
    if not found:
        given = f", not {predictors[0].sha256[:16]}…" if predictors else ""
        raise ModelError(
            f"the file has generated frames and needs the model {header.generator_source} with "
            f"sha256 {header.generator_sha256}{given}; give that file as the model"
        )
    return {_PREDICTOR_MODES[p.kind]: p for p in found}
