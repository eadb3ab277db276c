"""One chunk: what it holds, how it is written, and its checks after decoding.

Body of a chunk: a byte (a kind of `layout`, with `HAS_MASK`, `HAS_CORRECTIONS` and `HAS_SIGNS`),
then, each after its varint length, the mask, the corrections and the signs if there are any, then
the rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caesar_freq.codec.chunks import Box
from caesar_freq.codec.coarse import close_grid, likely_bits, rough_grid
from caesar_freq.codec.coders import Coded, decode_in_modes, decode_plain
from caesar_freq.codec.generated import decode_segments
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.lattice import Grid, decode_lattice, encode_lattice, exact_grid
from caesar_freq.codec.layout import (
    CONSTANT,
    FLAGS,
    LATTICE,
    LOSSLESS,
    MODES,
    PARTS,
    SEGMENTS,
    VOLUME,
)
from caesar_freq.codec.linked import Decoded
from caesar_freq.codec.lossless import decode_lossless, encode_lossless
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.pointwise import (
    correct,
    decode_corrections,
    rounded,
    rounding_room,
    working_bound,
)
from caesar_freq.codec.relative import (
    decode_signs,
    encode_signs,
    from_logarithms,
    log_bound,
    log_magnitudes,
    relative_bound_holds,
    without_logarithm,
)
from caesar_freq.codec.special import decode_mask_of, encode_special, restore_special
from caesar_freq.data.filling import fill_masked
from caesar_freq.data.sections import missing
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.errors import compare
from caesar_freq.kernels.values import normalised, restored

#: Modes whose bound limits every value.
POINTWISE = ("abs", "rel", "pw_rel")
#: Errors of more ranges are all alike: the mean alone has at most 1.
_LOOSEST = 16.0
#: Above this part of the raw size it is worth asking whether lossless coding is smaller.
_ASK_LOSSLESS = 0.2
#: Above so many bits per value it is worth asking whether coding levels is smaller.
_ASK_LATTICE = 0.1
#: Levels that are guessed to take more than so many times the bits are not coded (`likely_bits`).
_HOPELESS = 1.35


@dataclass
class Written:
    """A chunk's body and the squared error of its decoded values."""

    body: bytes
    squared_error: float = 0.0


def pointwise_bound(header: Header, variable: Variable) -> float:
    """Largest allowed error of what is coded, or 0 in modes without a pointwise bound."""
    if header.mode == "abs":
        return header.bound
    if header.mode == "pw_rel":
        return log_bound(header.bound, header.dtype)
    return header.bound * variable.range if header.mode == "rel" else 0.0


def target_of(header: Header, variable: Variable) -> float:
    """Root-mean-square error to aim at, normalised by the range.

    Never above `_LOOSEST`: larger ones leave the range of floats.
    """
    if header.mode == "psnr":
        target = 10 ** (-header.bound / 20)
    elif header.mode == "nrmse":
        target = header.bound
    else:
        target = pointwise_bound(header, variable) / variable.range / 2
    return min(target, _LOOSEST)


def restore_values(decoded: np.ndarray, variable: Variable) -> np.ndarray:
    """Normalised values back in the variable's units, float64."""
    return decoded.astype(np.float64) * variable.range + variable.offset


class Chunk:
    """The values of a chunk and everything derived from them once.

    Parameters
    ----------
    values : float32 or float64 [T, H, W]
        In native byte order.
    box : Box
    fill_value : float or None
        A value that means "missing", besides NaN and infinities.
    logarithmic : bool
        Code ``log2|x|`` and signs (`relative`).

    Attributes
    ----------
    coded : float [T, H, W]
        What goes through the transform: the values or their logarithms.
    mask : bool [T, H, W]
        Cells that are kept bit by bit in `special`.
    whole : bool
        Whether there are none.
    empty : bool
        Whether all values are missing.
    good : float [n]
        What is not masked of `coded`.
    constant : bool
        Whether all values that are not masked are equal.
    """

    def __init__(
        self, values: np.ndarray, box: Box, fill_value: float | None, logarithmic: bool = False
    ) -> None:
        self.values, self.coded, self.box = values, values, box
        self.mask, self.signs = missing(values, fill_value), None
        self.empty = bool(self.mask.all())
        if logarithmic:
            self.mask = self.mask | without_logarithm(values)
            self.coded = log_magnitudes(values, self.mask)
            self.signs = encode_signs(values, self.mask)
        self.whole = not self.mask.any()
        self.good = self.coded.ravel() if self.whole else self.coded[~self.mask]
        exact = values[~self.mask] if logarithmic else self.good
        self.constant = bool(np.all(exact == exact[:1]))
        self._first = float(exact[0]) if exact.size else 0.0

    @cached_property
    def special(self) -> bytes:
        """The masked values, empty if there are none."""
        return b"" if self.whole else encode_special(self.values, self.mask)

    def normalised(self, variable: Variable, double: bool) -> np.ndarray:
        """``(value - offset) / range`` with masked cells filled smoothly."""
        dtype = np.float64 if double else np.float32
        x = normalised(self.coded, self.mask, variable.offset, variable.range, dtype)
        return fill_masked(x, self.mask) if not self.whole else x

    def write_constant(self) -> Written:
        """Body of a constant chunk."""
        return Written(self._body(CONSTANT, struct.pack("<d", self._first)))

    def write_lossless(self) -> Written:
        """Body that restores every bit."""
        return self._lossless

    @cached_property
    def _lossless(self) -> Written:
        body = bytes([LOSSLESS]) + encode_lossless(self.values)
        return self._smaller(Written(body), self._exact_grid)

    @cached_property
    def _exact_grid(self) -> Grid | None:
        values = self.values[~self.mask]
        return exact_grid(values) if values.size else None

    def write_closer(
        self, written: Written, limit: float, rms: bool = False, bound: float = 0.0
    ) -> Written:
        """`written`, or levels that err by at most `limit` or a lossless body if that is smaller.

        Parameters
        ----------
        limit : float
            Largest absolute error of what is coded or, with `rms`, root-mean-square error of the
            chunk.
        bound : float
            Allowed part of each value's size, where logarithms are coded.
        """
        if self.constant or 8 * len(written.body) < _ASK_LATTICE * self.good.size:
            return written
        if len(written.body) > _ASK_LOSSLESS * self.values.nbytes:
            written = min(self.write_lossless(), written, key=lambda w: len(w.body))
        written = self._smaller(written, self._exact_grid)
        if not limit:
            return written
        rough = rough_grid(self.good, limit, rms)
        if self._hopeless(written, rough[0]):
            return written
        grid = close_grid(rough, self.good, limit, rms)
        if self.signs is not None:
            return self._smaller_logarithms(written, grid, bound)
        return self._smaller(written, grid)

    def _hopeless(self, written: Written, grid: Grid) -> bool:
        """Whether levels of `grid` are sure to take more bytes than `written`."""
        if not grid.step:
            return False
        bits = 8 * len(written.body) / self.good.size
        return likely_bits(self.coded, self.mask, grid.step) > _HOPELESS * bits

    def _smaller(self, written: Written, grid: Grid | None) -> Written:
        """`written`, or levels on `grid` if those take fewer bytes."""
        if grid is None or self._hopeless(written, grid):
            return written
        coded = encode_lattice(self.values, self.mask, grid, len(written.body))
        body = None if coded is None else self._body(LATTICE, coded)
        if body is None or len(body) >= len(written.body):
            return written
        return Written(body, float(np.sum(grid.error(self.values[~self.mask]) ** 2)))

    def _smaller_logarithms(self, written: Written, grid: Grid | None, bound: float) -> Written:
        """`written`, or logarithms on `grid` and signs if those take fewer bytes."""
        if grid is None:
            return written
        logs = np.zeros(self.coded.shape)
        logs[~self.mask] = grid.restore(grid.levels(self.good), logs.dtype)
        coded = encode_lattice(self.coded, self.mask, grid, len(written.body))
        if coded is None or not self._ratios_hold(logs, bound):
            return written
        # the part of the signs, empty or not, says that levels are of logarithms
        body = self._body(LATTICE, coded, None, self.signs)
        return Written(body) if len(body) < len(written.body) else written

    def write_coded(self, coded: Coded, kind: int, header: Header, variable: Variable) -> Written:
        """Body of a coded volume with the corrections it needs."""
        bound = pointwise_bound(header, variable)
        if not bound:
            after = restored(coded.decoded, variable.offset, variable.range, self.coded.dtype)
            return self.write_measured(coded.data, compare(self.coded, after, self.mask)[1], kind)
        working = working_bound(bound, variable.range, header.double, kind == SEGMENTS)
        room = rounding_room(variable.offset, variable.range, self.coded.dtype)
        values = restore_values(coded.decoded, variable)
        fixed = correct(self.coded, values, bound, working, self.mask, len(coded.data), room)
        if fixed is None:
            return self.write_lossless()
        corrections, values = fixed
        if self.signs is not None and not self._ratios_hold(values, header.bound):
            return self.write_lossless()
        return Written(self._body(kind, coded.data, corrections, self.signs or None))

    def write_measured(self, data: bytes, squared_error: float, kind: int = VOLUME) -> Written:
        """Body of a coded volume without corrections, of known squared error."""
        return Written(self._body(kind, data), squared_error)

    def _ratios_hold(self, logs: np.ndarray, bound: float) -> bool:
        """Whether the values that a decoder makes of `logs` are within `bound` of their size."""
        after = from_logarithms(logs, self.values < 0, self.values.dtype)
        return relative_bound_holds(self.values[~self.mask], after[~self.mask], bound)

    def _body(self, kind: int, data: bytes, corrections=None, signs=None) -> bytes:
        parts = []
        for (flag, _), part in zip(PARTS, (self.special or None, corrections, signs)):
            if part is not None:
                kind |= flag
                parts.append(varint(len(part)) + part)
        return bytes([kind]) + b"".join(parts) + data


def split_body(body: bytes) -> tuple[int, dict[str, bytes], bytes]:
    """Kind of a chunk, its parts by name and the rest of its body."""
    reader = Reader(body)
    kind = reader.byte()
    if kind == LOSSLESS:
        return kind, {}, reader.rest()
    parts = {name: reader.take(reader.varint()) for flag, name in PARTS if kind & flag}
    return kind & ~FLAGS, parts, reader.rest()


def read_chunk(
    body: bytes,
    box: Box,
    header: Header,
    variable: Variable | None,
    model: FrequencyModel | None,
    predictors: dict,
    linked: Decoded | None = None,
) -> np.ndarray:
    """Decode a chunk's body to values ``[T, H, W]`` in the stream's dtype.

    Parameters
    ----------
    variable : Variable or None
        What the chunk was coded with (`Header.variable_of`).
    linked : linked.Decoded, optional
        Levels of a chunk that refers to another or is referred to.

    Raises
    ------
    CorruptStreamError
        If the body is not a whole chunk of this stream.
    ModelError
        If it needs a predictor that is not given.
    """
    kind, parts, data = split_body(body)
    if kind == LOSSLESS:
        return decode_lossless(data, box.shape, header.dtype)
    special, corrections = parts.get("mask", b""), parts.get("outliers")
    if kind == CONSTANT:
        if len(data) != 8:
            raise CorruptStreamError("a constant chunk has no value")
        values = np.full(box.shape, struct.unpack("<d", data)[0])
    elif linked or (
        kind in (VOLUME, SEGMENTS, MODES) and variable is not None and model is not None
    ):
        arguments = (box.shape, variable, variable.step, model)
        dtype = np.float64 if header.double else np.float32
        if linked:
            decoded = linked.volume(variable.step, dtype)
        elif kind == VOLUME:
            decoded = decode_plain(data, *arguments, dtype)
        elif kind == MODES:
            decoded = decode_in_modes(data, *arguments, dtype)
        else:
            decoded = decode_segments(data, *arguments, dtype, predictors)
        if corrections is None and header.mode != "pw_rel":
            values = restored(decoded, variable.offset, variable.range, header.dtype)
            return restore_special(values, special) if special else values
        values = restore_values(decoded, variable)
        if corrections is not None:
            bound = pointwise_bound(header, variable)
            working = working_bound(bound, variable.range, header.double, kind == SEGMENTS)
            coded_dtype = np.dtype(np.float64) if header.mode == "pw_rel" else header.dtype
            room = rounding_room(variable.offset, variable.range, coded_dtype)
            values = decode_corrections(corrections, values, working, room)
        if header.mode == "pw_rel":
            signs = decode_signs(parts.get("signs", b""), box.shape)
            values = from_logarithms(values, signs, header.dtype)
    elif kind == LATTICE:
        mask = decode_mask_of(special, box.shape) if special else np.zeros(box.shape, bool)
        logarithmic = "signs" in parts
        values = decode_lattice(data, mask, np.dtype(np.float64) if logarithmic else header.dtype)
        if logarithmic:
            signs = decode_signs(parts["signs"], box.shape)
            values = from_logarithms(values, signs, header.dtype)
    else:
        raise CorruptStreamError(f"a chunk is of unknown kind {kind}")
    values = rounded(values, header.dtype)
    return restore_special(values, special) if special else values
