"""The tables: compression ratios side by side, and the long lists behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from caesar_freq.measuring import OURS
from caesar_freq.reporting.records import CODECS, counts, name, trouble

LABELS = {
    "frequency": "CAESAR-Freq",
    "restoration": "+ restoration",
    "teacher": "+ teacher",
    "student": "+ student",
    "auto": "+ auto",
    "sz3": "SZ3",
    "sperr": "SPERR",
    "zfp": "ZFP",
    "zstd": "zstd",
    "tthresh": "TTHRESH",
    "ebcc": "EBCC",
}
FAILED = "FAILED"


@dataclass
class Row:
    """One line of the summary: all codecs at one error on one data set.

    Attributes
    ----------
    ratios : dict
        Codec to compression ratio; None where the codec failed or broke its bound.
    """

    dataset: str
    criterion: str
    target: float
    ratios: dict[str, float | None] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The error that was made equal, in words."""
        if self.criterion == "lossless":
            return "lossless"
        return f"{'NRMSE' if self.criterion == 'nrmse' else 'max error'} {self.target:g}"

    @property
    def best(self) -> str | None:
        """The codec with the highest ratio."""
        return _best(self.ratios, CODECS)

    @property
    def best_peer(self) -> str | None:
        """The same among the peers."""
        return _best(self.ratios, [c for c in CODECS if c not in OURS])

    def against_best_peer(self, codec: str) -> float | None:
        """Ratio of compression ratios, above 1 where `codec` wins; None if one side failed."""
        peer, own = self.best_peer, self.ratios.get(codec)
        return own / self.ratios[peer] if peer and own else None


def summary(records: list[dict]) -> list[Row]:
    """Rows in the order of the records."""
    rows: dict[tuple, Row] = {}
    for record in records:
        at = record["dataset"], record["criterion"], record["target"]
        row = rows.setdefault(at, Row(*at))
        row.ratios[record["codec"]] = record["cr"] if counts(record) else None
    return list(rows.values())


def columns(rows: list[Row]) -> list[str]:
    """Codecs that have a column."""
    return [codec for codec in CODECS if any(codec in row.ratios for row in rows)]


def own_codecs(rows: list[Row]) -> list[str]:
    """Our codecs among `columns`."""
    return [codec for codec in columns(rows) if codec in OURS]


def summary_csv(rows: list[Row]) -> pd.DataFrame:
    """One line a row, one column a codec, and ours over the best peer."""
    table = []
    for row in rows:
        line = {"dataset": row.dataset, "criterion": row.criterion, "target": row.target}
        for codec in columns(rows):
            # a codec that does not take part in a criterion leaves its place empty
            value = row.ratios.get(codec)
            line[codec] = FAILED if codec in row.ratios and value is None else value
        line["best_peer"] = row.best_peer
        for codec in own_codecs(rows):
            line[f"{codec}_over_best_peer"] = row.against_best_peer(codec)
        table.append(line)
    return pd.DataFrame(table)


def geometric_means(rows: list[Row]) -> list[dict]:
    """Mean advantage over the best peer, for each of our codecs and each criterion."""
    out = []
    for criterion in dict.fromkeys(row.criterion for row in rows):
        for codec in own_codecs(rows):
            gains = [r.against_best_peer(codec) for r in rows if r.criterion == criterion]
            gains = [gain for gain in gains if gain]
            if gains:
                mean = math.exp(sum(map(math.log, gains)) / len(gains))
                out.append({"codec": codec, "criterion": criterion, "mean": mean,
                            "wins": sum(g > 1 for g in gains), "of": len(gains)})  # fmt: skip
    return out


def generation_sentences(rows: list[Row]) -> list[str]:
    """How the ratios with generated frames compare with those of frequency mode alone."""
    out = []
    for codec in own_codecs(rows):
        pairs = [(r.ratios.get(codec), r.ratios.get("frequency")) for r in rows]
        gains = [own / plain for own, plain in pairs if own and plain]
        if codec != "frequency" and gains:
            mean = math.exp(sum(map(math.log, gains)) / len(gains))
            out.append(
                f"- {LABELS[codec]}: x{mean:.3f} the ratio of frequency mode (geometric mean),"
                f" more in {sum(g > 1 for g in gains)}, less in {sum(g < 1 for g in gains)} of"
                f" {len(gains)}"
            )
    return out


def losses(rows: list[Row]) -> list[str]:
    """A sentence for each place where one of our codecs is not ahead of the best peer."""
    return [
        f"{row.dataset}, {row.error}: {LABELS[codec]} {row.ratios[codec]:.4g} against"
        f" {LABELS[row.best_peer]} {row.ratios[row.best_peer]:.4g} ({100 * (gain - 1):+.1f} %)"
        for row in rows
        for codec in own_codecs(rows)
        if (gain := row.against_best_peer(codec)) is not None and gain <= 1
    ]


def failures(records: list[dict]) -> list[str]:
    """A sentence for each record that does not count."""
    return [f"{name(r)}: {why}" for r in records if (why := trouble(r))]


def cell(row: Row, codec: str) -> str:
    """A ratio with four digits; FAILED; or a dash where the codec takes no part."""
    value = row.ratios.get(codec)
    return f"{value:.4g}" if value else FAILED if codec in row.ratios else "–"


def summary_markdown(rows: list[Row], records: list[dict]) -> str:
    """The summary with the best ratio of each line in bold, gains, losses and failures."""
    shown = columns(rows)
    head = ["data set", "equal error", *(LABELS[c] for c in shown)]
    lines = ["# Compression ratio at equal error", "",
             "Bytes of the array over bytes of the file on disk; every bound was checked in a fresh"
             " process. Best of each line in bold.", "",
             _line(head), _line(["---", "---", *["---:"] * len(shown)])]  # fmt: skip
    for row in rows:
        cells = [f"**{cell(row, c)}**" if c == row.best else cell(row, c) for c in shown]
        lines.append(_line([row.dataset, row.error, *cells]))
    lines += ["", "## Against the best peer (geometric mean)", ""]
    lines += [gain_sentence(g) for g in geometric_means(rows)] or ["Nothing to compare."]
    if generated := generation_sentences(rows):
        lines += ["", "## Generated frames against frequency mode alone", "", *generated]
    lines += ["", "## Losses", ""]
    lines += [f"- {loss}" for loss in losses(rows)] or ["None."]
    lines += ["", "## Failures", ""]
    lines += [f"- {failure}" for failure in failures(records)] or ["None."]
    return "\n".join(lines) + "\n"


def gain_sentence(gain: dict) -> str:
    """One line of `geometric_means` in words."""
    label = {"nrmse": "equal NRMSE", "max_rel": "equal largest error", "lossless": "lossless"}
    return (
        f"- {LABELS[gain['codec']]}, {label[gain['criterion']]}: x{gain['mean']:.3f} the ratio"
        f" of the best peer, ahead in {gain['wins']} of {gain['of']}"
    )


def rate_distortion(records: list[dict]) -> pd.DataFrame:
    """What every codec reached, failures included."""
    return _long(records, (
        "dataset", "codec", "criterion", "target", "status", "error", "original_bytes",
        "compressed_bytes", "cr", "bits_per_value", "nrmse", "psnr", "max_error_rel", "bound_held",
        "codec_version", "compressed_file",
    ))  # fmt: skip


def speed(records: list[dict]) -> pd.DataFrame:
    """Seconds, MB/s and memory, with the number of threads."""
    return _long([r for r in records if r["status"] == "ok"], (
        "dataset", "codec", "criterion", "target", "threads", "encode_seconds", "decode_seconds",
        "encode_mb_per_s", "decode_mb_per_s", "peak_memory_mb", "decode_peak_memory_mb", "machine",
    ))  # fmt: skip


def bytes_by_stream(records: list[dict]) -> pd.DataFrame:
    """Where the bytes of our files go, one line a stream; they add up to the file."""
    heads = ("dataset", "codec", "criterion", "target", "compressed_bytes")
    return pd.DataFrame(
        [
            {**{h: record[h] for h in heads}, "stream": stream, "bytes": size}
            for record in records
            if record["status"] == "ok" and record["codec"] in OURS
            for stream, size in record["bytes_by_stream"].items()
        ],
        columns=[*heads, "stream", "bytes"],
    )


def _long(records: list[dict], fields: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame([{f: record.get(f) for f in fields} for record in records], columns=fields)


def _best(ratios: dict[str, float | None], among) -> str | None:
    alive = [codec for codec in among if ratios.get(codec)]
    return max(alive, key=lambda codec: ratios[codec], default=None)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
