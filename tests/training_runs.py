"""Flags of tiny networks, and travelling waves for them to learn."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from caesar_freq.codec.model import FrequencyModel
from caesar_freq.models.wiener import WienerFit

SMALL = ("--training_size", "32", "--low_freq_size", "2", "--latent_channels", "8",
         "--batch_size", "2", "--device", "cpu", "--epochs", "1000", "--evaluations", "2",
         "--checkpoint_every", "2")  # fmt: skip
TEACHER = ("--unet_dim", "8", "--dim_mults", "1", "2", "--diffusion_steps", "8",
           "--interpo_rate", "3", "--n_frame", "7")  # fmt: skip
STUDENT = ("--student_base_channels", "8", "--student_channel_mults", "1", "2",
           "--student_num_res_blocks", "1", "--teacher_steps", "8")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from threads, and lose much when the machine is busy."""
    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(threads)
    os.environ.pop("OMP_NUM_THREADS")
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable


def drifting(seed, frames=40, size=32):
    """A pattern that drifts two cells a frame: easy for a network that knows motion."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    ky, kx = np.fft.fftfreq(size)[:, None] * size, np.arange(size // 2 + 1)
    spectrum *= np.exp(-(ky**2 + kx**2) / 30)
    pattern = np.fft.irfft2(spectrum)
    return np.stack([np.roll(pattern, (2 * t, t), (0, 1)) for t in range(frames)])


def tensors_of_base():
    """The packaged frequency model as phase 1 stores it."""
    state = FrequencyModel.base().state_dict()
    return {k: torch.from_numpy(v.astype(np.int32 if v.dtype == np.uint32 else v.dtype))
            for k, v in state.items()}  # fmt: skip


def wiener_of(layout, block):
    fit = WienerFit(layout)
    fit.add(block)
    return fit.solve()
