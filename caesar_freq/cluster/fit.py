"""Which request fits where, and what one says about those that never will."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from caesar_freq.cluster.offer import Node, Offer, amount, parse_gres
from caesar_freq.cluster.requests import Request


def nodes_for(request: Request, offer: Offer) -> list[Node]:
    """Nodes that could run `request` when empty, whatever their present state."""
    partition = offer.partition(request.partition)
    if partition is None or not partition.up:
        return []
    if partition.minutes is not None and request.minutes > partition.minutes:
        return []
    members = [node for node in offer.nodes if partition.name in node.partitions]
    return [node for node in members if not shortage(request, node)]


def shortage(request: Request, node: Node) -> str:
    """What `node` lacks for `request`; empty if nothing."""
    wanted = parse_gres(request.gres) if request.gres else {}
    if request.gpus:
        name = f"gpu:{request.gpu_model}" if request.gpu_model else "gpu"
        wanted[name] = wanted.get(name, 0) + request.gpus
    for name, count in wanted.items():
        if node.gres.get(name, 0) < count:
            return f"{name} {amount(count)}"
    if not features_match(request.constraint, node.features):
        return f"feature {request.constraint}"
    if request.mem_mb > node.mem_mb:
        return f"{request.mem_mb} MB of memory"
    if request.cpus > node.cpus:
        return f"{request.cpus} CPUs"
    return ""


def features_match(constraint: str, features: Iterable[str]) -> bool:
    """Whether `features` satisfy a constraint of names, ``&``, ``|``, brackets and parentheses.

    For one node, SLURM's ``[a|b]`` (all nodes alike) is ``a|b``, and counts (``a*2``) mean nothing.
    """
    if not constraint:
        return True
    have = set(features)
    text = re.sub(r"\*\d+", "", constraint).replace("[", "(").replace("]", ")").replace(",", "&")
    tokens = re.findall(r"[&|()]|[^&|()\s]+", text)
    words = {"&": "and", "|": "or", "(": "(", ")": ")"}
    expression = " ".join(words.get(token) or str(token in have) for token in tokens)
    try:  # nothing but True, False, and, or and parentheses is left in it
        return bool(eval(expression, {"__builtins__": {}}))
    except SyntaxError:
        return True  # sbatch will say what is wrong with it


def never(request: Request, offer: Offer) -> str:
    """One sentence that says why no node will ever run `request`; empty if one can."""
    if nodes_for(request, offer):
        return ""
    asks = f"{request.rule} asks for {request.words()}"
    partition = offer.partition(request.partition)
    if partition is None:
        names = ", ".join(p.name for p in offer.partitions)
        return f"{asks}, but there is no such partition; the cluster has {names}"
    if not partition.up:
        return f"{asks}, but this partition takes no jobs"
    if partition.minutes is not None and request.minutes > partition.minutes:
        return f"{asks}, but this partition ends jobs after {partition.minutes} min"
    members = [node for node in offer.nodes if partition.name in node.partitions]
    shown = "; ".join(f"{n.words()} lacks {shortage(request, n)}" for n in members) or "no nodes"
    return f"{asks}, but no node can ever serve that; partition {partition.name} offers {shown}"


def table(requests: Sequence[Request], offer: Offer) -> list[str]:
    """Lines of a table: rule, attempt, what it asks for, nodes by partition."""
    lines = [f"{'rule':24} {'try':3} {'GPU':>6} {'memory':>9} {'CPUs':>4} {'time':>8}  fits on"]
    for r in requests:
        fitting = nodes_for(r, offer)
        names = " ".join(n.name + (" (not available now)" if n.away else "") for n in fitting)
        name = r.partition or getattr(offer.partition(""), "name", "")
        gpu = f"{r.gpu_mem_gb} GB" if r.gpu_mem_gb else "-"
        where = f"{name}: {names}" if names else "nowhere"
        lines.append(
            f"{r.rule:24} {r.attempt:3} {gpu:>6} {r.mem_mb:6} MB {r.cpus:4} {r.minutes:4} min  {where}"
        )
    return lines
