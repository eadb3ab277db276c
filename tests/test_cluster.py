"""What jobs ask of SLURM and what is said of impossible ones; a recording fake stands for SLURM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from test_workflow import BIN, ROOT, Checkout

from caesar_freq.cluster import plan
from caesar_freq.cluster.fit import features_match, never, nodes_for
from caesar_freq.cluster.offer import parse_gres, parse_offer
from caesar_freq.cluster.requests import Request, gpu_resources, parse_gpu_table
from caesar_freq.errors import ConfigError

FAKE = ROOT / "tests" / "cluster" / "fake_slurm.py"
NODES = """\
NodeName=g8 CPUTot=8 AvailableFeatures=gpumem8g Gres=gpu:small:1,gpumem:8G RealMemory=65536 State=IDLE Partitions=gpu
NodeName=g24 CPUTot=8 AvailableFeatures=gpumem8g,gpumem12g,gpumem16g,gpumem24g Gres=gpu:large:1(S:0),gpumem:no_consume:24G RealMemory=65536 State=DOWN*+DRAIN Partitions=gpu,short
NodeName=c1 CPUTot=8 AvailableFeatures=(null) Gres=(null) RealMemory=65536 State=IDLE Partitions=cpu
"""  # noqa: E501
PARTITIONS = """\
PartitionName=cpu Default=YES MaxTime=UNLIMITED State=UP
PartitionName=gpu Default=NO MaxTime=7-00:00:00 State=UP
PartitionName=short Default=NO MaxTime=00:05:00 State=UP
"""
OFFER = parse_offer(NODES, PARTITIONS, "AccountingStorageType   = accounting_storage/none")
PHASES = {"train_freq_compressor": 8, "train_diffusion": 16, "train_distillation": 12}


class Cluster(Checkout):
    """A finished checkout with a SLURM profile, whose sbatch records."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "run")
        self.state = folder / "state"
        (self.state / "show").mkdir(parents=True)
        for name, text in (("node", NODES), ("partition", PARTITIONS),
                           ("config", "AccountingStorageType = none\nMinJobAge = 300 sec")):  # fmt: skip
            (self.state / "show" / name).write_text(text)
        commands = folder / "bin"
        commands.mkdir()
        for name in ("sbatch", "squeue", "scontrol", "sinfo", "sacctmgr", "sshare", "scancel"):
            target = commands / name
            target.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
            target.chmod(0o755)
        self.environment = os.environ | {
            "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "FAKE_SLURM": str(self.state),
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        self.finish()
        for name in ("checkpoints", "data", "results"):
            shutil.copytree(self.folder / name, self.state / "saved" / name)
        for rule in (*PHASES, "merge"):  # --summary does not list benchmarks
            (self.state / "saved" / "results" / "benchmarks").mkdir(exist_ok=True)
            (self.state / "saved" / "results" / "benchmarks" / f"{rule}.tsv").touch()

    def profile(self, **edits: str) -> None:
        """The shipped profile, adapted as its comments say, with texts replaced."""
        text = (ROOT / "profiles" / "slurm" / "profile.yaml").read_text()
        text = text.replace("# slurm-status-command", "slurm-status-command")
        text = text.replace('# slurm_account: "myaccount"', 'slurm_account: "testacct"')
        for old, new in edits.items():
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "profiles" / "slurm"
        path.mkdir(parents=True, exist_ok=True)
        (path / "profile.yaml").write_text(
            text + "slurm-init-seconds-before-status-checks: 1\nlatency-wait: 1\n"
        )

    def run(
        self, *arguments: str, fail: dict[str, int] | None = None
    ) -> subprocess.CompletedProcess:
        (self.state / "sbatch.jsonl").unlink(missing_ok=True)
        (self.state / "fail.json").write_text(json.dumps(fail or {}))
        command = [BIN / "snakemake", *arguments, "--profile", "profiles/slurm",
                   "--configfile", "tiny.yaml"]  # fmt: skip
        return self.call(*command)

    def call(self, *command: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True,
                              text=True)  # fmt: skip

    def ask(self, command: str, *options: str) -> subprocess.CompletedProcess:
        return self.call(sys.executable, "-m", "caesar_freq.cli", "cluster", command,
                         "--configfile", "tiny.yaml", *options)  # fmt: skip

    def submissions(self) -> list[dict]:
        path = self.state / "sbatch.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("cluster"))


def asked(arguments: list[str]) -> dict[str, str]:
    """Options of a recorded sbatch line."""
    options = {}
    for option, value in zip(arguments, [*arguments[1:], ""]):
        if option.startswith("--") and "=" in option:
            key, _, options[option.partition("=")[0]] = option.partition("=")
        elif option.startswith("-"):
            options[option] = value
    return options


def test_each_phase_asks_for_its_gpu_memory_account_partition_time_memory_and_cpus(cluster):
    cluster.profile()
    done = cluster.run("checkpoints/distillation/student_best.pth", "--forcerun", *PHASES)
    assert done.returncode == 0, done.stderr
    jobs = cluster.submissions()
    assert [job["rule"] for job in jobs] == list(PHASES)
    stated = {"train_freq_compressor": ("gpumem8g", "8000", "720"),
              "train_diffusion": ("gpumem16g", "16000", "1440"),
              "train_distillation": ("gpumem12g", "16000", "1440")}  # fmt: skip
    for job in jobs:
        options = asked(job["arguments"])
        assert (options["-C"], options["--mem"], options["-t"]) == stated[job["rule"]]
        assert options["-A"] == "testacct"
        assert options["-p"] == "gpu"
        assert options["--gpus"] == options["--nodes"] == "1"
        assert options["--cpus-per-task"] == "4"
        assert options["--job-name"].startswith("caesar_")
        assert "--requeue" in job["arguments"]


def test_a_retry_asks_for_more_and_stays_within_the_table(cluster):
    cluster.profile()
    done = cluster.run("--forcerun", "train_diffusion", "--until", "train_diffusion",
                       fail={"train_diffusion": 2})  # fmt: skip
    assert done.returncode == 0, done.stderr
    options = [asked(job["arguments"]) for job in cluster.submissions()]
    assert [(o["-C"], o["--mem"], o["-t"]) for o in options] == [
        ("gpumem16g", "16000", "1440"), ("gpumem24g", "32000", "2880"),
        ("gpumem24g", "48000", "4320"),
    ]  # fmt: skip


def test_jobs_without_a_gpu_go_elsewhere(cluster):
    cluster.profile()
    done = cluster.run("--forcerun", "merge", "--until", "merge")
    assert done.returncode == 0, done.stderr
    (job,) = cluster.submissions()
    options = asked(job["arguments"])
    assert options["-p"] == "cpu"
    assert not {"-C", "--gpus"} & set(options)


def test_a_phase_that_fits_nowhere_is_named_before_anything_is_submitted(cluster):
    cluster.profile(gpumem16g="gpumem99g")
    done = cluster.run("--forcerun", "train_diffusion")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "train_diffusion asks for a GPU with 16 GB (constraint=gpumem99g)" in said
    assert "g24 (gpu:large:1,gpumem:24G; " in said
    assert cluster.submissions() == []
    assert not list((cluster.folder / ".snakemake").glob("locks/*"))


def test_cluster_check_says_what_fits_and_what_never_will(cluster):
    cluster.profile()
    good = cluster.ask("check")
    assert good.returncode == 0, good.stdout + good.stderr
    rows = {tuple(line.split()[:2]): line for line in good.stdout.splitlines()}
    assert rows["train_freq_compressor", "1"].endswith("gpu: g8 g24 (not available now)")
    assert rows["train_diffusion", "1"].endswith("gpu: g24 (not available now)")
    cluster.profile(gpumem16g="gpumem99g")
    bad = cluster.ask("check")
    assert bad.returncode == 1
    assert "never: train_diffusion asks for a GPU with 16 GB (constraint=gpumem99g)" in bad.stdout
    cluster.profile(**{"slurm-status-command: squeue": "keep-going: true"})
    waiting = cluster.ask("check")
    assert waiting.returncode == 1
    assert "set slurm-status-command: squeue in profiles/slurm" in waiting.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("check --profile nosuch", "profile nosuch does not exist; give one with --profile"),
        ("check --configfile nosuch.yaml", "nosuch.yaml does not exist; give the settings with"),
        ("check --profile typo", "profile typo: unrecognized arguments: --jobz=3"),
        ("check --profile broken", "broken/profile.yaml"),
        ("check --profile few", "gpu_table: '16constraint=gpumem16g' is not GB:key=value"),
        ("recover --profile nosuch", "profile nosuch does not exist; give one with --profile"),
        ("recover --profile local", "local sets no slurm-jobname-prefix, by which jobs are found"),
        ("recover --profile typo", "profile typo: unrecognized arguments: --jobz=3"),
        ("recover --snakefile nosuch", "there is no nosuch here; run this where snakemake ran"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_it(cluster, arguments, sentence):
    cluster.profile()
    text = (cluster.folder / "profiles" / "slurm" / "profile.yaml").read_text()
    profiles = {"typo": text + "jobz: 3\n", "broken": text + "forcerun: [a\n",
                "few": text.replace("16:constraint", "16constraint"),
                "local": "cores: 1\n"}  # fmt: skip
    for name, content in profiles.items():
        (cluster.folder / name).mkdir(exist_ok=True)
        (cluster.folder / name / "profile.yaml").write_text(content)
    done = cluster.ask(*arguments.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_table_without_a_large_enough_card_is_refused():
    with pytest.raises(ConfigError, match="ends at 12 GB but a phase needs 16 GB"):
        gpu_resources(16, {"gpu_table": "8:gpu_model=small 12:gpu_model=medium"})
    with pytest.raises(ConfigError, match="'16=a100' is not GB:key=value"):
        parse_gpu_table("8:constraint=small 16=a100")


@pytest.mark.parametrize(
    ("table", "attempt", "expected"),
    [
        ("16:gres=gpumem:16G", 1, {"gres": "gpumem:16G", "gpu": 1}),
        ("16:gres=gpu:a100:1", 1, {"gres": "gpu:a100:1", "gpu": None}),
        ("24:gpu_model=rtx 40:gpu_model=a100,slurm_partition=big", 1,
         {"gpu_model": "rtx", "slurm_partition": "gpu", "gpu_mem_gb": 16}),
        ("24:gpu_model=rtx 40:gpu_model=a100,slurm_partition=big", 3,
         {"gpu_model": "a100", "slurm_partition": "big", "gpu_mem_gb": 40}),
    ],
)  # fmt: skip
def test_the_table_speaks_the_sites_language(table, attempt, expected):
    resources = gpu_resources(16, {"gpu_table": table, "gpu_partition": "gpu"})
    values = {k: v(None, attempt) if callable(v) else v for k, v in resources.items()}
    assert {key: values[key] for key in expected} == expected


def test_without_a_table_only_the_need_is_stated():
    assert gpu_resources(16, {}) == {"gpu_mem_gb": 16}


@pytest.mark.parametrize(
    ("request_", "nodes", "sentence"),
    [
        (Request("a", gpus=1, partition="gpu"), {"g8", "g24"}, ""),
        (Request("a", gpus=1, gpu_model="large", partition="gpu"), {"g24"}, ""),
        (Request("a", gpus=1, gres="gpumem:12G", partition="gpu"), {"g24"}, ""),
        (Request("a", gpus=2, partition="gpu"), set(), "lacks gpu 2"),
        (Request("a", mem_mb=70000), set(), "lacks 70000 MB of memory"),
        (Request("a", cpus=9), set(), "lacks 9 CPUs"),
        (Request("a", minutes=6, partition="short"), set(), "ends jobs after 5 min"),
        (Request("a", minutes=10080, partition="gpu"), {"g8", "g24"}, ""),
        (Request("a", partition="nowhere"), set(), "no such partition; the cluster has cpu, gpu"),
    ],
)
def test_requests_are_compared_with_nodes_and_partitions(request_, nodes, sentence):
    assert {node.name for node in nodes_for(request_, OFFER)} == nodes
    assert (sentence in never(request_, OFFER)) if sentence else never(request_, OFFER) == ""


def test_features_and_generic_resources_are_read_as_slurm_reads_them():
    have = {"a", "b"}
    constraints = {"a&b": True, "[x|b]": True, "(x|a)&b*1": True, "a&x": False}
    assert {text: features_match(text, have) for text in constraints} == constraints
    assert parse_gres("gpu:a100:2(S:0-1),gpumem:no_consume:40G,shard:4") == {
        "gpu": 2, "gpu:a100": 2, "gpumem": 40 << 30, "shard": 4,
    }  # fmt: skip
    assert OFFER.accounting is False


def test_the_profile_says_each_thing_once():
    slurm = yaml.safe_load((ROOT / "profiles" / "slurm" / "profile.yaml").read_text())
    assert slurm["retries"] == 2
    assert slurm["slurm-requeue"] is True
    assert "slurm-array-jobs" not in slurm  # up to 2.8.0 it deletes or mislabels outputs
    assert set(PHASES.values()) <= set(parse_gpu_table(slurm["default-resources"]["gpu_table"]))


def test_a_retry_that_fits_nowhere_is_a_warning(monkeypatch, capsys):
    resources = {1: {"runtime": 5, "slurm_partition": "short"},
                 2: {"runtime": 10, "slurm_partition": "short"}}  # fmt: skip
    rule = SimpleNamespace(
        name="merge", expand_resources=lambda w, i, attempt: {**resources[attempt], "_cores": 1}
    )
    workflow = SimpleNamespace(
        executor_plugin=SimpleNamespace(name="slurm"),
        execution_settings=SimpleNamespace(retries=1),
        dag=SimpleNamespace(needrun_jobs=lambda: [SimpleNamespace(rule=rule)]),
    )
    monkeypatch.setattr(plan, "read_offer", lambda: OFFER)
    monkeypatch.setattr(plan.shutil, "which", lambda name: name)
    plan.refuse_impossible(workflow)
    assert "warning: try 2 of merge asks for 0 MB, 1 CPUs, 10 min" in capsys.readouterr().err
    resources[1]["runtime"] = 6
    with pytest.raises(ConfigError, match="merge asks for .*ends jobs after 5 min"):
        plan.refuse_impossible(workflow)


def test_recover_cancels_the_jobs_of_this_folder_alone_and_takes_back_the_lock(cluster):
    cluster.profile()
    here = cluster.folder
    foreign = [f"4|RUNNING|other_1|rule_merge|{here}", "5|RUNNING|caesar_2|rule_merge|/elsewhere"]
    ours = [f"6|RUNNING|caesar_3|rule_evaluate_wildcards_w_zfp|{here}",
            f"7|PENDING|caesar_3|rule_train_diffusion|{here}"]  # fmt: skip
    (cluster.state / "orphans").write_text("\n".join([*foreign, *ours]))
    locks = here / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/report.html\n")
    listed = cluster.ask("recover", "--dry-run")
    assert listed.stdout.splitlines() == [
        "job 6 (evaluate): RUNNING", "job 7 (train_diffusion): PENDING",
    ]  # fmt: skip
    snakemake = subprocess.Popen(["snakemake", "60"], executable="/bin/sleep", cwd=here)
    try:
        refused = cluster.ask("recover")
    finally:
        snakemake.kill()
        snakemake.wait()
    assert refused.returncode == 2
    assert f"Snakemake (process {snakemake.pid}) still runs in" in refused.stderr
    assert len((cluster.state / "orphans").read_text().splitlines()) == 4
    done = cluster.ask("recover")
    assert done.returncode == 0, done.stderr
    assert (cluster.state / "orphans").read_text().splitlines() == foreign
    assert not list(here.glob(".snakemake/locks/*"))
