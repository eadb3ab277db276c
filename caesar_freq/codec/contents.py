"""What a stream holds, read from its heads alone; imports nothing that decodes."""

from __future__ import annotations

from collections import Counter

import numpy as np

from caesar_freq.codec.census import chunk_census
from caesar_freq.codec.container import refuse_path
from caesar_freq.codec.header import Header


def info(data: bytes) -> dict:
    """What a stream holds, without decoding it.

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
        If `data` is a path.
    """
    refuse_path(data)
    header, at = Header.unpack(data)
    size = at + sum(length for length, _ in header.chunks)
    original = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    return {
        "version": data[3],
        "shape": list(header.shape),
        "dtype": header.dtype.name,
        "mode": header.mode,
        "bound": header.bound,
        "fill_value": header.fill_value,
        "complete": size == len(data),
        "original_bytes": original,
        "compressed_bytes": size,
        "cr": original / size,
        "bits_per_value": 8 * size * header.dtype.itemsize / original,
        "n_chunks": len(header.chunks),
        "transforms": [
            {"kind": v.kind, "cell": v.cell, "time_block": v.time_block, "step": v.step * v.range}
            for v in header.variables
        ],
        **_census(data, header, at),
        "model_fingerprint": header.fingerprint,
        "model_embedded": bool(header.model),
        "generator_sha256": header.generator_sha256,
        "generator_source": header.generator_source,
        "metadata": header.metadata,
    }


def _census(data: bytes, header: Header, at: int) -> dict:
    """Frames by mode and bytes by stream, from the heads of the chunks."""
    streams, modes = Counter(), Counter()
    streams["model"], streams["metadata"] = len(header.model), len(header.metadata)
    streams["header"] = at - len(header.model) - len(header.metadata)
    for (length, _), box in zip(header.chunks, header.places(), strict=True):
        chunk_streams, chunk_modes = chunk_census(data[at : at + length], box.shape[0])
        streams += chunk_streams
        modes += chunk_modes
        at += length
    return {"modes_used": dict(modes), "bytes_by_stream": dict(streams)}
