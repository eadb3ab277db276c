"""Recipe of the packaged base model (``make base-model``).

Trains phase 1 on simulated turbulence in several regimes and on any ``.npz`` files given with
``--extra_data`` (key ``data``, ``[V, S, T, H, W]``), and writes ``caesar_freq/assets/base.cfm``
with a card beside it. Every seed is fixed; the card lists the sha256 of every file used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from caesar_freq import train_freq_compressor
from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import run_main

ASSETS = Path(train_freq_compressor.__file__).parent / "assets"
#: Regimes: how far frames lie apart, how viscous, at what scale and how strongly forced.
REGIMES = {
    "fast": (Flow(stride=10), [101, 102]),
    "medium": (Flow(stride=5), [103]),
    "slow": (Flow(stride=2), [104]),
    "viscous": (
        Flow(stride=20, viscosity=5e-3, force_wavenumber=4, force_amplitude=4.0), [105],
    ),
    "large_scale": (
        Flow(stride=20, time_step=2e-3, spin_up=3000, drag=0.1, force_wavenumber=3,
             force_amplitude=2.0), [106],
    ),
}  # fmt: skip
SEED = 7
VALIDATION = (Flow(stride=7), [199])


def simulate_all(folder: Path) -> tuple[list[Path], Path]:
    """Training files and the validation file; simulated once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (flow, seeds) in {**REGIMES, "validation": VALIDATION}.items():
        path = folder / f"turbulence_{name}.npz"
        if not path.exists():
            print(f"simulating {name}", flush=True)
            with atomic_path(path) as temporary:
                np.savez(temporary, data=realisations(flow, seeds))
        paths.append(path)
    return paths[:-1], paths[-1]


def card(args: argparse.Namespace, uses: dict[str, list[Path]], result: Path) -> str:
    """Model card of the base model, Markdown."""
    model = load_frequency_model(result)
    rows = "\n".join(
        f"| {path.name} | {use} | {hashlib.sha256(path.read_bytes()).hexdigest()} |"
        for use, files in uses.items()
        for path in files
    )
    settings = json.dumps({"epochs": args.epochs, "lr": args.lr, "seed": SEED}, indent=2)
    return f"""# Base model of CAESAR-Freq

Frequency model (entropy network 24-16-16-1, pmfs, centroids, dead zones), fingerprint
`{model.fingerprint}`,
{len(model.to_bytes())} bytes. Made by `benchmarks/train_base.py`.

Intended use: compression of any float field without training. It steers the number of bytes only;
error bounds are enforced by the encoder whatever the model says.

Data (the simulated files are rebuilt by the recipe from fixed seeds):

| file | used for | sha256 |
|---|---|---|
{rows}

Settings:

```json
{settings}
```
"""


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--extra_data", nargs="*", type=Path, default=[])
    parser.add_argument("--extra_val", nargs="*", type=Path, default=[])
    parser.add_argument("--work_dir", type=Path, default=Path("data/base_model"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args(argv)
    simulated, held_out = simulate_all(args.work_dir)
    train, validation = [*simulated, *args.extra_data], [held_out, *args.extra_val]
    flags = ["--train_data", *train, "--val_data", *validation, "--device", "cpu", "--seed", SEED,
             "--epochs", args.epochs, "--lr", args.lr, "--output_dir", args.work_dir / "phase1",
             "--evaluations", 2, "--checkpoint_every", 500]  # fmt: skip
    train_freq_compressor.main([str(flag) for flag in flags])
    result = args.work_dir / "phase1" / "best_model.cfm"
    write_bytes(ASSETS / "base.cfm", result.read_bytes())
    write_bytes(
        ASSETS / "base_card.md",
        card(args, {"training": train, "selection": validation}, result).encode(),
    )
    print(f"wrote {ASSETS / 'base.cfm'}")
    return 0


if __name__ == "__main__":
    run_main(main)
