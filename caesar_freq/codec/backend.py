"""Which kernels a process uses: `native` where the package was built with them, else `portable`."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from caesar_freq.kernels import library


@lru_cache(maxsize=1)
def kernels() -> ModuleType:
    """Module with ``quantise, dequantise, coefficient_error, ends_of, encode_blocks, decode_blocks``."""
    if library() is None:
        from caesar_freq.codec import portable as module
    else:
        from caesar_freq.codec import native as module
    return module
