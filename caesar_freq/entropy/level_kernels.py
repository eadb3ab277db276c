"""The loop of `entropy.levels` over the cells of a frame, for numba; `kernels/levels.c` is its twin."""

from __future__ import annotations

import numpy as np

from caesar_freq.entropy.binary import AT
from caesar_freq.entropy.integers import (
    bit_length,
    clip,
    eighth_octave,
    half_octave,
    median,
    signed_octave,
)
from caesar_freq.entropy.least_squares import N_COLUMNS, STRIPE, gather, learn_level, predict
from caesar_freq.entropy.level_blend import blended, blended_sharply
from caesar_freq.entropy.logistic import LIMIT, SQUASH, STRETCH, code_mixed, learn
from caesar_freq.kernels.jit import njit

# Predictions are in 1/8 level.
_FINE = 3
N_NEIGHBOURS, N_CONTEXTS = 17, 8
# The last is by least squares, where that is used.
N_PREDICTORS = 8
_HASH = np.uint64(0x9E3779B97F4A7C15)
_NODE_HASH = np.uint64(0xD6E8FEB86659FD93)
# Numbers of the decisions: zero, sign, exponent (unary), first and second bit below the leading one.
_ZERO, _SIGN, _EXPONENT, _LOWER, _FIRST, _SECOND, N_NODES = 0, 1, 2, 32, 64, 96, 160
LARGEST_EXPONENT = 28
MIX_SETS = 12
ROOM = 160  # bytes that one level can take at most
_LONGEST = 400
# With the predictor by least squares, and without.
_RATE, _EARLIER_RATE = 6, 10
N_BIAS = 1024


@njit(nogil=True, cache=True)
def _code(
    bit, node, set_, rate, shift, hashes, slots, places, logits, mixer, state, data, decoding
):
    """Code one decision in all contexts and learn from it."""
    weights = mixer[set_ * N_NODES + node]
    total = np.int64(0)
    for k in range(N_CONTEXTS):
        at = np.int64(((hashes[k] + np.uint64(node) * _NODE_HASH) * _HASH) >> shift)
        places[k] = at
        logits[k] = STRETCH[slots[k, at] >> 18]
        total += weights[k] * logits[k]
    total = clip(total >> 16, -LIMIT, LIMIT)
    probability = SQUASH[total + LIMIT]
    bit = code_mixed(bit, probability, state, data, decoding)
    error = ((bit << 16) - probability) * rate
    for k in range(N_CONTEXTS):
        weights[k] += (logits[k] * error + (1 << 17)) >> 18
        learn(slots[k], places[k], bit, _LONGEST)
    return bit


@njit(nogil=True, cache=True)
def code_error(
    error,
    likely,
    set_,
    rate,
    one_sided,
    shift,
    hashes,
    slots,
    places,
    logits,
    mixer,
    state,
    data,
    decoding,
):
    """Code `error`: zero flag, sign (unless only + is possible), exponent, bits below."""
    args = (set_, rate, shift, hashes, slots, places, logits, mixer, state, data, decoding)
    if _code(1 if error == 0 else 0, _ZERO, *args):
        return 0
    negative = 0
    if not one_sided:
        negative = _code(1 if error < 0 else 0, _SIGN, *args)
    size = abs(error)
    exponent = bit_length(size) - 1
    # the sign is part of the contexts from here on
    for k in range(N_CONTEXTS):
        hashes[k] += np.uint64(negative * 7919)
    # unary, up or down from the exponent that the activity suggests
    n = likely
    if _code(1 if exponent > n else 0, _EXPONENT + n, *args):
        n += 1
        while n < LARGEST_EXPONENT and _code(1 if exponent > n else 0, _EXPONENT + n, *args):
            n += 1
    else:
        while n > 0 and _code(1 if exponent < n else 0, _LOWER + n, *args):
            n -= 1
    value = 1
    for i in range(n):
        bit = size >> (n - 1 - i) & 1
        if i == 0:
            bit = _code(bit, _FIRST + n, *args)
        elif i == 1:
            bit = _code(bit, _SECOND + 2 * n + (value & 1), *args)
        else:
            bit = code_mixed(bit, 32768, state, data, decoding)
        value = 2 * value + bit
    return -value if negative else value


@njit(nogil=True, cache=True)
def code_frame(
    frame, before, older, errors, errors_before, skip, top, weights, bias, costs, sums, fit,
    slots, mixer, state, data, limit, decoding,
):  # fmt: skip
    """Code or fill in a frame; returns the buffer that holds the bytes, empty if over `limit`.

    `sums` and `fit` are of `least_squares`, empty where there is no such predictor.
    """
    fitted = len(fit) > 0
    rate = _RATE if fitted else _EARLIER_RATE
    around = np.zeros(N_COLUMNS)
    stripe, level_base = 0, np.int64(0)
    height, width = frame.shape[0] - 3, frame.shape[1] - 4
    shift = np.uint64(64 - bit_length(slots.shape[1] - 1))
    near = np.zeros(N_NEIGHBOURS, np.int64)
    inputs = np.zeros(N_NEIGHBOURS, np.int64)
    guess = np.zeros(N_PREDICTORS if fitted else N_PREDICTORS - 1, np.int64)
    hashes = np.zeros(N_CONTEXTS, np.uint64)
    places = np.zeros(N_CONTEXTS, np.int64)
    logits = np.zeros(N_CONTEXTS, np.int64)
    for y in range(2, height + 2):
        frame[y, 0] = frame[y, 1] = frame[y - 1, 2]
        above, row = costs[(y + 1) & 1], costs[y & 1]
        for x in range(2, width + 2):
            w, ww, n, nn = frame[y, x - 1], frame[y, x - 2], frame[y - 1, x], frame[y - 2, x]
            nw, ne, nne = frame[y - 1, x - 1], frame[y - 1, x + 1], frame[y - 2, x + 1]
            c, pw, pn = before[y, x], before[y, x - 1], before[y - 1, x]
            pe, ps, pnw = before[y, x + 1], before[y + 1, x], before[y - 1, x - 1]
            pne, psw, pse = before[y - 1, x + 1], before[y + 1, x - 1], before[y + 1, x + 1]
            old = older[y, x]
            # predictors
            texture = median(w, n, nw)
            guess[0] = texture << _FINE
            guess[1] = ((w + n) << (_FINE - 1)) + ((ne - nw) << (_FINE - 2))
            guess[2] = c << _FINE
            guess[3] = (c + median(w - pw, n - pn, nw - pnw)) << _FINE
            guess[4] = (c << _FINE) + ((w - pw + n - pn) << (_FINE - 1))
            guess[5] = w + n + ne + nw + c + c + ps + pe
            base = (w + n + c + c) >> 2
            near[0], near[1], near[2], near[3], near[4], near[5] = w, ww, n, nn, nw, ne
            near[6], near[7], near[8], near[9], near[10], near[11] = nne, c, pw, pn, pe, ps
            near[12], near[13], near[14], near[15], near[16] = pnw, pne, psw, pse, old
            total = np.int64(0)
            energy = np.int64(0)
            for k in range(N_NEIGHBOURS):
                d = near[k] - base
                inputs[k] = d
                total += weights[k] * d
                energy += d * d
            learned = (base << _FINE) + (total >> (16 - _FINE))
            guess[6] = clip(learned, 0, top << _FINE)
            # blend
            if fitted:
                stripe = (x - 2) // STRIPE
                level_base = gather(frame, before, older, y, x, around)
                guess[7] = predict(
                    level_base, around, sums[stripe], fit[stripe], (x - 2) % STRIPE == 0
                )
                guess[7] = clip(guess[7], 0, top << _FINE)
                blend = blended_sharply(guess, above, row, x)
            else:
                blend = blended(guess, above, row, x)
            # activity
            ew, en, ec = errors[y, x - 1], errors[y - 1, x], errors_before[y, x]
            enw, ene = errors[y - 1, x - 1], errors[y - 1, x + 1]
            eww = errors[y, x - 2]
            local = 2 * (abs(ew) + abs(en)) + abs(enw) + abs(ene) + abs(eww)
            earlier = (
                2 * abs(ec)
                + abs(errors_before[y, x + 1])
                + abs(errors_before[y + 1, x])
                + abs(errors_before[y + 1, x + 1])
                + abs(errors_before[y, x - 1])
            )
            slope = abs(w - nw) + abs(n - nw) + abs(n - ne) + abs(w - ww)
            activity = min(half_octave(local), 24)
            # bias of the texture
            pattern = (
                (w > texture)
                + 2 * (n > texture)
                + 4 * (c > texture)
                + 8 * (ne > texture)
                + 16 * (c == texture)
                + 32 * (nw > texture)
            )
            pattern = pattern * 12 + min(activity, 11)
            seen = bias[pattern, 1]
            blend += bias[pattern, 0] // (seen + 1)
            fine = clip(blend, 0, top << _FINE)
            centre = (fine + (1 << (_FINE - 1))) >> _FINE
            if skip[y - 2, x - 2]:
                if skip[y - 2, x - 2] == 1:
                    frame[y, x] = centre
                errors[y, x] = 0
                for k in range(len(guess)):
                    row[k, x] = above[k, x]
                continue
            part = fine - (centre << _FINE) + 4
            quick = min(half_octave(earlier), 20)
            hashes[0] = np.uint64(activity * 8 + part)
            hashes[1] = np.uint64((activity >> 1) * 32 + quick) * np.uint64(64) + np.uint64(
                min(half_octave(slope), 20)
            )
            hashes[2] = np.uint64(
                signed_octave(w - centre, 8) * 17 + signed_octave(n - centre, 8)
            ) * np.uint64(32) + np.uint64(signed_octave(c - centre, 6))
            hashes[3] = np.uint64(
                signed_octave(c - centre, 9) * 19 + signed_octave(ec, 9)
            ) * np.uint64(32) + np.uint64(activity >> 1)
            hashes[4] = np.uint64(
                signed_octave(guess[0] - fine, 9) * 19 + signed_octave(guess[3] - fine, 9)
            ) * np.uint64(32) + np.uint64(signed_octave(guess[6] - fine, 9))
            hashes[5] = np.uint64(clip(w - centre, -60, 60) + 64) * np.uint64(1 << 14) + np.uint64(
                (clip(n - centre, -60, 60) + 64) * 128 + clip(c - centre, -60, 60) + 64
            )
            hashes[6] = np.uint64(centre) * np.uint64(32) + np.uint64(min(activity, 8))
            if fitted:
                spread = min(half_octave((guess.max() - guess.min()) >> 1), 24)
                hashes[4] = np.uint64(spread * 32 + activity) * np.uint64(32) + np.uint64(
                    signed_octave(guess[7] - fine, 9)
                )
                hashes[6] = np.uint64(eighth_octave(centre) * 32 + activity)
            hashes[7] = np.uint64(signed_octave(ew, 9) * 19 + signed_octave(en, 9)) * np.uint64(
                512
            ) + np.uint64(signed_octave(ene, 6) * 19 + signed_octave(ec, 9))
            if not decoding and np.int64(state[AT]) + ROOM > len(data):
                if len(data) >= limit:
                    return data[:0]
                larger = np.zeros(2 * len(data) + ROOM, np.uint8)
                larger[: len(data)] = data
                data = larger
            likely = max(bit_length(local // 7) - 1, 0)
            set_ = min(activity >> 1, MIX_SETS - 1)
            error = code_error(
                frame[y, x] - centre, likely, set_, rate, centre == 0, shift, hashes, slots, places, logits, mixer,
                state, data, decoding,
            )  # fmt: skip
            # damaged data may say more than the range allows; contexts may not leave theirs then
            value = clip(centre + error, 0, top)
            frame[y, x] = value
            errors[y, x] = value - centre
            # learn
            true = value << _FINE
            for k in range(len(guess)):
                row[k, x] = abs(guess[k] - true)
            if fitted:
                learn_level(value, level_base, around, sums[stripe], fit[stripe])
            off = clip(true - learned, -(1 << 14), 1 << 14)
            gain = (off << 20) // (energy + 4)
            for k in range(N_NEIGHBOURS):
                weights[k] = clip(weights[k] + ((gain * inputs[k]) >> 14), -(1 << 19), 1 << 19)
            bias[pattern, 0] += clip(true - blend, -(1 << 10), 1 << 10)
            bias[pattern, 1] += 1
            if seen > 254:
                bias[pattern, 0] >>= 1
                bias[pattern, 1] >>= 1
        frame[y, width + 2] = frame[y, width + 3] = frame[y, width + 1]
        for k in range(len(guess)):
            row[k, 1] = row[k, 2]
            row[k, width + 2] = row[k, width + 1]
    return data
