"""Simulated fields for the benchmarks, from fixed seeds; no model of ours has seen them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from caesar_freq.atomic import atomic_path
from caesar_freq.data.turbulence import Flow, realisations


def flow() -> np.ndarray:
    """Turbulence in a regime between those of `train_base.REGIMES`, two realisations."""
    regime = Flow(stride=12, viscosity=3e-3, force_wavenumber=6, force_amplitude=6.0)
    return realisations(regime, [301, 302])


def flow_resolved() -> np.ndarray:
    """Another regime, every other grid point: no empty spectrum, as dealiasing leaves one."""
    regime = Flow(stride=8, drag=0.1, force_wavenumber=5, force_amplitude=5.0)
    return np.ascontiguousarray(realisations(regime, [303, 304])[..., ::2, ::2])


def gray_scott() -> np.ndarray:
    """Both species of a reaction and diffusion that grows like coral (Pearson, Science 261, 1993)."""
    n, frames, stride = 128, 64, 60
    rng = np.random.default_rng(305)
    u, v = np.ones((n, n)), np.zeros((n, n))
    for y, x in rng.integers(0, n - 16, (6, 2)):
        u[y : y + 16, x : x + 16], v[y : y + 16, x : x + 16] = 0.5, 0.25
    v += 0.01 * rng.random((n, n))
    out = np.empty((2, 1, frames, n, n), np.float32)
    for step in range(1000 + frames * stride):
        if step >= 1000 and (step - 1000) % stride == 0:
            out[:, 0, (step - 1000) // stride] = u, v
        reaction = u * v * v
        u += 0.16 * _laplacian(u) - reaction + 0.0545 * (1 - u)
        v += 0.08 * _laplacian(v) + reaction - (0.0545 + 0.062) * v
    return out


def _laplacian(a: np.ndarray) -> np.ndarray:
    return np.roll(a, 1, 0) + np.roll(a, -1, 0) + np.roll(a, 1, 1) + np.roll(a, -1, 1) - 4 * a


def scalar() -> np.ndarray:
    """A tracer stirred by two waves that drift: filaments, sharp fronts, a little diffusion."""
    n, frames = 128, 64
    rng = np.random.default_rng(306)
    field = gaussian_filter(rng.standard_normal((n, n)), 6, mode="wrap")
    y, x = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    k = 2 * np.pi / n
    out = np.empty((1, 1, frames, n, n), np.float32)
    for t in range(frames):
        out[0, 0, t] = field
        down = 0.9 * np.sin(2 * k * x + 0.09 * t) + 0.4 * np.sin(3 * k * y - 0.05 * t)
        along = 0.9 * np.cos(2 * k * y - 0.07 * t) + 0.4 * np.cos(5 * k * x)
        field = map_coordinates(field, [y - down, x - along], order=3, mode="grid-wrap")
        field = gaussian_filter(field, 0.3, mode="wrap")
    return out


def climate() -> np.ndarray:
    """Ten years of months: latitude, seasons, slow anomalies, and the noise of weather."""
    months, height, width = 120, 72, 144
    rng = np.random.default_rng(307)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, height)[None, :, None]
    land = gaussian_filter(rng.standard_normal((height, width)), (4, 8), mode=("nearest", "wrap"))
    season = np.cos(2 * np.pi * np.arange(months) / 12)[:, None, None]
    mean = 288 - 45 * np.sin(latitude) ** 2 + 60 * np.minimum(land, 0)
    anomaly = gaussian_filter(
        rng.standard_normal((months, height, width)),
        (1.5, 3, 5),
        mode=("nearest", "nearest", "wrap"),
    )
    out = mean - season * np.sin(latitude) * (8 + 60 * np.maximum(land, 0))
    out = out + 2 * anomaly / anomaly.std() + 0.15 * rng.standard_normal(out.shape)
    return out.astype(np.float32)[None, None]


SETS: dict[str, Callable[[], np.ndarray]] = {
    "sim_flow": flow,
    "sim_flow_resolved": flow_resolved,
    "sim_gray_scott": gray_scott,
    "sim_scalar": scalar,
    "sim_climate": climate,
}


def files(folder: Path) -> list[Path]:
    """The sets as ``.npz`` files in `folder`; simulated once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.npz" for name in SETS]
    for path in paths:
        if not path.exists():
            print(f"simulating {path.stem}", flush=True)
            with atomic_path(path) as temporary:
                np.savez(temporary, data=SETS[path.stem]())
    return paths
