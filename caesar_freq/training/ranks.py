"""Several processes that train one network: each takes its share of every batch.

Started by ``torchrun`` or, in a job, by what `caesar_freq.sweeps` sets up: the usual variables RANK,
WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Gradients are summed, so that the loss curve is
that of one process with the same batch, but for rounding. Only the first process evaluates and
writes; all of them read the same files.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from caesar_freq.errors import ConfigError

#: The others wait while the first process evaluates or saves.
_TIMEOUT = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process among `size` ones."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process evaluates and writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Items of a batch of `n` that this process takes; all of them are taken once.

        Raises
        ------
        ConfigError
            If there are more processes than items.
        """
        if n < self.size:
            raise ConfigError(
                f"--batch_size {n} has no share for each of {self.size} processes; start fewer"
            )
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add_up(self, parameters: Iterable[Tensor], *numbers: float) -> list[float]:
        """Sum gradients, in place, and `numbers` over all processes; returns the numbers."""
        if self.size == 1:
            return list(numbers)
        gradients = [p.grad for p in parameters if p.grad is not None]
        own = torch.tensor(numbers, dtype=gradients[0].dtype, device=gradients[0].device)
        flat = torch.cat([*(g.flatten() for g in gradients), own])
        dist.all_reduce(flat)
        sizes = [g.numel() for g in gradients]
        *parts, numbers_sum = flat.split([*sizes, len(numbers)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return numbers_sum.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks()


def join(device: torch.device) -> Ranks:
    """Meet the other processes, if there are any; on GPUs each takes the one of its LOCAL_RANK."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        # gloo's threads, still running when the interpreter is taken down, abort the process
        atexit.register(_leave)
    return Ranks(dist.get_rank(), size)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def refuse_many() -> None:
    """For what runs as one process.

    Raises
    ------
    ConfigError
        If it was started as several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("phase 1 trains in one process; start it without torchrun")
