"""Large data sets compressed as many jobs: how they are cut, what reruns, and what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from test_pipeline import BIN, ROOT
from test_workflow import CONFIG, SCHEMA

import caesar_freq
from caesar_freq.cfq_file import CfqFile
from caesar_freq.codec.chunks import boxes, five_dimensional
from caesar_freq.codec.linked import may_link
from caesar_freq.compression import job, ranges, table, verify
from caesar_freq.compression.parts import MB, Part, PartOfSource, cut, memory_mb
from caesar_freq.data.lazy import Source
from caesar_freq.errors import ConfigError, InputError
from caesar_freq.settings import validated
from caesar_freq.workflow import compression_plans

# ---- cutting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        (100, 360, 700),
        (2, 3, 40, 360, 700),
        (3, 9, 64, 64),
        (2, 50, 8, 30, 40),
        (1000,),
        (3, 20, 2000, 90),
    ],
)
@pytest.mark.parametrize("part_mb", [17, 40, 4000])
def test_parts_have_the_chunks_of_the_whole_in_their_order(shape, part_mb):
    whole = list(boxes(five_dimensional(shape)))
    found = []
    for part in cut(shape, 4, part_mb):
        size = part.region(shape).shape
        assert np.prod(size) * 4 <= part_mb * MB
        found += [part.place(box.index) for box in boxes(size)]
    assert found == [box.index for box in whole]


def test_a_part_smaller_than_a_layer_of_chunks_is_refused():
    sentence = (
        "part_mb is 10, but chunks have 16 frames of 360 x 700, together 17 MB; give at least"
    )
    with pytest.raises(ConfigError, match=sentence):
        cut((100, 360, 700), 4, 10)
    assert len(cut((100, 360, 700), 4, 17)) == 7


@pytest.mark.parametrize(("part_mb", "sections"), [(1, 1), (3, 2), (7, 4), (20, 16), (25, 24)])
def test_several_sections_in_a_part_begin_where_a_run_of_linked_ones_may(part_mb, sections):
    parts = cut((1, 30, 10, 100, 250), 4, part_mb)
    assert parts[0].sections.stop == sections
    for part in parts:
        links = range(part.sections.start + 1, part.sections.stop)
        assert all(may_link(s) or may_link(s - part.sections.start) is False for s in links)


def test_memory_grows_with_the_part_up_to_what_is_coded_at_once():
    shape = (4096, 512, 512)
    small, middle, large, huge = (
        memory_mb(Part(0, slice(0, 1), slice(0, n)), shape, 4, 0) for n in (16, 32, 512, 4096)
    )
    assert small < middle < large == huge
    double = memory_mb(Part(0, slice(0, 1), slice(0, 512)), shape, 8, 0)
    assert double - large == pytest.approx(large - 500, abs=2)  # arrays of twice the size
    assert memory_mb(Part(0, slice(0, 1), slice(0, 16)), shape, 4, 500 * MB) == small + 1000


# ---- gathering ----------------------------------------------------------------------------------


def survey_of(variable: int, *chunks: tuple) -> dict:
    keys = ("constant", "empty", "count", "low", "high", "total")
    return {"variable": variable, "chunks": [dict(zip(keys, chunk)) for chunk in chunks]}


def test_ranges_are_those_of_all_parts():
    surveys = [survey_of(0, (False, False, 10, 2.0, 4.0, 5.0)),
               survey_of(1, (True, True, 0, np.inf, -np.inf, 0.0)),
               survey_of(0, (False, False, 10, -1.0, 3.0, 10.0))]  # fmt: skip
    first, second = ranges.ranges(surveys)
    assert first.range == 5.0
    assert first.offset == pytest.approx(2.0)  # means are 3 and 1
    assert (second.offset, second.range) == (0.0, 0.0)
    with pytest.raises(InputError, match="holds no finite value"):
        ranges.ranges(surveys[1:2])
    assert len(ranges.ranges(surveys[1:2], lossless=True)) == 1


def part_errors(variable=0, **values) -> dict:
    fine = {"variable": variable, "count": 100, "low": 0.0, "high": 2.0, "squares": 4e-6,
            "max_error": 1e-3, "special_equal": True, "bits_equal": False}  # fmt: skip
    return fine | values


@pytest.mark.parametrize(
    ("mode", "bound", "broken", "held"),
    [
        ("nrmse", 1e-4, {}, True),  # sqrt(8e-6 / 200) / 2 is just that
        ("nrmse", 0.99e-4, {}, False),
        ("nrmse", 1e-4, {"high": 4.0}, True),  # the range is that of all parts
        ("psnr", 79.9, {}, True),
        ("psnr", 80.1, {}, False),
        ("rel", 5e-4, {}, True),
        ("rel", 5e-4, {"max_error": 1.1e-3}, False),
        ("abs", 1e-3, {}, True),
        ("abs", 0.9e-3, {}, False),
        ("abs", 1e-3, {"special_equal": False}, False),
        ("lossless", 0, {"bits_equal": True}, False),
    ],
)
def test_one_part_is_enough_to_break_the_bound_of_the_whole(mode, bound, broken, held):
    (row,) = table.judge([part_errors(), part_errors(**broken)], mode, bound)
    assert row["bound_held"] is held
    assert row["values"] == 200


def test_verification_takes_nothing_but_the_bytes(tmp_path):
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.standard_normal((18, 40, 50)), 0).astype(np.float32)
    values[3, 4, 5] = np.nan
    path = tmp_path / "x.cfq"
    path.write_bytes(caesar_freq.encode(values, "rel", 1e-2))
    part = Part(0, slice(0, 1), slice(0, 18))
    source = Source.of(values)
    with open(path, "rb") as file:
        found = verify.verify(source, part, verify.Container(file), None)
    decoded = caesar_freq.decode(path.read_bytes())
    assert found["max_error"] == np.nanmax(np.abs(values.astype(float) - decoded))
    assert found["count"] == values.size - 1 and found["special_equal"]
    values[0, 0, 0] += 100
    values[3, 4, 5] = 0
    values[3, 4, 6] = np.nan
    with open(path, "rb") as file:
        found = verify.verify(source, part, verify.Container(file), None)
        assert found["max_error"] > 99 and not found["special_equal"]
        with pytest.raises(InputError, match="compress it again"):
            verify.verify(Source.of(values[1:]), part, verify.Container(file), None)
    assert PartOfSource(source, part).nbytes == values.nbytes


# ---- settings -----------------------------------------------------------------------------------


def settings(**entry) -> dict:
    fine = {"input": "wind.zarr", "variables": ["u", "v"], "mode": "nrmse", "bound": 1e-2,
            "part_mb": 2}  # fmt: skip
    entry = {key: value for key, value in (fine | entry).items() if value is not None}
    datasets = {"waves": {"source": "turbulence"}}
    return CONFIG | {"datasets": datasets, "compress": {"wind": entry}}


def store(folder: Path) -> None:
    """``wind.zarr``: u and v of two members, each of which is a part."""
    group = zarr.open_group(folder / "wind.zarr", mode="w")
    t, y, x = np.ogrid[0:18, 0:100, 0:160]
    for number, name in enumerate("uv"):
        array = group.create_array(name, shape=(2, 18, 100, 160), chunks=(1, 6, 100, 160), dtype="f4",
                                   dimension_names=("member", "time", "y", "x"))  # fmt: skip
        for member in range(2):
            wave = np.sin(0.1 * x + 0.3 * t + number) * np.cos(0.08 * y - 0.1 * member * t)
            array[member] = number + (1 + member) * wave
    group.create_array("mask", shape=(18, 100, 160), dtype="i1")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"variables": ["u", "w"]}, "wind: wind.zarr has no variable 'w'; its variables are: mask"),
        (
            {"variables": None},
            "wind: wind.zarr has several float variables (u, v); name the one(s)",
        ),
        ({"variables": ["mask"]}, "variable 'mask' in wind.zarr holds int8 numbers"),
        ({"part_mb": 1}, "wind: part_mb is 1, but chunks have 18 frames of 100 x 160, together 2"),
        ({"input": "no.zarr"}, "wind names no.zarr, which does not exist"),
        ({"model": "no.cfm"}, "wind names the model no.cfm, which does not exist"),
        ({"bound": None}, "wind has the mode nrmse but no bound; add one"),
        ({"mode": "lossless"}, "wind has the mode lossless, which takes no bound; drop it"),
        ({"mode": "pw_rel"}, "key compress.wind.mode: 'pw_rel' is not one of"),
        ({"bounds": 1}, "key compress.wind.bounds is unknown; did you mean bound?"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(entry, sentence, tmp_path, monkeypatch):
    store(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(sentence)) as found:
        compression_plans(validated(settings(**entry), SCHEMA))
    assert "\n" not in str(found.value)


# ---- the rules, for real ------------------------------------------------------------------------


def snakemake(folder: Path, *arguments: str) -> str:
    """Compress in `folder`; what it printed, with the exit code in front."""
    command = [
        BIN / "snakemake", "compress", "--profile", ROOT / "profiles" / "local", "--cores", "2",
        "--snakefile", ROOT / "workflow" / "Snakefile", "--configfile", "config.yaml", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def kill(folder: Path, output: str, seconds: float = 120) -> None:
    """Send SIGKILL to the process of `folder` that is about to write `output`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
                if output.encode() in words and (path / "cwd").resolve() == folder.resolve():
                    os.kill(int(path.name), signal.SIGKILL)
                    return
            except OSError:
                continue
        time.sleep(0.05)


def made(folder: Path, what: str) -> list[int]:
    """When the results of each part were written."""
    paths = sorted((folder / "results" / "compressed" / "wind" / what).glob("p*"))
    return [path.stat().st_mtime_ns for path in paths]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of which one compression was killed, and that was started again."""
    folder = tmp_path_factory.mktemp("compression")
    store(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings()))
    killed = "results/compressed/wind/parts/p00001.cfq"
    killer = threading.Thread(target=kill, args=(folder, killed))
    killer.start()
    first = snakemake(folder, "--keep-going")
    killer.join()
    assert first[0] == "1", first
    parts, surveys = made(folder, "parts"), made(folder, "survey")
    assert len(parts) == 3 and not (folder / killed).exists()
    second = snakemake(folder)
    assert second[0] == "0", second
    after = made(folder, "parts")
    assert [after[0], *after[2:]] == parts, "a killed job reruns its part alone"
    assert made(folder, "survey") == surveys
    return folder


def test_the_result_opens_by_region_and_keeps_the_bound_of_the_whole(finished):
    original = zarr.open_group(finished / "wind.zarr", mode="r")
    with CfqFile(finished / "results" / "compressed" / "wind.cfq") as file:
        assert file.shape == (2, 2, 18, 100, 160)
        for v, name in enumerate("uv"):
            before = original[name][...].astype(np.float64)
            error = np.sqrt(np.mean((file[v] - before) ** 2)) / np.ptp(before)
            assert error <= 1e-2
            assert abs(file[v, 1, 17, 50, 90] - before[1, 17, 50, 90]) < 0.5
    command = [BIN / "caesar-freq", "decompress", "results/compressed/wind.cfq", "part.nc", "--var",
               "v", "--frames", "15:17"]  # fmt: skip
    subprocess.run(command, cwd=finished, check=True, capture_output=True)
    import xarray

    with xarray.open_dataset(finished / "part.nc") as part:
        assert part["v"].dims == ("member", "time", "y", "x") and part["v"].shape == (
            2,
            2,
            100,
            160,
        )


def test_the_table_tells_ratio_errors_and_memory(finished):
    folder = finished / "results" / "compressed"
    result = json.loads((folder / "wind.json").read_text())
    size = (folder / "wind.cfq").stat().st_size
    assert result["bytes"] == size
    assert result["cr"] == 2 * 2 * 18 * 100 * 160 * 4 / size
    assert all(row["bound_held"] and 0 < row["nrmse"] <= 1e-2 for row in result["variables"])
    rows = {row["rule"]: row for row in result["usage"]}
    assert {rule: row["jobs"] for rule, row in rows.items()} == {
        "survey": 4, "compress": 4, "join": 1, "verify": 4,
    }  # fmt: skip
    for row in rows.values():
        assert 0 < row["peak_mb"] < row["asked_mb"]
        assert row["over_their_request"] == 0
    assert "| 0 | 0.0" in (folder / "wind.md").read_text()


def test_another_store_in_the_same_place_is_compressed_again_and_a_finished_run_is_not(finished):
    assert "Nothing to be done" in snakemake(finished, "--dry-run")
    time_of_writing = (finished / "wind.zarr" / "zarr.json").stat().st_mtime_ns
    (finished / "wind.zarr" / "zarr.json").touch()
    assert re.search(r"^compress_part +4$", snakemake(finished, "--dry-run"), re.M)
    os.utime(finished / "wind.zarr" / "zarr.json", ns=(time_of_writing, time_of_writing))
    assert "Nothing to be done" in snakemake(finished, "--dry-run")


def test_a_file_that_breaks_its_bound_ends_the_run(tmp_path):
    verified = tmp_path / "verify"
    verified.mkdir()
    job.write_json(verified / "p00000.json", part_errors(3))
    job.write_json(tmp_path / "receipt.json", {"bytes": 10, "original_bytes": 100, "parts": 1})
    (tmp_path / "usage").mkdir()
    arguments = ["--folder", str(verified), "--parts", "1", "--receipt",
                 str(tmp_path / "receipt.json"), "--usage_dir", str(tmp_path / "usage"), "--mode",
                 "abs", "--output", str(tmp_path / "t.json"), "--bound"]  # fmt: skip
    with pytest.raises(table.BrokenBound, match="variables \\[3\\] break the bound abs 0.0001"):
        table.main([*arguments, "1e-4"])
    assert not (tmp_path / "t.json").exists()
    assert table.main([*arguments, "1e-2"]) == 0
