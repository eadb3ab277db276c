"""A compressed file against its original: errors, and whether the bound it was written with holds.

Both are gone through chunk by chunk, the original twice, since errors are in units of its range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.chunks import Box, five_dimensional
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_chunks
from caesar_freq.codec.header import Header
from caesar_freq.codec.parts import parts
from caesar_freq.codec.relative import relative_bound_holds
from caesar_freq.codec.targets import allowed_nrmse
from caesar_freq.data.lazy import Source
from caesar_freq.data.sections import missing
from caesar_freq.errors import InputError
from caesar_freq.kernels import errors
from caesar_freq.metrics import psnr


@dataclass
class _Errors:
    """Of the values of a variable, or of a part of it.

    Attributes
    ----------
    count : int
        Values that are finite and not the fill value in the original.
    squares : float
        Sum of their squared errors over the range, or where there is no range, over 1.
    largest, largest_own : float
        Largest error in the unit of the data, and of values that are not 0 in units of their size.
    special_equal, bits_equal : bool
        Whether all others, and whether all values are the same bit by bit.
    ratios_hold : bool
        Whether a bound that is relative to each value holds.
    """

    count: int = 0
    squares: float = 0.0
    largest: float = 0.0
    largest_own: float = 0.0
    special_equal: bool = True
    bits_equal: bool = True
    ratios_hold: bool = True

    def add(self, other: _Errors) -> None:
        """Take in another part."""
        self.count += other.count
        self.squares += other.squares
        # those of numpy keep a NaN, which must not hide
        self.largest = float(np.maximum(self.largest, other.largest))
        self.largest_own = float(np.maximum(self.largest_own, other.largest_own))
        self.special_equal &= other.special_equal
        self.bits_equal &= other.bits_equal
        self.ratios_hold &= other.ratios_hold

    def nrmse(self, spread: float) -> float:
        """Root mean square over the range; without one 0 if nothing is lost, else infinite."""
        return self._over(spread, math.sqrt(self.squares / max(1, self.count)))

    def max_error_rel(self, spread: float) -> float:
        """Largest error over the range, likewise."""
        return self._over(spread, self.largest / _scale(spread))

    def _over(self, spread: float, error: float) -> float:
        if 0 < spread < math.inf:
            return math.nan if math.isnan(self.largest) else error
        return 0.0 if self.largest == 0 else math.inf

    def held(self, header: Header, spread: float) -> bool:
        """Whether the bound of a stream holds; false if an error is no number."""
        mode, bound = header.mode, header.bound
        if mode == "lossless" or bound == 0:
            return self.bits_equal
        if not self.special_equal:
            return False
        if mode == "pw_rel":
            return self.ratios_hold
        if mode == "abs":
            return self.largest <= bound
        if mode == "rel":
            return self.largest <= bound * spread
        return self.nrmse(spread) <= allowed_nrmse(mode, bound)


def compare(
    source: Source, stream: Container, names: Sequence[str] | None = None, **options
) -> dict:
    """Decode a stream, measure it and judge the bound in its own dtype, variable by variable.

    Parameters
    ----------
    source : Source
        The original.
    stream : Container
    names : sequence of str, optional
        One per variable; by default their numbers.
    options
        ``predictors, threads, model, device`` of `decoder.decode_chunks`.

    Returns
    -------
    dict
        ``nrmse, psnr, max_error, max_error_rel`` (the worst variable counts), ``max_error_pw_rel``
        (largest error of a value that is not 0 in units of its own size),
        ``special_values_equal`` (NaN, infinities and fill values bit by bit), ``cr,
        compressed_bytes, mode, bound, bound_held`` and ``variables``: for each ``name, nrmse,
        max_error_rel, bound_held``.

    Raises
    ------
    InputError
        If shapes or dtypes differ.
    CorruptStreamError, ModelError
        See `decoder.decode_chunks`.
    """
    header = stream.header
    _check_alike(source, header)
    spreads = _ranges(source, header)
    found = [_Errors() for _ in spreads]

    def measure(place: Box, after: np.ndarray) -> tuple[int, _Errors]:
        before, v = source.read(place.index), place.variable
        return v, _errors(before, after, header, spreads[v])

    for v, errors_of_chunk in decode_chunks(stream, use=measure, **options):
        found[v].add(errors_of_chunk)
    if names is None or len(names) != len(found):
        names = [str(number) for number in range(len(found))]
    variables = [
        {
            "name": name,
            "nrmse": one.nrmse(spread),
            "max_error_rel": one.max_error_rel(spread),
            "bound_held": one.held(header, spread),
        }
        for name, one, spread in zip(names, found, spreads)
    ]
    whole = _Errors()
    for one in found:
        whole.add(one)
    nrmse = float(np.max([variable["nrmse"] for variable in variables]))
    return {
        "nrmse": nrmse,
        "psnr": psnr(nrmse),
        "max_error": whole.largest,
        "max_error_rel": float(np.max([variable["max_error_rel"] for variable in variables])),
        "max_error_pw_rel": whole.largest_own,
        "special_values_equal": whole.special_equal,
        "cr": math.prod(source.shape) * source.dtype.itemsize / stream.size,
        "compressed_bytes": stream.size,
        "mode": header.mode,
        "bound": header.bound,
        "bound_held": all(variable["bound_held"] for variable in variables),
        "variables": variables,
    }


def _check_alike(source: Source, header: Header) -> None:
    if tuple(source.shape) != tuple(header.shape):
        raise InputError(
            f"cannot compare: the original has shape {tuple(source.shape)}, the decoded array "
            f"{tuple(header.shape)}; give the file that was made from this original"
        )
    if source.dtype != header.dtype:
        raise InputError(
            f"cannot compare: the original is {source.dtype}, the decoded array {header.dtype}; "
            "an error is judged in the type of the original"
        )


def _ranges(source: Source, header: Header) -> list[float]:
    """Range of the valid values of each variable, 0 where none is valid."""
    lows, highs = ([end] * five_dimensional(header.shape)[0] for end in (math.inf, -math.inf))
    for place in header.places():
        values, v = source.read(place.index), place.variable
        valid = values[~missing(values, header.fill_value)]
        if valid.size:
            lows[v], highs[v] = min(lows[v], float(valid.min())), max(highs[v], float(valid.max()))
    return [high - low if high >= low else 0.0 for low, high in zip(lows, highs)]


def _scale(spread: float) -> float:
    return spread if 0 < spread < math.inf else 1.0


def _errors(before: np.ndarray, after: np.ndarray, header: Header, spread: float) -> _Errors:
    """Of one chunk."""
    found = _Errors()
    for at in parts(before):
        found.add(_errors_of_part(before[at], np.ascontiguousarray(after[at]), header, spread))
    return found


def _errors_of_part(before, after, header: Header, spread: float) -> _Errors:
    masked, bits = missing(before, header.fill_value), np.dtype(f"u{before.itemsize}")
    same = before.view(bits) == after.view(bits)
    largest, squares = errors.compare(before, after, masked, _scale(spread))
    good, got = before[~masked], after[~masked]
    sizes = np.abs(good.astype(np.float64))
    with np.errstate(all="ignore"):
        own = np.abs(good.astype(np.float64) - got)[sizes > 0] / sizes[sizes > 0]
    return _Errors(
        int(good.size), squares, largest, float(own.max(initial=0.0)), bool(same[masked].all()),
        bool(same.all()),
        header.mode != "pw_rel" or relative_bound_holds(good, got, header.bound),
    )  # fmt: skip
