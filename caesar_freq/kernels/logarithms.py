"""Binary logarithms and powers that have the same bits on every machine.

Mathematical libraries differ in the last place, and one library from processor to processor. Here are
series of additions and multiplications alone, off by at most two units in the last place.
"""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from math import factorial

import numpy as np

from caesar_freq.kernels import library, pointer
from caesar_freq.kernels.jit import njit

_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52
_LN2 = 0.6931471805599453
#: ``log2(m) = sum of these times s ** (2 k + 1)`` with ``s = (m - 1) / (m + 1)``, k = 10 to 0.
_LOG = tuple(2 / _LN2 / (2 * k + 1) for k in range(10, -1, -1))
#: Taylor series of ``exp``, highest power first; 0.35 ** 14 / 14! is below 2 ** -57.
_EXP = tuple(1 / factorial(k) for k in range(13, 0, -1))
#: Powers of two, as large as half an exponent can be.
_LEAST = -511
_POWERS = np.ldexp(1.0, np.arange(_LEAST, 514))


def _factors(series: tuple[float, ...]) -> tuple[c_void_p, c_int64]:
    """A series as the kernels in C take it."""
    return pointer(np.array(series)), c_int64(len(series))


def log2(x: np.ndarray) -> np.ndarray:
    """``log2(x)`` of normal positive float64 numbers."""
    bits = np.ascontiguousarray(x, np.float64).view(np.int64)
    out, exponents = ((bits & _MANTISSA) | _ONE).view(np.float64), bits >> 52
    kernels = library()
    if kernels is None:
        _log2(out.ravel(), exponents.ravel())
    else:
        kernels.cf_log2(pointer(out), pointer(exponents), c_int64(out.size), *_factors(_LOG))
    return out


@njit(nogil=True, cache=True)
def _log2(m, exponents):
    for i in range(len(m)):
        above = 1.0 if m[i] > 1.4142135623730951 else 0.0
        y = m[i] * (1.0 - 0.5 * above)
        s = (y - 1.0) / (y + 1.0)
        square, total = s * s, 0.0
        for factor in _LOG:
            total = total * square + factor
        m[i] = total * s + (exponents[i] - 1023 + above)


def exp2(y: np.ndarray) -> np.ndarray:
    """``2 ** y`` of float64 numbers.

    What is smaller than the least normal number becomes it, what is larger than the largest infinite.
    """
    out = np.clip(y, -1022.0, 1025.0)
    none = np.isnan(out)
    out[none] = 0.0
    kernels = library()
    if kernels is None:
        _exp2(out.ravel())
    else:
        kernels.cf_exp2(pointer(out), c_int64(out.size), *_factors(_EXP), pointer(_POWERS))
    out[none] = np.nan
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _exp2(y):
    for i in range(len(y)):
        whole = np.rint(y[i])
        x, total = (y[i] - whole) * _LN2, 0.0
        for factor in _EXP:
            total = (total + factor) * x
        n = np.int64(whole)
        y[i] = (total + 1.0) * _POWERS[(n >> 1) - _LEAST] * _POWERS[n - (n >> 1) - _LEAST]
