"""What Python calls refuse since it would be misunderstood; files and options are in test_bad_input."""

from pathlib import Path

import numpy as np
import pytest

import caesar_freq
from caesar_freq.errors import InputError

X = np.random.default_rng(0).standard_normal((4, 9, 10)).astype(np.float32).cumsum(0)


def test_a_mask_is_never_dropped():
    """The numbers below a mask may be anything, and would count for the range."""
    masked = np.ma.masked_greater(X, 1)
    with pytest.raises(InputError, match=r"masked array.*filled\(numpy.nan\)"):
        caesar_freq.encode(masked)
    for data in (masked, [masked], [{"input": masked}]):
        with pytest.raises(InputError, match="masked array"):
            caesar_freq.CAESARFreq().compress(data)
    decoded = caesar_freq.decode(caesar_freq.encode(masked.filled(np.nan), "abs", 0.1))
    np.testing.assert_array_equal(np.isnan(decoded), masked.mask)


@pytest.mark.parametrize("path", ["x.cfq", Path("x.cfq")])
@pytest.mark.parametrize("function", [caesar_freq.decode, caesar_freq.info])
def test_a_path_is_no_stream(function, path):
    with pytest.raises(InputError, match=r"x.cfq is a path.*CfqFile\('x.cfq'\)"):
        function(path)


@pytest.mark.parametrize("bound", ["1e-3", None, 1j, [1e-3], np.nan, -1])
def test_a_bound_is_a_number(bound):
    with pytest.raises(InputError, match="the bound is .*; it must be a finite number"):
        caesar_freq.encode(X, "abs", bound)


@pytest.mark.parametrize("bound", [1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_any_number_will_do(bound):
    decoded = caesar_freq.decode(caesar_freq.encode(X, "abs", bound))
    assert np.abs(decoded - X).max() <= bound
