# Checked settings, and functions of wildcards. Rules get only the keys they use: a change in one
# phase's section then reruns that phase and what follows, nothing else.

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError

from caesar_freq import workflow as library
from caesar_freq.cluster.plan import refuse_impossible
from caesar_freq.cluster.requests import gpu_resources, growing
from caesar_freq.errors import ConfigError
from caesar_freq.fingerprints import evaluation_code, fingerprint
from caesar_freq.settings import validated

try:
    config = validated(
        config,
        load_configfile(workflow.source_path("../schemas/config.schema.yaml")),
    )
    library.check_settings(config)
    PLANS = library.compression_plans(config)
except ConfigError as error:
    raise WorkflowError(f"config: {error}")

library.use_this_interpreter()

DATASETS = list(config["datasets"])


wildcard_constraints:
    dataset="|".join(DATASETS),
    codec="[a-z0-9]+",
    criterion="nrmse|max-rel|lossless",
    name="|".join(PLANS) or "(?!)",
    part=r"p\d+",


def gpu(gpu_mem_gb):
    """Resources of a rule on a GPU; the profile's gpu_table says how a cluster is asked for it."""
    try:
        return gpu_resources(
            gpu_mem_gb, workflow.resource_settings._parsed_default_resources
        )
    except ConfigError as error:
        raise WorkflowError(f"profile: {error}")


# Before anything is submitted; a job that no node can serve would otherwise wait for ever.
onstart:
    try:
        refuse_impossible(workflow)
    except ConfigError as error:
        raise WorkflowError(error)


# Their results are known as finished from here on (caesar_freq/training/checkpoint.py).
onsuccess:
    library.forget_second_names()


def raw_inputs(wildcards):
    return library.raw_inputs(config, wildcards.dataset)


def split_files(wildcards):
    return library.split_files(config, wildcards.dataset)


def split_flags(wildcards):
    return library.split_flags(config, wildcards.dataset)


def model_input(wildcards):
    return library.model_of(wildcards.codec) or []


def evaluation_flags(wildcards):
    model = library.model_of(wildcards.codec)
    flags = [f"--criterion {wildcards.criterion.replace('-', '_')}"]
    if wildcards.criterion != "lossless":
        flags.append(f"--targets {wildcards.target}")
    if model:
        flags.append(f"--model {model}")
    if "fill_value" in config["datasets"][wildcards.dataset]:
        flags.append(
            f"--fill_value={config['datasets'][wildcards.dataset]['fill_value']!r}"
        )
    return " ".join(flags)


def of_plan(attribute):
    """A parameter that is the same for all parts."""
    return lambda wildcards: getattr(PLANS[wildcards.name], attribute)


def of_part(attribute):
    """A resource of a part that grows with the attempt; the largest of all without wildcards."""

    def value(wildcards, attempt):
        if "name" in wildcards.keys():
            return getattr(PLANS[wildcards.name], attribute)[wildcards.part] * attempt
        amounts = [
            a for plan in PLANS.values() for a in getattr(plan, attribute).values()
        ]
        return max(amounts, default=1) * attempt

    return value


def part_flags(wildcards):
    return PLANS[wildcards.name].part_flags(wildcards.part)


def of_all_parts(pattern):
    """Files of all parts of a data set."""
    return lambda wildcards: expand(
        pattern, name=wildcards.name, part=PLANS[wildcards.name].parts
    )


def count_parts(wildcards):
    return len(PLANS[wildcards.name].parts)
