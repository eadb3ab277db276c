"""Binary logarithms and powers that have the same bits on every machine.

Mathematical libraries differ in the last place, and one library from processor to processor. Here are
series of additions and multiplications alone, off by at most two units in the last place.
"""

from __future__ import annotations

from math import factorial

import numba as nb
import numpy as np

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


def log2(x: np.ndarray) -> np.ndarray:
    """``log2(x)`` of normal positive float64 numbers."""
    bits = np.ascontiguousarray(x, np.float64).view(np.int64)
    out = ((bits & _MANTISSA) | _ONE).view(np.float64)
    _log2(out.ravel(), (bits >> 52).ravel())
    return out


@nb.njit(nogil=True, cache=True)
def _log2(m, exponents):
    for i in range(len(m)):
        above = 1.0 if m[i] > 1.4142135623730951 else 0.0
        y = m[i] * (1.0 - 0.5 * above)
        s = (y - 1.0) / (y + 1.0)
        square, total = s * s, 0.0
        for factor in nb.literal_unroll(_LOG):
            total = total * square + factor
        m[i] = total * s + (exponents[i] - 1023 + above)


def exp2(y: np.ndarray) -> np.ndarray:
    """``2 ** y`` of float64 numbers.

    What is smaller than the least normal number becomes it, what is larger than the largest infinite.
    """
    out = np.clip(y, -1022.0, 1025.0)
    none = np.isnan(out)
    out[none] = 0.0
    _exp2(out.ravel())
    out[none] = np.nan
    return out


@nb.njit(nogil=True, cache=True, error_model="numpy")
def _exp2(y):
    for i in range(len(y)):
        whole = np.rint(y[i])
        x, total = (y[i] - whole) * _LN2, 0.0
        for factor in nb.literal_unroll(_EXP):
            total = (total + factor) * x
        n = np.int64(whole)
        y[i] = (total + 1.0) * _POWERS[(n >> 1) - _LEAST] * _POWERS[n - (n >> 1) - _LEAST]
