"""Plots of the report as PNG bytes; every codec keeps its colour in all of them."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from caesar_freq.measuring import OURS
from caesar_freq.reporting.tables import LABELS

# Okabe and Ito's colours, which stay apart for the colour-blind; ours cold, peers warm or grey.
COLOURS = {
    "frequency": "#0072B2",
    "restoration": "#F0E442",
    "teacher": "#CC79A7",
    "student": "#009E73",
    "auto": "#56B4E9",
    "sz3": "#D55E00",
    "sperr": "#E69F00",
    "zfp": "#7F7F7F",
    "zstd": "#000000",
    "tthresh": "#8C6BB1",
    "ebcc": "#A6761D",
}
_STREAM_COLOURS = {
    "coefficients": "#0072B2",
    "low_bits": "#9ECAE1",
    "end_of_block": "#56B4E9",
    "keyframes": "#009E73",
    "residuals": "#8FD3B6",
    "restoration": "#004D40",
    "outliers": "#D55E00",
    "lossless": "#8C6BB1",
    "mask": "#E69F00",
    "model": "#CC79A7",
    "metadata": "#F0E442",
    "header": "#7F7F7F",
}
_STYLE = {
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E3E6EA",
    "axes.edgecolor": "#8A929C",
    "axes.labelcolor": "#2B3440",
    "xtick.color": "#4A5563",
    "ytick.color": "#4A5563",
    "legend.frameon": False,
}


def rate_distortion(records: list[dict], title: str) -> bytes:
    """Ratio against NRMSE and PSNR against bits per value of records that count."""
    with plt.rc_context(_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
        for codec in [c for c in LABELS if any(r["codec"] == c for r in records)]:
            own = sorted((r for r in records if r["codec"] == codec), key=lambda r: r["nrmse"])
            style = {
                "color": COLOURS[codec], "label": LABELS[codec], "linewidth": 1.8,
                "marker": "o" if codec in OURS else "s", "markersize": 5,
                "linestyle": "-" if codec in OURS else "--",
            }  # fmt: skip
            left.loglog([r["nrmse"] for r in own], [r["cr"] for r in own], **style)
            right.semilogx([r["bits_per_value"] for r in own], [r["psnr"] for r in own], **style)
        left.set(xlabel="NRMSE reached (smaller is better)", ylabel="compression ratio")
        right.set(xlabel="bits per value", ylabel="PSNR in dB")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        left.legend()
        figure.suptitle(title)
        return png(figure)


def error_maps(original, decoded: dict[str, np.ndarray], spread: float, title: str) -> bytes:
    """A frame, its decoded version (the first of `decoded`), and the errors of all of them.

    Parameters
    ----------
    original : ndarray [H, W]
    decoded : dict of label to ndarray [H, W]
    spread : float
        Range of the variable: errors are shown relative to it, on one colour scale that ends at
        the 99.5th percentile of all of them.
    """
    errors = {label: (frame - original) / (spread or 1) for label, frame in decoded.items()}
    sizes = np.concatenate([np.abs(_finite(e)).ravel() for e in errors.values()])
    limit = float(np.nanpercentile(sizes, 99.5)) or 1e-12
    first = next(iter(decoded))
    low, high = np.nanmin(_finite(original)), np.nanmax(_finite(original))
    panels = [("original", original), (first, decoded[first])]
    with plt.rc_context({**_STYLE, "axes.grid": False}):
        count = len(panels) + len(errors)
        figure, axes = plt.subplots(1, count, figsize=(2.5 * count, 2.9), layout="constrained")
        for axis, (label, frame) in zip(axes, panels, strict=False):
            image = axis.imshow(frame, vmin=low, vmax=high, cmap="viridis", origin="lower")
            axis.set_title(label, fontsize=10)
        figure.colorbar(image, ax=axes[: len(panels)], shrink=0.75, label="value")
        for axis, (label, error) in zip(axes[len(panels) :], errors.items(), strict=True):
            image = axis.imshow(error, vmin=-limit, vmax=limit, cmap="RdBu_r", origin="lower")
            axis.set_title(f"error of {label}", fontsize=10)
        figure.colorbar(image, ax=axes[len(panels) :], shrink=0.75, label="error / range")
        for axis in axes:
            axis.set_xticks([])
            axis.set_yticks([])
        figure.suptitle(title)
        return png(figure)


def stream_bars(table: pd.DataFrame, title: str) -> bytes:
    """Stacked bars of bytes by stream, one bar a file, as shares of the file."""
    shares = table.pivot_table(index="label", columns="stream", values="share", sort=False)
    shares = shares.fillna(0)[shares.sum().sort_values(ascending=False).index]
    with plt.rc_context(_STYLE):
        height = 0.34 * len(shares) + 1.6
        figure, axis = plt.subplots(figsize=(11, height), layout="constrained")
        left = np.zeros(len(shares))
        for stream in shares.columns:
            colour = _STREAM_COLOURS.get(stream, "#000000")
            axis.barh(shares.index, shares[stream], left=left, color=colour, label=stream)
            left += shares[stream].to_numpy()
        axis.invert_yaxis()
        axis.set(xlabel="share of the file in %", xlim=(0, 100))
        axis.grid(visible=False, axis="y")
        axis.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -1.0 / height), fontsize=9)
        figure.suptitle(title)
        return png(figure)


def training_curves(history: pd.DataFrame, title: str) -> bytes:
    """One small plot for each number of a training history; a star marks the weights kept."""
    x = history.columns[0]
    shown = [c for c in history.columns[1:] if pd.api.types.is_numeric_dtype(history[c])]
    shown = [c for c in shown if c not in ("seconds", "lr", "step", "epoch", "best")]
    with plt.rc_context(_STYLE):
        rows, wide = -(-len(shown) // 3), min(3, len(shown))
        figure, axes = plt.subplots(
            rows, wide, figsize=(3.7 * wide, 2.7 * rows), layout="constrained", squeeze=False
        )
        best = history[history["best"] == 1].tail(1) if "best" in history else history.head(0)
        for axis, column in zip(axes.flat, shown, strict=False):
            axis.plot(history[x], history[column], color=COLOURS["frequency"], marker="o",
                      markersize=4)  # fmt: skip
            axis.plot(best[x], best[column], color=COLOURS["sz3"], marker="*", markersize=13)
            axis.set(xlabel=x, title=column.replace("_", " "))
            axis.ticklabel_format(useOffset=False)
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
        figure.suptitle(title)
        return png(figure)


def load_slice(path: Path) -> dict:
    """The frame that `evaluate` kept for error maps."""
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _finite(values: np.ndarray) -> np.ndarray:
    """Values with what is not finite as NaN; one zero where nothing is finite."""
    clean = np.where(np.isfinite(values), values, np.nan)
    return clean if np.isfinite(clean).any() else np.zeros(1)


def png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # no date and version inside: equal results give equal files
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()
