"""One level of a wavelet split along axis 1, periodic; taps are those of PyWavelets."""

from __future__ import annotations

import numpy as np

from caesar_freq.kernels.ordered import Array, like, namespace, zeros


def _halves(x: Array) -> tuple[Array, Array]:
    """Even and odd samples; the last one of an odd length is repeated."""
    if x.shape[1] % 2:
        x = namespace(x).concatenate([x, x[:, -1:]], axis=1)
    return x[:, 0::2], x[:, 1::2]


def _joined(even: Array, odd: Array) -> Array:
    x = zeros((even.shape[0], 2 * even.shape[1], even.shape[2]), even)
    x[:, 0::2], x[:, 1::2] = even, odd
    return x


class Haar:
    """Sums and differences of pairs, orthonormal."""

    def split(self, x: Array) -> tuple[Array, Array]:
        """``[outer, length, inner]`` to low and high halves of ``ceil(length / 2)``."""
        even, odd = _halves(x)
        root = like(np.sqrt(0.5), x)
        return (even + odd) * root, (even - odd) * root

    def join(self, low: Array, high: Array) -> Array:
        """Inverse of `split`, of even length."""
        root = like(np.sqrt(0.5), low)
        return _joined((low + high) * root, (low - high) * root)


class CDF97:
    """CDF 9/7 (Cohen, Daubechies & Feauveau 1992; ``bior4.4``): symmetric, nearly orthonormal."""

    #: Taps at distance 0 to 4 from the middle, of the low and the high half. To join, those at even
    #: distance change their sign.
    LOW = (0.8526986790088938, 0.37740285561283066, -0.11062440441843718, -0.023849465019556843,
           0.03782845550726404)  # fmt: skip
    HIGH = (-0.7884856164055829, 0.41809227322161724, 0.04068941760916406, -0.06453888262869706)

    def split(self, x: Array) -> tuple[Array, Array]:
        """``[outer, length, inner]`` to low and high halves of ``ceil(length / 2)``."""
        even, odd = _halves(x)
        return _filtered(self.LOW, even, odd, 0), _filtered(self.HIGH, odd, even, 1)

    def join(self, low: Array, high: Array) -> Array:
        """Inverse of `split`, of even length."""
        of_low, of_high = (
            [tap if distance % 2 else -tap for distance, tap in enumerate(taps)]
            for taps in (self.HIGH, self.LOW)
        )
        even = _alternate(of_low, low, 0, 0) + _alternate(of_high, high, 1, 0)
        odd = _alternate(of_low, low, 1, 1) + _alternate(of_high, high, 0, 1)
        return _joined(even, odd)


def _pair(x: Array, distance: int, shifted: int) -> Array:
    """Sum of the two samples at `distance` from where a filter stands, in a half `x`.

    For even distances `x` holds the filter's own places; for odd ones the places between, the
    first of them left (`shifted` 0: before) or right of the first place.
    """
    roll = namespace(x).roll
    left, right = (distance + 1 - shifted) // 2, (distance + shifted) // 2
    if distance % 2 == 0:
        left = right = distance // 2
    return roll(x, left, 1) + roll(x, -right, 1)


def _filtered(taps, own: Array, other: Array, shifted: int) -> Array:
    total = like(taps[0], own) * own
    for distance, tap in enumerate(taps[1:], 1):
        x = other if distance % 2 else own
        total = total + like(tap, own) * _pair(x, distance, shifted)
    return total


def _alternate(taps, x: Array, first: int, shifted: int) -> Array:
    """The part of a filter that falls on one half: every other tap, from `first` on."""
    total = like(taps[first], x) * (_pair(x, first, shifted) if first else x)
    for distance in range(first + 2, len(taps), 2):
        total = total + like(taps[distance], x) * _pair(x, distance, shifted)
    return total


WAVELETS = {"haar": Haar(), "cdf97": CDF97()}
