"""What came out of a sweep: one table (CSV and Markdown) and a Pareto plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caesar_freq.atomic import atomic_path, write_bytes

#: Validation metric of a phase, as its history has it; less is better.
METRIC = {"freq_compressor": "val_bytes", "diffusion": "val_byte_ratio",
          "distillation": "val_byte_ratio"}  # fmt: skip
#: What a model costs: seconds of training, or bytes of its checkpoint.
COSTS = ("seconds", "model_bytes")


def result_of(folder: Path, phase: str, model: Path) -> dict[str, Any]:
    """Metric of the kept model, seconds of the run and bytes of the checkpoint of a trial."""
    with open(folder / "history.csv", newline="") as stream:
        history = list(csv.DictReader(stream))
    best = [row for row in history if int(row["best"])][-1]
    return {
        METRIC[phase]: float(best[METRIC[phase]]),
        "seconds": float(history[-1]["seconds"]),
        "model_bytes": model.stat().st_size,
    }


def pareto(rows: Sequence[dict[str, Any]], metric: str, cost: str) -> list[bool]:
    """For every row whether no other one is at least as good in both and better in one."""

    def beats(one: dict, other: dict) -> bool:
        pairs = [(one[key], other[key]) for key in (metric, cost)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [not any(beats(other, row) for other in rows) for row in rows]


def write_tables(folder: Path, names: Sequence[str], metric: str, cost: str,
                 trials: Sequence[dict[str, Any]]) -> None:  # fmt: skip
    """``sweep.csv`` and ``sweep.md``, best first; trials without a result come last."""
    ended = sorted((t for t in trials if metric in t), key=lambda t: t[metric])
    rest = [trial for trial in trials if metric not in trial]
    flags = pareto(ended, metric, cost)
    rows = [t | {"pareto": "yes" if flag else ""} for t, flag in zip(ended, flags, strict=True)]
    columns = [*names, metric, *COSTS, "pareto", "state", "trial"]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([*rows, *rest])
    write_bytes(folder / "sweep.csv", table.getvalue().encode())
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in (*rows, *rest):
        lines.append("| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |")
    write_bytes(folder / "sweep.md", ("\n".join(lines) + "\n").encode())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1e4 else f"{value:.5g}"
    return str(value)


def plot(path: Path, metric: str, cost: str, rows: Sequence[dict[str, Any]],
         names: Sequence[str]) -> None:  # fmt: skip
    """Metric against cost of all trials, with the front of those that no other one beats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter([row[cost] for row in rows], [row[metric] for row in rows], color="0.6")
    flags = pareto(rows, metric, cost)
    front = sorted(
        (row for row, flag in zip(rows, flags, strict=True) if flag), key=lambda row: row[cost]
    )
    axes.plot([r[cost] for r in front], [r[metric] for r in front], "o-", label="Pareto front")
    for row in front:
        label = ", ".join(f"{name} {row[name]}" for name in names)
        axes.annotate(label, (row[cost], row[metric]), xytext=(4, 4),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set(xlabel=cost.replace("_", " "), ylabel=f"{metric.replace('_', ' ')} (less is better)")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
