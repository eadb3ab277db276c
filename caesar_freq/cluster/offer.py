"""What a cluster offers, read from ``scontrol show`` (no accounting needed)."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field

from caesar_freq.errors import ConfigError

#: States of a node that takes no new jobs, now or for good.
_AWAY = re.compile(r"DOWN|DRAIN|FAIL|NO_RESPOND|NOT_RESPONDING|POWERED_DOWN|\*")
_COUNT = re.compile(r"(\d+)([KMGT]?)$")
_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Node:
    """A node as SLURM was told of it; `gres` counts by ``name`` and ``name:type``."""

    name: str
    cpus: int
    mem_mb: int
    state: str = "IDLE"
    features: frozenset[str] = frozenset()
    gres: dict[str, int] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()

    @property
    def away(self) -> bool:
        """Whether it takes no jobs at present."""
        return bool(_AWAY.search(self.state))

    def words(self) -> str:
        """One line about the node, for messages."""
        gres = ",".join(f"{name}:{count}" for name, count in self.gres.items() if ":" in name)
        plain = ",".join(f"{n}:{amount(c)}" for n, c in self.gres.items() if n not in ("gpu",)
                         and ":" not in n)  # fmt: skip
        shown = ",".join(part for part in (gres, plain) if part) or "no GPU"
        features = ",".join(sorted(self.features)) or "no features"
        return f"{self.name} ({shown}; {features}; {self.cpus} CPUs, {self.mem_mb} MB)"


@dataclass(frozen=True)
class Partition:
    """A partition; `minutes` None means without limit."""

    name: str
    minutes: int | None = None
    up: bool = True
    default: bool = False


@dataclass(frozen=True)
class Offer:
    """Nodes and partitions of a cluster."""

    nodes: tuple[Node, ...]
    partitions: tuple[Partition, ...]
    accounting: bool = True

    def partition(self, name: str) -> Partition | None:
        """The partition of that name; the default one where `name` is empty."""
        for partition in self.partitions:
            if partition.name == name or (not name and partition.default):
                return partition
        return None


def read_offer() -> Offer:
    """Ask SLURM on this machine.

    Raises
    ------
    ConfigError
        If there is no SLURM here or it does not answer.
    """
    nodes, partitions = _scontrol("node"), _scontrol("partition")
    return parse_offer(nodes, partitions, _scontrol("config"))


def parse_offer(nodes: str, partitions: str, config: str = "") -> Offer:
    """From the one-line output of ``scontrol show node``, ``partition`` and ``config``."""
    return Offer(
        tuple(_node(line) for line in nodes.splitlines() if "NodeName=" in line),
        tuple(_partition(line) for line in partitions.splitlines() if "PartitionName=" in line),
        not re.search(r"^AccountingStorageType\s*=\s*(\S*none|\(null\))\s*$", config, re.M),
    )


def parse_gres(text: str) -> dict[str, int]:
    """``gpu:a100:2(S:0-1),gpumem:40G`` to counts by name and by ``name:type``."""
    counts: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", text).split(","):
        parts = [part for part in entry.split(":") if part != "no_consume"]
        if not parts[0]:
            continue
        match = _COUNT.match(parts[-1]) if len(parts) > 1 else None
        count = int(match[1]) * _UNIT[match[2]] if match else 1
        kind = parts[1] if len(parts) > (2 if match else 1) else ""
        counts[parts[0]] = counts.get(parts[0], 0) + count
        if kind:
            key = f"{parts[0]}:{kind}"
            counts[key] = counts.get(key, 0) + count
    return counts


def amount(count: int) -> str:
    """A count with SLURM's binary suffix where it is a round number of them."""
    for unit in "TGMK":
        if count >= _UNIT[unit] and count % _UNIT[unit] == 0:
            return f"{count // _UNIT[unit]}{unit}"
    return str(count)


def _scontrol(what: str) -> str:
    if not shutil.which("scontrol"):
        raise ConfigError("there is no scontrol here; run this where sbatch works")
    command = ["scontrol", "--oneliner", "show", what]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{' '.join(command)} did not answer in 30 s; is slurmctld up?"
        ) from error
    if done.returncode:
        raise ConfigError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(?:^|\s)([A-Za-z]\w*)=(\S*)", line))


def _node(line: str) -> Node:
    fields = _fields(line)
    features = fields.get("AvailableFeatures", "(null)")
    gres = fields.get("Gres", "(null)")
    return Node(
        name=fields["NodeName"],
        cpus=int(fields["CPUTot"]),
        mem_mb=int(fields["RealMemory"]),
        state=fields.get("State", ""),
        features=frozenset() if features == "(null)" else frozenset(features.split(",")),
        gres={} if gres == "(null)" else parse_gres(gres),
        partitions=tuple(filter(None, fields.get("Partitions", "").split(","))),
    )


def _partition(line: str) -> Partition:
    fields = _fields(line)
    return Partition(
        name=fields["PartitionName"],
        minutes=_minutes(fields.get("MaxTime", "UNLIMITED")),
        up=fields.get("State", "UP") == "UP",
        default=fields.get("Default") == "YES",
    )


def _minutes(text: str) -> int | None:
    """``[days-]hours:minutes:seconds`` to minutes."""
    if text in ("UNLIMITED", "INFINITE"):
        return None
    days, _, clock = text.rpartition("-")
    hours, minutes, _ = (int(part) for part in clock.split(":"))
    return int(days or 0) * 1440 + hours * 60 + minutes
