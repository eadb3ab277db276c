"""Encoder of one variable: statistics, transform, step, block modes, chunk bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from caesar_freq.codec.choose import SPATIAL, choose_transform, lagrangian, sample
from caesar_freq.codec.chunk import POINTWISE, Chunk, Written, pointwise_bound, span
from caesar_freq.codec.coders import (
    LEFT_OUT,
    ModeCoder,
    PlainCoder,
    Predictor,
    TooManyModes,
)
from caesar_freq.codec.generated import SegmentedCoder
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.layout import MODES, SEGMENTS, VOLUME
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.plan import HOPELESS, Planner
from caesar_freq.codec.pointwise import NETWORK_DRIFT
from caesar_freq.codec.search import RoundingModel, largest_step, step_index, step_of
from caesar_freq.codec.step_ratio import (
    GENERATED_RATIO,
    USUAL_RATIO,
    choose_ratio,
    correction_bytes,
)
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.transform.blocks import Transform

#: Errors of more ranges are all alike: the mean alone has at most 1.
_LOOSEST = 16.0
#: NRMSE to aim at is this much below the target: float rounding on another device.
NRMSE_MARGIN = 1e-5
#: Errors relative to the range that float64 arithmetic cannot keep; such requests are lossless.
FINEST = 1e-14
#: A range outside these limits leaves no room for steps in float64; such data is kept losslessly.
RANGE_LIMITS = (1e-280, 1e300)


@dataclass
class Encoder:
    """What all variables of a call share.

    Attributes
    ----------
    header : Header
        Mode, bound and precision are used; variables are added by the caller.
    model : FrequencyModel
    predictors : dict of mode number to Predictor
        Those available.
    strategy : str
        Of `plan.STRATEGIES`.
    spacing : int or None
        Distance of keyframes, if it is not to be chosen.
    spatial : tuple of (kind, cell)
        Spatial transforms to choose from.
    known : Variable or None
        Offset and range, where the chunks given are only a sample of the variable.
    pool : ThreadPoolExecutor
        Chunks are coded side by side; the result does not depend on the number of threads.
    """

    header: Header
    model: FrequencyModel
    pool: ThreadPoolExecutor
    predictors: dict[int, Predictor] = field(default_factory=dict)
    strategy: str = "frequency"
    spacing: int | None = None
    spatial: tuple[tuple[str, int], ...] = SPATIAL
    known: Variable | None = None

    def encode_variable(self, chunks: list[Chunk]) -> tuple[Variable, list[Written]]:
        """Code the chunks of one variable under the header's bound."""
        variable = self._statistics(chunks)
        all_constant = all(c.constant for c in chunks)
        if all_constant or not RANGE_LIMITS[0] < variable.range < RANGE_LIMITS[1]:
            return variable, self._map(
                lambda c: c.write_constant() if c.constant else c.write_lossless(), chunks
            )
        target = self.target(variable)
        if not target > FINEST:
            return variable, self._map(Chunk.write_lossless, chunks)
        dead_zone = self.model.dead_zone_at(target)
        coded = [c for c in chunks if not c.constant]
        volumes = dict(zip(map(id, coded), self._map(
            lambda c: c.normalised(variable, self.header.double), coded)))  # fmt: skip
        largest = max(coded, key=lambda c: c.values.size)
        step = self._likely_step(volumes[id(largest)], target, dead_zone)
        chosen = choose_transform(volumes[id(largest)], step, dead_zone, self.model, self.spatial)
        variable = replace(variable, kind=chosen[0], cell=chosen[1], time_block=chosen[2])
        if self.pointwise:
            ratio = choose_ratio(
                volumes[id(largest)], largest.mask, 2 * target, dead_zone, variable, self.model
            )
            variable = replace(variable, step_index=step_index(2 * target * ratio))
        plain = {id(c): (PlainCoder(volumes[id(c)], variable, self.model), VOLUME) for c in coded}
        first = best = self._best(chunks, plain, variable, target, dead_zone)
        for left_out in LEFT_OUT:
            moded = self._in_own_modes(volumes, variable, target, left_out)
            if moded:
                coders = {**plain, **moded}
                other = self._best(chunks, coders, best[0], target, dead_zone)
                best = min(best, other, key=_size)
        if self.predictors and (self.strategy != "auto" or target >= HOPELESS):
            least = 1 - (_size(best) - self._naming) / _size(first)
            x = volumes[id(largest)]
            segmented, start = self._segmented(volumes, x, first[0], target, dead_zone, least)
            if segmented:
                coders = {**plain, **segmented}
                rounding = _rounding(plain.values(), dead_zone)
                other = self._best(
                    chunks, coders, start, target, dead_zone, NETWORK_DRIFT, rounding
                )
                if self.strategy != "auto":
                    return other
                if _size(other) + self._naming < _size(best):
                    best = other
        return best[0], self._closer(chunks, *best[::-1])

    def _closer(self, chunks, written: list[Written], variable: Variable) -> list[Written]:
        """`written` with grid levels or lossless bodies where those are smaller.

        In the modes of an average the bound still holds for the variable: either each new chunk
        keeps it alone, or it errs by less than the one it replaces.
        """
        limit, rms = self._chunk_limit(variable)
        bound = self.header.bound
        new = self._map(
            lambda both: both[0].write_closer(both[1], limit, rms, bound), zip(chunks, written)
        )
        count = sum(c.good.size for c in chunks)
        if rms and sum(w.squared_error for w in new) > limit**2 * count:
            return [min(a, b, key=lambda w: w.squared_error) for a, b in zip(written, new)]
        return new

    def _chunk_limit(self, variable: Variable) -> tuple[float, bool]:
        """Error that one chunk may have in the units coded, and whether it is an RMSE."""
        if self.header.mode in ("nrmse", "psnr"):
            return self.target(variable) * variable.range * (1 - NRMSE_MARGIN), True
        return pointwise_bound(self.header, variable), False

    def _in_own_modes(self, volumes: dict, variable: Variable, target: float, left_out) -> dict:
        """Coders in temporal modes of the chunks that have few."""
        found = {}
        for key, x in volumes.items():
            try:
                found[key] = (ModeCoder(x, variable, self.model, target, left_out), MODES)
            except TooManyModes:
                continue
        return found

    @property
    def _naming(self) -> int:
        """Bytes that naming the file of the networks takes in the header."""
        return max(34 + len(p.source.encode()) for p in self.predictors.values())

    @property
    def pointwise(self) -> bool:
        """Whether the bound limits every value."""
        return self.header.mode in POINTWISE

    def target(self, variable: Variable) -> float:
        """Root-mean-square error to aim at, normalised by the range.

        Never above `_LOOSEST`: larger ones leave the range of floats.
        """
        header = self.header
        if header.mode == "psnr":
            target = 10 ** (-header.bound / 20)
        elif header.mode == "nrmse":
            target = header.bound
        else:
            target = pointwise_bound(header, variable) / variable.range / 2
        return min(target, _LOOSEST)

    def _likely_step(self, x, target: float, dead_zone: float) -> float:
        """About the step that coding `x` will end at, where transforms have to be compared.

        On smooth data it is many times the target: most coefficients are zero and add no error.
        """
        if self.pointwise:
            return 2 * target * USUAL_RATIO
        part = np.ascontiguousarray(sample(x))
        planes = Transform(part.shape).forward(part)
        return step_of(RoundingModel([planes], part.size, dead_zone).index_for(target))

    def _statistics(self, chunks: list[Chunk]) -> Variable:
        """Offset (mean) and range of the values that are not masked."""
        if self.known:
            return self.known
        lows = [float(c.good.min()) for c in chunks if c.good.size]
        highs = [float(c.good.max()) for c in chunks if c.good.size]
        if not lows:
            return Variable(0.0, 0.0)
        low, spread = min(lows), span(min(lows), max(highs))
        if not np.isfinite(spread):
            return Variable(0.0, spread)
        # summed relative to the smallest value, so that huge values cannot overflow
        total = sum(float(np.sum(c.good.astype(np.float64) / 2 - low / 2)) for c in chunks)
        mean = low + 2 * (total / sum(c.good.size for c in chunks))
        return Variable(mean, spread)

    def _best(
        self, chunks, coders, variable, target, dead_zone, drift=0.0, rounding=None
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
        count = sum(c.good.size for c in chunks)

        def error(index: int) -> float:
            written = results[index] = write(index)
            squares = sum(w.squared_error for w in written)
            for old in list(results)[:-2]:
                results[old] = None
            return float(np.sqrt(squares / count)) / variable.range

        start = variable.step_index
        if not start:
            rounding = _rounding(coders.values(), dead_zone)
            start = rounding.index_for(target)
        index = largest_step(error, target * (1 - NRMSE_MARGIN) - drift, start, rounding)
        if index is None:
            return variable, self._map(Chunk.write_lossless, chunks)
        return replace(variable, step_index=index), results[index] or write(index)

    def _write(self, chunk: Chunk, coders, variable: Variable, dead_zone: float) -> Written:
        if chunk.constant:
            return chunk.write_constant()
        coder, kind = coders[id(chunk)]
        try:
            coded = coder.code(variable.step, dead_zone)
        except LevelOverflow:
            return chunk.write_lossless()
        return chunk.write_coded(coded, kind, self.header, variable)

    def write_chunk(
        self, chunk: Chunk, variable: Variable, dead_zone: float, moded: bool = False
    ) -> Written:
        """Body of one chunk of which transform and step are settled; `moded` tries own modes."""
        if chunk.constant:
            return chunk.write_constant()
        volumes = {id(chunk): chunk.normalised(variable, self.header.double)}
        ways = [{id(chunk): (PlainCoder(*volumes.values(), variable, self.model), VOLUME)}]
        if moded:
            target = self.target(variable)
            ways += [self._in_own_modes(volumes, variable, target, part) for part in LEFT_OUT]
        written = [self._write(chunk, way, variable, dead_zone) for way in ways if way]
        best = min(written, key=lambda one: self._cost(one, variable))
        return chunk.write_closer(best, *self._chunk_limit(variable), self.header.bound)

    def _cost(self, written: Written, variable: Variable) -> float:
        """Bits, plus what the error is worth where the bound is that of a mean."""
        bits = 8 * len(written.body)
        if pointwise_bound(self.header, variable):
            return bits
        return bits + lagrangian(variable.step) * written.squared_error / variable.range**2

    def _segmented(self, volumes, x, plain: Variable, target, dead_zone, least: float):
        """Coders of the chunks in which a network pays, or of all if forced; the step to begin with.

        It pays where it saves `least` of the bytes at least, seen on a sample of the volume `x`.
        """
        corrections, fine = None, plain.step
        if self.pointwise:
            fine = min(fine, 2 * target * GENERATED_RATIO)
            corrections = partial(correction_bytes, bound=2 * target)
        planner = Planner(
            self.model, plain, dead_zone, self.predictors, self.strategy, self.spacing, corrections
        )
        modes, step = planner.choice(x, plain.step, fine, least)
        plans = self._map(lambda v: planner.plan(v, step, modes), volumes.values()) if modes else []
        start = replace(plain, step_index=step_index(step))
        return {
            key: (SegmentedCoder(v, plain, self.model, plan, self.predictors), SEGMENTS)
            for (key, v), plan in zip(volumes.items(), plans)
            if any(mode.model for mode, _ in plan)
        }, start

    def _map(self, function: Callable, chunks: Iterable) -> list:
        return list(self.pool.map(function, chunks))


def _size(result: tuple[Variable, list[Written]]) -> int:
    return sum(len(written.body) for written in result[1])


def _rounding(coders, dead_zone: float) -> RoundingModel:
    encoders = [coder.encoder for coder, _ in coders]
    return RoundingModel([e.planes for e in encoders], sum(e.size for e in encoders), dead_zone)
