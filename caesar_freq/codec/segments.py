"""Runs of frames in a chunk, each in its own mode; read without decoding anything.

A chunk of kind ``SEGMENTS`` holds their number, then each: a mode (`Mode.pack`), its frames and the
length of its data as varints, and the data. Data begins with the table of restoration (noise and
weight of every window) if frames are restored, goes on with what keyframes need if there are any,
and ends with the coded volume, which begins with its own temporal modes if it has any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import CorruptStreamError

PLAIN, STUDENT, TEACHER = 0, 1, 2
#: Models by number, as predictors call their kind.
KINDS = {STUDENT: "student", TEACHER: "teacher"}
_KEYED, _RESTORED, _OWN = 0x10, 0x20, 0x40
#: Frames that share a noise level and a weight of restoration.
WINDOW = 16
#: Keyframes are coded at this part of the step in hundredths, as they also serve the frames between
#: them (the optimum measured on simulated turbulence).
KEY_STEP = 62


@dataclass(frozen=True)
class Mode:
    """How a segment is coded.

    Attributes
    ----------
    model : int
        `PLAIN` (no network), `STUDENT` or `TEACHER`. A mode of a model that is neither keyed nor
        restored is of the first kind there was: whole blocks with the layout of their predictor.
    spacing : int
        Distance of keyframes between which frames are filled in; 0: all frames are coded.
    key_step : int
        Step of keyframes in hundredths of that of the residual.
    restored : bool
        Whether the decoded frames go through the network.
    own_modes : bool
        Whether restored frames are coded in their own temporal modes (`coders.ModeCoder`).
    """

    model: int = PLAIN
    spacing: int = 0
    key_step: int = KEY_STEP
    restored: bool = False
    own_modes: bool = False

    @property
    def blockwise(self) -> bool:
        """Whether it is of the first kind there was."""
        return bool(self.model) and not self.spacing and not self.restored

    @property
    def generated(self) -> bool:
        """Whether frames are made from keyframes."""
        return bool(self.spacing) or self.blockwise

    @property
    def name(self) -> str:
        """Name in `info`."""
        if not self.restored:
            return KINDS.get(self.model, "plain")
        by = "restoration" if self.model == STUDENT else "teacher restoration"
        if self.spacing:
            return f"{KINDS[self.model]}+restoration"
        return f"own_modes+{by}" if self.own_modes else f"plain+{by}"

    @property
    def without_restoration(self) -> Mode:
        """The mode of what is decoded before it is restored."""
        return replace(self, restored=False) if self.spacing else Mode()

    def pack(self) -> bytes:
        """Serialise."""
        flags = _KEYED * bool(self.spacing) | _RESTORED * self.restored | _OWN * self.own_modes
        number = self.model | flags
        return bytes([number, self.spacing, self.key_step] if self.spacing else [number])

    @classmethod
    def unpack(cls, reader: Reader) -> Mode:
        """Inverse of `pack`."""
        number = reader.byte()
        model, flags = number & 0xF, number & ~0xF
        known = not flags & ~(_KEYED | _RESTORED | _OWN)
        if model and model not in KINDS or not known or flags and not model:
            raise CorruptStreamError("a segment of frames is not one of this format")
        if flags & _OWN and flags != _OWN | _RESTORED:
            raise CorruptStreamError("a segment has temporal modes but is not restored")
        spacing, key_step = (reader.byte(), reader.byte()) if flags & _KEYED else (0, KEY_STEP)
        if flags & _KEYED and (spacing < 2 or not key_step):
            raise CorruptStreamError("a segment has impossible keyframes")
        return cls(model, spacing, key_step, bool(flags & _RESTORED), bool(flags & _OWN))


def keyframes_of(frames: int, spacing: int) -> tuple[list[int], list[int]]:
    """Numbers of the keyframes and of the frames between them; the last frame is a keyframe."""
    keys = sorted({*range(0, frames, spacing), frames - 1})
    return keys, sorted(set(range(frames)) - set(keys))


def models_in(modes: Iterable[str]) -> set[str]:
    """Kinds of the models that frames in these modes (names) need."""
    found = {kind for kind in KINDS.values() for name in modes if kind in name}
    alone = {Mode(STUDENT, restored=True, own_modes=own).name for own in (False, True)}
    return found | {"student" for name in modes if name in alone}


def pack_segments(segments: list[tuple[Mode, int, bytes]]) -> bytes:
    """Data of a chunk from modes, numbers of frames and data of its segments."""
    out = varint(len(segments))
    for mode, frames, data in segments:
        out += mode.pack() + varint(frames) + varint(len(data)) + data
    return out


def read_segments(data: bytes) -> Iterator[tuple[Mode, int, bytes]]:
    """Inverse of `pack_segments`.

    Raises
    ------
    CorruptStreamError
        If `data` ends too early or goes on.
    """
    reader = Reader(data)
    for _ in range(reader.varint()):
        mode, frames = Mode.unpack(reader), reader.varint()
        yield mode, frames, reader.take(reader.varint())
    if reader.left:
        raise CorruptStreamError("a chunk holds more than its segments")


@dataclass(frozen=True)
class Parts:
    """Data of one segment, apart.

    Attributes
    ----------
    table : bytes
        Of restoration: for each window its noise levels and its weight.
    key_noise : int
        Noise level of keyframes.
    keyframes : bytes
        Their coded volume; None where all frames are coded.
    volume : bytes
        The coded volume of the other frames or of their residual.
    """

    table: bytes
    key_noise: int
    keyframes: bytes | None
    volume: bytes

    @classmethod
    def of(cls, mode: Mode, frames: int, data: bytes) -> Parts:
        """Take the data of a segment of so many frames apart."""
        reader = Reader(data)
        table = reader.take(table_size(mode, frames)) if mode.restored else b""
        noise = reader.byte() if mode.spacing else 0
        keyframes = reader.take(reader.varint()) if mode.generated else None
        return cls(table, noise, keyframes, reader.rest())


def table_size(mode: Mode, frames: int) -> int:
    """Bytes of the table of restoration."""
    return -(-frames // WINDOW) * (3 if mode.spacing else 2)
