"""Choice of a variable's transform by coding a sample with each promising one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from caesar_freq.codec.candidates import (
    LONG,
    SPATIAL,
    WAVELETS,
    larger_cells,
    longest_block,
    sample,
    time_blocks,
)
from caesar_freq.codec.cells import CellSubset
from caesar_freq.codec.effort import EFFORTS, USUAL, Effort
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import RoundingModel, step_index
from caesar_freq.codec.spectra import Spectra
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.kernels.errors import compare, log2_bits
from caesar_freq.transform.blocks import (
    LARGEST_CELL,
    MAX_BLOCK,
    ORTHONORMAL,
    block_values,
)
from caesar_freq.transform.in_time import in_time

#: Where at least so much of a volume is one value but for this part of a step, as far as so many values
#: tell, a wavelet is looked at.
_QUIET, _STILL, _LOOK_AT = 0.5, 1 / 16, 1 << 16
#: Where the descent begins.
_SCOUTS, _FIRST_TIMES = (("lot", 16), ("dct", 8)), (4, 64)
#: Bits of a coefficient of ``x * _COARSER`` steps by the estimate:
#: ``_LOG * (log2(1 + x**2) + _SIGNIFICANT * x**2 / (1 + x**2))``.
_COARSER, _LOG, _SIGNIFICANT = 1.2, 0.3, 16
#: Transforms are coded where their estimate is within this factor of the least one, until one is no
#: better; it says less where there are cells beyond 32. Then those in blocks of the next lengths.
_HOPEFUL, _UNSURE, _NEXT, _USUAL = 1.02, 1.03, 1.01, 32
#: The entropy model was trained on blocks of up to `LONG` frames: longer ones are to be better by so much.
_DOUBT = 1.03


def lagrangian(step: float) -> float:
    """Bits that one unit of squared error is worth at `step`.

    Along the rate-distortion curve of a fine uniform quantiser, error ``step**2 / 12`` and one
    bit for each halving of the step, ``-dR/dD = 6 / (step**2 ln 2)``.
    """
    return 6 / (np.log(2) * step * step)


@dataclass(frozen=True)
class Choice:
    """A variable's transform, and how the sample that decided on it fared.

    Attributes
    ----------
    kind, cell, time_block
        See `Transform`.
    ratio : float
        Root-mean-square error over that of plain rounding (`search.RoundingModel`).
    """

    kind: str
    cell: int
    time_block: int
    ratio: float = 1.0


def choose_transform(
    x: np.ndarray,
    step: float,
    dead_zone: float,
    model: FrequencyModel,
    spatial: tuple[tuple[str, int], ...] = SPATIAL,
    effort: Effort = EFFORTS[USUAL],
    refined: bool = False,
    spectra: Spectra | None = None,
    ratio: bool = True,
) -> Choice:
    """The transform that codes `x` ``[T, H, W]`` in the fewest bits at equal error.

    A descent by estimates looks at the next lengths of time blocks, sizes of cells and kinds. They
    count the coefficients that are large beside the step: where most are zero, bits are proportional to
    how many are not (He and Mitra 2001), the same for all transforms of a field; the code length of
    Gaussian coefficients tells apart what is larger still. With the best few of them half of the cells
    (`CellSubset`) are really coded; what these say of the whole is corrected by the estimates of both.

    Parameters
    ----------
    x : float [T, H, W]
        Normalised volume, the largest chunk of a variable.
    step, dead_zone : float
        Quantiser at which they are compared.
    spatial : tuple of (kind, cell)
        The choice.
    effort : Effort
        How large a sample, and how many transforms are really coded.
    refined : bool
        See `VolumeEncoder`.
    spectra : Spectra, optional
        Of `sample(x, effort.sample)`, where they are there already.
    ratio : bool
        Whether `Choice.ratio` is needed: then the transform is coded even if nothing comes near it.
    """
    times = [t for t in time_blocks(x.shape[0]) if t <= longest_block(x.shape, effort.sample)]
    spectra = spectra or Spectra(sample(x, effort.sample), model.device)
    quiet, usual = _quiet(spectra.x, step), spatial == SPATIAL
    if usual:
        spatial += larger_cells(x.shape) + WAVELETS * effort.exhaustive
    # some of the cells may be all still ones
    largest = 0 if effort.exhaustive or quiet else max(cell for _, cell in spatial)
    trial = _Trial(spectra, step, dead_zone, model, effort, refined, largest)
    if effort.exhaustive:
        for candidate in product(spatial, times):
            trial.guess(*candidate)
    else:
        _, time_block = _descend(trial.guess, spatial, times)
        if quiet and usual:
            trial.guess(WAVELETS[1], time_block)
    return trial.choice(times, ratio)


def _quiet(x: np.ndarray, step: float) -> bool:
    """Whether most of a volume is one value, to a small part of `step`."""
    few = x.ravel()[:: max(1, x.size // _LOOK_AT) | 1]
    return bool(np.mean(np.abs(few - np.median(few)) < _STILL * step) >= _QUIET)


def _descend(guess: Callable, spatial: Sequence[tuple[str, int]], times: list[int]) -> tuple:
    """The place where no neighbour has a lower ``guess(spatial, time block)``."""
    scouts = [s for s in _SCOUTS if s in spatial] or spatial[:1]
    first = [t for t in _FIRST_TIMES if t in times] or times[:1]
    found, before = min(product(scouts, first), key=lambda c: guess(*c)), None
    while found != before:
        before = found
        found = min([found, *_next_times(*found, times)], key=lambda c: guess(*c))
        if found == before:
            near = [s for s in spatial if _alike(s, found[0])]
            beside = [*product(near, found[1:])]
            # where blocks would be too large, shorter ones of larger cells, or longer ones of smaller
            longer = [c for c in _next_times(*found, times) if not np.isfinite(guess(*c))]
            beside += product(near, (c[1] for c in longer))
            beside += [
                n for c in beside if not np.isfinite(guess(*c)) for n in _next_times(*c, times)
            ]
            found = min([found, *beside], key=lambda c: guess(*c))
    return found


def _next_times(spatial, time_block: int, times: list[int]) -> list[tuple]:
    """The same with the next shorter and longer blocks."""
    at = times.index(time_block)
    return [(spatial, t) for t in (*times[max(0, at - 1) : at], *times[at + 1 : at + 2])]


def _alike(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether spatial transforms differ by their kind or by one size of cells."""
    small, large = sorted((one[1], other[1]))
    if one[0] == other[0]:
        return large == 2 * small
    # the largest cells are of one kind only, so that the way there leads over both
    return large == small or (large == 2 * small and small == LARGEST_CELL["lot"])


class _Trial:
    """Transforms of one sample: what they may cost, and what the best of them do."""

    def __init__(
        self,
        spectra: Spectra,
        step,
        dead_zone,
        model: FrequencyModel,
        effort,
        refined,
        largest: int,
    ) -> None:
        self._spectra = spectra
        self._step, self._dead_zone, self._model = step, dead_zone, model
        self._effort, self._refined, self._largest = effort, refined, largest
        self._scale = 1 / (_COARSER * step)
        self._guesses: dict[tuple, float] = {}

    def guess(self, spatial: tuple[str, int], time_block: int) -> float:
        """Estimated bits of the sample; infinite if there are no such blocks."""
        key = spatial, time_block
        if block_values(self._spectra.x.shape, time_block, spatial[1]) > MAX_BLOCK:
            return np.inf
        if key not in self._guesses:
            total = self._spectra.log2_bits(*key, self._scale, _SIGNIFICANT)
            self._guesses[key] = _LOG * total / (1 << 15)
        return self._guesses[key]

    def _again(self, key: tuple, before: list[tuple]) -> bool:
        """Whether a transform is one of those `before` under another name."""
        return any(self._guesses[key] == self._guesses[other] for other in before)

    def choice(self, times: list[int], ratio: bool) -> Choice:
        """The best of those that were guessed, or of blocks of the next length.

        If there is but one that may be, it is coded only for the `ratio`.
        """
        order = sorted(self._guesses, key=self._guesses.get)[: self._effort.finalists]
        hopeful = _HOPEFUL if self._largest <= _USUAL else _UNSURE
        if not self._effort.exhaustive:
            least = self._guesses[order[0]]
            order = [key for key in order if self._guesses[key] <= hopeful * least]
            # the same estimate to the last bit is the same transform: of one cell there are no borders to lap
            order = [key for n, key in enumerate(order) if not self._again(key, order[:n])]
            known = [key for key in self._guesses if key[1] <= LONG]
            if order[0][1] > LONG and known:
                order = [order[0], min(known, key=self._guesses.get)]
        if len(order) == 1 and not ratio:
            (kind, cell), time_block = order[0]
            return Choice(kind, cell, time_block)
        self._spectra.forget_others({spatial for spatial, _ in order})
        costs, worse = {}, False
        for key in order:
            if worse and not self._effort.exhaustive:
                break
            cost = self._cost(*key)
            worse = bool(costs) and cost >= min(costs.values())
            costs[key] = cost
        found = min(costs, key=costs.get)
        for key in _next_times(*found, times) if self._effort.finalists > 1 else ():
            if key not in costs and self.guess(*key) <= _NEXT * self._guesses[found]:
                costs[key] = self._cost(*key)
        found = min(costs, key=lambda key: costs[key][0] * (1 if key[1] <= LONG else _DOUBT))
        (kind, cell), time_block = found
        return Choice(kind, cell, time_block, costs[found][1])

    def _cost(self, *key) -> tuple[float, float]:
        """Bits with what the error is worth, and the error over that of plain rounding."""
        whole, spectra = self._spectra.transform(*key), self._spectra.of(key[0])
        part = CellSubset(whole, self._largest) if self._largest else whole
        own = in_time(whole.time, spectra if part is whole else part.of(spectra))
        encoder = VolumeEncoder.of_planes(own, part, self._model, self._refined)
        plain = RoundingModel(encoder.histogram(), encoder.size, self._dead_zone)
        try:
            if part is whole and whole.kind not in ORTHONORMAL:
                code = encoder.encode(self._step, self._dead_zone)
                bits = 8 * len(code.data)
                error = compare(self._spectra.x, encoder.decoded(code, self._step))[1]
            else:
                bits, error = encoder.priced(self._step, self._dead_zone)
        except LevelOverflow:
            return np.inf, 1.0
        cost = bits + lagrangian(self._step) * error
        rounded = plain.error(step_index(self._step))
        ratio = float(np.sqrt(error / encoder.size)) / rounded if rounded else 1.0
        of_part = _LOG * log2_bits(own, self._scale, _SIGNIFICANT) / (1 << 15)
        return cost * (self._guesses[key] / of_part if of_part else 1.0), ratio
