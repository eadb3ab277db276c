"""Encoder of one variable: statistics, transform, step, block modes, chunk bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from caesar_freq.codec.candidates import SPATIAL, sample
from caesar_freq.codec.choose import choose_transform
from caesar_freq.codec.chunk import Chunk, Written
from caesar_freq.codec.chunk_encoder import ChunkEncoder
from caesar_freq.codec.coders import (
    LEFT_OUT,
    Predictor,
    plain_transform,
)
from caesar_freq.codec.generated import RestoredModesCoder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.layout import SEGMENTS, VOLUME
from caesar_freq.codec.linking import linked_coders, referred_to
from caesar_freq.codec.plan import HOPELESS, Planner
from caesar_freq.codec.pointwise import NETWORK_DRIFT
from caesar_freq.codec.search import ROUNDS, RoundingModel, aim, largest_step, step_index, step_of
from caesar_freq.codec.spectra import Spectra
from caesar_freq.codec.statistics import Statistics, variable_of
from caesar_freq.codec.step_ratio import (
    GENERATED_RATIO,
    USUAL_RATIO,
    choose_ratio,
    correction_bytes,
)
from caesar_freq.codec.targets import FINEST, NRMSE_MARGIN, chunk_limit, has_room
from caesar_freq.codec.tuning import error_ratio
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.kernels.errors import size_histogram
from caesar_freq.kernels.memory import copied, trim

#: Variables of fewer bytes than this are coded on one grid, too: cells cut short may be smaller there.
_FEW = 4096
#: Values on which the error is measured before the first pass.
_MEASURED = 1 << 20
#: The transform that tells the step at which others are compared: space, time block.
_FIRST = ("dct", 16), 16
#: Where own modes are this much longer, no others are looked at: what is left out changes less.
_AFAR = 1.1
#: NRMSE from which on linked sections are tried with one grid, too.
_SPARSE = 2e-3
#: Files of fewer bytes than so many times those of the networks' name are not worth a look.
_SMALL = 3
#: Files expected to be this much longer than the shortest are made, too: samples tell no better.
_ALIKE = 1.05
#: Rounds of the search are dear with a network: so many times the error may stay unused, and so many
#: rounds are made.
_LOOSER, _NETWORK_ROUNDS = 3, 3


@dataclass
class Encoder(ChunkEncoder):
    """What all variables of a call share, besides what all chunks do.

    Attributes
    ----------
    predictors : dict of mode number to Predictor
        Those available.
    strategy : str
        Of `strategies.STRATEGIES`.
    spacing : int or None
        Distance of keyframes, if it is not to be chosen.
    spatial : tuple of (kind, cell)
        Spatial transforms to choose from.
    known : Variable or None
        Offset and range, where the chunks given are only some of the variable.
    pool : ThreadPoolExecutor
        Chunks are coded side by side; the result does not depend on the number of threads.
    """

    pool: ThreadPoolExecutor
    predictors: dict[int, Predictor] = field(default_factory=dict)
    strategy: str = "frequency"
    spacing: int | None = None
    spatial: tuple[tuple[str, int], ...] = SPATIAL
    known: Variable | None = None

    def encode_variable(self, chunks: list[Chunk]) -> tuple[Variable, list[Written]]:
        """Code the chunks of one variable under the header's bound."""
        variable = self.known or variable_of(self._map(Statistics.of, chunks))
        all_constant = all(c.constant for c in chunks)
        if all_constant or not has_room(self.header, variable):
            return variable, self._map(
                lambda c: c.write_constant() if c.constant else c.write_lossless(), chunks
            )
        target = self.target(variable)
        if not target > FINEST:
            return variable, self._map(Chunk.write_lossless, chunks)
        dead_zone = self.model.dead_zone_at(target)
        coded = [c for c in chunks if not c.constant]
        volumes = {id(c): self._normalised(c, variable) for c in coded}
        largest = max(coded, key=lambda c: c.values.size)
        variable, ratio = self.settled(volumes[id(largest)], largest.mask, variable)
        coders = [self._plain(c, variable) for c in coded]
        plain = {id(c): (coder, VOLUME) for c, coder in zip(coded, coders)}
        rounding = self._rounding(coders, dead_zone, ratio)
        first = best = self._best(chunks, plain, variable, target, dead_zone, rounding)
        if coders[0].dependent and _size(best) < _FEW:
            one_grid = {key: (coder.on_one_grid(), kind) for key, (coder, kind) in plain.items()}
            other = self._best(chunks, one_grid, best[0], target, dead_zone, rounding)
            best = min(best, other, key=_size)
        own: dict = {}
        for left_out in LEFT_OUT if self.effort.modes else ():
            moded = self._in_own_modes(volumes, variable, target, left_out)
            if moded:
                coders = {**plain, **moded}
                start = best[0] if self.pointwise else variable
                rounding = self._rounding((coder for coder, _ in coders.values()), dead_zone)
                other = self._best(chunks, coders, start, target, dead_zone, rounding)
                if _size(other) < _size(best):
                    best, own = other, moded
                if _size(other) > _AFAR * _size(best):
                    break
        if self.predictors and (self.strategy != "auto" or target >= HOPELESS):
            made = self._with_networks(chunks, volumes, plain, own, first, best, dead_zone)
            if made and self.strategy != "auto":
                return made
            if made and _size(made) + self._naming < _size(best):
                best = made
        levels, links = self.effort.levels, self.effort.links
        if levels:
            closer = best[0], self._closer(chunks, *best[::-1])
        else:
            closer = best[0], self._map(Chunk.write_shorter, chunks, best[1])
        # where next to nothing is left, sections repeat the one before better on one grid
        both = self.model.grid_pmf is not None and target >= _SPARSE
        for dependent in ((True, False) if both else (True,)) if links else ():
            linked = linked_coders(chunks, plain, best[0].step, dead_zone, dependent)
            if not linked:
                break
            rounding = self._rounding((coder for coder, _ in plain.values()), dead_zone, ratio)
            other = self._best(chunks, linked, best[0], target, dead_zone, rounding)
            kept = referred_to(chunks, other[1])
            if kept is not None and _size(other) < _size(closer):
                written = self._closer(chunks, *other[::-1], kept) if levels else other[1]
                closer = other[0], written
        return closer

    def settled(self, x, mask, variable: Variable, precise: bool = False) -> tuple[Variable, float]:
        """Transform of the variable and, of a pointwise bound, its step, from one volume `x`.

        Of `x`, an array or `Normalised`, only samples are made. The second result is the ratio that
        `RoundingModel` takes, `precise` where passes over the variable take much longer than looking
        at `x`.
        """
        target = self.target(variable)
        dead_zone = self.model.dead_zone_at(target)
        # the ratio decides whether the first pass is the last: where that is many times as much as
        # the sample, worth more than the cells that tell the transform
        apart = self._refined and not self.effort.exhaustive and (precise or x.size > _MEASURED)
        spectra = Spectra(sample(x, self.effort.sample), self.model.device)
        step = self._likely_step(spectra, target, dead_zone)
        chosen = choose_transform(
            x, step, dead_zone, self.model, self.spatial, self.effort, self._refined, spectra,
            ratio=not (apart or self.pointwise),
        )  # fmt: skip
        del spectra
        trim()
        variable = replace(
            variable, kind=chosen.kind, cell=chosen.cell, time_block=chosen.time_block
        )
        if self.pointwise:
            ratio = USUAL_RATIO
            if self.effort.ratios:
                ratio = choose_ratio(
                    x, mask, 2 * target, dead_zone, variable, self.model, self._refined
                )
            variable = replace(variable, step_index=step_index(2 * target * ratio))
            return variable, 1.0
        ratio = chosen.ratio
        if apart:
            part = copied(sample(x, _MEASURED))
            transform = plain_transform(part.shape, variable)
            encoder = VolumeEncoder(part, transform, self.model, self._refined, overwrite=True)
            del part
            ratio = error_ratio(encoder, step, dead_zone, ratio)
        return variable, ratio

    def _closer(
        self, chunks, written: list[Written], variable: Variable, kept: frozenset[int] = frozenset()
    ) -> list[Written]:
        """`written` with grid levels or lossless bodies where those are smaller.

        Those numbered in `kept` stay as they are.

        In the modes of an average the bound still holds for the variable: either each new chunk
        keeps it alone, or it errs by less than the one it replaces.
        """
        limit, rms = chunk_limit(self.header, variable)
        bound = self.header.bound
        new = self._map(
            lambda n: (
                written[n] if n in kept else chunks[n].write_closer(written[n], limit, rms, bound)
            ),
            range(len(chunks)),
        )
        count = sum(c.count for c in chunks)
        if rms and sum(w.squared_error for w in new) > limit**2 * count:
            return [min(a, b, key=lambda w: w.squared_error) for a, b in zip(written, new)]
        return new

    @property
    def _naming(self) -> int:
        """Bytes that naming the file of the networks takes in the header."""
        return max(34 + len(p.source.encode()) for p in self.predictors.values())

    def _likely_step(self, spectra: Spectra, target: float, dead_zone: float) -> float:
        """About the step that coding will end at, where transforms have to be compared.

        On smooth data it is many times the target: most coefficients are zero and add no error.
        """
        if self.pointwise:
            return 2 * target * USUAL_RATIO
        counts = size_histogram(spectra.planes(*_FIRST))
        return step_of(RoundingModel(counts, spectra.x.size, dead_zone).index_for(target))

    def _best(
        self, chunks, coders, variable, target, dead_zone, rounding, drift=0.0
    ) -> tuple[Variable, list[Written]]:
        """Bodies of all chunks at the largest step that keeps the bound.

        Their error, a root mean square, is `drift` smaller so that another device keeps it, too.
        """

        def write(index: int) -> list[Written]:
            at = replace(variable, step_index=index)
            return self._map(lambda c: self._write(c, coders, at, dead_zone), chunks)

        if self.pointwise:
            return variable, write(variable.step_index)
        results: dict[int, list[Written]] = {}
        count = sum(c.count for c in chunks)

        def error(index: int) -> float:
            written = results[index] = write(index)
            squares = sum(w.squared_error for w in written)
            for old in list(results)[:-3]:
                results[old] = None
            return float(np.sqrt(squares / count)) / variable.range

        closest, rounds = self.effort.closest, ROUNDS
        if drift:
            closest, rounds = 1 - _LOOSER * (1 - closest), _NETWORK_ROUNDS
        start = variable.step_index or rounding.index_for(aim(closest) * target)
        limit = target * (1 - NRMSE_MARGIN) - drift
        index = largest_step(error, limit, start, rounding, closest, rounds)
        if index is None:
            return variable, self._map(Chunk.write_lossless, chunks)
        return replace(variable, step_index=index), results[index] or write(index)

    def _with_networks(self, chunks, volumes, plain, own, first, best, dead_zone):
        """The shortest that networks make of the chunks; None where they do not pay.

        `first` is the result of the coders `plain`, `best` that of own modes, with the coders `own`,
        if that is shorter.
        """
        auto, target = self.strategy == "auto", self.target(first[0])
        if auto and _size(best) < _SMALL * self._naming:
            return None
        largest = max((c for c in chunks if not c.constant), key=lambda c: c.values.size)
        volumes = {key: np.asarray(x) for key, x in volumes.items()}
        x = volumes[id(largest)]
        planner, fine = self._planner(first[0], target, dead_zone, volumes)
        # what the plain transform costs more than own modes, and the name of the networks' file
        least = 1 - (_size(best) - self._naming) / _size(first)
        modes = planner.choice(x, first[0].step, fine, least)
        ways = []  # sizes to expect, inner coders, coders, and step
        if modes and planner.many_blocks(x):
            (_, step, saved), among = modes[0], [mode for mode, *_ in modes]
            make = partial(self._planned, planner, volumes, step, among)
            ways.append(((1 - saved) * _size(first), plain, make, step))
        else:
            for mode, step, saved in modes:
                make = partial(self._planned, planner, volumes, step, [mode])
                ways.append(((1 - saved) * _size(first), plain, make, step))
        if own and planner.restorer:
            model, growth, saved = planner.restorer
            make = partial(self._restored, volumes, own, model)
            ways.append(((1 - saved) * _size(best), own, make, growth * best[0].step))
        if auto and ways:
            # all the values go through the network in every round: only what may be shortest
            least = min(size for size, *_ in ways)
            ways = [way for way in ways if way[0] <= _ALIKE * least]
            ways = ways if least + self._naming < _size(best) else []
        found = []
        for _, inner, make, step in ways:
            if coders := make():
                start = replace(first[0], step_index=step_index(step))
                rounding = self._rounding((c for c, _ in {**plain, **inner}.values()), dead_zone)
                found.append(self._best(chunks, {**plain, **coders}, start, target, dead_zone,
                                        rounding, NETWORK_DRIFT))  # fmt: skip
        return min(found, key=_size, default=None)

    def _planned(self, planner: Planner, volumes, step: float, modes) -> dict:
        """Coders of the chunks of which a block takes one of the `modes` with a network."""
        plans = self._map(lambda v: planner.plan(v, step, modes), volumes.values())
        return {
            key: (planner.coder(v, plan), SEGMENTS)
            for (key, v), plan in zip(volumes.items(), plans)
            if any(mode.model for mode, _ in plan)
        }

    def _restored(self, volumes, own: dict, model: int) -> dict:
        """The coders in `own` modes with what they decode restored by a model."""
        return {
            key: (RestoredModesCoder(volumes[key], coder, self.predictors[model], model), SEGMENTS)
            for key, (coder, _) in own.items()
        }

    def _planner(
        self, plain: Variable, target: float, dead_zone: float, volumes: dict
    ) -> tuple[Planner, float]:
        """Who chooses the modes, and the step of modes with keyframes."""
        corrections, fine = None, plain.step
        if self.pointwise:
            fine = min(fine, 2 * target * GENERATED_RATIO)
            corrections = partial(correction_bytes, bound=2 * target)
        planner = Planner(
            self.model, plain, dead_zone, self.predictors, self.strategy, self.spacing, corrections,
            self._refined, sum(x.size for x in volumes.values()),
        )  # fmt: skip
        return planner, fine

    def _rounding(self, coders, dead_zone: float, ratio: float = 1.0) -> RoundingModel | None:
        """Of all coefficients together; None where no step is searched."""
        if self.pointwise:
            return None
        found = self._map(lambda c: (c.encoder.histogram(), c.encoder.size), coders)
        counts, sizes = zip(*found)
        return RoundingModel(sum(counts), sum(sizes), dead_zone, ratio)

    def _map(self, function: Callable, *chunks: Iterable) -> list:
        return list(self.pool.map(function, *chunks))


def _size(result: tuple[Variable, list[Written]]) -> int:
    return sum(len(written.body) for written in result[1])
