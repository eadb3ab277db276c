"""The step is found from the sizes of coefficients, and errors are told from coefficients."""

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import coders, encoder, search, stream
from caesar_freq.codec.search import RoundingModel, step_of
from caesar_freq.kernels.errors import size_histogram


def field(shape=(48, 40, 50), seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(3):
        x = x.cumsum(axis)
    return x.astype(np.float32)


@pytest.mark.parametrize("dead_zone", [0.5, 0.66])
@pytest.mark.parametrize("index", [-3000, -1500, 0, 800])
def test_rounding_error_is_known_from_the_histogram(dead_zone, index):
    y = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    step = step_of(index)
    x = np.abs(y.astype(np.float64)) / step
    error = step * np.sqrt(np.mean(np.where(x < dead_zone, x, x - np.rint(x)) ** 2))
    model = RoundingModel(size_histogram(y), y.size, dead_zone)
    assert model.error(index) == pytest.approx(error, rel=4e-3)


def rounds(monkeypatch, array, bound, **options):
    """Steps that are tried, and the stream."""
    tried, largest = [], search.largest_step

    def counted(evaluate, *arguments):
        def one(index):
            tried.append(index)
            return evaluate(index)

        return largest(one, *arguments)

    monkeypatch.setattr(encoder, "largest_step", counted)
    return tried, caesar_freq.encode(array, "nrmse", bound, **options)


@pytest.mark.parametrize("bound", [1e-2, 1e-3, 1e-4])
def test_the_first_step_is_nearly_always_right(monkeypatch, bound):
    x = field()
    monkeypatch.setattr(encoder, "_FEW", 0)  # small files look for the step of one grid, too
    tried, data = rounds(monkeypatch, x, bound, spatial=(("lot", 16),))
    error = np.sqrt(np.mean((caesar_freq.decode(data).astype(np.float64) - x) ** 2)) / np.ptp(x)
    assert 0.99 * bound < error <= bound
    # half of the cells of so small a volume tell the error within half a percent, and from one step to
    # the next it changes by as much
    assert len(tried) <= 4


def test_a_wrong_estimate_is_noticed_and_mended(monkeypatch):
    """The last check decodes the bytes; where it fails, errors are measured on values."""
    x = field()
    right = caesar_freq.encode(x, "nrmse", 1e-3)
    monkeypatch.setattr(
        coders.ChunkCoder, "measured", lambda self, step, dead: (self.code(step, dead).data, 0.0)
    )
    calls, make = [], stream.Encoder
    monkeypatch.setattr(
        stream, "Encoder", lambda *a, **k: calls.append(k["exact"]) or make(*a, **k)
    )
    data = caesar_freq.encode(x, "nrmse", 1e-3)
    assert calls == [False, True]
    assert len(data) == pytest.approx(len(right), rel=0.01)
    error = np.sqrt(np.mean((caesar_freq.decode(data).astype(np.float64) - x) ** 2)) / np.ptp(x)
    assert error <= 1e-3


def test_a_limited_search_is_content_with_less_after_some_rounds():
    def error(index):
        tried.append(index)
        return reached if index < 7 else 1.1

    tried: list[int] = []
    for reached, limited in ((0.93, 3), (0.85, search.ROUNDS)):  # enough from 2 * 0.95 - 1 on
        found = search.largest_step(error, 1.0, -300, closest=0.95, rounds=3)
        assert error(found) == reached
        assert len(tried) - 1 == limited
        tried.clear()
    # at the start none keeps it: the search goes on
    reached = 0.93
    assert error(search.largest_step(error, 1.0, 500, closest=0.95, rounds=1)) == reached
