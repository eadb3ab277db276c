"""The HTML page: all sections put together, with the plots inside the file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from caesar_freq import __version__
from caesar_freq.errors import InputError
from caesar_freq.measuring import OURS, slices_path
from caesar_freq.reporting import plots, tables
from caesar_freq.reporting.records import counts


def render(records: list[dict], histories: Sequence[Path], manifests: Sequence[Path]) -> str:
    """The report as one HTML text without links to anything outside.

    Parameters
    ----------
    records : list of dict
        From `records.load`.
    histories, manifests : sequence of Path
        Training histories (CSV) and split manifests (JSON).

    Raises
    ------
    InputError
        If a history or manifest cannot be read, or a kept frame is gone.
    """
    rows = tables.summary(records)
    measured = [r for r in records if r["status"] == "ok"]
    environment = Environment(
        loader=PackageLoader("caesar_freq.reporting", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        version=__version__,
        rows=rows,
        codecs=tables.columns(rows),
        own=tables.own_codecs(rows),
        labels=tables.LABELS,
        cell=tables.cell,
        failed=tables.FAILED,
        gains=[tables.gain_sentence(g).removeprefix("- ") for g in tables.geometric_means(rows)],
        headlines=headlines(rows),
        generated=[s.removeprefix("- ") for s in tables.generation_sentences(rows)],
        losses=tables.losses(rows),
        failures=tables.failures(records),
        curves=_for_each_dataset(records, _rate_distortion),
        maps=_for_each_dataset(records, _error_maps),
        streams=_for_each_dataset(records, _streams),
        modes=[r for r in measured if r["codec"] in OURS],
        models=_models(measured),
        histories=[_history(path) for path in histories],
        measured=measured,
        versions=sorted({r["codec_version"] for r in measured}),
        machines=sorted({r["machine"] for r in measured}),
        manifests=[_manifest(path) for path in manifests],
    )


def headlines(rows: list[tables.Row]) -> list[dict]:
    """Frequency mode (or our first codec) against the best peer, one card a lossy row."""
    out = []
    for row in rows:
        codec = next((c for c in OURS if row.ratios.get(c)), None)
        if codec and row.best_peer and row.criterion != "lossless":
            out.append({"row": row, "codec": codec, "gain": row.against_best_peer(codec)})
    return out


def _for_each_dataset(
    records: list[dict], draw: Callable[[str, list[dict]], bytes | None]
) -> list[dict]:
    out = []
    for dataset in dict.fromkeys(r["dataset"] for r in records):
        png = draw(dataset, [r for r in records if r["dataset"] == dataset and counts(r)])
        if png:
            out.append({"dataset": dataset, "image": _inline(png)})
    return out


def _rate_distortion(dataset: str, records: list[dict]) -> bytes | None:
    records = [r for r in records if r["criterion"] == "nrmse"]
    return plots.rate_distortion(records, dataset) if records else None


def _error_maps(dataset: str, records: list[dict]) -> bytes | None:
    """Ours and the best two peers at the middle NRMSE target."""
    records = [r for r in records if r["criterion"] == "nrmse"]
    targets = sorted({r["target"] for r in records if r["codec"] in OURS}, reverse=True)
    if not targets:
        return None
    target = targets[len(targets) // 2]
    at = [r for r in records if r["target"] == target]
    ours = max((r for r in at if r["codec"] in OURS), key=lambda r: r["cr"])
    others = sorted((r for r in at if r["codec"] not in OURS), key=lambda r: -r["cr"])[:2]
    frames = {}
    for record in (ours, *others):
        path = slices_path(record["folder"] / record["compressed_file"])
        if not path.is_file():
            raise InputError(f"{path} is gone; run evaluate again")
        kept = plots.load_slice(path)
        frames[f"{tables.LABELS[record['codec']]}\nCR {record['cr']:.4g}"] = kept["decoded"]
    title = f"{dataset}, frame {int(kept['frame'])}, NRMSE {target:g}"
    return plots.error_maps(kept["original"], frames, float(kept["range"]), title)


def _streams(dataset: str, records: list[dict]) -> bytes | None:
    table = tables.bytes_by_stream(records)
    if table.empty:
        return None
    table["share"] = 100 * table["bytes"] / table["compressed_bytes"]
    row = table.apply(lambda r: tables.Row(dataset, r.criterion, r.target).error, axis=1)
    table["label"] = table["codec"].map(tables.LABELS) + ", " + row
    return plots.stream_bars(table, dataset)


def _models(measured: list[dict]) -> list[dict]:
    """The largest need of each of our codecs: bytes of models outside and inside of its files."""
    out = []
    for codec in dict.fromkeys(r["codec"] for r in measured if r["codec"] in OURS):
        own = [r for r in measured if r["codec"] == codec]
        out.append({
            "codec": codec,
            "inside": max(r["bytes_by_stream"].get("model", 0) for r in own),
            "outside": max(r["model_bytes_not_in_file"] for r in own),
            "using": sum(r["model_bytes_not_in_file"] > 0 for r in own),
            "files": len(own),
        })  # fmt: skip
    return out


def _history(path: Path) -> dict:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no training history ({error}); train again") from error
    if table.empty or len(table.columns) < 2:
        raise InputError(f"{path} has no numbers to plot; train again")
    name = path.parent.name
    return {"name": name, "image": _inline(plots.training_curves(table, name))}


def _manifest(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no split manifest ({error}); run split again") from error
    for field in ("inputs", "splits", "shape", "dtype", "method"):
        if field not in content:
            raise InputError(f"{path} is no split manifest: it has no {field!r}; run split again")
    return {"name": path.parent.name, **content}


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
