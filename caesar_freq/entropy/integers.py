"""Integer arithmetic of the level coder; `kernels/integers.h` is its twin."""

from __future__ import annotations

from caesar_freq.kernels.jit import njit


@njit(nogil=True, cache=True)
def bit_length(a):
    n = 0
    while a:
        a >>= 1
        n += 1
    return n


@njit(nogil=True, cache=True)
def half_octave(a):
    """0, 1, 2, 3, then two numbers an octave; `a` >= 0."""
    if a < 4:
        return a
    n = bit_length(a)
    return 2 * n - 2 + ((a >> (n - 2)) & 1)


@njit(nogil=True, cache=True)
def eighth_octave(a):
    """0 to 7, then eight numbers an octave; `a` >= 0."""
    n = bit_length(a)
    return a if n < 4 else 8 * n + (a >> (n - 4) & 7)


@njit(nogil=True, cache=True)
def signed_octave(a, most):
    """Half-octave number of `a` with its sign, clipped to +-`most`, shifted to start at 0."""
    q = min(half_octave(abs(a)), most)
    return most + q if a > 0 else most - q


@njit(nogil=True, cache=True)
def clip(a, low, high):
    return min(max(a, low), high)


@njit(nogil=True, cache=True)
def median(west, north, northwest):
    """The median edge detector of LOCO-I."""
    low, high = min(west, north), max(west, north)
    return clip(west + north - northwest, low, high)
