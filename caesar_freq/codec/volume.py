"""One volume ``[T, H, W]`` under one transform, step and model: to bytes and back.

Volumes are normalised, ``(value - offset) / range`` of their variable, and so is the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.quantise import (
    N_CLASSES,
    dequantise,
    fit_alphas,
    frequency_classes,
    quantise,
    squared_error,
)
from caesar_freq.entropy.coder import (
    COLLECT,
    DECODE,
    ENCODE,
    MAX_OPERATIONS,
    run_block,
    shells_used,
)
from caesar_freq.entropy.context import LOG_TABLE, N_FEATURES, plane_features, shells
from caesar_freq.entropy.rans import LOWER, write
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.blocks import Transform

_NO_OPERATIONS = np.zeros(1, np.uint16)
_NO_WORDS = np.zeros(1, np.uint32)
_NO_ROWS = np.zeros((1, N_FEATURES), np.uint8)
_NO_VALUES = np.zeros(1, np.int32)


class LevelOverflow(Exception):
    """A coefficient is too many steps large; the volume has to be stored losslessly."""


@dataclass
class VolumeCode:
    """What `encode_levels` made of a volume.

    Attributes
    ----------
    data : bytes
        Everything `decode_volume` needs besides transform, step and model.
    levels, bins : int32 and uint8 arrays
        Quantised levels and their scale bins, for `reconstruct`.
    """

    data: bytes
    levels: np.ndarray
    bins: np.ndarray


class _Blocks:
    """The arguments of `run_block` that a volume's time blocks share."""

    def __init__(self, transform: Transform, model: FrequencyModel) -> None:
        nt, bt, bh, bw, nh, nw = transform.planes_shape
        self.shape = transform.planes_shape
        self.time_mask = transform.time.mask
        self.space_masks = (transform.rows.mask, transform.columns.mask)
        starts, positions = shells(bt, bh, bw)
        planes = plane_features(bt, bh, bw, transform.cell, transform.time_block)
        self.static = (starts, positions, planes)
        self.model = model
        self.n_shells = len(starts) - 1
        margins = (bt + 3, bh + 3, bw + 3, nh + 2, nw + 2)
        self.current, self.previous = (np.zeros(margins, np.int32) for _ in range(2))

    def run(self, action, t, q, bins, used, starts=_NO_OPERATIONS, counts=_NO_OPERATIONS, n_ops=0,
            words=_NO_WORDS, state=LOWER, word=0, rows=_NO_ROWS, values=_NO_VALUES):  # fmt: skip
        self.current[:] = 0
        tables = self.model.tables
        result = run_block(
            action, q, bins, used, self.current, self.previous, t == 0, *self.static,
            (self.time_mask[t], *self.space_masks), LOG_TABLE, self.model.network,
            (tables.cumulative, tables.escape, tables.coarse),
            starts, counts, n_ops, words, np.uint64(state), word, rows, values,
        )  # fmt: skip
        self.current, self.previous = self.previous, self.current
        return result


def _end_prediction(used: np.ndarray, before: np.ndarray | None, y: int, x: int) -> int:
    total, weight = 0, 0
    if x:
        total, weight = total + used[y, x - 1], weight + 1
    if y:
        total, weight = total + used[y - 1, x], weight + 1
    if before is not None:
        total, weight = total + 2 * before[y, x], weight + 2
    return int(total) // weight if weight else 0


def _end_residuals(used: list[np.ndarray]) -> np.ndarray:
    """Ends of all cells as differences to their prediction from decoded neighbours."""
    residuals, before = [], None
    for block in used:
        predicted = np.zeros_like(block)
        for y in range(block.shape[0]):
            for x in range(block.shape[1]):
                predicted[y, x] = _end_prediction(block, before, y, x)
        residuals.append(block - predicted)
        before = block
    return np.array(residuals, np.int32).ravel()


def _ends_from_residuals(residuals: np.ndarray, shape: tuple, n_shells: int) -> list[np.ndarray]:
    used, before = [], None
    for block in residuals.reshape(shape):
        ends = np.zeros(block.shape, np.int32)
        for y in range(block.shape[0]):
            for x in range(block.shape[1]):
                ends[y, x] = block[y, x] + _end_prediction(ends, before, y, x)
        if ends.min() < 0 or ends.max() > n_shells:
            raise CorruptStreamError("an end-of-block value lies outside the block")
        used.append(ends)
        before = ends
    return used


def encode_levels(
    q: np.ndarray, alphas: np.ndarray, transform: Transform, model: FrequencyModel
) -> VolumeCode:
    """Code quantised levels `q` (int32, `Transform.planes_shape`)."""
    blocks = _Blocks(transform, model)
    nt = q.shape[0]
    bins = np.zeros(q.shape, np.uint8)
    used = [shells_used(q[t]) for t in range(nt)]
    capacity = MAX_OPERATIONS * transform.n_coefficients
    starts, counts = np.empty(capacity, np.uint16), np.empty(capacity, np.uint16)
    n_ops = 0
    for t in range(nt):
        n_ops, _, _ = blocks.run(ENCODE, t, q[t], bins[t], used[t], starts, counts, n_ops)
    words = np.empty(n_ops // 2 + 2, np.uint32)
    state, n_words = write(starts, counts, n_ops, words)
    end_of_block = encode_ints(_end_residuals(used), -blocks.n_shells, blocks.n_shells)
    head = bytes([1, *alphas.tolist()]) if alphas.any() else b"\0"
    head += varint(len(end_of_block))
    stream = np.uint64(state).astype("<u8").tobytes() + words[:n_words].astype("<u4").tobytes()
    if n_ops == 0:
        stream = b""
    return VolumeCode(head + end_of_block + stream, q, bins)


def decode_volume(
    data: bytes, step: float, transform: Transform, model: FrequencyModel, dtype: type
) -> np.ndarray:
    """Inverse of `encode_levels` and the quantiser: the volume ``[T, H, W]`` in `dtype`.

    Raises
    ------
    CorruptStreamError
        If `data` is not a whole stream for this transform and model.
    """
    reader = Reader(data)
    alphas = np.zeros(N_CLASSES, np.int64)
    if reader.byte():
        alphas[:] = list(reader.take(N_CLASSES))
    end_of_block = reader.take(reader.varint())
    stream = reader.rest()
    blocks = _Blocks(transform, model)
    nt, *_, nh, nw = blocks.shape
    residuals = decode_ints(end_of_block, nt * nh * nw, -blocks.n_shells, blocks.n_shells)
    used = _ends_from_residuals(residuals, (nt, nh, nw), blocks.n_shells)
    if stream and (len(stream) < 8 or len(stream) % 4):
        raise CorruptStreamError("the coefficient stream is truncated")
    state = int.from_bytes(stream[:8], "little") if stream else int(LOWER)
    words = np.frombuffer(stream, "<u4", offset=8) if len(stream) > 8 else _NO_WORDS[:0]
    words, word = words.astype(np.uint32), len(words)
    q = np.zeros(blocks.shape, np.int32)
    bins = np.zeros(blocks.shape, np.uint8)
    for t in range(nt):
        _, state, word = blocks.run(
            DECODE, t, q[t], bins[t], used[t], words=words, state=state, word=word
        )
    if int(state) != int(LOWER) or word != 0:
        raise CorruptStreamError("the coefficient stream does not end where its symbols do")
    return reconstruct(q, bins, step, alphas, transform, model, dtype)[0]


def reconstruct(q, bins, step, alphas, transform, model, dtype):
    """Dequantise and transform back; returns the volume and its coefficient planes."""
    planes = np.empty(q.shape, dtype)
    classes = frequency_classes(*q.shape[2:4])
    dequantise(q, bins, step, alphas, classes, model.centroid, planes)
    return transform.inverse(planes), planes


class VolumeEncoder:
    """Codes one volume at any step; the forward transform is done once.

    Parameters
    ----------
    x : float32 or float64 [T, H, W]
    transform : Transform
    model : FrequencyModel
    """

    def __init__(self, x: np.ndarray, transform: Transform, model: FrequencyModel) -> None:
        self.transform, self.model = transform, model
        self.planes = transform.forward(x)
        self.classes = frequency_classes(*self.planes.shape[2:4])
        self.alphas = fit_alphas(self.planes, self.classes)
        self.size = x.size

    def levels(self, step: float, dead_zone: float) -> np.ndarray:
        """Quantised levels; raises LevelOverflow if one is too large."""
        q, fits = quantise(self.planes, step, dead_zone, self.alphas, self.classes)
        if not fits:
            raise LevelOverflow
        return q

    def encode(self, step: float, dead_zone: float) -> VolumeCode:
        """Quantise and code."""
        return encode_levels(self.levels(step, dead_zone), self.alphas, self.transform, self.model)

    def coefficient_error(self, code: VolumeCode, step: float) -> float:
        """Sum of squared coefficient errors of `code`: by Parseval that of the values."""
        planes = np.empty_like(self.planes)
        dequantise(
            code.levels, code.bins, step, self.alphas, self.classes, self.model.centroid, planes
        )
        return squared_error(self.planes, planes)

    def simulate(self, step: float, dead_zone: float) -> np.ndarray:
        """What a decoder would return, ``[T, H, W]``, without entropy coding."""
        code = self.encode(step, dead_zone)
        return reconstruct(
            code.levels, code.bins, step, self.alphas, self.transform, self.model, self.planes.dtype
        )[0]


def training_rows(
    x: np.ndarray,
    step: float,
    transform: Transform,
    model: FrequencyModel,
    dead_zone: float,
    rng: np.random.Generator,
    n: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Contexts and levels exactly as the coder meets them, for phase 1.

    Parameters
    ----------
    x : float32 [T, H, W]
        Normalised volume.
    step, dead_zone : float
        Quantisation step and threshold in steps.
    model : FrequencyModel
        Any model: contexts do not depend on its network.
    rng, n
        At most `n` rows are drawn without replacement.

    Returns
    -------
    features : uint8 [m, 24]
    levels : int32 [m]
    values_per_row : float
        Coded coefficients for each row returned; 0 if nothing is coded.
    """
    encoder = VolumeEncoder(x, transform, model)
    q = encoder.levels(step, dead_zone)
    blocks = _Blocks(transform, model)
    bins = np.zeros(q.shape[1:], np.uint8)
    parts, total = [], 0
    capacity = int(np.prod(q.shape[1:]))
    rows, values = np.empty((capacity, N_FEATURES), np.uint8), np.empty(capacity, np.int32)
    per_block = -(-n * 2 // q.shape[0])
    for t in range(q.shape[0]):
        used = shells_used(q[t])
        found, _, _ = blocks.run(COLLECT, t, q[t], bins, used, rows=rows, values=values)
        total += found
        kept = np.sort(rng.permutation(found)[:per_block])
        parts.append((rows[kept], values[kept], np.full(len(kept), found / max(1, len(kept)))))
    features, levels, weights = (np.concatenate(part) for part in zip(*parts))
    if not total:
        return features, levels, 0.0
    # blocks were capped alike: thin those out that stand for fewer coefficients a row
    keep = np.flatnonzero(rng.random(len(weights)) < weights / weights.max())[: max(n, 1)]
    return features[keep], levels[keep], total / max(1, len(keep))
