"""Coders of one chunk's normalised volume: plain, and in its own temporal modes.

Each has ``code(step, dead_zone)``, which returns a `Coded`. What a coder returns as decoded is
computed by the very functions the decoder calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.modes import decode_modes, encode_modes
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.volume import decode_volume
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels.memory import copied
from caesar_freq.transform.blocks import MAX_BLOCK, Transform, block_values
from caesar_freq.transform.modes import ModeTransform, temporal_modes

#: Parts of the squared error allowed that may go to modes left out: little where the rest of the
#: field has structure, more where it is noise below the bound.
LEFT_OUT = (0.02, 0.15)
#: The part that goes to rounding the modes.
_MODE_ROUNDING = 0.02
#: Cells of a frame that the first look at temporal modes takes in.
_LOOK_AT = 4096


class Predictor(Protocol):
    """A generative model (`models.predictor`); see `generated` for what it does.

    Attributes
    ----------
    restores : bool
        Whether `restore` makes better frames of decoded ones.
    spacings : tuple of int
        Distances of keyframes between which `restore` fills in the missing frames.
    n_frame, interpo_rate, keyframes
        Layout of the blocks that `predict` fills in.
    """

    kind: str
    sha256: str
    source: str
    n_frame: int
    interpo_rate: int
    keyframes: tuple[int, ...]
    restores: bool
    spacings: tuple[int, ...]

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """Missing frames ``[N, M, H, W]`` from decoded keyframes ``[N, K, H, W]``."""

    def restore(
        self, frames: np.ndarray, noise: np.ndarray, step: float, targets: Sequence[int] | None
    ) -> np.ndarray:
        """Best estimates of the frames `targets` (None: all) of ``[N, T, H, W]`` whose errors have
        the standard deviations `noise` ``[N, T]``: small for keyframes, infinite for missing ones,
        which are among at most `n_frame` frames."""


@dataclass
class Coded:
    """A coded volume and its values as a decoder will see them."""

    data: bytes
    decoded: np.ndarray


def plain_transform(
    shape: tuple[int, ...], variable: Variable, time_block: int | None = None
) -> Transform:
    """The transform of `PlainCoder`.

    Raises
    ------
    CorruptStreamError
        If a damaged header makes its blocks larger than any.
    """
    time_block = time_block or variable.time_block
    _check(shape, time_block, variable.cell)
    return Transform(shape, time_block, variable.cell, variable.kind)


def _check(shape: tuple[int, ...], time_block: int, cell: int) -> None:
    if block_values(shape, time_block, cell) > MAX_BLOCK:
        raise CorruptStreamError("the header names a cell too large for the array's shape")


class PlainCoder:
    """The whole volume through the frequency codec.

    Parameters
    ----------
    x : float32 or float64 [T, H, W]
        Normalised values.
    variable : Variable
        Transform; its step is not used.
    model : FrequencyModel
    time_block : int, optional
        Instead of the variable's.
    refined : bool
        See `VolumeEncoder`.
    """

    def __init__(
        self, x, variable: Variable, model: FrequencyModel, time_block: int | None = None,
        refined: bool = False,
    ) -> None:  # fmt: skip
        self.encoder = VolumeEncoder(
            x, plain_transform(x.shape, variable, time_block), model, refined
        )

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        return _code(self.encoder, step, dead_zone)


class ChunkCoder:
    """`PlainCoder` of a volume that is made when its coefficients are wanted, which take its memory.

    Coding takes theirs: should they be wanted again, they are made again.

    Parameters
    ----------
    make : callable
        The volume, float32 or float64 [T, H, W].
    variable, model, refined
        See `PlainCoder`.
    weight : float
        A bit is worth so many times what it usually is.
    one_grid : bool
        Do without the dependent quantiser.
    """

    def __init__(
        self, make: Callable[[], np.ndarray], variable: Variable, model: FrequencyModel,
        refined: bool = False, weight: float = 1.0, one_grid: bool = False,
    ) -> None:  # fmt: skip
        self._make, self._variable, self._model, self._refined = make, variable, model, refined
        self._weight, self._encoder = weight, None
        self.dependent = refined and model.grid_pmf is not None and not one_grid

    def on_one_grid(self) -> ChunkCoder:
        """The same without the dependent quantiser."""
        return ChunkCoder(
            self._make, self._variable, self._model, self._refined, self._weight, one_grid=True
        )

    @property
    def encoder(self) -> VolumeEncoder:
        """With its coefficients, which are kept until it codes."""
        if self._encoder is None:
            x = self._make()
            transform = plain_transform(x.shape, self._variable)
            made = VolumeEncoder(x, transform, self._model, self._refined, overwrite=True)
            made.weight *= self._weight
            made.dependent = self.dependent
            self._encoder = made
        return self._encoder

    def _taken(self) -> VolumeEncoder:
        encoder, self._encoder = self.encoder, None
        return encoder

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        return _code(self._taken(), step, dead_zone, last=True)

    def measured(self, step: float, dead_zone: float) -> tuple[bytes, float]:
        """Bytes of `code`, and the squared error of the coefficients instead of their inverse."""
        encoder = self._taken()
        code = encoder.encode(step, dead_zone, last=encoder.dependent)
        return code.data, encoder.coefficient_error(code, step)


def _code(encoder: VolumeEncoder, step: float, dead_zone: float, last: bool = False) -> Coded:
    code = encoder.encode(step, dead_zone, last)
    return Coded(code.data, encoder.decoded(code, step))


class ModeCoder:
    """The whole volume in its own temporal modes, which are sent with it.

    Parameters
    ----------
    x : float32 or float64 [T, H, W], or `Normalised`
        Normalised values.
    variable : Variable
        Spatial transform.
    model : FrequencyModel
    target : float
        RMSE aimed at.
    left_out : float
        Part of its square that may go to modes left out.
    refined : bool
        See `VolumeEncoder`.

    Raises
    ------
    TooManyModes
        If more modes are needed than can pay.
    """

    def __init__(
        self, x, variable: Variable, model: FrequencyModel, target: float, left_out: float,
        refined: bool = False,
    ) -> None:  # fmt: skip
        found = None
        if may_have_modes(x, target, left_out):
            x = np.asarray(x)
            found = temporal_modes(x, left_out * target**2)
        if found is None:
            raise TooManyModes
        self.modes = encode_modes(*found, _MODE_ROUNDING * target**2)
        basis = decode_modes(self.modes, x.shape[0])
        transform = ModeTransform(x.shape, basis, variable.cell, variable.kind)
        self.encoder = VolumeEncoder(x, transform, model, refined)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        coded = _code(self.encoder, step, dead_zone)
        return Coded(varint(len(self.modes)) + self.modes + coded.data, coded.decoded)


class TooManyModes(Exception):
    """A volume has no few temporal modes."""


def may_have_modes(x, target: float, left_out: float = max(LEFT_OUT)) -> bool:
    """Whether every so many cells of a volume have few temporal modes; see `ModeCoder`."""
    stride = max(1, int(np.sqrt(x.shape[1] * x.shape[2] / _LOOK_AT)))
    thinned = copied(x[:, ::stride, ::stride])
    return temporal_modes(thinned, left_out * target**2) is not None


def decode_plain(data, shape, variable: Variable, step, model, dtype, time_block=None):
    """Inverse of `PlainCoder.code`, ``[T, H, W]``."""
    transform = plain_transform(shape, variable, time_block)
    return decode_volume(data, step, transform, model, dtype)


def decode_in_modes(data, shape, variable: Variable, step, model, dtype):
    """Inverse of `ModeCoder.code`, ``[T, H, W]``."""
    reader = Reader(data)
    basis = decode_modes(reader.take(reader.varint()), shape[0])
    n_modes = basis.shape[1]
    _check((n_modes, *shape[1:]), n_modes, variable.cell)
    transform = ModeTransform(shape, basis, variable.cell, variable.kind)
    return decode_volume(reader.rest(), step, transform, model, dtype)
