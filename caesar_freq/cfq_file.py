"""A compressed file that is indexed like an array."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

import numpy as np

from caesar_freq.api import decode
from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.container import Container
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.region import AXES, lacking
from caesar_freq.errors import InputError


class CfqFile:
    """Decodes what is indexed, chunk by chunk, when it is indexed.

    ``CfqFile("x.cfq")[0, :, 100, 20:30]`` is ``decode(...)[0, :, 100, 20:30]`` without decoding
    the rest. Indices are integers, slices of any step and ``...``, as in numpy.

    Parameters
    ----------
    path : str or Path
    generator, model, threads
        See `api.decode`.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    InputError
        If there is no such file.
    CorruptStreamError
        If the head of the file is not ours, truncated or altered.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        generator: Predictor | Iterable[Predictor] | None = None,
        model: str | Path | FrequencyModel | None = None,
        threads: int | None = None,
    ) -> None:
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist or is not a file; check the path")
        self._file = open(path, "rb")
        self._options = {"generator": generator, "model": model, "threads": threads}
        try:
            header = Container(self._file).header
        except BaseException:
            self._file.close()
            raise
        self.shape, self.dtype = header.shape, header.dtype

    def __enter__(self) -> CfqFile:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, index) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        for part in index:
            if not (isinstance(part, slice) or part is Ellipsis or _is_integer(part)):
                raise IndexError(f"an index is {part!r}; integers, slices and ... are possible")
        if sum(part is Ellipsis for part in index) > 1 or len(index) > self.ndim + (... in index):
            raise IndexError(f"too many indices for an array of shape {self.shape}")
        at = index.index(...) if ... in index else len(index)
        fill = (slice(None),) * (self.ndim - len(index) + (... in index))
        index = index[:at] + fill + index[at + 1 :]
        covering, local = zip(*(_covering(part, n) for part, n in zip(index, self.shape)))
        if any(part.start == part.stop for part in covering):
            lengths = [part.stop - part.start for part in covering]
            return np.empty(lengths, self.dtype)[local]
        names = [name for name in AXES if name not in lacking(self.shape)]
        return decode(self._file, **dict(zip(names, covering)), **self._options)[local]


def _is_integer(part) -> bool:
    return isinstance(part, Integral) and not isinstance(part, bool)


def _covering(part, size: int) -> tuple[slice, int | slice]:
    """The range of an axis that holds `part` of it, and `part` within that range."""
    if isinstance(part, slice):
        wanted = range(size)[part]
        if not wanted:
            return slice(0, 0), slice(None)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        return slice(low, high + 1), slice(None, None, wanted.step)
    if not -size <= part < size:
        raise IndexError(f"index {part} is out of bounds for an axis of length {size}")
    return slice(part % size, part % size + 1), 0
