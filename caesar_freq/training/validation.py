"""What a generative model saves on validation blocks, in bytes that were really coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.generated import make_coder
from caesar_freq.codec.header import Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.segments import STUDENT, Mode
from caesar_freq.data.blocks import BlockSampler
from caesar_freq.models.conditions import filled
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import Predictor

#: Errors at which models are compared: where networks pay, and where they hardly do.
SELECTION_NRMSE = (2e-2, 5e-3)
#: Steps at which blocks are coded without networks, for the bytes at any error between.
PLAIN_STEPS = tuple(float(s) for s in np.geomspace(4e-3, 0.4, 8))
_BLOCKS = 3
#: Keeps ratios finite where the baseline is exact.
_TINY = 1e-12
_VARIABLE = Variable(0.0, 1.0, kind="lot")


@dataclass
class Point:
    """A block coded without networks at the step that gives a wanted error.

    Attributes
    ----------
    block, decoded : float32 array [T, H, W]
    step : float
        Normalised.
    n_bytes : int
    error : float
        RMSE of `decoded`.
    """

    block: np.ndarray
    decoded: np.ndarray
    step: float
    n_bytes: int
    error: float


class PlainCurve:
    """Bytes of a block ``[T, H, W]`` without networks at any error, from a few steps coded."""

    def __init__(self, block: np.ndarray, model: FrequencyModel) -> None:
        self.block, self.model = block, model
        self._coder = PlainCoder(block, _VARIABLE, model, refined=True)
        points = [self.at_step(step) for step in PLAIN_STEPS]
        # a coarser step that errs no more has nothing left to leave out
        self._errors = np.maximum.accumulate([max(p.error, _TINY) for p in points])
        self._bytes = np.array([p.n_bytes for p in points])

    def at_step(self, step: float) -> Point:
        """The block coded at `step`."""
        coded = self._coder.code(step, self.model.dead_zone_at(step / 3.5))
        return Point(self.block, coded.decoded, step, len(coded.data),
                     rmse(coded.decoded, self.block))  # fmt: skip

    def at_error(self, error: float) -> Point:
        """The block coded at the step that gives about `error`."""
        place = np.interp(np.log(error), np.log(self._errors), np.log(PLAIN_STEPS))
        return self.at_step(float(np.exp(place)))

    def bytes_at(self, error: float) -> float:
        """Bytes at an error, interpolated in logarithms."""
        log = np.interp(np.log(max(error, _TINY)), np.log(self._errors), np.log(self._bytes))
        return float(np.exp(log))


class Validation:
    """Fixed validation blocks, coded for real.

    Parameters
    ----------
    paths : sequence of paths
    layout : Layout
    model : FrequencyModel
    tile, seed : int
    """

    def __init__(self, paths: Sequence[Path], layout: Layout, model: FrequencyModel, tile: int,
                 seed: int) -> None:  # fmt: skip
        sampler = BlockSampler(paths, layout.n_frame, tile, seed)
        self.layout, self.model = layout, model
        self.curves = [PlainCurve(sampler.sample(i, 1)[0], model) for i in range(_BLOCKS)]
        self.points = [(curve, curve.at_error(e)) for curve in self.curves for e in SELECTION_NRMSE]

    def metrics(self, predictor: Predictor) -> dict[str, float]:
        """What the history records of a model.

        Returns
        -------
        dict
            ``val_restored_ratio`` and ``val_generated_ratio``: geometric means of the bytes of
            restored blocks, and of keyframes with generated frames between them, over plain bytes
            at the same error. ``val_byte_ratio``: the same with the smaller of the two for every
            block. ``val_rmse_ratio``: error of restored and of missing frames over that of the
            decoded ones and of the linear estimates. ``val_spectrum_error``: mean deviation of the
            logarithm of their energy at small scales from that of the truth.
        """
        rows = [self._point(predictor, curve, point) for curve, point in self.points]
        restored, generated, errors, spectra = np.array(rows).T
        return {
            "val_byte_ratio": _geometric_mean(np.minimum(restored, generated)),
            "val_restored_ratio": _geometric_mean(restored),
            "val_generated_ratio": _geometric_mean(generated),
            "val_rmse_ratio": _geometric_mean(errors),
            "val_spectrum_error": float(spectra.mean()),
        }

    def _point(self, predictor: Predictor, curve: PlainCurve, point: Point) -> tuple[float, ...]:
        noise = np.full((1, len(point.block)), point.error, np.float32)
        restored = predictor.restore(point.decoded[None], noise, point.step)[0]
        modes = Mode(STUDENT, restored=True), Mode(STUDENT, self.layout.interpo_rate)
        by_bytes = [self._byte_ratio(predictor, curve, point, mode) for mode in modes]
        filled_in, linear = self._missing(predictor, point)
        truth = point.block[list(self.layout.missing)]
        errors = rmse(restored, point.block) / max(point.error, _TINY)
        errors *= rmse(filled_in, truth) / max(rmse(linear, truth), _TINY)
        spectrum = (small_scales(restored, point.block) + small_scales(filled_in, truth)) / 2
        return *by_bytes, np.sqrt(errors + _TINY), spectrum

    def _byte_ratio(self, predictor, curve: PlainCurve, point: Point, mode: Mode) -> float:
        """Bytes in a mode over plain bytes at the same error."""
        predictors = {STUDENT: predictor}
        coder = make_coder(point.block, _VARIABLE, self.model, mode, predictors, refined=True)
        coded = coder.code(point.step, self.model.dead_zone_at(point.step / 3.5))
        # the curve tells how bytes go with the error, the point itself where it lies
        plain = curve.bytes_at(rmse(coded.decoded, point.block)) / curve.bytes_at(point.error)
        return len(coded.data) / (plain * point.n_bytes)

    def _missing(self, predictor: Predictor, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """Missing frames by the model and by linear estimation, given the plainly decoded keys."""
        missing = list(self.layout.missing)
        noise = np.full((1, len(point.block)), point.error, np.float32)
        noise[:, missing] = np.inf
        by_model = predictor.restore(point.decoded[None], noise, point.step, missing)[0]
        linear = filled(self.layout, predictor.wiener, point.decoded[None], noise)[0, missing]
        return by_model, linear


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    """Root-mean-square difference."""
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def small_scales(frames: np.ndarray, truth: np.ndarray) -> float:
    """``|ln|`` of the energy ratio of frames ``[M, H, W]`` at the upper half of the wavenumbers."""

    def energy(x: np.ndarray) -> float:
        amplitude = np.fft.rfft2(x.astype(np.float64), norm="ortho")
        ky, kx = np.fft.fftfreq(x.shape[1])[:, None], np.fft.rfftfreq(x.shape[2])
        return float((np.abs(amplitude) ** 2)[:, np.hypot(ky, kx) > 0.25].sum())

    return abs(np.log((energy(frames) + _TINY) / (energy(truth) + _TINY)))


def _geometric_mean(ratios: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(np.maximum(ratios, _TINY)))))
