"""Streams of parts of an array become one stream of the whole; no chunk is coded again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from caesar_freq.codec.chunks import chunk_count, five_dimensional
from caesar_freq.codec.container import Container
from caesar_freq.errors import InputError

_BLOCK = 1 << 20
#: What the head says once for all parts.
_COMMON = ("dtype", "mode", "bound", "double", "fill_value", "fingerprint", "model")


def join(parts: Sequence[BinaryIO], shape: Sequence[int], metadata: bytes, out: BinaryIO) -> int:
    """Write the stream of an array of `shape`; returns its length in bytes.

    Parameters
    ----------
    parts : sequence of seekable binary files
        Streams of one variable's part each, encoded under the offset and range of the whole
        variable (`stream.encode_source` with `whole`), in the order in which the whole has their
        chunks. Read one at a time.
    shape : 1-D to 5-D
    metadata : bytes
        See `api.encode`.
    out : binary file
        Empty, open for writing.

    Raises
    ------
    InputError
        If parts differ in what a stream says once, or do not make up the whole.
    CorruptStreamError
        If the head of a part is truncated or altered.
    """
    streams = [Container(part) for part in parts]
    heads = [stream.header for stream in streams]
    first = heads[0]
    for number, head in enumerate(heads):
        for name in _COMMON:
            if getattr(head, name) != getattr(first, name):
                raise InputError(
                    f"part {number} has {name} {getattr(head, name)!r} but part 0 has "
                    f"{getattr(first, name)!r}; compress all parts alike"
                )
        if len(head.variables) > 1 or head.generator_sha256 or not streams[number].complete:
            raise InputError(
                f"part {number} is truncated, or no part of one variable in frequency mode; "
                "compress it again"
            )
    chunks = [chunk for head in heads for chunk in head.chunks]
    if len(chunks) != chunk_count(five_dimensional(tuple(shape))):
        raise InputError(
            f"the parts have {len(chunks)} chunks but the whole, of shape {tuple(shape)}, has "
            f"{chunk_count(five_dimensional(tuple(shape)))}; some are missing"
        )
    variables = [variable for head in heads for variable in head.variables]
    runs = [len(head.chunks) for head in heads] if variables else []
    if len(variables) == five_dimensional(tuple(shape))[0]:
        runs = []  # whole variables: an ordinary stream
    head = replace(
        first, shape=tuple(shape), metadata=metadata, chunks=chunks, variables=variables, runs=runs
    ).pack()
    out.write(head)
    for part, stream in zip(parts, streams):
        part.seek(stream.head_size)
        shutil.copyfileobj(part, out, _BLOCK)
    return len(head) + sum(stream.size - stream.head_size for stream in streams)
