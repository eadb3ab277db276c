"""Damaged streams end in a clear error or in an array, never otherwise (`benchmarks/fuzz.py`)."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from test_kernels import use  # noqa: F401 a fixture

import caesar_freq
from caesar_freq.codec.header import MODES, Header
from caesar_freq.codec.layout import ZFP, chunk_kind
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.modes import decode_modes
from caesar_freq.codec.packing import varint
from caesar_freq.errors import CorruptStreamError, ModelError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz
import fuzz_bounds
import fuzz_corpus
import fuzz_mutations
import fuzz_workers


@pytest.fixture(scope="module")
def cases():
    return fuzz_mutations.Cases(
        0,
        fuzz_corpus.corpus(
            "holes32 radar32 spikes32 variables32 line32 modes32 constant32 truncated32".split()
        ),
    )


def test_the_corpus_has_every_mode_and_kind_of_chunk(cases):
    abouts = [caesar_freq.info(stream) for stream in cases.streams.values()]
    assert {about["mode"] for about in abouts} == set(MODES)
    streams = {name for about in abouts for name in about["bytes_by_stream"]}
    assert {"coefficients", "outliers", "mask", "lossless", "keyframes", "model"} <= streams
    assert {"temporal_modes", "restoration"} <= streams
    headers = [parts.header for parts in cases.parts.values()]
    blocks = {variable.time_block for header in headers for variable in header.variables}
    assert {1, 4, 16, 128} <= blocks
    assert any(header.runs and header.linked and header.model for header in headers)
    kinds = {chunk_kind(body) for parts in cases.parts.values() for body in parts.bodies}
    assert kinds == set(range(ZFP + 1))


def test_cases_are_of_many_sorts_and_come_again(cases):
    made = [cases.case(number) for number in range(200)]
    assert made == [cases.case(number) for number in range(200)]
    assert {checked for *_, checked in made} == {True, False}
    ways = [name.split()[1] for name, *_ in made]
    assert {"damaged", "header", "chunk", "with", "regrouped"} == set(ways)
    reached = [not _stops_at_a_checksum(stream) for _, stream, checked in made if checked]
    assert np.mean(reached) > 0.7


def _stops_at_a_checksum(stream: bytes) -> bool:
    try:
        Header.unpack(stream)
    except CorruptStreamError:
        return True
    return False


def test_no_damage_breaks_the_decoder(cases):
    done = fuzz_workers.run_cases(cases, range(500))
    assert done.failures == []
    assert sum(done.outcomes.values()) == 500 and done.outcomes["decoded"] > 10


def test_failures_are_told_from_errors(cases, monkeypatch):
    stream = cases.streams["holes32-nrmse-0.01"]
    assert fuzz_mutations.judge(stream, True) == "decoded"
    assert fuzz_mutations.judge(stream[:-1], False) == "CorruptStreamError"
    assert "unnoticed" in fuzz_mutations.judge(stream, False, b"something else")
    monkeypatch.setattr(caesar_freq, "decode", lambda *_, **__: np.zeros(3))
    assert "instead of" in fuzz_mutations.judge(stream, True)

    def broken(*_, **__):
        raise IndexError("9 is out of bounds")

    monkeypatch.setattr(caesar_freq, "decode", broken)
    assert (
        fuzz_mutations.judge(stream, True)
        == "FAILURE: decode raises IndexError: 9 is out of bounds"
    )


def test_a_worker_that_dies_is_a_failure_and_the_others_go_on(cases):
    """Case 3 kills its process: the cases before and behind it are still run."""
    deadly = _Deadly(cases.seed, {"a": cases.streams["line32-rel-0.02"]})
    slices = list(fuzz_workers.campaign(deadly, [range(6)], 1))
    assert [(number, outcome) for one in slices for number, _, outcome in one.failures] == [
        (3, "FAILURE: the process ends with -9")
    ]
    assert sorted((one.start, one.stop) for one in slices) == [(0, 3), (3, 4), (4, 6)]
    assert sum(sum(one.outcomes.values()) for one in slices) == 6


class _Deadly(fuzz_mutations.Cases):
    def run(self, number):
        if number == 3:
            os.kill(os.getpid(), 9)
        return super().run(number)


def test_a_campaign_goes_on_where_it_stopped_and_begins_anew_with_other_code(
    tmp_path, monkeypatch, capsys
):
    ran = []

    class Recorded(_Named):
        def run(self, number):
            ran.append(number)
            return "a", "FAILURE: odd" if number == 11 else "held"

    monkeypatch.setitem(fuzz.KINDS, "bounds", Recorded)
    monkeypatch.setitem(fuzz.SLICE, "bounds", 4)
    monkeypatch.setattr(fuzz, "campaign", lambda cases, waiting, jobs: (
        fuzz_workers.run_cases(cases, numbers) for numbers in waiting
    ))  # fmt: skip

    def campaign(first, cases):
        ran.clear()
        argv = ["bounds", "--first", first, "--cases", cases, "--output_dir", tmp_path]
        return fuzz.main([str(a) for a in argv])

    assert campaign(4, 5) == 0 and ran == [4, 5, 6, 7, 8]
    assert campaign(0, 11) == 0 and ran == [0, 1, 2, 3, 9, 10]
    assert campaign(0, 14) == 1 and ran == [11, 12, 13]
    assert "14 cases, 1 failures" in capsys.readouterr().out.splitlines()[-2]
    assert campaign(0, 14) == 1 and ran == []
    monkeypatch.setattr(fuzz, "fingerprint", lambda *names: "edited")
    assert campaign(2, 3) == 0 and ran == [2, 3, 4]


class _Named:
    def __init__(self, seed):
        self.seed = seed

    def keep(self, number, folder):
        return folder / f"{number}.npy"


def test_adversarial_arrays_hold_their_bounds_with_all_compiled_kernels(monkeypatch, use):  # noqa: F811
    monkeypatch.setattr(fuzz_bounds, "KERNELS", fuzz_bounds.COMPILED)
    done = fuzz_workers.run_cases(fuzz_bounds.Cases(0), range(60))
    assert done.failures == []
    held = {name.split()[0] for name in done.outcomes if name.endswith("held")}
    assert held == set(fuzz_bounds.MODES) and done.outcomes["refused"]


def test_every_request_that_makes_no_sense_is_refused():
    for name, (make, mode, bound, options) in fuzz_bounds.REFUSED.items():
        case = fuzz_bounds.Case(name, make(), mode, bound, options, refused=True)
        assert fuzz_bounds.judge(case) == "refused", name


@pytest.mark.parametrize("mode, bound", [
    ("abs", 0.1), ("rel", 0.05), ("nrmse", 0.02), ("psnr", 34.0), ("pw_rel", 0.1), ("lossless", 0.0)
])  # fmt: skip
def test_a_broken_bound_is_seen(mode, bound):
    x = np.linspace(1, 3, 21, dtype=np.float32).reshape(3, 7)
    assert fuzz_bounds.broken(x, x.copy(), mode, bound, None) == ""
    off = x.copy()
    off[1, 2] += 0.2 if mode != "nrmse" else 0.3
    assert fuzz_bounds.broken(x, off, mode, bound, None)
    gone = x.copy()
    gone[0, 0] = np.nan
    assert fuzz_bounds.broken(x, gone, mode, bound, None)
    assert "bit by bit" in fuzz_bounds.broken(gone, x, mode, bound, None)


@pytest.mark.parametrize("step", [1 << 19, -(1 << 20) - 1, 1 << 30])
def test_a_step_that_no_float_holds_is_corrupt(cases, step):
    header, at = Header.unpack(cases.streams["variables32-nrmse-0.01"])
    header.variables[1] = replace(header.variables[1], step_index=step)
    stream = header.pack() + cases.streams["variables32-nrmse-0.01"][at:]
    with pytest.raises(CorruptStreamError, match="unknown transform"):
        caesar_freq.decode(stream)


@pytest.mark.parametrize(
    ("kind", "cell", "time_block", "match"),
    [
        ("lot", 512, 1, "impossible time block or cell"),
        ("dct", 512, 128, "too large for the array"),
    ],
)
def test_a_block_beyond_all_blocks_is_corrupt(kind, cell, time_block, match):
    shape = (16, 160, 160)
    stream = caesar_freq.encode(np.random.default_rng(0).random(shape, np.float32), "nrmse", 0.1)
    header, at = Header.unpack(stream)
    header.variables = [replace(header.variables[0], kind=kind, cell=cell, time_block=time_block)]
    with pytest.raises(CorruptStreamError, match=match):
        caesar_freq.decode(header.pack() + stream[at:])


def test_a_bias_without_a_positive_twin_is_refused():
    base = FrequencyModel.base()
    with pytest.raises(ModelError, match="2\\*\\*24"):
        replace(base, b1=np.full_like(base.b1, -(1 << 31)))


def test_modes_of_too_many_frames_take_no_memory():
    """One mode of zeros in a few bytes: its cosines would be a square of 3 TB."""
    with pytest.raises(CorruptStreamError, match="too many"):
        decode_modes(varint(1) + b"\0" + varint(1) + b"\xff", 600_000)


def test_a_header_of_a_huge_array_is_corrupt_without_its_chunks():
    body = bytes([0, 1]) + b"\x80\x80\x80\x80\x80\x10" + struct.pack("<BdB", 4, 0.0, 0)
    head = b"CFQ\x01" + bytes([len(body)]) + body
    with pytest.raises(CorruptStreamError, match="chunk table"):
        caesar_freq.decode(head + google_crc32c.value(head).to_bytes(4, "little"))
