"""Stands for sbatch, squeue, scontrol and others of SLURM, by the name it is called by.

State lies in the folder $FAKE_SLURM: `sbatch.jsonl` records submissions, `fail.json` says how many
tries of a rule fail, `show/WHAT` is printed by `scontrol show WHAT`, `orphans`
holds jobs of an earlier run. A job ends at once; where it
succeeds, files of `saved/` that are missing are put back: those Snakemake has just removed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])


def submitted() -> list[dict]:
    path = STATE / "sbatch.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def sbatch(arguments: list[str]) -> None:
    rule = arguments[arguments.index("--comment") + 1].removeprefix("rule_")
    rule = rule.split("_wildcards_")[0]
    earlier = submitted()
    number = len(earlier) + 1
    attempt = 1 + sum(job["rule"] == rule for job in earlier)
    failing = json.loads((STATE / "fail.json").read_text()).get(rule, 0)
    state = "FAILED" if attempt <= failing else "COMPLETED"
    if state == "COMPLETED":
        saved = STATE / "saved"
        for path in saved.rglob("*"):
            target = Path(path.relative_to(saved))
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    job = {"rule": rule, "attempt": attempt, "state": state, "number": number}
    job["arguments"] = [a for a in arguments if not a.startswith("--wrap")]
    with open(STATE / "sbatch.jsonl", "a") as stream:
        stream.write(json.dumps(job) + "\n")
    print(number)


def squeue(arguments: list[str]) -> None:
    if "--user" in arguments:  # jobs of an earlier run, as the test wrote them
        for line in (STATE / "orphans").read_text().splitlines():
            print(line if "|" in arguments[-1] else line.split("|")[0])
        return
    for job in submitted():
        print(f"{job['number']}|{job['state']}")


def scancel(arguments: list[str]) -> None:
    lines = (STATE / "orphans").read_text().splitlines()
    left = [line for line in lines if line.split("|")[0] not in arguments]
    (STATE / "orphans").write_text("\n".join(left))


def scontrol(arguments: list[str]) -> None:
    print((STATE / "show" / arguments[-1]).read_text())


if __name__ == "__main__":
    command = globals().get(Path(sys.argv[0]).name)
    if command:
        command(sys.argv[1:])
