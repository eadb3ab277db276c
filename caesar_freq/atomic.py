"""Files that are either complete or absent: write under a temporary name, fsync, rename."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caesar_freq.errors import InputError

# full disk, full quota, larger than the file system can hold
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    Where `path` is a symbolic link, what it points to is replaced and the link stays.
    The temporary name keeps the suffix of `path`, since writers such as ``numpy.savez`` look at it.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written, or the disk is full.
    """
    real = Path(os.path.realpath(path))
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{real.stem}.", suffix=Path(path).suffix, dir=real.parent
        )
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}; choose a folder that exists and is writable"
        ) from error
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes private files; a result should have the rights any new file has
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~umask)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, real)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.errno in _NO_ROOM or error.filename == name):
            raise InputError(
                f"cannot write {path}: {error.strerror}; make room or choose another folder"
            ) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
