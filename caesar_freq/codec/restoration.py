"""Restoration: a network makes better frames of decoded ones, as well as their error allows.

Every window of frames has a row in a table: the level of its error, which the network is told, and
the weight of the network's change that leaves the least squared error, 0 where it would only do
harm. Encoder and decoder call the network in the same way.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.coders import Coded, Predictor
from caesar_freq.codec.segments import WINDOW, Mode, keyframes_of

#: Noise levels are steps times ``2 ** ((byte - 128) / 16)``, 0 for byte 0.
_NOISE_ZERO, _NOISE_UNIT = 128, 16
#: Frames that the network sees at once.
_AT_ONCE = 4 * WINDOW
#: Weights of restoration are bytes over this.
_WEIGHT_UNIT = 64


class RestoredCoder:
    """Any other coder, of whose frames a network makes better ones.

    Parameters
    ----------
    x : float [T, H, W]
    inner : coder
    predictor : Predictor
    mode : Mode
    every : int
        Restore only every so many frames: for a look at what it is worth, not for streams.
    """

    def __init__(self, x, inner, predictor: Predictor, mode: Mode, every: int = 1) -> None:
        self.x, self.inner, self.predictor, self.mode = x, inner, predictor, mode
        self.every = every

    def code(self, step: float, dead_zone: float) -> Coded:
        """Code at a normalised `step`; raises `volume.LevelOverflow`."""
        return self.restored(self.inner.code(step, dead_zone), step)

    def restored(self, coded: Coded, step: float) -> Coded:
        """What becomes of a volume that `inner` coded at `step`."""
        classes = _classes(self.mode, len(self.x))
        table = np.zeros((len(_windows(len(self.x))), classes.max() + 2), np.uint8)
        error = coded.decoded - self.x
        for row, window in zip(table, _windows(len(self.x))):
            for number in np.unique(classes[window]):
                row[number] = noise_byte(error[window][classes[window] == number], step)
        change = _change(self.predictor, coded.decoded, table, classes, step, self.every)
        for row, window in zip(table, _windows(len(self.x))):
            row[-1] = _weight_byte(change[window], error[window])
        decoded = _changed(coded.decoded, change, table)
        return Coded(table.tobytes() + coded.data, decoded)


def _windows(frames: int) -> list[slice]:
    """Frames that share a row of the table of restoration."""
    return [slice(start, min(start + WINDOW, frames)) for start in range(0, frames, WINDOW)]


def _classes(mode: Mode, frames: int) -> np.ndarray:
    """For each frame the column of the table with its noise: keyframes have one of their own."""
    classes = np.full(frames, int(bool(mode.spacing)))
    if mode.spacing:
        classes[keyframes_of(frames, mode.spacing)[0]] = 0
    return classes


def decode_restored(predictor: Predictor, decoded, table: bytes, mode: Mode, step: float):
    """What `RestoredCoder` made of a volume `decoded`."""
    rows = np.frombuffer(table, np.uint8).reshape(len(_windows(len(decoded))), -1)
    if not rows[:, -1].any():
        return decoded
    change = _change(predictor, decoded, rows, _classes(mode, len(decoded)), step)
    return _changed(decoded, change, rows)


def _change(
    predictor: Predictor, decoded, table, classes, step: float, every: int = 1
) -> np.ndarray:
    """What the network would add to `decoded`, float32 ``[T, H, W]``, 0 but for `every` frames."""
    noise = np.array([noise_of(table[t // WINDOW, c], step) for t, c in enumerate(classes)])
    given, noise = decoded.astype(np.float32), noise.astype(np.float32)
    change = np.zeros_like(given)
    for start in range(0, len(given), _AT_ONCE):
        run = slice(start, start + _AT_ONCE)
        frames = given[run]
        wanted = None if every == 1 else list(range(0, len(frames), every))
        restored = predictor.restore(frames[None], noise[None, run], step, wanted)[0]
        change[run][::every] = restored - frames[::every]
    return change


def _changed(decoded: np.ndarray, change: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`decoded` plus `change` times the weight of its window."""
    out = decoded.copy()
    for row, window in zip(table, _windows(len(out))):
        if row[-1]:
            out[window] += out.dtype.type(row[-1] / _WEIGHT_UNIT) * change[window]
    return out


def _weight_byte(change: np.ndarray, error: np.ndarray) -> int:
    """Weight of `change` that leaves the least squared error."""
    change = change.astype(np.float64)
    power = np.vdot(change, change)
    weight = -np.vdot(change, error) / power if power > 0 else 0.0
    return int(np.clip(round(_WEIGHT_UNIT * weight), 0, 255)) if np.isfinite(weight) else 0


def noise_byte(error: np.ndarray, step: float) -> int:
    """Standard deviation of an error in the unit that goes into the stream."""
    rms = float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))
    if not rms > 0:
        return 0
    return int(np.clip(round(_NOISE_ZERO + _NOISE_UNIT * np.log2(rms / step)), 1, 255))


def noise_of(byte: int, step: float) -> float:
    """Inverse of `noise_byte`."""
    return step * 2.0 ** ((int(byte) - _NOISE_ZERO) / _NOISE_UNIT) if byte else 0.0
