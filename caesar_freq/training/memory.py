"""GPU memory budget: cap the process, and choose micro-batches that fit in it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch

from caesar_freq.errors import ConfigError

_GB = 1 << 30
#: Part of the budget that is planned with; the rest is fragmentation and libraries.
_USABLE = 0.85


def cap_memory(device: torch.device, budget_gb: float) -> None:
    """Make allocations beyond `budget_gb` fail on a GPU, as on a card of that size.

    Raises
    ------
    ConfigError
        If the card itself is smaller than the budget.
    """
    if device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    if total < 0.9 * budget_gb * _GB:
        raise ConfigError(
            f"this phase plans with {budget_gb:g} GB of GPU memory but the card has "
            f"{total / _GB:.1f} GB; ask for a larger card or lower --gpu_mem_gb"
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget_gb * _GB / total), device)


def peak_gb(device: torch.device) -> float | None:
    """Most memory that tensors took on a GPU so far, in GB (2^30 bytes); None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / _GB


def micro_batch(
    device: torch.device, batch: int, budget_gb: float, probe: Callable[[], None]
) -> int:
    """Largest part of `batch` whose training step fits the budget.

    Parameters
    ----------
    probe : callable
        Runs one forward and backward pass with a single item.

    Returns
    -------
    int
        A size such that accumulating ``ceil(batch / size)`` parts gives the full batch. On a CPU
        the whole batch.
    """
    if device.type != "cuda":
        return batch
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        probe()
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"one block does not fit into --gpu_mem_gb {budget_gb:g}; "
            "lower --training_size or the network's size"
        ) from error
    one = max(1, torch.cuda.max_memory_allocated(device) - before)
    fitting = int((_USABLE * budget_gb * _GB - before) // one)
    parts = math.ceil(batch / max(1, min(batch, fitting)))
    return math.ceil(batch / parts)


def explains_out_of_memory(ways: str) -> Callable[[Callable], Callable]:
    """Decorate a phase's ``train(args)`` so that running out of GPU memory is one sentence.

    Parameters
    ----------
    ways : str
        The settings of the phase that need less memory when lowered.

    Raises
    ------
    ConfigError
        In place of torch's own error, naming the budget and `ways`.
    """

    def decorate(train: Callable) -> Callable:
        @functools.wraps(train)
        def explained(args):
            try:
                return train(args)
            except torch.cuda.OutOfMemoryError as error:
                raise ConfigError(
                    f"the GPU's memory is exhausted within --gpu_mem_gb {args.gpu_mem_gb:g}; lower "
                    f"{ways}, or raise --gpu_mem_gb on a larger card"
                ) from error

        return explained

    return decorate
