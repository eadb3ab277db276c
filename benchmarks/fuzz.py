"""Campaigns against the codec: damaged streams, and arrays that are made to break bounds.

    python benchmarks/fuzz.py [streams|bounds] [--cases 100000] [--first 0] [--jobs 2] [--seed 0]
    python benchmarks/fuzz.py --replay FILE

``streams`` (`fuzz_mutations`): mutations of small valid files must end in a clear error or in an
array. A worker that dies, hangs or runs out of memory, an exception other than
`CorruptStreamError` or `ModelError`, damage behind right checksums that nobody notices, and an
array of another shape or type than the header announces are failures. ``bounds`` (`fuzz_bounds`):
adversarial arrays must come back within their bound, with the same bytes from all kernels, and
what cannot be compressed must be refused in words.

Failures are kept below ``--output_dir`` and the exit code is 1. What was run is kept there, too: the
same command goes on where it stopped, and begins anew after an edit of the code. Numba does not check
indices: run it with ``NUMBA_BOUNDSCHECK=1`` and an own ``NUMBA_CACHE_DIR`` to see reads out of
bounds as errors.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import fuzz_bounds
import fuzz_mutations
from fuzz_workers import Ledger, campaign

from caesar_freq.errors import run_main
from caesar_freq.fingerprints import fingerprint

KINDS = {"streams": fuzz_mutations.Cases, "bounds": fuzz_bounds.Cases}
#: Cases that are lost at most when a run is stopped.
SLICE = {"streams": 1000, "bounds": 50}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", nargs="?", choices=KINDS, default="streams")
    parser.add_argument("--cases", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=Path, help="a kept stream to decode in this process")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/results/fuzz"))
    args = parser.parse_args(argv)
    if args.replay:
        print(fuzz_mutations.judge(args.replay.read_bytes(), True))
        return 0
    numbers, start = range(args.first, args.first + args.cases), time.monotonic()
    about = {"kind": args.kind, "seed": args.seed, "code": fingerprint("caesar_freq.api")}
    ledger = Ledger(args.output_dir / "ledger.jsonl", about)
    waiting = ledger.missing(numbers, SLICE[args.kind])
    cases = KINDS[args.kind](args.seed)
    for done in campaign(cases, waiting, args.jobs):
        ledger.add(done)
        for number, name, outcome in done.failures:
            kept = cases.keep(number, args.output_dir)
            print(f"case {number} ({name}): {outcome}; kept as {kept}", flush=True)
    slices = ledger.slices()
    total = sum((one.outcomes for one in slices), Counter())
    failures = sum(len(one.failures) for one in slices)
    print(f"{args.kind}, seed {args.seed}, code {about['code']}: {sum(total.values())} cases,"
          f" {failures} failures, {time.monotonic() - start:.0f} s now")  # fmt: skip
    print(", ".join(f"{count} {name}" for name, count in total.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    run_main(main)
