"""The kernels of nervcodec/fast, which setup.cfg cannot name; everything else is there."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "nervcodec.fast._kernels",
            ["nervcodec/fast/kernels.c"],
            depends=[
                "nervcodec/fast/correlate.h",
                "nervcodec/fast/kernels.h",
                "nervcodec/fast/layers.h",
                "nervcodec/fast/threads.h",
                "nervcodec/fast/training.h",
            ],
            # errno and floating-point exceptions, which nobody reads, hinder vectors.
            extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math"],
            optional=True,  # without a compiler torch evaluates the networks
        )
    ]
)
