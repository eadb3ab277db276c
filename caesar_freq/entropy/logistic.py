"""Logistic mixing of binary predictions in integers, and the table of adaptive probabilities.

The scheme of lpaq (Mahoney 2007): every context keeps a probability; their logits are summed with
weights that learn online by gradient descent on coding cost. Logits are in units of 1/256 nat,
probabilities in 2**-16. All tables are computed in integers, so every machine has the same ones.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.binary import RANGE, code_split
from caesar_freq.kernels.jit import njit

#: Logits stay below this in size (11.5 nats, a probability of 2**-16.6).
LIMIT = 2943
_SIXTEEN = np.uint64(16)
#: A slot holds a probability of 22 bits above a count of 10 bits.
_COUNT_BITS, _COUNT_MASK = 10, 1023
#: exp(1/256) in units of 2**-60, from its series in integers.
_UNIT = 1 << 60


def _exponential_of_one_step() -> int:
    term = total = _UNIT
    for k in range(1, 12):
        term //= 256 * k
        total += term
    return total


def _squash_table() -> np.ndarray:
    """Probability (2**-16) of every logit from ``-LIMIT`` to ``LIMIT``: ``1 / (1 + exp(-x))``."""
    step, power, upper = _exponential_of_one_step(), _UNIT, []
    for _ in range(LIMIT + 1):
        upper.append((power << 16) // (power + _UNIT))
        power = power * step // _UNIT
    lower = [65536 - p for p in upper[:0:-1]]
    return np.clip(np.array(lower + upper, np.int64), 1, 65535).astype(np.int32)


SQUASH = _squash_table()
#: Logit of a probability in units of 2**-14.
STRETCH = (np.searchsorted(SQUASH, np.arange(1 << 14) * 4 + 2) - LIMIT).clip(-LIMIT, LIMIT)
STRETCH = STRETCH.astype(np.int32)
#: 2**16 / (n + 1.5): how far a probability moves after n bits.
RATES = np.array([(1 << 17) // (2 * n + 3) for n in range(_COUNT_MASK + 1)], np.int64)


def new_slots(n_contexts: int, bits: int) -> np.ndarray:
    """Probabilities 1/2 that have seen nothing: uint32 [n_contexts, 2**bits]."""
    return np.full((n_contexts, 1 << bits), 1 << 31, np.uint32)


@njit(nogil=True, cache=True)
def learn(slots, at, bit, longest):
    """Move the probability of slot `at` towards `bit`; it remembers about `longest` bits."""
    slot = np.int64(slots[at])
    count = slot & _COUNT_MASK
    probability = slot >> _COUNT_BITS
    goal = 4194303 if bit else 0
    probability += (goal - probability) * RATES[count] >> 16
    slots[at] = np.uint32(probability << _COUNT_BITS | min(count + 1, longest))


@njit(nogil=True, cache=True)
def code_mixed(bit, probability, state, data, decoding):
    """Code a bit that is 1 with `probability` (1 to 65535 of 65536)."""
    ones = (state[RANGE] >> _SIXTEEN) * np.uint64(probability)
    return code_split(bit, ones, state, data, decoding)
