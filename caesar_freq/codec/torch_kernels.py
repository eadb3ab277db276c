"""Kernels of a volume in torch, on any device: the interface of `native` and the same bits.

Arrays come from and go back to the host, so every kernel can be exchanged and timed by itself.
Only elementwise operations and exact integers are used (`kernels/ordered.py`, `torch_contexts`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import MAX_LEVEL
from caesar_freq.codec.torch_contexts import Contexts, clipped
from caesar_freq.entropy.dependent import levels_of
from caesar_freq.entropy.rans import pull_values, write_values
from caesar_freq.kernels.ordered import like
from caesar_freq.transform.blocks import Transform

#: Coefficients whose contexts are made together: some 300 bytes of memory for each.
_BATCH = 1 << 20


class TorchKernels:
    """Kernels on one device; those that it lacks (levels by their cost, error sums) are the host's.

    Parameters
    ----------
    device : str
        Of torch: "cpu", "cuda", "cuda:1" ….
    host : module
        `native` or `portable`.
    """

    def __init__(self, device: str, host: Any) -> None:
        self.device, self._host = device, host

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def forward(self, transform: Transform, x: np.ndarray, overwrite: bool = False) -> np.ndarray:
        """Planes of a volume `x` ``[T, H, W]``."""
        return transform.forward(self._put(x)).cpu().numpy()

    def inverse(self, transform: Transform, planes: np.ndarray) -> np.ndarray:
        """The volume of `planes`."""
        return transform.inverse(self._put(planes)).cpu().numpy()

    def quantise(self, planes, step, dead_zone, alphas, classes):
        """See `quantise.quantise`."""
        y = self._put(planes).double()
        y = y / like(step, y)
        q, fits = torch.empty(y.shape, dtype=torch.int32, device=y.device), True
        factors = self._factors(alphas, classes)
        before = torch.zeros(y.shape[2:], dtype=torch.int64, device=y.device)
        for t in range(len(y)):
            mu = (factors * before + 32) >> 6 if t else before
            y[t, 0] -= mu
            size = y[t].abs()
            good = size < MAX_LEVEL
            fits = fits and bool(good.all())
            kept = good & (size >= dead_zone)
            q[t] = torch.where(kept, y[t].round(), like(0.0, y)).to(torch.int32)
            before = q[t, 0] + mu
        return q.cpu().numpy(), fits

    def dequantise(self, q, bins, step, alphas, classes, centroid, planes) -> None:
        """See `quantise.dequantise`."""
        levels, rows = self._put(q), self._put(bins).long() >> 2
        shift = np.zeros((len(centroid), 9))
        shift[:, 5:8] = centroid / 64
        shift[:, 1:4] = -shift[:, 7:4:-1]
        shift = torch.from_numpy(shift).to(self.device)
        values = levels.double()
        factors = self._factors(alphas, classes)
        before = torch.zeros(levels.shape[2:], dtype=torch.int64, device=levels.device)
        for t in range(len(levels)):
            mu = (factors * before + 32) >> 6 if t else before
            before = levels[t, 0] + mu
            values[t, 0] = before.double()
        values += shift[rows, levels.clamp(-4, 4).long() + 4]
        values *= like(step, values)
        torch.from_numpy(planes).copy_(values)

    def ends_of(self, q: np.ndarray) -> np.ndarray:
        """Shells to code of every cell, int32 ``[nt, nh, nw]``."""
        _, bt, bh, bw, _, _ = q.shape
        i, j, k = np.indices((bt, bh, bw))
        shells = self._put((i + j + k + 1).astype(np.int32))[None, ..., None, None]
        used = ((self._put(q) != 0) * shells).amax(dim=(1, 2, 3))
        return used.to(torch.int32).cpu().numpy()

    def quantised_ends(self, planes, step, dead_zone, alphas, classes) -> tuple[np.ndarray, bool]:
        """`ends_of` the levels of `quantise`, and whether all of them fit."""
        q, fits = self.quantise(planes, step, dead_zone, alphas, classes)
        return self.ends_of(q), fits

    def scale_bins(
        self, q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel
    ) -> np.ndarray:
        """Bins that `encode_blocks` would code levels `q` under, without coding them."""
        return self._bins(q, used, transform, model)[0].cpu().numpy()

    def encode_blocks(
        self, q: np.ndarray, used: np.ndarray, transform: Transform, model: FrequencyModel,
        dependent: bool = False,
    ) -> tuple[np.ndarray, int, np.ndarray]:  # fmt: skip
        """Code levels `q`, or values of the dependent quantiser; returns bins, rANS state and words."""
        bins, values, rows = self._bins(q, used, transform, model, dependent)
        values, rows = ([part.cpu().numpy() for part in parts] for parts in (values, rows))
        for block in zip(values, rows) if dependent else ():
            levels_of(*block, 0)
        tables = model.grid_tables if dependent else model.tables
        state, words = write_values(np.concatenate(values), np.concatenate(rows), tables)
        return bins.cpu().numpy(), state, words

    def _bins(
        self, q, used, transform, model, dependent=False
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Bins of levels `q`; levels and bins of each block in coding order. Contexts are parallel."""
        contexts = Contexts(transform, model, self.device, dependent=dependent)
        frequencies = len(contexts.order)
        levels = self._put(q).reshape(len(q), frequencies, *q.shape[4:])
        ends = self._put(used).long()
        bins = torch.zeros(levels.shape, dtype=torch.uint8, device=levels.device)
        before, values, scale_bins = contexts.magnitudes(None, levels), [], []
        batch = max(1, _BATCH // (q.shape[4] * q.shape[5]))
        for t in range(len(q)):
            now = contexts.magnitudes(levels[t].reshape(q.shape[1:]), levels)
            parts = []
            for start in range(0, frequencies, batch):
                part = slice(start, start + batch)
                coded = contexts.coded(t, ends[t], part)
                found = contexts.bins(t, now, before, ends[t], part)
                order = contexts.order[part]
                parts.append((levels[t, order][coded], found[coded]))
                bins[t, order] = found * coded
            values.append(torch.cat([part for part, _ in parts]))
            scale_bins.append(torch.cat([part for _, part in parts]))
            before = now
        return bins.reshape(q.shape), values, scale_bins

    def decode_blocks(
        self, used: np.ndarray, state: int, words: np.ndarray, transform: Transform,
        model: FrequencyModel, dependent: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, int, int]:  # fmt: skip
        """Inverse of `encode_blocks`, shell by shell: rANS on the host, contexts on the device."""
        contexts = Contexts(transform, model, self.device, dependent=dependent)
        tables = model.grid_tables if dependent else model.tables
        shape, word = transform.planes_shape, len(words)
        ends = self._put(used).long()
        levels = torch.zeros(
            (shape[0], len(contexts.order), *shape[4:]), dtype=torch.int32, device=ends.device
        )
        bins = torch.zeros(levels.shape, dtype=torch.uint8, device=ends.device)
        before = contexts.magnitudes(None, levels)
        for t in range(shape[0]):
            now, phase = contexts.magnitudes(None, levels), 0
            for start, end in zip(contexts.starts[: used[t].max()], contexts.starts[1:]):
                part = slice(start, end)
                coded = contexts.coded(t, ends[t], part)
                found = contexts.bins(t, now, before, ends[t], part)
                values, state, word, phase = pull_values(
                    found[coded].cpu().numpy(), tables, state, words, word, phase, dependent
                )
                here = torch.zeros(coded.shape, dtype=torch.int32, device=ends.device)
                here[coded] = self._put(values)
                levels[t, contexts.order[part]] = here
                bins[t, contexts.order[part]] = found * coded
                now[contexts.padded[part], 1:-1, 1:-1] = clipped(here)
            before = now
        q, bins = (a.reshape(shape).cpu().numpy() for a in (levels, bins))
        return q, bins, state, word

    def _factors(self, alphas: np.ndarray, classes: np.ndarray) -> Tensor:
        """Prediction factors of the spatial frequencies, int64 ``[bh, bw, 1, 1]``."""
        return self._put(alphas[classes][..., None, None])
