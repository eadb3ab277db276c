"""Try many settings of one training phase: a grid or random draws, here or as SLURM jobs.

``caesar-freq sweep freq_compressor --set lambda_bpp=0.005,0.01,0.02 --output_dir sweeps/lambda
-- --train_data train.npz --val_data val.npz``

What follows ``--`` are flags of the phase that all trials share. Every trial has its folder, named by
a hash of its settings and of the data; running the same command again continues what was
interrupted, repeats nothing that has ended, and writes ``sweep.csv``, ``sweep.md`` and ``pareto.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from caesar_freq.atomic import write_bytes
from caesar_freq.errors import CaesarError, ConfigError, run_main
from caesar_freq.sweeps import results, space
from caesar_freq.sweeps.launch import Trial, run_here, run_jobs

#: Flags that belong to the sweep or change no result.
_NO_SETTINGS = {"output_dir", "resume", "device", "num_workers", "checkpoint_every", "gpu_mem_gb"}
#: Flags that name files, whose content counts.
_FILES = ("train_data", "val_data", "freq_compressor_path", "teacher_path")
_MODELS = {"freq_compressor": "best_model.pth", "diffusion": "diffusion_best.pth",
           "distillation": "student_best.pth"}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """All flags of the sweep itself."""
    text = (__doc__ or "").split("\n\n")
    out = argparse.ArgumentParser(prog="caesar-freq sweep", description=text[0],
                                  usage="caesar-freq sweep PHASE --set NAME=VALUES ... -- FLAGS",
                                  epilog=text[2])  # fmt: skip
    out.add_argument("phase", choices=tuple(_MODELS), metavar="PHASE", help=", ".join(_MODELS))
    out.add_argument("--set", action="append", required=True, metavar="NAME=VALUES", dest="axes",
                     help="a,b,c or, with --trials, low..high, low..high:log, low..high:int; repeat")  # fmt: skip
    out.add_argument("--trials", type=int, help="random draws instead of the whole grid")
    out.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    out.add_argument("--output_dir", type=Path, default=Path("sweeps"), help="default: sweeps")
    out.add_argument("--jobs", type=int, default=1, help="trials at a time (default: 1)")
    out.add_argument("--cost", choices=results.COSTS, default="seconds",
                     help="what the Pareto plot weighs the bytes against (default: seconds)")  # fmt: skip
    out.add_argument("--executor", choices=("local", "slurm", "submitit-local", "submitit-debug"),
                     default="local", help="processes here (default), SLURM, or submitit's own")  # fmt: skip
    out.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE",
                     help="parameter of submitit, such as timeout_min=600, mem_gb=16, "
                          "slurm_partition=gpu, gpus_per_node=1; repeat")  # fmt: skip
    return out


class Sweep:
    """The trials of a sweep.

    Parameters
    ----------
    args : argparse.Namespace
        See `parser`.
    shared : sequence of str
        Flags of the phase that all trials have.
    """

    def __init__(self, args: argparse.Namespace, shared: Sequence[str]) -> None:
        self.args, self.phase = args, args.phase
        self.module = import_module(f"caesar_freq.train_{args.phase}")
        self.metric = results.METRIC[args.phase]
        axes = [space.parse_axis(text) for text in args.axes]
        self.names = [axis.name for axis in axes]
        self._check_names()
        self.trials: dict[str, dict[str, str]] = {}
        self.commands: dict[str, Trial] = {}
        digests: list[str] | None = None
        for settings in space.combinations(axes, args.trials, args.seed):
            flags = [*shared, *(word for item in settings.items() for word in self._words(*item))]
            parsed = self._parsed(flags)
            digests = self._digests(parsed) if digests is None else digests
            key = self._key(parsed, digests)
            folder = args.output_dir / "trials" / key
            command = [sys.executable, "-m", self.module.__name__, *flags,
                       "--output_dir", str(folder)]  # fmt: skip
            self.trials[key] = settings
            self.commands[key] = Trial(command, folder)

    def _check_names(self) -> None:
        known = {action.dest for action in self.module.parser()._actions} - {"help"}
        known -= {*_NO_SETTINGS, *_FILES}
        for name in self.names:
            if name not in known:
                raise ConfigError(
                    f"--set {name}: phase {self.phase} has no such setting; it has "
                    f"{', '.join(sorted(known))}"
                )

    def _words(self, name: str, value: str) -> list[str]:
        """`value` as words of a command line."""
        action = next(a for a in self.module.parser()._actions if a.dest == name)
        if isinstance(action, argparse.BooleanOptionalAction):
            if value not in ("true", "false"):
                raise ConfigError(f"--set {name}: {value} is neither true nor false")
            return [f"--{name}" if value == "true" else f"--no-{name}"]
        return [f"--{name}", *value.split()]

    def _parsed(self, flags: Sequence[str]) -> argparse.Namespace:
        """The phase's own reading of its flags, checked before anything is started."""
        phase = self.module.parser()

        def refuse(message: str) -> None:
            raise ConfigError(f"flags of phase {self.phase}: {message}; see their --help")

        phase.error = refuse
        parsed = phase.parse_args(list(flags))
        if parsed.output_dir != phase.get_default("output_dir"):
            raise ConfigError("--output_dir behind -- is the sweep's; give it before --")
        getattr(self.module, "check", self.module.check_common_args)(parsed)
        return parsed

    def _digests(self, parsed: argparse.Namespace) -> list[str]:
        from caesar_freq.training.checkpoint import file_digests

        paths: list[Path] = []
        for name in _FILES:
            given = getattr(parsed, name, [])
            paths += given if isinstance(given, list) else [given]
        for path in paths:
            if not path.is_file():
                raise ConfigError(f"{path} does not exist; make it before the sweep")
        return file_digests(paths)

    def _key(self, parsed: argparse.Namespace, digests: list[str]) -> str:
        from caesar_freq.training.checkpoint import settings_key

        ignored = {*_NO_SETTINGS, *_FILES}
        settings = {k: v for k, v in vars(parsed).items() if k not in ignored}
        return settings_key({"phase": self.phase, "data": digests, **settings})

    def result(self, key: str) -> dict[str, Any] | None:
        """What an ended trial gave; None where it has not ended."""
        path = self.commands[key].folder / "result.json"
        return json.loads(path.read_bytes()) if path.is_file() else None

    def ended(self, trial: Trial, code: int | None) -> None:
        """Keep the result of a trial; one that failed is named and leaves the others alone."""
        key = trial.folder.name
        if code == 0:
            model = trial.folder / _MODELS[self.phase]
            found = results.result_of(trial.folder, self.phase, model)
            write_bytes(trial.folder / "result.json", json.dumps(found).encode())
            print(f"{self._shown(key)}: {self.metric} {found[self.metric]:g}", flush=True)
        elif code is not None:
            log = (trial.folder / "trial.log").read_text(errors="replace").strip()
            last = log.splitlines()[-1] if log else "nothing was printed"
            print(f"{self._shown(key)}: failed with code {code}: {last}", file=sys.stderr)
        self.write()

    def _shown(self, key: str) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.trials[key].items())

    def write(self) -> list[dict[str, Any]]:
        """Tables of all trials; returns the rows of the ended ones."""
        rows = []
        for key, settings in self.trials.items():
            result = self.result(key)
            state = "ended" if result else "open"
            rows.append({**settings, **(result or {}), "state": state, "trial": key})
        folder = self.args.output_dir
        results.write_tables(folder, self.names, self.metric, self.args.cost, rows)
        return [row for row in rows if row["state"] == "ended"]

    def run(self) -> int:
        """Run what has not ended; 0 if every trial has a result then."""
        args = self.args
        args.output_dir.mkdir(parents=True, exist_ok=True)
        left = [trial for key, trial in self.commands.items() if self.result(key) is None]
        print(f"{len(self.trials)} trials, {len(left)} to run", flush=True)
        if args.executor == "local":
            run_here(left, args.jobs, self.ended)
        elif left:
            cluster = args.executor.removeprefix("submitit-")
            run_jobs(left, args.jobs, self.ended, cluster, args.output_dir / "submitit",
                     _parameters(args.slurm))  # fmt: skip
        rows = self.write()
        if rows:
            results.plot(args.output_dir / "pareto.png", self.metric, args.cost, rows, self.names)
        print((args.output_dir / "sweep.md").read_text(), end="")
        if len(rows) < len(self.trials):
            failed = len(self.trials) - len(rows)
            raise CaesarError(
                f"{failed} of {len(self.trials)} trials have no result; see trial.log in their "
                f"folders in {args.output_dir / 'trials'} and run the same command again"
            )
        return 0


def _parameters(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` of the flag ``--slurm``; whole numbers become numbers."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--slurm {text} is not KEY=VALUE; give for instance mem_gb=16")
        found[key] = int(value) if value.isdigit() else value
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    args, others = parser().parse_known_args(words[:cut])
    if others:
        raise ConfigError(
            f"{' '.join(others)}: no flags of the sweep; those of the phase go behind --, as in "
            "caesar-freq sweep diffusion --set lr=1e-3,1e-4 -- --train_data train.npz"
        )
    if args.jobs < 1:
        raise ConfigError(f"--jobs is {args.jobs}; give at least 1")
    return Sweep(args, words[cut + 1 :]).run()


if __name__ == "__main__":
    run_main(main)
