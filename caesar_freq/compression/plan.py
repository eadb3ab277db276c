"""What the workflow computes from its section ``compress``: parts, flags, memory, run times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caesar_freq.compression.job import opened_source, part_name
from caesar_freq.compression.parts import MB, Part, cut, memory_mb
from caesar_freq.errors import CaesarError, ConfigError

#: Slowest rate that a job is given time for, MB/s, and minutes that it has in any case.
_SLOWEST, _LEAST_MINUTES = 1.0, 15


@dataclass(frozen=True)
class Plan:
    """A data set to compress, as cut into parts.

    Attributes
    ----------
    entry : mapping
        Its settings.
    parts : dict of name to Part
    memory : dict of name to int
        MB that a job of a part asks for.
    minutes : dict of name to int
    store : str
        Of a store: changes when it may have been written again.
    """

    entry: Mapping[str, Any]
    parts: Mapping[str, Part]
    memory: Mapping[str, int]
    minutes: Mapping[str, int]
    store: str

    @property
    def files(self) -> list[str]:
        """The data set, if it is a file, whose content Snakemake can tell from an earlier one's."""
        return [] if self.store else [self.entry["input"]]

    @property
    def input_flags(self) -> str:
        """Flags that name the data set."""
        flags = [f"--input '{self.entry['input']}'"]
        if "variables" in self.entry:
            flags.append(f"--variables {' '.join(self.entry['variables'])}")
        return " ".join(flags)

    @property
    def fill_flag(self) -> str:
        """Flag for the value that marks missing data."""
        return f"--fill_value={self.entry['fill_value']!r}" if "fill_value" in self.entry else ""

    @property
    def bound_flags(self) -> str:
        """Flags that say how good it has to be."""
        bound = "" if self.entry["mode"] == "lossless" else f" --bound {self.entry['bound']!r}"
        return f"--mode {self.entry['mode']}{bound}"

    @property
    def model(self) -> list[str]:
        """File of the entropy model, none for the packaged one."""
        return [] if self.entry["model"] == "base" else [self.entry["model"]]

    @property
    def model_flag(self) -> str:
        """Flag of the entropy model."""
        return f"--model '{self.entry['model']}'"

    @property
    def lossless_flag(self) -> str:
        """Whether values of no range at all are fine."""
        return "--lossless" if self.entry["mode"] == "lossless" else ""

    def part_flags(self, name: str) -> str:
        """Flags that name a part."""
        part = self.parts[name]
        ranges = [f"{s.start}:{s.stop}" for s in (part.sections, part.frames)]
        return f"--variable {part.variable} --sections {ranges[0]} --frames {ranges[1]}"


def plan(name: str, entry: Mapping[str, Any]) -> Plan:
    """The plan for one entry of the section; reads the metadata of its input alone.

    Raises
    ------
    ConfigError
        If the input cannot be read, or settings do not fit it.
    """
    path = Path(entry["input"])
    if not path.exists():
        raise ConfigError(f"compress: {name} names {path}, which does not exist")
    if entry["model"] != "base" and not Path(entry["model"]).is_file():
        raise ConfigError(
            f"compress: {name} names the model {entry['model']}, which does not exist"
        )
    if entry["mode"] == "lossless" and "bound" in entry:
        raise ConfigError(f"compress: {name} has the mode lossless, which takes no bound; drop it")
    if entry["mode"] != "lossless" and "bound" not in entry:
        raise ConfigError(f"compress: {name} has the mode {entry['mode']} but no bound; add one")
    try:
        with opened_source(path, entry.get("variables")) as (source, _):
            shape, itemsize, block = source.shape, source.dtype.itemsize, source.block_bytes
        parts = cut(shape, itemsize, entry["part_mb"])
    except CaesarError as error:
        raise ConfigError(f"compress: {name}: {error}") from error
    named = {part_name(number): part for number, part in enumerate(parts)}
    sizes = {key: math.prod(p.region(shape).shape) * itemsize / MB for key, p in named.items()}
    return Plan(
        entry,
        named,
        {key: memory_mb(part, shape, itemsize, block) for key, part in named.items()},
        {key: _LEAST_MINUTES + math.ceil(size / _SLOWEST / 60) for key, size in sizes.items()},
        signature(path) if path.is_dir() else "",
    )


def signature(path: Path) -> str:
    """Sizes and times of the metadata of a store.

    A store whose chunks were written again in place looks the same; snakemake --forcerun source then
    compresses it again.
    """
    heads = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
    stats = [(path / head).stat() for head in heads if (path / head).exists()]
    return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
