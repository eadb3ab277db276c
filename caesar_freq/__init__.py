"""CAESAR-Freq: error-bounded compression of spatio-temporal fields with a learned entropy model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["CAESARFreq", "CfqFile", "decode", "encode", "info"]


def __getattr__(name: str) -> Any:
    # Importing the package must stay cheap: numba and torch load only when they are used.
    if name in __all__:
        homes = {"CAESARFreq": "compressor", "CfqFile": "cfq_file", "info": "codec.contents"}
        home = homes.get(name, "api")
        return getattr(import_module(f"caesar_freq.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
