"""Context coding of boolean volumes (land, clouds, radar coverage).

A frame equal to the one before costs one flag, a row equal to the same row before another; the
other pixels are coded one by one in the context of eleven neighbours, six in their own frame and
five in the frame before (the template of JBIG, ITU-T T.82, with a reference frame as in JBIG2).
"""

from __future__ import annotations

from ctypes import c_int, c_int64

import numpy as np

from caesar_freq.entropy.binary import AT, code_bit, finish, new_coder, new_contexts, open_coder
from caesar_freq.errors import CorruptStreamError
from caesar_freq.kernels import library, pointer
from caesar_freq.kernels.jit import njit
from caesar_freq.kernels.memory import zeros

_FRAME, _ROW, _PIXEL = 0, 1, 3
_N_CONTEXTS = _PIXEL + (1 << 11)
# The least probable bit costs 11 bits.
_BYTES_PER_BIT = 2


@njit(nogil=True, cache=True)
def _context(frame, before, y, x):
    """Number of the neighbourhood of row `y` in frames with a border of 2."""
    around = before[y - 1, x] + 2 * before[y, x - 1] + 4 * before[y, x] + 8 * before[y, x + 1]
    around += 16 * before[y + 1, x] + 32 * frame[y, x - 1] + 64 * frame[y, x - 2]
    around += 128 * frame[y - 1, x - 1] + 256 * frame[y - 1, x] + 512 * frame[y - 1, x + 1]
    return around + 1024 * frame[y - 1, x + 2]


@njit(nogil=True, cache=True)
def _equal_rows(frame, before, first, end):
    for y in range(first, end):
        for x in range(frame.shape[1]):
            if frame[y, x] != before[y, x]:
                return 0
    return 1


@njit(nogil=True, cache=True)
def _code_frame(frame, before, contexts, state, data, decoding):
    """Code or fill in `frame`; both frames are uint8 with a border of 2 zeros."""
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


def _frame_coder():
    """`_code_frame`, in C where the kernels are built."""
    kernels = library()
    if kernels is None:
        return _code_frame

    def code_frame(frame, before, contexts, state, data, decoding) -> None:
        pointers = [pointer(a) for a in (frame, before, contexts, state, data)]
        sizes = [c_int64(n) for n in (len(data), *frame.shape)]
        kernels.cf_mask_frame(*pointers, *sizes, c_int(decoding))

    return code_frame


def _run(mask: np.ndarray, state: np.ndarray, data: np.ndarray, decoding: bool) -> None:
    """Code a mask, or fill it in."""
    contexts, code_frame = new_contexts(_N_CONTEXTS), _frame_coder()
    padded = (mask.shape[1] + 4, mask.shape[2] + 4)
    before = np.zeros(padded, np.uint8)
    for plane in mask:
        frame = np.zeros(padded, np.uint8)
        inside = frame[2:-2, 2:-2]
        if not decoding:
            inside[...] = plane
        code_frame(frame, before, contexts, state, data, decoding)
        if decoding:
            plane[...] = inside
        before = frame


def encode_mask(mask: np.ndarray) -> bytes:
    """Code a boolean array ``[T, H, W]``; its shape is not part of the bytes."""
    frames, height, _ = mask.shape
    n_bits = mask.size + frames * (height + 1)
    data = zeros(_BYTES_PER_BIT * n_bits + 8, np.uint8)
    state = new_coder()
    _run(mask, state, data, False)
    return finish(state, data)


def decode_mask(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `encode_mask`.

    Raises
    ------
    CorruptStreamError
        If `data` goes on after the last pixel.
    """
    mask = zeros(shape, bool)
    padded = np.frombuffer(data.ljust(4, b"\0"), np.uint8).copy()
    state = open_coder(padded)
    _run(mask, state, padded, True)
    if int(state[AT]) < len(data):
        raise CorruptStreamError("the mask of missing values has a wrong length")
    return mask
