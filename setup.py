"""Native kernels. Where there is no C compiler the package installs without them and uses numba."""

import sys

from setuptools import Extension, setup

FLAGS = [] if sys.platform == "win32" else ["-O3", "-std=gnu11", "-Wall"]

setup(
    ext_modules=[
        Extension(
            "caesar_freq.kernels._native",
            sources=[
                f"caesar_freq/kernels/{name}.c"
                for name in ("module", "network", "coder", "quantise", "refine", "dct", "errors", "sparse")
            ],
            depends=["caesar_freq/kernels/kernels.h", "caesar_freq/kernels/dct_of.h"],
            extra_compile_args=FLAGS,
            optional=True,
        )
    ]
)
