"""The requests of the workflow's rules, taken from Snakemake itself."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from caesar_freq.cluster.fit import never
from caesar_freq.cluster.offer import read_offer
from caesar_freq.cluster.requests import Request
from caesar_freq.errors import ConfigError

#: Rules that run on the login node.
_LOCAL = {"all", "compress", "source", "ranges", "compression_table"}


def refuse_impossible(workflow: Any) -> None:
    """Before a run on SLURM: check the jobs that are about to be submitted against the cluster.

    Raises
    ------
    ConfigError
        Naming each rule that no node can ever serve, what it asks for and what the cluster offers.
    """
    plugin = workflow.executor_plugin
    if plugin is None or plugin.name != "slurm" or not shutil.which("scontrol"):
        return
    offer = read_offer()
    rules = {job.rule.name: job.rule for job in workflow.dag.needrun_jobs()}
    problems = []
    for name in sorted(rules.keys() - _LOCAL):
        for attempt in range(1, workflow.execution_settings.retries + 2):
            text = never(_request(rules[name], attempt), offer)
            if text and attempt == 1:
                problems.append(text)
            if text:
                break
        if text and attempt > 1:  # it would wait for ever, but only if the first try fails
            print(f"warning: try {attempt} of {text}", file=sys.stderr)
    if problems:
        raise ConfigError("; ".join(problems) + "; see caesar-freq cluster check")


def planned_requests(profile: Path, configfile: Path | None) -> tuple[list[Request], Any]:
    """Requests of all rules for the first try and each retry, and the parsed command line.

    Parameters
    ----------
    profile : path
        Folder or file of a Snakemake profile.
    configfile : path or None
        None takes the workflow's own.

    Raises
    ------
    ConfigError
        If the profile does not exist or Snakemake refuses the profile or the settings.
    """
    from snakemake import api
    from snakemake.exceptions import WorkflowError
    from snakemake.settings import types

    if configfile and not configfile.is_file():
        raise ConfigError(f"{configfile} does not exist; give the settings with --configfile")
    snakefile = Path("workflow/Snakefile")
    if not snakefile.is_file():
        raise ConfigError("there is no workflow/Snakefile here; run this in the project's folder")
    settings = ["--configfile", str(configfile)] if configfile else []
    args = _command_line(profile, "--snakefile", str(snakefile), *settings)
    try:
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            with api.SnakemakeApi(types.OutputSettings(quiet={types.Quietness.ALL})) as snakemake:
                rules = snakemake.workflow(
                    resource_settings=types.ResourceSettings(
                        cores=sys.maxsize,  # a job's threads as stated, not as this machine has them
                        default_resources=args.default_resources,
                        overwrite_resources=args.set_resources,
                        overwrite_threads=args.set_threads,
                    ),
                    config_settings=types.ConfigSettings(configfiles=args.configfile or []),
                    snakefile=snakefile,
                )._workflow
                return [
                    _request(rule, attempt)
                    for rule in rules.rules
                    if rule.name not in _LOCAL
                    for attempt in range(1, (args.retries or 0) + 2)
                ], args
    except WorkflowError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def job_prefix(profile: Path) -> str:
    """First part of the names of a profile's jobs.

    Raises
    ------
    ConfigError
        If the profile gives none; other jobs of the user could then not be told from its own.
    """
    prefix = getattr(_command_line(profile), "slurm_jobname_prefix", None)
    if not isinstance(prefix, str) or not prefix:  # Snakemake has an object for "not given"
        raise ConfigError(
            f"{profile} sets no slurm-jobname-prefix, by which jobs are found; add one"
        )
    return prefix


def _command_line(profile: Path, *arguments: str) -> Any:
    """What Snakemake makes of a profile and further arguments.

    Raises
    ------
    ConfigError
        With Snakemake's own words where it refuses them.
    """
    from snakemake import cli
    from snakemake.exceptions import CliException

    if not profile.exists():
        raise ConfigError(f"profile {profile} does not exist; give one with --profile")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return cli.parse_args(["--profile", str(profile), *arguments])[1]
    except CliException as error:
        raise ConfigError(f"profile {profile}: {error}") from error
    except SystemExit as error:  # after a page of usage
        why = " ".join(said.getvalue().rpartition("error: ")[2].split())
        raise ConfigError(f"profile {profile}: {why}; see docs/cluster.md") from error


def _request(rule: Any, attempt: int) -> Request:
    resources = rule.expand_resources({}, [], attempt)
    return Request.of(rule.name, resources, resources["_cores"], attempt)
