"""A decoded file against its original: errors, and whether the bound it was written with holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.chunks import five_dimensional
from caesar_freq.metrics import distortion, valid_values


def compare(
    original: np.ndarray, decoded: np.ndarray, header: dict, names: Sequence[str] | None = None
) -> dict:
    """Measure `decoded` and judge the bound in its own dtype, variable by variable.

    Parameters
    ----------
    original, decoded : float32 or float64, 1-D to 5-D, equal shape and dtype
    header : dict
        `codec.contents.info` of the compressed file.
    names : sequence of str, optional
        One per variable; by default their numbers.

    Returns
    -------
    dict
        ``nrmse, psnr, max_error, max_error_rel`` (the worst variable counts), ``max_error_pw_rel``
        (largest error of a value that is not 0 in units of its own size),
        ``special_values_equal`` (NaN, infinities and fill values bit by bit), ``cr,
        compressed_bytes, mode, bound, bound_held`` and ``variables``: for each ``name, nrmse,
        max_error_rel, bound_held``.

    Raises
    ------
    InputError
        If shapes or dtypes differ.
    """
    fill_value = header["fill_value"]
    measured = distortion(original, decoded, fill_value)
    cubes = [array.reshape(five_dimensional(array.shape)) for array in (original, decoded)]
    if names is None or len(names) != len(cubes[0]):
        names = [str(number) for number in range(len(cubes[0]))]
    variables = [
        {
            "name": name,
            "nrmse": measured.nrmse_by_variable[v],
            "max_error_rel": measured.max_error_rel_by_variable[v],
            "bound_held": bound_holds(
                cubes[0][v], cubes[1][v], header["mode"], header["bound"], fill_value
            ),
        }
        for v, name in enumerate(names)
    ]
    return {
        "nrmse": measured.nrmse,
        "psnr": measured.psnr,
        "max_error": _max_error(original, decoded, fill_value),
        "max_error_rel": measured.max_error_rel,
        "max_error_pw_rel": _max_error(original, decoded, fill_value, own_size=True),
        "special_values_equal": measured.masked_equal,
        "cr": header["cr"],
        "compressed_bytes": header["compressed_bytes"],
        "mode": header["mode"],
        "bound": header["bound"],
        "bound_held": all(variable["bound_held"] for variable in variables),
        "variables": variables,
    }


def _max_error(
    original: np.ndarray, decoded: np.ndarray, fill_value: float | None, own_size: bool = False
) -> float:
    """Largest error in the unit of the data or of each value, 0 where no value is valid."""
    valid = valid_values(original, fill_value)
    if own_size:
        valid &= original != 0
    exact = original[valid].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(exact - decoded[valid])
        error = error / np.abs(exact) if own_size else error
    return float(error.max()) if error.size else 0.0
