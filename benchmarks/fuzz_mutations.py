"""Damaged streams: what is done to valid ones, and what a decoder may make of it.

With and without checksums put right: only then do the inner decoders see the damage.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
from fuzz_corpus import Parts, Still, corpus

import caesar_freq
from caesar_freq.codec.chunks import chunk_count, five_dimensional
from caesar_freq.codec.header import MODES, Header
from caesar_freq.codec.packing import varint
from caesar_freq.errors import CorruptStreamError, ModelError

#: Streams whose header announces more than this are not decoded, only read by `info`.
LARGEST_BYTES = 64 << 20
#: Bytes of variable-length integers and of plain ones at their extremes.
_EXTREMES = (b"\0", b"\x7f", b"\x80\x01", b"\xff" * 4 + b"\x07", b"\xff" * 4 + b"\x0f",
             b"\xff" * 8 + b"\x7f", b"\xff" * 9, b"\x80" * 10, b"\0" * 8, b"\xff\xff\xff\x7f",
             b"\0\0\0\x80", b"\0\0\0\0\0\0\xf0\x7f", b"\0\0\0\0\0\0\xf8\x7f")  # fmt: skip


def regroup(header: Header, other: Header, rng: np.random.Generator) -> Header:
    """A header that is well-formed but tells something else about the same chunks."""
    shape, known = list(header.shape), header.variables + other.variables
    n_chunks, changed = len(header.chunks), {}
    if header.variables and rng.random() < 0.6:  # parts with transforms of other streams
        cuts = sorted(set(rng.integers(1, n_chunks + 1, int(rng.integers(1, 4))).tolist()))
        changed["runs"] = np.diff([0, *cuts, *([n_chunks] if cuts[-1] < n_chunks else [])]).tolist()
        count = len(changed["runs"])
        changed["variables"] = [known[int(rng.integers(len(known)))] for _ in range(count)]
    if header.variables and rng.random() < 0.3:
        changed["double"] = not header.double
    if rng.random() < 0.3:
        changed["linked"] = not header.linked
    if rng.random() < 0.3:
        changed["mode"] = str(rng.choice(MODES))
    if rng.random() < 0.3:
        changed["dtype"] = other.dtype
    if rng.random() < 0.3 and len(other.variables) == len(header.variables):
        changed["fingerprint"], changed["model"] = other.fingerprint, other.model
    if rng.random() < 0.4:
        axis = int(rng.integers(len(shape)))
        new = max(1, shape[axis] + int(rng.choice([-1, 1, 7, shape[axis]])))
        resized = (*shape[:axis], new, *shape[axis + 1 :])
        whole, now = five_dimensional(resized), five_dimensional(header.shape)
        if chunk_count(whole, header.narrow) == n_chunks and whole[0] == now[0]:
            changed["shape"] = resized
    return replace(header, **changed)


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` with one to three damages, some of them with pieces of `other`."""
    out = bytearray(data)
    for _ in range(1 + int(rng.integers(3))):
        # half of the damage goes where lengths, tables and flags are
        end = len(out) if rng.random() < 0.5 else min(len(out), 40)
        at, length = int(rng.integers(end + 1)), int(rng.geometric(0.15))
        match int(rng.integers(9)):
            case 0 if out:
                out[at % len(out)] ^= 1 << int(rng.integers(8))
            case 1:
                out[at : at + length] = rng.bytes(len(out[at : at + length]))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.bytes(length)
            case 5:
                extreme = _EXTREMES[int(rng.integers(len(_EXTREMES)))]
                out[at : at + (len(extreme) if rng.random() < 0.5 else 1)] = extreme
            case 6:
                place = int(rng.integers(len(other) + 1))
                out[at : at + length] = other[place : place + length]
            case 7:
                out[at : at + length] = bytes([int(rng.choice([0, 255]))]) * length
            case 8 if out:
                out[at % len(out)] = (out[at % len(out)] + int(rng.choice([1, 255]))) & 255
    return bytes(out)


class Cases:
    """The cases by number: the same seed and number give the same bytes."""

    def __init__(self, seed: int, streams: dict[str, bytes] | None = None) -> None:
        self.seed, self.streams = seed, corpus() if streams is None else streams
        self.names = list(self.streams)
        self.parts = {name: Parts.of(data) for name, data in self.streams.items()}

    def case(self, number: int) -> tuple[str, bytes, bool]:
        """(name, stream, whether its checksums are right) of a case."""
        rng = np.random.default_rng([self.seed, number])
        name, other = (self.names[int(rng.integers(len(self.names)))] for _ in range(2))
        data, parts, second = self.streams[name], self.parts[name], self.parts[other]
        way = int(rng.choice(5, p=[0.15, 0.15, 0.5, 0.1, 0.1]))
        if way == 0:
            return f"{name} damaged", mutate(data, self.streams[other], rng), False
        if way == 1:
            # magic and version stay, and the length is that of the body, so that parsing goes on
            start = 4 + (1 if data[4] < 128 else 2 if data[5] < 128 else 3)
            body = mutate(parts.head[start:], second.head[5:], rng)
            head = parts.head[:4] + varint(len(body)) + body
            checked = head + google_crc32c.value(head).to_bytes(4, "little")
            return f"{name} header", checked + b"".join(parts.bodies), True
        bodies = list(parts.bodies)
        at = int(rng.integers(len(bodies)))
        piece = second.bodies[int(rng.integers(len(second.bodies)))]
        if way == 2:
            bodies[at] = mutate(bodies[at], piece, rng)
            return f"{name} chunk", parts.packed(bodies), True
        if way == 4:
            told = replace(parts, header=regroup(parts.header, second.header, rng))
            return f"{name} regrouped", told.packed(bodies), True
        bodies[at] = piece
        return f"{name} with a chunk of {other}", parts.packed(bodies), True

    def run(self, number: int) -> tuple[str, str]:
        """(name, outcome) of a case."""
        name, stream, checked = self.case(number)
        return name, judge(stream, checked, self.streams[name.split()[0]])

    def keep(self, number: int, folder: Path) -> Path:
        """Write the stream of a case, for ``--replay``."""
        path = folder / f"{self.seed}-{number}.cfq"
        path.write_bytes(self.case(number)[1])
        return path


def judge(stream: bytes, checked: bool, unharmed: bytes | None = None) -> str:
    """What a decoder makes of a stream: an outcome that counts, or ``FAILURE: …``."""
    try:
        about = caesar_freq.info(stream)
    except CorruptStreamError:
        about = None
    except Exception as error:
        return f"FAILURE: info raises {type(error).__name__}: {error}"
    if about and about["original_bytes"] > LARGEST_BYTES:
        return "too large to be decoded here"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # damaged numbers overflow as they do
            if len(stream) % 4 == 0:  # random access takes its own way to the chunks
                part = caesar_freq.decode(stream, columns=0, generator=Still(), threads=1)
            decoded = caesar_freq.decode(stream, generator=Still(), threads=1)
    except CorruptStreamError:
        return "CorruptStreamError"
    except ModelError:
        return "ModelError"
    except Exception as error:
        return f"FAILURE: decode raises {type(error).__name__}: {error}"
    header, _ = Header.unpack(stream)
    if decoded.shape != header.shape or decoded.dtype != header.dtype:
        return f"FAILURE: {decoded.dtype} {decoded.shape} instead of {header.dtype} {header.shape}"
    if len(stream) % 4 == 0 and not np.array_equal(part, decoded[..., :1], equal_nan=True):
        return "FAILURE: a part differs from the whole"
    if not checked and stream != unharmed:
        return "FAILURE: damage went unnoticed"
    return "decoded"
