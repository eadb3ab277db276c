"""The synthetic store and the arithmetic of docs/scaling.md."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from scaling import need, rate, table  # noqa: E402
from synthetic_zarr import BLOCK, SIDE, frames, frames_of  # noqa: E402


def test_chunks_of_the_store_are_pieces_of_one_field():
    whole, part = frames(1, 0, 2 * BLOCK), frames(1, BLOCK, BLOCK)
    assert part.shape == (BLOCK, SIDE, SIDE) and part.dtype == np.float32
    assert np.abs(whole[BLOCK:] - part).max() < 1e-3  # but for the noise
    assert np.ptp(part) > 1
    assert np.abs(whole[0] - whole[-1]).max() > 0.1
    assert frames_of(20) == 2384


def test_core_hours_are_bytes_and_starts_of_jobs():
    n = need(8e12, 1e9, 1e-7, 10)
    assert (n.parts, n.jobs) == (8000, 8000 + 2 * 1000 + 2)
    assert n.core_hours == pytest.approx((8e5 + 10002 * 5) / 3600)
    assert n.wall_hours == pytest.approx(n.core_hours / 10)
    assert n.submissions_a_minute == pytest.approx(10002 / (60 * n.wall_hours))


def test_the_rate_is_that_of_the_rules_that_read_values():
    rules = {"survey": 1.0, "compress": 7.0, "verify": 2.0, "join": 50.0}
    usage = [{"rule": rule, "cpu_seconds": seconds} for rule, seconds in rules.items()]
    result = {"original_bytes": 100e6, "usage": usage, "cr": 7.0}
    assert rate(result) == pytest.approx(1e-7)
    text = table(result, 100, 256)
    assert "at 10.0 MB/s a core" in text and "23 streams" in text
    assert text.count("GB |") == 4
