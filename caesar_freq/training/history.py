"""Training curves as CSV, what the report plots."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from caesar_freq.atomic import write_bytes


def write_history(path: Path, history: list[dict]) -> None:
    """Write `history`, one dict of equal keys for each evaluation, atomically."""
    table = io.StringIO()
    writer = csv.DictWriter(table, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_bytes(path, table.getvalue().encode())
