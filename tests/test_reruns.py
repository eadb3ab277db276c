"""What an edit of a module reruns.

A module without a row fails the test: whoever adds one says what depends on it.
"""

from __future__ import annotations

import re
import shutil

from test_workflow import ROOT

from caesar_freq import fingerprints
from caesar_freq.fingerprints import evaluation_modules, fingerprint, sources

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
     "__main__ arguments codec.joining compression compression.compress compression.job compression.join "
     "compression.parts compression.plan compression.ranges compression.survey "
     "compression.table compression.verify caesar_freq cfq_file cli compressor cluster cluster.command cluster.fit cluster.offer "
     "cluster.plan cluster.recover cluster.requests comparison data.metadata "
     "data.simulated data.training_sets fingerprints generators settings status sweep sweeps "
     "sweeps.launch sweeps.results sweeps.space transfer workflow"),
    # one rule each
    ({"fetch"}, "data.fetch data.packages data.turbulence"),
    ({"split"}, "data.layout data.leakage split"),
    ({"merge"}, "merge"),
    ({"report"}, "report reporting reporting.page reporting.plots reporting.records "
                 "reporting.tables"),
    ({"train_freq_compressor"}, "train_freq_compressor training.frequency training.frequency_trainer "
                                "training.grid_fit training.qat training.quantiser_fit training.rows"),
    ({"train_distillation"}, "train_distillation training.distiller"),
    # files that are not .npz are read by split alone
    ({"split"}, "data.classic data.netcdf data.parts data.template data.unpacking data.variables data.zarr_store"),
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
     "codec.bodies codec.candidates codec.cells codec.census codec.choose codec.chunk codec.container codec.decoder codec.effort "
     "codec.encoder codec.grid codec.large codec.lattice codec.lossless codec.outliers codec.partial codec.plan codec.pointwise codec.predictors codec.prices "
     "codec.refit codec.region codec.relative codec.search codec.spacing codec.spectra codec.statistics codec.step_ratio "
     "codec.tuning codec.zfp entropy.bands transform.in_time transform.zfp "
     "codec.stream entropy.integers entropy.least_squares entropy.level_blend entropy.level_kernels entropy.levels entropy.logistic entropy.pmf_fit entropy.sparse kernels.logarithms "
     "kernels.values "
     "codec.checking codec.chunk_encoder codec.coarse codec.linked codec.linking codec.links codec.normalised "
     "codec.options codec.reading codec.strategies codec.targets"),
    # coding of one chunk: phases 2 and 3 count the bytes of what a generator leaves
    ({*OURS, *TRAINING},
     "codec.backend codec.chunks codec.coders codec.ends codec.entropy_side codec.fine codec.generated "
     "codec.header codec.layout codec.modes codec.native codec.native_quantise codec.parts codec.portable codec.quantise codec.refine "
     "codec.restoration codec.segments codec.trellis codec.volume codec.volume_encoder entropy.coder entropy.dependent "
     "entropy.rans kernels.eigen kernels.errors transform.blocks transform.modes transform.native codec.torch_kernels codec.torch_contexts"),
    # the frequency model, which merge reads and writes, and the axes of the transform
    ({*OURS, *TRAINING, "merge"},
     "codec.model entropy.context entropy.network entropy.tables kernels.ordered "
     "kernels.product transform transform.axis transform.matrices transform.wavelets"),
    # holes in data: files of peers tell them in our way
    ({*MEASURED, "train_freq_compressor"}, "codec.special entropy.binary entropy.mask"),
    ({*MEASURED, *TRAINING}, "codec.packing data.filling"),
    ({*MEASURED, *TRAINING, "merge"}, "codec entropy kernels kernels.jit kernels.memory"),
]  # fmt: skip

READING = {"survey", "compress_part", "verify_part"}
#: The same for the rules of a compression; of the codec, modules that tell them apart.
COMPRESSION_MODULES = [
    ({"compress_part"}, "codec.checking codec.chunk_encoder codec.encoder codec.large codec.options codec.search "
                        "codec.tuning codec.stream compression.compress"),
    ({"survey", "ranges", "compress_part"}, "codec.statistics"),
    ({"ranges", "compress_part"}, "compression.ranges"),
    ({"compress_part", "verify_part"}, "codec.decoder codec.reading"),
    ({"join"}, "codec.joining compression.join"),
    ({"join", "compress_part", "verify_part"}, "codec.container"),
    ({"join", "ranges", *READING}, "codec.header"),
    ({"survey", "compress_part"}, "codec.chunk"),
    (READING, "codec.targets entropy.rans"),
    (COMPRESSION, "compression compression.job compression.parts data.zarr_store data.netcdf "
                  "data.classic"),
    ({"survey"}, "compression.survey"),
    ({"verify_part"}, "compression.verify"),
    ({"compression_table"}, "compression.table"),
    (set(), "compression.plan api workflow"),
]  # fmt: skip


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
