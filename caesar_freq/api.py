"""The Python interface: ``encode``, ``encode_to`` and ``decode``."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caesar_freq.codec.backend import codec_device
from caesar_freq.codec.candidates import SPATIAL
from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_array
from caesar_freq.codec.effort import USUAL
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.codec.options import Options
from caesar_freq.codec.region import Range, Region
from caesar_freq.codec.stream import encode_source
from caesar_freq.data.lazy import Source
from caesar_freq.errors import InputError


def encode(
    array: np.ndarray,
    mode: str = "rel",
    bound: float = 1e-3,
    *,
    model: str | Path | FrequencyModel = "base",
    generator: Predictor | Iterable[Predictor] | None = None,
    strategy: str | None = None,
    fill_value: float | None = None,
    metadata: bytes = b"",
    threads: int | None = None,
    device: str | None = None,
    embed_model: bool | None = None,
    spatial: tuple[tuple[str, int], ...] = SPATIAL,
    interpo_rate: int | None = None,
    effort: int = USUAL,
) -> bytes:
    """Compress an array so that the error bound holds at every finite value after `decode`.

    Parameters
    ----------
    array : float32 or float64, 1-D to 5-D
        Axes are the last of variable, section, time, height, width (4-D: without section). NaN,
        infinities and `fill_value` are restored bit by bit.
    mode : {"rel", "abs", "nrmse", "psnr", "pw_rel", "lossless"}
        ``abs``: largest absolute error; ``rel``: the same in units of each variable's range
        (max - min of its finite values); ``nrmse``: RMSE over the range of each variable;
        ``psnr``: ``-20 log10(nrmse)`` in dB; ``pw_rel``: largest error of a value in units of its
        own size, with signs, zeros and subnormal numbers exact.
    bound : float
        In the unit of `mode`; 0 means lossless. Below 1 for ``pw_rel``.
    model : "base", path or FrequencyModel
        Entropy model. One that is not packaged is put into the stream (about 3 KB) unless
        `embed_model` is False; streams below 100 kB are coded with the packaged one, too, and the
        shorter stream is kept.
    generator : predictor or predictors, optional
        Teacher or student (`models.predictor.load_predictor`).
    strategy : str, optional
        ``auto`` (default with a generator) lets each block of frames take the mode with the
        fewest bytes; the others force theirs: ``frequency`` (default without a generator) no
        network, ``restoration`` better frames of decoded ones, ``student`` and ``teacher``
        keyframes with frames filled in between them, ``both`` keyframes and restoration.
    fill_value : float, optional
        Value that marks missing data.
    metadata : bytes, optional
        Kept as it is, for instance names and coordinates.
    threads : int, optional
        Default: all cores. Does not change the result.
    device : {"cpu", "auto", "cuda"} or "cuda:N", optional
        Where transform, quantiser and contexts run. Does not change the result either; "auto" is the
        processor, and whatever the device, what it wrote is checked there.
    embed_model : bool, optional
        Default: embed unless the packaged model makes the shorter stream.
    effort : {0, 1, 2, 3}, optional
        How hard to look for few bytes, from fastest to smallest; the bound holds with each of them
        (`codec.effort`). Default: 2.
    spatial : tuple of (kind, cell), optional
        Restricts the spatial transforms, e.g. ``(("haar", 16),)``; default: all, of which wavelets
        only with effort 3.
    interpo_rate : int, optional
        Distance of keyframes; by default the best of those that the generator knows.

    Returns
    -------
    bytes
        A ``.cfq`` stream. Its length is the compressed size.

    Raises
    ------
    InputError
        If array or options cannot be compressed.
    ModelError
        If a model file is missing or of another kind.
    """
    if isinstance(array, np.ma.MaskedArray):  # what netCDF4 gives
        raise InputError(
            "the data is a masked array, whose mask would be lost; give array.filled(numpy.nan)"
        )
    out = io.BytesIO()
    encode_to(
        Source.of(np.asarray(array)), out, mode, bound, model=model, generator=generator,
        strategy=strategy, fill_value=fill_value, metadata=metadata, threads=threads,
        device=device, embed_model=embed_model, spatial=spatial, interpo_rate=interpo_rate,
        effort=effort,
    )  # fmt: skip
    return out.getvalue()


def encode_to(
    source: Source,
    out: BinaryIO,
    mode: str = "rel",
    bound: float = 1e-3,
    *,
    folder: Path | None = None,
    model: str | Path | FrequencyModel = "base",
    generator: Predictor | Iterable[Predictor] | None = None,
    strategy: str | None = None,
    fill_value: float | None = None,
    metadata: bytes = b"",
    threads: int | None = None,
    device: str | None = None,
    embed_model: bool | None = None,
    spatial: tuple[tuple[str, int], ...] = SPATIAL,
    interpo_rate: int | None = None,
    effort: int = USUAL,
) -> int:
    """Compress what may be larger than memory; `encode` explains the parameters it shares.

    Parameters
    ----------
    source : Source
        Read chunk by chunk, several times. Variables with generated frames are read whole.
    out : binary file
        Empty, open for writing and reading, seekable; gets the stream.
    folder : Path, optional
        For temporary files of about the size of the stream; without, those are kept in memory.

    Returns
    -------
    int
        Length of the stream in bytes.

    Raises
    ------
    InputError, ModelError
        As `encode` does.
    """
    predictors = _predictors(generator)
    if strategy is None:
        strategy = "auto" if predictors else "frequency"
    options = Options(
        mode, bound, strategy, fill_value, metadata, threads, embed_model, tuple(spatial),
        interpo_rate, effort,
    )  # fmt: skip
    frequency = load_frequency_model(model)
    if device is not None:
        frequency = frequency.on(codec_device(device))
    return encode_source(source, out, options, frequency, predictors, folder)


def decode(
    data: bytes | memoryview | BinaryIO,
    *,
    variables: list[int] | Range = None,
    sections: Range = None,
    frames: Range = None,
    rows: Range = None,
    columns: Range = None,
    generator: Predictor | Iterable[Predictor] | None = None,
    model: str | Path | FrequencyModel | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Inverse of `encode`: the array in its shape and dtype (native byte order), or a part of it.

    Parameters
    ----------
    data : bytes, memoryview, mmap or seekable binary file
        Of a file, only the header and the chunks that are needed are read.
    variables, sections, frames, rows, columns : slice, (start, stop) or int, optional
        Part of each axis to decode, as in Python: negative numbers count from the end, ends may
        be None, steps other than 1 are not possible. An int keeps its axis with length 1.
        `variables` may also be a list of numbers. Only chunks that the part touches are decoded,
        and damage elsewhere does no harm.
    generator : predictor or predictors
        Needed for streams with generated frames; `info` names the file.
    model : "base", path or FrequencyModel, optional
        Needed only for streams written with ``embed_model=False``.
    threads : int, optional
    device : optional
        See `encode`.

    Raises
    ------
    CorruptStreamError
        If the stream is not ours, truncated or altered.
    InputError
        If a range does not lie within the array.
    ModelError
        If it needs a model that is not given.
    """
    stream = Container(data)
    given = None if model is None else load_frequency_model(model)
    part = (variables, sections, frames, rows, columns)
    region = None
    if any(axis is not None for axis in part):
        region = Region.of(stream.header.shape, *part)
    return decode_array(
        stream, _predictors(generator), threads, given, region, codec_device(device)
    )


def _predictors(generator) -> list[Predictor]:
    if generator is None:
        return []
    return list(generator) if isinstance(generator, (list, tuple)) else [generator]
