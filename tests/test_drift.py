"""What a network says on another machine: threads, layout, precision, oneDNN; bounds hold there."""

import numpy as np
import pytest
import torch
from test_generated_blocks import moving

import caesar_freq
from caesar_freq.codec import chunk
from caesar_freq.codec.checking import bound_holds
from caesar_freq.codec.pointwise import NETWORK_DRIFT, NETWORK_DRIFT_LARGEST
from caesar_freq.models.layout import Layout
from caesar_freq.models.predictor import Predictor
from caesar_freq.models.student import MotionStudent
from caesar_freq.models.wiener import Wiener


def student() -> Predictor:
    """A student with weights of the size that training leaves, alike at every call."""
    torch.manual_seed(0)
    network = MotionStudent(16, (1, 2), 1)
    with torch.no_grad():
        torch.nn.init.normal_(network.outlet[-1].weight, std=0.05)
    time = np.arange(16)
    walk = np.exp(-np.abs(time[:, None] - time) / 30).astype(np.float32)
    wiener = Wiener(np.broadcast_to(walk, (256, 16, 16)).copy())
    return Predictor(
        "student", network, wiener, Layout(channels=8), sha256="ab" * 32, source="s.pth"
    )


def in_double(network):
    network.double()
    network.register_forward_pre_hook(
        lambda _, values: tuple(
            v.double() if torch.is_tensor(v) and v.is_floating_point() else v for v in values
        )
    )


def channels_first(network):
    network.to(memory_format=torch.contiguous_format)


def perturbed_weights(network):
    with torch.no_grad():
        for weight in network.parameters():
            weight *= 1 + 1e-7 * torch.randn(weight.shape)


BOUNDS = [("nrmse", 2e-2), ("rel", 2e-2)]
STRATEGIES = ["restoration", "both"]
CHANGES = {"float64": in_double, "channels first": channels_first, "last places": perturbed_weights}


@pytest.fixture(params=[*CHANGES, "two threads", "no oneDNN"])
def elsewhere(request):
    """The same student as another machine would compute it."""
    model, threads = student(), torch.get_num_threads()
    if request.param in CHANGES:
        CHANGES[request.param](model.network)
        yield model
        return
    torch.set_num_threads(1 if threads > 1 else 2)
    with torch.backends.mkldnn.flags(enabled=request.param != "no oneDNN"):
        yield model
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def coded() -> dict:
    """What is written here, by bound and strategy."""
    with pytest.MonkeyPatch.context() as patch:
        # levels would be smaller than what an untrained network makes of the frames
        patch.setattr(chunk, "_ASK_LATTICE", np.inf)
        return {
            (*bound, strategy): caesar_freq.encode(
                moving(20), *bound, generator=student(), strategy=strategy
            )
            for bound in BOUNDS
            for strategy in STRATEGIES
        }


def block():
    x = moving(16) / 20
    noise = np.full((1, 16), 0.01, np.float32)
    return x[None].astype(np.float32), noise


def test_drift_is_far_below_the_margins(elsewhere):
    frames, noise = block()
    noise[:, 1:15:2] = np.inf
    here = student().restore(frames, noise, 0.03)
    drift = elsewhere.restore(frames, noise, 0.03).astype(np.float64) - here
    assert np.abs(here - frames).max() > 1e-2  # the network does something
    assert np.abs(drift).max() < NETWORK_DRIFT_LARGEST / 3
    assert np.sqrt(np.mean(drift**2)) < NETWORK_DRIFT / 3


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode, bound", BOUNDS)
def test_bounds_hold_elsewhere(coded, elsewhere, strategy, mode, bound):
    decoded = caesar_freq.decode(coded[mode, bound, strategy], generator=elsewhere)
    assert bound_holds(moving(20), decoded, mode, bound)


def test_convolutions_never_run_in_tf32():
    model, seen = student(), []
    model.network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    model.restore(*block(), 0.03)
    assert seen and not any(seen)
