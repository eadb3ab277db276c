"""Which mode every block of frames takes, decided by really coding samples in the modes there are.

The price of a mode is its bits; where the bound is that of a mean, plus what its error is worth.
One unit of squared error is worth what the plain codec pays for it, found by coding the sample with
two steps. First a sample of the variable says which modes pay at all, then samples of the blocks
choose among those. On a processor a value costs more in the network than in the plain codec, so
`auto` shows it only a part of them: restoration comes first, and where that saves little, nothing
else is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from caesar_freq.codec.choose import lagrangian
from caesar_freq.codec.coders import Coded, Predictor
from caesar_freq.codec.generated import SegmentedCoder, make_coder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.prices import Price, frames_apart, sample_of, squared
from caesar_freq.codec.restoration import RestoredCoder
from caesar_freq.codec.segments import KEY_STEP, WINDOW, Mode
from caesar_freq.codec.strategies import STRATEGIES
from caesar_freq.codec.volume import LevelOverflow

#: Root-mean-square errors below this part of the range leave a network nothing to say.
HOPELESS = 1e-3
#: Values of the sample of a variable, at least and at most, and its frames.
_VALUES, _FRAMES = (72 << 10, 128 << 10), 32
#: Parts of the values that the sample takes, that the network sees before `auto` looks at no more
#: modes, and that samples of blocks take.
_SAMPLED, _SEEN, _PLANNED = 1 / 6, 1 / 4, 1 / 16
#: How much coarser still the step may be where frames are not cut at the sides of a sample.
_EDGES = 1.05
#: Bytes of a second coded volume that do not grow with the data.
_SECOND = 12
#: Kinds of keyframes that `auto` looks at.
_LOOKS = 3
#: Blocks of frames from which on each of them may have a mode of its own, and what the second best
#: mode has to cost of the best one's price to be that: small samples tell little.
_FEW_BLOCKS, _CLEARLY = 4, 0.98
#: What restoration has to save before `auto` looks at keyframes: with networks that hardly restore,
#: and fields that hardly can be, they always cost bytes.
_PROMISING = 0.03
#: The distance of keyframes that is tried first, and other steps of theirs (hundredths).
_FIRST_SPACING, _KEY_STEPS = 3, (80, 48)
#: Keyframes this much dearer than the best mode so far are not looked at more closely.
_NEAR = 1.04
#: What a mode has to save on the sample to be worth the network's time.
_WORTH = 0.005
#: The second step that tells what error is worth, and the limits of how the step may change.
_OTHER_STEP, _GROWTH = 2**0.25, (0.5, 2.0)


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
    values : int
        Of the variable; what `auto` may cost goes by it.
    restorer : tuple of (int, float, float) or None
        After `choice`: the model whose restoration pays, how much coarser the step may then be, and
        the part of the bytes that it saves.
    """

    model: FrequencyModel
    variable: Variable
    dead_zone: float
    predictors: dict[int, Predictor]
    strategy: str = "auto"
    spacing: int | None = None
    corrections: Callable[[np.ndarray, np.ndarray, int], float] | None = None
    refined: bool = False
    values: int = 0
    restorer: tuple[int, float, float] | None = field(default=None, init=False)
    #: Bits that a unit of squared error is worth, and the power of the step that the RMSE grows by.
    _worth: float = field(default=0.0, init=False)
    _power: float = field(default=1.0, init=False)

    def choice(
        self, x: np.ndarray, step: float, fine: float, least: float = 0.0
    ) -> list[tuple[Mode, float, float]]:
        """The best mode, and one that may be better for some blocks, each with the step to begin
        with and the part of the plain bytes that it saves.

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
        auto = self.strategy == "auto"
        part = sample_of(x, _FRAMES, int(np.clip(_SAMPLED * self.values, *_VALUES)))
        if auto and any(predictor.restores for predictor in self.predictors.values()):
            # restoration is soon tried: on a larger sample, which tells more
            whole = sample_of(x, _FRAMES, _VALUES[1])
            prices = self._prices(whole, step, fine, keyframes=False)
            if self._remember_restorer(prices) > _PROMISING:
                prices = self._prices(part, step, fine)
        else:
            prices = self._prices(part, step, fine)
            self._remember_restorer(prices)
        ranked = sorted(filter(STRATEGIES[self.strategy], prices), key=lambda m: prices[m].total)
        plain = prices[Mode()]

        def saved(mode: Mode) -> float:
            return plain.saved_by(prices[mode])

        if not ranked or auto and not saved(ranked[0]) > _WORTH + least:
            return []
        best = ranked[0]
        others = [m for m in ranked if m.generated != best.generated] if auto else []
        if not best.generated:
            others = [m for m in others if prices[m].total < _NEAR * prices[best].total]
        chosen = [best, *others[:1]]
        return [
            (m, (fine if m.generated else step) * self._growth(plain, prices[m]), saved(m))
            for m in chosen
        ]

    def _remember_restorer(self, prices: dict[Mode, Price]) -> float:
        """Set `restorer` if restoration pays; what it saves."""
        plain, most = prices[Mode()], 0.0
        for mode, price in prices.items():
            if mode.restored and not mode.generated and plain.saved_by(price) > max(most, _WORTH):
                most = plain.saved_by(price)
                self.restorer = mode.model, self._growth(plain, price), most
        return most

    def _growth(self, plain: Price, other: Price) -> float:
        """How much coarser the step of a mode may be than the plain one, with a bound of a mean."""
        if self.corrections is not None or not other.error > 0:
            return 1.0
        growth = _EDGES * (plain.error / other.error) ** (0.5 / self._power)
        return min(max(growth, _GROWTH[0]), _GROWTH[1])

    def many_blocks(self, x: np.ndarray) -> bool:
        """Whether a chunk has enough blocks of frames for modes of their own."""
        return len(x) >= _FEW_BLOCKS * max(WINDOW, self.variable.time_block)

    def plan(self, x: np.ndarray, step: float, modes: list[Mode]) -> list[tuple[Mode, int]]:
        """Mode of every block of frames of a chunk `x`, blocks of one mode joined."""
        length = max(WINDOW, self.variable.time_block) if self.many_blocks(x) else len(x)
        plan: list[tuple[Mode, int]] = []
        for start in range(0, len(x), length):
            block = x[start : start + length]
            count = len(block)
            able = [m for m in modes if m.spacing < count]
            mode = able[0] if able else Mode()
            if len(able) > 1 and self.many_blocks(x):
                part = sample_of(block, length, int(_PLANNED * block.size))
                first, second = (self._price_of(part, m, step) for m in able)
                mode = able[second < _CLEARLY * first]
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

    def _prices(
        self, x: np.ndarray, step: float, fine: float, keyframes: bool = True
    ) -> dict[Mode, Price]:
        """Prices on a sample of the plain mode and of all that the strategy allows."""
        prices: dict[Mode, Price] = {Mode(): self._calibrate(x, step)}

        def look(mode: Mode, model: int, restore: bool) -> float:
            found = self._coded(x, mode, model, fine if mode.generated else step, restore)
            prices.update({one: self._price(x, one, coded) for one, coded in found.items()})
            return min((prices[one].total for one in found), default=math.inf)

        auto = self.strategy == "auto"
        for model in self.predictors:
            restore = self._wanted(Mode(model, 2, restored=True))
            if self._wanted(Mode(model, restored=True)):
                look(Mode(), model, True)
            spacings = [n for n in self._spacings(model) if n < len(x)] if keyframes else []
            if not spacings or not any(self._wanted(Mode(model, 2, 1, r)) for r in (False, True)):
                continue
            costs = {spacings[0]: look(Mode(model, spacings[0]), model, restore)}
            if auto and costs[spacings[0]] > _NEAR * min(price.total for price in prices.values()):
                continue
            first, seen = Mode(model, spacings[0]), x.size
            more = [(0, key) for key in _KEY_STEPS[:1]] + [(n, KEY_STEP) for n in spacings[1:]]
            more += [(0, key) for key in _KEY_STEPS[1:]]
            for n, key_step in more[: _LOOKS - 1] if auto else more:
                if auto and seen >= _SEEN * self.values:
                    break
                mode = Mode(model, n or min(costs, key=costs.get), key_step)
                cost = look(mode, model, restore and not auto)
                if restore and auto and mode in prices:
                    # restoration does for them what it did for the first
                    both = replace(mode, restored=True)
                    prices[both] = prices[mode].like(
                        prices[first], prices[replace(first, restored=True)]
                    )
                    cost = prices[both].total
                costs[mode.spacing] = min(cost, costs.get(mode.spacing, math.inf))
                seen += x.size
        return prices

    def _wanted(self, mode: Mode) -> bool:
        able = not mode.restored or self.predictors[mode.model].restores
        return able and STRATEGIES[self.strategy](mode)

    def _spacings(self, model: int) -> list[int]:
        known = self.predictors[model].spacings
        if self.spacing is not None:
            return [self.spacing] if self.spacing in known else []
        return sorted(known, key=lambda n: (n != _FIRST_SPACING, -n))

    def _coded(self, x, mode: Mode, model: int, step: float, restore: bool) -> dict[Mode, Coded]:
        """A sample in a mode without restoration, and with that of a model if it is wanted."""
        coder = self._coder(x, mode)
        try:
            coded = {mode: coder.code(step, self.dead_zone)}
        except LevelOverflow:
            return {}
        both = replace(mode, model=model, restored=True)
        if restore:
            restorer = RestoredCoder(x, coder, self.predictors[model], both, frames_apart(both))
            coded[both] = restorer.restored(coded[mode], step)
        return coded

    def _price_of(self, x: np.ndarray, mode: Mode, step: float) -> float:
        """Price of one mode alone."""
        found = self._coded(x, mode.without_restoration, mode.model, step, mode.restored)
        return self._price(x, mode, found[mode]).total if found else math.inf

    def _price(self, x: np.ndarray, mode: Mode, coded: Coded) -> Price:
        """Price of a coded sample, of which only every so many frames are restored."""
        bits, every = 8 * (len(coded.data) - _SECOND * mode.generated), frames_apart(mode)
        seen, decoded = x[::every], coded.decoded[::every]
        more = len(x) / len(seen)
        error = more * squared(seen, decoded)
        if self.corrections:
            bits += 8 * more * self.corrections(seen, decoded, int(len(coded.data) / more))
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
                less, more = squared(x, coded.decoded), squared(x, other.decoded)
                if saved > 0 and more > less > 0:
                    self._worth = saved / (more - less)
                    self._power = max(0.2, math.log(more / less) / 2 / math.log(_OTHER_STEP))
        except LevelOverflow:
            return Price(math.inf, math.inf, math.inf)
        return self._price(x, Mode(), coded)
