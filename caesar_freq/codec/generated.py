"""Coders that use a generative model: keyframes with frames filled in, restored frames, runs of both.

The network is floating point, so nothing that is coded depends on what it says: its frames are only
added to decoded ones. It is called by the same functions when encoding and decoding.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.coders import (
    Coded,
    ModeCoder,
    PlainCoder,
    Predictor,
    decode_in_modes,
    decode_plain,
)
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import varint
from caesar_freq.codec.restoration import RestoredCoder, decode_restored, noise_byte, noise_of
from caesar_freq.codec.segments import (
    KEY_STEP,
    Mode,
    Parts,
    keyframes_of,
    pack_segments,
    read_segments,
)
from caesar_freq.errors import CorruptStreamError, ModelError


def fill_in(
    predictor: Predictor, keyframes: np.ndarray, frames: int, spacing: int, noise: float, step
) -> np.ndarray:
    """Frames between decoded keyframes ``[K, H, W]`` of a segment, in their dtype.

    The network sees runs of whole gaps, at most `predictor.n_frame` frames of them at a time.
    """
    keys, missing = keyframes_of(frames, spacing)
    gaps = (predictor.n_frame - 1) // spacing
    runs: dict[tuple[int, ...], list[int]] = {}
    for first in range(0, len(keys) - 1, gaps):
        own = keys[first : first + gaps + 1]
        runs.setdefault(tuple(k - own[0] for k in own), []).append(first)
    out = np.empty((frames, *keyframes.shape[1:]), keyframes.dtype)
    for places, firsts in runs.items():
        count = places[-1] + 1
        wanted = [t for t in range(count) if t not in places]
        if not wanted:
            continue
        given = np.zeros((len(firsts), count, *keyframes.shape[1:]), np.float32)
        noises = np.full((len(firsts), count), np.inf, np.float32)
        given[:, places] = [keyframes[first : first + len(places)] for first in firsts]
        noises[:, places] = noise
        for first, made in zip(firsts, predictor.restore(given, noises, step, wanted)):
            out[[keys[first] + t for t in wanted]] = made
    return out[missing]


class KeyedCoder:
    """Keyframes, frames filled in between them, and the coded residual of those.

    Parameters
    ----------
    x : float [T, H, W]
    variable : Variable
    model : FrequencyModel
    predictor : Predictor
        With `mode.spacing` among its `spacings`.
    mode : Mode
    refined : bool
        See `VolumeEncoder`.
    """

    def __init__(
        self, x, variable: Variable, model: FrequencyModel, predictor, mode: Mode,
        refined: bool = False,
    ) -> None:  # fmt: skip
        self.x, self.variable, self.model = x, variable, model
        self.predictor, self.mode, self.refined = predictor, mode, refined
        self.keys, self.missing = keyframes_of(len(x), mode.spacing)
        self._keyframes = PlainCoder(x[self.keys], variable, model, refined=refined)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        keys = self._keyframes.code(self.mode.key_step / 100 * step, dead_zone)
        noise = noise_byte(keys.decoded - self.x[self.keys], step)
        predicted = fill_in(
            self.predictor,
            keys.decoded,
            len(self.x),
            self.mode.spacing,
            noise_of(noise, step),
            step,
        )
        residual = PlainCoder(
            self.x[self.missing] - predicted,
            self.variable,
            self.model,
            self.mode.spacing - 1,
            self.refined,
        ).code(step, dead_zone)
        decoded = np.empty_like(self.x)
        decoded[self.keys] = keys.decoded
        decoded[self.missing] = predicted + residual.decoded
        data = bytes([noise]) + varint(len(keys.data)) + keys.data + residual.data
        return Coded(data, decoded)


def predict(predictor: Predictor, keyframes: np.ndarray, step: float) -> np.ndarray:
    """One block's missing frames in the dtype of `keyframes`; the network runs in float32."""
    frames = predictor.predict(keyframes[None].astype(np.float32), step)[0]
    return np.asarray(frames).astype(keyframes.dtype)


def make_coder(
    x,
    variable: Variable,
    model: FrequencyModel,
    mode: Mode,
    predictors: dict,
    refined: bool = False,
):
    """Coder of a segment `x` in any mode."""
    if not mode.model:
        return PlainCoder(x, variable, model, refined=refined)
    predictor = predictors[mode.model]
    if mode.restored:
        inner = make_coder(x, variable, model, mode.without_restoration, predictors, refined)
        return RestoredCoder(x, inner, predictor, mode)
    return KeyedCoder(x, variable, model, predictor, mode, refined)


class SegmentedCoder:
    """Runs of frames, each in its own mode.

    Parameters
    ----------
    x : float [T, H, W]
    plan : list of (Mode, frames)
        In order, covering all frames.
    predictors : dict
        By model.
    refined : bool
        See `VolumeEncoder`.
    """

    def __init__(
        self, x, variable: Variable, model: FrequencyModel, plan, predictors, refined: bool = False
    ) -> None:
        self.plan = plan
        ends = np.cumsum([frames for _, frames in plan])
        self._coders = [
            make_coder(x[end - frames : end], variable, model, mode, predictors, refined)
            for end, (mode, frames) in zip(ends, plan)
        ]

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        coded = [coder.code(step, dead_zone) for coder in self._coders]
        parts = [(mode, frames, part.data) for part, (mode, frames) in zip(coded, self.plan)]
        return Coded(pack_segments(parts), np.concatenate([c.decoded for c in coded]))


class RestoredModesCoder:
    """A whole volume in its own temporal modes, restored by a network: a single run of frames.

    Parameters
    ----------
    x : float [T, H, W]
    inner : ModeCoder
    predictor : Predictor
    model : int
        Its number among modes.
    """

    def __init__(self, x, inner: ModeCoder, predictor: Predictor, model: int) -> None:
        self.mode = Mode(model, restored=True, own_modes=True)
        self.frames = len(x)
        self._coder = RestoredCoder(x, inner, predictor, self.mode)

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        coded = self._coder.code(step, dead_zone)
        return Coded(pack_segments([(self.mode, self.frames, coded.data)]), coded.decoded)


def decode_segments(data, shape, variable: Variable, step, model, dtype, predictors):
    """Inverse of `SegmentedCoder.code`, ``[T, H, W]``.

    Raises
    ------
    ModelError
        If a segment needs a predictor that is not among `predictors`.
    """
    out, at = np.empty(shape, dtype), 0
    for mode, frames, part in read_segments(data):
        if frames < 1 or at + frames > shape[0]:
            raise CorruptStreamError("the segments of a chunk do not add up to its frames")
        if mode.model and mode.model not in predictors:
            raise ModelError(f"the file has frames generated in the mode {mode.name}")
        if mode.model:
            _check(mode, predictors[mode.model])
        out[at : at + frames] = _decode_segment(
            mode, part, (frames, *shape[1:]), variable, step, model, dtype,
            predictors.get(mode.model),
        )  # fmt: skip
        at += frames
    if at != shape[0]:
        raise CorruptStreamError("the segments of a chunk do not add up to its frames")
    return out


def _check(mode: Mode, predictor: Predictor) -> None:
    able = (not mode.restored or predictor.restores) and (
        not mode.spacing or mode.spacing in predictor.spacings
    )
    if not able:
        raise CorruptStreamError(f"its model cannot make frames of the mode {mode.name}")


def _decode_segment(mode: Mode, data, shape, variable, step, model, dtype, predictor):
    parts = Parts.of(mode, shape[0], data)
    if mode.own_modes:
        out = decode_in_modes(parts.volume, shape, variable, step, model, dtype)
    elif parts.keyframes is None:
        out = decode_plain(parts.volume, shape, variable, step, model, dtype)
    else:
        out = _decode_keyed(mode, parts, shape, variable, step, model, dtype, predictor)
    if not mode.restored:
        return out
    return decode_restored(predictor, out, parts.table, mode, step)


def _decode_keyed(mode: Mode, parts: Parts, shape, variable, step, model, dtype, predictor):
    if mode.blockwise:
        (keys, missing), key_step = _own_frames(predictor), KEY_STEP
        if shape[0] != predictor.n_frame:
            raise CorruptStreamError("a generated segment has another length than its model's")
        key_block, block = len(keys), predictor.interpo_rate - 1
    else:
        (keys, missing), key_step = keyframes_of(shape[0], mode.spacing), mode.key_step
        key_block, block = None, mode.spacing - 1
        if not missing:
            raise CorruptStreamError("a segment with keyframes alone")
    out = np.empty(shape, dtype)
    out[keys] = decode_plain(
        parts.keyframes, (len(keys), *shape[1:]), variable, key_step / 100 * step, model, dtype,
        key_block,
    )  # fmt: skip
    residual = decode_plain(
        parts.volume, (len(missing), *shape[1:]), variable, step, model, dtype, block
    )
    if mode.blockwise:
        predicted = predict(predictor, out[keys], step)
    else:
        noise = noise_of(parts.key_noise, step)
        predicted = fill_in(predictor, out[keys], shape[0], mode.spacing, noise, step)
    out[missing] = predicted + residual
    return out


def _own_frames(predictor: Predictor) -> tuple[list[int], list[int]]:
    keys = list(predictor.keyframes)
    return keys, [t for t in range(predictor.n_frame) if t not in keys]
