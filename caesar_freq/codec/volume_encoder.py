"""Encoder of one volume: levels for any step, by rounding, by what they cost, or with low bits apart."""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.fine import add_low_bits, in_units, low_bits, shifts_of, squared_error
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import ERROR_UNIT, fit_alphas, frequency_classes
from caesar_freq.codec.refine import UNIT, prices
from caesar_freq.codec.trellis import WEIGHT, lengths
from caesar_freq.codec.trellis import prices as grid_prices
from caesar_freq.codec.volume import (
    LevelOverflow,
    VolumeCode,
    dequantised,
    encode_levels,
    ends_of_cells,
    packed,
    quantiser,
    reconstruct,
    room_for,
    unit_step,
)
from caesar_freq.entropy.dependent import FINER
from caesar_freq.kernels.errors import size_histogram
from caesar_freq.transform.blocks import Transform

#: Dead zone of a plain quantiser, in steps.
_HALF = 0.5


class VolumeEncoder:
    """Codes one volume at any step; the forward transform is done once.

    Parameters
    ----------
    x : float32 or float64 [T, H, W]
    transform : Transform
    model : FrequencyModel
    refined : bool
        Choose levels by what they cost, not by rounding alone: fewer bytes at equal error. `encode`
        uses the dependent quantiser (`trellis`) if the model has tables for it, else, like
        `levels`, thresholds (`refine`), for another pass over the contexts.
    overwrite : bool
        The memory of `x` may be used for its coefficients.
    """

    def __init__(
        self, x: np.ndarray, transform: Transform, model: FrequencyModel, refined: bool = False,
        overwrite: bool = False,
    ) -> None:  # fmt: skip
        self._code(
            kernels(model.device).forward(transform, x, overwrite), transform, model, refined
        )
        self.size = x.size

    @classmethod
    def of_planes(
        cls, planes: np.ndarray, transform: Transform, model: FrequencyModel, refined: bool = False
    ) -> VolumeEncoder:
        """The same from coefficients."""
        encoder = cls.__new__(cls)
        encoder._code(planes, transform, model, refined)
        encoder.size = transform.n_coefficients
        return encoder

    def _code(self, planes, transform, model, refined) -> None:
        self.transform, self.model, self.refined = transform, model, refined
        #: whether `encode` uses the dependent quantiser
        self.dependent = refined and model.grid_pmf is not None
        #: what a bit is worth there, in squared steps
        self.weight = WEIGHT
        #: whether low bits of coefficients may be apart (`fine`)
        self.apart = True
        self.planes = planes
        self.classes = frequency_classes(*self.planes.shape[2:4])
        self.alphas = fit_alphas(self.planes, self.classes)

    def histogram(self) -> np.ndarray:
        """Sizes of the coefficients, as `search.RoundingModel` takes them."""
        return size_histogram(self.planes)

    def levels(self, step: float, dead_zone: float) -> np.ndarray:
        """Quantised levels; raises LevelOverflow if one is too large."""
        chosen = kernels(self.model.device)
        q, fits = chosen.quantise(self.planes, step, dead_zone, self.alphas, self.classes)
        if fits and self.refined:
            bins = chosen.scale_bins(q, chosen.ends_of(q), self.transform, self.model)
            del q
            tables = prices(self.model)
            q, fits = chosen.refine(self.planes, step, self.alphas, self.classes, bins, *tables)
        if not fits:
            raise LevelOverflow
        return q

    def encode(self, step: float, dead_zone: float, last: bool = False) -> VolumeCode:
        """Quantise and code; the `last` time the coefficients are given back as soon as can be."""
        if shifts := self.shifts(step):
            return self._fine(step, shifts, last)
        if self.dependent:
            return self._dependent(step, dead_zone, last)
        levels = self.levels(step, dead_zone)
        if last:
            self._give_back()
        return encode_levels(levels, self.alphas, self.transform, self.model)

    def chosen(self, step: float, dead_zone: float, last: bool = False) -> tuple:
        """Ends of the cells, then values of the dependent quantiser, the rows of tables of their
        levels, `coefficient_error` and their bits in ``1 / UNIT``; raises LevelOverflow."""
        chosen = kernels(self.model.device)
        # cells end where they do with plain rounding: to cut them shorter saves nothing here
        used, fits = chosen.quantised_ends(
            self.planes, 2 * FINER * step, dead_zone, self.alphas, self.classes
        )
        *found, good = chosen.choose_blocks(
            self.planes, step * FINER, self.alphas, self.classes, used, self.transform, self.model,
            *grid_prices(self.model, self.weight), lengths(self.model), last,
        )  # fmt: skip
        if last:
            self._give_back()
        if not (fits and good):
            raise LevelOverflow
        return used, *found

    def _give_back(self) -> None:
        # not a part of them, which would keep their memory
        self.planes = np.zeros(0, self.planes.dtype)

    def priced(self, step: float, dead_zone: float) -> tuple[float, float]:
        """About how many bits `encode` writes, and `coefficient_error`; raises LevelOverflow."""
        shifts = self.shifts(step)
        if shifts or not self.dependent:
            code = self._fine(step, shifts, False) if shifts else self.encode(step, dead_zone)
            return 8 * len(code.data), self.coefficient_error(code, step)
        used, *_, error, bits = self.chosen(step, dead_zone)
        bits = 8 * len(ends_of_cells(used, self.transform)) + bits / UNIT
        unit = unit_step(step, True)
        return bits, error * unit * unit / ERROR_UNIT

    def _dependent(self, step: float, dead_zone: float, last: bool) -> VolumeCode:
        used, q, rows, error, _ = self.chosen(step, dead_zone, last)
        stream = kernels(self.model.device).write_blocks(q, rows, used, self.transform, self.model)
        data = packed(self.alphas, used, *stream, self.transform, True)
        return VolumeCode(data, q, rows, True, error)

    def shifts(self, step: float) -> list[int] | None:
        """Low bits of each shell that `encode` keeps apart (`fine.shifts_of`), if any."""
        return shifts_of(self.planes, step, self.transform) if self.apart else None

    def _fine(self, step: float, shifts: list[int], last: bool) -> VolumeCode:
        chosen = kernels(self.model.device)
        units = in_units(self.planes, step, shifts, self.transform)
        q, fits = chosen.quantise(units, step, _HALF, self.alphas, self.classes)
        if not fits:
            raise LevelOverflow
        none = np.zeros(q.shape, np.uint8)
        coarse = dequantised(q, none, step, self.alphas, self.model, units.dtype, middle=True)
        low = low_bits(units, coarse, step, shifts, self.transform)
        del none, units
        code = encode_levels(q, self.alphas, self.transform, self.model, low)
        add_low_bits(coarse, low, step, self.transform)
        code.error = squared_error(self.planes, coarse, step)
        if last:
            self._give_back()
        return code

    def coefficient_error(self, code: VolumeCode, step: float) -> float:
        """Sum of squared coefficient errors of `code`: by Parseval that of the values."""
        total = code.error
        if total is None:
            total = kernels(self.model.device).coefficient_error(
                code.levels, code.bins,
                *quantiser(step, self.alphas, self.classes, self.model, code.dependent), self.planes,
            )  # fmt: skip
        step = unit_step(step, code.dependent)
        return total * step * step / ERROR_UNIT

    def simulate(self, step: float, dead_zone: float) -> np.ndarray:
        """What a decoder would return, ``[T, H, W]``, without entropy coding."""
        return self.decoded(self.encode(step, dead_zone), step)

    def decoded(self, code: VolumeCode, step: float) -> np.ndarray:
        """What a decoder returns of `code`, ``[T, H, W]``; its levels are given back."""
        planes, code.levels = room_for(code.levels, self.planes.dtype)
        reconstruct(
            code.levels, code.bins, self.alphas, code.dependent, code.low, step, self.transform,
            self.model, planes,
        )  # fmt: skip
        code.levels = code.bins = None
        return kernels(self.model.device).inverse(self.transform, planes)


def training_rows(
    encoder: VolumeEncoder, step: float, dead_zone: float, rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Contexts and levels exactly as the coder meets them, for phase 1.

    Parameters
    ----------
    encoder : VolumeEncoder
        Under any model: contexts do not depend on its network.
    step, dead_zone : float
        Quantisation step and threshold in steps.
    rng, n
        At most `n` rows are drawn without replacement.

    Returns
    -------
    features : uint8 [m, 24]
    levels : int32 [m]
    values_per_row : float
        Coded coefficients for each row returned; 0 if nothing is coded.
    """
    from caesar_freq.codec.portable import collect_rows

    q = encoder.levels(step, dead_zone)
    parts, total = [], 0
    per_block = -(-n * 2 // q.shape[0])
    for rows, values in collect_rows(q, encoder.transform, encoder.model):
        found = len(values)
        total += found
        kept = np.sort(rng.permutation(found)[:per_block])
        parts.append((rows[kept], values[kept], np.full(len(kept), found / max(1, len(kept)))))
    features, levels, weights = (np.concatenate(part) for part in zip(*parts))
    if not total:
        return features, levels, 0.0
    # blocks were capped alike: thin those out that stand for fewer coefficients a row
    keep = np.flatnonzero(rng.random(len(weights)) < weights / weights.max())[: max(n, 1)]
    return features[keep], levels[keep], total / max(1, len(keep))
