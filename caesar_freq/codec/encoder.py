"""Encoder of one variable: statistics, transform, step, block modes, chunk bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from caesar_freq.codec.choose import SPATIAL, choose_transform, lagrangian, sample
from caesar_freq.codec.chunk import (
    MODES,
    POINTWISE,
    SEGMENTS,
    VOLUME,
    Chunk,
    Written,
    pointwise_bound,
    span,
)
from caesar_freq.codec.coders import (
    LEFT_OUT,
    PLAIN,
    STUDENT,
    TEACHER,
    GeneratedCoder,
    ModeCoder,
    PlainCoder,
    Predictor,
    SegmentedCoder,
    TooManyModes,
)
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import RoundingModel, largest_step, step_index, step_of
from caesar_freq.codec.step_ratio import GENERATED_RATIO, USUAL_RATIO, choose_ratio
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.transform.blocks import Transform

#: Modes that the strategy of a caller allows; every other strategy than "auto" forces its mode.
STRATEGIES = {
    "frequency": (),
    "student": (STUDENT,),
    "teacher": (TEACHER,),
    "auto": (STUDENT, TEACHER),
}
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
    strategy : {"frequency", "student", "teacher", "auto"}
    spatial : tuple of (kind, cell)
        Spatial transforms to choose from.
    known : Variable or None
        Offset and range, where the chunks given are only some of the variable.
    pool : ThreadPoolExecutor
        Chunks are coded side by side; the result does not depend on the number of threads.
    """

    header: Header
    model: FrequencyModel
    pool: ThreadPoolExecutor
    predictors: dict[int, Predictor] = field(default_factory=dict)
    strategy: str = "frequency"
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
        best = self._best(chunks, plain, variable, target, dead_zone)
        for left_out in LEFT_OUT:
            moded = self._in_own_modes(volumes, variable, target, left_out)
            if moded:
                coders = {**plain, **moded}
                other = self._best(chunks, coders, best[0], target, dead_zone)
                best = min(best, other, key=_size)
        allowed = [m for m in STRATEGIES[self.strategy] if m in self.predictors]
        if allowed:
            start = best[0]
            if self.pointwise:
                fine = step_index(2 * target * GENERATED_RATIO)
                start = replace(start, step_index=min(start.step_index, fine))
            segmented = self._segmented(plain, volumes, start, dead_zone, allowed)
            if segmented:
                other = self._best(chunks, {**plain, **segmented}, start, target, dead_zone)
                if self.strategy != "auto":
                    return other
                if _size(other) < _size(best):
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

    def _best(self, chunks, coders, variable, target, dead_zone) -> tuple[Variable, list[Written]]:
        """Bodies of all chunks at the largest step that keeps the bound."""

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

        planes = [coder.encoder.planes for coder, kind in coders.values() if kind != SEGMENTS]
        start, model = variable.step_index, None
        if planes and not start:
            n_values = sum(
                coder.encoder.size for coder, kind in coders.values() if kind != SEGMENTS
            )
            model = RoundingModel(planes, n_values, dead_zone)
            start = model.index_for(target)
        index = largest_step(error, target * (1 - NRMSE_MARGIN), start, model)
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

    def _segmented(self, plain, volumes, variable, dead_zone, allowed) -> dict:
        """Coders of the chunks in which generated blocks pay, or all of them if forced."""
        found = {}
        for key, x in volumes.items():
            plan = self._plan(x, variable, dead_zone, allowed)
            if any(mode != PLAIN for mode, _ in plan):
                coder = SegmentedCoder(x, variable, self.model, plan, self.predictors)
                found[key] = (coder, SEGMENTS)
        return found

    def _plan(self, x, variable, dead_zone, allowed) -> list[tuple[int, int]]:
        """Mode of every block of frames, runs of plain ones joined."""
        length = self.predictors[allowed[0]].n_frame
        plan: list[tuple[int, int]] = []
        for start in range(0, x.shape[0], length):
            block = x[start : start + length]
            mode = PLAIN
            if len(block) == length:
                costs = self._costs(block, variable, dead_zone, allowed)
                mode = min(costs, key=costs.get)
            if mode == PLAIN and plan and plan[-1][0] == PLAIN:
                plan[-1] = (PLAIN, plan[-1][1] + len(block))
            else:
                plan.append((mode, len(block)))
        return plan

    def _costs(self, block, variable, dead_zone, allowed) -> dict[int, float]:
        """Real bits plus weighted squared error of a block in every mode."""
        coders: dict[int, Callable] = {
            mode: GeneratedCoder(block, variable, self.model, self.predictors[mode])
            for mode in allowed
        }
        if self.strategy == "auto":
            coders = {PLAIN: PlainCoder(block, variable, self.model), **coders}
        costs = {}
        for mode, coder in coders.items():
            try:
                coded = coder.code(variable.step, dead_zone)
            except LevelOverflow:
                costs[mode] = np.inf
                continue
            error = float(np.sum((coded.decoded.astype(np.float64) - block) ** 2))
            costs[mode] = 8 * len(coded.data) + lagrangian(variable.step) * error
        return costs

    def _map(self, function: Callable, chunks: Iterable) -> list:
        return list(self.pool.map(function, chunks))


def _size(result: tuple[Variable, list[Written]]) -> int:
    return sum(len(written.body) for written in result[1])
