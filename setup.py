"""Native kernels. Where there is no C compiler the package installs without them and uses numba."""

import sys

from setuptools import Extension, setup

#: Fused multiply-adds would round otherwise than numba, numpy and torch do.
FLAGS = (
    []
    if sys.platform == "win32"
    else ["-O3", "-std=gnu11", "-Wall", "-ffp-contract=off", "-fno-strict-aliasing"]
)

setup(
    ext_modules=[
        Extension(
            "caesar_freq.kernels._native",
            sources=[
                f"caesar_freq/kernels/{name}.c"
                for name in (
                    "module",
                    "algebra",
                    "network",
                    "contexts",
                    "coder",
                    "quantise",
                    "rans",
                    "refine",
                    "dct",
                    "errors",
                    "levels",
                    "logarithms",
                    "mask",
                    "sparse",
                    "trellis",
                    "values",
                )
            ],
            depends=[
                f"caesar_freq/kernels/{name}.h"
                for name in (
                    "kernels",
                    "contexts",
                    "dependent",
                    "reconstruct",
                    "dct_of",
                    "narrow_of",
                    "wavelet_of",
                    "range_coder",
                    "integers",
                    "least_squares",
                )
            ],
            extra_compile_args=FLAGS,
            optional=True,
        )
    ]
)
