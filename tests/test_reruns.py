"""What an edit reruns: every key of the configuration and every module of the package.

A key or a module without a row fails the test: whoever adds one says what depends on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_workflow import CONFIG, ROOT, SCHEMA, Checkout

from caesar_freq import fingerprints
from caesar_freq.fingerprints import evaluation_modules, fingerprint, sources

# one worker, so that the finished run is made once

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

TRAINING = {"train_freq_compressor", "train_diffusion", "train_distillation"}
GENERATIVE = {"train_diffusion", "train_distillation"}
GENERATED = {"evaluate teacher", "evaluate auto"}
OURS = {"evaluate frequency", *GENERATED}
COMPRESSION = {"survey", "ranges", "compress_part", "join", "verify_part", "compression_table"}
MEASURED = {*OURS, "evaluate sz3"}
ARRAYS = {"fetch", "split", "report", *MEASURED, *TRAINING}
#: Rules whose own code a module is (what follows from their outputs reruns as well), and modules.
MODULES = [
    # command line and Python API beside the workflow; what a job is told, not what it does
    (set(),
     "codec.joining compression compression.compress compression.job compression.join "
     "compression.parts compression.plan compression.ranges compression.survey "
     "compression.table compression.verify caesar_freq cfq_file cli cluster cluster.command cluster.fit cluster.offer "
     "cluster.plan cluster.recover cluster.requests comparison data.metadata "
     "data.simulated data.training_sets fingerprints settings status sweep sweeps "
     "sweeps.launch sweeps.results sweeps.space transfer workflow"),
    # one rule each
    ({"fetch"}, "data.fetch data.packages data.turbulence"),
    ({"split"}, "data.layout data.leakage split"),
    ({"merge"}, "merge"),
    ({"report"}, "report reporting reporting.page reporting.plots reporting.records "
                 "reporting.tables"),
    ({"train_freq_compressor"}, "train_freq_compressor training.frequency "
                                "training.grid_fit training.qat training.quantiser_fit training.rows"),
    ({"train_distillation"}, "train_distillation training.distiller"),
    # files that are not .npz are read by split alone
    ({"split"}, "data.netcdf data.parts data.template data.unpacking data.variables data.zarr_store"),
    # arrays in memory and on disk; every .npz is written or read through them
    (ARRAYS, "data data.arrangement data.field data.files data.lazy data.sections"),
    ({*ARRAYS, "merge"}, "atomic errors"),
    # training: phase 3 shares batches and loop with phase 2
    (GENERATIVE, "train_diffusion training.generative training.loop training.losses "
                 "training.validation"),
    (TRAINING, "data.blocks training training.args training.checkpoint training.history "
               "training.memory training.ranks"),
    # generators; the teacher is trained and measured without the student
    ({*GENERATED, "merge", *GENERATIVE},
     "models models.conditions models.diffusion models.layout models.predictor models.unet3d "
     "models.wiener transform.latent"),
    ({"evaluate auto", "merge", "train_distillation"}, "models.student"),
    # measuring; the report says what was measured, and for which peers
    (MEASURED, "evaluate peer_files peer_search printing"),
    ({*MEASURED, "report"}, "measuring metrics peers"),
    # what a measurement tells of our files besides their size
    (OURS, "api codec.contents"),
    # whole files: phase 1 chooses its best model by the length of real, verified ones
    ({*OURS, "train_freq_compressor"},
     "codec.bodies codec.census codec.choose codec.chunk codec.container codec.decoder codec.effort "
     "codec.encoder codec.large codec.lattice codec.lossless codec.outliers codec.plan codec.pointwise "
     "codec.refit codec.region codec.relative codec.search codec.spacing codec.statistics codec.step_ratio "
     "codec.stream entropy.levels entropy.logistic entropy.pmf_fit entropy.sparse kernels.logarithms "
     "kernels.values "
     "codec.checking codec.chunk_encoder codec.coarse codec.linked codec.linking codec.links "
     "codec.options codec.reading codec.targets"),
    # coding of one chunk: phases 2 and 3 count the bytes of what a generator leaves
    ({*OURS, *TRAINING},
     "codec.backend codec.chunks codec.coders codec.ends codec.entropy_side codec.generated "
     "codec.header codec.layout codec.modes codec.native codec.portable codec.quantise codec.refine "
     "codec.restoration codec.segments codec.trellis codec.volume entropy.coder entropy.dependent "
     "entropy.rans kernels.eigen kernels.errors transform.blocks transform.modes transform.native codec.torch_kernels codec.torch_contexts"),
    # the frequency model, which merge reads and writes, and the axes of the transform
    ({*OURS, *TRAINING, "merge"},
     "codec.model entropy.context entropy.network entropy.tables kernels kernels.ordered "
     "kernels.product transform transform.axis transform.matrices transform.wavelets"),
    # holes in data: files of peers tell them in our way
    ({*MEASURED, "train_freq_compressor"}, "codec.special entropy.binary entropy.mask"),
    ({*MEASURED, *TRAINING}, "codec.packing data.filling"),
    ({*MEASURED, *TRAINING, "merge"}, "codec entropy"),
]  # fmt: skip

READING = {"survey", "compress_part", "verify_part"}
#: The same for the rules of a compression; of the codec, modules that tell them apart.
COMPRESSION_MODULES = [
    ({"compress_part"}, "codec.checking codec.chunk_encoder codec.encoder codec.large codec.options "
                        "codec.stream compression.compress"),
    ({"survey", "ranges", "compress_part"}, "codec.statistics"),
    ({"ranges", "compress_part"}, "compression.ranges"),
    ({"compress_part", "verify_part"}, "codec.decoder codec.reading codec.search"),
    ({"join"}, "codec.joining compression.join"),
    ({"join", "compress_part", "verify_part"}, "codec.container"),
    ({"join", "ranges", *READING}, "codec.header"),
    ({"survey", "compress_part"}, "codec.chunk"),
    (READING, "codec.targets entropy.rans"),
    (COMPRESSION, "compression compression.job compression.parts data.zarr_store data.netcdf"),
    ({"survey"}, "compression.survey"),
    ({"verify_part"}, "compression.verify"),
    ({"compression_table"}, "compression.table"),
    (set(), "compression.plan api workflow"),
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

    def reruns(self, configs: list[dict]) -> list[set[str]]:
        """Jobs that a dry run of every configuration lists."""
        names = [f"row{number}.yaml" for number in range(len(configs))]
        for name, config in zip(names, configs, strict=True):
            (self.folder / name).write_text(yaml.safe_dump(config))
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "dry_runs.py", *names], cwd=self.folder,
                              env=environment, capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        return [{job(output) for output in found[name]} for name in names]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    return Finished(tmp_path_factory.mktemp("reruns"))


@pytest.fixture(scope="module")
def rerun_by_key(finished) -> list[set[str]]:
    return finished.reruns([edited(edits) for _, edits, _ in KEYS])


def test_every_key_of_the_configuration_has_a_row():
    rows = {key for key, _, _ in KEYS} - {"datasets"}
    assert rows == set(keys(SCHEMA))


@pytest.mark.parametrize("row", range(len(KEYS)), ids=[f"{key}-{i}" for i, (key, _, _) in enumerate(KEYS)])  # fmt: skip
def test_an_edited_key_reruns_what_depends_on_it_and_nothing_else(rerun_by_key, row):
    assert rerun_by_key[row] == KEYS[row][2]


def code_of_rules() -> dict[str, set[str]]:
    """Modules that the fingerprint of every rule covers, as the Snakefiles ask for it."""
    found = {}
    pattern = r'^rule (\w+):.*?code=fingerprint\("([\w.]+)"(, lazy=False)?\)'
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        # one rule at a time, since a rule may have no such line
        for text in re.split(r"(?=^rule )", path.read_text(), flags=re.M):
            for rule, module, top in re.findall(pattern, text, re.S | re.M):
                found[rule] = set(sources(module, lazy=not top))
    for codec in ("frequency", "teacher", "auto", "sz3"):
        found[f"evaluate {codec}"] = set(sources(*evaluation_modules(codec), lazy=False))
    return found


def all_modules() -> set[str]:
    names = set()
    for path in fingerprints.PACKAGE.rglob("*.py"):
        parts = path.relative_to(fingerprints.PACKAGE).with_suffix("").parts
        names.add(".".join(part for part in parts if part != "__init__") or "caesar_freq")
    return names


def test_an_edited_module_reruns_the_rules_of_its_row_and_no_others():
    code = code_of_rules()
    assert {rule.split()[0] for rule in code} == {*TRAINING, "fetch", "split", "merge", "evaluate",
                                                  "report", *COMPRESSION}  # fmt: skip
    table = {name: rules for rules, names in MODULES for name in names.split()}
    silent = {name.removeprefix("caesar_freq.") for name in fingerprints.SILENT}
    training = {rule: modules for rule, modules in code.items() if rule not in COMPRESSION}
    found = {name: rerun_by(name, training) for name in all_modules()}
    assert set(found) == {*table, *silent}, "every module needs a row in MODULES"
    assert {n: r for n, r in found.items() if r != table.get(n, set())} == {}


def test_the_compression_of_large_data_has_rows_of_its_own():
    code = {rule: modules for rule, modules in code_of_rules().items() if rule in COMPRESSION}
    table = {name: rules for rules, names in COMPRESSION_MODULES for name in names.split()}
    assert {name: rerun_by(name, code) for name in table} == table
    own = {name for name in all_modules() if name.split(".")[0] == "compression"}
    assert own <= set(table), "every module of compression needs a row"
    # training, models, peers and reports have no part in it
    folders = {name.split(".")[0] for name in all_modules() if rerun_by(name, code)}
    assert folders == {"atomic", "codec", "compression", "data", "entropy", "errors", "kernels",
                       "transform"}  # fmt: skip


def rerun_by(name: str, code: dict[str, set[str]]) -> set[str]:
    return {rule for rule, modules in code.items() if f"caesar_freq.{name}" in modules}


def test_what_phases_2_and_3_are_made_of_retrains_no_earlier_phase():
    for key, _, expected in KEYS:
        section = key.split(".")[0]
        assert not (section == "diffusion" and expected & (PHASE_1 - PHASE_2)), key
        assert not (section == "distillation" and expected & (PHASE_1 - PHASE_3)), key
    code = code_of_rules()
    later = {"caesar_freq.models.student", "caesar_freq.training.distiller"}
    assert not later & (code["train_freq_compressor"] | code["train_diffusion"])
    assert not any(
        "models." in name or "diffusion" in name for name in code["train_freq_compressor"]
    )


def test_code_is_what_it_does_not_how_it_is_written(tmp_path, monkeypatch):
    package = tmp_path / "caesar_freq"
    shutil.copytree(fingerprints.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", package)
    before = fingerprint("caesar_freq.train_diffusion")
    module = package / "training" / "loop.py"
    text = module.read_text()
    comment = text.replace("def _autocast", "# a comment\n\n\ndef _autocast")
    docstring = text.replace('"""Linear warm-up, then', '"""Otherwise worded, then')
    for same in (comment, docstring):
        assert same != text
        module.write_text(same)
        assert fingerprint("caesar_freq.train_diffusion") == before
    module.write_text(text.replace("_CLIP = 1.0", "_CLIP = 2.0"))
    assert fingerprint("caesar_freq.train_diffusion") != before


def test_a_template_and_a_kernel_are_code(tmp_path, monkeypatch):
    package = tmp_path / "caesar_freq"
    shutil.copytree(fingerprints.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprints, "PACKAGE", package)
    report, phase = fingerprint("caesar_freq.report"), fingerprint("caesar_freq.train_diffusion")
    template = package / "reporting" / "report.html.j2"
    template.write_text(template.read_text() + "<!-- -->")
    assert fingerprint("caesar_freq.report") != report
    assert fingerprint("caesar_freq.train_diffusion") == phase
    (package / "entropy" / "kernel.c").write_text("int f(void) { return 1; }")
    assert fingerprint("caesar_freq.train_diffusion") != phase


def test_a_touched_file_reruns_nothing_and_a_changed_one_what_reads_it(finished, tmp_path):
    copy = Finished.__new__(Finished)
    copy.folder = tmp_path / "copy"
    shutil.copytree(finished.folder, copy.folder)
    for path in copy.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    assert copy.reruns([BASE]) == [set()]
    base = copy.folder / "caesar_freq" / "assets" / "base.cfm"
    base.write_bytes(base.read_bytes() + b"other")
    assert copy.reruns([BASE, edited({"freq_compressor.init": "none"})]) == [PHASE_1, PHASE_1]
    (copy.folder / "checkpoints" / "diffusion" / "diffusion_best.pth").write_bytes(b"other")
    base.write_bytes(base.read_bytes().removesuffix(b"other"))
    assert copy.reruns([BASE]) == [PHASE_3]
    (copy.folder / "waves.npz").write_bytes(b"other")
    assert copy.reruns([BASE]) == [WAVES]
