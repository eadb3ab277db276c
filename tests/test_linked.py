"""Chunks predicted from the section before: what they save, what they need, what damages them."""

from dataclasses import replace

import google_crc32c
import numpy as np
import pytest

import caesar_freq
from caesar_freq.codec import large
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.chunks import boxes
from caesar_freq.codec.container import Container
from caesar_freq.codec.header import Header
from caesar_freq.codec.layout import DEPENDENT, LINKED, N_BETAS, VOLUME
from caesar_freq.codec.linked import (
    RUN,
    SectionCoder,
    carried,
    cross_prediction,
    fit_betas,
    link_classes,
)
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import fit_alphas, frequency_classes
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.data.simulated import random_field
from caesar_freq.errors import CorruptStreamError
from caesar_freq.transform.blocks import Transform


def levels_field(sections=3, shape=(20, 40, 56), unlike=0.1):
    """Sections ``[1, S, T, H, W]`` that share most of what they hold, like depths of a sea."""
    common = random_field(shape, 1, 4.0)
    own = [random_field(shape, 10 + s, 4.0) for s in range(sections)]
    return np.stack([common * (1 - 0.03 * s) + unlike * o for s, o in enumerate(own)])[None]


def kinds(data: bytes) -> list[int]:
    stream = Container(data)
    return [stream.kind(n) for n in range(len(stream.header.chunks))]


@pytest.mark.parametrize("mode, bound", [("nrmse", 1e-2), ("nrmse", 1e-3), ("rel", 1e-2),
                                         ("abs", 0.02), ("psnr", 55.0)])  # fmt: skip
def test_alike_sections_save_bytes_and_keep_the_bound(mode, bound):
    x = levels_field()
    data = caesar_freq.encode(x, mode, bound)
    assert kinds(data) == [VOLUME, LINKED, LINKED]
    apart = sum(len(caesar_freq.encode(x[:, s : s + 1], "abs", 1e-2)) for s in range(3))
    together = len(caesar_freq.encode(x, "abs", 1e-2))
    assert together < 0.85 * apart
    assert bound_holds(x[0], caesar_freq.decode(data)[0], mode, bound)
    streams = caesar_freq.info(data)
    assert sum(streams["bytes_by_stream"].values()) == len(data)
    assert streams["modes_used"] == {"plain": 20, "linked": 40}


def test_missing_values_double_precision_and_logarithms_are_linked_too():
    x = levels_field().astype(np.float64)
    holes = x.copy()
    holes[..., 5:20, 10:30] = np.nan
    for array, mode, bound in (
        (x, "rel", 1e-4),
        (holes, "nrmse", 3e-3),
        (np.exp(x), "pw_rel", 0.03),
    ):
        data = caesar_freq.encode(array, mode, bound)
        assert LINKED in kinds(data)
        assert bound_holds(array[0], caesar_freq.decode(data)[0], mode, bound)


def test_sections_without_anything_in_common_stand_alone():
    x = np.stack([random_field((16, 32, 32), s, 3.0) for s in (1, 2)])[None]
    assert kinds(caesar_freq.encode(x, "nrmse", 1e-3)) == [VOLUME, VOLUME]


def test_sections_use_the_dependent_quantiser_unless_one_grid_is_smaller():
    def quantisers(bound, **options):
        stream = Container(caesar_freq.encode(levels_field(), "nrmse", bound, **options))
        return {stream.chunk(n)[1] & DEPENDENT for n in range(3) if stream.kind(n) == VOLUME}

    base = FrequencyModel.base()
    one_grid = replace(base, grid_pmf=None, grid_centroid=None)
    assert quantisers(1e-3) == {DEPENDENT}
    assert quantisers(1e-3, model=one_grid, embed_model=False) == {0}
    # sections that are the same have nothing left to code
    x = np.repeat(levels_field(1), 3, axis=1)
    sizes = [
        len(caesar_freq.encode(x, "nrmse", 1e-2, model=model, embed_model=False))
        for model in (base, one_grid)
    ]
    assert sizes[0] <= sizes[1]


def test_runs_are_short_and_any_part_decodes_alone():
    x = levels_field(sections=RUN + 3, shape=(8, 24, 32))
    data = caesar_freq.encode(x, "nrmse", 1e-3)
    alone = [n for n, kind in enumerate(kinds(data)) if kind != LINKED]
    assert alone == [0, RUN]
    whole = caesar_freq.decode(data, threads=2)
    for section in (0, 3, RUN - 1, RUN, RUN + 2):
        part = caesar_freq.decode(data, sections=section, frames=(2, 5), rows=(3, 20))
        np.testing.assert_array_equal(part[:, 0], whole[:, section, 2:5, 3:20])


def test_bytes_do_not_depend_on_threads():
    x = levels_field(sections=5)
    assert caesar_freq.encode(x, "nrmse", 1e-3, threads=1) == caesar_freq.encode(
        x, "nrmse", 1e-3, threads=4
    )


def test_damage_is_reported_where_it_is_and_reaches_no_further_than_the_run():
    x = levels_field(sections=RUN + 2, shape=(8, 24, 32))
    data = bytearray(caesar_freq.encode(x, "nrmse", 1e-3))
    whole = caesar_freq.decode(bytes(data))
    stream = Container(bytes(data))
    data[stream.head_size + stream.header.chunks[0][0] + 40] ^= 1  # in the chunk of section 1
    damaged = bytes(data)
    with pytest.raises(CorruptStreamError, match=r"chunk 1 \(.*section 1"):
        caesar_freq.decode(damaged, sections=1)
    with pytest.raises(CorruptStreamError, match="chunk 2 .* refers to chunk 1 .*damaged"):
        caesar_freq.decode(damaged, sections=2)
    for section in (0, RUN, RUN + 1):
        np.testing.assert_array_equal(
            caesar_freq.decode(damaged, sections=section)[:, 0], whole[:, section]
        )


def test_a_first_section_that_refers_to_another_is_damage():
    stream = Container(caesar_freq.encode(levels_field(), "nrmse", 1e-2))
    bodies = [stream.chunk(n) for n in range(3)]
    for wrong in ([bodies[1], bodies[1], bodies[2]], [b"\0" + bytes(8), bodies[1], bodies[2]]):
        stream.header.chunks = [(len(b), google_crc32c.value(b)) for b in wrong]
        with pytest.raises(CorruptStreamError, match="cannot|can refer"):
            caesar_freq.decode(stream.header.pack() + b"".join(wrong))


def test_a_section_that_refers_to_one_of_another_transform_is_damage():
    """In a joined stream every part has its own transform, and levels of another do not fit."""
    x = levels_field(2, (8, 16, 24))
    heads, bodies = [], []
    for spatial in ("lot", 8), ("dct", 16):
        data = caesar_freq.encode(x, "nrmse", 1e-2, spatial=(spatial,))
        assert kinds(data) == [VOLUME, LINKED]
        stream = Container(data)
        heads.append(stream.header)
        bodies.append(bytes(stream.chunk(len(bodies))))
    table = [(len(body), google_crc32c.value(body)) for body in bodies]
    variables = [head.variables[0] for head in heads]
    head = replace(heads[0], chunks=table, variables=variables, runs=[1, 1]).pack()
    with pytest.raises(CorruptStreamError, match="chunk 1 .* another part"):
        caesar_freq.decode(head + b"".join(bodies))


def test_arithmetic_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    innovation = rng.integers(-999, 999, (3, 5, 8, 8, 2, 3)).astype(np.int32)
    betas, alphas = rng.integers(-127, 128, N_BETAS), np.array([64, 50, 40, 30, 0, 7])
    classes, spatial = link_classes(5, 8, 8), frequency_classes(8, 8)
    cross = cross_prediction(innovation, betas)
    whole = carried(cross, alphas)
    for _ in range(200):
        t, i, j, k, y, x = (rng.integers(n) for n in innovation.shape)
        beta = int(betas[classes[i, j, k] + (t > 0) * N_BETAS // 2])
        own = (beta * int(innovation[t, i, j, k, y, x]) + 32) // 64
        assert cross[t, i, j, k, y, x] == own
        passed = (int(alphas[spatial[j, k]]) * int(whole[t - 1, 0, j, k, y, x]) + 32) // 64
        assert whole[t, i, j, k, y, x] == own + (passed if t and i == 0 else 0)


def test_factors_are_those_that_made_the_second_section():
    model, shape = FrequencyModel.base(), (40, 32, 32)
    transform = Transform(shape, 16, 16, "dct")
    first = VolumeEncoder(random_field(shape, 3, 3.0), transform, model)
    second = VolumeEncoder(random_field(shape, 3, 3.0) * np.float32(-0.75), transform, model)
    assert fit_alphas(first.planes, first.classes).any(), "or past and section are not told apart"
    innovation = SectionCoder(first).innovation(0.02, 0.5)
    betas = fit_betas(second, innovation, 0.02)
    assert set(betas[betas != 0]) <= {-47, -48, -49} and (betas != 0).sum() > N_BETAS // 2
    linked = SectionCoder(second, SectionCoder(first)).code(0.02, 0.5)
    assert len(linked.data) < 0.4 * len(SectionCoder(second).code(0.02, 0.5).data)


def test_boxes_of_sections_lie_as_far_apart_as_links_assume():
    from caesar_freq.codec.links import chunks_per_section

    shape = (2, 3, 300, 700, 600)
    header = Header(shape, np.dtype("f4"), "nrmse", 1e-2, False, [])
    distance, places = chunks_per_section(header), list(boxes(shape))
    for n, box in enumerate(places):
        if box.section:
            before = places[n - distance]
            assert (before.variable, before.section) == (box.variable, box.section - 1)
            assert before.index[2:] == box.index[2:]


def test_kernels_in_torch_link_to_the_same_bytes():
    x, model = levels_field(2, (8, 16, 24)), FrequencyModel.base()
    data = caesar_freq.encode(x, "nrmse", 1e-2)
    assert LINKED in kinds(data)
    assert caesar_freq.encode(x, "nrmse", 1e-2, model=model.on("cpu")) == data
    np.testing.assert_array_equal(
        caesar_freq.decode(data, model=model.on("cpu")), caesar_freq.decode(data)
    )


@pytest.mark.parametrize("mode, bound", [("nrmse", 1e-2), ("rel", 1e-2)])
def test_variables_above_the_size_held_in_memory_are_linked_where_a_pair_gains(
    monkeypatch, mode, bound
):
    x = levels_field()
    unlike = levels_field(unlike=3.0)
    data = caesar_freq.encode(x, mode, bound)
    monkeypatch.setattr(large, "EXACT_BYTES", 1000)
    assert caesar_freq.encode(x, mode, bound) == data
    assert LINKED not in kinds(caesar_freq.encode(unlike, mode, bound))
    monkeypatch.setattr(large, "LINKED_BYTES", 1000)
    assert LINKED not in kinds(caesar_freq.encode(x, mode, bound))
