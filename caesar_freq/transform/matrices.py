"""Cosine matrices that have the same bits on every machine.

Libraries of mathematical functions differ in the last place, and so do matrix products. Here all of
it is integers (fixed point of 160 bits); each entry is rounded once, to the nearest float64.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import numpy as np

_BITS, _GUARD = 160, 32
_ONE = 1 << _BITS


@lru_cache(maxsize=1)
def _pi() -> int:
    """Pi by Machin's formula, ``16 atan(1/5) - 4 atan(1/239)``."""

    def arctan(inverse: int) -> int:
        power = total = _ONE // inverse
        n, sign = 1, 1
        while power:
            power //= inverse * inverse
            n, sign = n + 2, -sign
            total += sign * (power // n)
        return total

    return 16 * arctan(5) - 4 * arctan(239)


@lru_cache(maxsize=64)
def _cosines(period: int) -> np.ndarray:
    """``cos(2 pi j / period)`` of ``j = 0 .. period - 1``, integers."""

    def cosine(j: int) -> int:
        angle = 2 * _pi() * j // period
        term = total = _ONE
        n, sign = 0, 1
        while term:
            n, sign = n + 2, -sign
            term = (term * angle * angle >> 2 * _BITS) // (n * (n - 1))
            total += sign * term
        return total

    half = [cosine(j) for j in range(period // 2 + 1)]
    return np.array([half[min(j, period - j)] for j in range(period)], object)


def _entries(size: int) -> np.ndarray:
    """What entries of a matrix may be, integers, by the multiple of ``pi / (4 size)``."""
    return _cosines(8 * size) * isqrt(2 * _ONE * _ONE // size) >> _BITS


def _multiples(size: int, kind: int) -> np.ndarray:
    k, n = np.arange(size)[:, None], np.arange(size)[None, :]
    return ((2 * n + 1) * (2 * k + 1) if kind == 4 else 2 * (2 * n + 1) * k) % (8 * size)


def _mean(size: int) -> int:
    """Entry of the first row of a DCT-II."""
    return isqrt(_ONE * _ONE // size)


def _dct(size: int, kind: int) -> np.ndarray:
    matrix = _entries(size)[_multiples(size, kind)]
    if kind == 2:
        matrix[0] = _mean(size)
    return matrix


def _rounded(integers: np.ndarray) -> np.ndarray:
    # without the last bits, which hold the error of the sums: zeros become 0
    integers = integers + (1 << _GUARD - 1) >> _GUARD
    return (integers / (_ONE >> _GUARD)).astype(np.float64)


@lru_cache(maxsize=256)
def dct_matrix(size: int, kind: int = 2) -> np.ndarray:
    """Orthonormal DCT-II or DCT-IV matrix, float64 ``[frequency, sample]``."""
    # few entries differ: they are rounded before there are size**2 of them
    matrix = _rounded(_entries(size))[_multiples(size, kind)]
    if kind == 2:
        matrix[0] = _rounded(np.array([_mean(size)], object))
    return matrix


@lru_cache(maxsize=64)
def lapped_core(half: int) -> np.ndarray:
    """Rotation ``V = J C2^T C4 J`` of the differences across a border, float64 ``[half, half]``.

    With butterflies around it it turns the block DCT behind it into a lapped orthogonal transform
    (time-domain lapped transform; Tran, Liang & Tu 2003).
    """
    product = _dct(half, 2).T @ _dct(half, 4)
    return _rounded(product[::-1, ::-1] >> _BITS)
