"""Training data: normalised volumes, and blocks cut from them at random but reproducibly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caesar_freq.data.filling import fill_masked
from caesar_freq.data.sections import load_sections
from caesar_freq.errors import InputError

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Volume:
    """One variable of one section of one file.

    Attributes
    ----------
    dataset : str
        File name without suffix, and without folder unless needed to tell files apart.
    variable, section : int
        Indices v and s in the file.
    values : ndarray [T, H, W] float32
        (value - offset) / scale, missing cells filled smoothly.
    offset, scale : float
        Mean and range of the variable's finite values over the whole file, in its unit.
    """

    dataset: str
    variable: int
    section: int
    values: np.ndarray
    offset: float
    scale: float


def volumes(paths: Paths) -> Iterator[Volume]:
    """Normalised volumes of data files [V, S, T, H, W], in order of file, variable, section.

    Variables without two different values have nothing to learn from and are left out.

    Raises
    ------
    InputError
        If a file cannot be read (see `load_sections`).
    """
    files = _as_list(paths)
    for path, name in zip(files, _dataset_names(files), strict=True):
        sections = load_sections(path)
        mask = sections.mask
        for v, values in enumerate(sections.values):
            known = values[~mask[v]].astype(np.float64)
            if not known.size or known.min() == known.max():
                continue
            # Halved, since the range of huge float64 values may itself not be a float64.
            scale = float(known.max() / 2 - known.min() / 2) * 2
            offset = float((known / known.size).sum())
            if not np.isfinite(scale):
                raise InputError(
                    f"variable {v} of {path} spans more than a float64 can hold; rescale it"
                )
            for s in range(values.shape[0]):
                valued = np.where(mask[v, s], offset, values[s].astype(np.float64))
                # Divided first, so that values near the largest float64 cannot overflow.
                normalised = valued / scale - offset / scale
                filled = fill_masked(normalised.astype(np.float32), mask[v, s])
                yield Volume(name, v, s, filled, offset, scale)


class BlockSampler:
    """Random blocks of `n_frame` frames and at most `tile` x `tile` cells.

    ``sample(step, batch)`` depends on its arguments and on `seed` alone, never on earlier calls:
    a resumed training sees the very blocks that the interrupted one would have seen.

    Parameters
    ----------
    paths : path or sequence of paths
        Data files [V, S, T, H, W].
    n_frame : int
        Frames per block.
    tile : int
        Height and width of a block; a field smaller than that is taken whole along that axis.
    seed : int
        Non-negative.
    flips : bool
        Mirror blocks at random along height and width.

    Raises
    ------
    InputError
        If a file cannot be read, is shorter than `n_frame` frames, or nothing varies in any.
    """

    def __init__(
        self, paths: Paths, n_frame: int, tile: int, seed: int, *, flips: bool = False
    ) -> None:
        self.n_frame, self.tile, self.seed, self.flips = n_frame, tile, seed, flips
        # Blocks of one batch must have one shape, so volumes are grouped by the shape they give.
        groups: dict[tuple[int, int], list[np.ndarray]] = {}
        for volume in volumes(paths):
            frames, height, width = volume.values.shape
            if frames < n_frame:
                raise InputError(
                    f"{volume.dataset} has {frames} frames but a block has {n_frame}; give a "
                    "longer series or a smaller --n_frame"
                )
            shape = (min(height, tile), min(width, tile))
            groups.setdefault(shape, []).append(volume.values)
        if not groups:
            listed = ", ".join(str(path) for path in _as_list(paths))
            raise InputError(f"no variable in {listed} has two different values; check the data")
        self._groups = list(groups.items())
        # The square root lets large files weigh more without drowning small ones.
        self._volume_weights = [_weights(members) for _, members in self._groups]
        totals = np.array([weights.sum() for weights in self._volume_weights])
        self._group_weights = totals / totals.sum()

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Shapes (frames, height, width) that blocks can have."""
        return [(self.n_frame, *shape) for shape, _ in self._groups]

    @property
    def blocks_per_epoch(self) -> int:
        """Number of blocks that cover the data about once."""
        return sum(
            volume.shape[0] // self.n_frame
            * -(-volume.shape[1] // height) * -(-volume.shape[2] // width)
            for (height, width), members in self._groups
            for volume in members
        )  # fmt: skip

    def sample(self, step: int, batch: int) -> np.ndarray:
        """Blocks for one training step: float32 [batch, n_frame, h, w], h and w at most `tile`."""
        rng = np.random.default_rng([self.seed, step])
        group = rng.choice(len(self._groups), p=self._group_weights)
        shape, members = self._groups[group]
        weights = self._volume_weights[group]
        chosen = rng.choice(len(members), size=batch, p=weights / weights.sum())
        return np.stack([self._cut(members[index], shape, rng) for index in chosen])

    def _cut(
        self, volume: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        sizes = (self.n_frame, *shape)
        corner = rng.integers(0, np.array(volume.shape) - sizes, endpoint=True)
        window = tuple(slice(c, c + n) for c, n in zip(corner, sizes, strict=True))
        block = volume[window]
        if self.flips:
            axes = [axis for axis in (1, 2) if rng.random() < 0.5]
            block = np.flip(block, axes)
        return block


def _weights(members: Sequence[np.ndarray]) -> np.ndarray:
    return np.sqrt([float(member.size) for member in members])


def _as_list(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _dataset_names(paths: Sequence[Path]) -> list[str]:
    """File stems; where two files share one, with the folder in front (such as iris/train)."""
    stems = [path.stem for path in paths]
    return [
        path.stem if stems.count(path.stem) == 1 else f"{path.resolve().parent.name}/{path.stem}"
        for path in paths
    ]
