"""What a bound means for a variable: the error to aim at, and what no step can keep."""

from __future__ import annotations

from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.relative import log_bound

#: Modes whose bound limits every value.
POINTWISE = ("abs", "rel", "pw_rel")
#: Errors of more ranges are all alike: the mean alone has at most 1.
_LOOSEST = 16.0
#: NRMSE to aim at is this much below the target: float rounding on another device.
NRMSE_MARGIN = 1e-5
#: Errors relative to the range that float64 arithmetic cannot keep; such requests are lossless.
FINEST = 1e-14
#: A range outside these limits leaves no room for steps in float64, or for the squares of errors
#: where a mean is bounded; such data is kept losslessly.
_RANGES, _RANGES_OF_SQUARES = (1e-280, 1e300), (1e-138, 1e140)


def has_room(header: Header, variable: Variable) -> bool:
    """Whether the range of a variable can be coded with a loss."""
    low, high = _RANGES if header.mode in POINTWISE else _RANGES_OF_SQUARES
    return low < variable.range < high


def pointwise_bound(header: Header, variable: Variable) -> float:
    """Largest allowed error of what is coded, or 0 in modes without a pointwise bound."""
    if header.mode == "abs":
        return header.bound
    if header.mode == "pw_rel":
        return log_bound(header.bound, header.dtype)
    return header.bound * variable.range if header.mode == "rel" else 0.0


def allowed_nrmse(mode: str, bound: float) -> float:
    """Root-mean-square error over the range that the modes ``nrmse`` and ``psnr`` allow."""
    return bound if mode == "nrmse" else 10 ** (-bound / 20)


def target_of(header: Header, variable: Variable) -> float:
    """Root-mean-square error to aim at, normalised by the range.

    Never above `_LOOSEST`: larger ones leave the range of floats.
    """
    if header.mode in ("nrmse", "psnr"):
        target = allowed_nrmse(header.mode, header.bound)
    else:
        target = pointwise_bound(header, variable) / variable.range / 2
    return min(target, _LOOSEST)


def chunk_limit(header: Header, variable: Variable) -> tuple[float, bool]:
    """Error that one chunk may have in the units coded, and whether it is an RMSE."""
    if header.mode in ("nrmse", "psnr"):
        return target_of(header, variable) * variable.range * (1 - NRMSE_MARGIN), True
    return min(pointwise_bound(header, variable), _LOOSEST * variable.range), False
