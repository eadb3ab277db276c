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


@pytest.mark.parametrize("function", [caesar_freq.decode, caesar_freq.info])
def test_what_holds_no_bytes_is_named(function, tmp_path):
    path = tmp_path / "x.cfq"
    path.write_bytes(caesar_freq.encode(X))
    with open(path) as text:
        for other in (text, None, 3):
            with pytest.raises(
                InputError, match="holds no bytes; give bytes or a file opened with"
            ):
                function(other)
    with open(path, "rb") as file:
        function(file)
        whole = caesar_freq.info(file)
    data = path.read_bytes()
    assert whole == caesar_freq.info(data) == caesar_freq.info(memoryview(data))


@pytest.mark.parametrize("threads", [-1, 0, 1.5, "2"])
def test_a_number_of_threads_is_positive(threads):
    data = caesar_freq.encode(X)
    for call in (lambda: caesar_freq.encode(X, threads=threads),
                 lambda: caesar_freq.decode(data, threads=threads)):  # fmt: skip
        with pytest.raises(InputError, match="threads is .*; give a number of at least 1"):
            call()


@pytest.mark.parametrize("options, says", [({"fill_value": "none"}, "the fill value is 'none'"),
                                           ({"metadata": "text"}, "the metadata are str")])  # fmt: skip
def test_other_options_of_another_type_are_named(options, says):
    with pytest.raises(InputError, match=says):
        caesar_freq.encode(X, **options)


def test_a_list_of_frames_is_no_range():
    """A list of variables is each of them; two frames would have become all between them."""
    data = caesar_freq.encode(X)
    for name in ("frames", "rows", "columns"):
        with pytest.raises(InputError, match=rf"{name} is \[1, 3\]; give a slice, a pair"):
            caesar_freq.decode(data, **{name: [1, 3]})


def test_a_file_is_an_array(tmp_path):
    path = tmp_path / "x.cfq"
    path.write_bytes(caesar_freq.encode(X, "abs", 0.1))
    with caesar_freq.CfqFile(path) as file:
        whole = file[...]
        for array in (np.asarray(file), np.array(file), np.asarray(file, np.float64)):
            np.testing.assert_array_equal(array, whole)
        assert np.asarray(file, np.float64).dtype == np.float64
        assert len(file) == len(X) == sum(1 for _ in file)
        np.testing.assert_array_equal(file[np.int64(-1)], whole[-1])
        for other in (4, -5, True, [0, 1], None, 1.5, "0", np.array([True] * 4)):
            with pytest.raises(IndexError, match="an index is|index -?[45] is out of bounds"):
                file[other]


@pytest.mark.parametrize("bound", ["1e-3", None, 1j, [1e-3], np.nan, -1, 10**400])
def test_a_bound_is_a_number(bound):
    with pytest.raises(InputError, match="the bound is .*; it must be a finite number"):
        caesar_freq.encode(X, "abs", bound)


@pytest.mark.parametrize("bound", [1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1)])
def test_any_number_will_do(bound):
    decoded = caesar_freq.decode(caesar_freq.encode(X, "abs", bound))
    assert np.abs(decoded - X).max() <= bound
