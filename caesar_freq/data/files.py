"""Read and write arrays and variables: ``.npy``, ``.npz`` and NetCDF (``.nc``); read Zarr stores.

``read`` gives a list of `Field` whatever the format, ``write`` takes one. Formats without names
keep what they can: an ``.npy`` file has neither name nor dimensions, an ``.npz`` file only names.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from caesar_freq.atomic import atomic_path
from caesar_freq.data.field import Field, check_values, checked_type
from caesar_freq.data.lazy import LazyArray, map_npy, map_npz
from caesar_freq.errors import InputError

SUFFIXES = (".npy", ".npz", ".nc")
#: What the NetCDF library stores where nothing was written, unless a file declares something else.
_UNWRITTEN = 9.969209968386869e36
DEFAULT_KEY = "data"
#: What numpy, zipfile and zlib raise over bytes that are not what they should be.
_DAMAGE = (
    ValueError, ArithmeticError, OSError, EOFError, SyntaxError, RuntimeError, zipfile.BadZipFile,
    zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
#: What to do with files of other names.
_OTHERS = {
    (".h5", ".hdf5", ".he5", ".nc4", ".nc3", ".cdf", ".netcdf"):
        "HDF5 and NetCDF files are read if their name ends in .nc; rename it, or make a link",
    (".grib", ".grib2", ".grb", ".grb2"):
        "GRIB has to be converted first (cdo -f nc4 copy in.grib out.nc)",
}  # fmt: skip


def read(path: str | Path, names: Sequence[str] | None = None) -> list[Field]:
    """Read one or several variables.

    Parameters
    ----------
    path : str or Path
        ``.npy``, ``.npz``, ``.nc`` (NetCDF 3 or 4) or ``.zarr`` (a folder, format 2 or 3).
    names : sequence of str, optional
        Keys (npz) or variables (nc, zarr) to read, in this order. By default the key ``data`` (npz),
        or the only float variable that is not a coordinate (nc, zarr).

    Returns
    -------
    list of Field
        One per name.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another format, a name does not exist (the message
        lists what does) or is needed, or an array is not 1-D to 5-D float data.
    """
    path = Path(path)
    if path.suffix.lower() == ".zarr":
        with opened(path, names) as fields:
            return [replace(field, values=field.values[...]) for field in fields]
    suffix = _suffix(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; check the path")
    if suffix == ".nc":
        # netCDF4 is slow to import and of no use to npz users.
        from caesar_freq.data import netcdf

        return netcdf.read(path, names)
    if suffix == ".npy":
        if names and list(names) != [DEFAULT_KEY]:
            raise InputError(f"{path} is an .npy file and holds one unnamed array; drop {names!r}")
        return [Field(DEFAULT_KEY, check_values(_load_npy(path), "the array", path))]
    names = list(names or [DEFAULT_KEY])
    arrays = load_npz(path, names)
    # by name and not by item: a name given twice must not vanish silently
    return [Field(key, check_values(arrays[key], f"array {key!r}", path)) for key in names]


def fill_value_of(path: str | Path, given: float | None) -> float | None:
    """The number that marks missing data in a file: `given`, or that of cells never written.

    It is in use in NetCDF files whether they declare it or not; taken for a number it would widen
    the range to 1e37, next to which every relative bound is void.
    """
    return _UNWRITTEN if given is None and Path(path).suffix.lower() == ".nc" else given


@contextmanager
def opened(path: str | Path, names: Sequence[str] | None = None) -> Iterator[list[Field]]:
    """Fields of which values are read when they are asked for, while the context lasts.

    Takes what `read` takes and raises what it raises. Compressed members of ``.npz`` archives
    have no parts that could be read alone: they are read whole.
    """
    path = Path(path)
    if path.suffix.lower() == ".zarr":
        from caesar_freq.data import zarr_store

        with zarr_store.opened(path, names) as fields:
            yield fields
        return
    suffix = _suffix(path)
    if suffix == ".nc" and path.is_file():
        from caesar_freq.data import netcdf

        with netcdf.opened(path, names) as fields:
            yield fields
    elif not path.is_file() or (suffix == ".npy" and names and list(names) != [DEFAULT_KEY]):
        yield read(path, names)  # which says what is wrong
    else:
        yield [_mapped(path, key) for key in (names or [DEFAULT_KEY])]


def _mapped(path: Path, key: str) -> Field:
    """A field of an ``.npy`` or ``.npz`` file, mapped if possible, else read."""
    try:
        mapping = map_npy(path) if path.suffix.lower() == ".npy" else map_npz(path, key)
    except _DAMAGE:
        mapping = None  # reading it says what is wrong
    if mapping is None:
        return read(path, [key])[0]
    what = "the array" if path.suffix.lower() == ".npy" else f"array {key!r}"
    return Field(key, LazyArray(mapping.shape, checked_type(mapping, what, path), mapping))


def write(path: str | Path, fields: Sequence[Field]) -> None:
    """Write fields to `path`; the suffix chooses the format. Complete or absent, never half.

    Parameters
    ----------
    path : str or Path
        ``.npy`` (one field only), ``.npz`` (one key per field) or ``.nc``. In NetCDF, NaN is
        written as the ``_FillValue`` of the field's attributes where it has one; cells read with
        another fill value, or as NaN, get that back (`unpacking.nans`).
    fields : sequence of Field
        Fields without `dims` get plain dimension names in NetCDF.

    Raises
    ------
    InputError
        If the suffix is unknown, `path` cannot be written, or the fields do not fit one file.
    """
    path = Path(path)
    suffix = check_target(path, len(fields))
    with atomic_path(path) as temporary:
        if suffix == ".nc":
            from caesar_freq.data import netcdf

            netcdf.write(temporary, fields)
        elif suffix == ".npy":
            np.save(temporary, fields[0].values)
        else:
            _save_npz(temporary, {field.name: field.values for field in fields})


def check_target(path: Path, n_fields: int) -> str:
    """Suffix of `path`; raises InputError if it is unknown or cannot hold so many fields."""
    suffix = _suffix(path)
    if suffix == ".npy" and n_fields != 1:
        raise InputError(
            f"{path} can hold one array but {n_fields} were given; write to .npz or .nc"
        )
    return suffix


def load_npz(path: str | Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of an npz file by key, as stored.

    Raises
    ------
    InputError
        If the file is missing or damaged, or lacks a key (the message lists its keys).
    """
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist or is not a file; check the path")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is not an .npz archive; rename it to .npy")
        with archive:
            missing = [key for key in keys if key not in archive.files]
            if missing:
                raise InputError(
                    f"{path} has no key {missing[0]!r}; its keys are: "
                    f"{', '.join(archive.files) or '(none)'}; name the one to use"
                )
            return {key: archive[key] for key in keys}
    except _DAMAGE as error:
        raise InputError(_unreadable(path, ".npz", error)) from error


def _save_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """As ``numpy.savez``, which cannot take names such as "file"."""
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _load_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise InputError(_unreadable(path, ".npy", error)) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path} is an .npz archive; rename it to .npz")
    return array


def _unreadable(path: str | Path, suffix: str, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{path} cannot be read: Permission denied; ask its owner for the right to read it"
    if "Object arrays" in str(error):
        return f"{path} holds Python objects, not numbers; save it again as a float32 array"
    if "pickle" in str(error):  # numpy's guess about any foreign bytes, with unsafe advice
        return f"{path} is damaged or not an {suffix} file; make it again"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{path} is damaged or not an {suffix} file ({reason}); make it again"


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    for others, advice in _OTHERS.items():
        if suffix in others:
            raise InputError(f"{path} has the format {suffix}; {advice}")
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path} has no known array format; use a file name ending in {', '.join(SUFFIXES)} "
            "(.zarr for reading)"
        )
    return suffix
