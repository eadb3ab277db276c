"""Eigenvectors of symmetric matrices with the same bits on every machine.

Householder reduction to a tridiagonal matrix and implicit QL (Wilkinson and Reinsch 1971). LAPACK sums in an order of its own on every processor.
"""

from __future__ import annotations

from ctypes import c_int64

import numpy as np

from caesar_freq.kernels import library, pointer
from caesar_freq.kernels.jit import njit

_MAX_SWEEPS = 60
_EPSILON = 2.0**-53


def eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and orthonormal eigenvectors (columns) of a symmetric matrix.

    Parameters
    ----------
    matrix : float64 [n, n]

    Raises
    ------
    np.linalg.LinAlgError
        If the iteration does not converge.
    """
    a = np.array(matrix, np.float64, order="C")
    if library() is None:
        diagonal, beside, rows = _tridiagonal(a)
        good = _ql(diagonal, beside, rows)
    else:
        diagonal, rows, good = _in_c(a)
    if not good:
        raise np.linalg.LinAlgError("eigenvalues did not converge")
    order = np.argsort(diagonal, kind="stable")
    return diagonal[order], np.ascontiguousarray(rows[order].T)


def _in_c(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Eigenvalues and eigenvectors (rows) in any order, and whether they are good; `a` is destroyed."""
    n, beside, rows = c_int64(len(a)), np.zeros(len(a)), np.empty_like(a)
    if library().cf_tridiagonal(pointer(a), n, pointer(beside), pointer(rows)) != 0:
        raise MemoryError("eigenvectors got no memory for the inner products of frames")
    diagonal = np.diag(a).copy()
    return (
        diagonal,
        rows,
        bool(library().cf_ql(pointer(diagonal), pointer(beside), pointer(rows), n)),
    )


@njit(nogil=True, cache=True)
def _tridiagonal(a):
    """``a = Q T Q'``: diagonal and subdiagonal of T, and Q' (rows); `a` is destroyed."""
    n = len(a)
    q = np.eye(n)
    p = np.zeros(n)
    for k in range(n - 2):
        v = a[k, k + 1 :].copy()
        scale = np.abs(v).max()
        if scale == 0.0:
            continue
        v /= scale
        norm = 0.0
        for x in v:
            norm += x * x
        norm = np.sqrt(norm)
        v[0] += norm if v[0] > 0 else -norm
        half = abs(v[0]) * norm  # v'v / 2
        # a <- H a H with H = 1 - v v' / half on the rest
        p[:] = 0.0
        for i in range(len(v)):
            w = v[i] / half
            for j in range(n):
                p[j] += w * a[k + 1 + i, j]
        dot = 0.0
        for i in range(len(v)):
            dot += v[i] * p[k + 1 + i]
        for i in range(len(v)):
            p[k + 1 + i] -= dot / (2.0 * half) * v[i]
        for i in range(len(v)):
            vi, pi = v[i], p[k + 1 + i]
            for j in range(len(v)):
                a[k + 1 + i, k + 1 + j] -= vi * p[k + 1 + j] + pi * v[j]
        for j in range(len(v)):
            a[k, k + 1 + j] -= p[k] * v[j]
            a[k + 1 + j, k] = a[k, k + 1 + j]
        # q <- H q
        p[:] = 0.0
        for i in range(len(v)):
            for j in range(n):
                p[j] += v[i] * q[k + 1 + i, j]
        for i in range(len(v)):
            w = v[i] / half
            for j in range(n):
                q[k + 1 + i, j] -= w * p[j]
    beside = np.zeros(n)
    for k in range(n - 1):
        beside[k] = a[k, k + 1]
    return np.diag(a).copy(), beside, q


@njit(nogil=True, cache=True)
def _ql(d, e, z):
    """Implicit QL of a tridiagonal matrix; rotates the rows of `z`. Whether it converged."""
    n, norm = len(d), 0.0
    for i in range(n):
        norm = max(norm, abs(d[i]) + abs(e[i]))
    for first in range(n):
        for sweep in range(_MAX_SWEEPS + 1):
            m = first
            while m < n - 1 and abs(e[m]) > _EPSILON * norm:
                m += 1
            if m == first:
                break
            if sweep == _MAX_SWEEPS:
                return False
            g = (d[first + 1] - d[first]) / (2.0 * e[first])
            r = np.sqrt(g * g + 1.0)
            g = d[m] - d[first] + e[first] / (g + (r if g >= 0 else -r))
            s, c, p = 1.0, 1.0, 0.0
            early = False
            for i in range(m - 1, first - 1, -1):
                f, b = s * e[i], c * e[i]
                r = np.sqrt(f * f + g * g)
                e[i + 1] = r
                if r == 0.0:
                    d[i + 1] -= p
                    e[m] = 0.0
                    early = True
                    break
                s, c = f / r, g / r
                g = d[i + 1] - p
                r = (d[i] - g) * s + 2.0 * c * b
                p = s * r
                d[i + 1] = g + p
                g = c * r - b
                for j in range(z.shape[1]):
                    f = z[i + 1, j]
                    z[i + 1, j] = s * z[i, j] + c * f
                    z[i, j] = c * z[i, j] - s * f
            if early:
                continue
            d[first] -= p
            e[first] = g
            e[m] = 0.0
    return True
