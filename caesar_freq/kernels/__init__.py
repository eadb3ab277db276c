"""Native kernels in C: the fast path of the numba functions that carry the same names.

They are built with the package where there is a C compiler. Without them, or with
``CAESAR_FREQ_KERNELS=numba`` in the environment, numba does the same work and gives the same bits.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np

from caesar_freq.errors import ConfigError

#: What ``CAESAR_FREQ_KERNELS`` may be; the native ones are limited to an instruction set.
CHOICES = {"numba": -1, "portable": 0, "avx2": 1, "native": 2}


#: How the kernels' names end for each floating-point type.
SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
#: Interface of the compiled kernels that this source calls (`module.c`).
VERSION = 12


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where numba has to do.

    Raises
    ------
    ConfigError
        If ``CAESAR_FREQ_KERNELS`` is not one of `CHOICES`, or the kernels are of other sources.
    """
    name = os.environ.get("CAESAR_FREQ_KERNELS", "native")
    if name not in CHOICES:
        raise ConfigError(
            f"CAESAR_FREQ_KERNELS is {name!r}; choose one of {', '.join(CHOICES)} or unset it"
        )
    paths = [Path(__file__).with_name(f"_native{suffix}") for suffix in EXTENSION_SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if CHOICES[name] < 0 or found is None:
        return None
    loaded = ctypes.CDLL(str(found))
    if not hasattr(loaded, "cf_version") or loaded.cf_version() != VERSION:
        raise ConfigError(
            f"{found} was built from other sources than these; build it anew with pip install -e ., "
            "or set CAESAR_FREQ_KERNELS=numba"
        )
    loaded.cf_instruction_set(CHOICES[name])
    return loaded


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Address of an array's first value, which keeps the array alive for a call.

    A bare number would not: memory of a temporary array is another thread's before the kernel
    reads it.
    """
    return array.ctypes.data_as(ctypes.c_void_p)
