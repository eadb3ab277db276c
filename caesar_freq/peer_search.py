"""A peer's best honest setting: its own knob, searched until the measured error meets a target.

For each variable every setting of the peer is tried on the peer's layouts, whole volumes
``[T, H, W]`` and blocks of frames, and the one with the fewest bytes that meets the target is
kept. A layout on which the peer breaks is left out; a slow peer's search ends after its time of the
processor (a busy machine is no drawback to it), with the best found until then. Sections of a variable share the knob, which minimises the bits at an error of the variable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caesar_freq.data.filling import fill_masked
from caesar_freq.errors import CaesarError
from caesar_freq.metrics import to_five_axes, valid_values, variable_ranges
from caesar_freq.peers import Peer, peers

#: Frames in a block, by number in a file of `peer_files`; 0 is the whole volume.
LAYOUTS = (0, 64, 32, 16, 1)

# A search ends when the error is this close under the target or the knob known this well.
_CLOSE = 0.995
_KNOB_RATIO = 1.003
_ROUNDS = 30
_SMALLEST_KNOB, _LARGEST_KNOB = 1e-15, 1e3


class TargetMissedError(CaesarError):
    """No setting of a peer meets the target."""


def in_words(layout: int) -> str:
    """A layout's name."""
    return f"blocks of {layout} frames" if layout else "whole volumes"


@dataclass(frozen=True)
class Setting:
    """How one variable is coded: the peer, the layout, and its knob in units of the range."""

    peer: Peer
    layout: int
    knob: float

    def describe(self) -> dict:
        """Plain types for the record."""
        layout = in_words(self.layout)
        return {"setting": self.peer.setting, "layout": layout, "knob": self.knob}


def largest_knob(
    evaluate: Callable[[float], tuple[float, int]],
    target: float,
    start: float,
    deadline: float = math.inf,
) -> float | None:
    """The knob with the fewest bytes among those tried whose error is at most `target`.

    Parameters
    ----------
    evaluate : callable
        Maps a knob to (measured error, bytes). The error grows with the knob, nearly
        proportionally and not strictly: peers have steps and small dents.
    target, start : float
        Error to stay under; first knob to try.
    deadline : float
        No round but the first starts after this time of the processor (`time.process_time`).

    Returns
    -------
    float or None
        None if no knob meets the target.
    """
    best: tuple[int, float] | None = None
    low = high = None  # (knob, error) that meets the target, that does not
    knob = start
    for _ in range(_ROUNDS):
        error, size = evaluate(knob)
        if error <= target:
            low = (knob, error)
            best = min(best or (size, knob), (size, knob))
            if error >= _CLOSE * target:
                break
        else:
            high = (knob, error)
        if low and high and high[0] / low[0] <= _KNOB_RATIO:
            break
        if time.process_time() > deadline:
            break
        knob = _next_knob(knob, error, target, low, high)
        if not _SMALLEST_KNOB < knob < _LARGEST_KNOB:
            break
    return best and best[1]


def _next_knob(knob, error, target, low, high) -> float:
    """Secant in logarithms; inside a bracket it stays off the ends, so that the bracket shrinks."""
    if not (low and high):
        ratio = target / error if error > 0 and math.isfinite(error) else math.inf
        if low:
            return knob * min(max(0.999 * ratio, 1.02), 4.0)
        return knob * max(min(0.99 * ratio, 0.98), 0.25)
    width = math.log(high[0] / low[0])
    rise = math.log(high[1] / low[1]) if 0 < low[1] and math.isfinite(high[1]) else 0.0
    share = math.log(0.998 * target / low[1]) / rise if rise > 0 else 0.5
    return low[0] * math.exp(width * min(max(share, 0.1), 0.9))


def pieces(volume: np.ndarray, layout: int) -> list[np.ndarray]:
    """Views of what a peer gets of ``[T, H, W]``: blocks of `layout` frames, or all of it."""
    size = layout or len(volume)
    return [volume[start : start + size] for start in range(0, len(volume), size)]


def prepare(array: np.ndarray, fill_value: float | None = None) -> np.ndarray:
    """The array as peers get it: ``[V, S, T, H, W]``, masked values filled smoothly."""
    volumes = to_five_axes(array)
    return fill_masked(volumes, ~valid_values(volumes, fill_value))


def find_settings(
    array: np.ndarray, name: str, criterion: str, target: float, fill_value: float | None = None
) -> list[Setting | None]:
    """The setting with the fewest bytes for each variable.

    Parameters
    ----------
    array : ndarray of 1 to 5 axes, float32 or float64
    name : str
        A peer of `peers.NAMES`.
    criterion : {"nrmse", "max_rel", "lossless"}
    target : float
        NRMSE or largest error over range to stay under; not used when lossless.

    Returns
    -------
    list of Setting or None
        None for a variable whose volumes are all constant: nothing is left to a peer.

    Raises
    ------
    TargetMissedError
        If no setting meets the target for some variable.
    """
    candidates = peers(name, criterion)
    original, filled = to_five_axes(array), prepare(array, fill_value)
    settings = []
    for v, spread in enumerate(variable_ranges(array, fill_value)):
        if criterion == "lossless":
            settings.append(_smallest_lossless(candidates, original[v]))
            continue
        if spread == 0:
            settings.append(None)
            continue
        trial = _Trial(original[v], filled[v], spread, criterion, fill_value)
        for peer in candidates:
            trial.search(peer, target)
        if trial.best is None:
            why = f" ({trial.trouble})" if trial.trouble else ""
            raise TargetMissedError(
                f"{name} meets {criterion} {target:g} at none of its settings for variable {v}{why}"
            )
        settings.append(trial.best)
    return settings


def _smallest_lossless(candidates: list[Peer], volumes: np.ndarray) -> Setting:
    sizes = [sum(len(peer.compress(volume, 0.0, 0.0)) for volume in volumes) for peer in candidates]
    return Setting(candidates[int(np.argmin(sizes))], LAYOUTS[0], 0.0)


class _Trial:
    """One variable, coded and decoded at trial settings."""

    def __init__(self, original, filled, spread, criterion, fill_value) -> None:
        self.volumes, self.spread, self.criterion = filled, spread, criterion
        self.valid = valid_values(original, fill_value)
        self.best: Setting | None = None
        self.best_size = math.inf
        self.trouble = ""

    def search(self, peer: Peer, target: float) -> None:
        """Try one setting of the peer on its layouts; keeps the best that meets the target."""
        start, deadline = peer.guess[self.criterion] * target, time.process_time() + peer.seconds
        for layout in [n for n in peer.layouts if n < self.volumes.shape[1]]:
            try:
                start = self._search(peer, layout, target, start, deadline) or start
            except Exception as error:  # peers break in their own ways: the next layout may do
                self.trouble = f"on {in_words(layout)}: {error}"
            if time.process_time() > deadline:
                self.trouble = self.trouble or f"stopped after {peer.seconds:g} s"
                break

    def _search(self, peer, layout: int, target: float, start: float, deadline: float):
        """One layout; the knob found, which is a good start for the next one."""
        tried: dict[float, tuple[float, int]] = {}

        def evaluate(knob: float) -> tuple[float, int]:
            if knob not in tried:
                tried[knob] = self.measure(Setting(peer, layout, knob))
            return tried[knob]

        if math.isfinite(self.best_size):
            error, size = evaluate(start)
            if self._least_size(size, error, target) > self.best_size:
                return None
        knob = largest_knob(evaluate, target, start, deadline)
        if knob is not None and tried[knob][1] < self.best_size:
            self.best, self.best_size = Setting(peer, layout, knob), tried[knob][1]
        return knob  # layouts differ in bytes far more than in the knob

    def _least_size(self, size: int, error: float, target: float) -> float:
        """Bytes that are left at best at `target`: doubling the error saves 1 bit a value at most."""
        doublings = math.log2(target / error) if 0 < error < target else 0.0
        return size - max(doublings, 0.0) * self.volumes.size / 8

    def measure(self, setting: Setting) -> tuple[float, int]:
        """(error relative to the range, bytes) after decoding."""
        squares, worst, size = 0.0, 0.0, 0
        for volume, valid in zip(self.volumes, self.valid, strict=True):
            decoded, coded = self._round_trip(volume, setting)
            error = np.abs(volume.astype(np.float64) - decoded)[valid] / self.spread
            squares += float(np.sum(np.square(error)))
            # not max(worst, new): that would lose a nan
            worst = float(np.max(error, initial=worst))
            size += coded
        rms = math.sqrt(squares / max(int(self.valid.sum()), 1))
        return (rms if self.criterion == "nrmse" else worst), size

    def _round_trip(self, volume: np.ndarray, setting: Setting) -> tuple[np.ndarray, int]:
        decoded, size = np.empty_like(volume), 0
        parts = pieces(volume, setting.layout)
        out = pieces(decoded, setting.layout)
        for part, place in zip(parts, out, strict=True):
            if part.min() == part.max():
                place[...] = part
                size += part.itemsize
                continue
            data = setting.peer.compress(part, setting.knob, self.spread)
            place[...] = setting.peer.decompress(data, part.shape, part.dtype)
            size += len(data)
        return decoded, size
