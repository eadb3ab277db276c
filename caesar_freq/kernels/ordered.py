"""Array operations whose results are the same bits in numpy, torch and C, on every device.

IEEE addition, subtraction, multiplication, division and square root of single numbers are exact
everywhere; what differs is the order of sums. So sums are taken in one stated order, and products
are rounded before they are added (no fused multiply-add).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from caesar_freq.kernels import memory

#: A numpy array or a torch tensor.
Array = Any
_LANES = 64


def namespace(x: Array) -> ModuleType:
    """The library that `x` belongs to: numpy or torch."""
    return np if isinstance(x, np.ndarray) else import_module("torch")


def like(values: np.ndarray | float, x: Array) -> Array:
    """Numbers as an array of the library, dtype and device of `x`, rounded to nearest."""
    if isinstance(x, np.ndarray):
        return np.asarray(values, x.dtype)
    torch = namespace(x)
    # on the device: torch divides by a number of the host as a product with its inverse
    return torch.asarray(np.array(values), dtype=x.dtype, device=x.device)


def zeros(shape: tuple[int, ...], x: Array) -> Array:
    """Zeros of the library, dtype and device of `x`."""
    return namespace(x).zeros(shape, dtype=x.dtype, device=x.device)


def as_double(x: Array) -> Array:
    """`x` in float64, itself if it is."""
    return x.astype(np.float64, copy=False) if isinstance(x, np.ndarray) else x.double()


def as_single(x: Array) -> Array:
    """`x` in float32."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.float()


def as_integers(x: Array) -> Array:
    """The bits of float32 values as int32."""
    return x.view(np.int32) if isinstance(x, np.ndarray) else x.view(namespace(x).int32)


def as_whole(x: Array) -> Array:
    """`x` without its fractions as int64."""
    return x.astype(np.int64) if isinstance(x, np.ndarray) else x.long()


def permuted(x: Array, axes: tuple[int, ...]) -> Array:
    """`x` with its axes in another order."""
    return x.transpose(axes) if isinstance(x, np.ndarray) else x.permute(axes)


def contiguous(x: Array) -> Array:
    """`x` in C order."""
    return np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x.contiguous()


def total(values: Iterable[Array]) -> float:
    """Sum of float64 values, given in parts one after another, in the order of `kernels/errors.c`.

    Groups of 64 * 64 values, in each of them every 64th value in turn, then the 64 sums by halves,
    then group by group; how the values are parted makes no difference.
    """
    result, rest = 0.0, None
    for part in values:
        part = part.reshape(-1)
        rest = part if rest is None else namespace(part).concatenate([rest, part])
        whole = len(rest) // _LANES**2 * _LANES**2
        for one in _groups(rest[:whole]):
            result += one
        rest = rest[whole:]
    if rest is not None and len(rest):
        missing = zeros((_LANES**2 - len(rest),), rest)
        for one in _groups(namespace(rest).concatenate([rest, missing])):
            result += one
    return result


def _groups(values: Array) -> list[float]:
    """Sums of the groups of 64 * 64 `values`."""
    groups = values.reshape(-1, _LANES, _LANES)
    sums = zeros((groups.shape[0], _LANES), values)
    for step in range(_LANES):
        sums += groups[:, step]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums.ravel().tolist()


def product(matrix: np.ndarray, x: Array) -> Array:
    """``matrix @ x`` over axis -2 of `x`, every sum from zero through the columns in order.

    Parameters
    ----------
    matrix : float64 [rows, k]
        Rounded to the dtype of `x` first.
    x : floating [..., k, inner]
    """
    shape = (*x.shape[:-2], len(matrix), x.shape[-1])
    if isinstance(x, np.ndarray):
        # here, so that those who only look at a stream need not load numba
        from caesar_freq.kernels.product import add_product

        out, outer = memory.zeros(shape, x.dtype), math.prod(shape[:-2])
        flat = np.ascontiguousarray(x).reshape(outer, *x.shape[-2:])
        matrix = np.ascontiguousarray(matrix, x.dtype)
        add_product(matrix, flat, out.reshape(outer, *shape[-2:]))
        return out
    out, weights = zeros(shape, x), like(matrix, x)
    for i in range(weights.shape[1]):
        out += weights[:, i, None] * x[..., i : i + 1, :]
    return out
