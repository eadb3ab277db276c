"""What a rule asks of a cluster, and the translation of GPU memory into a site's own words.

Rules state the GPU memory they need, in GB. SLURM knows no such resource and every site has its own
way of asking for it, so the profile carries a table (`gpu_table`), one entry for each size of card::

    8:constraint=gpumem8g 16:constraint=gpumem16g 40:gpu_model=a100,slurm_partition=big
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from caesar_freq.errors import ConfigError

#: Resources of the executor plugin that an entry of the table may set.
_WORDS = ("constraint", "gres", "gpu_model", "slurm_partition", "slurm_extra", "qos")
#: Generic resources that are a GPU by themselves, so that no `gpu` is asked for beside them.
_WHOLE = ("gpu", "shard")


def parse_gpu_table(text: str) -> dict[int, dict[str, str]]:
    """Read ``GB:key=value[,key=value] ...``; sizes ascend in the answer.

    Raises
    ------
    ConfigError
        Naming the entry that is not of this form.
    """
    table = {}
    for entry in text.split():
        size, _, words = entry.partition(":")
        pairs = dict(word.partition("=")[::2] for word in words.split(",") if word)
        unknown = [key for key in pairs if key not in _WORDS]
        if not size.isdigit() or not pairs or not all(pairs.values()) or unknown:
            raise ConfigError(
                f"gpu_table: {entry!r} is not GB:key=value[,key=value] with keys among "
                f"{', '.join(_WORDS)}; see docs/cluster.md"
            )
        table[int(size)] = pairs
    return dict(sorted(table.items()))


def gpu_resources(gpu_mem_gb: int, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Resources of a rule that needs a GPU with `gpu_mem_gb` GB of memory.

    Parameters
    ----------
    defaults : Mapping
        The profile's default resources; ``gpu_table`` and ``gpu_partition`` are looked up. Without
        a table (no cluster) the need alone is returned.

    Returns
    -------
    dict
        Values by name, or functions of the attempt. The first attempt asks for the smallest card
        that is large enough, each further one for the next larger card, as far as there is one; the
        budget in ``gpu_mem_gb`` grows with the card.
    """
    if "gpu_table" not in defaults:
        return {"gpu_mem_gb": gpu_mem_gb}
    table = parse_gpu_table(_raw(defaults["gpu_table"]))
    sizes = [size for size in table if size >= gpu_mem_gb]
    if not sizes:
        raise ConfigError(
            f"gpu_table ends at {max(table, default=0)} GB but a phase needs {gpu_mem_gb} GB of GPU "
            "memory; add an entry for a larger card"
        )

    def card(attempt: int) -> int:
        return sizes[min(attempt, len(sizes)) - 1]

    def word(key: str) -> Callable:
        fallback = _raw(defaults["gpu_partition"]) if "gpu_partition" in defaults else None
        other = fallback if key == "slurm_partition" else None
        return lambda wildcards, attempt: table[card(attempt)].get(key, other)

    def gpus(wildcards, attempt):
        return None if table[card(attempt)].get("gres", "").split(":")[0] in _WHOLE else 1

    asked = {key for size in sizes for key in table[size]}
    if "gpu_partition" in defaults:
        asked.add("slurm_partition")
    return {
        "gpu_mem_gb": lambda wildcards, attempt: gpu_mem_gb if attempt == 1 else card(attempt),
        "gpu": gpus,
        "nodes": 1,  # two GPUs could otherwise be on two nodes
        **{key: word(key) for key in sorted(asked)},
    }


def growing(amount: int) -> Callable:
    """A resource that grows with the attempt: `amount`, twice, three times as much."""
    return lambda wildcards, attempt: amount * attempt


@dataclass(frozen=True)
class Request:
    """What one job of a rule asks for; sizes in MB and GB as SLURM and the rules count them."""

    rule: str
    attempt: int = 1
    gpu_mem_gb: int = 0
    gpus: int = 0
    gpu_model: str = ""
    gres: str = ""
    constraint: str = ""
    partition: str = ""
    mem_mb: int = 0
    cpus: int = 1
    minutes: int = 0

    @classmethod
    def of(cls, rule: str, resources: Mapping[str, Any], cpus: int, attempt: int = 1) -> Request:
        """From evaluated Snakemake resources; `cpus` are the rule's threads."""
        return cls(
            rule=rule,
            attempt=attempt,
            gpu_mem_gb=resources.get("gpu_mem_gb") or 0,
            gpus=resources.get("gpu") or 0,
            gpu_model=resources.get("gpu_model") or "",
            gres=resources.get("gres") or "",
            constraint=resources.get("constraint") or "",
            partition=resources.get("slurm_partition") or "",
            mem_mb=int(resources.get("mem_mb") or 0),
            cpus=int(resources.get("cpus_per_task") or cpus),
            minutes=int(resources.get("runtime") or 0),
        )

    def words(self) -> str:
        """The request as one reads it aloud."""
        gpu = f"a GPU with {self.gpu_mem_gb} GB ({self.spelling()}), " if self.gpu_mem_gb else ""
        where = f" on partition {self.partition}" if self.partition else ""
        return f"{gpu}{self.mem_mb} MB, {self.cpus} CPUs, {self.minutes} min{where}"

    def spelling(self) -> str:
        """How the GPU is asked for in the site's words."""
        parts = [f"{key}={getattr(self, key)}" for key in ("constraint", "gres", "gpu_model")
                 if getattr(self, key)]  # fmt: skip
        return ", ".join(parts) or f"gpu={self.gpus}"


def _raw(resource: Any) -> str:
    """Text of a default resource as the profile has it (Snakemake keeps expressions unevaluated)."""
    text = getattr(resource, "raw", None) or getattr(resource, "value", None) or resource
    return str(text).strip().strip("\"'")
