"""Write fields part by part, so that no array has to fit into memory.

Every part is written through a mapping of its own (or a NetCDF slice): what is mapped counts as
memory of the process until it is unmapped.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from caesar_freq.atomic import atomic_path
from caesar_freq.data.files import check_target
from caesar_freq.data.template import Template

#: Makes the parts of the codec's array: (variable, section, time, height, width) and values.
Parts = Callable[[], Iterator[tuple[tuple, np.ndarray]]]


def write_parts(
    path: str | Path, templates: Sequence[Template], dtype: np.dtype, parts: Parts
) -> None:
    """Write fields to ``.npy``, ``.npz`` or ``.nc``: complete or absent, never half.

    Parameters
    ----------
    path : str or Path
        As in `files.write`, and so are the errors.
    templates : sequence of Template
        Their `variables` count through the array from which the parts come.
    dtype : float32 or float64
    parts : callable
        Called once, or again if a fill value turns out to be taken (`files.write`).
    """
    path = Path(path)
    suffix = check_target(path, len(templates))
    with atomic_path(path) as temporary:
        if suffix == ".nc":
            from caesar_freq.data import netcdf  # slow to import

            netcdf.write_parts(temporary, templates, dtype, parts)
        elif suffix == ".npy":
            _write_arrays([temporary], templates, dtype, parts)
        else:
            _write_npz(temporary, templates, dtype, parts)


def sorted_parts(
    templates: Sequence[Template], parts: Parts
) -> Iterator[tuple[int, tuple[slice, ...], np.ndarray]]:
    """Number of the field, place in it and values in its own order of axes, for each part."""
    owner = {v: n for n, template in enumerate(templates) for v in template.variables}
    for place, values in parts():
        number = owner[place[0]]
        template = templates[number]
        place = (place[0] - template.variables.start, *place[1:])
        yield number, template.arrangement.index(place), template.arrangement.from_chunk(values)


def _write_arrays(paths, templates, dtype, parts) -> None:
    """One ``.npy`` file for each field."""
    for path, template in zip(paths, templates):
        np.lib.format.open_memmap(path, "w+", dtype, template.shape)
        _reserve(path)
    for number, where, values in sorted_parts(templates, parts):
        np.lib.format.open_memmap(paths[number], "r+")[where] = values


def _reserve(path: Path) -> None:
    """Claim the disk blocks of a file: a mapping that finds no room for them kills the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _write_npz(path: Path, templates, dtype, parts) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{path.stem}.", dir=path.parent) as folder:
        paths = [Path(folder) / f"{number}.npy" for number in range(len(templates))]
        _write_arrays(paths, templates, dtype, parts)
        with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
            for template, source in zip(templates, paths):
                name = f"{template.name}.npy"
                with open(source, "rb") as array, archive.open(name, "w", force_zip64=True) as to:
                    shutil.copyfileobj(array, to, 1 << 20)
                source.unlink()
