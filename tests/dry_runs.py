"""Many dry runs of one folder: Snakemake is loaded once and forked for each of them.

Reads from standard input a list of ``{"config": "a.yaml", "appended": {"file": "text"}}``: settings,
and what to append to files meanwhile; the file ``*`` stands for a touch of all. Prints a list of the
outputs that each run would make. One process for each would need three seconds instead of a third.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snakemake.cli import get_argument_parser, main

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


@contextmanager
def edited(appended: dict[str, str]) -> Iterator[None]:
    """Files with some text more, or new ones; content and times come back."""
    paths = [Path(name) for name in appended if name != "*"]
    if "*" in appended:
        paths = [p for p in Path().rglob("*") if p.is_file() and ".snakemake" not in p.parts]
    before = {path: (path.read_bytes(), path.stat()) for path in paths if path.exists()}
    for path in paths:
        with open(path, "a") as file:
            file.write(appended.get(str(path), ""))
        path.touch()
    yield
    for path in set(paths) - set(before):
        path.unlink()
    for path, (content, state) in before.items():
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


if __name__ == "__main__":
    # what every child would do again: plugins, parsed sources, collection of what is there
    workflow.use_this_interpreter()
    get_argument_parser()
    for path in fingerprints.PACKAGE.rglob("*.py"):
        fingerprints._parsed(path.read_bytes())
    gc.freeze()
    found = []
    for run in json.load(sys.stdin):
        with edited(run["appended"]):
            found.append(pending(run["config"]))
    print(json.dumps(found))
