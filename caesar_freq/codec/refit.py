"""Tables of the entropy model fitted to the data at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from caesar_freq.codec.backend import kernels
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import Box
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.header import Header, Variable
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.portable import coding_order
from caesar_freq.codec.targets import target_of
from caesar_freq.codec.volume import LevelOverflow, VolumeCode
from caesar_freq.entropy.pmf_fit import code_lengths, fit_pmf
from caesar_freq.entropy.tables import N_BINS
from caesar_freq.transform.blocks import Transform

#: Chunks of each variable that are looked at, evenly spread, and most rows of all of them.
_CHUNKS, _ROWS = 4, 1 << 21


def refitted(
    model: FrequencyModel, header: Header, make: Callable[[Box], Chunk]
) -> FrequencyModel | None:
    """`model` with the pmf of every bin as the variables of a stream have it.

    None if they would save less than they take in the stream. Scale bins, and so all that steers decoding, stay.

    Parameters
    ----------
    header : Header
        Of a stream already coded: transforms and steps.
    make : callable
        The chunk at a place.
    """
    places = list(header.places())
    rows, looked_at, total = [], 0, sum(math.prod(place.shape) for place in places)
    for number, variable in enumerate(header.variables):
        own = [place for place in places if place.variable == number]
        for place in own[:: -(-len(own) // _CHUNKS)]:
            looked_at += math.prod(place.shape)
            rows += _rows(make(place), variable, header, model)
    if not sum(len(tables) for tables, _ in rows):
        return None
    tables, magnitudes = (np.concatenate(parts) for parts in zip(*rows))
    every = -(-len(tables) // _ROWS)
    tables, magnitudes = tables[::every], magnitudes[::every]
    dependent = model.grid_pmf is not None
    saved, pmfs = 0.0, []
    for number, old in enumerate(model.grid_pmf if dependent else [model.pmf]):
        own = tables // N_BINS == number
        bins, sizes = tables[own] % N_BINS, magnitudes[own]
        pmfs.append(fit_pmf(bins, sizes, np.ones(len(bins))) if len(bins) else old)
        saved += (code_lengths(old, bins, sizes) - code_lengths(pmfs[-1], bins, sizes)).sum()
    new = {"grid_pmf": np.stack(pmfs)} if dependent else {"pmf": pmfs[0]}
    fitted = replace(model, **new).on(model.device)
    worth = saved / 8 * every * total / looked_at > len(fitted.to_bytes())
    return fitted if worth else None


def _rows(chunk: Chunk, variable: Variable, header: Header, model: FrequencyModel) -> list:
    """Rows of tables and magnitudes of a chunk's coefficients, if it has any."""
    if chunk.constant or not variable.step_index:
        return []
    x = chunk.normalised(variable, header.double)
    encoder = PlainCoder(x, variable, model, refined=True).encoder
    at = variable.step, model.dead_zone_at(target_of(header, variable))
    if encoder.shifts(variable.step):
        return []
    try:
        if encoder.dependent:
            used, q, rows, *_ = encoder.chosen(*at)
            levels, rows = coding_order(q, rows, used, encoder.transform)
            return [(rows, np.abs(levels))]
        code = encoder.encode(*at)
    except LevelOverflow:
        return []
    coded = _coded(code, encoder.transform)
    return [(code.bins[coded], np.abs(code.levels[coded]))]


def _coded(code: VolumeCode, transform: Transform) -> np.ndarray:
    """Which coefficients have a symbol: those in front of their cell's end."""
    _, bt, bh, bw, _, _ = code.levels.shape
    shell = np.add.outer(np.add.outer(np.arange(bt), np.arange(bh)), np.arange(bw))
    ends = kernels().ends_of(code.levels)[:, None, None, None]
    return (shell[None, ..., None, None] < ends) & transform.mask
