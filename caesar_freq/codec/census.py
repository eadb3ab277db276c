"""What the bytes of a chunk are spent on, read from the bytes themselves."""

from __future__ import annotations

from collections import Counter

from caesar_freq.codec.layout import (
    CONSTANT,
    FINE,
    LATTICE,
    LINKED,
    LOSSLESS,
    MODES,
    N_BETAS,
    N_CLASSES,
    PARTIAL,
    PARTS,
    PREDICTED,
    VOLUME,
    ZFP,
)
from caesar_freq.codec.packing import Reader
from caesar_freq.codec.segments import Mode, Parts, read_segments

_WHOLE = {
    CONSTANT: "constant",
    LOSSLESS: "lossless",
    LATTICE: "lattice",
    PARTIAL: "partial_lattice",
    ZFP: "zfp_coefficients",
}
#: Modes of chunks that are decoded without the variable's step and range, and without a model.
WITHOUT_VARIABLE = {"lossless", *_WHOLE.values()}


def chunk_census(body: bytes, frames: int) -> tuple[Counter, Counter]:
    """Bytes by stream, and frames by mode, of a chunk of `frames` frames.

    Raises
    ------
    CorruptStreamError
        If the chunk ends too early.
    """
    reader = Reader(body)
    streams: Counter = Counter(header=1)
    flags = reader.byte()
    if flags == LOSSLESS:
        return Counter(header=1, lossless=reader.left), Counter(lossless=frames)
    for flag, name in PARTS:
        if flags & flag:
            before = reader.left
            reader.take(reader.varint())
            streams[name] += before - reader.left
    kind = flags & ~sum(flag for flag, _ in PARTS)
    if kind in _WHOLE:
        streams[_WHOLE[kind]] += reader.left
        return streams, Counter({_WHOLE[kind]: frames})
    if kind == VOLUME:
        return streams + _volume(reader.rest()), Counter(plain=frames)
    if kind == LINKED:
        used = int.from_bytes(reader.take(-(-N_BETAS // 8)), "big").bit_count()
        reader.take(used)
        streams["links"] += -(-N_BETAS // 8) + used
        return streams + _volume(reader.rest()), Counter(linked=frames)
    if kind == MODES:
        return streams + _in_own_modes(reader.rest()), Counter(own_modes=frames)
    modes: Counter = Counter()
    before = reader.left
    data = reader.rest()
    for mode, length, part in read_segments(data):
        before -= len(part)
        streams += _segment(mode, length, part)
        modes[mode.name] += length
    streams["header"] += before
    return streams, modes


def _volume(data: bytes) -> Counter:
    reader = Reader(data)
    flags = reader.byte()
    if flags & PREDICTED:
        reader.take(N_CLASSES)
    low = len(reader.take(reader.varint())) if flags & FINE else 0
    reader.take(reader.varint())
    ends = len(data) - reader.left - low
    found = Counter(end_of_block=ends, coefficients=reader.left)
    return found + Counter(low_bits=low)


def _in_own_modes(data: bytes) -> Counter:
    reader = Reader(data)
    reader.take(reader.varint())
    return Counter(temporal_modes=len(data) - reader.left) + _volume(reader.rest())


def _segment(mode: Mode, frames: int, data: bytes) -> Counter:
    parts = Parts.of(mode, frames, data)
    if parts.keyframes is None:
        volume = _in_own_modes if mode.own_modes else _volume
        return Counter(restoration=len(parts.table)) + volume(parts.volume)
    keyframes = len(data) - len(parts.table) - len(parts.volume)
    return Counter(restoration=len(parts.table), keyframes=keyframes, residuals=len(parts.volume))
