"""One volume ``[T, H, W]`` under one transform, step and model: to bytes and back.

Volumes are normalised, ``(value - offset) / range`` of their variable, and so is the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.ends import end_residuals, ends_from_residuals
from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.fine import add_low_bits, in_units, low_bits, shifts_of, squared_error
from caesar_freq.codec.layout import DEPENDENT, FINE, N_CLASSES, PREDICTED
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.quantise import ERROR_UNIT, fit_alphas, frequency_classes
from caesar_freq.codec.refine import UNIT, prices
from caesar_freq.codec.trellis import WEIGHT, lengths
from caesar_freq.codec.trellis import prices as grid_prices
from caesar_freq.entropy.context import shells
from caesar_freq.entropy.dependent import FINER
from caesar_freq.entropy.rans import LOWER
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.errors import size_histogram
from caesar_freq.kernels.memory import empty
from caesar_freq.transform.blocks import Transform

#: Dead zone of a plain quantiser, in steps.
_HALF = 0.5


class LevelOverflow(Exception):
    """A coefficient is too many steps large; the volume has to be stored losslessly."""


@dataclass
class VolumeCode:
    """What `encode_levels` made of a volume.

    Attributes
    ----------
    data : bytes
        Everything `decode_volume` needs besides transform, step and model.
    levels, bins : int32 and uint8 arrays
        Quantised levels and their scale bins, for `dequantised`.
    dependent : bool
        Whether `levels` are values of the dependent quantiser, and `bins` rows of its tables.
    error : int or None
        `quantise.coefficient_error` where it is known already.
    low : bytes
        Low bits of coefficients (`fine`), empty if there are none.
    """

    data: bytes
    levels: np.ndarray
    bins: np.ndarray
    dependent: bool = False
    error: int | None = None
    low: bytes = b""


def _n_shells(transform: Transform) -> int:
    return len(shells(*transform.planes_shape[1:4])[0]) - 1


def encode_levels(
    q: np.ndarray, alphas: np.ndarray, transform: Transform, model: FrequencyModel, low: bytes = b""
) -> VolumeCode:
    """Code quantised levels `q` (int32, `Transform.planes_shape`)."""
    used = kernels(model.device).ends_of(q)
    bins, *stream = kernels(model.device).encode_blocks(q, used, transform, model)
    return VolumeCode(_packed(alphas, used, *stream, transform, False, low), q, bins, low=low)


def _ends(used: np.ndarray, transform: Transform) -> bytes:
    limit = _n_shells(transform)
    return encode_ints(end_residuals(used), -limit, limit)


def _packed(
    alphas, used, state: int, words, transform: Transform, dependent: bool, low: bytes = b""
) -> bytes:
    end_of_block = _ends(used, transform)
    head = bytes([bool(alphas.any()) * PREDICTED | dependent * DEPENDENT | bool(low) * FINE])
    head += bytes(alphas.tolist()) if alphas.any() else b""
    head += varint(len(low)) + low if low else b""
    head += varint(len(end_of_block))
    stream = np.uint64(state).astype("<u8").tobytes() + words.astype("<u4").tobytes()
    return head + end_of_block + (stream if used.any() else b"")


def decode_volume(
    data: bytes, step: float, transform: Transform, model: FrequencyModel, dtype: type
) -> np.ndarray:
    """Inverse of `encode_levels` and the quantiser: the volume ``[T, H, W]`` in `dtype`.

    Raises
    ------
    CorruptStreamError
        If `data` is not a whole stream for this transform and model.
    """
    q, bins, alphas, dependent, low = _decode(data, transform, model)
    planes, q = _room(q, dtype)
    _reconstruct(q, bins, alphas, dependent, low, step, transform, model, planes)
    del q, bins
    return kernels(model.device).inverse(transform, planes)


def decode_levels(
    data: bytes, transform: Transform, model: FrequencyModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Levels, their scale bins, the prediction factors and whether levels are values of the
    dependent quantiser, of a volume without low bits; see `decode_volume`."""
    *found, low = _decode(data, transform, model)
    if low:
        raise CorruptStreamError("levels that others are predicted from have low bits")
    return found


def _decode(
    data: bytes, transform: Transform, model: FrequencyModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, bytes]:
    """What `decode_levels` returns, and the low bits (`fine`)."""
    reader = Reader(data)
    alphas, flags = np.zeros(N_CLASSES, np.int64), reader.byte()
    dependent = bool(flags & DEPENDENT)
    unknown = flags & ~(PREDICTED | DEPENDENT | FINE) or dependent and flags & FINE
    if unknown or dependent and model.grid_pmf is None:
        raise CorruptStreamError("the volume names an unknown quantiser; is the file newer?")
    if flags & PREDICTED:
        alphas[:] = list(reader.take(N_CLASSES))
    low = reader.take(reader.varint()) if flags & FINE else b""
    end_of_block = reader.take(reader.varint())
    stream = reader.rest()
    nt, *_, nh, nw = transform.planes_shape
    limit = _n_shells(transform)
    residuals = decode_ints(end_of_block, nt * nh * nw, -limit, limit)
    used = ends_from_residuals(residuals, (nt, nh, nw), limit)
    if stream and (len(stream) < 8 or len(stream) % 4):
        raise CorruptStreamError("the coefficient stream is truncated")
    state = int.from_bytes(stream[:8], "little") if stream else int(LOWER)
    words = np.frombuffer(stream[8:], "<u4").astype(np.uint32)
    q, bins, state, word = kernels(model.device).decode_blocks(
        used, state, words, transform, model, dependent
    )
    if state != int(LOWER) or word != 0:
        raise CorruptStreamError("the coefficient stream does not end where its symbols do")
    return q, bins, alphas, dependent, low


def _reconstruct(
    q, bins, alphas, dependent: bool, low: bytes, step, transform, model, planes: np.ndarray
) -> None:
    """Fill `planes`, which may share the memory of `q` (`_room`), from levels, bins and low bits."""
    dequantised(q, bins, step, alphas, model, planes.dtype, dependent, bool(low), planes)
    if low:
        add_low_bits(planes, low, step, transform)


def _room(q: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Planes that share the memory of levels, and these: kernels read a level before they write there.

    Where planes take twice the memory of levels, those move to the end of it.
    """
    if np.dtype(dtype).itemsize == q.itemsize:
        return q.view(dtype), q
    planes = empty(q.shape, dtype)
    moved = planes.reshape(-1).view(q.dtype)[-q.size :].reshape(q.shape)
    moved[...] = q
    return planes, moved


def dequantised(
    q, bins, step, alphas, model, dtype, dependent: bool = False, middle: bool = False,
    planes: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Coefficient planes of levels and their bins, in `planes` if there are any.

    Levels stand for the `middle` of their cells or for a centroid.
    """
    planes = empty(q.shape, dtype) if planes is None else planes
    classes = frequency_classes(*q.shape[2:4])
    kernels(model.device).dequantise(
        q, bins, *_unit(step, alphas, classes, model, dependent, middle), planes
    )
    return planes


def unit_step(step: float, dependent: bool) -> float:
    """What levels, or values of the dependent quantiser, count at a `step`."""
    return step * FINER if dependent else step


def _unit(
    step: float, alphas, classes, model: FrequencyModel, dependent: bool, middle: bool = False
) -> tuple:
    """What kernels take of the quantiser: its own step, prediction and centroids."""
    centroid = np.tile(model.grid_centroid, (2, 1)) if dependent else model.centroid
    centroid = np.zeros_like(centroid) if middle else centroid
    return unit_step(step, dependent), alphas, classes, centroid


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
        if not self.dependent or self.shifts(step):
            code = self.encode(step, dead_zone)
            return 8 * len(code.data), self.coefficient_error(code, step)
        used, *_, error, bits = self.chosen(step, dead_zone)
        bits = 8 * len(_ends(used, self.transform)) + bits / UNIT
        unit = unit_step(step, True)
        return bits, error * unit * unit / ERROR_UNIT

    def _dependent(self, step: float, dead_zone: float, last: bool) -> VolumeCode:
        used, q, rows, error, _ = self.chosen(step, dead_zone, last)
        stream = kernels(self.model.device).write_blocks(q, rows, used, self.transform, self.model)
        data = _packed(self.alphas, used, *stream, self.transform, True)
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
                *_unit(step, self.alphas, self.classes, self.model, code.dependent), self.planes,
            )  # fmt: skip
        step = unit_step(step, code.dependent)
        return total * step * step / ERROR_UNIT

    def simulate(self, step: float, dead_zone: float) -> np.ndarray:
        """What a decoder would return, ``[T, H, W]``, without entropy coding."""
        return self.decoded(self.encode(step, dead_zone), step)

    def decoded(self, code: VolumeCode, step: float) -> np.ndarray:
        """What a decoder returns of `code`, ``[T, H, W]``; its levels are given back."""
        planes, code.levels = _room(code.levels, self.planes.dtype)
        _reconstruct(
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
