"""Torch writes and reads the bytes of the C kernels: on the processor, and on a GPU where there is one."""

import numpy as np
import pytest
import torch
from bit_files import FILES, field

import caesar_freq
from caesar_freq.codec.backend import codec_device, kernels
from caesar_freq.codec.container import Container
from caesar_freq.codec.decoder import decode_array
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.quantise import fit_alphas, frequency_classes
from caesar_freq.codec.torch_contexts import Contexts
from caesar_freq.codec.volume import decode_volume, encode_levels
from caesar_freq.entropy.network import bins_reference
from caesar_freq.errors import CaesarError, CorruptStreamError, InputError
from caesar_freq.transform.blocks import Transform

GPU = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
)
DEVICES = ["cpu", GPU]
BASE = FrequencyModel.base()
#: Time block, cell and kind of volumes of odd shapes, and how many steps their largest value has.
VOLUMES = [
    ((33, 40, 52), 16, 16, "lot", 100), ((5, 7, 9), 16, 8, "dct", 1e6), ((1, 1, 70), 16, 8, "dct", 9),
    ((64, 24, 24), 64, 8, "haar", 1000), ((16, 65, 33), 16, 32, "cdf97", 30), ((1, 1, 1), 16, 8, "dct", 3),
    ((2, 70, 140), 2, 128, "dct", 300),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FILES)
def test_files_are_the_same(device, name):
    array, mode, bound, options = FILES[name]
    expected = caesar_freq.encode(array, mode, bound, **options)
    found = caesar_freq.encode(array, mode, bound, model=BASE.on(device), threads=2, **options)
    assert found == expected
    decoded = decode_array(Container(expected), device=device, threads=2)
    assert decoded.tobytes() == caesar_freq.decode(expected).tobytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, time_block, cell, kind, steps", VOLUMES)
def test_every_kernel_has_the_same_bits(device, dtype, shape, time_block, cell, kind, steps):
    transform, x = Transform(shape, time_block, cell, kind), field(shape, 11, dtype)
    host, torch_kernels = kernels(), kernels(device)
    planes = host.forward(transform, x)
    classes = frequency_classes(*planes.shape[2:4])
    alphas = fit_alphas(planes, classes)
    q, _ = host.quantise(planes, 1 / steps, 0.6, alphas, classes)
    used = host.ends_of(q)
    bins, state, words = host.encode_blocks(q, used, transform, BASE)
    arguments = (bins, 1 / steps, alphas, classes, BASE.centroid)
    restored, found = np.empty_like(planes), np.full_like(planes, np.nan)
    host.dequantise(q, *arguments, restored)
    torch_kernels.dequantise(q, *arguments, found)
    before = planes.copy()
    pairs = [
        (torch_kernels.forward(transform, x), planes),
        (torch_kernels.inverse(transform, planes), host.inverse(transform, planes.copy())),
        (torch_kernels.quantise(planes, 1 / steps, 0.6, alphas, classes)[0], q),
        (torch_kernels.ends_of(q), used),
        (torch_kernels.scale_bins(q, used, transform, BASE), bins),
        (found, restored),
        (planes, before),
    ]
    for one, other in pairs:
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    coded = torch_kernels.encode_blocks(q, used, transform, BASE)
    assert coded[0].tobytes() == bins.tobytes() and coded[1] == state
    assert coded[2].tobytes() == words.tobytes()
    back = torch_kernels.decode_blocks(used, state, words, transform, BASE)
    assert back[0].tobytes() == q.tobytes() and back[1].tobytes() == bins.tobytes()
    assert back[2:] == host.decode_blocks(used, state, words, transform, BASE)[2:]
    # q as values of the dependent quantiser; its levels are chosen by the host
    bins, state, words = host.encode_blocks(q, used, transform, BASE, True)
    coded = torch_kernels.encode_blocks(q, used, transform, BASE, True)
    assert coded[0].tobytes() == bins.tobytes() and coded[1] == state
    assert coded[2].tobytes() == words.tobytes()
    back = torch_kernels.decode_blocks(used, state, words, transform, BASE, True)
    expected = host.decode_blocks(used, state, words, transform, BASE, True)
    assert [a.tobytes() for a in back[:2]] == [a.tobytes() for a in expected[:2]]
    assert back[2:] == expected[2:]


@pytest.mark.parametrize("device", DEVICES)
def test_a_level_that_does_not_fit_is_noticed(device):
    classes = frequency_classes(1, 1)
    for value in (1e12, np.nan):
        planes = np.zeros((2, 1, 1, 1, 2, 2))
        planes[1, ..., 0, 1] = value
        assert not kernels(device).quantise(planes, 1.0, 0.5, np.zeros(6, np.int64), classes)[1]


def reordered(model, rng):
    """The same network with hidden units in another order: all sums run in another order."""
    first, second = rng.permutation(16), rng.permutation(16)
    return FrequencyModel(
        model.w1[:, first], model.b1[first], model.w2[first][:, second], model.b2[second],
        model.w3[second], model.b3, model.pmf, model.centroid, model.dead_zone,
    )  # fmt: skip


def extreme(rng):
    """The largest weights there are, and sums of the first layer close to their limit of 2**24."""
    w1, w2, w3 = (rng.choice([-127, 127], shape) for shape in ((24, 16), (16, 16), 16))
    b1 = np.where(np.arange(16) % 2, 0, 2**24 - 1 - 127 * 127 * 24)
    nothing = np.zeros(16, int)
    return FrequencyModel(
        w1, b1, w2, nothing, w3, nothing[:1], BASE.pmf, BASE.centroid, BASE.dead_zone
    )


@pytest.mark.parametrize("device", DEVICES)
def test_the_network_gives_the_same_bins_in_any_order_and_dtype(device):
    rng = np.random.default_rng(0)
    transform = Transform((16, 24, 24), 16, 8)
    types = [torch.float32, torch.float64] + [torch.int64] * (device == "cpu")
    for model in (BASE, extreme(rng)):
        rows = rng.integers(0, 128, (500, 24))
        rows[:, 15:22] = 0
        expected = bins_reference(
            rows, tuple(getattr(model, n) for n in ("w1", "b1", "w2", "b2", "w3", "b3"))
        )
        assert len(np.unique(expected)) > 1
        local = rows[:, [*range(15), 22, 23]]
        for variant in (model, reordered(model, rng), reordered(model, rng)):
            for dtype in types:
                contexts = Contexts(transform, variant, device, dtype)
                features = torch.as_tensor(local).to(device, dtype)
                bias = torch.as_tensor(variant.b1).to(device, dtype)
                for part in (slice(None), slice(0, 1), slice(3, 500, 7)):
                    found = contexts._network(features[part], bias).cpu().numpy()
                    assert np.array_equal(found, expected[part])
        if device == "cpu":
            # products of bfloat16 factors added in float32, one by one, as tensor cores do
            order = rng.permutation(17)
            w1 = torch.as_tensor(model.network[0]).bfloat16()
            total = torch.as_tensor(model.b1).float()
            for i in order:
                total = (
                    total + torch.as_tensor(local[:, i, None]).bfloat16().float() * w1[i].float()
                )
            exact = local @ model.network[0].astype(np.int64) + model.b1
            assert np.array_equal(total.numpy(), exact)


@pytest.mark.parametrize("device", DEVICES)
def test_damaged_streams_are_refused_or_decode_as_on_the_host(device):
    x = field((16, 24, 30), 12)
    transform = Transform(x.shape)
    host = kernels()
    planes = host.forward(transform, x)
    classes = frequency_classes(*planes.shape[2:4])
    alphas = fit_alphas(planes, classes)
    q, _ = host.quantise(planes, 0.01, 0.6, alphas, classes)
    data = encode_levels(q, alphas, transform, BASE).data
    rng = np.random.default_rng(0)
    for _ in range(15):
        bad = bytearray(data)
        bad[rng.integers(len(bad) // 2, len(bad))] = rng.integers(256)
        results = []
        for model in (BASE, BASE.on(device)):
            try:
                results.append(
                    decode_volume(bytes(bad), 0.01, transform, model, np.float32).tobytes()
                )
            except CorruptStreamError as error:
                results.append(str(error))
        assert results[0] == results[1]


def test_devices_are_named_and_refused_in_clear_words(tmp_path):
    assert codec_device(None) is codec_device("cpu") is codec_device("auto") is None
    with pytest.raises(InputError, match="choose auto, cpu, cuda"):
        caesar_freq.encode(np.zeros((4, 8)), device="gpu")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    for call in (
        caesar_freq.encode,
        lambda x, device: caesar_freq.decode(caesar_freq.encode(x), device=device),
    ):
        with pytest.raises(
            CaesarError, match="needs a CUDA device and there is none; use --device cpu"
        ):
            call(np.ones((4, 8)), device="cuda")


@pytest.mark.parametrize("device", [GPU])
def test_the_caller_may_name_the_gpu(device):
    x = field((32, 64, 64), 13)
    data = caesar_freq.encode(x, "nrmse", 1e-3)
    assert caesar_freq.encode(x, "nrmse", 1e-3, device=device) == data
    assert np.array_equal(caesar_freq.decode(data, device=device), caesar_freq.decode(data))
