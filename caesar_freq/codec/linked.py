"""Levels of one section predicted from those of the section before.

Depths, pressure levels and members of an ensemble resemble their neighbours. What a section has
that its own past does not predict, its *innovation* (levels less the prediction of the temporal
mean, see `quantise`), is predicted from the innovation of the section before, in integers:
``cross = (beta * innovation + 32) >> 6`` with one `beta` for each class of frequency, one set for
the first time block and one for the others. The rest is an ordinary volume.

Every `RUN`-th section stands alone, so that any of them can be decoded from at most ``RUN`` chunks.
Layout: a bit for each class that has a `beta`, those, the volume.
"""

from __future__ import annotations

from copy import copy
from threading import Lock

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.coders import Coded
from caesar_freq.codec.layout import N_BETAS, N_CLASSES, RUN
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader
from caesar_freq.codec.quantise import frequency_classes
from caesar_freq.codec.volume import (
    VolumeCode,
    decode_levels,
    dequantised,
    encode_levels,
    unit_step,
)
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.errors import log2_bits
from caesar_freq.transform.blocks import Transform

_TEMPORAL = (1, 2, 4, 8)
#: Classes of one time block; in the first of them the mean state is new, too.
_BLOCK_CLASSES = N_BETAS // 2
_MASK_BYTES = -(-N_BETAS // 8)
#: Innovations and predictions are limited to this.
_LIMIT = 1 << 30
#: Innovations are fitted as if none were larger: sums of 2**22 products stay below 2**62.
_LARGE = 1 << 16
#: Smallest `beta` in 1/64, and smallest part of a class's energy that it has to predict.
_LEAST_BETA, _LEAST_GAIN = 4, 0.01


def may_link(section: int) -> bool:
    """Whether `section` may refer to the one before."""
    return section % RUN != 0


def link_classes(bt: int, bh: int, bw: int) -> np.ndarray:
    """Class of every frequency of a time block, int64 ``[bt, bh, bw]``."""
    temporal = np.digitize(np.arange(bt) * 16 // bt, _TEMPORAL)
    return temporal[:, None, None] * N_CLASSES + frequency_classes(bh, bw)


def cross_prediction(innovation: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Prediction of a section from the `innovation` of the one before, int32 of the same shape."""
    classes = link_classes(*innovation.shape[1:4])
    out = np.empty_like(innovation)
    for t, block in enumerate(innovation):
        beta = betas[classes + (t > 0) * _BLOCK_CLASSES][..., None, None]
        out[t] = np.clip((beta * block.astype(np.int64) + 32) >> 6, -_LIMIT, _LIMIT)
    return out


def carried(cross: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """`cross` and what of it the temporal prediction passes on to the blocks that follow, int32."""
    if not alphas.any():
        return cross
    alpha = alphas[frequency_classes(*cross.shape[2:4])][..., None, None]
    out = cross.copy()
    for t in range(1, len(out)):
        past = (alpha * out[t - 1, 0].astype(np.int64) + 32) >> 6
        out[t, 0] = np.clip(cross[t, 0] + past, -_LIMIT, _LIMIT)
    return out


def fit_betas(encoder: VolumeEncoder, innovation: np.ndarray, step: float) -> np.ndarray:
    """Least-squares factors in 1/64, int64 ``[N_BETAS]``, 0 where they hardly help.

    Sums are of integers, 16 to the step, so that every machine finds the same factors.
    """
    classes = link_classes(*innovation.shape[1:4])
    products, own, other = np.zeros((3, N_BETAS), np.int64)
    for t, (new, before) in enumerate(zip(_innovations(encoder, step), innovation)):
        index = (classes + (t > 0) * _BLOCK_CLASSES).ravel()
        a = np.rint(16 * np.clip(new, -_LARGE, _LARGE)).astype(np.int64)
        b = 16 * np.clip(before, -_LARGE, _LARGE).astype(np.int64)
        for sums, left, right in ((products, a, b), (own, a, a), (other, b, b)):
            np.add.at(sums, index, np.einsum("ijkyx,ijkyx->ijk", left, right).ravel())
    betas = np.divide(products, other, out=np.zeros(N_BETAS), where=other > 0)
    betas = np.clip(np.rint(64 * betas), -127, 127)
    gain = (2 * products - betas / 64 * other) * betas / 64
    betas[(np.abs(betas) < _LEAST_BETA) | (gain < _LEAST_GAIN * own)] = 0
    return betas.astype(np.int64)


def _innovations(encoder: VolumeEncoder, step: float):
    """What every time block adds to its past, in steps and before rounding."""
    alpha = encoder.alphas[encoder.classes][..., None, None].astype(np.float32) / 64
    before = None
    for block in encoder.planes:
        new = block.astype(np.float32) * np.float32(1 / step)
        own = new[0].copy()
        if before is not None:
            new[0] -= alpha * before
        before = own
        yield new


class SectionCoder:
    """A chunk's volume, predicted from the same place in the section before if there is one.

    Has the interface of `coders.PlainCoder`.

    Parameters
    ----------
    encoder : VolumeEncoder
    before : SectionCoder, optional
    """

    def __init__(self, encoder: VolumeEncoder, before: SectionCoder | None = None) -> None:
        self.encoder, self.before = encoder, before
        self._lock, self._at, self._kept = Lock(), None, None

    def innovation(self, step: float, dead_zone: float) -> np.ndarray:
        """Levels with the cross prediction, int32; what the next section is predicted from."""
        _, cross, made = self._made(step, dead_zone)
        levels = made.levels if self.encoder.dependent else made
        return levels if cross is None else np.clip(levels + cross, -_LIMIT, _LIMIT)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        encoder = self.encoder
        (betas, cross, _), code = self._made(step, dead_zone), self._code(step, dead_zone)
        decoded = restore(code.levels, code.bins, step, encoder.alphas, cross, encoder.transform,
                          encoder.model, encoder.planes.dtype, code.dependent)  # fmt: skip
        return Coded((b"" if cross is None else _pack(betas)) + code.data, decoded)

    def measured(self, step: float, dead_zone: float) -> tuple[bytes, float]:
        """Bytes of a section that stands alone, and the squared error of its coefficients."""
        code = self._code(step, dead_zone)
        return code.data, self.encoder.coefficient_error(code, step)

    def _code(self, step: float, dead_zone: float) -> VolumeCode:
        encoder, made = self.encoder, self._made(step, dead_zone)[2]
        if encoder.dependent:
            return made
        return encode_levels(made, encoder.alphas, encoder.transform, encoder.model)

    def saved(self, step: float, dead_zone: float) -> tuple[float, float]:
        """Estimated bits that the section before saves, and bits without it."""
        unit = unit_step(step, self.encoder.dependent)
        cross = self._predicted(step, dead_zone)[1]
        plain = linked = 0.0
        for new, predicted in zip(_innovations(self.encoder, unit), cross):
            plain += log2_bits(new, 1 / (step / unit)) / 2
            linked += log2_bits(new - predicted.astype(np.float32), 1 / (step / unit)) / 2
        return plain - linked, plain

    def _made(self, step: float, dead_zone: float) -> tuple:
        """Factors and cross prediction (None without a section before), and levels, of the dependent
        quantiser with their code; kept for a step."""
        with self._lock:
            if self._at != (step, dead_zone):
                self._kept = self._quantised(step, dead_zone)
                self._at = (step, dead_zone)
            return self._kept

    def _predicted(self, step: float, dead_zone: float) -> tuple[np.ndarray, np.ndarray]:
        innovation = self.before.innovation(step, dead_zone)
        betas = fit_betas(self.encoder, innovation, unit_step(step, self.encoder.dependent))
        return betas, cross_prediction(innovation, betas)

    def _quantised(self, step: float, dead_zone: float) -> tuple:
        betas = cross = None
        rest = copy(self.encoder)
        rest.apart = False  # levels are predicted whole
        if self.before is not None:
            betas, cross = self._predicted(step, dead_zone)
            known = carried(cross, rest.alphas)
            rest.planes = rest.planes - _in_units(
                known, unit_step(step, rest.dependent), rest.planes
            )
        quantise = rest.encode if rest.dependent else rest.levels
        return betas, cross, quantise(step, dead_zone)


def _in_units(levels: np.ndarray, step: float, like: np.ndarray) -> np.ndarray:
    return (levels * np.float64(step)).astype(like.dtype)


def restore(
    levels, bins, step, alphas, cross, transform, model, dtype, dependent: bool = False
) -> np.ndarray:
    """Volume ``[T, H, W]`` of levels and their cross prediction (None: there is none)."""
    planes = dequantised(levels, bins, step, alphas, model, dtype, dependent)
    if cross is not None:
        planes += _in_units(carried(cross, alphas), unit_step(step, dependent), planes)
    return kernels(model.device).inverse(transform, planes)


def _pack(betas: np.ndarray) -> bytes:
    return np.packbits(betas != 0).tobytes() + betas[betas != 0].astype(np.int8).tobytes()


def _unpack(reader: Reader) -> np.ndarray:
    used = np.unpackbits(np.frombuffer(reader.take(_MASK_BYTES), np.uint8)).astype(bool)
    if used[N_BETAS:].any():
        raise CorruptStreamError("the link to the section before is damaged")
    betas = np.zeros(N_BETAS, np.int64)
    used = used[:N_BETAS]
    betas[used] = np.frombuffer(reader.take(int(used.sum())), np.int8)
    return betas


class Decoded:
    """Levels of one chunk as a decoder has them.

    Parameters
    ----------
    data : bytes
        What `SectionCoder.code` made.
    transform, model
        Those of the variable.
    innovation : int32 array or None
        Of the section before; None if the chunk stands alone.

    Raises
    ------
    CorruptStreamError
        If `data` is not a whole stream.
    """

    def __init__(
        self,
        data: bytes,
        transform: Transform,
        model: FrequencyModel,
        innovation: np.ndarray | None,
    ) -> None:
        self._transform, self._model, self._cross = transform, model, None
        if innovation is not None:
            reader = Reader(data)
            self._cross = cross_prediction(innovation, _unpack(reader))
            data = reader.rest()
        self._levels, self._bins, self._alphas, self._dependent = decode_levels(
            data, transform, model
        )

    @property
    def innovation(self) -> np.ndarray:
        """What the next section is predicted from."""
        if self._cross is None:
            return self._levels
        return np.clip(self._levels + self._cross, -_LIMIT, _LIMIT)

    def volume(self, step: float, dtype: type) -> np.ndarray:
        """Values ``[T, H, W]``."""
        return restore(self._levels, self._bins, step, self._alphas, self._cross,
                       self._transform, self._model, dtype, self._dependent)  # fmt: skip
