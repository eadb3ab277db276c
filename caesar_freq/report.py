"""Rule ``report``: tables (CSV, Markdown) and one self-contained HTML page from all records."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from caesar_freq.atomic import write_bytes
from caesar_freq.errors import run_main
from caesar_freq.reporting import page, records, tables


def report(
    results: Sequence[Path],
    output_dir: Path,
    histories: Sequence[Path] = (),
    manifests: Sequence[Path] = (),
) -> list[str]:
    """Write ``tables/*.csv``, ``tables/summary.md`` and ``report.html`` into `output_dir`.

    Parameters
    ----------
    results : sequence of Path
        JSON files of `evaluate`, or folders of them.
    histories, manifests : sequence of Path
        ``history.csv`` of the training phases, ``manifest.json`` of the splits.

    Returns
    -------
    list of str
        Records that failed, broke their bound or are missing; they are in the report too.

    Raises
    ------
    InputError
        If a record, history or manifest is broken; nothing is written then.
    """
    loaded = records.load(results)
    rows = tables.summary(loaded)
    files = {
        "report.html": page.render(loaded, histories, manifests),
        "tables/summary.csv": _csv(tables.summary_csv(rows)),
        "tables/summary.md": tables.summary_markdown(rows, loaded),
        "tables/rd.csv": _csv(tables.rate_distortion(loaded)),
        "tables/speed.csv": _csv(tables.speed(loaded)),
        "tables/bytes_by_stream.csv": _csv(tables.bytes_by_stream(loaded)),
    }
    (output_dir / "tables").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_bytes(output_dir / name, text.encode())
    return tables.failures(loaded)


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``report``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.report", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        help="JSON files of evaluate, or folders of them",
    )
    parser.add_argument(
        "--histories", type=Path, nargs="*", default=[], help="history.csv of the training phases"
    )
    parser.add_argument(
        "--manifests", type=Path, nargs="*", default=[], help="manifest.json of the splits"
    )
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="where tables/ and report.html go"
    )
    args = parser.parse_args(argv)
    failed = report(args.results, args.output_dir, args.histories, args.manifests)
    for failure in failed:
        print(f"FAILED: {failure}")
    print((args.output_dir / "tables" / "summary.md").read_text())
    print(f"report: {args.output_dir / 'report.html'}")
    return 0


if __name__ == "__main__":
    run_main(main)
