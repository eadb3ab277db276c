"""A compressed file against its original, chunk by chunk."""

import math

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec.chunks import boxes
from caesar_freq.codec.container import Container
from caesar_freq.comparison import compare
from caesar_freq.data.lazy import Source
from caesar_freq.metrics import distortion


def test_verify_goes_chunk_by_chunk(tmp_path):
    """Neither the original nor what is decoded has to fit into memory."""
    t, y, x = np.ogrid[0:70, 0:256, 0:256]
    field = np.sin(t / 9 + x / 30 + y / 50).astype(np.float32)
    field[3, :9] = np.nan
    two = np.stack([field, 9 * field])
    (tmp_path / "x.cfq").write_bytes(caesar_freq.encode(two, "rel", 1e-3))
    largest, source = 0, Source.of(two)

    class Counted:
        shape, dtype = source.shape, source.dtype

        def read(self, index):
            nonlocal largest
            values = source.read(index)
            largest = max(largest, values.size)
            return values

    with open(tmp_path / "x.cfq", "rb") as file:
        found = compare(Counted(), Container(file), threads=1)
    assert largest == max(math.prod(box.shape) for box in boxes((2, 1, *field.shape)))
    assert largest < two.size / 2
    decoded = caesar_freq.decode((tmp_path / "x.cfq").read_bytes())
    measured = distortion(two, decoded)
    assert found["nrmse"] == pytest.approx(measured.nrmse, rel=1e-9)
    assert found["max_error_rel"] == pytest.approx(measured.max_error_rel, rel=1e-12)
    assert found["psnr"] == pytest.approx(measured.psnr, rel=1e-9)
    assert found["bound_held"] and found["special_values_equal"]
    good = two != 0
    own = np.abs(two - decoded.astype(np.float64))[good] / np.abs(two[good])
    assert found["max_error_pw_rel"] == pytest.approx(np.nanmax(own), rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "bound"),
    [("abs", 0.1), ("rel", 1e-2), ("nrmse", 1e-2), ("psnr", 40.0), ("pw_rel", 0.1)],
)
def test_compare_tells_a_broken_bound_in_every_mode(mode, bound):
    x = np.random.default_rng(0).standard_normal((4, 30, 40)).cumsum(1)
    stream = Container(caesar_freq.encode(x, mode, bound))
    assert compare(Source.of(x), stream)["bound_held"]
    for wrong in (x + np.where(x == x[2, 3, 4], 90.0, 0), np.where(x == x[2, 3, 4], np.nan, x)):
        result = compare(Source.of(wrong), stream)
        assert not result["bound_held"] and not result["variables"][0]["bound_held"]
