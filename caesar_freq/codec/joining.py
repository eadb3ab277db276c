"""Streams of parts of an array become one stream of the whole; no chunk is coded again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from caesar_freq.codec.chunks import chunk_count, five_dimensional
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import Header
from caesar_freq.errors import CorruptStreamError, InputError

_BLOCK = 1 << 20
#: What the head says once for all parts.
_COMMON = ("dtype", "mode", "bound", "double", "fill_value", "fingerprint", "model", "narrow")


def join(paths: Sequence[Path], shape: Sequence[int], metadata: bytes, out: BinaryIO) -> int:
    """Write the stream of an array of `shape`; returns its length in bytes.

    Parameters
    ----------
    paths : sequence of Path
        Streams, each of a part of one variable, encoded under offset and range of the whole variable
        (`stream.encode_source` with `whole`), in the order in which the whole has their chunks. Several
        sections in one begin where a run of linked ones may (`layout.RUN`).
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
    whole, starts = five_dimensional(tuple(shape)), []
    heads: list[Header] = []
    for path in paths:
        head, start = _head(path)
        _check_alike(path, head, paths[0], heads[0] if heads else head)
        heads.append(head)
        starts.append(start)
    chunks = [chunk for head in heads for chunk in head.chunks]
    n_chunks = chunk_count(whole, heads[0].narrow)
    if len(chunks) != n_chunks:
        raise InputError(
            f"the parts in {paths[0].parent} have {len(chunks)} chunks but an array of shape "
            f"{tuple(shape)} has {n_chunks}; compress it again"
        )
    variables = [variable for head in heads for variable in head.variables]
    # a part for each variable is what an ordinary stream has
    runs = [len(head.chunks) for head in heads] if len(variables) > whole[0] else []
    head = replace(
        heads[0], shape=tuple(shape), metadata=metadata, chunks=chunks, variables=variables,
        runs=runs, linked=any(head.linked for head in heads),
    ).pack()  # fmt: skip
    out.write(head)
    for path, start in zip(paths, starts):
        with open(path, "rb") as part:
            part.seek(start)
            shutil.copyfileobj(part, out, _BLOCK)
    return out.tell()


def _head(path: Path) -> tuple[Header, int]:
    with open(path, "rb") as file:
        try:
            stream = Container(file)
        except CorruptStreamError as error:
            raise CorruptStreamError(f"{path}: {error}") from error
        if not stream.complete:
            raise CorruptStreamError(f"{path} is truncated; compress that part again")
        return stream.header, stream.head_size


def _check_alike(path: Path, head: Header, other: Path, first: Header) -> None:
    for name in _COMMON:
        if getattr(head, name) != getattr(first, name):
            raise InputError(
                f"{path} and {other} differ in {name} ({getattr(head, name)!r} and "
                f"{getattr(first, name)!r}); compress all parts alike"
            )
    if len(head.variables) != bool(first.variables) or head.runs or head.generator_sha256:
        raise InputError(f"{path} is no part of one variable in frequency mode; compress it again")
