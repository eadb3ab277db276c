"""Random access: the part asked for, from the chunks it needs and nothing else."""

import io
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caesar_freq
from caesar_freq import api
from caesar_freq.codec import chunks
from caesar_freq.codec.container import Container
from caesar_freq.errors import CorruptStreamError, InputError


def field(shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return x.astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Chunks of 16 frames and at most 16 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_VALUES", 1)
        patch.setattr(chunks, "_TILE", 16)
        patch.setattr(chunks, "_TILE_VALUES", 16 * 12)
        yield


@pytest.fixture(scope="module")
def coded(small_chunks):
    """A stream of 2 variables x 3 times x 2 rows of chunks, and its decoded array."""
    data = caesar_freq.encode(field((2, 40, 20, 12)), "rel", 1e-3)
    assert caesar_freq.info(data)["n_chunks"] == 12
    return data, caesar_freq.decode(data)


class CountedFile(io.BytesIO):
    """Remembers which bytes were read."""

    def __init__(self, data):
        super().__init__(data)
        self.reads = []

    def read(self, size=-1):
        self.reads.append((self.tell(), size))
        return super().read(size)


def ranges(size):
    ends = st.one_of(st.none(), st.integers(-size, size))
    return st.one_of(st.none(), st.builds(slice, ends, ends), st.integers(-size, size - 1))


@given(part=st.tuples(ranges(2), ranges(40), ranges(20), ranges(12)))
@settings(max_examples=150, deadline=None)
def test_any_part_equals_that_part_of_the_whole(coded, part):
    data, whole = coded
    # as in numpy, but an int keeps its axis
    index = tuple(
        slice(None) if p is None else p if isinstance(p, slice) else slice(p, p + 1 or None)
        for p in part
    )
    expected = whole[index]
    options = dict(zip(("variables", "frames", "rows", "columns"), part))
    if not expected.size:
        with pytest.raises(InputError, match="is empty"):
            caesar_freq.decode(data, **options)
    else:
        np.testing.assert_array_equal(caesar_freq.decode(data, **options), expected)


@pytest.mark.parametrize("shape", [(50,), (20, 50), (40, 20, 9), (2, 20, 7, 9), (2, 3, 20, 7, 9)])
def test_arrays_of_every_rank(shape):
    data = caesar_freq.encode(field(shape), "rel", 1e-3)
    whole = caesar_freq.decode(data)
    part = caesar_freq.decode(data, columns=(2, -3))
    np.testing.assert_array_equal(part, whole[..., 2:-3])
    if len(shape) == 5:
        part = caesar_freq.decode(data, variables=[1, 0], sections=slice(1, None), frames=-1)
        np.testing.assert_array_equal(part, whole[[1, 0], 1:, -1:])


def test_variables_in_the_order_asked_for(coded):
    data, whole = coded
    part = caesar_freq.decode(data, variables=[1, 0], frames=(30, 33))
    np.testing.assert_array_equal(part, whole[[1, 0], 30:33])


def test_damage_elsewhere_does_no_harm(coded):
    """All chunks but one are overwritten, then cut off: the one left still decodes."""
    data, whole = coded
    stream = Container(data)
    start, end = stream._ends[2], stream._ends[3]
    broken = data[: stream.head_size] + b"\xff" * (start - stream.head_size) + data[start:end]
    for tail in (b"\xff" * (len(data) - end), b""):
        part = caesar_freq.decode(broken + tail, variables=0, frames=(16, 32), rows=(0, 10))
        np.testing.assert_array_equal(part, whole[:1, 16:32, :10])
        with pytest.raises(CorruptStreamError, match="chunk 3 "):
            caesar_freq.decode(broken + tail, variables=0, frames=(16, 32), rows=(0, 11))


def test_only_header_and_needed_chunks_are_read(coded):
    data, whole = coded
    file = CountedFile(data)
    part = caesar_freq.decode(file, variables=1, frames=20, threads=2)
    np.testing.assert_array_equal(part, whole[1:, 20:21])
    stream = Container(data)
    needed = [(stream._ends[n], stream.header.chunks[n][0]) for n in (8, 9)]
    body_reads = [r for r in file.reads if r[0] >= stream.head_size]
    assert sorted(body_reads) == needed
    assert all(start + size <= stream.head_size for start, size in file.reads if start == 0)


def test_files_and_mappings_decode_like_bytes(coded, tmp_path):
    data, whole = coded
    path = tmp_path / "x.cfq"
    path.write_bytes(data)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(caesar_freq.decode(file), whole)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            np.testing.assert_array_equal(caesar_freq.decode(mapped, frames=3), whole[:, 3:4])
    np.testing.assert_array_equal(caesar_freq.decode(memoryview(data), rows=3), whole[:, :, 3:4])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frames": (0, 41)}, "frames 0:41 reaches beyond the array: 41 is not within 0:40"),
        ({"frames": slice(-41, None)}, "frames -41: reaches beyond"),
        ({"rows": 20}, "rows: 20 does not exist; they are numbered 0 to 19"),
        ({"columns": (5, 5)}, "columns 5:5 is empty; the array has columns 0:12"),
        ({"columns": slice(0, 9, 2)}, "step 2"),
        ({"sections": 0}, "sections cannot be chosen: the array has the shape"),
        ({"variables": [0, 2]}, "variables: 2 does not exist"),
        ({"variables": [0, -2]}, "name each wanted one once"),
        ({"frames": (1, 2, 3)}, "give a slice, a pair"),
    ],
)
def test_bad_ranges_are_named(coded, options, message):
    with pytest.raises(InputError, match=message):
        caesar_freq.decode(coded[0], **options)


def test_chunks_out_of_range_are_not_decoded(coded, monkeypatch):
    data, whole = coded
    seen = []
    from caesar_freq.codec import decoder

    real = decoder.read_chunk
    monkeypatch.setattr(
        decoder, "read_chunk", lambda b, box, *a: seen.append(box) or real(b, box, *a)
    )
    api.decode(data, frames=(33, 40), rows=(12, 13))
    assert [(box.variable, box.time, box.height) for box in seen] == [
        (v, slice(32, 40), slice(10, 20)) for v in (0, 1)
    ]


def numpy_indices(shape):
    def axis(n):
        ends = st.one_of(st.none(), st.integers(-n - 3, n + 3))
        steps = st.one_of(st.none(), st.sampled_from([1, 2, -1, -3]))
        return st.one_of(st.builds(slice, ends, ends, steps), st.integers(-n, n - 1))

    full = st.tuples(*map(axis, shape))
    short = full.flatmap(lambda i: st.integers(0, len(i)).map(lambda k: i[:k]))
    dotted = full.flatmap(lambda i: st.integers(1, len(i)).map(lambda k: (..., *i[k:])))
    return st.one_of(full, short, dotted, axis(shape[0]), st.just(...))


@given(index=numpy_indices((2, 40, 20, 12)))
@settings(max_examples=150, deadline=None)
def test_a_file_is_indexed_like_an_array(coded, tmp_path_factory, index):
    data, whole = coded
    path = tmp_path_factory.getbasetemp() / "indexed.cfq"
    if not path.exists():
        path.write_bytes(data)
    with caesar_freq.CfqFile(path) as file:
        assert (file.shape, file.dtype) == (whole.shape, whole.dtype)
        np.testing.assert_array_equal(file[index], whole[index], strict=True)


def test_bad_indices_are_refused(coded, tmp_path):
    (tmp_path / "x.cfq").write_bytes(coded[0])
    with caesar_freq.CfqFile(tmp_path / "x.cfq") as file:
        for index in (2, (0, 40), (0, 0, 0, 0, 0), (..., ...)):
            with pytest.raises(IndexError):
                file[index]
    with pytest.raises(InputError, match="does not exist"):
        caesar_freq.CfqFile(tmp_path / "y.cfq")
    (tmp_path / "y.cfq").write_bytes(b"something else")
    with pytest.raises(CorruptStreamError, match="first bytes are not CFQ"):
        caesar_freq.CfqFile(tmp_path / "y.cfq")
