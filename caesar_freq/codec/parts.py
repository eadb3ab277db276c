"""Arrays worked on part by part, so that copies of another type stay small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Values of one part.
BLOCK = 1 << 16


def parts(array: np.ndarray) -> Iterator[slice]:
    """Slices of the first axis that cover `array`, each of about `BLOCK` values."""
    step = max(1, len(array) * BLOCK // max(1, array.size))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
