"""Arrays of adversarial kinds, shapes and layouts in memory, for `fuzz_bounds`.

Every maker takes a generator, a shape and the limits (`numpy.finfo`) of the dtype that the array will
have; what it makes is float64 and may overflow when converted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LAYOUTS = ("C", "F", "reversed", "strided", "big-endian", "read-only")
SIZES = (1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 37, 61)
MAX_VALUES = 15_000


def _walk(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth along all axes, largest size 1."""
    x = rng.standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return x / np.abs(x).max()


def _scaled(rng, shape, limits) -> np.ndarray:
    exponent = rng.uniform(np.log10(limits.tiny), np.log10(limits.max))
    return _walk(rng, shape) * 10**exponent


def _denormal(rng, shape, limits) -> np.ndarray:
    return _walk(rng, shape) * float(limits.tiny) * rng.choice([1e-3, 0.5, 4.0])


def _huge_range(rng, shape, limits) -> np.ndarray:
    widest = np.log(float(limits.max))
    signs = rng.choice([-1, 1], shape) if rng.random() < 0.5 else 1
    return signs * np.exp(np.clip(_walk(rng, shape) * 2 * widest, -widest, 0.99 * widest))


def _zeros(rng, shape, limits) -> np.ndarray:
    return rng.choice([0.0, -0.0, float(limits.smallest_subnormal), -float(limits.tiny)], shape)


def _alternating(rng, shape, limits) -> np.ndarray:
    size = float(limits.max) * rng.choice([1.0, 0.5, 1e-10])
    return np.where(np.indices(shape).sum(0) % 2, size, -size)


def _spike(rng, shape, limits) -> np.ndarray:
    x = _walk(rng, shape) * rng.choice([0.0, 1e-6, 1.0])
    x.ravel()[rng.integers(x.size)] = float(limits.max) * rng.choice([1e-30, 1e-3, 1.0])
    return x


def _holes(rng, shape, limits) -> np.ndarray:
    x = _walk(rng, shape)
    block = tuple(slice(a, a + 1 + n // 2) for n in shape for a in [rng.integers(n)])
    x[block] = np.nan
    x[rng.random(shape) < rng.choice([0, 0.02, 0.6])] = rng.choice([np.nan, np.inf, -np.inf])
    return x


def _sections(rng, shape, limits) -> np.ndarray:
    """Constant along the last two axes, or everywhere."""
    x = rng.standard_normal((*shape[:-2], *(1 for _ in shape[-2:])))
    return np.broadcast_to(x if rng.random() < 0.5 else x.ravel()[0], shape).copy()


def _offset(rng, shape, limits) -> np.ndarray:
    return _walk(rng, shape) + 10 ** rng.uniform(2, 12)


def _grid(rng, shape, limits) -> np.ndarray:
    return np.rint(_walk(rng, shape) * rng.choice([3, 40, 3000])) * rng.choice([0.1, 0.5, 1 / 3])


def _rare(rng, shape, limits) -> np.ndarray:
    return np.where(rng.random(shape) < 0.03, np.exp(rng.standard_normal(shape) * 3), 0)


def _edges(rng, shape, limits) -> np.ndarray:
    return np.where(_walk(rng, shape) > 0, 1e3, -2e-3) + 1e-5 * rng.standard_normal(shape)


def _noise(rng, shape, limits) -> np.ndarray:
    return rng.standard_normal(shape) * 10 ** rng.uniform(-5, 5)


def _geographic(rng, shape, limits) -> np.ndarray:
    """Latitudes or longitudes: linear along one axis, constant along the others."""
    axis = int(rng.integers(len(shape)))
    line = np.linspace(-90, 90, shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])  # fmt: skip
    return np.broadcast_to(line, shape).copy()


def _patterns(rng, shape, limits) -> np.ndarray:
    """Two patterns in space that swing: a case for a field's own modes."""
    if len(shape) < 3:
        return _walk(rng, shape)
    t = np.arange(shape[-3])[:, None, None]
    one, two = rng.standard_normal((2, *shape[:-3], 1, *shape[-2:]))
    noise = 10 ** rng.uniform(-8, -2) * rng.standard_normal(shape)
    return np.sin(0.83 * t) * one + np.cos(1.91 * t + 0.4) * two + noise


def _alike(rng, shape, limits) -> np.ndarray:
    """Variables and sections that resemble each other: a case for links between sections."""
    few = rng.standard_normal((*shape[:-3], *(1 for _ in shape[-3:])))
    return _walk(rng, shape[-3:]) * (1 + 0.1 * few) + 1e-4 * rng.standard_normal(shape)


#: All makers.
ARRAYS: tuple[Callable, ...] = (
    _scaled, _denormal, _huge_range, _zeros, _alternating, _spike, _holes, _sections, _offset, _grid,
    _rare, _edges, _noise, _geographic, _patterns, _alike,
)  # fmt: skip


def random_shape(rng: np.random.Generator) -> tuple[int, ...]:
    """One row, or one to five axes of odd lengths."""
    if rng.random() < 0.1:
        return (1, 1, int(rng.integers(1, 3000)))
    shape = tuple(int(n) for n in rng.choice(SIZES, int(rng.choice([1, 2, 3, 3, 4, 5, 5]))))
    return shape if np.prod(shape) <= MAX_VALUES else shape[-2:]


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values, elsewhere in memory or in another byte order."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    if layout == "strided":
        wide = np.repeat(array, 2, axis=-1)
        return wide[..., ::2]
    if layout == "big-endian":
        return array.astype(array.dtype.newbyteorder(">"))
    if layout == "read-only":
        array.flags.writeable = False
    return array
