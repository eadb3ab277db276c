"""Tables and plot of the records of `generative`: percent of the plain codec's bytes saved."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

from caesar_freq.atomic import write_bytes
from caesar_freq.reporting.plots import COLOURS, png

#: Columns: what each strategy is called in the tables.
MODES = {"restoration": "restoration", "student": "keyframes", "both": "both", "auto": "auto"}
_COLOURS = {"restoration": "#E69F00", "both": "#CC79A7", **COLOURS}


def savings(records: list[dict]) -> pd.DataFrame:
    """A row for every model, field and target; percent saved in each mode, negative where it costs."""
    plain = {(r["field"], r["target"]): r for r in records if r["strategy"] == "frequency"}
    rows: dict[tuple, dict] = {}
    for r in records:
        if r["strategy"] == "frequency":
            continue
        before = plain[r["field"], r["target"]]
        key = (r["model"], r["domain"], r["field"], r["target"])
        row = rows.setdefault(key, {
            "model": r["model"], "domain": r["domain"], "field": r["field"], "nrmse": r["target"],
            "plain CR": before["original"] / before["bytes"],
        })  # fmt: skip
        row[MODES[r["strategy"]]] = 100 * (1 - r["bytes"] / before["bytes"])
        if r["strategy"] == "auto":
            row["auto took"] = ", ".join(sorted(r["modes"]))
            row["auto bytes"] = r["bytes"] - before["bytes"]
            row["auto time"] = r["seconds"] / before["seconds"]
    order = ["model", "domain", "field", "nrmse"]
    return pd.DataFrame(rows.values()).sort_values(
        order, ascending=[True, True, True, False], ignore_index=True
    )


def write(records: list[dict], quality: str, folder: Path) -> str:
    """Write ``savings.md``, ``savings.csv`` and ``savings.png``; returns the Markdown."""
    table = savings(records)
    text = markdown(table) + "\n" + quality
    write_bytes(folder / "savings.md", text.encode())
    write_bytes(folder / "savings.csv", table.to_csv(index=False, float_format="%.4g").encode())
    write_bytes(folder / "savings.png", plot(table))
    return text


def markdown(table: pd.DataFrame) -> str:
    """A table for every model and domain, and where ``auto`` is larger than plain."""
    lines = ["# Bytes saved against the plain codec at equal NRMSE", "",
             "Percent of the plain file; negative: the mode costs bytes. Each mode is forced on the"
             " whole field, auto chooses. Files, name of the model included, checked by decoding."
             " Time of auto: processor seconds over those of plain coding.", ""]  # fmt: skip
    columns = [name for name in MODES.values() if name in table]
    for (model, domain), rows in table.groupby(["model", "domain"], sort=False):
        lines += [f"## {domain}" + f" ({model})" * bool(model), "",
                  "| field | NRMSE | plain CR | " + " | ".join(columns) + " | auto took | its time |",
                  "|---|---:|---:|" + "---:|" * len(columns) + "---|---:|"]  # fmt: skip
        for _, row in rows.iterrows():
            cells = [f"{row[c]:+.1f}" if row.get(c) == row.get(c) else "–" for c in columns]
            took, seconds = row.get("auto took", "–"), row.get("auto time", float("nan"))
            lines.append(f"| {row.field} | {row.nrmse:g} | {row['plain CR']:.1f} | "
                         + " | ".join(cells) + f" | {took} | {seconds:.1f} |")  # fmt: skip
        lines.append("")
    lines += ["## Where auto is larger than plain", ""]
    worse = table[table["auto bytes"] > 0] if "auto bytes" in table else table[:0]
    lines += [f"- {r.field}, {r.nrmse:g}: {r['auto bytes']:.0f} bytes" for _, r in worse.iterrows()]
    return "\n".join(lines + ["Nowhere."] * worse.empty) + "\n"


def plot(table: pd.DataFrame) -> bytes:
    """Percent saved over NRMSE, a panel for each field."""
    first = table[table["model"] == table["model"].iloc[0]]
    names = list(dict.fromkeys(zip(first["domain"], first["field"])))
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.1 * across, 2.5 * down), sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (domain, name) in zip(axes.flat, names):
        rows = first[(first["field"] == name) & (first["domain"] == domain)]
        for strategy, column in MODES.items():
            if column in rows:
                axis.plot(rows["nrmse"], rows[column], "o-", markersize=3, label=column,
                          color=_COLOURS[strategy])  # fmt: skip
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(xscale="log", ylim=(-20, max(30, 5 + first[list(MODES.values())].max().max())))
        axis.set_title(f"{name}\n({domain})", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("NRMSE")
    for row in axes:
        row[0].set_ylabel("% saved")
    for axis in list(axes.flat)[len(names) :]:
        axis.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return png(figure)
