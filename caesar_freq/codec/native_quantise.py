"""The quantiser of `quantise` and `refine` in C (`kernels/quantise.c`, `kernels/refine.c`)."""

from __future__ import annotations

from ctypes import Structure, byref, c_double, c_int64, c_void_p

import numpy as np

from caesar_freq.entropy.tables import N_BINS
from caesar_freq.kernels import SUFFIX, library, pointer
from caesar_freq.kernels.memory import empty

#: C takes centroids of two grids.
_CENTROIDS = (N_BINS // 2, 3)


class _Planes(Structure):
    _fields_ = [(name, c_int64) for name in ("nt", "bt", "bh", "bw", "cells")]


def planes_of(shape: tuple[int, ...]) -> _Planes:
    """Sizes of planes ``[nt, bt, bh, bw, nh, nw]`` as C takes them."""
    return _Planes(*shape[:4], shape[4] * shape[5])


def quantise(planes, step, dead_zone, alphas, classes):
    """See `quantise.quantise`."""
    q = empty(planes.shape, np.int32)
    return q, _quantise(planes, step, dead_zone, alphas, classes, q, None)


def quantised_ends(planes, step, dead_zone, alphas, classes):
    """`native.ends_of` of the levels of `quantise`, which are not kept, and whether all of them fit."""
    used = np.zeros((planes.shape[0], *planes.shape[4:]), np.int32)
    return used, _quantise(planes, step, dead_zone, alphas, classes, None, used)


def _quantise(planes, step, dead_zone, alphas, classes, q, used) -> bool:
    fits = getattr(library(), f"cf_quantise_{SUFFIX[planes.dtype]}")(
        byref(planes_of(planes.shape)), pointer(planes), c_double(step), c_double(dead_zone),
        pointer(alphas), pointer(classes),
        *(None if array is None else pointer(array) for array in (q, used)),
    )  # fmt: skip
    if fits < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return bool(fits)


def dequantise(q, bins, step, alphas, classes, centroid, planes) -> None:
    """See `quantise.dequantise`."""
    _reconstruct("dequantise", q, bins, step, alphas, classes, centroid, planes)


def coefficient_error(q, bins, step, alphas, classes, centroid, planes) -> int:
    """See `quantise.coefficient_error`."""
    return _reconstruct("coefficient_error", q, bins, step, alphas, classes, centroid, planes)


def _reconstruct(name: str, q, bins, step, alphas, classes, centroid, planes) -> float:
    """Visit every coefficient with what its level stands for; the result is the kernel's."""
    function = getattr(library(), f"cf_{name}_{SUFFIX[planes.dtype]}")
    function.restype = c_double
    result = function(
        byref(planes_of(q.shape)), pointer(q), pointer(bins), c_double(step), pointer(alphas),
        pointer(classes), pointer(np.resize(centroid, _CENTROIDS)), pointer(planes),
    )  # fmt: skip
    if result < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return result


def refine(planes, step, alphas, classes, bins, thresholds, price, middle):
    """See `refine.refine`."""
    q = empty(planes.shape, np.int32)
    tables = (c_void_p * 3)(*(a.ctypes.data for a in (thresholds, price, middle)))
    fits = getattr(library(), f"cf_refine_{SUFFIX[planes.dtype]}")(
        byref(planes_of(planes.shape)), pointer(planes), c_double(step), pointer(alphas),
        pointer(classes), pointer(bins), tables, pointer(q),
    )  # fmt: skip
    if fits < 0:
        raise MemoryError("the quantiser got no memory for a plane of cells")
    return q, bool(fits)
