"""What does the work: kernels in C where the package was built with them, else numba; or torch on a
device; and how many threads.
"""

from __future__ import annotations

import os
from functools import lru_cache
from numbers import Integral
from typing import Any

from caesar_freq.errors import InputError, ModelError
from caesar_freq.kernels import library


@lru_cache(maxsize=8)
def kernels(device: str | None = None) -> Any:
    """Kernels with ``forward, inverse, quantise, quantised_ends, dequantise, coefficient_error``,
    ``ends_of``, ``scale_bins``, ``refine``, ``choose_blocks``, ``write_blocks``, ``encode_blocks`` and
    ``decode_blocks``.

    Parameters
    ----------
    device : str, optional
        Of torch. Default: the processor, without torch. The bits are the same.
    """
    if library() is None:
        from caesar_freq.codec import portable as host
    else:
        from caesar_freq.codec import native as host
    if device is None:
        return host
    from caesar_freq.codec.torch_kernels import TorchKernels

    return TorchKernels(device, host)


def codec_device(name: str | None) -> str | None:
    """What `kernels` takes for a caller's choice of device.

    Parameters
    ----------
    name : {None, "auto", "cpu", "cuda"} or "cuda:N"
        All but CUDA devices mean the processor: what a GPU gains has not been measured.

    Raises
    ------
    InputError
        If it is another name, or a CUDA device that is not there.
    ModelError
        If torch is not installed.
    """
    if name in (None, "auto", "cpu"):
        return None
    if name != "cuda" and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise InputError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N")
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"device {name!r} needs torch; install caesar-freq[train] or use cpu"
        ) from error
    if int(name[5:] or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name} needs a CUDA device and there is none; use --device cpu")
    return name


def workers_of(threads: int | None) -> int:
    """Number of threads that a caller means.

    Raises
    ------
    InputError
        If it is not a positive integer.
    """
    if threads is not None and not (isinstance(threads, Integral) and threads > 0):
        raise InputError(f"threads is {threads!r}; give a number of at least 1, or None for all")
    return threads or os.cpu_count() or 1
