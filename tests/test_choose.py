"""The choice of a transform: its descent, the cells that it codes, and what it says of the error."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from test_search import field

import caesar_freq
from caesar_freq.codec import candidates, choose
from caesar_freq.codec.cells import CellSubset
from caesar_freq.codec.effort import EFFORTS
from caesar_freq.codec.header import Header
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.spectra import Spectra
from caesar_freq.codec.volume_encoder import VolumeEncoder
from caesar_freq.kernels.errors import compare
from caesar_freq.transform.axis import near_equal_sizes
from caesar_freq.transform.blocks import Transform

STEP, DEAD_ZONE = 4e-3, 0.6


@pytest.mark.parametrize(
    "frames", [1, 3, 4, 5, 16, 17, 32, 33, 48, 64, 65, 128, 129, 256, 500, 1500]
)
def test_no_two_time_blocks_cut_alike_and_none_is_missing(frames):
    cuts = [tuple(near_equal_sizes(frames, t)) for t in candidates.time_blocks(frames)]
    assert len(set(cuts)) == len(cuts)
    assert set(cuts) == {tuple(near_equal_sizes(frames, t)) for t in candidates.TIME_BLOCKS}


@pytest.mark.parametrize("kind", ["dct", "lot", "haar", "cdf97"])
@pytest.mark.parametrize("height", [20, 64, 101])
def test_cells_are_those_of_the_whole_and_cost_their_part(kind, height):
    x, model = field((16, height, 70), 2).astype(np.float32), FrequencyModel.base()
    whole = Transform(x.shape, 16, 8, kind)
    planes, part = whole.forward(x), CellSubset(whole, 32)
    own = part.of(planes)
    assert own.shape == part.planes_shape and part.n_coefficients == sum(
        int(whole.mask[..., r, :].sum()) for r in range(planes.shape[4]) if r in part._kept
    )
    # rows of 8 come in groups of the large cells that they lie in, every second of which is taken
    assert (np.diff(part._kept).max() > 1) == (height == 101)
    assert len(part._kept) < planes.shape[4] or height == 20
    bits = [
        len(VolumeEncoder.of_planes(p, t, model, True).encode(STEP, DEAD_ZONE).data)
        for p, t in ((planes, whole), (own, part))
    ]
    assert bits[1] / bits[0] == pytest.approx(own.size / planes.size, rel=0.2)


@pytest.mark.parametrize("step", [0.03, 4e-3, 3e-4])
def test_bits_are_estimated_to_a_third_and_priced_to_a_hundredth(step):
    x, model = field((32, 96, 96), 2).astype(np.float32), FrequencyModel.base()
    x = (x - x.mean()) / np.ptp(x)
    spectra, key = choose.Spectra(x), (("lot", 16), 16)
    trial = choose._Trial(spectra, step, DEAD_ZONE, model, EFFORTS[2], True, 32)
    encoder = VolumeEncoder(x, spectra.transform(*key), model, True)
    code = encoder.encode(step, DEAD_ZONE)
    bits, error = encoder.priced(step, DEAD_ZONE)
    # the state of rANS, and what says how long the ends are
    assert 0 <= 8 * len(code.data) - bits <= 96 + 0.005 * bits
    assert error == encoder.coefficient_error(code, step)
    assert trial.guess(*key) == pytest.approx(bits, rel=0.33)


@pytest.mark.parametrize("ratio", [False, True])
def test_a_transform_that_nothing_comes_near_is_coded_only_for_its_ratio(monkeypatch, ratio):
    coded, seen = [], choose._Trial._cost
    monkeypatch.setattr(
        choose._Trial, "_cost", lambda self, *key: coded.append(key) or seen(self, *key)
    )
    x, model = field((16, 64, 64), 2), FrequencyModel.base()
    found = choose.choose_transform(
        x / np.ptp(x), 4e-3, DEAD_ZONE, model, (("dct", 8),), refined=True, ratio=ratio
    )
    assert found.time_block == 16 and len(coded) == ratio
    assert (found.ratio != 1) == ratio


def test_spectra_that_are_not_coded_are_given_back_first(monkeypatch):
    """They are most of the memory of a choice."""
    x, model, held = field((32, 64, 64), 2), FrequencyModel.base(), []
    x /= np.ptp(x)
    spectra, seen = Spectra(x), choose._Trial._cost
    monkeypatch.setattr(
        choose._Trial, "_cost",
        lambda self, *key: held.append(len(spectra._made)) or seen(self, *key),
    )  # fmt: skip
    found = choose.choose_transform(x, 0.05, DEAD_ZONE, model, refined=True, spectra=spectra)
    assert held and max(held) < 4
    again = spectra.of(("dct", 32))  # made anew
    np.testing.assert_array_equal(again, Transform(x.shape, 1, 32, "dct").forward(x))
    assert found == choose.choose_transform(x, 0.05, DEAD_ZONE, model, refined=True)


@pytest.mark.parametrize(
    ("shape", "largest"),
    [((1, 1, 5000), 512), ((1, 700, 600), 256), ((4, 300, 300), 128), ((16, 100, 300), 64),
     ((32, 256, 256), 0), ((1, 40, 30), 64), ((1, 1, 20), 0), ((128, 1, 400), 512)],
)  # fmt: skip
def test_larger_cells_are_for_few_frames_or_rows(shape, largest):
    assert max((cell for _, cell in candidates.larger_cells(shape)), default=0) == largest


@pytest.mark.parametrize(("shape", "times"), [((1, 1, 30000), 1.4), ((1, 400, 400), 1.2)])
def test_smooth_rows_and_frames_take_fewer_bytes_in_larger_cells(shape, times):
    rng = np.random.default_rng(4)
    x = gaussian_filter(rng.standard_normal(shape), [0, *(40 * (n > 1) for n in shape[1:])])
    x = (x / np.ptp(x)).astype(np.float32)
    data = caesar_freq.encode(x, "nrmse", 1e-2)
    (variable,) = Header.unpack(data)[0].variables
    assert variable.cell > 32
    assert times * len(data) < len(caesar_freq.encode(x, "nrmse", 1e-2, spatial=(("lot", 32),)))
    error = caesar_freq.decode(data).astype(np.float64) - x
    assert np.sqrt(np.mean(error**2)) <= 1e-2 * np.ptp(x)


def test_the_descent_finds_the_least_guess_of_a_bowl_without_looking_at_all():
    asked, times = [], list(candidates.TIME_BLOCKS)

    def guess(spatial, time_block):
        asked.append((spatial, time_block))
        kind, cell = spatial
        return abs(times.index(time_block) - 4) + abs(np.log2(cell) - 5) + (kind == "dct")

    choose._descend(guess, candidates.SPATIAL, times)
    assert (("lot", 32), 64) in asked and len(set(asked)) < 14


def test_the_error_of_a_transform_that_is_not_orthonormal_is_that_of_its_values():
    x = field((16, 64, 64), 4).astype(np.float32)
    x = (x - x.mean()) / np.ptp(x)
    model, effort = FrequencyModel.base(), replace(EFFORTS[3], finalists=1)
    found = choose.choose_transform(x, STEP, DEAD_ZONE, model, (("cdf97", 16),), effort, True)
    encoder = VolumeEncoder(x, Transform(x.shape, found.time_block, 16, "cdf97"), model, True)
    code = encoder.encode(STEP, DEAD_ZONE)
    plain = choose.RoundingModel(encoder.histogram(), encoder.size, DEAD_ZONE)
    coefficients = encoder.coefficient_error(code, STEP)
    values = compare(x, encoder.decoded(code, STEP))[1]
    rounded = plain.error(choose.step_index(STEP))
    assert found.ratio == pytest.approx(np.sqrt(values / x.size) / rounded, rel=1e-4)
    assert abs(coefficients / values - 1) > 0.01


def test_only_the_highest_effort_looks_at_wavelets(monkeypatch):
    kinds = []
    seen = Transform.forward
    monkeypatch.setattr(
        Transform, "forward", lambda self, *a: kinds.append(self.kind) or seen(self, *a)
    )
    x, model = field((8, 32, 32)).astype(np.float32), FrequencyModel.base()
    for effort in EFFORTS:
        kinds.clear()
        choose.choose_transform(x, 1e-3, DEAD_ZONE, model, effort=effort)
        assert ({"haar", "cdf97"} <= set(kinds)) == effort.exhaustive


@pytest.mark.parametrize(
    ("shape", "bound", "times"), [((3000, 2, 12), 1e-3, 1.2), ((3000, 4, 4), 1e-2, 1.5)]
)
def test_long_series_take_long_blocks(shape, bound, times, monkeypatch):
    t, rng = np.arange(shape[0])[:, None, None], np.random.default_rng(3)
    day = 10 * np.sin(2 * np.pi * t / 24 + rng.uniform(0, 6.3, shape[1:]))
    noise = gaussian_filter(rng.standard_normal(shape), (2, 0, 0))
    x = (day + 3 * np.sin(2 * np.pi * t / 1900 + rng.uniform(0, 6.3, shape[1:])) + noise).astype(
        np.float32
    )
    data = caesar_freq.encode(x, "nrmse", bound)
    assert caesar_freq.info(data)["transforms"][0]["time_block"] > 128
    after = caesar_freq.decode(data, frames=(1500, 1510))
    np.testing.assert_array_equal(after, caesar_freq.decode(data)[1500:1510])
    monkeypatch.setattr(candidates, "TIME_BLOCKS", candidates.TIME_BLOCKS[:6])
    assert len(caesar_freq.encode(x, "nrmse", bound)) > times * len(data)


def test_long_blocks_give_way_to_large_cells():
    """Of blocks that may not be larger some are long and some are wide; the way between leads past others."""
    asked = []

    def guess(spatial, time_block):
        asked.append((spatial, time_block))
        if time_block * spatial[1] ** 2 > 1 << 17:
            return np.inf
        return {16: 1.2, 32: 0.9}.get(spatial[1], 2.0) * {256: 1.0, 128: 1.1, 64: 1.2}.get(
            time_block, 3.0
        )

    choose._descend(guess, candidates.SPATIAL, [1, 4, 16, 32, 64, 128, 256, 512])
    assert (("lot", 32), 128) in asked


@pytest.mark.parametrize(("side", "chosen"), [(128, ("cdf97", 16)), (96, ("dct", 32))])
def test_plumes_in_still_air_may_take_the_wavelet(side, chosen):
    """But only where it is better than all others, also than those that a descent may pass by."""
    t, y, x = np.ogrid[:32, :side, :side]
    start, middle = (20, 64) if side == 128 else (12, 48)
    plume = np.exp(-((x - start - 2 * t) ** 2 + (y - middle) ** 2) / (20.0 + 8 * t))
    plume = plume * (1 + 0.3 * np.sin(y / 2))
    plume = np.where(plume > 1e-4, plume, 0).astype(np.float32)
    data = caesar_freq.encode(plume, "rel", 1e-3)
    found = caesar_freq.info(data)["transforms"][0]
    assert (found["kind"], found["cell"]) == chosen
    others = {
        s: len(caesar_freq.encode(plume, "rel", 1e-3, spatial=(s,))) for s in candidates.SPATIAL
    }
    assert len(data) <= min(others.values())


def test_still_air_is_told_from_weather():
    still, rough = np.zeros((16, 64, 64), np.float32), field((16, 64, 64), 2).astype(np.float32)
    still[:, 20:40] = rough[:, 20:40]
    assert choose._quiet(still, 1e-3 * np.ptp(rough))
    assert not choose._quiet(rough, 1e-3 * np.ptp(rough))
