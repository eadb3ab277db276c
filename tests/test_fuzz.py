"""Damaged streams end in a clear error or in an array, never otherwise (`benchmarks/fuzz.py`)."""

from __future__ import annotations

import importlib.util
import struct
import sys
from dataclasses import replace
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec.header import MODES, Header
from caesar_freq.codec.layout import LINKED, chunk_kind
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.modes import decode_modes
from caesar_freq.codec.packing import varint
from caesar_freq.errors import CorruptStreamError, ModelError

PATH = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
SPEC = importlib.util.spec_from_file_location("fuzz", PATH)
fuzz = sys.modules["fuzz"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fuzz)


@pytest.fixture(scope="module")
def cases():
    return fuzz.Cases(
        0,
        fuzz.corpus(
            ["holes32", "radar32", "spikes32", "variables32", "line32", "modes32", "constant32"]
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
    assert kinds == set(range(LINKED + 1))


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
    outcomes, failures = fuzz.run_cases(cases, range(500))
    assert failures == []
    assert sum(outcomes.values()) == 500 and outcomes["decoded"] > 10


def test_failures_are_told_from_errors(cases, monkeypatch):
    stream = cases.streams["holes32-nrmse-0.01"]
    assert fuzz.judge(stream, True) == "decoded"
    assert fuzz.judge(stream[:-1], False) == "CorruptStreamError"
    assert "unnoticed" in fuzz.judge(stream, False, b"something else")
    monkeypatch.setattr(caesar_freq, "decode", lambda *_, **__: np.zeros(3))
    assert "instead of" in fuzz.judge(stream, True)

    def broken(*_, **__):
        raise IndexError("9 is out of bounds")

    monkeypatch.setattr(caesar_freq, "decode", broken)
    assert fuzz.judge(stream, True) == "FAILURE: decode raises IndexError: 9 is out of bounds"


def test_a_worker_that_dies_is_a_failure_and_the_others_go_on(cases):
    """Case 3 kills its process: the cases before and behind it are still run."""
    outcomes, failures = fuzz.fuzz(
        _Deadly(cases.seed, {"a": cases.streams["line32-rel-0.02"]}), 6, 1
    )
    assert [(number, outcome) for number, _, outcome in failures] == [
        (3, "FAILURE: the process ends with -9")
    ]
    assert sum(outcomes.values()) == 6


class _Deadly(fuzz.Cases):
    def case(self, number):
        import os

        if number == 3:
            os.kill(os.getpid(), 9)
        return super().case(number)


@pytest.mark.parametrize("step", [1 << 19, -(1 << 20) - 1, 1 << 30])
def test_a_step_that_no_float_holds_is_corrupt(cases, step):
    header, at = Header.unpack(cases.streams["variables32-nrmse-0.01"])
    header.variables[1] = replace(header.variables[1], step_index=step)
    stream = header.pack() + cases.streams["variables32-nrmse-0.01"][at:]
    with pytest.raises(CorruptStreamError, match="unknown transform"):
        caesar_freq.decode(stream)


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
