"""What an edit reruns: dry runs for every key of the configuration, and for files and modules.

A key without a row fails the test: whoever adds one says what depends on it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_workflow import CONFIG, ROOT, SCHEMA, Checkout

#: Two data sets, so that it shows what concerns one only.
BASE = CONFIG | {
    "datasets": {
        "waves": {"files": ["waves.npz"], "method": "time"},
        "flow": {"source": "turbulence", "method": "section"},
    },
    "compress": {
        "wind": {"input": "wind.npy", "mode": "nrmse", "bound": 0.01},
        "rain": {"input": "wind.npy", "mode": "lossless"},
    },
}
OURS_COMBINED = {"evaluate waves student", "evaluate flow student"}
MERGED = {"merge", "report", *OURS_COMBINED}
PHASE_3 = {"train_distillation", *MERGED}
PHASE_2 = {"train_diffusion", *PHASE_3}
PHASE_1 = {"train_freq_compressor", "evaluate waves frequency", "evaluate flow frequency", *PHASE_2}
WAVES = {"split waves", "evaluate waves sz3", *PHASE_1}
FLOW = {"split flow", "evaluate flow sz3", *PHASE_1}
#: What a data set that is compressed for itself needs, and the part of it behind the surveys.
CODED = {f"{rule} wind" for rule in ("compress_part", "join", "verify_part", "compression_table")}
WIND = {"survey wind", "ranges wind", *CODED}
NEW = {"evaluate waves zfp", "evaluate flow zfp", "report"}
EVERYTHING_MEASURED = {
    "report", *(f"evaluate {d} {c}" for d in ("waves", "flow") for c in CONFIG["evaluation"]["codecs"])
}  # fmt: skip

#: Key, edits of the base configuration (dotted), and what reruns.
KEYS = [
    ("datasets.*.source", {"datasets.flow.source": "cylinder_wake"}, {"fetch", *FLOW}),
    ("datasets.*.files", {"datasets.waves.files": ["other.npz"]}, WAVES),
    ("datasets.*.variables", {"datasets.waves.variables": ["data"]}, WAVES),
    ("datasets.*.dims.section", {"datasets.waves.dims": {"section": "member"}}, WAVES),
    ("datasets.*.dims.time", {"datasets.waves.dims": {"time": "step"}}, WAVES),
    ("datasets.*.dims.height", {"datasets.waves.dims": {"height": "j"}}, WAVES),
    ("datasets.*.dims.width", {"datasets.waves.dims": {"width": "i"}}, WAVES),
    ("datasets.*.fill_value", {"datasets.waves.fill_value": -999.0}, WAVES),
    ("datasets.*.method", {"datasets.waves.method": "section"}, WAVES),
    ("datasets.*.fractions", {"datasets.waves.fractions": [0.5, 0.25, 0.25]}, WAVES),
    ("datasets.*.gap", {"datasets.waves.gap": 8}, WAVES),
    ("datasets.*.gap", {"datasets.flow.gap": 8}, set()),  # sections have no gap
    ("training.wavelet", {"training.wavelet": "cdf97"}, PHASE_1),
    ("training.use_dwt", {"training.use_dwt": False}, PHASE_1),
    ("training.latent_channels", {"training.latent_channels": 16}, PHASE_2),
    ("training.low_freq_size", {"training.low_freq_size": 4, "training.training_size": 64}, PHASE_2),
    ("training.training_size", {"training.low_freq_size": 8, "training.training_size": 128},
     PHASE_2),
    ("training.seed", {"training.seed": 2}, PHASE_1),
    ("freq_compressor.dct_block_size",
     {"freq_compressor.dct_block_size": 4, "training.low_freq_size": 4}, PHASE_1),
    ("freq_compressor.batch_size", {"freq_compressor.batch_size": 2}, PHASE_1),
    ("freq_compressor.lambda_bpp", {"freq_compressor.lambda_bpp": 0.02}, PHASE_1),
    ("freq_compressor.epochs", {"freq_compressor.epochs": 2}, PHASE_1),
    ("freq_compressor.max_steps", {"freq_compressor.max_steps": 9}, PHASE_1),
    ("freq_compressor.lr", {"freq_compressor.lr": 2e-3}, PHASE_1),
    ("freq_compressor.init", {"freq_compressor.init": "none"}, PHASE_1),
    ("freq_compressor.evaluations", {"freq_compressor.evaluations": 2}, PHASE_1),
    ("freq_compressor.checkpoint_every", {"freq_compressor.checkpoint_every": 7}, set()),
    ("diffusion.unet_dim", {"diffusion.unet_dim": 16}, PHASE_2),
    ("diffusion.dim_mults", {"diffusion.dim_mults": [1, 2, 2]}, PHASE_2),
    ("diffusion.diffusion_steps", {"diffusion.diffusion_steps": 4}, PHASE_2),
    ("diffusion.interpo_rate", {"diffusion.interpo_rate": 5}, PHASE_2),
    ("diffusion.n_frame", {"diffusion.n_frame": 13}, PHASE_2),
    ("diffusion.step_range", {"diffusion.step_range": [1e-2, 0.5]}, PHASE_2),
    ("diffusion.batch_size", {"diffusion.batch_size": 2}, PHASE_2),
    ("diffusion.epochs", {"diffusion.epochs": 2}, PHASE_2),
    ("diffusion.max_steps", {"diffusion.max_steps": 9}, PHASE_2),
    ("diffusion.lr", {"diffusion.lr": 2e-3}, PHASE_2),
    ("diffusion.evaluations", {"diffusion.evaluations": 2}, PHASE_2),
    ("diffusion.checkpoint_every", {"diffusion.checkpoint_every": 7}, set()),
    ("distillation.teacher_steps", {"distillation.teacher_steps": 4}, PHASE_3),
    ("distillation.student_base_channels", {"distillation.student_base_channels": 16}, PHASE_3),
    ("distillation.student_channel_mults", {"distillation.student_channel_mults": [1, 2]}, PHASE_3),
    ("distillation.student_num_res_blocks", {"distillation.student_num_res_blocks": 2}, PHASE_3),
    ("distillation.student_patch", {"distillation.student_patch": 4}, PHASE_3),
    ("distillation.objective", {"distillation.objective": "spectrum"}, PHASE_3),
    ("distillation.use_perceptual_loss", {"distillation.use_perceptual_loss": False}, PHASE_3),
    ("distillation.use_frequency_loss", {"distillation.use_frequency_loss": False}, PHASE_3),
    ("distillation.progressive", {"distillation.progressive": True}, PHASE_3),
    ("distillation.step_range", {"distillation.step_range": [1e-2, 0.5]}, PHASE_3),
    ("distillation.batch_size", {"distillation.batch_size": 2}, PHASE_3),
    ("distillation.epochs", {"distillation.epochs": 2}, PHASE_3),
    ("distillation.max_steps", {"distillation.max_steps": 9}, PHASE_3),
    ("distillation.lr", {"distillation.lr": 2e-3}, PHASE_3),
    ("distillation.evaluations", {"distillation.evaluations": 2}, PHASE_3),
    ("distillation.checkpoint_every", {"distillation.checkpoint_every": 7}, set()),
    ("evaluation.codecs", {"evaluation.codecs": ["frequency", "student", "sz3", "zfp"]}, NEW),
    ("evaluation.codecs", {"evaluation.codecs": ["frequency", "student"]}, {"report"}),
    ("evaluation.nrmse", {"evaluation.nrmse": [0.01, 0.001]}, EVERYTHING_MEASURED),
    ("evaluation.max_rel", {"evaluation.max_rel": [0.001]}, EVERYTHING_MEASURED),
    ("compress.*.input", {"compress.wind.input": "storm.npy"}, {"source wind", *WIND}),
    ("compress.*.variables", {"compress.wind.variables": ["data"]}, WIND),
    ("compress.*.mode", {"compress.wind.mode": "psnr"}, CODED),
    ("compress.*.bound", {"compress.wind.bound": 0.1}, CODED),
    ("compress.*.fill_value", {"compress.wind.fill_value": -999.0}, WIND),
    ("compress.*.model", {"compress.wind.model": "own.cfm"}, CODED),
    ("compress.*.part_mb", {"compress.wind.part_mb": 2}, WIND),
    # all data sets train the one model, but peers and the splits of the others are left alone
    ("datasets", {"datasets.more": {"files": ["other.npz"]}},
     {"split more", *PHASE_1, *(f"evaluate more {c}" for c in ("frequency", "student", "sz3"))}),
]  # fmt: skip


def keys(schema: dict, place: str = "") -> list[str]:
    """Dotted names of all settings of a schema; ``*`` stands for the name of a data set."""
    if isinstance(schema.get("additionalProperties"), dict):
        return keys(schema["additionalProperties"], f"{place}*.")
    if "properties" not in schema:
        return [place[:-1]]
    return [k for name, part in schema["properties"].items() for k in keys(part, f"{place}{name}.")]


def edited(edits: dict) -> dict:
    config = json.loads(json.dumps(BASE))
    for place, value in edits.items():
        *sections, key = place.split(".")
        target = config
        for section in sections:
            target = target[section]
        target[key] = value
    return config


#: Rules of results that lie beside the folder of a compressed data set.
JOINED = {".cfq": "join"}


def job(output: str) -> str:
    """Name of the job that makes a file."""
    first, second, *rest = output.split("/")
    if second == "compressed":
        name, *kind = [second.split(".")[0] for second in rest[:2]]
        rules = {"source": "source", "survey": "survey", "ranges": "ranges", "parts": "compress_part", "receipt": "join",
                 "verify": "verify_part"}  # fmt: skip
        if kind == ["usage"]:
            kind = [
                "parts" if rest[2] == "compress" else "receipt" if rest[2] == "join" else rest[2]
            ]
        return f"{rules[kind[0]] if kind else JOINED.get(rest[0][-4:], 'compression_table')} {name}"
    if first == "data":
        return "fetch" if second == "raw" else f"split {rest[0]}"
    if second == "raw":
        return f"evaluate {rest[0]} {rest[1].split('_')[0]}"
    names = {"freq_compressor": "train_freq_compressor", "diffusion": "train_diffusion",
             "distillation": "train_distillation"}  # fmt: skip
    return names.get(second, "report" if first == "results" else "merge")


class Finished(Checkout):
    """A finished run of two data sets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copy(ROOT / "tests" / "dry_runs.py", folder)
        (folder / "other.npz").write_bytes(b"other")
        (folder / "own.cfm").write_bytes(b"own")
        for name in ("wind.npy", "storm.npy"):
            np.save(folder / name, np.zeros((1, 4, 2, 300, 500), np.float32))
        (folder / "data" / "raw" / "turbulence").mkdir(parents=True)
        self.configure(BASE)
        self.finish()

    def reruns(self, rows: list[tuple]) -> list[set[str]]:
        """Jobs that a dry run lists after each of these edits of the configuration and of files."""
        runs = []
        for number, (_, edits, _, *appended) in enumerate(rows):
            runs.append({"config": f"row{number}.yaml", "appended": dict(*appended)})
            (self.folder / f"row{number}.yaml").write_text(yaml.safe_dump(edited(edits)))
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "dry_runs.py"], cwd=self.folder, env=environment,
                              input=json.dumps(runs), capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        return [{job(output) for output in outputs} for outputs in found]


CODE = "\nEDITED = True\n"
DIFFUSION = "checkpoints/diffusion/diffusion_best.pth"
BASE_MODEL = "caesar_freq/assets/base.cfm"
#: Edits of files: what, keys of the configuration, what reruns, and text appended by file.
FILES = [
    ("nothing", {}, set(), {}),
    ("all touched", {}, set(), {"*": ""}),
    ("data", {}, WAVES, {"waves.npz": "other"}),
    ("base model", {}, PHASE_1, {BASE_MODEL: "other"}),
    ("base model without use", {"freq_compressor.init": "none"}, PHASE_1, {BASE_MODEL: "other"}),
    ("teacher", {}, PHASE_3, {DIFFUSION: "other"}),
    ("code of phase 1", {}, PHASE_1, {"caesar_freq/training/qat.py": CODE}),
    ("code of phase 3", {}, PHASE_3, {"caesar_freq/train_distillation.py": CODE}),
    ("code of peers", {}, EVERYTHING_MEASURED, {"caesar_freq/peer_search.py": CODE}),
    ("code of the report", {}, {"report"}, {"caesar_freq/report.py": CODE}),
    ("code without use", {}, set(), {"caesar_freq/integrations_that_no_rule_imports.py": CODE}),
]  # fmt: skip
ROWS = [*KEYS, *FILES]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[set[str]]:
    return Finished(tmp_path_factory.mktemp("reruns")).reruns(ROWS)


def test_every_key_of_the_configuration_has_a_row():
    rows = {key for key, _, _ in KEYS} - {"datasets"}
    assert rows == set(keys(SCHEMA))


@pytest.mark.parametrize("row", range(len(ROWS)), ids=[f"{row[0]}-{i}" for i, row in enumerate(ROWS)])  # fmt: skip
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(found, row):
    assert found[row] == ROWS[row][2]


def test_what_phases_2_and_3_are_made_of_retrains_no_earlier_phase():
    for key, _, expected in KEYS:
        section = key.split(".")[0]
        assert not (section == "diffusion" and expected & (PHASE_1 - PHASE_2)), key
        assert not (section == "distillation" and expected & (PHASE_1 - PHASE_3)), key
