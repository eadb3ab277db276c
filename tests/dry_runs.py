"""Many dry runs of one folder: Snakemake is loaded once and forked for each configuration.

``python dry_runs.py a.yaml b.yaml`` prints a JSON object, by configuration the outputs that its run
would make. One process for each would need three seconds instead of one.
"""

from __future__ import annotations

import json
import os
import sys

from snakemake.cli import main

from caesar_freq import fingerprints, workflow


def summary(config: str) -> str:
    """What ``snakemake --summary`` prints; the child forgets all that the run left in memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        try:
            main(["--configfile", config, "--cores", "1", "--nolock", "--summary"])
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writer)
    with open(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def pending(config: str) -> list[str]:
    """Outputs with an update pending."""
    text = summary(config)
    rows = [line.split("\t") for line in text.splitlines() if line.count("\t") >= 5]
    if not rows:
        raise SystemExit(text)
    return [row[0] for row in rows[1:] if row[-1] != "no update"]


if __name__ == "__main__":
    workflow.use_this_interpreter()
    fingerprints.fingerprint("caesar_freq.report")  # parsed sources are inherited
    fingerprints.fingerprint("caesar_freq.train_distillation")
    print(json.dumps({config: pending(config) for config in sys.argv[1:]}))
