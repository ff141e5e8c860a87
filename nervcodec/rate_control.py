"""From a frame size and a number of parameters to a network's shape.

The rules are documented here and free for an encoder to change: a file states its network.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from nervcodec.bitstream.syntax import (
    MAX_CHANNELS,
    DetailSpec,
    HfscmSpec,
    ModelSpec,
    StageSpec,
    TimeSpec,
    TransformerSpec,
)
from nervcodec.bitstream.tensors import Limits, check_limits, parameter_count
from nervcodec.config import E_NERV, HNERV, NERV, REFERENCE_RATE_WEIGHT, ModelConfig
from nervcodec.errors import TargetError, UnsupportedError, UsageError
from nervcodec.segments import SegmentPlan, share_params

CHANNEL_REDUCTION = 1.2
LOWER_WIDTH = 6
"""HNeRV's stages have 1/1.2 of the channels of the one before; ours at least 6.

HNeRV's least width is 12, at which small networks do not taper: on Bunny at 320x160 with 71 k
parameters tapering gained 0.6 dB at equal epochs, and a third of the multiplications.
"""

SMALL_FRAME, TAPER_GROWTH, LARGEST_TAPER = 352 * 288, 1 / 7, 2.0
"""Frames of more pixels taper more, by this power of how many times as many: nearly all work is in
the last stages, and few of the parameters. On Bunny at 640x320 with 400 k, tapers of 1.4 and 1.7,
without HFSCM in the stage before the last, took 0.47 and 0.32 of the time of 1.2 with it and were
as good at equal bytes after 10 epochs; in equal time 1.7 was 1.5 dB ahead. At 320x160 a taper of
1.5 lost 0.7 dB at equal epochs, and saved a quarter of the time."""

LARGEST_HFSCM_MAP = 40_000
"""Rows times columns of the map that HFSCM works on, beyond which a stage does without."""

WIDTH_UNITS = 16
"""Widths are searched in sixteenths of a channel of the stem, so that stages grow in turn."""

FIRST_BILINEAR = 1
"""The first stage keeps its PixelShuffle: it costs little there, and gives places their own code.
On carphone 0.2 dB at equal bytes."""

NERV_KERNEL = 3
MIN_TIME_WIDTH, MAX_TIME_WIDTH = 16, 512
PARAMS_A_TIME_UNIT = 30_000
"""For the width of the layer behind the encoded time. NeRV has 512 for some 3 M, of which the next
dense layer takes more than half; at our sizes the stages would be left with little."""

MIN_HEAD_WIDTH = 8
STRIDES = (5, 4, 3, 2)
MAX_COARSE_STAGES = 4
REFERENCE_CELLS = {HNERV: 8, NERV: 128, E_NERV: 128}
"""Places of the first map: HNeRV's embedding grid at 1280x640 is 4 x 2, NeRV's map 16 x 8."""
GRID_WEIGHT = 0.01
"""Padding that a grid of twice or half as many cells is worth; grows with the square."""

EMBEDDING_SHARE = 0.25
"""At most this share of the parameters goes to the embeddings."""

DETAIL_VALUES, MOST_DETAIL = 400, 2
"""Values of the second embedding that are wanted a frame, and its channels at most. On
BasketballPass, where a channel has 700 places, one gained 0.24 dB at equal bytes over two."""
DETAIL_STAGE = 1
"""The second embedding comes in here: on a grid of some 200 places, where the first has 8. On
carphone one stage later (1620 places) took half again the bytes for 0.5 dB."""

ROUNDED_BITS, TRAINED_BITS = 7.2, 4.5
"""What a parameter takes about when it is rounded after the training, and when its rate is
trained, the second embedding's share included: on carphone 4.5 bits."""

REFERENCE_PARAMS_PER_PIXEL = 0.0236
"""At :data:`nervcodec.config.REFERENCE_RATE_WEIGHT`; as many fewer as its square root grows."""

LEAST_RATE_WEIGHT, LARGEST_RATE_WEIGHT = 1e-4, 0.2
"""lambda of CRF 9.6 and 42.5: beyond, quantization is free, or nothing is worth its bits."""

DEFAULT_BITS_PER_PIXEL = 0.1
MIN_DEFAULT_PARAMS = 8_000
MAX_DEFAULT_PARAMS = 3_000_000


def bits_per_param(trained: bool) -> float:
    """What a parameter will take about, with its rate trained or rounded afterwards."""
    return TRAINED_BITS if trained else ROUNDED_BITS


def default_params(pixels: int, rate_weight: float, most: int | None = None) -> int:
    """Parameters for ``pixels`` in all frames, between 8 k and 3 M.

    Without a rate in the training as many as take 0.1 bit a pixel at 8 bits each; with it the
    fewer the dearer bits are. ``most`` is what the training can teach, where that is known.
    """
    per_pixel = DEFAULT_BITS_PER_PIXEL / 8
    if rate_weight:
        per_pixel = REFERENCE_PARAMS_PER_PIXEL * math.sqrt(REFERENCE_RATE_WEIGHT / rate_weight)
    wanted = min(MAX_DEFAULT_PARAMS, round(per_pixel * pixels))
    return max(MIN_DEFAULT_PARAMS, wanted if most is None else min(most, wanted))


def fitting_rate_weight(params: int, pixels: int) -> float:
    """lambda at which :func:`default_params` would give about ``params``."""
    relative = REFERENCE_PARAMS_PER_PIXEL * pixels / params
    return min(LARGEST_RATE_WEIGHT, max(LEAST_RATE_WEIGHT, REFERENCE_RATE_WEIGHT * relative**2))


def params_of_size(size: int, trained: bool) -> int:
    """Parameters that take about ``size`` bytes."""
    return max(1, round(8 * size / bits_per_param(trained)))


def default_detail(width: int, height: int) -> int:
    """Channels of HNeRV's second embedding for a frame size."""
    strides = choose_strides(width, height)
    stride = math.prod(strides)
    places = -(-width // stride) * -(-height // stride) * math.prod(strides[:DETAIL_STAGE]) ** 2
    return min(MOST_DETAIL, max(1, round(DETAIL_VALUES / places)))


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


def choose_strides(width: int, height: int, network: str = HNERV) -> tuple[int, ...]:
    """Strides for a frame size: little padding, and an embedding grid near 8 cells.

    The plan with the smallest ``padded area / area - 1 + 0.01 * log2(cells / 8)^2`` wins; NeRV
    and E-NeRV have 128 in place of 8.
    """
    wanted = REFERENCE_CELLS[network]

    def cost(plan: tuple[int, ...]) -> tuple[float, int]:
        stride = math.prod(plan)
        cells = -(-width // stride) * -(-height // stride)
        padding = cells * stride**2 / (width * height) - 1
        return padding + GRID_WEIGHT * math.log2(cells / wanted) ** 2, len(plan)

    return min(_stride_plans(), key=cost)


@dataclass(frozen=True)
class _Plan:
    """What of a network is settled before its width.

    Attributes:
        carrying: the stages that carry HFSCM.
        taper: how many times the channels of a stage those of the stage before are.
    """

    config: ModelConfig
    strides: tuple[int, ...]
    carrying: frozenset[int]
    taper: float


def _plan(config: ModelConfig, width: int, height: int) -> _Plan:
    """For a frame size.

    Raises:
        UsageError: for a number beyond the stages that there are.
    """
    strides = choose_strides(width, height, config.network)
    taper = config.taper
    if taper is None:
        taper = default_taper(width, height) if config.bilinear else CHANNEL_REDUCTION
    return _Plan(config, strides, _carrying(config, strides, width, height), taper)


def default_taper(width: int, height: int) -> float:
    """Of networks with bilinear stages: 1.2, and more for large frames."""
    growth: float = max(1.0, width * height / SMALL_FRAME) ** TAPER_GROWTH
    return min(LARGEST_TAPER, CHANNEL_REDUCTION * growth)


def _model(plan: _Plan, embedding: int, hidden: int, width_units: int) -> ModelSpec:
    """The network of a given width, in units of 1/16 channel of the stem."""
    config, strides, carrying = plan.config, plan.strides, plan.carrying
    wanted = width_units / WIDTH_UNITS
    stem = max(1, round(wanted))
    lower = min(LOWER_WIDTH, stem)
    stages = []
    for index, stride in enumerate(strides):
        if config.network == HNERV:
            channels = max(round(wanted / plan.taper ** (index + 1)), lower)
            kernel = min(1 + 2 * index, config.largest_kernel)
        else:
            channels, kernel = max(round(wanted / 2**index), lower), NERV_KERNEL
        bilinear = config.bilinear and index >= FIRST_BILINEAR
        stages.append(StageSpec(stride, kernel, channels, index in carrying, bilinear))
    msfrp = max(0, len(strides) - 3) if config.msfrp else None
    channels = config.detail_channels or 0
    detail = DetailSpec(DETAIL_STAGE, channels) if channels and len(strides) > 1 else None
    return ModelSpec(
        tuple(stages),
        embedding if config.network == HNERV else 0,
        stem,
        head_kernel=1 if config.network == E_NERV else 3,
        hfscm=config.hfscm_spec if carrying else HfscmSpec(),
        msfrp_stage=msfrp,
        time=None if config.network == HNERV else TimeSpec(hidden=hidden),
        transformer=_transformer(stem) if config.network == E_NERV else None,
        msfrp_after=config.msfrp_after and config.msfrp,
        detail=detail,
    )


def _carrying(
    config: ModelConfig, strides: tuple[int, ...], width: int, height: int
) -> frozenset[int]:
    """The stages that carry HFSCM."""
    stages = len(strides)
    if not config.hfscm:
        return frozenset()
    if config.hfscm_stages is None:
        after = itertools.accumulate(reversed(strides[1:]), operator.mul, initial=1)
        places = [width * height / stride**2 for stride in after][::-1]
        small = sum(number <= LARGEST_HFSCM_MAP for number in places)
        return frozenset(range(max(1, min(small, stages - 1))))
    if any(not -stages <= number < stages for number in config.hfscm_stages):
        raise UsageError(f"hfscm-stages {config.hfscm_stages}: the network has {stages} stages")
    return frozenset(number % stages for number in config.hfscm_stages)


def _transformer(channels: int) -> TransformerSpec:
    """Near E-NeRV's proportions: up to 8 heads, 196 channels with 512 inside, branches of 128."""
    heads = max(1, min(8, channels // MIN_HEAD_WIDTH))
    return TransformerSpec(
        heads=heads,
        head_width=max(1, channels // heads),
        feed_forward=2 * channels,
        modulation=max(8, min(128, 2 * channels)),
        bottleneck=max(1, channels // 4),
    )


def least_params(config: ModelConfig, width: int, height: int, frames: int) -> int:
    """Parameters and embedding values of the narrowest network."""
    narrowest = _model(_plan(config, width, height), 1, MIN_TIME_WIDTH, WIDTH_UNITS)
    return parameter_count(narrowest, width, height, frames)


def design_model(
    config: ModelConfig, params: int, width: int, height: int, frames: int
) -> ModelSpec:
    """The widest network whose parameters are at most ``params``.

    Raises:
        TargetError: if they are less than :func:`least_params`; the message says how many.
    """
    plan = _plan(config, width, height)
    stride = math.prod(plan.strides)
    cells = -(-width // stride) * -(-height // stride)
    affordable = int(EMBEDDING_SHARE * params) // (frames * cells)
    embedding = max(1, min(round(config.embedding_values / cells), affordable))
    hidden = min(MAX_TIME_WIDTH, max(MIN_TIME_WIDTH, params // PARAMS_A_TIME_UNIT))

    def count(model: ModelSpec) -> int:
        return parameter_count(model, width, height, frames)

    def of_width(units: int) -> ModelSpec:
        return _model(plan, embedding, hidden, units)

    narrowest = least_params(config, width, height, frames)
    if narrowest > params:
        raise TargetError(
            f"{params} parameters are too few: the narrowest network for {frames} frames of "
            f"{width}x{height} has {narrowest} (--params, --keyint)"
        )
    while count(of_width(WIDTH_UNITS)) > params:
        if config.network == HNERV:
            embedding -= 1
        else:
            hidden -= 1
    units = _largest(lambda units: count(of_width(units)) <= params, WIDTH_UNITS)
    if config.network == HNERV:
        return of_width(units)

    # A channel more is many parameters more in NeRV: its time layer takes what is left.
    def of_time_width(time_width: int) -> ModelSpec:
        return _model(plan, embedding, time_width, units)

    def fits(time_width: int) -> bool:
        return time_width <= MAX_CHANNELS and count(of_time_width(time_width)) <= params

    return of_time_width(_largest(fits, hidden))


def _largest(fits: Callable[[int], bool], low: int) -> int:
    """The largest number from ``low`` on, which fits."""
    high = 2 * low
    while high < MAX_CHANNELS * WIDTH_UNITS and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def design_networks(
    config: ModelConfig,
    params: int,
    plan: SegmentPlan,
    difficulties: Sequence[float],
    width: int,
    height: int,
) -> list[ModelSpec]:
    """A network for each segment; ``params`` are shared by length and difficulty.

    Raises:
        TargetError: if there are too few parameters, or the networks are beyond the limits that a
            decoder has.
    """
    shares = [params]
    if len(plan.lengths) > 1:
        least = [least_params(config, width, height, frames) for frames in plan.lengths]
        if sum(least) > params:
            raise TargetError(
                f"{params} parameters are too few: the narrowest networks for {len(least)} "
                f"segments of {width}x{height} have {sum(least)} (--params, --keyint)"
            )
        shares = share_params(params, plan, least, difficulties)
    models = []
    for frames, share in zip(plan.lengths, shares, strict=True):
        model = design_model(config, share, width, height, frames)
        try:
            check_limits(model, width, height, frames, Limits())
        except UnsupportedError as exc:
            raise TargetError(
                f"{width}x{height} is too large for this network ({exc}); "
                "--size or --params makes it smaller"
            ) from exc
        models.append(model)
    return models
