"""Records of the rule ``evaluate``, read back and checked against the files they speak of."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from caesar_freq.errors import InputError
from caesar_freq.measuring import CRITERIA, OURS
from caesar_freq.peers import NAMES

FORMAT = "caesar-freq/evaluation/1"
CODECS = (*OURS, *NAMES)

_ALWAYS = ("dataset", "codec", "criterion", "target", "original_bytes", "compressed_file", "status")
_MEASURED = (
    "compressed_bytes", "cr", "bits_per_value", "nrmse", "psnr", "max_error_rel", "bound_held",
    "encode_seconds", "decode_seconds", "threads", "peak_memory_mb", "decode_peak_memory_mb",
)  # fmt: skip


def load(places: Sequence[Path]) -> list[dict]:
    """All records, in the order of the tables, with a record for each one missing.

    A record is missing when its codec has one of the same criterion elsewhere: every codec is
    expected on every data set and at every target of a criterion it was used for.

    Parameters
    ----------
    places : sequence of Path
        JSON files of `evaluate`, with the compressed files beside them, or folders of such.

    Raises
    ------
    InputError
        If there is no record, one lacks a number, or a compressed file is gone or not of the size
        that its record states.
    """
    records = []
    for place in places:
        for path in sorted(place.rglob("*.json")) if place.is_dir() else [place]:
            records += _read(path)
    if not records:
        shown = ", ".join(map(str, places))
        raise InputError(f"no records (*.json) below {shown}; run the rule evaluate first")
    seen = set()
    for record in records:
        if key(record) in seen:
            raise InputError(
                f"two records of {name(record)}, one of them in {record['folder']};"
                " remove the stale one"
            )
        seen.add(key(record))
    return sorted([*records, *_missing(records)], key=_order)


def key(record: dict) -> tuple:
    """What makes a record unique."""
    return record["dataset"], record["criterion"], record["target"], record["codec"]


def name(record: dict) -> str:
    """A record in words."""
    target = "" if record["criterion"] == "lossless" else f" {record['target']:g}"
    return f"{record['dataset']}, {record['codec']}, {record['criterion']}{target}"


def counts(record: dict) -> bool:
    """Whether a record may be compared: it was measured and holds its bound."""
    return record["status"] == "ok" and record["bound_held"]


def trouble(record: dict) -> str | None:
    """Why a record does not count; None if it does."""
    if record["status"] != "ok":
        return record["error"]
    if not record["bound_held"]:
        return (
            f"bound broken: NRMSE {record['nrmse']}, max error {record['max_error_rel']} of range"
        )
    return None


def _read(path: Path) -> list[dict]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; run evaluate again") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); run evaluate again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no record of evaluate ({FORMAT}); remove it or run it again")
    for record in content["records"]:
        _check(record, path)
        record["folder"] = path.parent
    return content["records"]


def _check(record: dict, path: Path) -> None:
    needed = _ALWAYS + (_MEASURED if record.get("status") == "ok" else ("error",))
    absent = [field for field in needed if field not in record]
    if absent:
        raise InputError(f"{path} has a record without {absent[0]!r}; run evaluate again")
    if record["codec"] not in CODECS or record["criterion"] not in CRITERIA:
        raise InputError(
            f"{path} has a record of the unknown codec or criterion {record['codec']!r},"
            f" {record['criterion']!r}; run evaluate again"
        )
    if record["status"] != "ok":
        return
    file = path.parent / record["compressed_file"]
    size = os.path.getsize(file) if file.is_file() else None
    if size != record["compressed_bytes"]:
        what = "is gone" if size is None else f"has {size} bytes"
        raise InputError(
            f"{file} {what}, but {path} speaks of {record['compressed_bytes']} bytes;"
            " run evaluate again"
        )


def _missing(records: Iterable[dict]) -> list[dict]:
    records = list(records)
    have = {key(record) for record in records}
    out = []
    for criterion in CRITERIA:
        own = [r for r in records if r["criterion"] == criterion]
        for dataset in dict.fromkeys(r["dataset"] for r in records) if own else ():
            for target in sorted({r["target"] for r in own}):
                for codec in {r["codec"] for r in own}:
                    if (dataset, criterion, target, codec) not in have:
                        out.append({
                            "dataset": dataset, "codec": codec, "criterion": criterion,
                            "target": target, "status": "missing",
                            "error": "missing: evaluate left no record",
                        })  # fmt: skip
    return out


def _order(record: dict) -> tuple:
    return (
        record["dataset"],
        CRITERIA.index(record["criterion"]),
        -record["target"],
        CODECS.index(record["codec"]),
    )
