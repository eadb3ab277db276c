"""Encoder of a variable whose chunks do not fit into memory together.

They are made anew for every pass: one for the statistics, then one for each step that is tried.
Transform and first step come from a few chunks spread over the variable, coded as a small variable
is; whether the step keeps the bound is known from all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from caesar_freq.codec.bodies import Bodies
from caesar_freq.codec.chunk import Chunk, Written, pointwise_bound
from caesar_freq.codec.chunks import Box
from caesar_freq.codec.decoder import in_order
from caesar_freq.codec.encoder import FINEST, NRMSE_MARGIN, RANGE_LIMITS, Encoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.layout import MODES, chunk_kind
from caesar_freq.codec.search import largest_step
from caesar_freq.codec.statistics import Statistics, overall

#: Variables up to this size of coefficients are coded as one; the sample of others, too.
EXACT_BYTES = 64 << 20


def fits(n_values: int, double: bool) -> bool:
    """Whether the coefficients of so many values are few enough to be held together."""
    return n_values * (8 if double else 4) <= EXACT_BYTES


@dataclass
class LargeVariable:
    """One variable, chunk by chunk.

    Attributes
    ----------
    encoder : Encoder
    make : callable
        The chunk at a place.
    places : sequence of Box
        All of the variable.
    workers : int
        Chunks in flight; does not change the result.
    folder : Path or None
        See `Bodies`.
    """

    encoder: Encoder
    make: Callable[[Box], Chunk]
    places: Sequence[Box]
    workers: int
    folder: Path | None

    def encode(self) -> tuple[Variable, Bodies, bool]:
        """Code it; the last result says whether any value is valid."""
        found = list(self._each(Statistics.of))
        count = sum(s.count for s in found)
        variable = self.encoder.known or overall(found, count)
        if all(s.constant for s in found) or not (
            RANGE_LIMITS[0] < variable.range < RANGE_LIMITS[1]
        ):
            bodies, _ = self._write(
                lambda c: c.write_constant() if c.constant else c.write_lossless()
            )
            return variable, bodies, not all(s.empty for s in found)
        if not self.encoder.target(variable) > FINEST:
            return variable, self._write(Chunk.write_lossless)[0], True
        varied = [place for place, s in zip(self.places, found) if not s.constant]
        return *self._search(variable, varied, count), True

    def _search(self, variable: Variable, varied, count: int) -> tuple[Variable, Bodies]:
        """Code at the largest step that keeps the bound."""
        header = self.encoder.header
        pointwise = pointwise_bound(header, variable) > 0
        places = _spread(varied, 1 if pointwise else len(varied), header.double)
        chunks = list(self.encoder.pool.map(self.make, places))
        variable, sample = replace(self.encoder, known=variable).encode_variable(chunks)
        # chunks choose for themselves, but only where it can be expected to pay
        moded = any(chunk_kind(written.body) == MODES for written in sample)
        del chunks, sample
        target = self.encoder.target(variable)
        dead_zone = self.encoder.model.dead_zone_at(target)

        def write(index: int) -> tuple[Bodies, float]:
            at = replace(variable, step_index=index)
            return self._write(lambda chunk: self.encoder.write_chunk(chunk, at, dead_zone, moded))

        if pointwise:
            return variable, write(variable.step_index)[0]
        kept: dict[int, Bodies] = {}
        aim = target * (1 - NRMSE_MARGIN)

        def error(index: int) -> float:
            bodies, squares = write(index)
            rms = float(np.sqrt(squares / count)) / variable.range
            # of those that keep the bound, the one with the largest step is all that is needed
            if rms <= aim and index > max(kept, default=index - 1):
                _drop(kept)
                kept[index] = bodies
            else:
                bodies.close()
            return rms

        index = largest_step(error, aim, variable.step_index)
        if index is None:
            return variable, self._write(Chunk.write_lossless)[0]
        return replace(variable, step_index=index), kept[index]

    def _each(self, function: Callable[[Chunk], object]):
        """Results of `function` for all chunks, in order."""
        return in_order(
            self.encoder.pool, lambda place: function(self.make(place)), self.places, self.workers
        )

    def _write(self, function: Callable[[Chunk], Written]) -> tuple[Bodies, float]:
        """Bodies that `function` makes of the chunks, and their squared error."""
        bodies, squares = Bodies(self.folder), 0.0
        for written in self._each(function):
            bodies.append(written.body)
            squares += written.squared_error
        return bodies, squares


def _drop(kept: dict[int, Bodies]) -> None:
    for bodies in kept.values():
        bodies.close()
    kept.clear()


def _spread(places: Sequence[Box], most: int, double: bool) -> list[Box]:
    """At most `most` of the largest places, evenly spread and small enough together."""
    sizes = [int(np.prod(place.shape)) for place in places]
    largest = max(sizes)
    places = [place for place, size in zip(places, sizes) if size == largest]
    wanted = min(most, len(places), max(1, EXACT_BYTES // (largest * (8 if double else 4))))
    return [places[(2 * n + 1) * len(places) // (2 * wanted)] for n in range(wanted)]
