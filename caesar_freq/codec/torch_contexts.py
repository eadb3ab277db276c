"""Context features and the integer network for whole batches of frequency planes, in torch.

What `entropy/coder.py` does plane by plane and cell by cell. Everything is an integer: sums of the
network stay below 2**24, so any dtype that holds those, any order of summation and any device give
the same bins (TF32 and bfloat16 inputs included, for all factors are below 2**8).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.entropy.context import LOG_TABLE, MAGNITUDE_CAP, plane_features, shells
from caesar_freq.entropy.dependent import HALF_TABLE
from caesar_freq.entropy.network import UNIT_BIN
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.transform.blocks import Transform


class Contexts:
    """The contexts of one volume; frequencies are numbered in coding order (`context.shells`).

    Parameters
    ----------
    transform : Transform
    model : FrequencyModel
    device : str or torch.device
    dtype : torch dtype
        Of the network's arithmetic: float32, float64 or int64.
    dependent : bool
        Whether magnitudes are those of the dependent quantiser.

    Attributes
    ----------
    starts : list of int
        First frequency of every shell, and their number.
    order : int64 [F]
        Index of each frequency in ``[bt, bh, bw]``.
    """

    def __init__(
        self,
        transform: Transform,
        model: FrequencyModel,
        device,
        dtype: torch.dtype = torch.float32,
        dependent: bool = False,
    ) -> None:
        _, bt, bh, bw, nh, nw = transform.planes_shape
        starts, positions = shells(bt, bh, bw)
        i, j, k = positions.T.astype(np.int64)
        self.starts = starts.tolist()
        self._margins = (bt + 3, bh + 3, bw + 3, nh + 2, nw + 2)
        self._block = (bt, bh, bw, nh, nw)
        self._steps = ((bh + 3) * (bw + 3), bw + 3, 1)

        def put(array: np.ndarray, kind: torch.dtype = torch.int64) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array)).to(device, kind)

        self.order = put((i * bh + j) * bw + k)
        #: of each frequency among those with margins
        self.padded = put(((i + 2) * (bh + 3) + j + 2) * (bw + 3) + k + 2)
        self._shell = put(i + j + k)[:, None, None]
        self._table = put(HALF_TABLE if dependent else LOG_TABLE, dtype)
        space = transform.rows.mask.T[j][:, :, None] & transform.columns.mask.T[k][:, None, :]
        self._in_space = put(space, torch.bool)
        self._in_time = put(transform.time.mask[:, i], torch.bool)
        planes = plane_features(bt, bh, bw, transform.cell, transform.time_block)[i, j, k]
        w_local, w_plane, b1, w2, b2, w3, b3 = (put(w, dtype) for w in model.network)
        first = put(planes, dtype) @ w_plane + b1
        self._bias = (first, first + 64 * w_plane[4])
        self._layers = (w_local, w2, b2, w3, b3)

    def magnitudes(self, levels: Tensor | None, like: Tensor) -> Tensor:
        """Clipped sizes of a block's levels with margins, ``[F', nh + 2, nw + 2]``; zeros of None."""
        bt, bh, bw, _, _ = self._block
        m = torch.zeros(self._margins, dtype=torch.int64, device=like.device)
        if levels is not None:
            m[2 : bt + 2, 2 : bh + 2, 2 : bw + 2, 1:-1, 1:-1] = clipped(levels)
        return m.reshape(-1, *m.shape[3:])

    def coded(self, t: int, used: Tensor, part: slice) -> Tensor:
        """Which cells code the frequencies of `part`, bool ``[n, nh, nw]``; `used` is int64."""
        return (
            (used > self._shell[part]) & self._in_space[part] & self._in_time[t, part, None, None]
        )

    def bins(self, t: int, now: Tensor, before: Tensor, used: Tensor, part: slice) -> Tensor:
        """Scale bins of the frequencies of `part` in time block `t`, uint8 ``[n, nh, nw]``.

        Parameters
        ----------
        now, before : int64 [F', nh + 2, nw + 2]
            See `magnitudes`.
        used : int64 [nh, nw]
            Shells to code of every cell.
        """
        features = self._features(now, before, used, self.padded[part], self._shell[part])
        return self._network(features, self._bias[t > 0][part][:, None, None])

    def _features(self, m: Tensor, p: Tensor, used: Tensor, at: Tensor, shell: Tensor) -> Tensor:
        """Local features (0 to 14, then 22 and 23), ``[n, nh, nw, 17]``."""
        di, dj, dk = self._steps
        lower = [m[at - step] for step in
                 (di, dj, dk, 2 * di, 2 * dj, 2 * dk, di + dj, di + dk, dj + dk)]  # fmt: skip
        first, second = sum(lower[:3]), sum(lower[3:])
        same, around = p[at], sum(p[at + s] + p[at - s] for s in (di, dj, dk))
        edges = torch.nn.functional.pad(used[None, None].double(), (1, 1, 1, 1), "replicate")
        near = _cross(edges[0].long()) - 4 * shell
        sizes = [
            *(_inner(x) for x in lower), _cross(first), _diagonal(first), _cross(second),
            _inner(same), _inner(around), _cross(same),
            torch.clamp(used - shell, min=0), torch.clamp(near, min=0),
        ]  # fmt: skip
        return torch.stack([self._table[x] for x in sizes], dim=-1)

    def _network(self, features: Tensor, bias: Tensor) -> Tensor:
        w1, w2, b2, w3, b3 = self._layers
        hidden = _shifted(features @ w1 + bias, 6).clamp(0, 127)
        hidden = _shifted(hidden @ w2 + b2, 6).clamp(0, 127)
        level = _shifted(hidden @ w3 + b3, 7) + UNIT_BIN
        return level.clamp(0, N_BINS - 1).to(torch.uint8)


def clipped(levels: Tensor) -> Tensor:
    """Magnitudes as contexts have them, int64."""
    return levels.long().abs().clamp(max=MAGNITUDE_CAP)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """``x >> bits``, rounding down."""
    if not x.dtype.is_floating_point:
        return x >> bits
    return torch.floor(x * 2.0**-bits)


def _inner(x: Tensor) -> Tensor:
    return x[:, 1:-1, 1:-1]


def _cross(x: Tensor) -> Tensor:
    """Sum of the four neighbouring cells."""
    return x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]


def _diagonal(x: Tensor) -> Tensor:
    """Sum of the four diagonal cells."""
    return x[:, :-2, :-2] + x[:, :-2, 2:] + x[:, 2:, :-2] + x[:, 2:, 2:]
