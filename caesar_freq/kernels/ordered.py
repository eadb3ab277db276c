"""Array operations whose results are the same bits in numpy, torch and C, on every device.

IEEE addition, subtraction, multiplication, division and square root of single numbers are exact
everywhere; what differs is the order of sums. So sums are taken in one stated order, and products
are rounded before they are added (no fused multiply-add).
"""

from __future__ import annotations

import math
from importlib import import_module
from types import ModuleType
from typing import Any

import numba as nb
import numpy as np

#: A numpy array or a torch tensor.
Array = Any
_COLUMNS, _LANES = 1024, 64


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
    """`x` in float64."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x.double()


def as_integers(x: Array) -> Array:
    """The bits of float32 values as int32."""
    return x.view(np.int32) if isinstance(x, np.ndarray) else x.view(namespace(x).int32)


def permuted(x: Array, axes: tuple[int, ...]) -> Array:
    """`x` with its axes in another order."""
    return x.transpose(axes) if isinstance(x, np.ndarray) else x.permute(axes)


def contiguous(x: Array) -> Array:
    """`x` in C order."""
    return np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x.contiguous()


def total(values: Array) -> float:
    """Sum of float64 values in the order of `kernels/errors.c`.

    Groups of 64 * 64 values, in each of them every 64th value in turn, then the 64 sums by halves,
    then group by group.
    """
    values = values.reshape(-1)
    missing = -len(values) % _LANES**2
    values = namespace(values).concatenate([values, zeros((missing,), values)])
    groups = values.reshape(-1, _LANES, _LANES)
    sums = zeros((groups.shape[0], _LANES), values)
    for step in range(_LANES):
        sums += groups[:, step]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    result = 0.0
    for one in sums.ravel().tolist():
        result += one
    return result


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
        out, outer = np.zeros(shape, x.dtype), math.prod(shape[:-2])
        flat = np.ascontiguousarray(x).reshape(outer, *x.shape[-2:])
        matrix = np.ascontiguousarray(matrix, x.dtype)
        _product(matrix, flat, out.reshape(outer, *shape[-2:]))
        return out
    out, weights = zeros(shape, x), like(matrix, x)
    for i in range(weights.shape[1]):
        out += weights[:, i, None] * x[..., i : i + 1, :]
    return out


@nb.njit(nogil=True, cache=True)
def _product(matrix, x, out):
    rows, terms = matrix.shape
    inner = x.shape[2]
    fours = terms - terms % 4
    for b in range(x.shape[0]):
        for start in range(0, inner, _COLUMNS):
            here = slice(start, min(start + _COLUMNS, inner))
            for r in range(rows):
                w, y = matrix[r], out[b, r, here]
                for i in range(0, fours, 4):
                    x0, x1, x2, x3 = (
                        x[b, i, here],
                        x[b, i + 1, here],
                        x[b, i + 2, here],
                        x[b, i + 3, here],
                    )
                    w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
                    for a in range(len(y)):
                        y[a] = (((y[a] + w0 * x0[a]) + w1 * x1[a]) + w2 * x2[a]) + w3 * x3[a]
                for i in range(fours, terms):
                    xi, wi = x[b, i, here], w[i]
                    for a in range(len(y)):
                        y[a] += wi * xi[a]
