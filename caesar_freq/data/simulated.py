"""Simulated fields other than turbulence: smooth, noisy, patterned, torn and sparse ones.

Each function gives one realisation, float32 ``[T, H, W]``, decided by its arguments alone. They
imitate what coefficients of real data look like (spectra, edges, empty regions, noise), not their
physics; together with `caesar_freq.data.turbulence` they train the packaged base model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

Shape = tuple[int, int, int]
#: Frames of stirring before the first frame of `passive_scalar`.
_STIRRED = 20


def random_field(
    shape: Shape, seed: int, slope: float = 3.0, speed: float = 1.0, noise: float = 0.0
) -> np.ndarray:
    """Gaussian random field with a power law for a spectrum.

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
    slope : float
        The power spectrum falls as ``|k|**-slope`` with the wavenumber in all three axes, from
        the longest wave that fits the longest side.
    speed : float
        How fast the field changes: 1 makes time an axis like the others.
    noise : float
        Standard deviation of white noise, relative to that of the field.

    Returns
    -------
    float32 array [T, H, W], mean 0, standard deviation 1 before noise
    """
    rng = np.random.default_rng(seed)
    # twice the size, of which one corner is taken: data are not periodic
    sizes = [2 * n for n in shape]
    t, y, x = (
        frequency(n, 1 / max(shape[1:])).reshape([-1 if axis == i else 1 for i in range(3)])
        for axis, (n, frequency) in enumerate(
            zip(sizes, (scipy.fft.fftfreq, scipy.fft.fftfreq, scipy.fft.rfftfreq))
        )
    )
    k2 = np.maximum((t / speed) ** 2 + y**2 + x**2, 0.25)
    spectrum = scipy.fft.rfftn(rng.standard_normal(sizes)) * k2 ** (-slope / 4)
    field = scipy.fft.irfftn(spectrum, s=sizes)[: shape[0], : shape[1], : shape[2]]
    field = (field - field.mean()) / field.std()
    return (field + noise * rng.standard_normal(shape)).astype(np.float32)


def climate(
    shape: Shape,
    seed: int,
    period: float = 12.0,
    weather: float = 0.15,
    surface: float = 1.0,
    slope: float = 3.5,
) -> np.ndarray:
    """Mean state, yearly cycle and drifting anomalies over land and sea.

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
    period : float
        Frames in a year; 1 leaves no cycle (annual means).
    weather : float
        Standard deviation of the anomalies, relative to the range from equator to pole.
    surface : float
        How much land and mountains show: 1 near the ground, 0 high above it.
    slope : float
        Spectral slope of the anomalies.

    Returns
    -------
    float32 array [T, H, W]
    """
    frames, height, width = shape
    plane = (1, height, width)
    latitude = np.linspace(-1.4, 1.4, height)[:, None]
    land = (random_field(plane, seed, 4.0) > 0.3)[0]
    if surface != 1:  # a product with 1 would round other bits
        land = surface * land
    mountains = np.maximum(random_field(plane, seed + 1, 3.0)[0], 0) * land
    mean = np.cos(latitude) ** 2 - 0.08 * mountains + 0.05 * land
    swing = np.sin(latitude) * (0.06 + 0.2 * land)
    lag = 0.5 * random_field(plane, seed + 2, 5.0)[0]
    t = np.arange(frames)[:, None, None]
    cycle = swing * np.cos(2 * np.pi * t / period - lag)
    # the sea damps what the air above it does
    anomaly = random_field(shape, seed + 3, slope, speed=6.0) * (0.4 + 0.6 * land)
    return (mean + cycle + weather * anomaly + 1e-3 * t).astype(np.float32)


def gray_scott(
    shape: Shape, seed: int, feed: float = 0.037, kill: float = 0.06, stride: int = 40
) -> np.ndarray:
    """Spots and stripes of the Gray-Scott reaction (Pearson, Science 261, 189, 1993).

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
        Places the first spots.
    feed, kill : float
        Reaction rates; they decide the pattern.
    stride : int
        Solver steps of length 1 between frames.

    Returns
    -------
    float32 array [T, H, W]
        Concentration of the second substance.
    """
    frames, height, width = shape
    rng = np.random.default_rng(seed)
    u, v = np.ones((height, width)), np.zeros((height, width))
    for y, x in zip(rng.integers(height, size=12), rng.integers(width, size=12)):
        u[y : y + 8, x : x + 8], v[y : y + 8, x : x + 8] = 0.5, 0.25
    u += 0.01 * rng.standard_normal(u.shape)

    def spread(a: np.ndarray) -> np.ndarray:
        return sum(np.roll(a, s, axis) for axis in (0, 1) for s in (-1, 1)) - 4 * a

    out = np.empty(shape, np.float32)
    for frame in range(frames):
        for _ in range(stride):
            reaction = u * v * v
            u += 0.16 * spread(u) - reaction + feed * (1 - u)
            v += 0.08 * spread(v) + reaction - (feed + kill) * v
        out[frame] = v
    return out


def passive_scalar(shape: Shape, seed: int, reach: float = 0.6, slope: float = 5.0) -> np.ndarray:
    """A smooth field stirred into fronts and filaments by a smooth, slowly changing flow.

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
    reach : float
        Root-mean-square displacement in a frame, in cells.
    slope : float
        Spectral slope of the stream function.

    Returns
    -------
    float32 array [T, H, W]
    """
    frames, height, width = shape
    psi = random_field(shape, seed, slope, speed=0.5)
    along_y, along_x = np.gradient(psi, axis=(1, 2))
    velocity = np.stack([-along_x, along_y], axis=1)  # [T, (y, x), H, W], without divergence
    velocity *= reach / np.sqrt((velocity**2).sum(axis=1).mean())
    grid = np.mgrid[0:height, 0:width].astype(np.float64)
    start = random_field((1, height, width), seed + 1, 4.0)[0]
    # how far from each point lies the place that its value came from
    offset = np.zeros_like(grid)
    out = np.empty(shape, np.float32)
    for frame in range(-_STIRRED, frames):
        step = velocity[max(frame, 0)]
        offset = np.stack([map_coordinates(o, grid - step, order=1, mode="nearest")
                           for o in offset]) - step  # fmt: skip
        if frame >= 0:
            out[frame] = map_coordinates(start, grid + offset, order=3, mode="reflect")
    return out


def showers(shape: Shape, seed: int, cover: float = 0.25, slope: float = 3.0) -> np.ndarray:
    """Rain-like: nothing over most of the area, rough patches elsewhere.

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
    cover : float
        Share of cells that are not 0.
    slope : float
        Spectral slope of the field whose peaks the patches are.

    Returns
    -------
    float32 array [T, H, W], at least 0
    """
    field = random_field(shape, seed, slope, speed=2.0)
    beyond = np.maximum(field - np.quantile(field, 1 - cover), 0)
    return np.expm1(beyond).astype(np.float32)


def intermittent(shape: Shape, seed: int, slope: float = 3.0, contrast: float = 0.8) -> np.ndarray:
    """Log-normal: strong in few places, as dissipation, vorticity or humidity are.

    Parameters
    ----------
    shape : (T, H, W)
    seed : int
    slope : float
        Spectral slope of the logarithm.
    contrast : float
        Standard deviation of the logarithm.

    Returns
    -------
    float32 array [T, H, W], positive
    """
    return np.exp(contrast * random_field(shape, seed, slope)).astype(np.float32)


def realisations(kind, shape: Shape, seeds: Sequence[int], **arguments) -> np.ndarray:
    """One section a seed, float32 ``[1, seeds, T, H, W]``."""
    return np.stack([kind(shape, seed, **arguments) for seed in seeds])[None]
