"""How hard the encoder looks for few bytes: levels of effort and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from caesar_freq.errors import InputError


@dataclass(frozen=True)
class Effort:
    """One level.

    Attributes
    ----------
    sample : int
        Values on which transforms are compared.
    finalists : int
        Transforms that are really coded there, the others only estimated.
    exhaustive : bool
        Estimate all of them, wavelets as well, and code the whole sample with the finalists.
    closest : float
        Part of the error allowed that ends the search of the step.
    modes : bool
        Try temporal modes of the data's own.
    links : bool
        Try to predict sections from one another.
    levels : bool
        Ask whether a grid of levels or a lossless body is smaller than the transform.
    ratios : bool
        Try steps of a pointwise bound on a sample instead of taking the usual one.
    refined : bool
        Choose levels by what they cost (`trellis`): 3 to 6 hundredths of the bytes at an NRMSE of
        1e-2 and 1e-3, 2 to 3 at 1e-4.
    fitted : bool
        Code again with tables fitted to the file, which are stored in it, and keep what is shorter.
    """

    sample: int
    finalists: int
    closest: float
    modes: bool = True
    links: bool = True
    levels: bool = True
    ratios: bool = True
    refined: bool = True
    fitted: bool = False
    exhaustive: bool = False


EFFORTS = (
    Effort(1 << 18, 1, 0.98, modes=False, links=False, levels=False, ratios=False, refined=False),
    Effort(1 << 18, 2, 0.995, modes=False),
    Effort(1 << 20, 4, 0.998),
    Effort(1 << 22, 8, 0.9995, fitted=True, exhaustive=True),
)
USUAL = 2


def effort_of(level: int) -> Effort:
    """The effort of a level, 0 to 3.

    Raises
    ------
    InputError
        If there is no such level.
    """
    # not only a check of the range: True is no level, and neither is 1.5
    number = isinstance(level, Integral) and not isinstance(level, bool)
    if not number or not 0 <= level < len(EFFORTS):
        raise InputError(f"effort is {level!r}; choose 0 (fastest), 1, 2 or 3 (fewest bytes)")
    return EFFORTS[level]
