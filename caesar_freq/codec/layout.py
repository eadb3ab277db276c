"""Numbers of the stream's layout that those who only look at a stream need, too."""

from __future__ import annotations

#: Kinds of chunks. `LATTICE`: levels of a grid; `MODES`: a volume in its own temporal modes;
#: `LINKED`: a volume predicted from the section before (`linked`); `PARTIAL`: most values are levels
#: of a grid (`partial`); `ZFP`: coefficients of blocks that ZFP once truncated (`zfp`).
CONSTANT, LOSSLESS, VOLUME, SEGMENTS, LATTICE, MODES, LINKED, PARTIAL = 0, 1, 2, 3, 4, 5, 6, 7
ZFP = 8
HAS_MASK, HAS_CORRECTIONS, HAS_SIGNS = 0x80, 0x40, 0x20
#: Flags with the names of what they announce, in its order.
PARTS = ((HAS_MASK, "mask"), (HAS_CORRECTIONS, "outliers"), (HAS_SIGNS, "signs"))
FLAGS = HAS_MASK | HAS_CORRECTIONS | HAS_SIGNS
#: Flags in a volume's first byte: prediction factors follow; its levels are of the dependent
#: quantiser (`entropy.dependent`); low bits of coefficients are apart (`fine`).
PREDICTED, DEPENDENT, FINE = 1, 2, 4
#: Classes of spatial frequency with a prediction factor each (`quantise`).
N_CLASSES = 6
#: Classes of frequency with a factor for the section before each (`linked`): five of temporal
#: frequency, in the first time block and in the others.
N_BETAS = 2 * 5 * N_CLASSES
#: Sections in a run of which each refers to the one before (`linked`).
RUN = 8


def chunk_kind(body: bytes) -> int:
    """`CONSTANT`, `LOSSLESS` or another kind, without flags."""
    return body[0] & ~FLAGS
