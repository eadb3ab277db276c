"""Maximum-likelihood fit of the four integers of every bin's pmf."""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.network import UNIT_BIN
from caesar_freq.entropy.tables import N_BINS

#: Magnitudes up to this are counted one by one, larger ones in 16 classes per octave.
EXACT, PER_OCTAVE = 64, 16
#: Rows that the neighbours' shape counts for in a bin.
PRIOR_ROWS = 64.0
ITERATIONS = 1500
#: Denominators of the integer columns (zero, mix, fall1, fall2).
ZERO_ONE, MIX_ONE, FALL_ONE = 1 << 16, 1 << 16, 1 << 24


def fit_pmf(bins: np.ndarray, magnitudes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit zero, mix, fall1 and fall2 of every bin by weighted expectation maximisation.

    A bin with few rows leans on the *shape* (relative to its own scale) of the bins around it, so
    that empty bins get a usable pmf of the right scale.

    Parameters
    ----------
    bins : ndarray
        int ``[n]``, 0 to 79: the integer network's answer for each row.
    magnitudes : ndarray
        int ``[n]``, the magnitude coded there.
    weights : ndarray
        float ``[n]``, how much the row's bits count.

    Returns
    -------
    ndarray
        uint32 ``[80, 4]`` as `FrequencyModel.pmf` defines it.
    """
    counts, rows, values = _histogram(bins, magnitudes, weights)
    laplace = _laplace_shape()
    first = _expectation_maximisation(counts, values, laplace, 1.0)
    prior = _borrowed_shape(first, rows)
    return _integers(_expectation_maximisation(counts, values, prior, PRIOR_ROWS))


def _histogram(
    bins: np.ndarray, magnitudes: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effective rows per bin and class ``[80, c]``, rows per bin ``[80]``, mean magnitudes."""
    m = np.asarray(magnitudes, np.int64)
    octave = np.floor(np.log2(np.maximum(m, 1))).astype(np.int64)
    fine = (m << 4 >> octave) - PER_OCTAVE
    top = int(np.log2(EXACT))
    classes = np.where(m < EXACT, m, EXACT + (octave - top) * PER_OCTAVE + fine)
    number = int(classes.max(initial=0)) + 1
    index = np.asarray(bins, np.int64) * number + classes
    size = N_BINS * number
    w = np.asarray(weights, np.float64)
    counts = np.bincount(index, w, minlength=size).reshape(N_BINS, number)
    sums = np.bincount(index, w * m, minlength=size).reshape(N_BINS, number)
    squares = np.bincount(np.asarray(bins, np.int64), w * w, minlength=N_BINS)
    total = counts.sum(1)
    rows = total**2 / np.maximum(squares, 1e-300)  # Kish's effective sample size
    values = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return counts * (rows / np.maximum(total, 1e-300))[:, None], rows, values


def _scales() -> np.ndarray:
    return 2.0 ** ((np.arange(N_BINS) + 0.5 - UNIT_BIN) / 4)


def _laplace_shape() -> np.ndarray:
    """Parameters (P(0), mix, r1, r2) ``[80, 4]`` of a Laplace law with a heavier second part."""
    scale = _scales()
    zero = -np.expm1(-0.5 / scale)
    short, long = np.exp(-1 / (0.8 * scale)), np.exp(-1 / (1.8 * scale))
    return _clip(np.stack([zero, np.full(N_BINS, 0.25), short, long], 1))


def _clip(p: np.ndarray) -> np.ndarray:
    low = [2 / ZERO_ONE, 1 / MIX_ONE, 2.0**-20, 2.0**-20]
    high = [1 - 2 / ZERO_ONE, 1 - 1 / MIX_ONE, 1 - 2 / FALL_ONE, 1 - 2 / FALL_ONE]
    return np.clip(p, low, high)


def _expectation_maximisation(
    counts: np.ndarray, values: np.ndarray, prior: np.ndarray, prior_rows: float
) -> np.ndarray:
    """Posterior mode of (P(0), mix, r1, r2), with `prior` counting as `prior_rows` rows."""
    zero_count, total = counts[:, 0], counts.sum(1)
    zero = (zero_count + prior_rows * prior[:, 0]) / (total + prior_rows)
    positive, beyond = counts[:, 1:], np.maximum(values[:, 1:] - 1, 0)
    prior_positive = prior_rows * (1 - prior[:, 0])
    prior_n = np.stack([1 - prior[:, 1], prior[:, 1]], 1) * prior_positive[:, None]
    prior_sum = prior_n * prior[:, 2:] / (1 - prior[:, 2:])
    mix, r = prior[:, 1].copy(), prior[:, 2:].copy()
    for _ in range(ITERATIONS):
        log_law = np.log1p(-r)[:, :, None] + np.log(r)[:, :, None] * beyond[:, None]
        log_law[:, 0] += np.log1p(-mix)[:, None]
        log_law[:, 1] += np.log(mix)[:, None]
        second = positive / (1 + np.exp(np.clip(log_law[:, 0] - log_law[:, 1], -60, 60)))
        share = np.stack([positive - second, second], 1)
        n = share.sum(2) + prior_n
        mean = ((share * beyond[:, None]).sum(2) + prior_sum) / np.maximum(n, 1e-30)
        p = _clip(np.column_stack([zero, n[:, 1] / np.maximum(n.sum(1), 1e-30), mean / (1 + mean)]))
        mix, r = p[:, 1], p[:, 2:]
    return p


def _borrowed_shape(p: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Every bin's parameters as the bins around it suggest, carried over by their scales."""
    scale = _scales()
    shape = np.column_stack(
        [
            np.log(-0.5 / np.log1p(-p[:, 0]) / scale),
            np.log(p[:, 1] / (1 - p[:, 1])),
            np.log(-1 / np.log(p[:, 2]) / scale),
            np.log(-1 / np.log(p[:, 3]) / scale),
        ]
    )
    distance = np.abs(np.arange(N_BINS)[:, None] - np.arange(N_BINS)[None, :])
    # half weight per two bins; the tiny constant lets far bins speak where nothing is near
    nearness = (rows + 1e-6)[None, :] * 0.5 ** (distance / 2)
    nearness[np.diag_indices(N_BINS)] *= 1e-3
    smooth = nearness @ shape / nearness.sum(1, keepdims=True)
    zero = -np.expm1(-0.5 / (np.exp(smooth[:, 0]) * scale))
    r = np.exp(-1 / (np.exp(smooth[:, 2:]) * scale[:, None]))
    return _clip(np.column_stack([zero, 1 / (1 + np.exp(-smooth[:, 1])), r]))


def _integers(p: np.ndarray) -> np.ndarray:
    """Columns zero, mix, fall1, fall2 as integers; the first law is the one that falls faster."""
    swap = p[:, 2] > p[:, 3]
    p = p.copy()
    p[swap] = np.column_stack([p[swap, 0], 1 - p[swap, 1], p[swap, 3], p[swap, 2]])
    ones = np.array([ZERO_ONE, MIX_ONE, FALL_ONE, FALL_ONE], np.float64)
    out = np.rint(np.column_stack([p[:, 0], p[:, 1], 1 - p[:, 2], 1 - p[:, 3]]) * ones)
    return np.clip(out, 1, ones - 1).astype(np.uint32)


def code_lengths(pmf: np.ndarray, bins: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """Ideal bits of every row under an integer `pmf` table, sign included, float64 ``[n]``."""
    zero, mix, fall1, fall2 = (pmf[:, c].astype(np.float64)[bins] for c in range(4))
    zero, mix = zero / ZERO_ONE, mix / MIX_ONE
    beyond = np.maximum(np.asarray(magnitudes, np.float64) - 1, 0)

    def law(fall: np.ndarray) -> np.ndarray:
        return np.log(fall / FALL_ONE) + np.log1p(-fall / FALL_ONE) * beyond

    both = np.logaddexp(np.log1p(-mix) + law(fall1), np.log(mix) + law(fall2))
    positive = np.log1p(-zero) + both - np.log(2)
    return np.where(np.asarray(magnitudes) == 0, np.log(zero), positive) / -np.log(2)
