"""numba's compiler, with its cache on disk wherever there is a place for one."""

from __future__ import annotations

from collections.abc import Callable

import numba as nb


def njit(**options) -> Callable[[Callable], Callable]:
    """Decorator: compile a function that needs no interpreter lock, and keep what was compiled.

    Where the package lies in a folder that cannot be written and the user has none for caches, as
    in containers and on nodes without home directories, every process compiles what it calls.

    Parameters
    ----------
    **options
        Of ``numba.njit``.
    """

    def compiled(function: Callable) -> Callable:
        try:
            return nb.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return nb.njit(nogil=True, **options)(function)

    return compiled
