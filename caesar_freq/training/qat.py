"""The scale network, trained with rounding so that its integer twin is exact.

The codec's network works on integers alone (``codec/model.py``). Here the same network is held in
floating point: plain first, then with every weight and activation rounded in the forward pass while
gradients pass straight through (Bengio, Leonard & Courville 2013). Rounded, all its numbers are
integers below 2**24, so float32 computes exactly what the integer network computes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caesar_freq.entropy.context import N_FEATURES
from caesar_freq.entropy.network import HIDDEN, UNIT_BIN
from caesar_freq.entropy.tables import N_BINS

#: Integer weights are this many times the float weights, biases this times `FEATURE_UNIT` more.
WEIGHT_UNIT, FEATURE_UNIT = 64, 16
WEIGHT_MAX, ACTIVATION_MAX = 127, 127
#: Bins per unit of the output: 1024 / 128 (accumulator unit / output shift).
BINS_PER_UNIT = 8
#: Keeps every partial sum of a layer far below 2**24 (24 x 127 x 127 is below 2**19).
BIAS_MAX = 1 << 20


class _Straight(torch.autograd.Function):
    """Floor whose gradient is that of the identity (an addition would cost float32 digits)."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.floor(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def straight_floor(x: Tensor) -> Tensor:
    """``floor(x)`` with the gradient of ``x``."""
    return _Straight.apply(x)


class ScaleNetwork(nn.Module):
    """Context features to the position of a coefficient's scale among the bins.

    Parameters are in float units: features and activations count in 1/16, weights in 1/64.
    ``rounding`` switches the quantisation-aware forward pass on.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = (N_FEATURES, HIDDEN, HIDDEN, 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.rounding = False

    def forward(self, features: Tensor) -> Tensor:
        """Bin position of each row.

        Parameters
        ----------
        features : Tensor
            float ``[n, 24]`` with whole values 0 to 127.

        Returns
        -------
        Tensor
            ``[n]``; bin b is the interval [b, b + 1). With `rounding` the position is the left edge
            of its bin, exactly that of the integer network before it is limited to 0..79.
        """
        x = features
        for number, layer in enumerate(self.layers):
            weight = (layer.weight * WEIGHT_UNIT).clamp(-WEIGHT_MAX, WEIGHT_MAX)
            bias = (layer.bias * (WEIGHT_UNIT * FEATURE_UNIT)).clamp(-BIAS_MAX, BIAS_MAX)
            if self.rounding:
                weight, bias = straight_floor(weight + 0.5), straight_floor(bias + 0.5)
            x = functional.linear(x, weight, bias)
            if number < 2:
                x = x / WEIGHT_UNIT
                x = (straight_floor(x) if self.rounding else x).clamp(0, ACTIVATION_MAX)
        position = x[:, 0] / (WEIGHT_UNIT * FEATURE_UNIT / BINS_PER_UNIT)
        return (straight_floor(position) if self.rounding else position) + UNIT_BIN

    def integers(self) -> dict[str, np.ndarray]:
        """The weights of the integer network: w1, b1, w2, b2, w3, b3 (int8 and int32)."""
        out = {}
        for number, layer in enumerate(self.layers, 1):
            weight = (layer.weight.detach() * WEIGHT_UNIT).clamp(-WEIGHT_MAX, WEIGHT_MAX)
            bias = layer.bias.detach() * (WEIGHT_UNIT * FEATURE_UNIT)
            bias = bias.clamp(-BIAS_MAX, BIAS_MAX)
            out[f"w{number}"] = torch.floor(weight + 0.5).T.numpy().astype(np.int8)
            out[f"b{number}"] = torch.floor(bias + 0.5).numpy().astype(np.int32)
        out["w3"] = out["w3"][:, 0]
        return {name: np.ascontiguousarray(value) for name, value in out.items()}

    def load_integers(self, weights: dict[str, np.ndarray]) -> None:
        """Start from an integer network (inverse of `integers`)."""
        with torch.no_grad():
            for number, layer in enumerate(self.layers, 1):
                weight = np.atleast_2d(np.asarray(weights[f"w{number}"], np.float32).T)
                bias = np.asarray(weights[f"b{number}"], np.float32)
                layer.weight.copy_(torch.from_numpy(weight / WEIGHT_UNIT))
                layer.bias.copy_(torch.from_numpy(bias / (WEIGHT_UNIT * FEATURE_UNIT)))


class MagnitudeBits(nn.Module):
    """Code length of a magnitude at a bin position: zero probability and two geometric laws.

    Every bin's pmf is ``P(0)`` and, for m >= 1, ``(1 - P(0)) [(1 - mix) g(r1) + mix g(r2)]`` with
    ``g(r)_m = (1 - r) r**(m - 1)``: the family of the codec's tables. Its parameters are kept
    relative to the Laplace law of the bin's scale and interpolated between neighbouring bins, which
    makes the code length differentiable in the position.
    """

    def __init__(self) -> None:
        super().__init__()
        # columns: log of P(0)'s scale, log scale of the short law, log ratio of the long law, mix
        start = torch.tensor([0.0, -0.3, 0.5, -1.0])
        self.shape = nn.Parameter(start.repeat(N_BINS, 1))

    def forward(self, position: Tensor, magnitude: Tensor) -> Tensor:
        """Bits of each `magnitude` (float, whole, ``[n]``), sign included, at `position` ``[n]``."""
        position = position.clamp(0.5, N_BINS - 0.5)
        left = (position.detach() - 0.5).floor().clamp(0, N_BINS - 2).long()
        part = (position - 0.5 - left)[:, None]
        shape = self.shape[left] * (1 - part) + self.shape[left + 1] * part
        scale = (position - UNIT_BIN) * (math.log(2) / 4)
        zero_rate = -0.5 * torch.exp(-scale - shape[:, 0])
        short = torch.exp(-scale - shape[:, 1])
        long = short * torch.exp(-functional.softplus(shape[:, 2]))
        beyond = (magnitude - 1).clamp(min=0)
        law = torch.logaddexp(
            functional.logsigmoid(-shape[:, 3]) + _log_geometric(short, beyond),
            functional.logsigmoid(shape[:, 3]) + _log_geometric(long, beyond),
        )
        # P(0) = 1 - exp(zero_rate); its complement needs no subtraction at all
        log_zero = torch.log(-torch.expm1(zero_rate.clamp(max=-1e-7)))
        natural = torch.where(magnitude == 0, log_zero, zero_rate + law - math.log(2))
        return natural * (-1 / math.log(2))

    def load_pmf(self, pmf: np.ndarray) -> None:
        """Start from a model's integer pmf parameters ``[80, 4]`` (`FrequencyModel.pmf`)."""
        zero, mix, *falls = pmf.T.astype(np.float64) / [[2**16], [2**16], [2**24], [2**24]]
        decay, mix = -np.log1p(-np.column_stack(falls)), np.clip(mix, 1e-4, 1 - 1e-4)
        scale = 2.0 ** ((np.arange(N_BINS) + 0.5 - UNIT_BIN) / 4)
        # the long law may not be shorter than the short one, and gradients need it apart from it
        excess = np.maximum(np.log(decay[:, 0] / decay[:, 1]), 1e-2)
        shape = np.column_stack([
            np.log(-0.5 / (np.log1p(-zero) * scale)), -np.log(decay[:, 0] * scale),
            np.log(np.expm1(excess)), np.log(mix / (1 - mix)),
        ])  # fmt: skip
        with torch.no_grad():
            self.shape.copy_(torch.from_numpy(shape))


def _log_geometric(decay: Tensor, beyond: Tensor) -> Tensor:
    """``log((1 - r) r**beyond)`` of ``r = exp(-decay)``."""
    return torch.log(-torch.expm1(-decay.clamp(min=1e-9))) - decay * beyond
