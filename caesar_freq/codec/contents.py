"""What a stream holds, read from its heads alone; imports nothing that decodes."""

from __future__ import annotations

from collections import Counter
from typing import BinaryIO

import numpy as np

from caesar_freq.codec.census import chunk_census
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import VERSION


def info(data: bytes | memoryview | BinaryIO) -> dict:
    """What a stream holds, without decoding it.

    Parameters
    ----------
    data : bytes, memoryview, mmap or seekable binary file
        Of a file, one chunk after another is read.

    Returns
    -------
    dict
        ``version, shape, dtype, mode, bound, fill_value, complete`` (False if the stream is cut off or
        something follows it; sizes are those of a complete one)``, original_bytes,
        compressed_bytes, cr, bits_per_value, n_chunks, transforms, modes_used`` (frames by mode)``, bytes_by_stream,
        model_fingerprint, model_embedded, generator_sha256, generator_source, metadata``.

    Raises
    ------
    CorruptStreamError
        If the head of the stream is not ours, truncated or altered.
    InputError
        If `data` is a path or something else that holds no bytes.
    """
    stream = Container(data)
    header = stream.header
    size = stream.head_size + sum(length for length, _ in header.chunks)
    original = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    return {
        "version": VERSION,
        "shape": list(header.shape),
        "dtype": header.dtype.name,
        "mode": header.mode,
        "bound": header.bound,
        "fill_value": header.fill_value,
        "complete": stream.complete,
        "original_bytes": original,
        "compressed_bytes": size,
        "cr": original / size,
        "bits_per_value": 8 * size * header.dtype.itemsize / original,
        "n_chunks": len(header.chunks),
        "transforms": [
            {"kind": v.kind, "cell": v.cell, "time_block": v.time_block, "step": v.step * v.range}
            for v in header.variables
        ],
        **_census(stream),
        "model_fingerprint": header.fingerprint,
        "model_embedded": bool(header.model),
        "generator_sha256": header.generator_sha256,
        "generator_source": header.generator_source,
        "metadata": header.metadata,
    }


def _census(stream: Container) -> dict:
    """Frames by mode and bytes by stream, from the heads of the chunks."""
    streams, modes, header = Counter(), Counter(), stream.header
    streams["model"], streams["metadata"] = len(header.model), len(header.metadata)
    streams["header"] = stream.head_size - len(header.model) - len(header.metadata)
    for number, box in enumerate(header.places()):
        chunk_streams, chunk_modes = chunk_census(stream.chunk(number), box.extent[0])
        streams += chunk_streams
        modes += chunk_modes
    return {"modes_used": dict(modes), "bytes_by_stream": dict(streams)}
