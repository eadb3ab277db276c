"""Predictive coding of integer volumes: levels of radar, 8-bit and packed data.

Every level is predicted from decoded ones in its own frame and the two frames before: a blend of
simple predictors, one that learns online and one by local least squares (`least_squares`), each
weighted by how well it did close by (Seemann and Tischer 1997), less the mean error in the same texture. The error's zero flag, sign, exponent and
leading bits go through adaptive probabilities in several contexts, mixed by their logits. All but
the least squares is integer arithmetic: encoder and decoder are the same kernel and agree on every machine.
"""

from __future__ import annotations

from ctypes import Structure, byref, c_int64, c_void_p

import numpy as np

from caesar_freq.entropy.binary import AT, finish, new_coder, open_coder
from caesar_freq.entropy.least_squares import new_fits
from caesar_freq.entropy.level_kernels import (
    MIX_SETS,
    N_BIAS,
    N_CONTEXTS,
    N_NEIGHBOURS,
    N_NODES,
    N_PREDICTORS,
    ROOM,
    code_frame,
)
from caesar_freq.entropy.logistic import RATES, SQUASH, STRETCH, new_slots
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels import library
from caesar_freq.kernels.memory import flags, zeros

#: Levels are 0 to at most this.
MAX_LEVEL = (1 << 22) - 1

#: Places that are not coded: filled with their prediction, or with levels that the decoder knows.
FILLED, GIVEN = 1, 2

#: Slots per context as a power of two: a few for each level coded, within these limits.
_SLOT_BITS = (12, 18)


class _Frame(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("height", "width", "top", "shift", "slot_count")),
        *((name, c_void_p) for name in (
            "frame", "before", "older", "errors", "errors_before", "skip", "weights", "bias",
            "costs", "mixer", "sums", "fit", "slots", "squash", "stretch", "rates", "state", "data")),
        *((name, c_int64) for name in ("length", "decoding", "fitted")),
    ]  # fmt: skip


class _FramesInC:
    """`code_frame` by the native kernel; what frames share stays where it is."""

    def __init__(
        self, width, top, weights, bias, costs, sums, fit, slots, mixer, state, limit, decoding
    ) -> None:
        self._keep = {"weights": weights, "bias": bias, "costs": costs, "mixer": mixer, "sums": sums,
                      "fit": fit, "slots": slots, "squash": SQUASH, "stretch": STRETCH,
                      "rates": RATES, "state": state}  # fmt: skip
        self._job = _Frame(0, width, top, 64 - (slots.shape[1] - 1).bit_length(), slots.shape[1])
        self._job.decoding, self._job.fitted = decoding, len(fit) > 0
        self._set(self._keep)
        self._limit = limit

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            setattr(self._job, name, array.ctypes.data)

    def __call__(self, frame, before, older, errors, errors_before, skip, data) -> np.ndarray:
        job, y, x = self._job, c_int64(2), c_int64(2)
        job.height = len(frame) - 3
        self._set({"frame": frame, "before": before, "older": older, "errors": errors,
                   "errors_before": errors_before, "skip": skip})  # fmt: skip
        while True:
            job.data, job.length = data.ctypes.data, len(data)
            if library().cf_levels_frame(byref(job), byref(y), byref(x)):
                return data
            if len(data) >= self._limit:
                return data[:0]
            data = np.concatenate([data, np.zeros(len(data) + ROOM, np.uint8)])


def _run(levels, skip, top, state, data, limit, decoding, fitted):
    frames, height, width = levels.shape
    skip = (
        flags(skip).view(np.uint8) if skip.dtype == bool else np.ascontiguousarray(skip, np.uint8)
    )
    weights = np.zeros(N_NEIGHBOURS, np.int64)
    bias = np.zeros((N_BIAS, 2), np.int64)
    costs = np.zeros((2, N_PREDICTORS, width + 4), np.int64)
    sums, fit = new_fits(width if fitted else 0)
    bits = min(max(levels.size.bit_length() + 1, _SLOT_BITS[0]), _SLOT_BITS[1])
    slots = new_slots(N_CONTEXTS, bits)
    mixer = np.full((MIX_SETS * N_NODES, N_CONTEXTS), (1 << 16) * 3 // 10, np.int64)
    shared = top, weights, bias, costs, sums, fit, slots, mixer, state
    if library() is None:

        def code(*arrays):
            return code_frame(*arrays[:-1], *shared, arrays[-1], limit, decoding)
    else:
        code = _FramesInC(width, *shared, limit, decoding)
    # the last three frames and the errors of two, by turns
    last, wrong = (list(np.zeros((n, height + 3, width + 4), np.int64)) for n in (3, 2))
    for t in range(frames):
        frame, before, older = (last[(t - n) % 3] for n in range(3))
        errors, errors_before = wrong[t % 2], wrong[t % 2 - 1]
        frame[...] = before
        frame[2:-1, 2:-2] = levels[t]
        errors[...] = 0
        data = code(frame, before, older, errors, errors_before, skip[t], data)
        if not decoding and not len(data):
            return None
        levels[t] = frame[2:-1, 2:-2]
        frame[-1] = frame[-2]
        frame[0] = frame[1] = frame[2]
    return data


def encode_levels(
    levels: np.ndarray, skip: np.ndarray, top: int, limit: int, fitted: bool = True
) -> bytes | None:
    """Code levels ``[T, H, W]`` (integers, 0 to `top`).

    Parameters
    ----------
    skip : bool or uint8 [T, H, W]
        0 where they are coded, else `FILLED` (the place gets the level that a decoder will find) or
        `GIVEN`.
    fitted : bool
        With a predictor by least squares.

    Returns None when more than about `limit` bytes would be needed.
    """
    state = new_coder()
    data = _run(levels, skip, top, state, np.zeros(1 << 16, np.uint8), limit, False, fitted)
    return None if data is None else finish(state, np.concatenate([data, np.zeros(8, np.uint8)]))


def decode_levels(
    data: bytes,
    skip: np.ndarray,
    top: int,
    given: np.ndarray | None = None,
    fitted: bool = True,
) -> np.ndarray:
    """Inverse of `encode_levels`: int32 ``[T, H, W]``; `given` holds the levels that are known."""
    levels = zeros(skip.shape, np.int32)
    if given is not None:
        levels[...] = given
    padded = np.frombuffer(data.ljust(4, b"\0"), np.uint8).copy()
    state = open_coder(padded)
    _run(levels, skip, top, state, padded, 0, True, fitted)
    if int(state[AT]) < len(data):
        raise CorruptStreamError("the levels have a wrong length")
    return levels
