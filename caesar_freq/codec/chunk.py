"""One chunk: what it holds, how it is written, and its checks after decoding.

Body of a chunk: a byte (a kind of `layout`, with `HAS_MASK`, `HAS_CORRECTIONS` and `HAS_SIGNS`),
then, each after its varint length, the mask, the corrections and the signs if there are any, then
the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caesar_freq.codec.chunks import Box
from caesar_freq.codec.coarse import close_grid, likely_bits, rough_grid
from caesar_freq.codec.coders import Coded
from caesar_freq.codec.grid import MOST_CORRECTED, Grid, exact_grid
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.lattice import encode_lattice, trial_bits
from caesar_freq.codec.layout import (
    CONSTANT,
    LATTICE,
    LOSSLESS,
    PARTIAL,
    PARTS,
    SEGMENTS,
    VOLUME,
    ZFP,
)
from caesar_freq.codec.lossless import encode_lossless, likely_bytes
from caesar_freq.codec.packing import varint
from caesar_freq.codec.partial import common_grid, encode_partial
from caesar_freq.codec.parts import parts
from caesar_freq.codec.pointwise import (
    correct,
    decode_corrections,
    restored_parts,
    rounding_room,
    working_bound,
)
from caesar_freq.codec.relative import (
    Logarithms,
    encode_signs,
    from_logarithms,
    relative_bound_holds,
    without_logarithm,
)
from caesar_freq.codec.special import encode_special
from caesar_freq.codec.targets import pointwise_bound
from caesar_freq.codec.zfp import Lattice, encode_zfp, find_lattice
from caesar_freq.data.filling import fill_masked
from caesar_freq.data.sections import missing
from caesar_freq.kernels.errors import compare
from caesar_freq.kernels.memory import empty
from caesar_freq.kernels.values import normalised, restored

#: Above this part of the raw size it is worth asking whether lossless coding is smaller.
_ASK_LOSSLESS = 0.2
#: A few frames may say that it takes so many times the bytes: more, and it is not tried.
_LOSSLESS_MAY = 2.0
#: A body of so many bytes or more holds too much for one value in all places to do.
_MORE_THAN_ONE = 32
#: Relative room for what rounding adds to an error that is computed, or to a bound.
_ROUNDING = 2.0**-48
#: One value may take so many bytes more than a volume of zeros: the head needs no step for it.
_STEP_BYTES = 6
#: Above so many bits per value it is worth asking whether coding levels is smaller. Rare spikes have few
#: at loose bounds, and levels a sixth of them.
_ASK_LATTICE = 1e-3
#: Levels that are guessed to take more than so many times the bits are not coded (`likely_bits`) unless
#: a trial in a box says otherwise; where the guess is farther off, there is no trial.
_DOUBTFUL, _HOPELESS = 1.45, 2.6
#: The rough guess of the bits of ZFP's coefficients may be so many times what they may take.
_ZFP_MAY = 1.5
#: A box may take so many times the bits of the whole: 1.24 to 1.31 on three smooth fields.
_BOX_MAY = 1.2


@dataclass
class Written:
    """A chunk's body and the squared error of its decoded values."""

    body: bytes
    squared_error: float = 0.0


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
    mask : bool [T, H, W]
        Cells that are kept bit by bit in `special`; takes no memory if there are none.
    whole : bool
        Whether there are none.
    empty : bool
        Whether all values are missing.
    count : int
        Number of values that are not masked.
    constant : bool
        Whether all values that are not masked are equal.
    """

    def __init__(
        self, values: np.ndarray, box: Box, fill_value: float | None, logarithmic: bool = False
    ) -> None:
        self.values, self.box, self._logarithmic = values, box, logarithmic
        self.mask, self.signs = missing(values, fill_value, empty(values.shape, bool)), None
        self.empty = bool(self.mask.all())
        if logarithmic:
            self.mask |= without_logarithm(values)
            self.signs = encode_signs(values, self.mask)
        self.count = self.mask.size - int(np.count_nonzero(self.mask))
        self.whole = self.count == self.mask.size
        if self.whole:
            self.mask = np.broadcast_to(np.False_, values.shape)
        exact = self.valid
        self.constant = all(bool(np.all(exact[at] == exact[:1])) for at in parts(exact))
        self._first = float(exact[0]) if exact.size else 0.0
        # filling is slow, and what fills a few cells is small
        self._filling: tuple = None, None

    @property
    def valid(self) -> np.ndarray:
        """The values that are not masked, float [n]."""
        if self.whole:
            return self.values.ravel()
        # frame by frame, into memory that goes back to the system
        out, end = empty(self.count, self.values.dtype), 0
        for frame, mask in zip(self.values, self.mask):
            part = frame[~mask]
            out[end : end + part.size] = part
            end += part.size
        return out

    @property
    def coded(self) -> np.ndarray | Logarithms:
        """What goes through the transform, float [T, H, W]: the values or their logarithms."""
        return Logarithms(self.values, self.mask) if self._logarithmic else self.values

    @property
    def good(self) -> np.ndarray | Logarithms:
        """What is not masked of `coded`, float [n]."""
        valid = self.valid
        if not self._logarithmic:
            return valid
        return Logarithms(valid, np.broadcast_to(np.False_, valid.shape))

    @cached_property
    def special(self) -> bytes:
        """The masked values, empty if there are none."""
        return b"" if self.whole else encode_special(self.values, self.mask)

    def normalised(self, variable: Variable, double: bool) -> np.ndarray:
        """``(value - offset) / range`` with masked cells filled smoothly."""
        return self.normalised_part(variable, double, ...)

    def normalised_part(self, variable: Variable, double: bool, at) -> np.ndarray:
        """What `normalised` holds at the index `at`, as a new array."""
        place = at if self.whole else ...
        values, mask = self.values[place], self.mask[place]
        scale = (variable.offset, variable.range, np.float64 if double else np.float32)
        if self._logarithmic:
            x, logs = empty(values.shape, scale[-1]), Logarithms(values, mask)
            for part in parts(x):
                x[part] = normalised(logs[part], mask[part], *scale)
        else:
            x = normalised(values, mask, *scale)
        return x if self.whole else self._filled(x, scale)[at]

    def _filled(self, x: np.ndarray, scale: tuple) -> np.ndarray:
        """The whole of `x` with masked cells filled in place, as the first time at that scale."""
        if self._filling[0] == scale:
            x[self.mask] = self._filling[1]
        else:
            self._filling = scale, fill_masked(x, self.mask, overwrite=True)[self.mask]
        return x

    def write_constant(self) -> Written:
        """Body of a constant chunk."""
        return Written(self._body(CONSTANT, struct.pack("<d", self._first)))

    def write_lossless(self) -> Written:
        """Body that restores every bit."""
        return self._lossless

    @cached_property
    def _lossless(self) -> Written:
        body = bytes([LOSSLESS]) + encode_lossless(self.values)
        written = self._smaller_zfp(Written(body))
        return self._smaller_partial(self._smaller(written, self._exact_grid), 0, False)

    @cached_property
    def _zfp_lattice(self) -> Lattice | None:
        return find_lattice(self.values, self.box)

    @cached_property
    def _zfp(self) -> Written | None:
        coded = encode_zfp(self.values, self._zfp_lattice)
        return None if coded is None else Written(bytes([ZFP]) + coded)

    @cached_property
    def _exact_grid(self) -> Grid | None:
        return exact_grid(self.valid) if self.count else None

    @cached_property
    def _common_grid(self) -> Grid | None:
        """A grid of most values, where all of them have none, or one that is their dtype's own."""
        fine = self._exact_grid is None or self._exact_grid.top >= MOST_CORRECTED
        return common_grid(self.valid) if fine and self.count and self.signs is None else None

    def write_shorter(self, written: Written) -> Written:
        """`written`, or a lossless body where it takes more bytes than the values themselves."""
        if len(written.body) <= self.values.nbytes:
            return written
        return min(self.write_lossless(), written, key=lambda w: len(w.body))

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
        if self.constant:
            return written
        written = self._smaller_constant(written, limit, rms)
        if 8 * len(written.body) < _ASK_LATTICE * self.count:
            return written
        size = len(written.body)
        if (
            size > _ASK_LOSSLESS * self.values.nbytes
            and likely_bytes(self.values) < _LOSSLESS_MAY * size
        ):
            written = min(self.write_lossless(), written, key=lambda w: len(w.body))
        written = self._smaller(self._smaller_zfp(written), self._exact_grid)
        if not limit:
            return written
        written = self._smaller_partial(written, limit, rms)
        good = self.good
        rough = rough_grid(good, limit, rms)
        if self._hopeless(written, rough[0]):
            return written
        grid = close_grid(rough, good, limit, rms)
        del good
        if self.signs is not None:
            return self._smaller_logarithms(written, grid, bound)
        return self._smaller(written, grid)

    def _smaller_constant(self, written: Written, limit: float, rms: bool) -> Written:
        """`written`, or one value in all places if that errs by no more than `limit`."""
        inside = len(written.body) - len(self.special)
        if not limit or self.signs is not None or inside >= _MORE_THAN_ONE:
            return written
        valid = self.valid
        low, high = float(valid.min()), float(valid.max())
        middle = np.mean(valid, dtype=np.float64) if rms else low + (high - low) / 2
        value = float(valid.dtype.type(middle))
        with np.errstate(over="ignore"):
            squares = sum(
                float(np.sum(np.square(valid[at].astype(np.float64) - value)))
                for at in parts(valid)
            )
        error = np.sqrt(squares / self.count) if rms else max(high - value, value - low)
        if not error * (1 + _ROUNDING) <= limit:
            return written
        body = self._body(CONSTANT, struct.pack("<d", value))
        return Written(body, squares) if len(body) <= len(written.body) + _STEP_BYTES else written

    def _hopeless(self, written: Written, grid: Grid) -> bool:
        """Whether levels of `grid` are sure to take more bytes than `written`."""
        if not grid.step:
            return False
        bits, coded = 8 * len(written.body) / self.count, self.coded
        times = likely_bits(coded, self.mask, grid.step) / bits
        if _DOUBTFUL < times <= _HOPELESS:
            return trial_bits(coded, self.mask, grid) > _BOX_MAY * bits
        return times > _HOPELESS

    def _smaller(self, written: Written, grid: Grid | None) -> Written:
        """`written`, or levels on `grid` if those take fewer bytes."""
        if grid is None or self._hopeless(written, grid):
            return written
        coded = encode_lattice(self.values, self.mask, grid, len(written.body))
        body = None if coded is None else self._body(LATTICE, coded)
        if body is None or len(body) >= len(written.body):
            return written
        with np.errstate(over="ignore"):  # infinite is more than any bound of a mean allows
            return Written(body, grid.squared_error(self.valid))

    def _smaller_zfp(self, written: Written) -> Written:
        """`written`, or coefficients that ZFP truncated if those take fewer bytes."""
        lattice, bits = self._zfp_lattice, 8 * len(written.body) / self.values.size
        if lattice is None or lattice.bits > _ZFP_MAY * bits or self._zfp is None:
            return written
        return min(written, self._zfp, key=lambda w: len(w.body))

    def _smaller_partial(self, written: Written, limit: float, rms: bool) -> Written:
        """`written`, or levels of most values and the others apart if that takes fewer bytes."""
        grid = self._common_grid
        if grid is None or self._hopeless(written, grid):
            return written
        found = encode_partial(self.values, self.mask, grid, limit, rms, len(written.body))
        if found is None:
            return written
        other = Written(self._body(PARTIAL, found[0]), found[1])
        return min(written, other, key=lambda w: len(w.body))

    def _smaller_logarithms(self, written: Written, grid: Grid | None, bound: float) -> Written:
        """`written`, or logarithms on `grid` and signs if those take fewer bytes."""
        if grid is None:
            return written
        logs = self.coded
        coded = encode_lattice(logs, self.mask, grid, len(written.body))
        levels = ((at, grid.restore(grid.levels(logs[at]), logs.dtype)) for at in parts(logs))
        if coded is None or not self._ratios_hold(levels, bound):
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
        scale, original = (variable.offset, variable.range), self.coded
        room = rounding_room(*scale, original.dtype)
        corrections = correct(
            original, coded.decoded, bound, working, self.mask, len(coded.data), room, scale
        )
        del original
        if corrections is None:
            return self.write_lossless()
        if self.signs is not None:
            added = decode_corrections(corrections, self.values.shape, working, room)
            if not self._ratios_hold(restored_parts(coded.decoded, *scale, added), header.bound):
                return self.write_lossless()
        return Written(self._body(kind, coded.data, corrections, self.signs or None))

    def write_measured(self, data: bytes, squared_error: float, kind: int = VOLUME) -> Written:
        """Body of a coded volume without corrections, of known squared error."""
        return Written(self._body(kind, data), squared_error)

    def _ratios_hold(self, logs: Iterable[tuple[slice, np.ndarray]], bound: float) -> bool:
        """Whether the values that a decoder makes of `logs`, part by part, are within `bound`."""
        for at, part in logs:
            before, good = self.values[at], ~self.mask[at]
            after = from_logarithms(part, before < 0, before.dtype)
            if not relative_bound_holds(before[good], after[good], bound):
                return False
        return True

    def _body(self, kind: int, data: bytes, corrections=None, signs=None) -> bytes:
        parts = []
        for (flag, _), part in zip(PARTS, (self.special or None, corrections, signs)):
            if part is not None:
                kind |= flag
                parts.append(varint(len(part)) + part)
        return bytes([kind]) + b"".join(parts) + data
