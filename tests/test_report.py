"""The report tells what the records and the files say, and refuses records that do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from caesar_freq import report
from caesar_freq.errors import InputError
from caesar_freq.evaluate import OURS
from caesar_freq.measuring import slices_path

ORIGINAL = 24000
SIZES = {  # compressed bytes: ours win at 1e-2 and lose to SPERR at 1e-3
    ("frequency", 1e-2): 600, ("sz3", 1e-2): 1500, ("sperr", 1e-2): 1200,
    ("frequency", 1e-3): 3000, ("sz3", 1e-3): 4000, ("sperr", 1e-3): 2500,
}  # fmt: skip


def write(folder: Path, codec: str, target: float, size: int, **changes) -> Path:
    """A compressed file, its kept frame and its record, as `evaluate` leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{codec}_nrmse_{target:g}.json"
    file = path.with_suffix(".cfq")
    file.write_bytes(bytes(size))
    frame = np.random.default_rng(0).normal(size=(6, 10))
    np.savez(slices_path(file), original=frame, decoded=frame + target, frame=3, range=5.0)
    record = {
        "dataset": folder.name, "codec": codec, "criterion": "nrmse", "target": target,
        "original_bytes": ORIGINAL, "compressed_file": file.name, "status": "ok",
        "compressed_bytes": size, "cr": ORIGINAL / size, "bits_per_value": 32 * size / ORIGINAL,
        "nrmse": 0.99 * target, "psnr": -20 * np.log10(0.99 * target), "max_error_rel": target,
        "bound_held": True, "encode_seconds": 0.5, "decode_seconds": 0.25, "threads": 1,
        "encode_mb_per_s": 1.0, "decode_mb_per_s": 2.0, "peak_memory_mb": 150.0,
        "decode_peak_memory_mb": 120.0, "codec_version": "x 1", "machine": "a machine",
    }  # fmt: skip
    if codec in OURS:
        record |= {
            "bytes_by_stream": {"header": 50, "coefficients": size - 50},
            "modes_used": {"plain": 12}, "model_bytes_not_in_file": 1455,
            "transforms": [{"kind": "lot", "cell": 16, "time_block": 64, "step": 0.5}],
        }  # fmt: skip
    record |= changes
    content = {"format": "caesar-freq/evaluation/1", "records": [record]}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def raw(tmp_path) -> Path:
    for (codec, target), size in SIZES.items():
        write(tmp_path / "raw" / "climate", codec, target, size)
    return tmp_path / "raw"


def run(raw: Path, *more) -> Path:
    out = raw.parent / "results"
    argv = ["--results", raw, "--output_dir", out, *more]
    assert report.main(list(map(str, argv))) == 0
    return out


def test_ratios_are_those_of_the_files(raw):
    table = pd.read_csv(run(raw) / "tables" / "summary.csv")
    assert list(table["target"]) == [1e-2, 1e-3]
    for codec, target in SIZES:
        file = raw / "climate" / f"{codec}_nrmse_{target:g}.cfq"
        value = table.set_index("target").loc[target, codec]
        assert value == pytest.approx(ORIGINAL / file.stat().st_size)
    assert list(table["best_peer"]) == ["sperr", "sperr"]
    assert list(table["frequency_over_best_peer"]) == pytest.approx([2, 2500 / 3000])


def test_markdown_has_the_best_in_bold_the_mean_and_every_loss(raw):
    text = (run(raw) / "tables" / "summary.md").read_text()
    assert "| climate | NRMSE 0.01 | **40** | 16 | 20 |" in text
    assert "| climate | NRMSE 0.001 | 8 | 6 | **9.6** |" in text
    assert f"x{(2 * 2500 / 3000) ** 0.5:.3f}" in text and "ahead in 1 of 2" in text
    losses = text.split("## Losses")[1].split("##")[0]
    assert re.findall(r"^- .*", losses, re.M) == [
        "- climate, NRMSE 0.001: CAESAR-Freq 8 against SPERR 9.6 (-16.7 %)"
    ]


def test_generated_frames_are_held_against_frequency_mode(raw):
    write(raw / "climate", "student", 1e-2, 1200)
    write(raw / "climate", "student", 1e-3, 3000)
    text = (run(raw) / "tables" / "summary.md").read_text()
    assert f"+ student: x{0.5**0.5:.3f} the ratio of frequency mode" in text
    assert "more in 0, less in 1 of 2" in text


def test_only_the_records_named_are_taken(raw):
    named = [raw / "climate" / f"{codec}_nrmse_0.01.json" for codec in ("frequency", "sz3")]
    out = raw.parent / "named"
    assert report.main(["--results", *map(str, named), "--output_dir", str(out)]) == 0
    table = pd.read_csv(out / "tables" / "summary.csv")
    assert list(table["target"]) == [1e-2] and "sperr" not in table
    with pytest.raises(InputError, match="gone.json"):
        report.main(["--results", str(raw / "gone.json"), "--output_dir", str(out)])


def test_streams_add_up_to_the_file(raw):
    table = pd.read_csv(run(raw) / "tables" / "bytes_by_stream.csv")
    for (codec, target), group in table.groupby(["codec", "target"]):
        assert group["bytes"].sum() == SIZES[codec, target]


def test_the_page_stands_alone_and_shows_all_sections(raw, tmp_path):
    history = tmp_path / "checkpoints" / "diffusion" / "history.csv"
    history.parent.mkdir(parents=True)
    history.write_text("step,loss,val_bytes,best\n10,1.5,900,1\n20,1.0,950,0\n")
    manifest = tmp_path / "data" / "climate" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    split = {"start": 0, "stop": 9, "shape": [1, 1, 9, 6, 10], "sha256": "ab" * 32}
    manifest.write_text(json.dumps({
        "inputs": [{"path": "a.nc", "sha256": "cd" * 32}], "variables": ["air"], "gap": 16,
        "dtype": "float32", "shape": [1, 1, 9, 6, 10], "method": "time", "splits": {"test": split},
    }))  # fmt: skip
    page = (run(raw, "--histories", history, "--manifests", manifest) / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:image/png;base64,|#)""", page)
    assert page.count("data:image/png;base64,") == 4  # curves, error map, streams, history
    assert page.count("<td>held</td>") == len(SIZES)
    for text in ("ab" * 32, "cd" * 32, "diffusion", "1,455", "SPERR 9.6 (-16.7 %)", "16 frames"):
        assert text in page


def test_failed_broken_and_missing_records_are_shown(raw, capsys):
    write(raw / "climate", "sz3", 1e-2, 1500, status="failed", error="RuntimeError: <boom>")
    write(raw / "climate", "sperr", 1e-2, 1, bound_held=False)  # must not win
    (raw / "climate" / "frequency_nrmse_0.001.json").unlink()
    out = run(raw)
    table = pd.read_csv(out / "tables" / "summary.csv").set_index("target")
    assert table.loc[1e-2, "sz3"] == table.loc[1e-2, "sperr"] == "FAILED"
    assert table.loc[1e-3, "frequency"] == "FAILED"
    page, text = (out / "report.html").read_text(), (out / "tables" / "summary.md").read_text()
    assert "&lt;boom&gt;" in page and "<boom>" not in page
    for place in (page.replace("&lt;", "<").replace("&gt;", ">"), text, capsys.readouterr().out):
        assert "climate, sz3, nrmse 0.01: RuntimeError: <boom>" in place
        assert "climate, sperr, nrmse 0.01: bound broken" in place
        assert "climate, frequency, nrmse 0.001: missing" in place


def test_nothing_that_counts_still_makes_a_report(raw):
    for codec, target in SIZES:
        write(raw / "climate", codec, target, 9, status="failed", error="no luck")
    assert "no luck" in (run(raw) / "report.html").read_text()


def shorten(raw: Path) -> None:
    (raw / "climate" / "sz3_nrmse_0.01.cfq").write_bytes(bytes(1499))


def lose_file(raw: Path) -> None:
    (raw / "climate" / "sz3_nrmse_0.01.cfq").unlink()


def lose_number(raw: Path) -> None:
    path = raw / "climate" / "sz3_nrmse_0.01.json"
    content = json.loads(path.read_text())
    del content["records"][0]["nrmse"]
    path.write_text(json.dumps(content))


def cut_json(raw: Path) -> None:
    path = raw / "climate" / "sz3_nrmse_0.01.json"
    path.write_text(path.read_text()[:-5])


def foreign_json(raw: Path) -> None:
    (raw / "other.json").write_text("[1, 2]")


def twice(raw: Path) -> None:
    path = raw / "climate" / "sz3_nrmse_0.01.json"
    (raw / "climate" / "copy.json").write_text(path.read_text())


def lose_all(raw: Path) -> None:
    for path in raw.rglob("*.json"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, "has 1499 bytes, but .* speaks of 1500"),
        (lose_file, "sz3_nrmse_0.01.cfq is gone"),
        (lose_number, "without 'nrmse'"),
        (cut_json, "not valid JSON"),
        (foreign_json, "other.json is no record"),
        (twice, "two records"),
        (lose_all, "no records"),
    ],
)
def test_a_broken_record_stops_the_report(raw, damage, message):
    damage(raw)
    with pytest.raises(InputError, match=message):
        report.main(["--results", str(raw), "--output_dir", str(raw.parent / "results")])
    assert not (raw.parent / "results").exists()


def test_broken_histories_and_manifests_are_named(raw, tmp_path):
    for flag, name, text in (
        ("--histories", "history.csv", "step\n"),
        ("--manifests", "manifest.json", "{}"),
    ):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(InputError, match=name):
            run(raw, flag, path)
