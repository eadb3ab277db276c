"""Dependent quantiser: two grids, taken in turn as the parities of the levels before say.

Grid 0 holds the even multiples of a step, grid 1 zero and the odd ones. A machine of eight phases,
moved on by the parity of each level in coding order, says which grid a level counts in. The points
of both together are dense, but each level is coded among those of one grid: at equal error that
saves up to 0.18 bits a coefficient (Marcellin and Fischer, "Trellis coded quantization of memoryless
and Gauss-Markov sources", 1990; the machine is Ungerboeck's eight-state code of 1982; grids with a
zero each are those of Versatile Video Coding, Schwarz and others 2021). Which levels are best is for
the encoder to find (`codec.trellis`).

A decoder needs no more than `next_phase`. Each time block begins in phase 0.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.context import log_table
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.kernels.jit import njit

N_PHASES = 8
#: A step of both grids together is this part of that of a plain quantiser with about the same error.
FINER = 9 / 16
#: Contexts count values in two steps: `context.LOG_TABLE` of half of them.
HALF_TABLE = log_table(2)
#: Larger levels are no levels of an encoder.
_LARGEST = 1 << 29


@njit(nogil=True, cache=True)
def grid_of(phase):
    """Which of the two grids a phase uses."""
    return phase & 1


@njit(nogil=True, cache=True)
def next_phase(phase, level):
    """The phase after a level."""
    grid = phase & 1
    return ((phase >> 1 & 1) ^ grid) | (((phase >> 2) ^ (level & 1)) << 1) | grid << 2


@njit(nogil=True, cache=True)
def phase_before(phase, odd):
    """The phase before `phase` if the level there was even (`odd` is 0) or odd (1)."""
    grid = phase >> 2
    return grid | ((phase & 1) ^ grid) << 1 | ((phase >> 1 & 1) ^ odd) << 2


@njit(nogil=True, cache=True)
def value_of(level, grid):
    """Value in steps of a level of a grid."""
    if level == 0:
        return level
    value = 2 * min(abs(level), _LARGEST) - grid
    return value if level > 0 else -value


@njit(nogil=True, cache=True)
def level_of(value, grid):
    """Inverse of `value_of`."""
    return (value + grid) >> 1 if value >= 0 else -((grid - value) >> 1)


@njit(nogil=True, cache=True)
def levels_of(values, bins, phase):
    """Turn `values` in coding order into levels, and `bins` into those of their grids, in place.

    Returns the phase behind them.
    """
    for a in range(len(values)):
        grid = grid_of(phase)
        level = level_of(np.int64(values[a]), grid)
        values[a] = level
        bins[a] += grid * N_BINS
        phase = next_phase(phase, level)
    return phase
