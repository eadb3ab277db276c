"""How arrays are cut into chunks, now and at first."""

from functools import partial

import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import stream
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.chunks import boxes, chunk_count, chunk_frames
from caesar_freq.codec.container import Container


@pytest.mark.parametrize("narrow", [False, True])
def test_rows_of_tall_arrays(narrow, monkeypatch):
    """Of streams with 512 rows in a chunk, as they were at first, and with as many as are wide."""
    x = np.random.default_rng(0).standard_normal((90_000, 7)).cumsum(0).astype(np.float32)
    monkeypatch.setattr(stream, "_may_be_blocks", lambda source, options: False)
    monkeypatch.setattr(stream, "_stream", partial(stream._stream, narrow=narrow))
    data = caesar_freq.encode(x, "rel", 1e-2)
    monkeypatch.undo()
    whole = caesar_freq.decode(data)
    assert len(Container(data).header.chunks) == (3 if narrow else 176)
    assert np.abs(whole - x).max() <= 1e-2 * np.ptp(x)
    np.testing.assert_array_equal(
        caesar_freq.decode(data, rows=(30_000, 61_000)), whole[30_000:61_000]
    )


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 1300, 1, 300), (1, 2, 900, 40, 1), (2000, 1, 1)])
def test_lines_in_time_are_tables(shape, narrow, monkeypatch):
    """Frames of one row or one column: any part of them returns, coded as tables or in blocks of frames."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).cumsum(-3).astype(np.float32)
    x[..., 7:20, :, 0] = np.nan
    monkeypatch.setattr(stream, "_may_be_blocks", lambda source, options: False)
    monkeypatch.setattr(stream, "_stream", partial(stream._stream, narrow=narrow))
    for mode, bound in (("rel", 1e-2), ("pw_rel", 1e-3), ("lossless", 0)):
        data = caesar_freq.encode(x, mode, bound)
        whole = caesar_freq.decode(data)
        for before, after in zip(x.reshape(-1, *shape[-3:]), whole.reshape(-1, *shape[-3:])):
            if len(shape) < 5 or shape[0] > 1:  # the range is that of all sections
                assert bound_holds(before, after, mode, bound)
        assert whole.shape == shape and np.isnan(whole).sum() == np.isnan(x).sum()
        part = caesar_freq.decode(data, frames=(300, 620), rows=slice(-1, None), columns=0)
        np.testing.assert_array_equal(part, whole[..., 300:620, -1:, :1])
        assert {box.shape[0] == 1 for box in Container(data).header.places()} == {narrow}
        assert sum(caesar_freq.info(data)["modes_used"].values()) == x[..., 0, 0].size


def test_tables_and_blocks_of_frames_are_compared():
    """A day of stations is shorter as a table, a season of them in long blocks of frames."""
    hours = np.arange(1300.0)[:, None, None] / 24
    stations = np.sin(6.283 * hours + np.arange(7)) + np.cumsum(np.sin(hours**2), 0) / 9
    waves = np.sin(hours + np.arange(7)) + np.sin(6.283 * hours)
    for x, bound, tables in ((stations, 1e-3, True), (waves, 1e-2, False)):
        data = caesar_freq.encode(x.astype(np.float32), "rel", bound)
        assert Container(data).header.narrow == tables
        assert bound_holds(x.astype(np.float32), caesar_freq.decode(data), "rel", bound)
    for options in ({"effort": 0}, {"mode": "lossless", "bound": 0.0}):
        data = caesar_freq.encode(waves.astype(np.float32), **options)
        assert Container(data).header.narrow


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    "size", [(2, 1), (513, 511), (700, 600), (3000, 20), (1 << 20, 1), (40, 3000)]
)
def test_chunks_cover_an_array_once(size, narrow):
    shape = (1, 1, 1, *size)
    found, covered = list(boxes(shape, narrow)), np.zeros(size, np.uint8)
    for box in found:
        covered[box.height, box.width] += 1
    assert covered.min() == covered.max() == 1
    assert len(found) == chunk_count(shape, narrow)
    if narrow and min(size) <= 512:  # narrow arrays are cut as low ones are
        assert len(found) == chunk_count((1, 1, 1, *size[::-1]))


@pytest.mark.parametrize("size", [(1300, 1, 300), (1300, 512, 1), (5, 1, 1), (1300, 1, 513)])
def test_parts_of_lines_in_time_have_the_chunks_of_the_whole(size):
    """Wherever a part begins at a multiple of a chunk's frames, to the last, which may be one frame."""
    shape, step = (1, 1, *size), chunk_frames(*size[1:])
    whole = [(box.time, box.shape) for box in boxes(shape)]
    for start in range(0, size[0], step):
        rest = boxes((1, 1, size[0] - start, *size[1:]))
        moved = [(slice(b.time.start + start, b.time.stop + start), b.shape) for b in rest]
        assert moved == [found for found in whole if found[0].start >= start]
    last = list(boxes((1, 1, 1, *size[1:])))
    assert [box.shape for box in last] == [b.shape for b in boxes((1, 1, step + 1, *size[1:]))][
        -len(last) :
    ]
