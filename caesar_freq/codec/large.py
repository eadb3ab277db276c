"""Encoder of a variable whose chunks do not fit into memory together.

They are made anew for every pass: one for the statistics, one for the sizes of all coefficients,
which tell the step, and one that codes, again if the step was not quite right. The transform comes
from the chunk in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from caesar_freq.codec.bodies import Bodies
from caesar_freq.codec.chunk import Chunk, Written
from caesar_freq.codec.chunks import Box
from caesar_freq.codec.coders import ChunkCoder
from caesar_freq.codec.decoder import in_order
from caesar_freq.codec.encoder import Encoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.layout import MODES, VOLUME, chunk_kind
from caesar_freq.codec.linked import may_link
from caesar_freq.codec.linking import linked_coders, thinned
from caesar_freq.codec.normalised import Normalised
from caesar_freq.codec.search import RoundingModel, aim, largest_step, step_of
from caesar_freq.codec.statistics import Statistics, variable_of
from caesar_freq.codec.targets import FINEST, NRMSE_MARGIN, has_room
from caesar_freq.codec.tuning import tune

#: Variables up to this size of coefficients are held in memory, with their coefficients.
EXACT_BYTES = 16 << 20
#: The same where sections pay to be linked, which takes them all together.
LINKED_BYTES = 64 << 20


def fits(n_values: int, double: bool, limit: int | None = None) -> bool:
    """Whether the coefficients of so many values are few enough to be held together."""
    return n_values * (8 if double else 4) <= (limit or EXACT_BYTES)


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
        variable = self.encoder.known or variable_of(found)
        if all(s.constant for s in found) or not has_room(self.encoder.header, variable):
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
        encoder = self.encoder
        target = encoder.target(variable)
        dead_zone = encoder.model.dead_zone_at(target)
        variable, ratio, moded = self._settled(variable, varied)

        def write(index: int) -> tuple[Bodies, list[float]]:
            at = replace(variable, step_index=index)
            return self._write(lambda chunk: encoder.write_chunk(chunk, at, dead_zone, moded))

        def rewrite(index: int, factors: dict[int, float]) -> dict[int, Written]:
            at = replace(variable, step_index=index)

            def one(number: int) -> Written:
                chunk = self.make(self.places[number])
                return encoder.write_chunk(chunk, at, dead_zone, weight=factors[number])

            return dict(zip(factors, in_order(encoder.pool, one, factors, self.workers)))

        def whole() -> tuple[Variable, Bodies]:
            chunks, bodies = list(encoder.pool.map(self.make, self.places)), Bodies(self.folder)
            found, written = encoder.encode_variable(chunks)
            for one in written:
                bodies.append(one.body)
            return found, bodies

        if encoder.pointwise:
            if self._links_pay(variable, varied, variable.step, dead_zone):
                return whole()
            return variable, write(variable.step_index)[0]
        counts = sum(self._each(lambda chunk: encoder.histogram(chunk, variable), varied))
        n_values = sum(math.prod(place.shape) for place in varied)
        model = RoundingModel(counts, n_values, dead_zone, ratio)
        kept: dict[int, Bodies] = {}
        allowed, closest = target * (1 - NRMSE_MARGIN), encoder.effort.closest
        tunable = encoder.effort.refined and encoder.model.grid_pmf is not None and not moded

        def squares_of(rms: float) -> float:
            return (rms * variable.range) ** 2 * count

        def error(index: int) -> float:
            bodies, squares = write(index)
            if tunable:
                good = squares_of(closest * allowed), squares_of(allowed)
                wanted, ratio = squares_of(aim(closest) * allowed), allowed / step_of(index)
                again = tune(squares, good, wanted, ratio, partial(rewrite, index))
                bodies = bodies.with_others(again) if again else bodies
            rms = float(np.sqrt(sum(squares) / count)) / variable.range
            # of those that keep the bound, the one with the largest step is all that is needed
            if rms <= allowed and index > max(kept, default=index - 1):
                _drop(kept)
                kept[index] = bodies
            else:
                bodies.close()
            return rms

        start = model.index_for(aim(closest) * allowed)
        if self._links_pay(variable, varied, step_of(start), dead_zone):
            return whole()
        index = largest_step(error, allowed, start, model, closest)
        if index is None:
            return variable, self._write(Chunk.write_lossless)[0]
        return replace(variable, step_index=index), kept[index]

    def _settled(self, variable: Variable, varied) -> tuple[Variable, float, bool]:
        """`Encoder.settled` on the middle chunk, and whether it is smaller in its own modes."""
        sample = self.make(_middle(varied))

        def settle() -> tuple[Variable, float, bool]:
            x = Normalised(sample, variable, self.encoder.header.double)
            found, ratio = self.encoder.settled(x, sample.mask, variable, precise=True)
            return found, ratio, self.encoder.has_modes(sample, found)

        # by a thread of the pool, whose memory the passes over all chunks then use again
        variable, ratio, moded = self.encoder.pool.submit(settle).result()
        if moded:
            # chunks choose for themselves, but only where it can be expected to pay
            alone = replace(
                self.encoder, known=replace(variable, step_index=0),
                spatial=((variable.kind, variable.cell),),
            )  # fmt: skip
            moded = any(chunk_kind(w.body) == MODES for w in alone.encode_variable([sample])[1])
        return variable, ratio, moded

    def _links_pay(self, variable: Variable, varied, step: float, dead_zone: float) -> bool:
        """Whether one pair of sections says that linking them all is worth their memory."""
        n_values = sum(math.prod(place.shape) for place in self.places)
        double = self.encoder.header.double
        if not self.encoder.effort.links or not fits(n_values, double, LINKED_BYTES):
            return False
        here = {(p.section, p.time.start, p.height.start, p.width.start): p for p in varied}
        pairs = [
            (here[section - 1, *rest], place)
            for (section, *rest), place in here.items()
            if may_link(section) and (section - 1, *rest) in here
        ]
        if not pairs:
            return False
        chunks = [self.make(place) for place in pairs[len(pairs) // 2]]

        def look() -> bool:
            coders = {}
            for chunk in chunks:
                make = partial(chunk.normalised, variable, double)
                thin = thinned(ChunkCoder(make, variable, self.encoder.model).encoder)
                coders[id(chunk)] = (SimpleNamespace(encoder=thin), VOLUME)
            return bool(linked_coders(chunks, coders, step, dead_zone))

        return self.encoder.pool.submit(look).result()

    def _each(self, function: Callable[[Chunk], object], places: Sequence[Box] | None = None):
        """Results of `function` for all chunks or those at some places, in order."""
        return in_order(
            self.encoder.pool, lambda place: function(self.make(place)), places or self.places,
            self.workers,
        )  # fmt: skip

    def _write(self, function: Callable[[Chunk], Written]) -> tuple[Bodies, list[float]]:
        """Bodies that `function` makes of the chunks, and their squared errors."""
        bodies, squares = Bodies(self.folder), []
        for written in self._each(function):
            bodies.append(written.body)
            squares.append(written.squared_error)
        return bodies, squares


def _drop(kept: dict[int, Bodies]) -> None:
    for bodies in kept.values():
        bodies.close()
    kept.clear()


def _middle(places: Sequence[Box]) -> Box:
    """The one in the middle of the largest places."""
    sizes = [math.prod(place.shape) for place in places]
    places = [place for place, size in zip(places, sizes) if size == max(sizes)]
    return places[len(places) // 2]
