"""The ordered matrix product of numpy arrays, in C where the kernels are built, else in numba."""

from __future__ import annotations

from ctypes import c_int64

import numpy as np

from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.jit import njit

#: Columns that are worked on together, so that they stay in the cache.
_COLUMNS = 1024
_SUFFIX = {**SUFFIX, np.dtype(np.int64): "i64"}


def add_product(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Add ``matrix [r, k] @ x [n, k, m]`` to `out` ``[n, r, m]``, term by term in order.

    All C-contiguous and of one type, float32, float64 or int64.
    """
    if library() is None:
        _add_product(matrix, x, out)
        return
    rows, terms = map(c_int64, matrix.shape)
    getattr(library(), f"cf_add_product_{_SUFFIX[x.dtype]}")(
        pointer(matrix), rows, terms, pointer(x), c_int64(len(x)), c_int64(x.shape[2]), pointer(out)
    )


@njit(nogil=True, cache=True)
def _add_product(matrix, x, out):
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
