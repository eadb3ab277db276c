"""Coders of one chunk's normalised volume: plain, and with generated frames.

Each has ``code(step, dead_zone)``, which returns a `Coded`, and there is one function that decodes
them all. What a coder returns as decoded is computed by the very functions the decoder calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from caesar_freq.codec.header import Variable
from caesar_freq.codec.layout import MODE_NAMES, PLAIN
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.modes import decode_modes, encode_modes
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.volume import VolumeEncoder, decode_volume
from caesar_freq.errors import CorruptStreamError, ModelError
from caesar_freq.transform.blocks import Transform
from caesar_freq.transform.modes import ModeTransform, temporal_modes

#: Keyframes are coded at this part of the step, as they also serve the frames between them
#: (the optimum measured on simulated turbulence).
KEYFRAME_STEP = 0.62
#: Parts of the squared error allowed that may go to modes left out: little where the rest of the
#: field has structure, more where it is noise below the bound.
LEFT_OUT = (0.02, 0.15)
#: The part that goes to rounding the modes.
_MODE_ROUNDING = 0.02
#: Cells of a frame that the first look at temporal modes takes in.
_LOOK_AT = 4096


class Predictor(Protocol):
    """What fills in the frames between keyframes (`models.predictor`)."""

    kind: str
    sha256: str
    source: str
    n_frame: int
    interpo_rate: int
    keyframes: tuple[int, ...]

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """Missing frames ``[N, M, H, W]`` from decoded keyframes ``[N, K, H, W]``."""

    def restore(self, frames: np.ndarray, noise: np.ndarray, step: float) -> np.ndarray:
        """Best estimates of frames ``[N, T, H, W]`` whose errors have the standard deviations
        `noise` ``[N, T]``: small for keyframes, infinite for missing frames."""


@dataclass
class Coded:
    """A coded volume and its values as a decoder will see them."""

    data: bytes
    decoded: np.ndarray


def plain_transform(
    shape: tuple[int, ...], variable: Variable, time_block: int | None = None
) -> Transform:
    """The transform of `PlainCoder`."""
    return Transform(shape, time_block or variable.time_block, variable.cell, variable.kind)


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
    """

    def __init__(self, x, variable: Variable, model: FrequencyModel, time_block: int | None = None):
        self.encoder = VolumeEncoder(x, plain_transform(x.shape, variable, time_block), model)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        return _code(self.encoder, step, dead_zone)

    def measured(self, step: float, dead_zone: float) -> tuple[bytes, float]:
        """Bytes of `code`, and the squared error of the coefficients instead of their inverse."""
        code = self.encoder.encode(step, dead_zone)
        return code.data, self.encoder.coefficient_error(code, step)


def _code(encoder: VolumeEncoder, step: float, dead_zone: float) -> Coded:
    code = encoder.encode(step, dead_zone)
    return Coded(code.data, encoder.decoded(code, step))


class ModeCoder:
    """The whole volume in its own temporal modes, which are sent with it.

    Parameters
    ----------
    x : float32 or float64 [T, H, W]
        Normalised values.
    variable : Variable
        Spatial transform.
    model : FrequencyModel
    target : float
        RMSE aimed at.
    left_out : float
        Part of its square that may go to modes left out.

    Raises
    ------
    TooManyModes
        If more modes are needed than can pay.
    """

    def __init__(
        self, x, variable: Variable, model: FrequencyModel, target: float, left_out: float
    ) -> None:
        found, allowed = None, left_out * target**2
        # a look at every so many cells is cheap, and enough where there are too many modes
        if temporal_modes(_thinned(x), allowed):
            found = temporal_modes(x, allowed)
        if found is None:
            raise TooManyModes
        self.modes = encode_modes(*found, _MODE_ROUNDING * target**2)
        basis = decode_modes(self.modes, x.shape[0])
        transform = ModeTransform(x.shape, basis, variable.cell, variable.kind)
        self.encoder = VolumeEncoder(x, transform, model)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        coded = _code(self.encoder, step, dead_zone)
        return Coded(varint(len(self.modes)) + self.modes + coded.data, coded.decoded)


class TooManyModes(Exception):
    """A volume has no few temporal modes."""


def _thinned(x: np.ndarray) -> np.ndarray:
    stride = max(1, int(np.sqrt(x[0].size / _LOOK_AT)))
    return x[:, ::stride, ::stride]


class GeneratedCoder:
    """Keyframes, frames generated between them, and the coded residual of those.

    Takes volumes of exactly `predictor.n_frame` frames.
    """

    def __init__(self, x, variable: Variable, model: FrequencyModel, predictor: Predictor) -> None:
        self.x, self.variable, self.model, self.predictor = x, variable, model, predictor
        self.keys = list(predictor.keyframes)
        self.missing = [t for t in range(predictor.n_frame) if t not in self.keys]
        self._keyframes = PlainCoder(x[self.keys], variable, model, len(self.keys))

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        keys = self._keyframes.code(KEYFRAME_STEP * step, dead_zone)
        predicted = predict(self.predictor, keys.decoded, step)
        residual = PlainCoder(
            self.x[self.missing] - predicted, self.variable, self.model,
            self.predictor.interpo_rate - 1,
        ).code(step, dead_zone)  # fmt: skip
        decoded = np.empty_like(self.x)
        decoded[self.keys] = keys.decoded
        decoded[self.missing] = predicted + residual.decoded
        data = varint(len(keys.data)) + keys.data + residual.data
        return Coded(data, decoded)


def predict(predictor: Predictor, keyframes: np.ndarray, step: float) -> np.ndarray:
    """One block's missing frames in the dtype of `keyframes`; the network runs in float32."""
    frames = predictor.predict(keyframes[None].astype(np.float32), step)[0]
    return np.asarray(frames).astype(keyframes.dtype)


class SegmentedCoder:
    """Runs of frames, each plain or generated.

    Parameters
    ----------
    x : float [T, H, W]
    plan : list of (mode, frames)
        In order, covering all frames.
    predictors : dict
        Predictor of each generated mode.
    """

    def __init__(self, x, variable: Variable, model: FrequencyModel, plan, predictors) -> None:
        self.plan = plan
        ends = np.cumsum([frames for _, frames in plan])
        parts = [x[end - frames : end] for end, (_, frames) in zip(ends, plan)]
        self._coders = [
            PlainCoder(part, variable, model)
            if mode == PLAIN
            else GeneratedCoder(part, variable, model, predictors[mode])
            for part, (mode, _) in zip(parts, plan)
        ]

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        coded = [coder.code(step, dead_zone) for coder in self._coders]
        data = varint(len(coded))
        for part, (mode, frames) in zip(coded, self.plan):
            data += bytes([mode]) + varint(frames) + varint(len(part.data)) + part.data
        return Coded(data, np.concatenate([c.decoded for c in coded]))


def decode_plain(data, shape, variable: Variable, step, model, dtype, time_block=None):
    """Inverse of `PlainCoder.code`, ``[T, H, W]``."""
    transform = plain_transform(shape, variable, time_block)
    return decode_volume(data, step, transform, model, dtype)


def decode_in_modes(data, shape, variable: Variable, step, model, dtype):
    """Inverse of `ModeCoder.code`, ``[T, H, W]``."""
    reader = Reader(data)
    basis = decode_modes(reader.take(reader.varint()), shape[0])
    transform = ModeTransform(shape, basis, variable.cell, variable.kind)
    return decode_volume(reader.rest(), step, transform, model, dtype)


def decode_segments(data, shape, variable: Variable, step, model, dtype, predictors):
    """Inverse of `SegmentedCoder.code`, ``[T, H, W]``.

    Raises
    ------
    ModelError
        If a segment needs a predictor that is not among `predictors`.
    """
    reader = Reader(data)
    out, at = np.empty(shape, dtype), 0
    for _ in range(reader.varint()):
        mode, frames = reader.byte(), reader.varint()
        part = reader.take(reader.varint())
        if mode not in MODE_NAMES or frames < 1 or at + frames > shape[0]:
            raise CorruptStreamError("a segment of frames is not one of this format")
        here = (frames, *shape[1:])
        if mode == PLAIN:
            out[at : at + frames] = decode_plain(part, here, variable, step, model, dtype)
        else:
            if mode not in predictors:
                raise ModelError(f"the file has frames generated by a {MODE_NAMES[mode]} model")
            out[at : at + frames] = _decode_generated(
                part, here, variable, step, model, dtype, predictors[mode]
            )
        at += frames
    if at != shape[0] or reader.left:
        raise CorruptStreamError("the segments of a chunk do not add up to its frames")
    return out


def _decode_generated(data, shape, variable, step, model, dtype, predictor):
    keys = list(predictor.keyframes)
    missing = [t for t in range(predictor.n_frame) if t not in keys]
    if shape[0] != predictor.n_frame:
        raise CorruptStreamError("a generated segment has another length than its model's blocks")
    reader = Reader(data)
    key_data = reader.take(reader.varint())
    out = np.empty(shape, dtype)
    out[keys] = decode_plain(
        key_data, (len(keys), *shape[1:]), variable, KEYFRAME_STEP * step, model, dtype, len(keys)
    )
    residual = decode_plain(
        reader.rest(), (len(missing), *shape[1:]), variable, step, model, dtype,
        predictor.interpo_rate - 1,
    )  # fmt: skip
    out[missing] = predict(predictor, out[keys], step) + residual
    return out
