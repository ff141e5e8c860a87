"""What HEAD and the model description say (spec sections 4 and 5), as dataclasses and bytes.

Each field's limits stand beside it. The tensors that a model description implies are listed in
:mod:`nervcodec.bitstream.tensors`, and their symbols coded in :mod:`nervcodec.bitstream.segment`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from math import prod

from nervcodec.bitstream.wire import ByteReader, signed_varint, varint
from nervcodec.errors import BitstreamError, UnsupportedError
from nervcodec.samples import BIT_DEPTHS

FORMAT_MAJOR = 0
FORMAT_MINOR = 6

MAX_SIDE = 32768
"""As libavif's limit; FFmpeg's own is close to it."""
MAX_PIXELS = 1 << 28
"""16384 x 16384, as libavif's limit."""
MAX_FRAMES = 1 << 24
"""77 hours at 60 frames a second; bounds what a reader keeps for each frame."""
MAX_SEGMENTS = (1 << 20) - 2
"""As many as there may be chunks, HEAD and END aside."""
MAX_RATIONAL = (1 << 31) - 1
"""Numerators and denominators fit FFmpeg's AVRational."""
MAX_STAGES = 8
MAX_STRIDE = 8
MAX_KERNEL = 15
MAX_CHANNELS = 1 << 16
MAX_EXTRA_CONVS = 4

MATRICES = (1, 4, 5, 6, 7, 9)
"""H.273 matrices for Y'CbCr: BT.709, FCC, BT.601 (twice), SMPTE 240M, BT.2020."""


class Attention(IntEnum):
    """How the spatial attention of HFSCM maps its 5 x C/r inputs to the block's C channels."""

    SINGLE = 0
    """One map for all channels."""
    DENSE = 1
    """A full convolution, one map a channel."""
    GROUPED = 2
    """A convolution in five groups, one for each of X and the four bands."""


class Architecture(IntEnum):
    """Families of networks, by what makes the first map of a frame."""

    HNERV = 1
    """An embedding of the frame that the file holds."""
    NERV = 2
    """The frame's time, through dense layers."""
    ENERV = 3
    """Places of a grid mixed by attention, times the frame's time, which scales every stage too."""


@dataclass(frozen=True)
class StreamHeader:
    """The HEAD chunk: what the frames are, without how they are coded."""

    width: int
    height: int
    frames: int
    segments: int
    time_base: Fraction
    start_pts: int
    frame_duration: int
    sample_aspect_ratio: Fraction
    primaries: int
    transfer: int
    matrix: int
    full_range: bool
    rotation: int
    bit_depth: int = 8

    def to_bytes(self) -> bytes:
        version = bytes([FORMAT_MAJOR, FORMAT_MINOR, 0, 0])
        size = varint(self.width) + varint(self.height) + varint(self.frames)
        time = _rational(self.time_base) + signed_varint(self.start_pts)
        colour = bytes([self.primaries, self.transfer, self.matrix, int(self.full_range)])
        return b"".join(
            (
                version,
                size,
                varint(self.segments),
                time,
                varint(self.frame_duration),
                _rational(self.sample_aspect_ratio),
                colour,
                bytes([self.rotation // 90, self.bit_depth]),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamHeader:
        """Parse and check a HEAD payload."""
        reader = ByteReader(data, "HEAD")
        _check_version(reader)
        width = reader.bounded(1, MAX_SIDE, "width")
        height = reader.bounded(1, MAX_SIDE, "height")
        reader.check(width * height, 1, MAX_PIXELS, "width x height")
        frames = reader.bounded(1, MAX_FRAMES, "number of frames")
        segments = reader.bounded(1, min(frames, MAX_SEGMENTS), "number of segments")
        header = cls(
            width=width,
            height=height,
            frames=frames,
            segments=segments,
            time_base=_read_rational(reader, "time base"),
            start_pts=reader.signed_varint(),
            frame_duration=reader.bounded(1, MAX_RATIONAL, "frame duration"),
            sample_aspect_ratio=_read_rational(reader, "sample aspect ratio"),
            primaries=reader.u8(),
            transfer=reader.u8(),
            matrix=_read_matrix(reader),
            full_range=bool(reader.bounded_u8(0, 1, "colour range")),
            rotation=90 * reader.bounded_u8(0, 3, "rotation"),
            bit_depth=_read_bit_depth(reader),
        )
        reader.finish()
        return header


def _read_matrix(reader: ByteReader) -> int:
    matrix = reader.u8()
    if matrix not in MATRICES:
        raise BitstreamError(f"HEAD: colour matrix {matrix} is not one of {MATRICES}")
    return matrix


def _read_bit_depth(reader: ByteReader) -> int:
    bit_depth = reader.u8()
    if bit_depth not in BIT_DEPTHS:
        raise BitstreamError(f"HEAD: bit depth {bit_depth} is not one of {BIT_DEPTHS}")
    return bit_depth


def _check_version(reader: ByteReader) -> None:
    major, minor = reader.u8(), reader.u8()
    if major > FORMAT_MAJOR:
        raise UnsupportedError(
            f"the file has format version {major}.{minor}; "
            f"this program reads up to {FORMAT_MAJOR}.x: a later nervcodec is needed"
        )
    if minor != FORMAT_MINOR:
        raise UnsupportedError(
            f"the file has format version {major}.{minor}; before 1.0 only "
            f"{FORMAT_MAJOR}.{FORMAT_MINOR} files can be read by this program"
        )
    profile, flags = reader.u8(), reader.u8()
    if profile != 0:
        raise UnsupportedError(f"HEAD: unknown profile {profile}")
    if flags != 0:
        raise BitstreamError(f"HEAD: reserved flags are set ({flags:#04x})")


def _rational(value: Fraction) -> bytes:
    return varint(value.numerator) + varint(value.denominator)


def _read_rational(reader: ByteReader, field: str) -> Fraction:
    numerator = reader.bounded(1, MAX_RATIONAL, f"{field} numerator")
    denominator = reader.bounded(1, MAX_RATIONAL, f"{field} denominator")
    value = Fraction(numerator, denominator)
    if value.denominator != denominator:
        raise BitstreamError(f"HEAD: {field} {numerator}/{denominator} is not in lowest terms")
    return value


@dataclass(frozen=True)
class StageSpec:
    """One upsampling stage: conv ``kernel`` x ``kernel``, PixelShuffle(``stride``), GELU.

    ``bilinear``: the convolution's map is resized ``stride`` times instead of the PixelShuffle.
    """

    stride: int
    kernel: int
    channels: int
    hfscm: bool
    bilinear: bool = False

    @property
    def phases(self) -> int:
        """Channels of the convolution for each channel of the stage."""
        return 1 if self.bilinear else self.stride**2


@dataclass(frozen=True)
class HfscmSpec:
    """Shape of the high-frequency attention blocks (paper section 3.2), shared by all stages.

    ``norm``: what enters the spatial attention's GELU is normalised over the whole map before.
    """

    reduction: int = 5
    kernel: int = 7
    attention: Attention = Attention.SINGLE
    extra_convs: int = 2
    extra_kernel: int = 3
    norm: bool = False


@dataclass(frozen=True)
class TimeSpec:
    """How NeRV and E-NeRV see a frame: its time as ``levels`` sines and cosines, a dense layer.

    Attributes:
        base: each level's frequency is so many times that of the one before.
        hidden: width of the dense layer; 0 for none.
    """

    levels: int = 80
    base: Fraction = Fraction(5, 4)
    hidden: int = 0


@dataclass(frozen=True)
class TransformerSpec:
    """What E-NeRV has beside: two attention blocks over the grid, and a branch of time.

    Attributes:
        heads, head_width: of the attention.
        feed_forward: width of the layers after it.
        modulation: width of the branch that gives each stage's scales and shifts.
        bottleneck: channels between the two convolutions of the first stage; 0 for a usual stage.
    """

    heads: int
    head_width: int
    feed_forward: int
    modulation: int
    bottleneck: int = 0


@dataclass(frozen=True)
class DetailSpec:
    """A second, finer embedding of each frame, which comes in before stage ``stage``."""

    stage: int
    channels: int


@dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes a decoder network but the frame size; at the head of each SEGM.

    ``embedding_channels`` is 0 where ``time`` stands for the embedding.
    """

    stages: tuple[StageSpec, ...]
    embedding_channels: int
    stem_channels: int
    head_kernel: int = 3
    hfscm: HfscmSpec = HfscmSpec()
    msfrp_stage: int | None = None
    time: TimeSpec | None = None
    transformer: TransformerSpec | None = None
    msfrp_after: bool = False
    detail: DetailSpec | None = None

    @property
    def architecture(self) -> Architecture:
        if self.time is None:
            return Architecture.HNERV
        return Architecture.NERV if self.transformer is None else Architecture.ENERV

    @property
    def total_stride(self) -> int:
        return prod(stage.stride for stage in self.stages)

    @property
    def has_hfscm(self) -> bool:
        return any(stage.hfscm for stage in self.stages)

    @property
    def has_bilinear(self) -> bool:
        return any(stage.bilinear for stage in self.stages)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the embedding of a ``width`` x ``height`` frame."""
        return -(-height // self.total_stride), -(-width // self.total_stride)

    def detail_grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the second embedding, which are those of its stage's input."""
        assert self.detail is not None
        strides = prod(stage.stride for stage in self.stages[: self.detail.stage])
        rows, columns = self.grid(width, height)
        return rows * strides, columns * strides

    def to_bytes(self) -> bytes:
        normalised, after = self.hfscm.norm and self.has_hfscm, self.msfrp_after
        flags = int(self.has_hfscm) | int(self.msfrp_stage is not None) << 1
        flags |= int(normalised) << 2 | int(after) << 3 | int(self.detail is not None) << 4
        flags |= int(self.has_bilinear) << 5
        out = bytearray([self.architecture, flags, len(self.stages)])
        for stage in self.stages:
            out += bytes([stage.stride, stage.kernel]) + varint(stage.channels)
        if self.time is None:
            out += varint(self.embedding_channels)
        else:
            base = self.time.base
            out += bytes([self.time.levels, base.numerator, base.denominator])
            out += varint(self.time.hidden)
        out += varint(self.stem_channels)
        out.append(self.head_kernel)
        if self.transformer is not None:
            mixer = self.transformer
            widths = (mixer.head_width, mixer.feed_forward, mixer.modulation, mixer.bottleneck)
            out += bytes([mixer.heads]) + b"".join(map(varint, widths))
        if self.has_hfscm:
            block = self.hfscm
            out.append(_mask(stage.hfscm for stage in self.stages))
            out += bytes([block.reduction, block.kernel, block.attention, block.extra_convs])
            if block.extra_convs:
                out.append(block.extra_kernel)
        if self.msfrp_stage is not None:
            out.append(self.msfrp_stage)
        if self.detail is not None:
            out += bytes([self.detail.stage]) + varint(self.detail.channels)
        if self.has_bilinear:
            out.append(_mask(stage.bilinear for stage in self.stages))
        return bytes(out)

    @classmethod
    def read(cls, reader: ByteReader) -> ModelSpec:
        """Parse and check a model description from the reader's position on."""
        architecture = reader.u8()
        if architecture not in tuple(Architecture):
            raise UnsupportedError(f"unknown network architecture {architecture}")
        flags = reader.bounded_u8(0, 63, "model flags")
        for bit, needed, name in ((4, 1, "HFSCM"), (8, 2, "MSFRP")):
            if flags & bit and not flags & needed:
                raise BitstreamError(f"model flags {flags} switch a part of {name} that is absent")
        if flags & 32 and architecture == Architecture.ENERV:
            raise BitstreamError("E-NeRV has no bilinear stages")
        if flags & 16 and architecture != Architecture.HNERV:
            raise BitstreamError("a network without an embedding has none of detail")
        count = reader.bounded_u8(1, MAX_STAGES, "number of stages")
        shapes = [_read_stage(reader) for _ in range(count)]
        embedding, time = 0, None
        if architecture == Architecture.HNERV:
            embedding = reader.bounded(1, MAX_CHANNELS, "embedding channels")
        else:
            time = _read_time(reader)
        stem = reader.bounded(1, MAX_CHANNELS, "stem channels")
        head_kernel = _read_kernel(reader, "head kernel")
        has_transformer = architecture == Architecture.ENERV
        transformer = _read_transformer(reader) if has_transformer else None
        mask, block = _read_hfscm(reader, count) if flags & 1 else (0, HfscmSpec())
        block = replace(block, norm=bool(flags & 4))
        msfrp = reader.bounded_u8(0, count - 1, "MSFRP stage") if flags & 2 else None
        detail = _read_detail(reader, count) if flags & 16 else None
        bilinear = _read_mask(reader, count, "bilinear stages") if flags & 32 else 0
        stages = tuple(
            StageSpec(
                stride, kernel, channels, bool(mask >> index & 1), bool(bilinear >> index & 1)
            )
            for index, (stride, kernel, channels) in enumerate(shapes)
        )
        return cls(
            stages,
            embedding,
            stem,
            head_kernel,
            block,
            msfrp,
            time,
            transformer,
            msfrp_after=bool(flags & 8),
            detail=detail,
        )


def _mask(members: Iterable[bool]) -> int:
    """Bit i is set where the i-th is."""
    return sum(int(member) << index for index, member in enumerate(members))


def _read_mask(reader: ByteReader, stages: int, field: str) -> int:
    return reader.bounded_u8(1, (1 << stages) - 1, field)


def _read_detail(reader: ByteReader, stages: int) -> DetailSpec:
    stage = reader.bounded_u8(0, stages - 1, "stage of the detail")
    return DetailSpec(stage, reader.bounded(1, MAX_CHANNELS, "detail channels"))


def _read_stage(reader: ByteReader) -> tuple[int, int, int]:
    stride = reader.bounded_u8(1, MAX_STRIDE, "stride")
    kernel = _read_kernel(reader, "kernel")
    return stride, kernel, reader.bounded(1, MAX_CHANNELS, "stage channels")


def _read_time(reader: ByteReader) -> TimeSpec:
    levels = reader.bounded_u8(1, 255, "frequency levels")
    numerator = reader.bounded_u8(1, 255, "numerator of the frequency base")
    denominator = reader.bounded_u8(1, 255, "denominator of the frequency base")
    base = Fraction(numerator, denominator)
    if base.denominator != denominator:
        raise BitstreamError(f"frequency base {numerator}/{denominator} is not in lowest terms")
    return TimeSpec(levels, base, reader.bounded(0, MAX_CHANNELS, "width of the time layer"))


def _read_transformer(reader: ByteReader) -> TransformerSpec:
    return TransformerSpec(
        reader.bounded_u8(1, 255, "attention heads"),
        reader.bounded(1, MAX_CHANNELS, "width of an attention head"),
        reader.bounded(1, MAX_CHANNELS, "feed-forward width"),
        reader.bounded(1, MAX_CHANNELS, "modulation width"),
        reader.bounded(0, MAX_CHANNELS, "bottleneck of the first stage"),
    )


def _read_kernel(reader: ByteReader, field: str) -> int:
    kernel = reader.bounded_u8(1, MAX_KERNEL, field)
    if kernel % 2 == 0:
        raise BitstreamError(f"{field} {kernel} is even")
    return kernel


def _read_hfscm(reader: ByteReader, stages: int) -> tuple[int, HfscmSpec]:
    """The mask of the stages that carry HFSCM, and the block's shape."""
    mask = _read_mask(reader, stages, "HFSCM stage mask")
    reduction = reader.bounded_u8(1, 255, "attention reduction")
    kernel = _read_kernel(reader, "attention kernel")
    attention = Attention(reader.bounded_u8(0, len(Attention) - 1, "attention kind"))
    extra_convs = reader.bounded_u8(0, MAX_EXTRA_CONVS, "number of extra convolutions")
    block = HfscmSpec(reduction, kernel, attention, extra_convs)
    if extra_convs:
        block = replace(block, extra_kernel=_read_kernel(reader, "extra kernel"))
    return mask, block
