"""What a fresh machine relies on: pins in step, both READMEs in step, commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import caesar_freq
from caesar_freq import kernels

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: What only developers need, and is thus no part of the conda environment.
DEVELOPMENT = {Requirement(entry).name for entry in EXTRAS["dev"]} - {"caesar-freq"}


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        line = line.split("#")[0].strip()
        if line:
            name, version = line.split("==")
            found[canonicalize_name(name)] = version
    return found


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text().splitlines())


def conda_pins() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (listed,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return pins([entry for entry in listed if not entry.startswith("-")])


def requirements() -> list[Requirement]:
    entries = [*PROJECT["dependencies"], *(entry for extra in EXTRAS.values() for entry in extra)]
    return [one for one in map(Requirement, entries) if one.name != "caesar-freq"]


def test_conda_environment_has_the_pins_of_the_constraints():
    for name, version in conda_pins().items():
        assert CONSTRAINTS[name] == version, name


def test_conda_environment_has_every_dependency_of_the_workflow():
    needed = {canonicalize_name(one.name) for one in requirements() if one.name not in DEVELOPMENT}
    assert needed <= set(conda_pins())


def test_every_dependency_is_pinned_within_its_own_limits():
    for one in requirements():
        assert one.specifier.contains(CONSTRAINTS[canonicalize_name(one.name)]), one


def test_the_demo_installs_the_build_of_torch_that_is_tested():
    makefile = (ROOT / "Makefile").read_text()
    assert f"torch=={CONSTRAINTS['torch']}" in makefile


def test_package_data_exist():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for pattern in patterns["package-data"]["caesar_freq"]:
        assert list((ROOT / "caesar_freq").glob(pattern)), pattern


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    assert re.search(r"^make test\b", script.read_text(), re.M)


def shape(name: str) -> tuple[list[str], list[str]]:
    """Levels of the headings, and the code blocks, of a README."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```.*?^```", text, re.M | re.S)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"^#+", prose, re.M), blocks


def test_the_chinese_readme_is_a_full_twin():
    english, chinese = shape("README.md"), shape("README.zh.md")
    assert english[0] == chinese[0]
    without_comments = [
        [re.sub(r"\s*#.*", "", block) for block in blocks] for blocks in (english[1], chinese[1])
    ]
    assert without_comments[0] == without_comments[1]


def test_the_chinese_readme_names_the_same_commands_and_settings():
    named = []
    for name in ("README.md", "README.zh.md"):
        prose = re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.M | re.S)
        words = (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))
        named.append(sorted(word for word in words if not word.startswith("DATA=")))
    assert named[0] == named[1]


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_files_that_a_readme_names_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert links
    for target in links:
        assert (ROOT / target).exists(), target


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= targets
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_make_clean_keeps_what_may_be_the_users(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = ["caesar_freq/_kernels.so", ".venv/bin/python", "tests/__pycache__/x.pyc"]
    kept = ["data/mine.nc", "checkpoints/best.pth", "results/raw/x.cfq", "logs/x.log",
            "benchmarks/results/x.md", "caesar_freq/x.py"]  # fmt: skip
    for name in (*made, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"Makefile", *kept}


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = "import sys, caesar_freq; print(sorted({'torch', 'numba', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(kernels.library() is None, reason="no kernels in C were built")
@pytest.mark.parametrize("mode, bound", [("rel", 1e-3), ("pw_rel", 1e-2), ("lossless", 0.0)])
def test_coding_loads_no_numba_where_there_are_kernels_in_c(mode, bound):
    """It is 65 MB and 0.17 s, with what it compiled 115 MB and half a second."""
    code = (
        "import sys, numpy, caesar_freq\n"
        "x = numpy.random.default_rng(0).standard_normal((9, 40, 50)).astype('f4').cumsum(1)\n"
        "x[:, 10:20, 5:9] = numpy.nan\n"
        f"caesar_freq.decode(caesar_freq.encode(x, {mode!r}, {bound}))\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("words", [["--version"], ["info", "x.cfq"], ["info", "x.cfq", "--json"]])
def test_commands_that_do_not_decode_load_neither_torch_nor_numba_nor_scipy(tmp_path, words):
    stream = caesar_freq.encode(np.ones((4, 8, 8), np.float32), metadata=b"")
    (tmp_path / "x.cfq").write_bytes(stream)
    code = (
        "import sys\nfrom caesar_freq.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "print(sorted({'torch', 'numba', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"
