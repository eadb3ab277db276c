"""The whole workflow, for real, on data small enough for every test run."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from caesar_freq.fingerprints import SILENT, evaluation_modules, sources

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PYTHONPATH = [path for path in [os.environ.get("PYTHONPATH")] if path]
CODECS = {"frequency", "auto", "zfp", "zstd"}


def waves() -> np.ndarray:
    """Travelling waves with a little noise, ``[1, 3, 32, 32, 40]`` float32."""
    t, y, x = np.meshgrid(np.arange(32), np.arange(32), np.arange(40), indexing="ij")
    rng = np.random.default_rng(5)
    sections = [np.sin(0.3 * x + 0.1 * t + k) * np.cos(0.2 * y - 0.05 * t) for k in range(3)]
    noise = 0.01 * rng.standard_normal((3, *x.shape))
    return (np.stack(sections) + noise).astype(np.float32)[None]


def run_snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "loaded"), *PYTHONPATH]),
        "CAESAR_LOADED": str(folder / "loaded"),
    }
    (folder / "loaded").mkdir(exist_ok=True)
    command = [
        BIN / "snakemake", "--profile", ROOT / "profiles" / "local", "--cores", "2",
        "--snakefile", ROOT / "workflow" / "Snakefile", "--directory", folder,
        "--configfile", ROOT / "tests" / "config" / "tiny.yaml", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    np.savez(folder / "waves.npz", data=waves())
    done = run_snakemake(folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return folder


def test_the_pipeline_ends_in_a_report_of_real_files(finished):
    with open(finished / "results" / "tables" / "summary.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["dataset"], row["criterion"]) for row in rows] == [
        ("waves", "nrmse"), ("waves", "max_rel"), ("waves", "lossless"),
    ]  # fmt: skip
    assert set(rows[0]) >= CODECS
    page = (finished / "results" / "report.html").read_text()
    assert "<script src" not in page
    assert 'href="http' not in page.split("<body")[0]
    records = []
    for path in (finished / "results" / "raw" / "waves").glob("*.json"):
        for record in json.loads(path.read_text())["records"]:
            records.append(record)
            assert record["status"] == "ok", record
            assert record["bound_held"], record
            size = (path.parent / record["compressed_file"]).stat().st_size
            assert record["cr"] == pytest.approx(record["original_bytes"] / size)
    assert len(records) == 3 * 2 + 1  # zstd is lossless alone


def test_what_a_rule_loads_is_what_its_fingerprint_covers(finished):
    # what says how far a run is, and what finds out whether it is the same run
    beside = {"caesar_freq", "caesar_freq.fingerprints", "caesar_freq.printing", *SILENT}
    ran = set()
    for path in (finished / "loaded").glob("*.json"):
        told = json.loads(path.read_text())
        words = told["command"]
        module = words[words.index("-m") + 1]
        if not module.startswith("caesar_freq."):
            continue
        if module == "caesar_freq.evaluate":
            covered = sources(*evaluation_modules(words[words.index("--codec") + 1]), lazy=False)
        else:
            covered = sources(module, lazy=".train_" not in module)
        ran.add(module.removeprefix("caesar_freq."))
        assert set(told["loaded"]) - set(covered) <= beside, words
    assert ran >= {"split", "train_freq_compressor", "train_diffusion", "train_distillation",
                   "merge", "evaluate", "report"}  # fmt: skip


def test_the_checkpoints_are_complete_and_plain(finished):
    folder = finished / "checkpoints"
    combined = torch.load(folder / "combined_model.pth", weights_only=True)
    assert {"freq_compressor", "diffusion", "single_step_diffusion", "config"} <= set(combined)
    assert (folder / "model.safetensors").stat().st_size > 0
    manifest = (finished / "data" / "processed" / "waves" / "manifest.json").read_text()
    assert json.loads(manifest)["inputs"][0]["sha256"] in (folder / "model_card.md").read_text()
    assert not list(folder.glob("*/resume/**/*.ckpt"))  # cleared by runs that ended well


def test_a_second_run_has_nothing_to_do(finished):
    again = run_snakemake(finished, "--dry-run")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_every_job_left_a_log_and_a_benchmark(finished):
    logs = [path for path in (finished / "logs").rglob("*.log") if path.stat().st_size]
    kept = [path for path in logs if path.relative_to(finished / "logs").parts[0] == "runs"]
    benchmarks = list((finished / "results" / "benchmarks").rglob("*.tsv"))
    assert len(kept) == len(logs) - len(kept) == len(benchmarks) == 1 + 3 + 1 + 7 + 1
