"""How arrays are cut into chunks, now and at first."""

from functools import partial

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import stream
from caesar_freq.codec.chunks import boxes, chunk_count
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import Header


@pytest.mark.parametrize("tall", [False, True])
def test_rows_of_tall_arrays(tall, monkeypatch):
    """Of streams with 512 rows in a chunk, as they were at first, and with as many as are wide."""
    x = np.random.default_rng(0).standard_normal((90_000, 7)).cumsum(0).astype(np.float32)
    monkeypatch.setattr(stream, "Header", partial(Header, tall=tall))
    monkeypatch.setattr(stream, "boxes", partial(boxes, tall=tall))
    data = caesar_freq.encode(x, "rel", 1e-2)
    monkeypatch.undo()
    whole = caesar_freq.decode(data)
    assert len(Container(data).header.chunks) == (3 if tall else 176)
    assert np.abs(whole - x).max() <= 1e-2 * np.ptp(x)
    np.testing.assert_array_equal(
        caesar_freq.decode(data, rows=(30_000, 61_000)), whole[30_000:61_000]
    )


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize(
    "size", [(2, 1), (513, 511), (700, 600), (3000, 20), (1 << 20, 1), (40, 3000)]
)
def test_chunks_cover_an_array_once(size, tall):
    shape = (1, 1, 1, *size)
    found, covered = list(boxes(shape, tall)), np.zeros(size, np.uint8)
    for box in found:
        covered[box.height, box.width] += 1
    assert covered.min() == covered.max() == 1
    assert len(found) == chunk_count(shape, tall)
    if tall and min(size) <= 512:  # narrow arrays are cut as low ones are
        assert len(found) == chunk_count((1, 1, 1, *size[::-1]))
