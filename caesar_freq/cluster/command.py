"""``caesar-freq cluster check`` and ``caesar-freq cluster recover``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caesar_freq.errors import ConfigError

app = typer.Typer(
    help="SLURM: does every phase fit, and tidying up after a crash.", rich_markup_mode=None
)

Profile = Annotated[Path, typer.Option(help="folder of the Snakemake profile")]
Settings = Annotated[Path | None, typer.Option(help="default: the workflow's own")]


@app.command()
def check(profile: Profile = Path("profiles/slurm"), configfile: Settings = None) -> None:
    """Show which rule fits on which nodes; exit code 1 if one never will."""
    from caesar_freq.cluster.fit import never, table
    from caesar_freq.cluster.offer import read_offer
    from caesar_freq.cluster.plan import planned_requests

    offer = read_offer()
    requests, args = planned_requests(profile, configfile)
    print("\n".join(table(requests, offer)))
    problems = [(r, text) for r in requests if (text := never(r, offer))]
    for request, text in problems:
        print(f"{'never' if request.attempt == 1 else 'a retry never'}: {text}")
    waits = not offer.accounting and getattr(args, "slurm_status_command", "") != "squeue"
    if waits:
        print(
            "never: SLURM keeps no accounts here, so Snakemake would wait for ever for sacct; "
            f"set slurm-status-command: squeue in {profile}"
        )
    if waits or any(request.attempt == 1 for request, _ in problems):
        raise typer.Exit(1)


@app.command()
def recover(
    profile: Profile = Path("profiles/slurm"),
    configfile: Settings = None,
    snakefile: Annotated[Path, typer.Option()] = Path("workflow/Snakefile"),
    wait: Annotated[bool, typer.Option(help="let the jobs end instead of cancelling them")] = False,
    dry_run: Annotated[bool, typer.Option(help="only list the jobs")] = False,
) -> None:
    """After Snakemake was killed: end or await its jobs and free the folder's lock."""
    from caesar_freq.cluster import recover as recovery
    from caesar_freq.cluster.plan import job_prefix

    if not snakefile.is_file():  # before anything is cancelled
        raise ConfigError(
            f"there is no {snakefile} here; run this where snakemake ran, or give --snakefile"
        )
    jobs = recovery.orphans(job_prefix(profile), Path.cwd())
    for job in jobs:
        print(f"job {job.number} ({job.rule}): {job.state}")
    if not jobs:
        print("no jobs of this folder are left")
    if dry_run:
        return
    recovery.refuse_while_running(Path.cwd())
    recovery.settle(jobs, wait)
    recovery.unlock(snakefile, configfile)
    done = "ended by themselves" if wait else "cancelled"
    print(f"{len(jobs)} jobs {done}, the folder is free; run the same snakemake command again")
