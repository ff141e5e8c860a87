"""From a frame size and a number of parameters to a network's shape.

The rules are documented here and free for an encoder to change: a file states its network.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

from nervcodec.bitstream.syntax import MAX_CHANNELS, ModelSpec, StageSpec
from nervcodec.bitstream.tensors import parameter_count
from nervcodec.config import ModelConfig
from nervcodec.errors import TargetError

CHANNEL_REDUCTION = 1.2
LOWER_WIDTH = 6
"""Each stage has 1/1.2 of the channels of the one before, but at least 6.

HNeRV's least width is 12, at which small networks do not taper: on Bunny at 320x160 with 71 k
parameters tapering gained 0.6 dB at equal epochs, and a third of the multiplications.
"""

WIDTH_UNITS = 16
"""Widths are searched in sixteenths of a channel of the stem, so that stages grow in turn."""

MAX_KERNEL = 5
STRIDES = (5, 4, 3, 2)
MAX_COARSE_STAGES = 4
REFERENCE_CELLS = 8
"""HNeRV's embedding grid at 1280x640 is 4 x 2."""
GRID_WEIGHT = 0.01
"""Padding that a grid of twice or half as many cells is worth; grows with the square."""

EMBEDDING_SHARE = 0.25
"""At most this share of the parameters goes to the embeddings."""

DEFAULT_BITS_PER_PIXEL = 0.1
MIN_DEFAULT_PARAMS = 8_000
MAX_DEFAULT_PARAMS = 3_000_000


def default_params(width: int, height: int, frames: int) -> int:
    """Parameters that would take 0.1 bit a pixel at 8 bits each, between 8 k and 3 M."""
    wanted = round(DEFAULT_BITS_PER_PIXEL / 8 * width * height * frames)
    return min(MAX_DEFAULT_PARAMS, max(MIN_DEFAULT_PARAMS, wanted))


@cache
def _stride_plans() -> tuple[tuple[int, ...], ...]:
    """Strides that may be chosen: a few coarse steps, then up to two of 2.

    For each product the plan with the fewest coarse steps is kept, larger steps first, which
    gives HNeRV's own 5,4,4,2,2 for 1280x640 and 5,4,3,2,2 for 960x480.
    """
    best: dict[int, tuple[int, ...]] = {}
    for twos in (2, 1, 0):
        for count in range(MAX_COARSE_STAGES + 1):
            for coarse in itertools.combinations_with_replacement(STRIDES, count):
                plan = coarse + (2,) * twos
                if plan:
                    best.setdefault(math.prod(plan), plan)
    return tuple(best.values())


def choose_strides(width: int, height: int) -> tuple[int, ...]:
    """Strides for a frame size: little padding, and an embedding grid near 8 cells.

    The plan with the smallest ``padded area / area - 1 + 0.01 * log2(cells / 8)^2`` wins.
    """

    def cost(plan: tuple[int, ...]) -> tuple[float, int]:
        stride = math.prod(plan)
        cells = -(-width // stride) * -(-height // stride)
        padding = cells * stride**2 / (width * height) - 1
        return padding + GRID_WEIGHT * math.log2(cells / REFERENCE_CELLS) ** 2, len(plan)

    return min(_stride_plans(), key=cost)


def _model(
    config: ModelConfig, strides: tuple[int, ...], embedding: int, width_units: int
) -> ModelSpec:
    """The network of a given width, in units of 1/16 channel of the stem."""
    wanted = width_units / WIDTH_UNITS
    stem = max(1, round(wanted))
    lower = min(LOWER_WIDTH, stem)
    stages = []
    for index, stride in enumerate(strides):
        channels = max(round(wanted / CHANNEL_REDUCTION ** (index + 1)), lower)
        kernel = min(1 + 2 * index, MAX_KERNEL)
        stages.append(StageSpec(stride, kernel, channels, config.hfscm))
    msfrp = max(0, len(strides) - 3) if config.msfrp else None
    return ModelSpec(tuple(stages), embedding, stem, hfscm=config.hfscm_spec, msfrp_stage=msfrp)


def least_params(config: ModelConfig, width: int, height: int, frames: int) -> int:
    """Parameters and embedding values of the narrowest network."""
    narrowest = _model(config, choose_strides(width, height), 1, WIDTH_UNITS)
    return parameter_count(narrowest, width, height, frames)


def design_model(
    config: ModelConfig, params: int, width: int, height: int, frames: int
) -> ModelSpec:
    """The widest network whose exact count of parameters and embedding values is <= ``params``.

    Raises:
        TargetError: if they are less than :func:`least_params`; the message says how many.
    """
    strides = choose_strides(width, height)
    stride = math.prod(strides)
    cells = -(-width // stride) * -(-height // stride)
    affordable = int(EMBEDDING_SHARE * params) // (frames * cells)
    embedding = max(1, min(round(config.embedding_values / cells), affordable))

    def count(units: int) -> int:
        return parameter_count(_model(config, strides, embedding, units), width, height, frames)

    narrowest = least_params(config, width, height, frames)
    if narrowest > params:
        raise TargetError(
            f"{params} parameters are too few: the narrowest network for {frames} frames of "
            f"{width}x{height} has {narrowest} (--params, --keyint)"
        )
    while count(WIDTH_UNITS) > params:
        embedding -= 1
    low, high = WIDTH_UNITS, 2 * WIDTH_UNITS
    while high < MAX_CHANNELS * WIDTH_UNITS and count(high) <= params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= params else (low, middle)
    return _model(config, strides, embedding, low)
