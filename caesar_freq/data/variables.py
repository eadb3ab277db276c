"""Which variable of a NetCDF file is meant, and what to say where none can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from caesar_freq.data.field import seen_from
from caesar_freq.data.unpacking import is_packed
from caesar_freq.errors import InputError

# Attributes that name further variables belonging to a field (CF conventions, chapters 5 and 7).
_REFERENCES = ("coordinates", "grid_mapping", "bounds", "climatology")
#: First bytes of what is mistaken for NetCDF, and what to do with it.
_OTHERS = {
    b"GRIB": "is a GRIB file; convert it first (cdo -f nc4 copy in.grib out.nc)",
    b"\x0e\x03\x13\x01": "is an HDF4 file; convert it first (h4tonccf_nc4)",
    b"\x93NUMPY": "is an .npy file; rename it to .npy",
    b"PK\x03\x04": "is a ZIP archive; unpack it, or rename it to .npz if it is one",
    b"\x1f\x8b": "is compressed by gzip; unpack it first (gunzip)",
    b"CFQ": "is a compressed file of CAESAR-Freq; restore it with caesar-freq decompress",
}


def only_float_variable(dataset: netCDF4.Dataset, path: Path) -> str:
    """Name of the one variable that can only be meant."""
    known = variables_of(dataset)
    auxiliary = {other for name in known for other in helpers(known, name)}
    auxiliary |= {name for name, v in known.items() if v.name in v.group().dimensions}
    choices = [
        name
        for name, variable in known.items()
        if name not in auxiliary and variable.ndim > 0 and _is_float(variable)
    ]
    # A data variable has more dimensions than the 1-D helpers some files do not declare as such.
    ranks = [known[name].ndim for name in choices]
    best = [name for name, rank in zip(choices, ranks, strict=True) if rank == max(ranks)]
    if len(best) == 1:
        return best[0]
    if not best:
        raise InputError(
            f"{path} has no float variable; its variables are: {listed(dataset)}; integers need "
            "a scale_factor attribute or a conversion to float32"
        )
    raise InputError(
        f"{path} has several float variables ({', '.join(choices)}); name the one(s) to use "
        "(on the command line: --var NAME, once for each)"
    )


def _is_float(variable: netCDF4.Variable) -> bool:
    if not isinstance(variable.dtype, np.dtype):  # text, compound, enum, variable length
        return False
    packed = variable.dtype.kind in "iu" and is_packed(attributes(variable))
    return variable.dtype.kind == "f" or packed


def variables_of(dataset: netCDF4.Dataset) -> dict[str, netCDF4.Variable]:
    """All variables by name; those in groups are called ``group/name``."""
    found = {}
    for group in _groups(dataset):
        prefix = f"{group.path[1:]}/" if group.path != "/" else ""
        found |= {prefix + name: variable for name, variable in group.variables.items()}
    return found


def helpers(known: Mapping[str, netCDF4.Variable], name: str) -> Iterator[str]:
    """Variables that `name` refers to by its dimensions or attributes, as seen from its group."""
    variable = known[name]
    for other in (*variable.dimensions, *referenced(attributes(variable))):
        path = seen_from(name, other, known)
        if path and path != name:
            yield path


def attributes(variable: netCDF4.Variable) -> dict[str, Any]:
    """Attributes as stored."""
    return {name: variable.getncattr(name) for name in variable.ncattrs()}


def referenced(attrs: Mapping[str, Any]) -> Iterable[str]:
    """Names of variables mentioned by reference attributes; 'name: x y' forms included."""
    for key in _REFERENCES:
        if isinstance(attrs.get(key), str):
            yield from attrs[key].replace(":", " ").split()


def listed(dataset: netCDF4.Dataset) -> str:
    """Names of the variables."""
    return ", ".join(variables_of(dataset)) or "(none)"


def _groups(group: netCDF4.Group) -> Iterator[netCDF4.Group]:
    yield group
    for inner in group.groups.values():
        yield from _groups(inner)


def wrong(path: Path, error: OSError) -> str:
    """What is the matter with a file that the library does not open, and the way out."""
    if isinstance(error, PermissionError):
        return "cannot be read: Permission denied; ask its owner for the right to read it"
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        return (
            f"is an HDF5 file that the NetCDF library does not open ({error.strerror or error}): it "
            "is damaged, or holds links to what is not there or data sets without values; copy what "
            "you need to another file (h5copy, h5repack)"
        )
    others = [said for magic, said in _OTHERS.items() if start.startswith(magic)]
    return others[0] if others else "is damaged or not a NetCDF file; make it again"
