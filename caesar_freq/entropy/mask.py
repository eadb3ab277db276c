"""Context coding of boolean volumes (land, clouds, radar coverage).

A frame equal to the one before costs one flag, a row equal to the same row before another; the
other pixels are coded one by one in the context of eleven neighbours, six in their own frame and
five in the frame before (the template of JBIG, ITU-T T.82, with a reference frame as in JBIG2).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from caesar_freq.entropy.binary import AT, code_bit, finish, new_coder, new_contexts, open_coder
from caesar_freq.errors import CorruptStreamError

_FRAME, _ROW, _PIXEL = 0, 1, 3
_N_CONTEXTS = _PIXEL + (1 << 11)
# The least probable bit costs 11 bits.
_BYTES_PER_BIT = 2


@nb.njit(nogil=True, cache=True)
def _context(frame, before, y, x):
    """Number of the neighbourhood of row `y` in frames with a border of 2."""
    around = before[y - 1, x] + 2 * before[y, x - 1] + 4 * before[y, x] + 8 * before[y, x + 1]
    around += 16 * before[y + 1, x] + 32 * frame[y, x - 1] + 64 * frame[y, x - 2]
    around += 128 * frame[y - 1, x - 1] + 256 * frame[y - 1, x] + 512 * frame[y - 1, x + 1]
    return around + 1024 * frame[y - 1, x + 2]


@nb.njit(nogil=True, cache=True)
def _equal_rows(frame, before, first, end):
    for y in range(first, end):
        for x in range(frame.shape[1]):
            if frame[y, x] != before[y, x]:
                return 0
    return 1


@nb.njit(nogil=True, cache=True)
def _code_frame(frame, before, contexts, state, data, decoding):
    """Code or fill in `frame`; both frames are int64 with a border of 2 zeros."""
    height, width = frame.shape
    same = 0 if decoding else _equal_rows(frame, before, 0, height)
    if code_bit(same, _FRAME, contexts, state, data, decoding):
        frame[:] = before
        return
    above = 1
    for y in range(2, height - 2):
        same = 0 if decoding else _equal_rows(frame, before, y, y + 1)
        above = code_bit(same, _ROW + above, contexts, state, data, decoding)
        if above:
            frame[y] = before[y]
            continue
        for x in range(2, width - 2):
            context = _PIXEL + _context(frame, before, y, x)
            frame[y, x] = code_bit(frame[y, x], context, contexts, state, data, decoding)


def _run(mask: np.ndarray, state: np.ndarray, data: np.ndarray, decoding: bool) -> None:
    contexts = new_contexts(_N_CONTEXTS)
    padded = (mask.shape[1] + 4, mask.shape[2] + 4)
    before = np.zeros(padded, np.int64)
    for plane in mask:
        frame = np.zeros(padded, np.int64)
        frame[2:-2, 2:-2] = plane
        _code_frame(frame, before, contexts, state, data, decoding)
        plane[:] = frame[2:-2, 2:-2]
        before = frame


def encode_mask(mask: np.ndarray) -> bytes:
    """Code a boolean array ``[T, H, W]``; its shape is not part of the bytes."""
    frames, height, _ = mask.shape
    n_bits = mask.size + frames * (height + 1)
    data = np.zeros(_BYTES_PER_BIT * n_bits + 8, np.uint8)
    state = new_coder()
    _run(mask.copy(), state, data, False)
    return finish(state, data)


def decode_mask(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `encode_mask`.

    Raises
    ------
    CorruptStreamError
        If `data` goes on after the last pixel.
    """
    mask = np.zeros(shape, bool)
    padded = np.frombuffer(data.ljust(4, b"\0"), np.uint8).copy()
    state = open_coder(padded)
    _run(mask, state, padded, True)
    if int(state[AT]) < len(data):
        raise CorruptStreamError("the mask of missing values has a wrong length")
    return mask
