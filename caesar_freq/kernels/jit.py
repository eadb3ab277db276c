"""`numba.njit` for functions that may never be called: the import alone takes 0.17 s and 65 MB.

Where the kernels in C do the work no numba function runs, so numba is imported by the first that does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any


class Compiled:
    """A function that numba compiles when it is first called, from Python or from another one.

    Parameters
    ----------
    function : callable
    options : dict
        Of `numba.njit`.
    """

    def __init__(self, function: Callable, options: dict[str, Any]) -> None:
        self.py_func, self._options = function, options

    @cached_property
    def _dispatcher(self):
        import numba

        try:
            return numba.njit(**self._options)(self.py_func)
        except RuntimeError:
            # neither the package nor the home has a folder for the cache, as in containers
            return numba.njit(**{**self._options, "cache": False})(self.py_func)

    @property
    def _numba_type_(self):
        # what numba takes a global name of a function that it compiles for
        return self._dispatcher._numba_type_

    def __call__(self, *arguments):
        return self._dispatcher(*arguments)


def njit(**options) -> Callable[[Callable], Compiled]:
    """A decorator like `numba.njit`, with its options."""
    return partial(Compiled, options=options)
