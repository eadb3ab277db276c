"""Which chunks of a variable the encoder links to the section before."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from caesar_freq.codec.chunk import Chunk, Written
from caesar_freq.codec.layout import LINKED, VOLUME, chunk_kind
from caesar_freq.codec.linked import SectionCoder, may_link
from caesar_freq.codec.volume import LevelOverflow
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.kernels.memory import copied

#: Part of the estimated bits that a link has to save.
_WORTH = 0.01


def linked_coders(
    chunks: Sequence[Chunk], plain: dict, step: float, dead_zone: float, dependent: bool = True
) -> dict:
    """Coders and kinds of all `chunks` with links where they pay; none if they hardly pay at all.

    Parameters
    ----------
    chunks : sequence of Chunk
        Of one variable.
    plain : dict of (coder, kind)
        By ``id`` of the chunk; chunks without a coder are constant. Its `encoder` is used.
    step, dead_zone : float
        Quantiser at which it is judged.
    dependent : bool
        Whether sections may use the dependent quantiser.
    """
    coders = {n: plain[id(c)][0] for n, c in enumerate(chunks) if id(c) in plain}
    before = {n: m for n, m in _chunk_before(chunks).items() if n in coders and m in coders}
    if not before:
        return {}

    def encoder(number: int) -> VolumeEncoder:
        found = copy(coders[number].encoder)
        found.dependent &= dependent
        return found

    found: dict[int, tuple[SectionCoder, int]] = {}
    try:
        # a look at one of them is cheap, and enough where sections have nothing in common
        n = sorted(before)[len(before) // 2]
        look = SectionCoder(thinned(encoder(before[n])))
        if not _pays(SectionCoder(thinned(encoder(n)), look), step, dead_zone):
            return {}
        for n in coders:
            own = encoder(n)
            coder, kind = SectionCoder(own), VOLUME
            if n in before:
                linked = SectionCoder(own, found[id(chunks[before[n]])][0])
                if _pays(linked, step, dead_zone):
                    coder, kind = linked, LINKED
            found[id(chunks[n])] = (coder, kind)
    except LevelOverflow:
        return {}
    return found if any(kind == LINKED for _, kind in found.values()) else {}


def referred_to(chunks: Sequence[Chunk], written: Sequence[Written]) -> frozenset[int] | None:
    """Numbers of the chunks that others refer to; None if one of those cannot be referred to."""
    before = _chunk_before(chunks)
    found = frozenset(before[n] for n, one in enumerate(written) if chunk_kind(one.body) == LINKED)
    kinds = {chunk_kind(written[n].body) for n in found}
    return found if kinds <= {VOLUME, LINKED} else None


def _pays(coder: SectionCoder, step: float, dead_zone: float) -> bool:
    saved, bits = coder.saved(step, dead_zone)
    return saved > _WORTH * bits


def _chunk_before(chunks) -> dict[int, int]:
    """Number of the chunk at the same place in the section before, of those that may link to it."""

    def place(box, section: int):
        return section, box.time.start, box.height.start, box.width.start

    numbers = {place(chunk.box, chunk.box.section): n for n, chunk in enumerate(chunks)}
    found = {n: numbers.get(place(c.box, c.box.section - 1)) for n, c in enumerate(chunks)}
    return {n: m for n, m in found.items() if m is not None and may_link(chunks[n].box.section)}


def thinned(encoder: VolumeEncoder) -> VolumeEncoder:
    """The same with every other row and column of cells: cells are quantised one by one."""
    thin = copy(encoder)
    thin.planes = copied(encoder.planes[..., ::2, ::2])
    thin.refined = thin.dependent = False
    return thin
