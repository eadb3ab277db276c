"""Tables and plot of the records of `peers`: our ratio over that of the best peer."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from caesar_freq.atomic import write_bytes
from caesar_freq.peers import NAMES, WITHOUT
from caesar_freq.reporting import records
from caesar_freq.reporting.plots import COLOURS, png
from caesar_freq.reporting.tables import LABELS, Row, cell, columns, losses, summary, summary_csv

OURS = "frequency"


def write(raw: Path, output_dir: Path) -> str:
    """Write ``ratios.md``, ``ratios.csv`` and ``ratios.png`` from the records below `raw`.

    Returns
    -------
    str
        The Markdown.
    """
    loaded = records.load([raw])
    rows = summary([r for r in loaded if r["status"] != "missing"])
    rows.sort(key=lambda row: (row.criterion != "nrmse", row.criterion, -row.target, row.dataset))
    text = markdown(rows, loaded)
    write_bytes(output_dir / "ratios.md", text.encode())
    write_bytes(output_dir / "ratios.csv", summary_csv(rows).to_csv(index=False).encode())
    write_bytes(output_dir / "ratios.png", plot(rows))
    return text


def gains(rows: list[Row]) -> dict[str, list[tuple[Row, float]]]:
    """By error: the rows where ours and a peer count, with our ratio over the best peer's."""
    out: dict[str, list[tuple[Row, float]]] = {}
    for row in rows:
        gain = row.against_best_peer(OURS)
        if gain is not None:
            out.setdefault(row.error, []).append((row, gain))
    return out


def markdown(rows: list[Row], loaded: list[dict]) -> str:
    """All ratios, the mean at each error, every loss and every failure."""
    shown = columns(rows)
    lines = ["# Compression ratio at equal error", "",
             "Bytes of the array over bytes of the file on disk, one thread. Every peer at its best"
             " setting with the error just under the bound, checked in a fresh process. Best in"
             " bold; ratio is ours over the best peer.", "",
             _line(["data set", "equal error", *(LABELS[c] for c in shown), "best peer", "ratio"]),
             _line(["---", "---", *["---:"] * len(shown), "---", "---:"])]  # fmt: skip
    for row in rows:
        cells = [f"**{cell(row, c)}**" if c == row.best else cell(row, c) for c in shown]
        gain = row.against_best_peer(OURS)
        best = LABELS[row.best_peer] if row.best_peer else "–"
        lines.append(_line([row.dataset, row.error, *cells, best, f"{gain:.3f}" if gain else "–"]))
    lines += ["", "## Ours over the best peer", "",
              _line(["equal error", "sets", "geometric mean", "least", "on", "ahead in"]),
              _line(["---", "---:", "---:", "---:", "---", "---:"])]  # fmt: skip
    for error, pairs in gains(rows).items():
        mean = math.exp(sum(math.log(gain) for _, gain in pairs) / len(pairs))
        row, least = min(pairs, key=lambda pair: pair[1])
        ahead = sum(gain > 1 for _, gain in pairs)
        lines.append(
            _line([error, str(len(pairs)), f"{mean:.3f}", f"{least:.3f}", row.dataset, str(ahead)])
        )
    lines += ["", "## Losses", "", *([f"- {loss}" for loss in losses(rows)] or ["None."])]
    lines += ["", "## Failures and gaps", ""]
    lines += [f"- {LABELS[c]} has no {criterion}: {why}" for (c, criterion), why in WITHOUT.items()]
    broken = [r for r in loaded if r["status"] != "missing" and records.trouble(r)]
    lines += [f"- {records.name(r)}: {records.trouble(r)}" for r in broken]
    unmeasured = sum(
        r["status"] == "missing" and (r["codec"], r["criterion"]) not in WITHOUT for r in loaded
    )
    lines += [f"- not measured yet: {unmeasured}"] if unmeasured else []
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plot(rows: list[Row]) -> bytes:
    """Our ratio over the best peer's on every set, a panel for each error, as PNG."""
    panels = gains(rows)
    names = sorted({row.dataset for pairs in panels.values() for row, _ in pairs})
    wide = max(1, len(panels))
    size = (1.2 + 2.1 * wide, 1.6 + 0.24 * len(names))
    figure, axes = plt.subplots(
        1, wide, figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (error, pairs) in zip(axes[0], panels.items(), strict=False):
        for row, gain in pairs:
            axis.barh(row.dataset, math.log2(gain), color=COLOURS[row.best_peer])
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(error, fontsize=10)
        axis.xaxis.set_major_formatter(lambda value, _: f"{2**value:.3g}")
        axis.grid(axis="x", color="#E3E6EA")
        axis.set_axisbelow(True)
    if names:
        axes[0, 0].set_yticks(range(len(names)))
        axes[0, 0].invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in NAMES]
    figure.legend(handles, [LABELS[name] for name in NAMES], loc="outside lower center",
                  ncols=len(NAMES), title="best peer", frameon=False)  # fmt: skip
    figure.suptitle("Compression ratio over that of the best peer (right of 1: ours is ahead)")
    return png(figure)
