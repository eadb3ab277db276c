"""Our frequency mode against the research prototype on the same arrays, at equal NRMSE targets.

``python benchmarks/prototype_parity.py --prototype_dir DIR --data_dir DIR [--model PATH]``

Every variable and section of every ``.npz`` (key ``data``) is coded alone by both. Sizes are real
bytes; both are decoded and their NRMSE is printed beside the target. The prototype's file leaves
out its model; for a fair comparison ours does, too, and the model's size is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import caesar_freq
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.metrics import distortion

TARGETS = (1e-2, 1e-3, 1e-4)


def ours(x: np.ndarray, target: float, model) -> tuple[int, float]:
    """Bytes and NRMSE of our codec."""
    data = caesar_freq.encode(x, "nrmse", target, model=model, embed_model=False)
    return len(data), distortion(x, caesar_freq.decode(data, model=model)).nrmse


def theirs(x: np.ndarray, target: float, prototype, model) -> tuple[int, float]:
    """Bytes and NRMSE of the prototype, at the better of its two choices of time blocks."""
    data = min(
        (prototype.compress(x, model, nrmse=target, npar=2, bts=bts) for bts in ((16,), (16, 64))),
        key=len,
    )
    return len(data), distortion(x, prototype.decompress(data, model)).nrmse


def main() -> None:
    """Print the table, and write it with ``--output``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prototype_dir", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--output", type=Path, help="CSV file")
    args = parser.parse_args()
    sys.path.insert(0, str(args.prototype_dir))
    import codec as prototype

    network = prototype.load()
    model = load_frequency_model(args.model)
    print(f"model {model.fingerprint[:16]}, {len(model.to_bytes())} bytes, not in the files")
    rows = []
    for path in sorted(args.data_dir.glob("*.npz")):
        cube = np.load(path)["data"].astype(np.float32)
        volumes = cube.reshape(-1, *cube.shape[2:])
        for target in TARGETS:
            a = [ours(x, target, model) for x in volumes]
            b = [theirs(x, target, prototype, network) for x in volumes]
            size, reference = (sum(n for n, _ in part) for part in (a, b))
            rows.append({
                "data": path.stem, "nrmse": target, "cr": cube.nbytes / size,
                "cr_prototype": cube.nbytes / reference, "ratio": reference / size,
                "error_over_target": max(e for _, e in a) / target,
                "prototype_error_over_target": max(e for _, e in b) / target,
            })  # fmt: skip
            print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1, index=False), flush=True)
    table = pd.DataFrame(rows)
    means = table.groupby("nrmse")["ratio"].apply(lambda r: float(np.exp(np.log(r).mean())))
    print(means.to_string(), f"\nworst ratio {table['ratio'].min():.4f}")
    if args.output:
        table.to_csv(args.output, index=False)


if __name__ == "__main__":
    main()
