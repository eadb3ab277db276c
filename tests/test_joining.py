"""Streams of parts, joined: the same values and bounds as one stream, and what is refused."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import caesar_freq
from caesar_freq.cfq_file import CfqFile
from caesar_freq.codec import statistics
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import boxes
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.joining import join
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.options import Options, Whole
from caesar_freq.codec.stream import encode_source
from caesar_freq.data.lazy import Source
from caesar_freq.errors import CorruptStreamError, InputError

# 16 frames of 360 x 700 are a chunk: parts begin at multiples of 16
SHAPE = (2, 20, 360, 700)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    """Two variables; the first has a hole that fills the first part, the second grows with time."""
    t, y, x = np.ogrid[: SHAPE[1], : SHAPE[2], : SHAPE[3]]
    wave = np.sin(0.03 * x + 0.1 * t) * np.cos(0.02 * y - 0.05 * t)
    values = np.stack([wave, 5 + wave * (1 + t / 4)]).astype(np.float32)
    values[0, :16] = np.nan
    return values


def variables(field: np.ndarray):
    found = []
    for own in field:
        chunks = [Chunk(own[b.index[2:]], b, None, False) for b in boxes((1, 1, *own.shape))]
        own_chunks = [statistics.Statistics.of(chunk) for chunk in chunks]
        found.append(statistics.variable_of(own_chunks))
    return found


def parts(field, folder, mode, bound, starts, **options):
    """Files of parts that begin at `starts` in each variable."""
    model, whole = FrequencyModel.base(), variables(field)
    for v in range(len(field)):
        for start, stop in zip(starts, [*starts[1:], field.shape[1]]):
            path = folder / f"{v}-{start}.cfq"
            with open(path, "w+b") as out:
                encode_source(
                    Source.of(field[v : v + 1, start:stop]), out,
                    Options(mode, bound, threads=1, **options), model, whole=Whole(whole, v),
                )  # fmt: skip
            yield path


def joined(paths, folder, metadata=b"") -> bytes:
    target = folder / "joined.cfq"
    with open(target, "wb") as out:
        size = join(list(paths), SHAPE, metadata, out)
    assert size == target.stat().st_size
    return target.read_bytes()


def test_whole_variables_joined_are_what_encoding_them_together_gives(field, tmp_path):
    data = joined(parts(field, tmp_path, "nrmse", 1e-2, [0]), tmp_path)
    assert data == caesar_freq.encode(field, "nrmse", 1e-2, threads=1)


@pytest.mark.parametrize(
    ("mode", "bound"), [("nrmse", 1e-3), ("rel", 1e-2), ("abs", 1e-4), ("lossless", 0)]
)
def test_the_bound_holds_for_the_whole(field, tmp_path, mode, bound):
    data = joined(parts(field, tmp_path, mode, bound, [0, 16]), tmp_path, b"names")
    decoded = caesar_freq.decode(data)
    assert decoded.dtype == field.dtype
    np.testing.assert_array_equal(np.isnan(decoded), np.isnan(field))
    for before, after in zip(field.astype(np.float64), decoded):
        spread = np.nanmax(before) - np.nanmin(before)
        error = np.abs(before - after)
        if mode == "nrmse":
            assert np.sqrt(np.nanmean(error**2)) <= bound * spread
        else:
            assert np.nanmax(error) <= bound * (spread if mode == "rel" else 1)
    head, _ = Header.unpack(data)
    assert head.metadata == b"names"
    assert head.runs == ([] if mode == "lossless" else [1] * 4)
    assert caesar_freq.info(data)["n_chunks"] == 4


def test_steps_of_parts_differ_and_regions_know_which_is_theirs(field, tmp_path):
    data = joined(parts(field, tmp_path, "nrmse", 1e-3, [0, 16]), tmp_path)
    head, _ = Header.unpack(data)
    assert head.variables[2].step_index != head.variables[3].step_index
    whole = caesar_freq.decode(data)
    with CfqFile(tmp_path / "joined.cfq") as file:
        np.testing.assert_array_equal(file[1, 14:19, 350:, 5], whole[1, 14:19, 350:, 5])
        np.testing.assert_array_equal(file[:, 17], whole[:, 17])


def test_parts_that_do_not_fit_are_refused(field, tmp_path):
    good = list(parts(field, tmp_path, "lossless", 0, [0, 16]))
    other = tmp_path / "other"
    other.mkdir()
    tight = next(parts(field[:, 16:], other, "rel", 1e-2, [0]))
    refusals = [
        (good[:3], "have 3 chunks but an array of shape (2, 20, 360, 700) has 4"),
        ([*good[:3], tight], "differ in mode ('rel' and 'lossless')"),
    ]
    for paths, sentence in refusals:
        with pytest.raises(InputError, match=re.escape(sentence)):
            joined(paths, tmp_path)
    good[1].write_bytes(good[1].read_bytes()[:-1])
    with pytest.raises(CorruptStreamError, match="0-16.cfq is truncated"):
        joined(good, tmp_path)


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [([1, 2], "do not cover its chunks"), ([0, 4], "do not cover"),
     ([1] * 5, "an impossible number of parts")],
)  # fmt: skip
def test_damaged_runs_are_noticed(runs, sentence):
    v = Variable(0.0, 1.0)
    head = Header(SHAPE, np.dtype("f4"), "rel", 1e-3, False, [v] * len(runs), runs=runs,
                  fingerprint="00" * 8, chunks=[(1, 0)] * 4)  # fmt: skip
    fine = replace(head, runs=[1, 3], variables=[v] * 2)
    assert Header.unpack(fine.pack())[0] == fine
    with pytest.raises(CorruptStreamError, match=sentence):
        Header.unpack(head.pack())


def ensemble() -> np.ndarray:
    """``[2, 3, 8, 12, 18]``: members that differ in size, and a hole."""
    t, y, x = np.ogrid[0:8, 0:12, 0:18]
    wave = np.sin(0.2 * x + 0.1 * t) * np.cos(0.15 * y)
    values = np.stack([np.stack([wave * 2.0**s + v for s in range(3)]) for v in range(2)])
    values[1, 2, 3, 4:9] = np.nan
    return values.astype(np.float32)


def test_a_joined_golden_stream_stays_decodable(tmp_path):
    """As in test_codec; regenerate with GENERATE_EXPECTED=1."""
    golden, values = Path(__file__).parent / "golden" / "joined.cfq", ensemble()
    if os.environ.get("GENERATE_EXPECTED"):
        whole = [Variable(float(np.nanmean(v)), float(np.nanmax(v) - np.nanmin(v))) for v in values]
        paths = []
        for v, start, stop in ((0, 0, 2), (0, 2, 3), (1, 0, 3)):
            paths.append(tmp_path / f"{v}{start}")
            with open(paths[-1], "w+b") as out:
                part = Source.of(values[v : v + 1, start:stop])
                options = Options("nrmse", 1e-3, threads=1)
                encode_source(part, out, options, FrequencyModel.base(), whole=Whole(whole, v))
        with open(golden, "wb") as out:
            join(paths, values.shape, b"", out)
        np.savez_compressed(
            golden.with_suffix(".npz"), data=caesar_freq.decode(golden.read_bytes())
        )
    data = golden.read_bytes()
    assert Header.unpack(data)[0].linked  # members refer to the one before, within their part
    assert Header.unpack(data)[0].runs == [2, 1, 3]
    decoded = caesar_freq.decode(data)
    assert bound_holds(values[0], decoded[0], "nrmse", 1e-3)
    expected = np.load(golden.with_suffix(".npz"))["data"]
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=1e-5)
