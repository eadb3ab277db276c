"""Where the codec's chunks ``[T, H, W]`` lie in an array that has its axes in any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arrangement:
    """Axes of a field by the role that they play for the codec.

    Attributes
    ----------
    shape : tuple of int
        The field's own shape.
    roles : five tuples of int
        Axes that make up variable, section, time, height and width; an empty one stands for an
        axis of length 1 that the field lacks. Only sections may have more than one.
    """

    shape: tuple[int, ...]
    roles: tuple[tuple[int, ...], ...]

    @classmethod
    def plain(cls, shape: Sequence[int]) -> Arrangement:
        """That of an array which the codec takes as it is: the last of [V, S, T, H, W]."""
        present = (0, 2, 3, 4) if len(shape) == 4 else range(5 - len(shape), 5)
        roles: list[tuple[int, ...]] = [()] * 5
        for axis, role in enumerate(present):
            roles[role] = (axis,)
        return cls(tuple(shape), tuple(roles))

    @classmethod
    def ordered(
        cls, shape: Sequence[int], order: Sequence[int], sizes: Sequence[int]
    ) -> Arrangement:
        """That of a field which became [S, T, H, W] of `sizes` when its axes were put in `order`.

        `order` does not say where one role ends and the next begins. Time, height and width have
        one axis or none, so sizes tell; an axis of length 1 may count as either without harm.
        """
        left, roles = list(order), []
        for size in reversed(sizes[1:]):
            roles.append((left.pop(),) if left and shape[left[-1]] == size else ())
        return cls(tuple(shape), ((), tuple(left), *reversed(roles)))

    @property
    def order(self) -> tuple[int, ...]:
        """All axes, in the order of their roles."""
        return sum(self.roles, ())

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """``(S, T, H, W)`` as the codec sees the field."""
        return tuple(math.prod(self.shape[axis] for axis in axes) for axes in self.roles[1:])

    def index(self, place: Sequence[int | slice]) -> tuple[slice, ...]:
        """Slices of the field's axes for (variable, section, time, height, width) of a chunk."""
        out = [slice(None)] * len(self.shape)
        for axes, where in zip(self.roles, place):
            if isinstance(where, slice):
                parts = [where] * len(axes)
            else:
                sizes = [self.shape[axis] for axis in axes]
                numbers = np.unravel_index(where, sizes) if axes else ()
                parts = [slice(int(n), int(n) + 1) for n in numbers]
            for axis, part in zip(axes, parts):
                out[axis] = part
        return tuple(out)

    def to_chunk(self, part: np.ndarray) -> np.ndarray:
        """What `index` cut from the field as ``[T, H, W]``."""
        sizes = [part.shape[axes[0]] if axes else 1 for axes in self.roles[2:]]
        return part.transpose(self.order).reshape(sizes)

    def from_chunk(self, chunk: np.ndarray) -> np.ndarray:
        """Inverse of `to_chunk`: the axes of the field, to be stored at `index`."""
        sizes = dict.fromkeys(self.order, 1)
        sizes |= {axes[0]: n for axes, n in zip(self.roles[2:], chunk.shape) if axes}
        return chunk.reshape([sizes[a] for a in self.order]).transpose(np.argsort(self.order))
