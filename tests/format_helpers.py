"""Files put together by hand from bitstream_spec.md, and the small files that the tests damage.

What is here is written from the spec's text and calls nothing of ``nervcodec.bitstream`` but the
dataclasses, so that a mistake in the code is not repeated in the tests.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nervcodec.bitstream.coding import QuantizedTensor
from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import AudioData, StreamReader, write_stream
from nervcodec.bitstream.syntax import (
    Architecture,
    Attention,
    DetailSpec,
    HfscmSpec,
    ModelSpec,
    StageSpec,
    StreamHeader,
    TimeSpec,
    TransformerSpec,
)
from nervcodec.bitstream.tensors import Limits, TensorSpec, tensor_specs

SPEC = (Path(__file__).parents[1] / "bitstream_spec.md").read_text(encoding="utf-8")

SIGNATURE = bytes.fromhex("894846530D0A1A0A")
HEAD, PTSD, META, SEGM, HASH, AUDI, END = 0x81, 0x87, 0x05, 0x82, 0x03, 0x06, 0xFF

SMALL_LIMITS = Limits(parameters=20_000, macs_per_frame=1 << 30, activation_bytes=1 << 26)
"""Limits under which mutated files stay cheap to decode."""

Chunks = list[tuple[int, bytes]]


# --- bytes, from sections 2 and 3 ---------------------------------------------------------------


def leb(value: int) -> bytes:
    """Minimal unsigned LEB128 by division."""
    groups = [value % 128]
    while value := value // 128:
        groups.append(value % 128)
    return bytes([group + 128 for group in groups[:-1]] + groups[-1:])


def zigzag(value: int) -> bytes:
    return leb(2 * value) if value >= 0 else leb(2 * -value - 1)


def chunk(kind: int, payload: bytes) -> bytes:
    body = bytes([kind]) + leb(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def end_chunk(before: bytes) -> bytes:
    return chunk(END, leb(len(before)) + hashlib.sha256(before).digest()[:16])


def assemble(chunks: Sequence[tuple[int, bytes]]) -> bytes:
    """A file of these chunks, with a right END."""
    before = SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks)
    return before + end_chunk(before)


def take_leb(data: bytes, position: int) -> tuple[int, int]:
    """The LEB128 at ``position`` and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        value += (byte % 128) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def disassemble(data: bytes) -> Chunks:
    """The chunks of a sound file, END left out."""
    chunks, position = [], 8
    while data[position] != END:
        length, start = take_leb(data, position + 1)
        chunks.append((data[position], data[start : start + length]))
        position = start + length + 4
    return chunks


# --- HEAD and model, from sections 4 and 5.1, one entry a field ---------------------------------


def head_fields() -> dict[str, bytes]:
    return {
        "major": b"\x00",
        "minor": b"\x06",
        "profile": b"\x00",
        "flags": b"\x00",
        "width": leb(12),
        "height": leb(10),
        "frames": leb(5),
        "segments": leb(2),
        "time base numerator": leb(1),
        "time base denominator": leb(600),
        "start": zigzag(-7),
        "frame duration": leb(25),
        "aspect numerator": leb(4),
        "aspect denominator": leb(3),
        "primaries": b"\x01",
        "transfer": b"\x0d",
        "matrix": b"\x05",
        "range": b"\x01",
        "rotation": b"\x03",
        "bit depth": b"\x08",
    }


def head_bytes(**changes: bytes) -> bytes:
    """A HEAD payload; ``time_base_numerator=...`` changes the field of that name."""
    return _join(head_fields(), changes)


HEAD_VALUE = StreamHeader(
    width=12,
    height=10,
    frames=5,
    segments=2,
    time_base=Fraction(1, 600),
    start_pts=-7,
    frame_duration=25,
    sample_aspect_ratio=Fraction(4, 3),
    primaries=1,
    transfer=13,
    matrix=5,
    full_range=True,
    rotation=270,
)
"""What :func:`head_bytes` says."""


def model_fields() -> dict[str, bytes]:
    return {
        "architecture": b"\x01",
        "flags": b"\x03",
        "stages": b"\x02",
        "stride": b"\x03",
        "kernel": b"\x01",
        "channels": leb(130),
        "second stride": b"\x02",
        "second kernel": b"\x05",
        "second channels": leb(7),
        "embedding channels": leb(4),
        "stem channels": leb(300),
        "head kernel": b"\x03",
        "mask": b"\x02",
        "reduction": b"\x05",
        "attention kernel": b"\x07",
        "attention": b"\x02",
        "extra convolutions": b"\x01",
        "extra kernel": b"\x09",
        "msfrp stage": b"\x01",
    }


def model_bytes(**changes: bytes) -> bytes:
    return _join(model_fields(), changes)


MODEL_VALUE = ModelSpec(
    stages=(StageSpec(3, 1, 130, False), StageSpec(2, 5, 7, True)),
    embedding_channels=4,
    stem_channels=300,
    head_kernel=3,
    hfscm=HfscmSpec(
        reduction=5, kernel=7, attention=Attention.GROUPED, extra_convs=1, extra_kernel=9
    ),
    msfrp_stage=1,
)
"""What :func:`model_bytes` says."""


def _join(fields: dict[str, bytes], changes: dict[str, bytes]) -> bytes:
    for name, value in changes.items():
        key = name.replace("_", " ")
        assert key in fields, key
        fields[key] = value
    return b"".join(fields.values())


# --- frozen tables, from section 6.1 ------------------------------------------------------------


@cache
def spec_constants() -> tuple[int, ...]:
    """The 64 constants of section 6.1: rows of eight numbers."""
    rows = re.findall(r"^    ((?:\d+ ){7}\d+)$", SPEC, re.MULTILINE)
    return tuple(int(number) for row in rows for number in row.split())


@cache
def spec_table(t: int) -> tuple[int, ...]:
    """Table ``t``, made as the pseudocode of section 6.1 says."""
    ratio = spec_constants()[t]
    step = 2**32 if t < 32 else (ratio * ratio) >> 32
    weight = [2**48]
    for d in range(1, 129):
        weight.append((weight[d - 1] * ratio) >> 32)
        ratio = (ratio * step) >> 32
    total = sum(weight[abs(i - 128)] for i in range(256))
    frequency = [1 + weight[abs(i - 128)] * (2**24 - 256) // total for i in range(256)]
    frequency[128] = frequency[128] + 2**24 - sum(frequency)
    return tuple(frequency)


# --- small networks and files -------------------------------------------------------------------


@st.composite
def model_specs(
    draw: Callable[..., Any], max_channels: int = 9, stages: int = 3, plain: bool = False
) -> ModelSpec:
    """Small networks of every kind; fields that a file does not hold have their defaults.

    ``plain`` ones are of HNeRV, without what standardises or is added to the frame.
    """
    count = draw(st.integers(1, stages))
    kernels = st.sampled_from((1, 3, 5))
    widths = st.integers(1, max_channels)
    shapes = [
        StageSpec(draw(st.integers(1, 5)), draw(kernels), draw(widths), draw(st.booleans()))
        for _ in range(count)
    ]
    block = HfscmSpec()
    if any(stage.hfscm for stage in shapes):
        extra = draw(st.integers(0, 3))
        block = HfscmSpec(
            reduction=draw(st.integers(1, 12)),
            kernel=draw(kernels),
            attention=draw(st.sampled_from(Attention)),
            extra_convs=extra,
            extra_kernel=draw(kernels) if extra else HfscmSpec().extra_kernel,
            norm=not plain and draw(st.booleans()),
        )
    network = Architecture.HNERV if plain else draw(st.sampled_from(Architecture))
    if network != Architecture.ENERV:
        shapes = [replace(stage, bilinear=draw(st.booleans())) for stage in shapes]
    msfrp_stage = draw(st.none() | st.integers(0, count - 1))
    return ModelSpec(
        stages=tuple(shapes),
        embedding_channels=draw(widths) if network == Architecture.HNERV else 0,
        stem_channels=draw(widths),
        head_kernel=draw(kernels),
        hfscm=block,
        msfrp_stage=msfrp_stage,
        time=None if network == Architecture.HNERV else draw(time_specs(max_channels)),
        transformer=draw(transformers(max_channels)) if network == Architecture.ENERV else None,
        msfrp_after=msfrp_stage is not None and not plain and draw(st.booleans()),
        detail=draw(details(count, widths)) if network == Architecture.HNERV else None,
    )


def details(stages: int, widths: st.SearchStrategy[int]) -> st.SearchStrategy[DetailSpec | None]:
    return st.none() | st.builds(DetailSpec, st.integers(0, stages - 1), widths)


def time_specs(max_channels: int) -> st.SearchStrategy[TimeSpec]:
    bases = st.fractions(Fraction(1, 9), 9, max_denominator=9)
    return st.builds(TimeSpec, st.integers(1, 30), bases, st.integers(0, max_channels))


def transformers(max_channels: int) -> st.SearchStrategy[TransformerSpec]:
    widths = st.integers(1, max_channels)
    heads, bottleneck = st.integers(1, 4), st.integers(0, max_channels)
    return st.builds(TransformerSpec, heads, widths, widths, widths, bottleneck)


def make_header(**changes: Any) -> StreamHeader:
    """A plain header; any field may be changed."""
    fields: dict[str, Any] = {
        "width": 12,
        "height": 10,
        "frames": 5,
        "segments": 2,
        "time_base": Fraction(1, 600),
        "start_pts": 0,
        "frame_duration": 25,
        "sample_aspect_ratio": Fraction(1),
        "primaries": 2,
        "transfer": 2,
        "matrix": 6,
        "full_range": False,
        "rotation": 0,
    }
    return StreamHeader(**(fields | changes))


def tiny_model(
    attention: Attention = Attention.GROUPED, detail: DetailSpec | None = None
) -> ModelSpec:
    """Two stages of odd and even stride with all of the paper's parts."""
    block = HfscmSpec(reduction=2, kernel=3, attention=attention, extra_convs=1, extra_kernel=3)
    stages = (StageSpec(3, 1, 4, False), StageSpec(2, 3, 3, True))
    return ModelSpec(stages, 2, 4, 3, block, msfrp_stage=0, detail=detail)


def make_tensor(spec: TensorSpec, rng: np.random.Generator) -> QuantizedTensor:
    """Random symbols: wide, narrow, of two values or constant, with one scale or many."""
    zero = int(rng.integers(0, 256))
    kind = rng.integers(0, 4)
    if spec.size == 1 or kind == 0:
        symbols = np.full(spec.shape, rng.integers(0, 256))
    elif kind == 1:
        symbols = rng.choice([3, 250], spec.shape, p=[0.9, 0.1])
    else:
        symbols = np.rint(rng.laplace(zero, 40 if kind == 2 else 2, spec.shape)) % 256
    axis = spec.channel_axis
    several = axis is not None and spec.shape[axis] > 1 and rng.integers(0, 2)
    # 2**-12 .. 2**-4, so that random networks neither vanish nor saturate.
    scales = rng.integers(0x3980, 0x3D80, spec.shape[axis] if several else 1)
    return QuantizedTensor(spec, symbols.astype(np.uint8), zero, scales.astype(np.uint16))


def make_segment(
    model: ModelSpec,
    header: StreamHeader,
    index: int = 0,
    frames: int = 1,
    seed: int = 0,
    first_frame: int = 0,
) -> Segment:
    rng = np.random.default_rng(seed)
    specs = tensor_specs(model, header.width, header.height, frames)
    tensors = tuple(make_tensor(spec, rng) for spec in specs)
    return Segment(index, first_frame, frames, model, tensors)


def same_segment(first: Segment, second: Segment) -> bool:
    """Whether two segments are equal in everything that a file holds."""
    return (first.index, first.first_frame, first.frames, first.model) == (
        second.index,
        second.first_frame,
        second.frames,
        second.model,
    ) and all(
        a.spec == b.spec
        and a.zero == b.zero
        and a.symbols.dtype == b.symbols.dtype
        and np.array_equal(a.symbols, b.symbols)
        and np.array_equal(a.scales, b.scales)
        for a, b in zip(first.tensors, second.tensors, strict=True)
    )


SMALL_HEADER = make_header(start_pts=-7)
SMALL_PTS = (-7, 18, 43, 90, 115)
SMALL_LAST_DURATION = 25
SMALL_META: dict[str, Any] = {"tool": "test", "epochs": 3, "crop": [12, 10]}
SMALL_DIGESTS = [b"digest 0", b"digest 1"]
SMALL_AUDIO = AudioData("matroska", b"not really audio " * 4)


def small_segments() -> list[Segment]:
    """Three frames of a plain network, then two of one with everything."""
    plain = ModelSpec((StageSpec(2, 3, 2, False), StageSpec(5, 1, 3, False)), 2, 2)
    return [
        make_segment(plain, SMALL_HEADER, 0, 3, seed=1),
        make_segment(tiny_model(), SMALL_HEADER, 1, 2, seed=2, first_frame=3),
    ]


def small_file() -> bytes:
    """A whole file with every kind of chunk, of some 800 bytes."""
    segments = small_segments()
    out = io.BytesIO()
    write_stream(
        out,
        SMALL_HEADER,
        SMALL_PTS,
        SMALL_LAST_DURATION,
        segments,
        SMALL_DIGESTS,
        SMALL_META,
        SMALL_AUDIO,
    )
    return out.getvalue()


def read_all(data: bytes, limits: Limits = SMALL_LIMITS) -> StreamReader:
    """Read everything of a file: chunks, timestamps, META, all symbols, audio."""
    reader = StreamReader(io.BytesIO(data), limits)
    for index in range(len(reader.segments)):
        reader.segment(index)
    reader.audio()
    return reader
