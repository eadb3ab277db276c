"""Which mode every block of frames takes, decided by really coding samples in the modes there are.

The price of a mode is its bits; where the bound is that of a mean, plus what its error is worth.
One unit of squared error is worth what the plain codec pays for it, found by coding the sample with
two steps. First a sample of the variable says which modes pay at all, then samples of the blocks
choose among those. Each of the two looks at about a sixteenth of the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.coders import Coded, Predictor
from caesar_freq.codec.generated import SegmentedCoder, make_coder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.restoration import RestoredCoder
from caesar_freq.codec.segments import KINDS, STUDENT, TEACHER, WINDOW, Mode
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.errors import ModelError

#: What a caller's strategy allows; every one but "auto" also forces it.
STRATEGIES: dict[str, Callable[[Mode], bool]] = {
    "frequency": lambda mode: not mode.model,
    "restoration": lambda mode: mode.restored and not mode.generated,
    "student": lambda mode: mode.generated and not mode.restored and mode.model == STUDENT,
    "teacher": lambda mode: mode.generated and not mode.restored and mode.model == TEACHER,
    "both": lambda mode: mode.generated and mode.restored,
    "auto": lambda mode: True,
}
#: Root-mean-square errors below this part of the range leave a network nothing to say.
HOPELESS = 1e-3
#: Least side of samples, and their part of a frame.
_SIDE, _PART = 64, 16
#: The distance of keyframes that is tried first, and other steps of theirs (hundredths).
_FIRST_SPACING, _KEY_STEPS = 3, (48, 80)
#: Keyframes this much dearer than the best mode so far are not looked at more closely.
_NEAR = 1.04
#: What a mode has to save on the sample to be worth the network's time.
_WORTH = 0.005
#: The second step that tells what error is worth, and the limits of how the step may change.
_OTHER_STEP, _GROWTH = 2**0.25, (0.5, 2.0)


@dataclass
class Price:
    """What a mode costs on a sample: bits, those with what the error is worth, squared error."""

    bits: float
    total: float
    error: float


@dataclass
class Planner:
    """Chooses the modes of one variable.

    Attributes
    ----------
    model, variable, dead_zone
        As coders take them.
    predictors : dict of Predictor by model
    strategy : str
        Of `STRATEGIES`.
    spacing : int or None
        Distance of keyframes, if it is not to be chosen.
    corrections : callable or None
        Bytes of the corrections of a decoded sample ``(x, decoded, other bytes)``, where every
        value has a bound.
    refined : bool
        See `VolumeEncoder`.
    restorer : tuple of (int, float) or None
        After `choice`: the model whose restoration pays, and how much coarser the step may then be.
    """

    model: FrequencyModel
    variable: Variable
    dead_zone: float
    predictors: dict[int, Predictor]
    strategy: str = "auto"
    spacing: int | None = None
    corrections: Callable[[np.ndarray, np.ndarray, int], float] | None = None
    refined: bool = False
    restorer: tuple[int, float] | None = field(default=None, init=False)
    #: Bits that a unit of squared error is worth, and the power of the step that the RMSE grows by.
    _worth: float = field(default=0.0, init=False)
    _power: float = field(default=1.0, init=False)

    def choice(
        self, x: np.ndarray, step: float, fine: float, least: float = 0.0
    ) -> tuple[list[Mode], float]:
        """Modes for the blocks to choose from, the best first, and the step to begin with.

        No mode at all means that plain is best. A forced strategy gives its best mode, however bad.

        Parameters
        ----------
        x : float [T, H, W]
            The largest chunk of the variable.
        step, fine : float
            Steps of modes without and with keyframes.
        least : float
            Part of the bytes that a mode has to save at least.
        """
        x = sample_of(x, max(WINDOW, self.variable.time_block))
        prices = self._prices(x, step, fine)
        ranked = sorted(filter(STRATEGIES[self.strategy], prices), key=lambda m: prices[m].total)
        plain, auto = prices[Mode()], self.strategy == "auto"
        for mode in ranked:
            if not mode.generated and plain.total - prices[mode].total > _WORTH * plain.bits:
                self.restorer = mode.model, self._growth(plain, prices[mode])
        if not ranked:
            return [], step
        # the price of the error is no part of the file: what is saved is compared with the bits
        saved = plain.total - prices[ranked[0]].total
        if auto and saved < (_WORTH + least) * plain.bits:
            return [], step
        best = ranked[0]
        others = [m for m in ranked if m.generated != best.generated] if auto else []
        if not best.generated:
            others = [m for m in others if prices[m].total < _NEAR * prices[best].total]
        start = fine if best.generated else step
        return [best, *others[:1]], start * self._growth(plain, prices[best])

    def _growth(self, plain: Price, other: Price) -> float:
        """How much coarser the step of a mode may be than the plain one, with a bound of a mean."""
        if self.corrections is not None or not other.error > 0:
            return 1.0
        growth = (plain.error / other.error) ** (0.5 / self._power)
        return min(max(growth, _GROWTH[0]), _GROWTH[1])

    def plan(self, x: np.ndarray, step: float, modes: list[Mode]) -> list[tuple[Mode, int]]:
        """Mode of every block of frames of a chunk `x`, blocks of one mode joined."""
        length = max(WINDOW, self.variable.time_block) if len(modes) > 1 else len(x)
        plan: list[tuple[Mode, int]] = []
        for start in range(0, len(x), length):
            block = x[start : start + length]
            count = len(block)
            able = [m for m in modes if m.spacing < count]
            mode = able[0] if able else Mode()
            if len(able) > 1:
                part = sample_of(block, length)
                mode = min(able, key=lambda m: self._price_of(part, m, step))
            if plan and plan[-1][0] == mode:
                mode, before = plan.pop()
                count += before
            plan.append((mode, count))
        return plan

    def coder(self, x: np.ndarray, plan: list[tuple[Mode, int]]) -> SegmentedCoder:
        """Coder of a chunk `x` as planned."""
        return SegmentedCoder(x, self.variable, self.model, plan, self.predictors, self.refined)

    def _coder(self, x: np.ndarray, mode: Mode):
        return make_coder(x, self.variable, self.model, mode, self.predictors, self.refined)

    def _prices(self, x: np.ndarray, step: float, fine: float) -> dict[Mode, Price]:
        """Prices on a sample of the plain mode and of all that the strategy allows."""
        prices: dict[Mode, Price] = {Mode(): self._calibrate(x, step)}

        def look(mode: Mode, model: int, restore: bool) -> float:
            found = self._coded(x, mode, model, fine if mode.generated else step, restore)
            prices.update({one: self._price(x, coded) for one, coded in found.items()})
            return min((prices[one].total for one in found), default=math.inf)

        for model in self.predictors:
            restore = self._wanted(Mode(model, 2, restored=True))
            if self._wanted(Mode(model, restored=True)):
                # what does not help decoded frames does not help those with keyframes, either
                restore = look(Mode(), model, True) < prices[Mode()].total
            spacings = [n for n in self._spacings(model) if n < len(x)]
            if not spacings or not any(self._wanted(Mode(model, 2, 1, r)) for r in (False, True)):
                continue
            costs = {spacings[0]: look(Mode(model, spacings[0]), model, restore)}
            if self.strategy == "auto":
                if costs[spacings[0]] > _NEAR * min(price.total for price in prices.values()):
                    continue
            costs |= {n: look(Mode(model, n), model, restore) for n in spacings[1:]}
            for key_step in _KEY_STEPS:
                look(Mode(model, min(costs, key=costs.get), key_step), model, restore)
        return prices

    def _wanted(self, mode: Mode) -> bool:
        able = not mode.restored or self.predictors[mode.model].restores
        return able and STRATEGIES[self.strategy](mode)

    def _spacings(self, model: int) -> list[int]:
        known = self.predictors[model].spacings
        if self.spacing is not None:
            return [self.spacing] if self.spacing in known else []
        return sorted(known, key=lambda n: (n != _FIRST_SPACING, n))

    def _coded(self, x, mode: Mode, model: int, step: float, restore: bool) -> dict[Mode, Coded]:
        """A sample in a mode without restoration, and with that of a model if it is wanted."""
        coder = self._coder(x, mode)
        try:
            coded = {mode: coder.code(step, self.dead_zone)}
        except LevelOverflow:
            return {}
        both = replace(mode, model=model, restored=True)
        if restore:
            restorer = RestoredCoder(x, coder, self.predictors[model], both)
            coded[both] = restorer.restored(coded[mode], step)
        return coded

    def _price_of(self, x: np.ndarray, mode: Mode, step: float) -> float:
        """Price of one mode alone."""
        coder = self._coder(x, mode)
        try:
            return self._price(x, coder.code(step, self.dead_zone)).total
        except LevelOverflow:
            return math.inf

    def _price(self, x: np.ndarray, coded: Coded) -> Price:
        bits, error = 8 * len(coded.data), _squared(x, coded.decoded)
        if self.corrections:
            bits += 8 * self.corrections(x, coded.decoded, len(coded.data))
            return Price(bits, bits, error)
        return Price(bits, bits + self._worth * error, error)

    def _calibrate(self, x: np.ndarray, step: float) -> Price:
        """Find out what error is worth; the price of the plain mode."""
        coder = self._coder(x, Mode())
        self._worth = lagrangian(step)
        try:
            coded = coder.code(step, self.dead_zone)
            if self.corrections is None:
                other = coder.code(_OTHER_STEP * step, self.dead_zone)
                saved = 8 * (len(coded.data) - len(other.data))
                less, more = _squared(x, coded.decoded), _squared(x, other.decoded)
                if saved > 0 and more > less > 0:
                    self._worth = saved / (more - less)
                    self._power = max(0.2, math.log(more / less) / 2 / math.log(_OTHER_STEP))
        except LevelOverflow:
            return Price(math.inf, math.inf, math.inf)
        return self._price(x, coded)


def models_for(
    strategy: str, predictors: Iterable[Predictor], spacing: int | None
) -> dict[int, Predictor]:
    """Those of `predictors` that a strategy uses.

    Where there is a student that restores or fills in any frames, the teacher, many times slower,
    is used only where it is named.

    Raises
    ------
    ModelError
        If none can do what a forced strategy or a forced distance of keyframes needs.
    """
    known = {number: p for number, kind in KINDS.items() for p in predictors if p.kind == kind}
    if spacing is not None:
        known = {n: p for n, p in known.items() if spacing in p.spacings}
        if not known and strategy != "frequency":
            raise ModelError(f"no model given fills in frames between keyframes {spacing} apart")
    can = [Mode(n, restored=True) for n, p in known.items() if p.restores]
    for n, p in known.items():
        if p.spacings:
            can += [Mode(n, 2), Mode(n, 2, restored=p.restores)]
    able = {mode.model: known[mode.model] for mode in can if STRATEGIES[strategy](mode)}
    if not able and strategy not in ("frequency", "auto"):
        what = strategy if strategy in KINDS.values() else "restoring"
        raise ModelError(f"strategy {strategy!r} needs a {what} model as generator")
    return dict(list(able.items())[:1])


def sample_of(x: np.ndarray, frames: int) -> np.ndarray:
    """Central part of `x` ``[T, H, W]`` of at most so many frames, a sixteenth of each frame."""
    start = (len(x) - min(frames, len(x))) // 2
    part = x[start : start + frames]
    for axis in (1, 2):
        length = x.shape[axis]
        side = min(length, max(_SIDE, round(length / math.sqrt(_PART))))
        part = part.take(np.arange((length - side) // 2, (length + side) // 2), axis)
    return part


def _squared(x: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.sum(np.square(decoded.astype(np.float64) - x)))
