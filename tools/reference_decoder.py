"""A second decoder of the .hfsv bitstream, version 0.6, written from its specification alone.

It shares no code with the program and needs numpy only, so that the two check each other and the
specification. It follows the sections of `bitstream_spec.md` in order and under the same names; it
is clear rather than fast, and computes the reference frames of section 9 in float64.

    python tools/reference_decoder.py FILE [--frames out.npy] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import struct
import sys
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.unsignedinteger[Any]]
Floats = npt.NDArray[np.float64]
Activity = npt.NDArray[np.int16]  # (channels, rows, columns); no term of section 5.4 exceeds 3608

# Limits of this decoder (section 11).
MAX_PARAMETERS = 2**27  # a segment
MAX_OPERATIONS = 2**44  # multiply-accumulates a frame
MAX_MAP_BYTES = 2**34  # of a convolution's maps or an attention's weights, at 32 bytes a value
MAX_FILE_PARAMETERS = 2**30  # all segments together, because `parse` keeps their symbols


class InvalidFile(Exception):
    """The file breaks a rule of the specification."""


class UnsupportedFile(InvalidFile):
    """The file may be valid, but not for this version or within the limits of this decoder."""


# --- 2. Primitive fields -------------------------------------------------------------------------


class Reader:
    """Reads the fields of section 2 from one payload."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = memoryview(data)
        self.name = name
        self.position = 0

    def fail(self, what: str) -> NoReturn:
        raise InvalidFile(f"{self.name}: {what}")

    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left():
            self.fail("a field reaches beyond the end")
        self.position += count
        return bytes(self.data[self.position - count : self.position])

    def end(self) -> None:
        if self.left():
            self.fail(f"{self.left()} bytes left over")

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self, most_bytes: int = 9) -> int:
        value = 0
        for k in range(most_bytes):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * k)
            if byte < 0x80:
                if byte == 0 and k > 0:
                    self.fail("a varint is not minimal")
                return value
        self.fail(f"a varint has more than {most_bytes} bytes")

    def svarint(self) -> int:
        value = self.varint()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def rational(self) -> tuple[int, int]:
        numerator = self.whole("numerator", 1, 2**31 - 1)
        denominator = self.whole("denominator", 1, 2**31 - 1)
        if math.gcd(numerator, denominator) != 1:
            self.fail("a rational is not in lowest terms")
        return numerator, denominator

    def blob(self, least: int, most: int) -> bytes:
        """The content of a blob, whose length the caller knows to be in least..most."""
        method = self.byte("blob method", 0, 1)
        length = self.whole("blob length", least, most)
        data, ended = self.take(self.left()), True
        if method == 1:
            inflater = zlib.decompressobj()
            try:
                data = inflater.decompress(data, length + 1)
            except zlib.error as error:
                self.fail(f"the zlib stream is damaged ({error})")
            ended = inflater.eof and not inflater.unused_data
        if len(data) != length or not ended:
            self.fail(f"the blob is not one of exactly {length} bytes")
        return data

    def within(self, value: int, field: str, low: int, high: int) -> int:
        if not low <= value <= high:
            self.fail(f"{field} is {value}, not in {low}..{high}")
        return value

    def byte(self, field: str, low: int, high: int) -> int:
        return self.within(self.u8(), field, low, high)

    def whole(self, field: str, low: int, high: int) -> int:
        return self.within(self.varint(), field, low, high)

    def odd(self, field: str) -> int:
        kernel = self.byte(field, 1, 15)
        if kernel % 2 == 0:
            self.fail(f"{field} is {kernel}, which is even")
        return kernel


# --- 3. File structure ---------------------------------------------------------------------------

SIGNATURE = bytes.fromhex("89 48 46 53 0D 0A 1A 0A")
HEAD, PTSD, META, SEGM, HASH, AUDI, END = 0x81, 0x87, 0x05, 0x82, 0x03, 0x06, 0xFF
ORDER = (HEAD, PTSD, META, SEGM, HASH, AUDI, END)
CRITICAL = 0x80
MAX_CHUNKS = 2**20


def read_chunks(data: bytes) -> list[tuple[int, bytes]]:
    """The types and payloads of all chunks; checks the framing, the checksums and END."""
    if not data.startswith(SIGNATURE):
        raise InvalidFile("this is not an .hfsv file: the signature is missing")
    reader = Reader(data, "file")
    reader.position = len(SIGNATURE)
    chunks: list[tuple[int, bytes]] = []
    while not chunks or chunks[-1][0] != END:
        start = reader.position
        kind = reader.u8()
        payload = reader.take(reader.varint(most_bytes=5))
        if zlib.crc32(reader.data[start : reader.position]) != reader.u32():
            reader.fail(f"the checksum of chunk {kind:#04x} at {start} is wrong")
        chunks.append((kind, payload))
        reader.within(len(chunks), "number of chunks", 1, MAX_CHUNKS)
    reader.end()
    end = Reader(payload, "END")
    if end.varint() != start:
        end.fail("the offset is wrong")
    if end.take(16) != hashlib.sha256(reader.data[:start]).digest()[:16]:
        end.fail("the SHA-256 of the file is wrong")
    end.end()
    return chunks


def sort_chunks(chunks: list[tuple[int, bytes]], segments: int) -> dict[int, list[bytes]]:
    """The payloads of the known chunks by type; checks order and counts."""
    payloads: dict[int, list[bytes]] = {kind: [] for kind in ORDER}
    for kind, payload in chunks:
        if kind in payloads:
            payloads[kind].append(payload)
        elif kind & CRITICAL:
            raise UnsupportedFile(f"the file needs chunk {kind:#04x}, which this version lacks")
    known = [kind for kind, _ in chunks if kind in payloads]
    if known != sorted(known, key=ORDER.index):
        raise InvalidFile("the chunks are out of order")
    counts = {HEAD: (1,), SEGM: (segments,), END: (1,)}
    for kind, found in payloads.items():
        if len(found) not in counts.get(kind, (0, 1)):
            raise InvalidFile(f"{len(found)} chunks {kind:#04x} are too many or too few")
    return payloads


# --- 4. HEAD and PTSD: what the frames are -------------------------------------------------------


@dataclass(frozen=True)
class Header:
    """The fields of HEAD that have more than one valid value."""

    width: int
    height: int
    frames: int
    segments: int
    time_base: tuple[int, int]
    start: int
    frame_duration: int
    sample_aspect_ratio: tuple[int, int]
    primaries: int
    transfer: int
    matrix: int
    full_range: int
    rotation: int
    bit_depth: int


def read_head(kind: int, payload: bytes) -> Header:
    """Read the first chunk. Only its first two bytes are the same in every version."""
    if kind != HEAD:
        raise InvalidFile("the first chunk is not HEAD")
    reader = Reader(payload, "HEAD")
    version = reader.u8(), reader.u8()
    if version != (0, 6):
        raise UnsupportedFile(f"the file is of version {version[0]}.{version[1]}, not 0.6")
    if profile := reader.u8():
        raise UnsupportedFile(f"profile {profile} is unknown")
    reader.byte("flags", 0, 0)
    header = Header(
        width=reader.whole("width", 1, 32768),
        height=reader.whole("height", 1, 32768),
        frames=(frames := reader.whole("frames", 1, 2**24)),
        segments=reader.whole("segments", 1, frames),
        time_base=reader.rational(),
        start=reader.svarint(),
        frame_duration=reader.whole("frame duration", 1, 2**31 - 1),
        sample_aspect_ratio=reader.rational(),
        primaries=reader.u8(),
        transfer=reader.u8(),
        matrix=reader.u8(),
        full_range=reader.byte("range", 0, 1),
        rotation=reader.byte("rotation", 0, 3),
        bit_depth=reader.byte("bit depth", 8, 12),
    )
    if header.bit_depth not in (8, 10, 12):
        reader.fail(f"bit depth is {header.bit_depth}")
    reader.end()
    reader.within(header.width * header.height, "width x height", 1, 2**28)
    if header.matrix not in (1, 4, 5, 6, 7, 9):
        reader.fail(f"matrix is {header.matrix}")
    return header


def read_ptsd(payloads: list[bytes], header: Header) -> npt.NDArray[np.int64]:
    """Presentation times of all frames in ticks and, last, where the last frame ends.

    No time reaches 2**63: `start` is within 2**62, and 2**24 durations sum to less than 2**55.
    """
    durations = np.full(header.frames, header.frame_duration, np.int64)
    for payload in payloads:
        outer = Reader(payload, "PTSD")
        reader = Reader(outer.blob(header.frames, 5 * header.frames), "PTSD")
        for n in range(header.frames):
            duration = header.frame_duration + reader.svarint()
            durations[n] = reader.within(duration, f"duration of frame {n}", 1, 2**31 - 1)
        reader.end()
    times = np.zeros(header.frames + 1, np.int64)
    np.cumsum(durations, out=times[1:])
    return times + header.start


# --- 5. SEGM: a network --------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """SEGM: `symbols` are those of `tensors`, in the same order and shape."""

    frames: int
    model: Model
    tensors: tuple[Tensor, ...]
    symbols: tuple[Bytes, ...]
    grid: tuple[int, int]  # rows and columns of the first map, to which HEAD contributes


def read_segments(payloads: list[bytes], header: Header) -> Iterator[Segment]:
    budget, frames = MAX_FILE_PARAMETERS, 0
    for index, payload in enumerate(payloads):
        segment = read_segment(payload, index, frames, header, budget)
        budget -= sum(symbols.size for symbols in segment.symbols)
        frames += segment.frames
        yield segment
    if frames != header.frames:
        raise InvalidFile("the frames of the segments do not sum to those of HEAD")


def read_segment(payload: bytes, index: int, first: int, header: Header, budget: int) -> Segment:
    """Parse one SEGM, which begins at frame `first`, and decode its up to `budget` symbols."""
    reader = Reader(payload, f"SEGM {index}")
    reader.whole("index", index, index)
    reader.whole("first frame", first, first)
    frames = reader.whole("frames", 1, header.frames - first)
    model = read_model(reader)
    grid = grid_size(model, header)
    shapes = tensor_shapes(model, frames, header)
    check_limits(shapes, budget, attention_cost(model, math.prod(grid)))
    crc = reader.u32()
    tensors = tuple(read_tensor_head(reader, shape) for shape in shapes)
    coder = RangeCoder(reader)
    symbols = tuple(decode_symbols(coder, tensor) for tensor in tensors)
    coder.finish()
    actual = 0
    for each in symbols:
        actual = zlib.crc32(each.data, actual)
    if actual != crc:
        reader.fail("the CRC of the symbols is wrong")
    return Segment(frames, model, tensors, symbols, grid)


# --- 5.1 Model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A bilinear stage resizes its map where others have PixelShuffle."""

    stride: int
    kernel: int
    channels: int
    bilinear: bool = False


@dataclass(frozen=True)
class Hfscm:
    mask: int
    reduction: int
    kernel: int
    attention: int
    extra_convolutions: int
    extra_kernel: int


NO_HFSCM = Hfscm(mask=0, reduction=1, kernel=1, attention=0, extra_convolutions=0, extra_kernel=1)
SINGLE, DENSE, GROUPED = 0, 1, 2


@dataclass(frozen=True)
class Time:
    """The position code, which E-NeRV has for rows and columns too, and the width of `time`."""

    levels: int
    numerator: int
    denominator: int
    width: int


@dataclass(frozen=True)
class Mixing:
    """What only E-NeRV has."""

    heads: int
    head_width: int
    feed_forward: int
    modulation: int
    bottleneck: int


HNERV, NERV, E_NERV = 1, 2, 3
HAS_HFSCM, HAS_MSFRP, STANDARDISE, MSFRP_AFTER, HAS_DETAIL, HAS_BILINEAR = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True)
class Detail:
    """The second embedding, added to the input of a stage."""

    stage: int
    channels: int


@dataclass(frozen=True)
class Model:
    """HNeRV has embedding channels, else they are 0; the others have `time`, E-NeRV has `mixing`.

    The defaults are those of a plain HNeRV.
    """

    stages: tuple[Stage, ...]
    embedding_channels: int
    stem_channels: int
    head_kernel: int
    hfscm: Hfscm
    msfrp_stage: int | None
    architecture: int = HNERV
    time: Time | None = None
    mixing: Mixing | None = None
    standardise: bool = False
    msfrp_after: bool = False
    detail: Detail | None = None


def read_model(reader: Reader) -> Model:
    architecture = reader.u8()
    if architecture not in (HNERV, NERV, E_NERV):
        raise UnsupportedFile(f"{reader.name}: architecture {architecture} is unknown")
    flags = read_model_flags(reader, architecture)
    count = reader.byte("stages", 1, 8)
    model = Model(  # whose arguments are evaluated in this order, that of the file
        architecture=architecture,
        stages=tuple(read_stage(reader) for _ in range(count)),
        embedding_channels=(
            reader.whole("embedding channels", 1, 65536) if architecture == HNERV else 0
        ),
        time=read_time(reader) if architecture != HNERV else None,
        stem_channels=reader.whole("stem channels", 1, 65536),
        head_kernel=reader.odd("head kernel"),
        mixing=read_mixing(reader) if architecture == E_NERV else None,
        hfscm=read_hfscm(reader, count) if flags & HAS_HFSCM else NO_HFSCM,
        standardise=bool(flags & STANDARDISE),
        msfrp_stage=reader.byte("MSFRP stage", 0, count - 1) if flags & HAS_MSFRP else None,
        msfrp_after=bool(flags & MSFRP_AFTER),
        detail=read_detail(reader, count) if flags & HAS_DETAIL else None,
    )
    return read_bilinear(reader, model) if flags & HAS_BILINEAR else model


def read_model_flags(reader: Reader, architecture: int) -> int:
    flags = reader.byte("model flags", 0, 63)
    if flags & HAS_DETAIL and architecture != HNERV:
        reader.fail("only architecture 1 has a detail")
    if flags & HAS_BILINEAR and architecture == E_NERV:
        reader.fail("architecture 3 has no bilinear stages")
    if flags & STANDARDISE and not flags & HAS_HFSCM:
        reader.fail("there is no HFSCM that could standardise")
    if flags & MSFRP_AFTER and not flags & HAS_MSFRP:
        reader.fail("there is no MSFRP that could be added to the frame")
    return flags


def read_detail(reader: Reader, stages: int) -> Detail:
    return Detail(
        stage=reader.byte("detail stage", 0, stages - 1),
        channels=reader.whole("detail channels", 1, 65536),
    )


def read_bilinear(reader: Reader, model: Model) -> Model:
    """The model with its bilinear stages, which the last of its fields names."""
    mask = reader.byte("bilinear", 1, 2 ** len(model.stages) - 1)
    stages = (replace(each, bilinear=bool(mask >> i & 1)) for i, each in enumerate(model.stages))
    return replace(model, stages=tuple(stages))


def read_stage(reader: Reader) -> Stage:
    return Stage(
        stride=reader.byte("stride", 1, 8),
        kernel=reader.odd("kernel"),
        channels=reader.whole("channels", 1, 65536),
    )


def read_time(reader: Reader) -> Time:
    time = Time(
        levels=reader.byte("levels", 1, 255),
        numerator=reader.byte("base numerator", 1, 255),
        denominator=reader.byte("base denominator", 1, 255),
        width=reader.whole("time width", 0, 65536),
    )
    if math.gcd(time.numerator, time.denominator) != 1:
        reader.fail("the base is not in lowest terms")
    return time


def read_mixing(reader: Reader) -> Mixing:
    return Mixing(
        heads=reader.byte("heads", 1, 255),
        head_width=reader.whole("head width", 1, 65536),
        feed_forward=reader.whole("feed-forward width", 1, 65536),
        modulation=reader.whole("modulation width", 1, 65536),
        bottleneck=reader.whole("bottleneck", 0, 65536),
    )


def read_hfscm(reader: Reader, stages: int) -> Hfscm:
    return Hfscm(
        mask=reader.byte("mask", 1, 2**stages - 1),
        reduction=reader.byte("reduction", 1, 255),
        kernel=reader.odd("attention kernel"),
        attention=reader.byte("attention", SINGLE, GROUPED),
        extra_convolutions=(extra := reader.byte("extra convolutions", 0, 4)),
        extra_kernel=reader.odd("extra kernel") if extra else 1,
    )


def ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b


def grid_size(model: Model, header: Header) -> tuple[int, int]:
    """The rows and columns of the first map."""
    product = math.prod(stage.stride for stage in model.stages)
    return ceil_div(header.height, product), ceil_div(header.width, product)


# --- 5.2 Tensors ---------------------------------------------------------------------------------


class TensorShape(NamedTuple):
    """A convolution's weight also has its groups and the `area` of its maps: rows x columns.

    A vector is a map of area 1.
    """

    name: str
    shape: tuple[int, ...]
    area: int = 0
    groups: int = 1


def convolution(
    name: str, inputs: int, outputs: int, kernel: int, area: int, groups: int = 1
) -> list[TensorShape]:
    weight = (outputs, inputs // groups, kernel, kernel)
    return [
        TensorShape(f"{name}.weight", weight, area, groups),
        TensorShape(f"{name}.bias", (outputs,)),
    ]


def hfscm_shapes(name: str, hfscm: Hfscm, channels: int, area: int) -> list[TensorShape]:
    reduced = ceil_div(channels, hfscm.reduction)
    outputs = {SINGLE: 1, DENSE: channels, GROUPED: 5 * ceil_div(channels, 5)}[hfscm.attention]
    groups = 5 if hfscm.attention == GROUPED else 1
    kernel = hfscm.kernel
    shapes = [
        *convolution(f"{name}.channel_reduce", channels, reduced, 1, area),
        *convolution(f"{name}.channel_expand", reduced, channels, 1, area),
        *convolution(f"{name}.spatial_reduce", channels, reduced, kernel, area),
        TensorShape(f"{name}.phi", (4,)),
        *convolution(f"{name}.spatial_expand", 5 * reduced, outputs, kernel, area, groups),
    ]
    for j in range(hfscm.extra_convolutions):
        shapes += convolution(f"{name}.extra.{j}", channels, channels, hfscm.extra_kernel, area)
    return shapes


def mixing_shapes(mixing: Mixing, levels: int, channels: int, area: int) -> list[TensorShape]:
    """The tensors of E-NeRV's first map from `grid` on."""
    width = mixing.heads * mixing.head_width
    shapes = convolution("grid", 4 * levels, channels, 1, area)
    for j in range(2):
        shapes += convolution(f"mixers.{j}.attend", channels, 3 * width, 1, area)
        shapes += convolution(f"mixers.{j}.project", width, channels, 1, area)
        shapes += convolution(f"mixers.{j}.expand", channels, mixing.feed_forward, 1, area)
        shapes += convolution(f"mixers.{j}.reduce", mixing.feed_forward, channels, 1, area)
    shapes += convolution("modulation.0", 2 * levels, mixing.modulation, 1, area=1)
    shapes += convolution("modulation.1", mixing.modulation, mixing.modulation, 1, area=1)
    return shapes


def first_map_shapes(model: Model, frames: int, rows: int, columns: int) -> list[TensorShape]:
    channels, area = model.stem_channels, rows * columns
    time, mixing = model.time, model.mixing
    shapes: list[TensorShape] = []
    if time is None:
        shapes.append(TensorShape("embedding", (frames, model.embedding_channels, rows, columns)))
        if model.detail is not None:
            t = math.prod(stage.stride for stage in model.stages[: model.detail.stage])
            finer = (frames, model.detail.channels, rows * t, columns * t)
            shapes.append(TensorShape("detail", finer))
        return shapes + convolution("stem", model.embedding_channels, channels, 1, area)
    if time.width:
        shapes += convolution("time", 2 * time.levels, time.width, 1, area=1)
    inputs = time.width or 2 * time.levels
    if mixing is None:
        return shapes + convolution("stem", inputs, channels * area, 1, area=1)
    shapes += convolution("stem", inputs, channels, 1, area=1)
    return shapes + mixing_shapes(mixing, time.levels, channels, area)


def stage_shapes(model: Model, i: int, channels: int, area: int) -> list[TensorShape]:
    """The tensors of a stage up to HFSCM; `channels` and `area` are those of its input."""
    stage, mixing = model.stages[i], model.mixing
    name, square = f"stages.{i}", stage.stride**2
    if mixing is None:
        detail: list[TensorShape] = []
        if model.detail is not None and model.detail.stage == i:
            detail = convolution(f"{name}.detail", model.detail.channels, channels, 3, area)
        outputs = stage.channels if stage.bilinear else stage.channels * square
        return detail + convolution(f"{name}.conv", channels, outputs, stage.kernel, area)
    shapes = convolution(f"{name}.modulate", mixing.modulation, 2 * channels, 1, area=1)
    bottleneck = mixing.bottleneck if i == 0 else 0
    outputs = (bottleneck or stage.channels) * square
    shapes += convolution(f"{name}.conv", channels, outputs, stage.kernel, area)
    if bottleneck:
        shapes += convolution(f"{name}.widen", bottleneck, stage.channels, 3, area * square)
    return shapes


def tensor_shapes(model: Model, frames: int, header: Header) -> list[TensorShape]:
    """The tensors of a segment, in the order of the file."""
    rows, columns = grid_size(model, header)
    channels, area = model.stem_channels, rows * columns
    shapes = first_map_shapes(model, frames, rows, columns)
    msfrp: list[TensorShape] = []
    for i, stage in enumerate(model.stages):
        shapes += stage_shapes(model, i, channels, area)
        channels, area = stage.channels, area * stage.stride**2
        if model.hfscm.mask >> i & 1:
            shapes += hfscm_shapes(f"stages.{i}.hfscm", model.hfscm, channels, area)
        if i == model.msfrp_stage:
            msfrp = convolution("msfrp", channels, 3, 1, area)
    return shapes + msfrp + convolution("head", channels, 3, model.head_kernel, area)


def attention_cost(model: Model, area: int) -> tuple[int, int]:
    """Section 11: multiply-accumulates a frame of both attentions, and the weights of one."""
    if model.mixing is None:
        return 0, 0
    heads, width = model.mixing.heads, model.mixing.head_width
    return 4 * heads * width * area**2, heads * area**2


def check_limits(shapes: list[TensorShape], budget: int, attention: tuple[int, int]) -> None:
    """Section 11: refuse what is too large, before anything is allocated."""
    parameters = sum(math.prod(tensor.shape) for tensor in shapes)
    operations, values = attention
    for _, shape, area, groups in shapes:
        if area:
            operations += math.prod(shape) * area
            values = max(values, (shape[0] + shape[1] * groups) * area)
    for value, most, unit in (
        (parameters, min(MAX_PARAMETERS, budget), "parameters"),
        (operations, MAX_OPERATIONS, "operations a frame"),
        (32 * values, MAX_MAP_BYTES, "bytes of maps"),
    ):
        if value > most:
            raise UnsupportedFile(f"{value} {unit} are too many for this decoder")


# --- 5.3 Tensor heads ----------------------------------------------------------------------------

EXPLICIT, CONSTANT, PER_CHANNEL = 64, 65, 0x80
OF_FRAMES = ("embedding", "detail")
MAX_CLASSES = 11


@dataclass(frozen=True)
class Table:
    """Section 6: a frequency for each index, and the symbols that the indices stand for.

    The table of a constant tensor or class has one symbol.
    """

    frequencies: tuple[int, ...]
    symbols: Bytes

    @cached_property
    def before(self) -> list[int]:
        """The sum of the frequencies before each index and, last, of all."""
        return [0, *accumulate(self.frequencies)]


@dataclass(frozen=True)
class Tensor:
    """A tensor head. A predicted tensor has a table for each class of changes, others have one."""

    name: str
    shape: tuple[int, ...]
    zero: int
    scales: Floats
    tables: tuple[Table, ...]
    predicted: bool


def read_tensor_head(reader: Reader, tensor: TensorShape) -> Tensor:
    name, shape = tensor.name, tensor.shape
    classes = reader.byte("prediction", 0, MAX_CLASSES) if name in OF_FRAMES else 0
    coding, zero, count = reader.u8(), reader.u8(), 1
    axis = 1 if name in OF_FRAMES else 0
    if coding & PER_CHANNEL:
        count = shape[axis]
        if len(shape) != 4 or count == 1:
            reader.fail(f"{name} cannot have a scale for each channel")
    bits = np.frombuffer(reader.take(2 * count), "<u2").astype(np.uint32)
    if bits.min() < 0x2B80 or bits.max() > 0x4980:
        reader.fail(f"a scale of {name} is out of range")
    scales = (bits << 16).view(np.float32).astype(np.float64)
    scales = scales.reshape(-1, *[1] * (len(shape) - axis - 1))
    centre = 128 if classes else zero
    first = read_table(reader, tensor, coding & ~PER_CHANNEL, centre)
    others = [read_table(reader, tensor, reader.u8(), centre) for _ in range(1, classes)]
    return Tensor(name, shape, zero, scales, (first, *others), predicted=classes > 0)


def read_table(reader: Reader, tensor: TensorShape, coding: int, centre: int) -> Table:
    """What follows the coding of a tensor or a class; frozen tables lie about `centre`."""
    reader.within(coding, f"coding of {tensor.name}", 0, CONSTANT)
    if coding == CONSTANT:
        return Table((2**24,), np.array([reader.u8()], np.uint8))
    if math.prod(tensor.shape) == 1:
        reader.fail(f"{tensor.name} has one value and is not constant")
    if coding == EXPLICIT:
        return read_explicit_table(reader)
    return Table(frozen_tables()[coding], ((np.arange(256) + centre - 128) % 256).astype(np.uint8))


def dequantize(tensor: Tensor, symbols: Bytes) -> Floats:
    """The values of a tensor, or of the frame of one of frames whose symbols are given."""
    return (symbols.astype(np.float64) - tensor.zero) * tensor.scales


# --- 5.4 Classes of changes ----------------------------------------------------------------------

BITS = np.array([g.bit_length() for g in range(2 ** (MAX_CLASSES - 1))], np.uint8)  # of each `g`


def next_activity(activity: Activity, changes: Bytes) -> Activity:
    """The activity of all places of a frame, from that of the frame before and its changes."""
    size = np.abs(changes.astype(np.int16) - 128)
    result: Activity = activity - (activity >> 2) + 16 * np.minimum(size, 7)
    return result


def classes_of(activity: Activity, classes: int) -> Bytes:
    """The class of each change of a frame, one of so many."""
    a = np.pad(activity, ((0, 0), (1, 1), (1, 1)))
    around = a[:, :-2, 1:-1] + a[:, 2:, 1:-1] + a[:, 1:-1, :-2] + a[:, 1:-1, 2:]
    result: Bytes = np.minimum(BITS[(4 * activity + around) >> 2], np.uint8(classes - 1))
    return result


# --- 6. Entropy coding ---------------------------------------------------------------------------

# --- 6.1 Frozen tables ---

RATIO_TEXT = """
    38519092 90127717 180911775 320262847 511467228 750699934 1028166770 1330541637
    1643625925 1954465432 2252619497 2530630250 2783912793 3010316285 3209558721 3382668369
    3531502366 3658368385 3765748531 3856111452 3931794188 3994935683 4047446489 4091002472
    4127053429 4156840192 4181415830 4201668112 4218341474 4232057496 4243333390 4252598328
    16604001 102784064 349822719 796574788 1384636467 2007502593 2576565532 3046919999
    3410248108 3678381710 3870271760 4004786039 4097776964 4161463711 4204807408 4234181666
    4254032287 4267421413 4276440723 4282511162 4286594501 4289340129 4291185801 4292426284
    4293259920 4293820099 4294196504 4294449415 4294619344 4294733517 4294810227 4294861767
"""
RATIOS = [int(ratio) for ratio in RATIO_TEXT.split()]
FROZEN_SHA256 = "1e18f37404e1cc804d93db955845761fee7b1be0d52d93666041c5634e5429d6"


def frozen_table(t: int) -> tuple[int, ...]:
    ratio = RATIOS[t]
    step = 2**32 if t < 32 else (ratio * ratio) >> 32
    weight = [2**48]
    for d in range(1, 129):
        weight.append((weight[d - 1] * ratio) >> 32)
        ratio = (ratio * step) >> 32
    total = sum(weight[abs(i - 128)] for i in range(256))
    frequency = [1 + weight[abs(i - 128)] * (2**24 - 256) // total for i in range(256)]
    frequency[128] += 2**24 - sum(frequency)
    return tuple(frequency)


@cache
def frozen_tables() -> tuple[tuple[int, ...], ...]:
    tables = tuple(frozen_table(t) for t in range(64))
    digest = hashlib.sha256(b"".join(struct.pack("<256I", *table) for table in tables))
    if digest.hexdigest() != FROZEN_SHA256:
        raise AssertionError("the frozen tables are not those of the specification")
    return tables


# --- 6.2 Explicit tables ---


def read_weights(reader: Reader, count: int, order: int) -> list[int]:
    """Exponential Golomb codes, none of which has more than 49 bits, and the bits after them."""
    size = min(ceil_div(49 * count, 8), reader.left())
    bits = "".join(f"{byte:08b}" for byte in reader.data[reader.position :][:size])
    weights, start = [], 0
    for _ in range(count):
        one = bits.find("1", start)
        length = one - start + order
        if one < 0 or length > 24 or one + length >= len(bits):
            reader.fail("the code of a weight is too long")
        start = one + length + 1
        weights.append(int(bits[one:start], 2) - 2**order)
    reader.take(ceil_div(start, 8))
    if "1" in bits[start : 8 * ceil_div(start, 8)]:
        reader.fail("the bits after the weights are not 0")
    return weights


def read_explicit_table(reader: Reader) -> Table:
    first, last = reader.u8(), reader.u8()
    if last <= first:
        reader.fail("the last symbol of a table is not above the first")
    order = reader.byte("order", 0, 23)
    weights = read_weights(reader, last - first + 1, order)
    if weights[0] == 0 or weights[-1] == 0:
        reader.fail("the first or last symbol of a table has no weight")
    total = reader.within(sum(weights), "sum of weights", 2, 2**24)
    symbols = [first + i for i, weight in enumerate(weights) if weight]
    weights = [weight for weight in weights if weight]
    frequencies = [weight * 2**24 // total for weight in weights]
    frequencies[weights.index(max(weights))] += 2**24 - sum(frequencies)
    return Table(tuple(frequencies), np.array(symbols, np.uint8))


# --- 6.3 Decoding ---


class RangeCoder:
    """The stack of words, which are read up to the end of the payload, and the 64-bit state."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        count = reader.whole("words", 0, reader.left() // 4)
        self.words = np.frombuffer(reader.take(4 * count), "<u4").tolist()
        reader.end()
        if self.words and self.words[-1] == 0:
            reader.fail("the last word of the data is 0")
        self.state = 0
        for _ in range(2):
            if self.words:
                self.state = self.state << 32 | self.words.pop()

    def decode(self, count: int, table: Table) -> Bytes:
        """`count` symbols; a constant tensor or class has none in the data."""
        if len(table.symbols) == 1:
            return np.full(count, table.symbols[0])
        frequencies, before = table.frequencies, table.before
        state, words = self.state, self.words
        indices = bytearray(count)
        for n in range(count):
            q = state & 0xFFFFFF
            i = bisect_right(before, q) - 1
            state = (state >> 24) * frequencies[i] + q - before[i]
            indices[n] = i
            if state < 2**32:
                if words:
                    state = state << 32 | words.pop()
                elif state < frequencies[0]:
                    break  # from here on the index is 0 and the state stays as it is
        self.state = state
        return table.symbols[np.frombuffer(indices, np.uint8)]

    def finish(self) -> None:
        if self.state or self.words:
            self.reader.fail("the coded data is damaged: the final state is not 0")


def decode_symbols(coder: RangeCoder, tensor: Tensor) -> Bytes:
    if len(tensor.tables) > 1:
        coded = decode_classes(coder, tensor)
    else:
        coded = coder.decode(math.prod(tensor.shape), tensor.tables[0]).reshape(tensor.shape)
    return add_up(coded, tensor.zero) if tensor.predicted else coded


def decode_classes(coder: RangeCoder, tensor: Tensor) -> Bytes:
    """The changes of a tensor of more than one class: by frames, within a frame by classes."""
    changes = np.empty(tensor.shape, np.uint8)
    activity = np.zeros(tensor.shape[1:], np.int16)
    for frame in changes:
        classes = classes_of(activity, len(tensor.tables))
        for number, table in enumerate(tensor.tables):
            places = classes == number
            if count := int(np.count_nonzero(places)):
                frame[places] = coder.decode(count, table)
        activity = next_activity(activity, frame)
    return changes


def add_up(changes: Bytes, zero: int) -> Bytes:
    """Section 5.3: symbols from their changes from frame to frame."""
    symbols = np.empty_like(changes)
    before = np.full(changes.shape[1:], zero, np.int64)
    for n, change in enumerate(changes):
        before = (before + change - 128) % 256
        symbols[n] = before
    return symbols


# --- 7. HASH, META, AUDI -------------------------------------------------------------------------


def read_hash(payload: bytes, segments: int) -> list[bytes]:
    """The first 8 bytes of the SHA-256 of each segment's reference frames."""
    reader = Reader(payload, "HASH")
    hashes = [reader.take(8) for _ in range(segments)]
    reader.end()
    return hashes


class MessagePack(Reader):
    """A payload of MessagePack as META allows it."""

    def integer(self, size: int, low: int, high: int) -> int:
        """A big-endian integer in low..high, where it has no shorter form."""
        value = int.from_bytes(self.take(size), "big", signed=low < 0)
        return self.within(value, "integer", low, high)

    def float64(self) -> float:
        value: float = struct.unpack(">d", self.take(8))[0]
        if not math.isfinite(value):
            self.fail("a float is not finite")
        return value

    def string(self, length: int) -> str:
        try:
            return self.take(self.within(length, "length of a string", 0, 4096)).decode()
        except UnicodeDecodeError:
            self.fail("a string is not UTF-8")

    def array(self, length: int, depth: int, most: int = 1024) -> list[object]:
        self.within(depth, "depth", 1, 4)
        self.within(length, "length of an array or a map", 0, most)
        return [self.item(depth + 1) for _ in range(length)]

    def map(self, length: int, depth: int) -> dict[str, object]:
        items = self.array(2 * length, depth, most=2 * 256)
        keys = [key for key in items[0::2] if isinstance(key, str)]
        if len(set(keys)) < length:
            self.fail("a key is not a string or is repeated")
        return dict(zip(keys, items[1::2], strict=True))

    def item(self, depth: int) -> object:
        code = self.u8()
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 256
        if code < 0x90:
            return self.map(code & 0x0F, depth)
        if code < 0xA0:
            return self.array(code & 0x0F, depth)
        return self.string(code & 0x1F) if code < 0xC0 else self.long_item(code, depth)

    def long_item(self, code: int, depth: int) -> object:
        """The 32-bit forms of strings, arrays and maps are missing: they would be too long."""
        k = code & 3
        match code:
            case 0xC0 | 0xC2 | 0xC3:
                return None if code == 0xC0 else code == 0xC3
            case 0xCB:
                return self.float64()
            case 0xCC | 0xCD | 0xCE | 0xCF:
                return self.integer(1 << k, (2**7, 2**8, 2**16, 2**32)[k], 2**64)
            case 0xD0 | 0xD1 | 0xD2 | 0xD3:
                high = (-33, -(2**7) - 1, -(2**15) - 1, -(2**31) - 1)[k]
                return self.integer(1 << k, -(2**63), high)
            case 0xD9 | 0xDA:
                return self.string(self.integer(k, (0, 2**5, 2**8)[k], 2**16))
            case 0xDC:
                return self.array(self.integer(2, 16, 2**16), depth)
            case 0xDE:
                return self.map(self.integer(2, 16, 2**16), depth)
        self.fail(f"MessagePack type {code:#04x} is not allowed")


META_TYPES = {"tool": str, "source": str, "title": str, "epochs": int, "seed": int, "start": int}


def is_known(key: str, value: object) -> bool:
    """Whether section 7 has this key with such a value."""
    if isinstance(value, list):
        kinds = [type(item) for item in value]
        if key == "crop":
            return kinds == [int, int] and min(value) >= 1
        if key == "chapters":
            return all(is_chapter(item) for item in value) and (
                [item[0] for item in value] == sorted(item[0] for item in value)
            )
        if key == "mastering_display":
            return kinds == [int] * 10 and min(value) >= 0 and max(value) < 2**32
        if key == "content_light":
            return kinds == [int, int] and min(value) >= 0 and max(value) < 2**16
        return key == "audio" and set(kinds) <= {str}
    if isinstance(value, dict):
        return key == "tags" and all(isinstance(item, str) for item in value.values())
    if type(value) is not META_TYPES.get(key):
        return False
    if isinstance(value, int):
        return value >= 0 and (key != "start" or value < 2**53)
    return key != "source" or re.fullmatch("[0-9a-f]{32}", str(value)) is not None


def is_chapter(item: object) -> bool:
    if not isinstance(item, list) or [type(field) for field in item] != [int, int, str]:
        return False
    return bool(0 <= item[0] <= item[1] < 2**53)


def read_meta(payload: bytes) -> dict[str, object]:
    """The pairs that a decoder of this version does not ignore."""
    pack = MessagePack(payload, "META")
    pack.within(len(payload), "size", 1, 65536)
    value = pack.item(depth=1)
    pack.end()
    if not isinstance(value, dict):
        pack.fail("it is not a map")
    return {key: item for key, item in value.items() if is_known(key, item)}


def read_audi(payload: bytes) -> tuple[int, bytes]:
    """The container and the content."""
    reader = Reader(payload, "AUDI")
    return reader.byte("container", 0, 1), reader.blob(1, 2**30)


@dataclass(frozen=True)
class File:
    """All that a file holds; `timestamps` has one more item than frames, the end of the last."""

    header: Header
    timestamps: npt.NDArray[np.int64]
    meta: dict[str, object]
    segments: tuple[Segment, ...]
    hashes: list[bytes]
    audio: tuple[int, bytes] | None


def parse(data: bytes) -> File:
    """Read a whole file; raises InvalidFile on any that is not valid."""
    try:
        chunks = read_chunks(data)
        header = read_head(*chunks[0])
        payloads = sort_chunks(chunks, header.segments)
        return File(
            header,
            timestamps=read_ptsd(payloads[PTSD], header),
            meta=read_meta(payloads[META][0]) if payloads[META] else {},
            segments=tuple(read_segments(payloads[SEGM], header)),
            hashes=read_hash(payloads[HASH][0], header.segments) if payloads[HASH] else [],
            audio=read_audi(payloads[AUDI][0]) if payloads[AUDI] else None,
        )
    except MemoryError:
        raise UnsupportedFile("the memory does not suffice") from None


# --- 8. Evaluating the network -------------------------------------------------------------------


def gelu(x: Floats) -> Floats:
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2)).reshape(-1).data), np.float64, x.size)
    return x * (1 + erf.reshape(x.shape)) / 2


def sigmoid(x: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-x))
    return result


def convolve(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """A convolution, as a sum of one matrix product for each tap of the kernel.

    The padded map is laid out flat, so that the input of a tap is a slice of it; the columns that
    the padding adds to the result are cut off at the end.
    """
    inputs, rows, columns = x.shape
    outputs, group_inputs, kernel, _ = weight.shape
    groups = inputs // group_inputs
    pad = kernel // 2
    width = columns + 2 * pad
    flat = np.pad(x, ((0, 0), (pad, pad + (pad > 0)), (pad, pad))).reshape(groups, group_inputs, -1)
    weight = weight.reshape(groups, outputs // groups, group_inputs, kernel, kernel)
    y = np.zeros((groups, outputs // groups, rows * width))
    for a in range(kernel):
        for b in range(kernel):
            first = a * width + b
            y += weight[..., a, b] @ flat[..., first : first + rows * width]
    result = y.reshape(outputs, rows, width)[..., :columns]
    return np.ascontiguousarray(result + bias[:, None, None])


def pixel_shuffle(x: Floats, stride: int) -> Floats:
    channels, rows, columns = x.shape
    split = x.reshape(channels // stride**2, stride, stride, rows, columns)
    return split.transpose(0, 3, 1, 4, 2).reshape(-1, rows * stride, columns * stride)


def resize(x: Floats, rows: int, columns: int) -> Floats:
    """Bilinear resizing."""
    for axis, m in (1, rows), (2, columns):
        n = x.shape[axis]
        u = np.maximum(0, (np.arange(m) + 0.5) * n / m - 0.5)
        v = np.floor(u).astype(np.int64)
        t = (u - v).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
        x = (1 - t) * x.take(v, axis) + t * x.take(np.minimum(v + 1, n - 1), axis)
    return x


def enlarge(x: Floats, stage: Stage) -> Floats:
    """A stage's map with `stride` times its rows and columns."""
    if stage.bilinear:
        return resize(x, *(stage.stride * side for side in x.shape[1:]))
    return pixel_shuffle(x, stage.stride)


def haar_step(x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """LL, HL, LH, HH."""
    a, b = x[:, 0::2, 0::2], x[:, 0::2, 1::2]
    c, d = x[:, 1::2, 0::2], x[:, 1::2, 1::2]
    return (a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4


def position_code(time: Time, n: int, count: int) -> Floats:
    """A vector, as a map of one row and column; quotients of Python's integers are rounded once."""
    turns = []
    for level in range(time.levels):
        whole = 2 * time.denominator**level * count
        turns.append(time.numerator**level * n % whole / whole)
    a = 2 * math.pi * np.array(turns)
    return np.stack([np.sin(a), np.cos(a)], axis=1).reshape(-1, 1, 1)


def grid_code(time: Time, rows: int, columns: int) -> Floats:
    """At each place the position code of its row, then that of its column."""
    down = np.concatenate([position_code(time, p, rows) for p in range(rows)], axis=1)
    across = np.concatenate([position_code(time, q, columns) for q in range(columns)], axis=2)
    return np.concatenate([np.repeat(down, columns, axis=2), np.repeat(across, rows, axis=1)])


def standardise(x: Floats, axes: tuple[int, ...]) -> Floats:
    centred = x - x.mean(axes, keepdims=True)
    result: Floats = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
    return result


def attend(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """One head of a mixer; all maps have the shape (channels, places)."""
    weights = queries.T @ keys / math.sqrt(len(queries))
    weights -= weights.max(axis=1, keepdims=True)  # a factor of all, so that exp does not overflow
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=1, keepdims=True)
    result: Floats = values @ weights.T
    return result


class Network:
    """The network of one segment."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        pairs = zip(segment.tensors, segment.symbols, strict=True)
        self.values = {
            tensor.name: dequantize(tensor, symbols)
            for tensor, symbols in pairs
            if tensor.name not in OF_FRAMES
        }
        self.grid_map: Floats | None = None  # `g`, which all frames share

    def conv(self, name: str, x: Floats) -> Floats:
        return convolve(x, self.values[f"{name}.weight"], self.values[f"{name}.bias"])

    def frame(self, n: int) -> Floats:
        """The values of frame `n` before cropping; they are NaN where `y` or `r` is."""
        model = self.segment.model
        x, time_branch = self.first_map(n)
        m: Floats | None = None
        for i, stage in enumerate(model.stages):
            if model.detail is not None and model.detail.stage == i:
                detail = dequantize(self.segment.tensors[1], self.segment.symbols[1][n])
                x = x + self.conv(f"stages.{i}.detail", detail)
            if time_branch is not None:
                x = self.modulate(f"stages.{i}.modulate", x, time_branch)
            x = enlarge(self.conv(f"stages.{i}.conv", x), stage)
            if f"stages.{i}.widen.weight" in self.values:
                x = self.conv(f"stages.{i}.widen", x)
            x = gelu(x)
            if model.hfscm.mask >> i & 1:
                x = self.hfscm(f"stages.{i}.hfscm", model.hfscm, x)
            if i == model.msfrp_stage:
                m = self.conv("msfrp", x)
        y = self.conv("head", x)
        r = 0 if m is None else resize(m, *y.shape[1:])
        if model.msfrp_after:
            return np.clip((1 + np.tanh(y)) / 2 + r, 0, 1)
        return (1 + np.tanh(y + r)) / 2

    def first_map(self, n: int) -> tuple[Floats, Floats | None]:
        """The first map and, in E-NeRV, `time_branch`."""
        model, frames = self.segment.model, self.segment.frames
        if model.time is None:
            embedding = dequantize(self.segment.tensors[0], self.segment.symbols[0][n])
            return gelu(self.conv("stem", embedding)), None
        e = position_code(model.time, n, frames)
        stem = self.conv("stem", gelu(self.conv("time", e)) if model.time.width else e)
        if model.mixing is None:
            return gelu(stem).reshape(-1, *self.segment.grid), None
        if self.grid_map is None:
            grid = self.conv("grid", grid_code(model.time, *self.segment.grid))
            self.grid_map = self.mixer("mixers.0", model.mixing, gelu(grid))
        time_branch = gelu(self.conv("modulation.1", gelu(self.conv("modulation.0", e))))
        return self.mixer("mixers.1", model.mixing, self.grid_map * stem), time_branch

    def mixer(self, name: str, mixing: Mixing, x: Floats) -> Floats:
        q, k, v = self.conv(f"{name}.attend", x).reshape(3, mixing.heads, mixing.head_width, -1)
        o = np.concatenate([attend(q[head], k[head], v[head]) for head in range(mixing.heads)])
        x = x + self.conv(f"{name}.project", o.reshape(-1, *x.shape[1:]))
        return x + self.conv(f"{name}.reduce", gelu(self.conv(f"{name}.expand", x)))

    def modulate(self, name: str, x: Floats, time_branch: Floats) -> Floats:
        scale, shift = np.split(self.conv(name, time_branch), 2)
        return standardise(x, axes=(1, 2)) * (1 + scale) + shift

    def hfscm(self, name: str, hfscm: Hfscm, f1: Floats) -> Floats:
        reduced = gelu(self.conv(f"{name}.channel_reduce", f1))
        f2 = f1 * sigmoid(self.conv(f"{name}.channel_expand", reduced)) + f1
        features = self.features(name, self.conv(f"{name}.spatial_reduce", f2))
        if self.segment.model.standardise:
            features = standardise(features, axes=(0, 1, 2))
        attention = sigmoid(self.conv(f"{name}.spatial_expand", gelu(features)))
        x = f2 * attention[: len(f1)] + f2
        for j in range(hfscm.extra_convolutions):
            x = self.conv(f"{name}.extra.{j}", gelu(x))
        return x + f1

    def features(self, name: str, z: Floats) -> Floats:
        """The channels of z, then those of b_LL, b_HL, b_LH, b_HH."""
        _, rows, columns = z.shape
        even = np.pad(z, ((0, 0), (0, rows % 2), (0, columns % 2)), mode="edge")
        maps = [z]
        for phi, band in zip(self.values[f"{name}.phi"], haar_step(even), strict=True):
            u = phi * resize(band, *even.shape[1:])
            maps.append(u[:, :rows, :columns] + z)
        return np.concatenate(maps)


def sample_type(bit_depth: int) -> str:
    """How HASH has samples: a byte, or `u16`."""
    return "u1" if bit_depth == 8 else "<u2"


def render(file: File, segment_index: int) -> Iterator[Samples]:
    """The reference frames (section 9) of a segment, each (height, width, 3)."""
    segment = file.segments[segment_index]
    header = file.header
    try:
        network = Network(segment)
        for n in range(segment.frames):
            with np.errstate(all="ignore"):
                frame = network.frame(n)
                if np.isnan(frame).any():
                    raise InvalidFile(f"SEGM {segment_index}: frame {n} is not a number")
                frame = frame[:, : header.height, : header.width]
                largest = 2**header.bit_depth - 1
                samples = np.floor(largest * frame + 0.5).astype(sample_type(header.bit_depth))
            yield np.ascontiguousarray(samples.transpose(1, 2, 0))
    except MemoryError:
        raise UnsupportedFile(f"SEGM {segment_index}: the memory does not suffice") from None


# --- Command line --------------------------------------------------------------------------------


def decode(file: File, frames: Samples | None) -> dict[str, object]:
    """Render all segments, into `frames` if given, and compare them with HASH; a summary."""
    number, segments = 0, []
    for index, segment in enumerate(file.segments):
        digest = hashlib.sha256()
        for frame in render(file, index):
            digest.update(frame.data)
            if frames is not None:
                frames[number] = frame
            number += 1
        found = digest.digest()[:8]
        summary = {
            "frames": segment.frames,
            "parameters": sum(symbols.size for symbols in segment.symbols),
            "model": asdict(segment.model),
            "frame_hash": found.hex(),
            "frames_match": file.hashes[index] == found if file.hashes else None,
        }
        segments.append(summary)
    return {
        "header": asdict(file.header),
        "first_time": int(file.timestamps[0]),
        "end_time": int(file.timestamps[-1]),
        "meta": file.meta,
        "audio": file.audio and {"container": file.audio[0], "bytes": len(file.audio[1])},
        "segments": segments,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Decode an .hfsv file by its specification.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--frames", type=Path, help="write the frames to this .npy file")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    arguments = parser.parse_args()
    try:
        file = parse(arguments.file.read_bytes())
        frames: Samples | None = None
        if arguments.frames is not None:
            shape = (file.header.frames, file.header.height, file.header.width, 3)
            frames = np.lib.format.open_memmap(
                arguments.frames, "w+", sample_type(file.header.bit_depth), shape
            )
        summary = decode(file, frames)
    except (InvalidFile, OSError) as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(summary, indent=2))
        return 0
    for name, value in summary.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name}: {json.dumps(line)}")  # which escapes META's control characters
    return 0


if __name__ == "__main__":
    sys.exit(main())
