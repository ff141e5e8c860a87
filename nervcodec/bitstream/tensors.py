"""Which tensors a model description implies, in file order, and what it costs to evaluate it.

All of it is integer arithmetic on a :class:`~nervcodec.bitstream.syntax.ModelSpec`, so that a
hostile file is refused before anything is allocated. The torch modules of
:mod:`nervcodec.models` carry the same names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from nervcodec.bitstream.syntax import Attention, HfscmSpec, ModelSpec
from nervcodec.errors import LimitError

RGB = 3
BANDS = 4
"""LL, HL, LH and HH of one Haar step."""

EMBEDDING, DETAIL = "embedding", "detail"
FRAME_TENSORS = (EMBEDDING, DETAIL)
"""What there is of each frame: (frames, channels, rows, columns)."""

DETAIL_KERNEL = 3
"""Of the convolution that brings the detail to the channels of its stage's input."""

MIXERS = 2
"""Attention blocks of E-NeRV: one before the frame's time comes in, one after."""

WIDEN_KERNEL = 3
"""Of the second convolution of E-NeRV's first stage."""


@dataclass(frozen=True)
class TensorSpec:
    """Name and shape of one coded tensor."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def channel_axis(self) -> int | None:
        """Axis that may have a scale for each index; None where there is one scale only."""
        if len(self.shape) != 4:
            return None
        return 1 if self.name in FRAME_TENSORS else 0


@dataclass(frozen=True)
class Limits:
    """Caps on what a file may ask for, checked before any allocation.

    The first three are for each segment; what their defaults admit, 4K frames and a hundred
    million parameters among it, fits a machine with 24 GiB. The others are for all frames
    together, where all are wanted: a short file can announce frames without end.

    Attributes:
        parameters: decoder parameters and embedding values.
        macs_per_frame: multiply-accumulates.
        activation_bytes: memory for the maps of one frame, as :func:`activation_bytes` tells it.
        pixels: of all frames. The default is more than two hours of 8K at 60 frames a second.
        macs: of all frames. The default is some 65 thousand for each of those pixels.
    """

    parameters: int = 1 << 27
    macs_per_frame: int = 1 << 44
    activation_bytes: int = 16 << 30
    pixels: int = 1 << 44
    macs: int = 1 << 60


@dataclass(frozen=True)
class ConvShape:
    """One convolution of the decoder: weights (out, inputs a group, kernel, kernel), map size."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    groups: int
    height: int
    width: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.outputs, self.inputs // self.groups, self.kernel, self.kernel

    @property
    def macs(self) -> int:
        return prod(self.weight_shape) * self.height * self.width

    @property
    def values(self) -> int:
        """Number of values in the input and output maps."""
        return (self.inputs + self.outputs) * self.height * self.width


def attention_width(channels: int, reduction: int) -> int:
    """Channels inside HFSCM: C / r rounded up."""
    return -(-channels // reduction)


def attention_conv(spec: HfscmSpec, channels: int) -> tuple[int, int]:
    """Output channels and groups of the spatial attention's last convolution."""
    return {
        Attention.SINGLE: (1, 1),
        Attention.DENSE: (channels, 1),
        Attention.GROUPED: ((BANDS + 1) * -(-channels // (BANDS + 1)), BANDS + 1),
    }[spec.attention]


def _hfscm_convs(
    spec: ModelSpec, prefix: str, channels: int, height: int, width: int
) -> Iterator[ConvShape]:
    block = spec.hfscm
    inner = attention_width(channels, block.reduction)

    def conv(name: str, inputs: int, outputs: int, kernel: int, groups: int = 1) -> ConvShape:
        return ConvShape(f"{prefix}.{name}", inputs, outputs, kernel, groups, height, width)

    yield conv("channel_reduce", channels, inner, 1)
    yield conv("channel_expand", inner, channels, 1)
    yield conv("spatial_reduce", channels, inner, block.kernel)
    outputs, groups = attention_conv(block, channels)
    yield conv("spatial_expand", (BANDS + 1) * inner, outputs, block.kernel, groups)
    for index in range(block.extra_convs):
        yield conv(f"extra.{index}", channels, channels, block.extra_kernel)


def _dense(name: str, inputs: int, outputs: int) -> ConvShape:
    """A dense layer, which is a convolution of a map of one place."""
    return ConvShape(name, inputs, outputs, 1, 1, 1, 1)


def _stem_convs(spec: ModelSpec, rows: int, columns: int) -> Iterator[ConvShape]:
    """What makes the first map, (stem channels, rows, columns)."""
    channels = spec.stem_channels
    if spec.time is None:
        yield ConvShape("stem", spec.embedding_channels, channels, 1, 1, rows, columns)
        return
    inputs = 2 * spec.time.levels
    if spec.time.hidden:
        yield _dense("time", inputs, spec.time.hidden)
    last = spec.time.hidden or inputs
    block = spec.transformer
    if block is None:
        yield _dense("stem", last, channels * rows * columns)
        return
    yield _dense("stem", last, channels)

    def conv(name: str, inputs: int, outputs: int) -> ConvShape:
        return ConvShape(name, inputs, outputs, 1, 1, rows, columns)

    yield conv("grid", 2 * inputs, channels)
    inner = block.heads * block.head_width
    for index in range(MIXERS):
        yield conv(f"mixers.{index}.attend", channels, 3 * inner)
        yield conv(f"mixers.{index}.project", inner, channels)
        yield conv(f"mixers.{index}.expand", channels, block.feed_forward)
        yield conv(f"mixers.{index}.reduce", block.feed_forward, channels)
    yield _dense("modulation.0", inputs, block.modulation)
    yield _dense("modulation.1", block.modulation, block.modulation)


def _stage_convs(
    spec: ModelSpec, index: int, inputs: int, rows: int, columns: int
) -> Iterator[ConvShape]:
    """Stage ``index`` without HFSCM, on a map of ``inputs`` channels, rows and columns."""
    stage, block, prefix = spec.stages[index], spec.transformer, f"stages.{index}"
    detail = spec.detail
    if detail is not None and detail.stage == index:
        channels = detail.channels
        yield ConvShape(f"{prefix}.detail", channels, inputs, DETAIL_KERNEL, 1, rows, columns)
    if block is not None:
        yield _dense(f"{prefix}.modulate", block.modulation, 2 * inputs)
    bottleneck = block.bottleneck if block is not None and index == 0 else 0
    outputs = (bottleneck or stage.channels) * stage.phases
    yield ConvShape(f"{prefix}.conv", inputs, outputs, stage.kernel, 1, rows, columns)
    if bottleneck:
        size = rows * stage.stride, columns * stage.stride
        yield ConvShape(f"{prefix}.widen", bottleneck, stage.channels, WIDEN_KERNEL, 1, *size)


def convolutions(spec: ModelSpec, width: int, height: int) -> Iterator[ConvShape]:
    """Every convolution of the decoder in file order, for frames of ``width`` x ``height``.

    Dense layers are among them, as convolutions of a map of one place.
    """
    rows, columns = spec.grid(width, height)
    channels = spec.stem_channels
    yield from _stem_convs(spec, rows, columns)
    reuse = None
    for index, stage in enumerate(spec.stages):
        prefix = f"stages.{index}"
        yield from _stage_convs(spec, index, channels, rows, columns)
        rows, columns, channels = rows * stage.stride, columns * stage.stride, stage.channels
        if stage.hfscm:
            yield from _hfscm_convs(spec, f"{prefix}.hfscm", channels, rows, columns)
        if index == spec.msfrp_stage:
            reuse = ConvShape("msfrp", channels, RGB, 1, 1, rows, columns)
    if reuse is not None:
        yield reuse
    yield ConvShape("head", channels, RGB, spec.head_kernel, 1, rows, columns)


def tensor_specs(spec: ModelSpec, width: int, height: int, frames: int) -> list[TensorSpec]:
    """The coded tensors of one segment, in the order of the file (spec section 5.2)."""
    rows, columns = spec.grid(width, height)
    tensors = []
    if spec.time is None:
        tensors.append(TensorSpec(EMBEDDING, (frames, spec.embedding_channels, rows, columns)))
    if spec.detail is not None:
        finer = spec.detail_grid(width, height)
        tensors.append(TensorSpec(DETAIL, (frames, spec.detail.channels, *finer)))
    for conv in convolutions(spec, width, height):
        if conv.name.endswith("spatial_expand"):
            prefix = conv.name.removesuffix("spatial_expand")
            tensors.append(TensorSpec(f"{prefix}phi", (BANDS,)))
        tensors.append(TensorSpec(f"{conv.name}.weight", conv.weight_shape))
        tensors.append(TensorSpec(f"{conv.name}.bias", (conv.outputs,)))
    return tensors


def parameter_count(spec: ModelSpec, width: int, height: int, frames: int) -> int:
    """Decoder parameters and embedding values: what ``--params`` counts.

    The detail's are left out: they are many and nearly all 0, and take a fraction of a bit each.
    """
    specs = tensor_specs(spec, width, height, frames)
    return sum(tensor.size for tensor in specs if tensor.name != DETAIL)


def value_count(spec: ModelSpec, width: int, height: int, frames: int) -> int:
    """All values that a segment codes."""
    return sum(tensor.size for tensor in tensor_specs(spec, width, height, frames))


def macs_per_frame(spec: ModelSpec, width: int, height: int) -> int:
    """Multiply-accumulates of convolutions, dense layers and attention for one frame."""
    convs = sum(conv.macs for conv in convolutions(spec, width, height))
    if spec.transformer is None:
        return convs
    # Scores are products of queries and keys, results of scores and values.
    inner = spec.transformer.heads * spec.transformer.head_width
    return convs + MIXERS * 2 * inner * prod(spec.grid(width, height)) ** 2


def activation_bytes(spec: ModelSpec, width: int, height: int) -> int:
    """Upper estimate of the float32 maps alive at once for one frame, in bytes.

    Eight times the input and output of the largest convolution, or the scores of E-NeRV's
    attention. What HFSCM holds beside its last convolution (F1, F2, X, the lifted bands, their
    concatenation and its GELU) is less than that.
    """
    values = max(conv.values for conv in convolutions(spec, width, height))
    if spec.transformer is not None:
        scores = spec.transformer.heads * prod(spec.grid(width, height)) ** 2
        values = max(values, scores)
    return 4 * 8 * values


def check_limits(spec: ModelSpec, width: int, height: int, frames: int, limits: Limits) -> None:
    """Refuse a segment that asks for more than ``limits``, by arithmetic alone.

    Raises:
        LimitError: with the figure asked for and the cap.
    """
    _check("parameters", "parameters", value_count(spec, width, height, frames), limits)
    macs = macs_per_frame(spec, width, height)
    _check("macs_per_frame", "multiplications a frame", macs, limits)
    memory = activation_bytes(spec, width, height)
    _check("activation_bytes", "bytes of activations", memory, limits)


def check_clip_limits(
    width: int, height: int, segments: Iterable[tuple[ModelSpec, int]], limits: Limits
) -> None:
    """Refuse to make all frames of a clip where that asks for more than ``limits``.

    Args:
        segments: network and number of frames of each.

    Raises:
        LimitError: with the figure asked for and the cap.
    """
    frames = macs = 0
    for spec, count in segments:
        frames += count
        macs += count * macs_per_frame(spec, width, height)
    _check("pixels", "pixels in all frames", width * height * frames, limits)
    _check("macs", "multiplications in all frames", macs, limits)


def _check(limit: str, what: str, asked: int, limits: Limits) -> None:
    cap: int = getattr(limits, limit)
    if asked > cap:
        raise LimitError(limit, what, asked, cap)
