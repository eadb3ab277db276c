"""Arrays of which the compressed files must not differ by a bit; needs no torch, as fresh processes load it."""

import numpy as np

from caesar_freq.transform.axis import KINDS


def field(shape, seed=0, dtype=np.float32):
    """A rough random walk along all axes."""
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = x.cumsum(axis)
    return (x / np.abs(x).max()).astype(dtype)


def files():
    """Array, mode, bound and options: every transform, dtype, mode and kind of chunk."""
    t, y, x = np.ogrid[0:48, 0:20, 0:30]
    waves = np.sin(0.37 * t - 0.21 * x + y / 4).astype(np.float32)
    holes = field((20, 37, 41))
    holes[3:9, 5:11, 7:20] = np.nan
    levels = np.rint(field((48, 20, 30), 10) * 400) / np.float32(400)
    forced = {
        f"{kind} {np.dtype(dtype).name}": (field((17, 35, 50), 1, dtype), "nrmse", 1e-3,
                                           {"spatial": ((kind, 16),)})
        for kind in KINDS for dtype in (np.float32, np.float64)
    }  # fmt: skip
    return forced | {
        "chosen": (field((64, 40, 44), 2), "nrmse", 1e-2, {}),
        "variables": (field((3, 2, 18, 24, 25), 3), "rel", 1e-3, {}),
        "holes": (holes, "abs", 1e-3, {}),
        "tight": (field((16, 24, 31), 4, np.float64), "rel", 1e-9, {}),
        "signs": (field((9, 20, 33), 5) - 0.1, "pw_rel", 1e-3, {}),
        "modes": (waves, "nrmse", 1e-4, {}),
        "levels": (np.rint(field((20, 30, 31), 6) * 40), "psnr", 60.0, {}),
        "most levels": (np.where(y > 13, field((48, 20, 30), 11), levels), "rel", 2e-5, {}),
        "line": (field((1, 1, 7), 7), "rel", 1e-4, {}),
        "effort 0": (field((20, 30, 31), 8), "nrmse", 3e-3, {"effort": 0}),
        "effort 3": (field((2, 1, 20, 33, 34), 9), "nrmse", 3e-3, {"effort": 3}),
    }


FILES = files()
