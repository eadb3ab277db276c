"""Streams to arrays, whole or in part, chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import google_crc32c
import numpy as np

from caesar_freq.codec.backend import workers_of
from caesar_freq.codec.chunks import Box, five_dimensional
from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import Header
from caesar_freq.codec.links import Links
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.reading import read_chunk
from caesar_freq.codec.region import Region
from caesar_freq.codec.segments import KINDS
from caesar_freq.errors import CorruptStreamError, ModelError

MODELS = {kind: number for number, kind in KINDS.items()}
Item, Result = TypeVar("Item"), TypeVar("Result")


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
) -> Iterator[Result]:
    """Results of `function` in the order of `items`, of which at most `limit` are in flight."""
    waiting: deque = deque()
    try:
        for item in items:
            if len(waiting) == limit:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def decode_array(
    stream: Container,
    predictors: list[Predictor] | tuple = (),
    threads: int | None = None,
    model: FrequencyModel | None = None,
    region: Region | None = None,
    device: str | None = None,
) -> np.ndarray:
    """Inverse of `encode_array`, or the part of it that `region` names.

    Parameters
    ----------
    predictors
        Needed for streams with generated frames.
    model
        Needed for streams that neither hold their model nor use the packaged one.
    region
        Only the chunks that it touches are read and decoded; damage elsewhere does no harm.
    device
        See `backend.kernels`.

    Raises
    ------
    CorruptStreamError
        If the stream is truncated or altered; the message says which chunk.
    ModelError
        If it needs a model that was not given.
    """
    shape = stream.header.shape
    out = np.empty(five_dimensional(shape) if region is None else region.shape, stream.header.dtype)

    def put(place: Box, values: np.ndarray) -> None:
        out[place.index] = values

    for _ in decode_chunks(stream, predictors, threads, model, region, device, put):
        pass
    return out.reshape(shape if region is None else region.shape_of(shape))


def decode_chunks(
    stream: Container,
    predictors: list[Predictor] | tuple = (),
    threads: int | None = None,
    model: FrequencyModel | None = None,
    region: Region | None = None,
    device: str | None = None,
    use: Callable[[Box, np.ndarray], Result] = lambda place, values: (place, values),
) -> Iterator[Result]:
    """The chunks of `decode_array` one by one, for arrays larger than memory.

    Parameters
    ----------
    use : callable
        Called by the thread that decoded a chunk, with its place, counted from the corner of the
        region, and its values ``[T, H, W]``, which are then given back.

    Yields
    ------
    What `use` returns, by default place and values.

    What can be wrong with the whole is raised by the call itself, before the first chunk.
    """
    header = stream.header
    if region is None:
        stream.check_complete()
        region = Region.of(header.shape)
    network = _model_of(header, model).on(device) if header.variables else None
    available = _predictors_of(header, predictors)
    todo = [
        (number, box, *overlap)
        for number, box in enumerate(header.places())
        if (overlap := region.overlap(box)) is not None
    ]

    workers = workers_of(threads)

    def checked(number: int) -> bytes:
        body = stream.chunk(number)
        if google_crc32c.value(body) != header.chunks[number][1]:
            raise CorruptStreamError("its checksum does not match")
        return body

    links = Links(stream, network, checked, workers) if network and header.linked else None

    def one(arguments) -> Result:
        number, box, place, part = arguments
        try:
            linked = links.of(number) if links else None
            variable = header.variable_of(number, box)
            values = read_chunk(checked(number), box, header, variable, network, available, linked)
        except CorruptStreamError as error:
            raise CorruptStreamError(f"chunk {number} ({box}) is damaged: {error}") from error
        return use(place, values.reshape(box.extent)[part])

    def run() -> Iterator[Result]:
        with ThreadPoolExecutor(workers) as pool:
            yield from in_order(pool, one, todo, workers)

    return run()


def _model_of(header: Header, given: FrequencyModel | None) -> FrequencyModel:
    if header.model:
        try:
            return FrequencyModel.from_bytes(header.model, "the model in the file")
        except ModelError as error:
            raise CorruptStreamError(f"the file's own model is damaged: {error}") from error
    if given is not None and given.fingerprint.startswith(header.fingerprint):
        return given
    packaged = FrequencyModel.packaged(header.fingerprint)
    if packaged is not None:
        return packaged
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
    return {MODELS[p.kind]: p for p in found}
