"""Contexts, network, tables and rANS: exact integers, any device, any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caesar_freq.codec.entropy_side import decode_ints, encode_ints
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.entropy.context import LOG_TABLE, shells
from caesar_freq.entropy.network import bins_reference, plane_bins
from caesar_freq.entropy.rans import LOWER, pull_magnitude, push_magnitude, write
from caesar_freq.entropy.tables import TOTAL, build_tables
from caesar_freq.errors import ModelError

MODEL = FrequencyModel.base()


def test_log_table_is_the_rounded_logarithm():
    x = np.arange(len(LOG_TABLE))
    np.testing.assert_array_equal(LOG_TABLE, np.minimum(127, np.round(8 * np.log2(1 + x))))


def test_shells_visit_every_frequency_after_its_lower_neighbours():
    starts, positions = shells(4, 5, 6)
    assert len({tuple(p) for p in positions}) == 120
    for s, (a, b) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        assert set(positions[a:b].sum(1)) == {s}


def test_tables_are_complete_and_positive():
    tables = MODEL.tables
    for row, last in zip(tables.cumulative, tables.escape, strict=True):
        assert row[0] == 0 and row[last + 1] == TOTAL
        assert (np.diff(row[: last + 2]) > 0).all()


def test_table_follows_the_documented_law():
    pmf = MODEL.pmf.copy()
    pmf[:] = (1 << 15, 1 << 14, 1 << 22, 1 << 21)
    row = build_tables(pmf).cumulative[0]
    r1, r2 = 0.75, 0.875
    for m in (1, 2, 5):
        law = 0.5 * (0.75 * (1 - r1) * r1 ** (m - 1) + 0.25 * (1 - r2) * r2 ** (m - 1))
        assert (row[m + 1] - row[m]) / TOTAL == pytest.approx(law, rel=0.01)


def test_kernel_network_equals_plain_integers():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 128, (1003, 24)).astype(np.uint8)
    features[:, 15:22] = features[0, 15:22]  # one plane
    weights = tuple(getattr(MODEL, n) for n in ("w1", "b1", "w2", "b2", "w3", "b3"))
    expected = bins_reference(features, weights)
    w_local, w_plane, b1, w2, b2, w3, b3 = MODEL.network
    bias = b1 + features[0, 15:22].astype(np.float32) @ w_plane
    local = np.zeros((1007, 17), np.float32)
    local[:1003] = features[:, [*range(15), 22, 23]]
    bins = np.empty(1003, np.int32)
    plane_bins(local, 1003, w_local, bias, w2, b2, w3, b3[0], bins)
    np.testing.assert_array_equal(bins, expected)
    assert len(np.unique(bins)) > 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_do_not_depend_on_dtype_or_summation_order(dtype):
    rng = np.random.default_rng(1)
    features = rng.integers(0, 128, (500, 24))
    weights = [getattr(MODEL, n) for n in ("w1", "b1", "w2", "b2", "w3", "b3")]
    order = rng.permutation(24)
    w1, b1, w2, b2, w3, b3 = (w.astype(dtype) for w in weights)
    hidden = b1.copy() + np.zeros((500, 16), dtype)
    for i in order:  # any order of summation
        hidden += features[:, i : i + 1].astype(dtype) * w1[i]
    hidden = np.clip(np.floor(hidden / 64), 0, 127)
    hidden = np.clip(np.floor((hidden @ w2 + b2) / 64), 0, 127)
    bins = np.clip(np.floor((hidden @ w3 + b3[0]) / 128) + 40, 0, 79)
    np.testing.assert_array_equal(bins, bins_reference(features.astype(np.uint8), weights))


MAGNITUDES = st.one_of(st.integers(-20, 20), st.integers(-(1 << 29), 1 << 29))


@given(st.lists(st.tuples(MAGNITUDES, st.integers(0, 79)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_rans_returns_any_value_under_any_bin(pairs):
    tables = MODEL.tables
    starts, counts = np.empty(400, np.uint16), np.empty(400, np.uint16)
    n = 0
    for value, b in pairs:
        n = push_magnitude(value, b, tables.cumulative, tables.escape, starts, counts, n)
    words = np.empty(n + 2, np.uint32)
    state, used = write(starts, counts, n, words)
    state, position = np.uint64(state), used
    for value, b in pairs:
        got, state, position = pull_magnitude(
            b, tables.cumulative, tables.escape, tables.coarse, np.uint64(state), words, position
        )
        assert got == value
    assert int(state) == int(LOWER) and position == 0


@given(st.lists(st.integers(-30, 40), min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_side_integers_round_trip(values):
    values = np.array(values)
    np.testing.assert_array_equal(decode_ints(encode_ints(values, -30, 40), len(values), -30, 40),
                                  values)  # fmt: skip


def test_model_bytes_round_trip_and_refuse_others():
    data = MODEL.to_bytes()
    assert len(data) < 4000
    assert FrequencyModel.from_bytes(data).fingerprint == MODEL.fingerprint
    for broken in (data[:-3], b"CFM1", data[:10] + b"\0" + data[11:], b"whatever"):
        with pytest.raises(ModelError):
            FrequencyModel.from_bytes(broken)


def test_model_refuses_sums_that_float32_cannot_hold():
    state = MODEL.state_dict()
    with pytest.raises(ModelError, match="2\\*\\*24"):
        FrequencyModel.from_state_dict({**state, "b1": np.full(16, 1 << 24)})
    with pytest.raises(ModelError, match="not a frequency compressor"):
        FrequencyModel.from_state_dict({"conv.weight": np.zeros(3)})
