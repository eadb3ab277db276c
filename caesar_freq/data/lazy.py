"""Arrays that stay in their file until a part of them is asked for."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from caesar_freq.data.arrangement import Arrangement
from caesar_freq.errors import InputError

_BLOCK = 1 << 22


class ArrayLike(Protocol):
    """An ndarray, or what can be cut like one."""

    shape: tuple[int, ...]
    dtype: np.dtype
    ndim: int

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray: ...


@dataclass(frozen=True)
class LazyArray:
    """Values that `cut` fetches when they are asked for.

    Attributes
    ----------
    shape : tuple of int
    dtype : float32 or float64
        Native, as `check_values` would make it; `cut` may return another float type.
    cut : callable
        From a tuple of slices to the values there; called by several threads at once.
    block_bytes : int
        Size of what the file has to decode at once for a single value, 0 if that is no more.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    cut: Callable[[tuple[slice, ...]], np.ndarray]
    block_bytes: int = 0

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        return self.cut(index)


@dataclass(frozen=True)
class Mapping:
    """An array stored in one piece from `offset` bytes into a file.

    Every access maps the file anew: what is mapped counts as memory of the process until then.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __call__(self, index: tuple[slice, ...]) -> np.ndarray:
        order = "F" if self.fortran else "C"
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)
        return np.array(mapped[index])


def map_npy(path: Path, offset: int = 0, size: int | None = None) -> Mapping:
    """The array of an ``.npy`` file, or of one that lies inside another file.

    Raises
    ------
    ValueError
        If it is not a whole ``.npy`` file, or holds Python objects.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2) - offset if size is None else size
        file.seek(offset)
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format")
        shape, fortran, dtype = read(file)
        start = file.tell()
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be mapped")
    if size < start - offset + int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise ValueError("the file ends before its array does")
    return Mapping(path, start, shape, fortran, dtype)


def map_npz(path: Path, key: str) -> Mapping | None:
    """The array of an ``.npz`` archive, if it is stored without compression; else None.

    Its checksum is verified here, since a mapping passes the archive by.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If the archive or the array is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        if f"{key}.npy" not in archive.namelist():
            return None
        member = archive.getinfo(f"{key}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(member) as file:
            while file.read(_BLOCK):
                pass
    with open(path, "rb") as file:
        # local header: 30 bytes, the name and the extra field, whose lengths are its last numbers
        file.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return map_npy(path, member.header_offset + 30 + name + extra, member.file_size)


class Source:
    """What the codec reads chunk by chunk: arrays in a file or in memory.

    Parameters
    ----------
    arrays : sequence of ArrayLike
        One for each variable of the codec's array, or one that holds them all.
    arrangements : sequence of Arrangement
    shape : tuple of int
        1-D to 5-D, as the codec sees the whole.
    """

    def __init__(
        self,
        arrays: Sequence[ArrayLike],
        arrangements: Sequence[Arrangement],
        shape: Sequence[int],
    ) -> None:
        self.shape, self.dtype = tuple(shape), arrays[0].dtype.newbyteorder("=")
        self._arrays, self._arrangements = list(arrays), list(arrangements)

    @classmethod
    def of(cls, array: ArrayLike) -> Source:
        """A single array (1-D to 5-D) as it is."""
        return cls([array], [Arrangement.plain(array.shape)], array.shape)

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def block_bytes(self) -> int:
        """Largest of the blocks that the files decode at once (see `LazyArray`)."""
        return max(getattr(array, "block_bytes", 0) for array in self._arrays)

    def whole(self) -> np.ndarray:
        """All values, in the shape of the source."""
        if self._arrangements[0].roles[0] or len(self.shape) < 4:
            return self._arrays[0][...]
        frames = (slice(None),) * 3
        sections = [
            [self.read((v, s, *frames)) for s in range(self.shape[1])] for v in range(self.shape[0])
        ]
        return np.stack([np.stack(volumes) for volumes in sections])

    def read(self, place: tuple) -> np.ndarray:
        """Values ``[T, H, W]`` at (variable, section, time, height, width).

        Raises
        ------
        InputError
            If the file cannot be read there.
        """
        number, *rest = place
        if len(self._arrays) > 1:
            place, array, arrangement = (0, *rest), self._arrays[number], self._arrangements[number]
        else:
            array, arrangement = self._arrays[0], self._arrangements[0]
        part = array[arrangement.index(place)]
        return np.ascontiguousarray(arrangement.to_chunk(part), self.dtype)


def unreadable(path: str | Path, error: Exception) -> InputError:
    """An error for a part of a file that cannot be read."""
    if "Filter error" in str(error):
        return InputError(
            f"{path} was compressed by a filter of HDF5 that is not installed here ({error}); set "
            "HDF5_PLUGIN_PATH to where it is, or rewrite the file elsewhere (nccopy -d 4 in.nc out.nc)"
        )
    return InputError(f"{path} is damaged: a part of it cannot be read ({error}); make it again")
