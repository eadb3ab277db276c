"""From array files to ``.cfq`` files and back without holding an array in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_chunks
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.region import Range, Region
from caesar_freq.data.metadata import templates
from caesar_freq.data.parts import write_parts
from caesar_freq.data.template import Template
from caesar_freq.errors import InputError


@dataclass(frozen=True)
class Selection:
    """Fields to write and the part of the array that they are; None stands for all of it."""

    fields: list[Template]
    region: Region | None = None


def select(
    stream: Container,
    names: Sequence[str] | None = None,
    frames: Range = None,
    rows: Range = None,
    columns: Range = None,
) -> Selection:
    """Choose what to decode.

    Parameters
    ----------
    names : sequence of str, optional
        Variables, in this order; those of arrays without names are called 0, 1, ….
    frames, rows, columns : see `api.decode`
        Time, height and width as the codec sees them; coordinates are cut alike.

    Raises
    ------
    InputError
        If a range or a name is not in the stream.
    CorruptStreamError
        If its metadata are damaged.
    """
    header = stream.header
    fields = templates(header.shape, header.metadata)
    if all(part is None for part in (names, frames, rows, columns)):
        return Selection(fields)
    numbers = None if names is None else _numbers(fields, names)
    region = Region.of(header.shape, numbers, None, frames, rows, columns)
    return Selection(_chosen(fields, region), region)


def decompress_file(
    stream: Container,
    target: str | Path,
    selection: Selection,
    *,
    predictors=(),
    model: FrequencyModel | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> None:
    """Write a selection to ``.npy``, ``.npz`` or ``.nc``, chunk by chunk.

    Raises
    ------
    InputError
        If `target` cannot be written or cannot hold the fields.
    CorruptStreamError, ModelError
        See `decoder.decode_chunks`. No file is left then.
    """

    def parts():
        chunks = decode_chunks(stream, predictors, threads, model, selection.region, device)
        for box, values in chunks:
            yield box.index, values

    write_parts(target, selection.fields, stream.header.dtype, parts)


def _numbers(fields: Sequence[Template], names: Sequence[str]) -> list[int] | None:
    """Variables of the array by name, None for all."""
    known = [field.name for field in fields]
    if len(fields) == 1 and len(fields[0].variables) > 1:
        if list(names) == known:
            return None
        known = [str(number) for number in fields[0].variables]
    for name in names:
        if name not in known:
            raise InputError(f"there is no variable {name!r}; there are: {', '.join(known)}")
    numbers = [known.index(name) for name in names]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"a variable is named twice in {', '.join(names)}; name each once")
    # an array without an axis of variables has no number to choose
    return numbers if fields[0].arrangement.roles[0] or len(known) > 1 else None


def _chosen(fields: Sequence[Template], region: Region) -> list[Template]:
    """Templates of the region's variables, numbered as in the region, and cut."""
    cut = [field.cut(region.frames, region.rows, region.columns) for field in fields]
    if len(fields) == 1:
        return [cut[0].numbered(0, len(region.variables))]
    return [cut[v].numbered(place, 1) for place, v in enumerate(region.variables)]
