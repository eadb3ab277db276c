"""Encoder of one chunk whose transform, step and bound are settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.chunk import Chunk, Written
from caesar_freq.codec.coders import (
    LEFT_OUT,
    ChunkCoder,
    ModeCoder,
    TooManyModes,
    may_have_modes,
    plain_transform,
)
from caesar_freq.codec.effort import EFFORTS, USUAL, Effort
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.layout import MODES, VOLUME
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.normalised import Normalised
from caesar_freq.codec.pointwise import rounding_room
from caesar_freq.codec.targets import POINTWISE, chunk_limit, pointwise_bound, target_of
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.kernels.errors import size_histogram
from caesar_freq.transform.blocks import ORTHONORMAL

#: Error of a float32 transform and its inverse in units of the range (measured: below half), and
#: the part of the squared error allowed that rounding may have where it is estimated.
_DRIFT, _MOST_NOISE = 4e-7, 1e-3


@dataclass
class ChunkEncoder:
    """What all chunks of a call share.

    Attributes
    ----------
    header : Header
        Mode, bound and precision are used.
    model : FrequencyModel
    exact : bool
        Measure errors on decoded values even where those of the coefficients tell them.
    effort : Effort
    """

    header: Header
    model: FrequencyModel
    exact: bool = field(default=False, kw_only=True)
    effort: Effort = field(default=EFFORTS[USUAL], kw_only=True)

    @property
    def pointwise(self) -> bool:
        """Whether the bound limits every value."""
        return self.header.mode in POINTWISE

    def target(self, variable: Variable) -> float:
        """`targets.target_of` under the header at hand."""
        return target_of(self.header, variable)

    def _in_own_modes(self, volumes: dict, variable: Variable, target: float, left_out) -> dict:
        """Coders in temporal modes of the chunks that have few."""
        found = {}
        for key, x in volumes.items():
            try:
                coder = ModeCoder(x, variable, self.model, target, left_out, self._refined)
            except TooManyModes:
                continue
            found[key] = (coder, MODES)
        return found

    def _plain(self, chunk: Chunk, variable: Variable, weight: float = 1.0) -> ChunkCoder:
        make = partial(chunk.normalised, variable, self.header.double)
        return ChunkCoder(make, variable, self.model, self._refined, weight)

    @property
    def _refined(self) -> bool:
        return self.effort.refined

    def _write(self, chunk: Chunk, coders, variable: Variable, dead_zone: float) -> Written:
        if chunk.constant:
            return chunk.write_constant()
        coder, kind = coders[id(chunk)]
        noise = self._rounding_noise(chunk, kind, variable)
        try:
            if noise is None:
                coded = coder.code(variable.step, dead_zone)
                return chunk.write_coded(coded, kind, self.header, variable)
            data, squares = coder.measured(variable.step, dead_zone)
        except LevelOverflow:
            return chunk.write_lossless()
        return chunk.write_measured(data, squares * variable.range**2 + noise * chunk.count)

    def _rounding_noise(self, chunk: Chunk, kind: int, variable: Variable) -> float | None:
        """Squared error per value that rounding adds to that of the coefficients.

        None where the coefficients do not tell the error of the values well: the values themselves
        have to be compared then.
        """
        header = self.header
        if self.exact or self.pointwise or kind != VOLUME or chunk.special:
            return None
        if variable.kind not in ORTHONORMAL:
            return None
        room = rounding_room(variable.offset, variable.range, header.dtype)
        room = max(room, float(np.finfo(header.dtype).smallest_subnormal) / 2)
        drift = 0.0 if header.double else _DRIFT * variable.range
        noise = room**2 / 3 + drift**2
        return (
            noise if noise <= _MOST_NOISE * (self.target(variable) * variable.range) ** 2 else None
        )

    def write_chunk(
        self, chunk: Chunk, variable: Variable, dead_zone: float, moded: bool = False,
        weight: float = 1.0,
    ) -> Written:  # fmt: skip
        """Body of one chunk of which transform and step are settled; `moded` tries own modes.

        A bit is worth `weight` times what it usually is.
        """
        if chunk.constant:
            return chunk.write_constant()
        plain = self._plain(chunk, variable, weight)
        best = self._write(chunk, {id(chunk): (plain, VOLUME)}, variable, dead_zone)
        if moded:
            volumes, target = {id(chunk): self._normalised(chunk, variable)}, self.target(variable)
            ways = [self._in_own_modes(volumes, variable, target, part) for part in LEFT_OUT]
            others = [self._write(chunk, way, variable, dead_zone) for way in ways if way]
            best = min([best, *others], key=lambda one: self._cost(one, variable))
        if not self.effort.levels:
            return chunk.write_shorter(best)
        return chunk.write_closer(best, *chunk_limit(self.header, variable), self.header.bound)

    def has_modes(self, chunk: Chunk, variable: Variable) -> bool:
        """Whether few temporal modes may carry a chunk."""
        x = self._normalised(chunk, variable)
        return self.effort.modes and may_have_modes(x, self.target(variable))

    def histogram(self, chunk: Chunk, variable: Variable) -> np.ndarray:
        """Sizes of a chunk's coefficients, as `RoundingModel` takes them."""
        x = chunk.normalised(variable, self.header.double)
        transform = plain_transform(x.shape, variable)
        return size_histogram(kernels(self.model.device).forward(transform, x, overwrite=True))

    def _normalised(self, chunk: Chunk, variable: Variable) -> Normalised:
        return Normalised(chunk, variable, self.header.double)

    def _cost(self, written: Written, variable: Variable) -> float:
        """Bits, plus what the error is worth where the bound is that of a mean."""
        bits = 8 * len(written.body)
        if pointwise_bound(self.header, variable):
            return bits
        return bits + lagrangian(variable.step) * written.squared_error / variable.range**2
