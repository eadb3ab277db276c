"""Which part of an array is wanted, and where the parts of each chunk belong in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from caesar_freq.codec.chunks import Box, five_dimensional
from caesar_freq.errors import InputError

#: Names of the axes ``[V, S, T, H, W]`` as callers use them.
AXES = ("variables", "sections", "frames", "rows", "columns")
#: A range as callers give it: a slice, its two ends, one number, or all.
Range = slice | tuple | int | None


@dataclass(frozen=True)
class Region:
    """A box of an array ``[V, S, T, H, W]``.

    Attributes
    ----------
    variables : tuple of int
        In the order of the result.
    sections, frames, rows, columns : slice
        With both ends, step 1.
    """

    variables: tuple[int, ...]
    sections: slice
    frames: slice
    rows: slice
    columns: slice

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        variables: Iterable[int] | Range = None,
        sections: Range = None,
        frames: Range = None,
        rows: Range = None,
        columns: Range = None,
    ) -> Region:
        """The region of an array of `shape` (1-D to 5-D) that a caller asks for.

        Ranges are slices of step 1, pairs ``(start, stop)`` or single numbers; negative ones count
        from the end and missing ends are open, as in Python. `variables` may also be a list.

        Raises
        ------
        InputError
            If a range is empty, does not lie within the array or names an axis that it lacks.
        """
        whole = five_dimensional(shape)
        absent = lacking(shape)
        wanted = (variables, sections, frames, rows, columns)
        for name, given in zip(AXES, wanted):
            if name in absent and given is not None:
                raise InputError(
                    f"{name} cannot be chosen: the array has the shape {tuple(shape)}, whose axes "
                    f"are {', '.join(a for a in AXES if a not in absent)}"
                )
        if isinstance(variables, list):
            chosen = tuple(_number("variables", v, whole[0]) for v in variables)
            if not chosen or len(set(chosen)) < len(chosen):
                raise InputError(f"variables are {variables}; name each wanted one once")
        else:
            part = _range("variables", variables, whole[0])
            chosen = tuple(range(part.start, part.stop))
        return cls(chosen, *(_range(*a) for a in list(zip(AXES, wanted, whole))[1:]))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """``(V, S, T, H, W)`` of the region."""
        return (len(self.variables), *(s.stop - s.start for s in self._slices))

    @property
    def _slices(self) -> tuple[slice, slice, slice, slice]:
        return (self.sections, self.frames, self.rows, self.columns)

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The region's shape with the axes of an array of `shape`, none dropped."""
        absent = lacking(shape)
        return tuple(n for n, name in zip(self.shape, AXES) if name not in absent)

    def overlap(self, box: Box) -> tuple[Box, tuple[slice, slice, slice]] | None:
        """Where a chunk meets the region: as a box of the region, and as a part of the chunk.

        None if they do not meet.
        """
        if box.variable not in self.variables:
            return None
        if not self.sections.start <= box.section < self.sections.stop:
            return None
        here, there = [], []
        for asked, has in zip(self._slices[1:], (box.time, box.height, box.width)):
            start, stop = max(asked.start, has.start), min(asked.stop, has.stop)
            if start >= stop:
                return None
            here.append(slice(start - asked.start, stop - asked.start))
            there.append(slice(start - has.start, stop - has.start))
        variable = self.variables.index(box.variable)
        return Box(variable, box.section - self.sections.start, *here), tuple(there)


def lacking(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Axes of ``[V, S, T, H, W]`` that an array of `shape` does not have."""
    return ("sections",) if len(shape) == 4 else AXES[: 5 - len(shape)]


def _number(name: str, value: int, size: int) -> int:
    if not -size <= value < size:
        raise InputError(f"{name}: {value} does not exist; they are numbered 0 to {size - 1}")
    return value + size if value < 0 else int(value)


def _range(name: str, value: Range, size: int) -> slice:
    """A slice with both ends from what a caller gave for an axis of length `size`."""
    if value is None:
        return slice(0, size)
    if hasattr(value, "__index__"):
        start = _number(name, value.__index__(), size)
        return slice(start, start + 1)
    if not isinstance(value, slice):
        value = _pair(name, value)
    if value.step not in (None, 1):
        raise InputError(f"{name} has the step {value.step}; only ranges without gaps are decoded")
    for end in (value.start, value.stop):
        if end is not None and not -size <= end <= size:
            raise InputError(
                f"{name} {_text(value)} reaches beyond the array: {end} is not within 0:{size} "
                f"(or {-size} to -1, counted from the end)"
            )
    start, stop, _ = value.indices(size)
    if start >= stop:
        raise InputError(f"{name} {_text(value)} is empty; the array has {name} 0:{size}")
    return slice(start, stop)


def _pair(name: str, value) -> slice:
    try:
        if isinstance(value, list):  # of variables it would be each of them, here the ends
            raise TypeError
        start, stop = value
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is {value!r}; give a slice, a pair (start, stop) or a number"
        ) from error
    return slice(start, stop)


def _text(part: slice) -> str:
    return ":".join("" if end is None else str(end) for end in (part.start, part.stop))
