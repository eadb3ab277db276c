"""Frames that training has already seen, found by their hashes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np


def seen_in_training(pieces: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many frames of val and of test occur in train with the very same values.

    Parameters
    ----------
    pieces : mapping of "train", "val", "test" to arrays [V, S, T, H, W]

    Returns
    -------
    dict of str to int
        Counts for "val" and "test". Constant frames (all missing, no rain) do not count.
    """
    known = _frame_hashes(pieces["train"])
    return {
        name: sum(digest in known for digest in _frame_hashes(pieces[name]).elements())
        for name in ("val", "test")
    }


def _frame_hashes(array: np.ndarray) -> Counter[tuple[int, bytes]]:
    hashes: Counter[tuple[int, bytes]] = Counter()
    for v, variable in enumerate(array):
        for frame in variable.reshape(-1, *variable.shape[-2:]):
            raw = np.ascontiguousarray(frame).tobytes()
            if raw != raw[: frame.itemsize] * frame.size:
                hashes[v, hashlib.blake2b(raw, digest_size=16).digest()] += 1
    return hashes
