"""Results on standard output, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def show(values: Mapping[str, Any], as_json: bool) -> None:
    """Print `values` as JSON, or as one line per name with a line for each entry of a table."""
    if as_json:
        # JSON has no infinity and no NaN: the PSNR of a lossless file is null
        print(json.dumps(finite(values), indent=2, allow_nan=False))
        return
    for name, value in values.items():
        rows = (
            value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        )
        for row in rows:
            print(f"{name:21} {_text(row)}")
            name = ""


def finite(value: Any) -> Any:
    """`value` for JSON, which has no infinity (PSNR without loss) and no nan: both become None."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
