"""The project's own data files: ``.npz`` with key ``data``, [V, S, T, H, W].

Besides ``data`` such a file may hold the scalar ``fill_value``: the number that stands for "no
value" in it. NaN and infinities need no such note, they never count as values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caesar_freq.atomic import atomic_path
from caesar_freq.data.field import check_values
from caesar_freq.data.files import DEFAULT_KEY, load_npz
from caesar_freq.errors import InputError

FILL_KEY = "fill_value"


@dataclass(frozen=True)
class Sections:
    """Contents of one data file.

    Attributes
    ----------
    values : ndarray [V, S, T, H, W], float32 or float64
        Fill values and NaN as they stand in the file.
    fill_value : float or None
        The number that means "no value".
    """

    values: np.ndarray
    fill_value: float | None = None

    @property
    def mask(self) -> np.ndarray:
        """Where there is no value: bool [V, S, T, H, W]."""
        return missing(self.values, self.fill_value)


def missing(
    values: np.ndarray, fill_value: float | None, out: np.ndarray | None = None
) -> np.ndarray:
    """Where `values` hold no number: NaN, infinity or `fill_value` (in the dtype of `values`).

    The result goes to the bool array `out` if there is one.
    """
    mask = np.isfinite(values, out=np.empty(values.shape, bool) if out is None else out)
    np.logical_not(mask, out=mask)
    if fill_value is not None:
        with np.errstate(over="ignore"):  # a fill value beyond float32 marks the infinities there
            mask |= values == values.dtype.type(fill_value)
    return mask


def load_sections(path: str | Path) -> Sections:
    """Read a data file.

    Raises
    ------
    InputError
        If it is missing, damaged, lacks the key ``data`` or does not hold 5-D float data.
    """
    values = check_values(load_npz(path, [DEFAULT_KEY])[DEFAULT_KEY], "array 'data'", path)
    if values.ndim != 5:
        raise InputError(
            f"array 'data' in {path} is {values.ndim}-D {values.shape}, but training and "
            "evaluation need [variable, section, time, height, width]; make the file with "
            "caesar_freq.split"
        )
    return Sections(values, stored_fill(path))


def stored_fill(path: str | Path) -> float | None:
    """The fill value recorded in an ``.npz`` file, if any."""
    with np.load(path, allow_pickle=False) as archive:
        return float(archive[FILL_KEY]) if FILL_KEY in archive.files else None


def save_sections(path: str | Path, sections: Sections) -> None:
    """Write a data file, complete or not at all."""
    arrays = {DEFAULT_KEY: sections.values}
    if sections.fill_value is not None:
        arrays[FILL_KEY] = np.float64(sections.fill_value)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)
