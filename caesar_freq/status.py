"""How far a workflow or a sweep is, and what its jobs used of what they asked for.

``caesar-freq status [FOLDER] [--watch] [--efficiency] [--json]`` reads files only: the
``progress.json`` of the training phases, the logs and the benchmarks. It works on a login node
while the jobs run elsewhere.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caesar_freq.errors import ConfigError, run_main
from caesar_freq.printing import finite
from caesar_freq.progress import NAME, read

#: A run is stale when it has not written for so many times its longest silence, and so many seconds.
_SILENCES, _PATIENCE = 10, 300.0
#: What a phase tells about its last evaluation, by name in its progress.
_METRICS = {"bits_per_value": "bits/value", "val_byte_ratio": "bytes/plain"}


def runs(folder: Path) -> list[dict[str, Any]]:
    """Progress of every training run below `folder`, oldest first, with its state as of now."""
    roots = [folder / "checkpoints"] if (folder / "checkpoints").is_dir() else [folder]
    found = []
    for path in (path for root in roots for path in root.rglob(NAME)):
        record = read(path)
        if record:
            record["folder"] = str(path.parent.relative_to(folder))
            record["state"] = state(record, time.time())
            found.append(record)
    return sorted(found, key=lambda record: record["started"])


def state(record: dict[str, Any], now: float) -> str:
    """ "running", "finished", "stopped" or "failed" as written; "gone" or "stale" if that is old.

    A run of this machine whose process has ended without a word is gone; of another one that has
    been silent for long it can only be said that it is stale.
    """
    if record["state"] != "running":
        return record["state"]
    # SLURM's name of a node need not be the machine's own; earlier versions wrote that one alone
    if record.get("host", record["node"]) == platform.node() and not _alive(record["pid"]):
        return "gone"
    silent = now - record["updated"]
    return "stale" if silent > max(_PATIENCE, _SILENCES * record["gap"]) else "running"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def jobs(folder: Path) -> list[dict[str, Any]]:
    """For every rule: jobs that left a log, of these the ended ones, and when one last printed.

    A job has ended when its benchmark, which Snakemake writes last, is no older than its log.
    """
    table: dict[str, dict[str, Any]] = {}
    logs = folder / "logs"
    for log in sorted(logs.rglob("*.log")):
        name = log.relative_to(logs).with_suffix("")
        if name.parts[0] in ("slurm", "runs"):  # other names of the same texts
            continue
        benchmark = folder / "results" / "benchmarks" / f"{name}.tsv"
        row = table.setdefault(
            name.parts[0], {"rule": name.parts[0], "started": 0, "ended": 0, "printed": 0.0}
        )
        printed = log.stat().st_mtime
        row["started"] += 1
        # a file system's clock may be a little off
        row["ended"] += benchmark.exists() and benchmark.stat().st_mtime > printed - 2
        row["printed"] = max(row["printed"], printed)
    return sorted(table.values(), key=lambda row: row["printed"])


def efficiency(folder: Path) -> list[dict[str, Any]]:
    """For every rule: what its ended jobs asked for and the most that one of them used."""
    root = folder / "results" / "benchmarks"
    table: dict[str, list[dict[str, str]]] = {}
    for path in sorted(root.rglob("*.tsv")):
        with open(path, newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        name = path.relative_to(root).with_suffix("").parts[0]
        table.setdefault(name, []).extend(rows)
    peaks = {f"train_{run['phase']}": run["metrics"].get("peak_gpu_gb") for run in runs(folder)}
    return [_use(rule, rows) | {"gpu_gb": peaks.get(rule)} for rule, rows in table.items()]


def _use(rule: str, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    asked = [_resources(row.get("resources") or "") for row in rows]
    seconds = [_number(row["s"]) or 0.0 for row in rows]

    def most(name: str) -> float | None:
        return max((one[name] for one in asked if isinstance(one.get(name), int)), default=None)

    minutes, threads = most("runtime"), max(_number(row.get("threads")) or 0 for row in rows)
    return {
        "rule": rule, "jobs": len(rows), "minutes": max(seconds) / 60, "asked_minutes": minutes,
        "sum_hours": sum(seconds) / 3600,
        "mb": max(_number(row["max_rss"]) or 0.0 for row in rows), "asked_mb": most("mem_mb"),
        "cpus": max(_number(row["mean_load"]) or 0.0 for row in rows) / 100,
        "asked_cpus": threads or None, "asked_gpu_gb": most("gpu_mem_gb"),
    }  # fmt: skip


def _resources(text: str) -> dict[str, Any]:
    """The resources column of an extended benchmark."""
    for reader in (json.loads, ast.literal_eval):
        try:
            found = reader(text)
        except (ValueError, SyntaxError):
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _number(text: str | None) -> float | None:
    """A column of a benchmark; a job of under a second leaves some of them empty."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def _share(used: float | None, asked: float | None, digits: int = 0) -> str:
    if used is None and asked is None:
        return "-"
    text = "?" if used is None else f"{used:.{digits}f}"
    if asked is None:
        return f"{text} of ?"
    return f"{text} of {asked:g}" + (f" ({100 * used / asked:.0f} %)" if used is not None else "")


def _progress_text(found: Sequence[dict[str, Any]], now: float) -> str:
    head = ("phase", "folder", "state", "step", "epoch", "loss", "last evaluation", "left", "job",
            "node", "attempt", "updated")  # fmt: skip
    rows = []
    for run in found:
        told = (f"{run['metrics'][k]:.4f} {v}" for k, v in _METRICS.items() if k in run["metrics"])
        rows.append((
            run["phase"], run["folder"], run["state"], f"{run['step']}/{run['steps']}",
            f"{run['epoch']:.1f}/{run['epochs']:.1f}",
            "-" if run["loss"] is None else f"{run['loss']:.4g}", ", ".join(told) or "-",
            _duration(run["eta"]) if run["state"] == "running" else "-", run["job"] or "-",
            run["node"], str(run["attempt"]), f"{_duration(now - run['updated'])} ago",
        ))  # fmt: skip
    text = _table(head, rows)
    for run in found:
        if run["state"] in ("gone", "stale", "failed"):
            why = run.get("reason") or "no word since its last update"
            text += f"\n{run['folder']}: {why}; running the same command again continues it"
    return text


def text_of(folder: Path) -> str:
    """What ``caesar-freq status`` prints."""
    found, rules, now = runs(folder), jobs(folder), time.time()
    parts = []
    if found:
        parts.append(_progress_text(found, now))
    if rules:
        rows = [(row["rule"], f"{row['ended']} of {row['started']}",
                 f"{_duration(now - row['printed'])} ago") for row in rules]  # fmt: skip
        parts.append(_table(("rule", "ended of started", "last line in a log"), rows))
    return "\n\n".join(parts) or (
        f"{folder}: nothing has run here yet; start with snakemake --profile profiles/local, or "
        "name the folder in which it runs"
    )


def efficiency_text(folder: Path) -> str:
    """What ``caesar-freq status --efficiency`` prints."""
    found = efficiency(folder)
    if not found:
        return f"{folder}: no job has ended here yet, so there is nothing to compare"
    head = (
        "rule",
        "jobs",
        "longest, minutes",
        "memory, MB",
        "CPUs",
        "GPU memory, GB",
        "all, hours",
    )
    rows = [(
        row["rule"], str(row["jobs"]), _share(row["minutes"], row["asked_minutes"], 1),
        _share(row["mb"], row["asked_mb"]), _share(row["cpus"], row["asked_cpus"], 1),
        _share(row["gpu_gb"], row["asked_gpu_gb"], 1), f"{row['sum_hours']:.2f}",
    ) for row in found]  # fmt: skip
    text = _table(head, rows)
    if any(row["asked_mb"] is None for row in found):
        text += "\n? where a run had no benchmark-extended: true, as the profiles have"
    return text


def parser() -> argparse.ArgumentParser:
    """All flags."""
    out = argparse.ArgumentParser(
        prog="caesar-freq status", description=(__doc__ or "").split("\n")[0]
    )
    out.add_argument("folder", nargs="?", type=Path, default=Path("."),
                     help="where the workflow or the sweep runs (default: here)")  # fmt: skip
    out.add_argument("--watch", nargs="?", type=float, const=10.0, metavar="SECONDS",
                     help="show it again every so often (default: 10) until Ctrl-C")  # fmt: skip
    out.add_argument("--efficiency", action="store_true",
                     help="asked and used memory, time, CPUs and GPU memory of every rule")  # fmt: skip
    out.add_argument("--json", action="store_true", help="machine-readable output")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    args = parser().parse_args(argv)
    if not args.folder.is_dir():
        raise ConfigError(f"{args.folder} is no folder; name the one in which the workflow runs")
    if args.watch is not None and args.watch <= 0:
        raise ConfigError(f"--watch is {args.watch:g}; give seconds above 0")
    while True:
        if args.json:
            part = efficiency if args.efficiency else runs
            answer: dict[str, Any] = {
                "efficiency" if args.efficiency else "runs": part(args.folder)
            }
            if not args.efficiency:
                answer["rules"] = jobs(args.folder)
            print(json.dumps(finite(answer)), flush=True)
        else:
            text = efficiency_text(args.folder) if args.efficiency else text_of(args.folder)
            # from the top of the screen each time, as `watch` does
            print(f"\033[H\033[2J{time.ctime()}\n{text}" if args.watch else text, flush=True)
        if args.watch is None:
            return 0
        time.sleep(args.watch)


if __name__ == "__main__":
    run_main(main)
