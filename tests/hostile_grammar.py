"""Files drawn field by field from the grammar of bitstream_spec.md, with right checksums.

A file is sound but for the fields that are drawn to be wrong ("faults"): at or beyond their bounds,
malformed, too short or too long. Everything else fits together, so that a decoder gets past it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from format_helpers import AUDI, HASH, HEAD, META, PTSD, SEGM, Chunks, assemble, leb, zigzag
from hypothesis import strategies as st

from nervcodec.bitstream import entropy
from nervcodec.bitstream.activity import MOST_CLASSES, Activity
from nervcodec.bitstream.syntax import (
    FORMAT_MINOR,
    Attention,
    DetailSpec,
    HfscmSpec,
    ModelSpec,
    StageSpec,
)
from nervcodec.bitstream.tensors import FRAME_TENSORS, TensorSpec, check_limits, tensor_specs
from nervcodec.errors import UnsupportedError
from tools.fuzz import small_limits

Draw = Callable[..., Any]

NUMBERS = st.sampled_from(
    (
        *(*range(20), 63, 64, 127, 128, 255, 256, 257, 1023, 1024, 4096, 16383, 16384, 32768),
        *(32769, 65535, 65536, 65537, 2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**32),
        *(2**35, 2**62, 2**63 - 1),
    )
)
MALFORMED = st.sampled_from(
    (
        *(b"", b"\x80", b"\x80\x00", b"\x81\x80\x00", b"\xff" * 9, b"\xff" * 8 + b"\x7f"),
        *(b"\x80" * 9 + b"\x01", b"\x80" * 8 + b"\x00", bytes(40)),
    )
)
WRONG_VARINT = st.one_of(NUMBERS.map(leb), MALFORMED)
WRONG_BYTE = st.one_of(st.integers(0, 255).map(lambda value: bytes([value])), MALFORMED)
KERNELS = st.sampled_from((1, 1, 1, 3, 3, 5, 7, 15))
RATIONALS = st.sampled_from(
    [(1, 1), (1, 25), (1, 2**31 - 1), (2**31 - 1, 1), (2**31 - 1, 2**31 - 2), (1001, 30000)]
)
WRONG_RATIONAL = st.sampled_from(
    [(0, 1), (1, 0), (2, 2), (2**31 - 1, 2**31 - 1), (2**31, 1), (1, 2**31), (6, 4)]
)


class Faults:
    """Counts the fields as they are drawn; up to ``most`` of the first ``among`` go wrong.

    A field of ``weight`` 5 counts as five, since there are five kinds of faults and more in it.
    """

    def __init__(self, draw: Draw, most: int, among: int = 250) -> None:
        self.draw = draw
        self._at = draw(st.sets(st.integers(0, among), min_size=min(most, 1), max_size=most))
        self._next = 0

    def here(self, weight: int = 1) -> bool:
        self._next += weight
        return any(self._next - 1 - place in self._at for place in range(weight))

    def field(self, good: bytes, wrong: st.SearchStrategy[bytes], weight: int = 1) -> bytes:
        return self.draw(wrong) if self.here(weight) else good

    def varint(self, value: int) -> bytes:
        return self.field(leb(value), WRONG_VARINT)

    def u8(self, value: int, most: int) -> bytes:
        """A byte whose largest valid value is ``most``."""
        return self.field(bytes([value]), st.just(bytes([(most + 1) % 256])) | WRONG_BYTE)

    def rational(self, value: tuple[int, int]) -> bytes:
        numerator, denominator = self.draw(WRONG_RATIONAL) if self.here() else value
        return leb(numerator) + leb(denominator)

    def end(self, payload: bytes) -> bytes:
        """The payload, or one cut short or with something after it."""
        if not self.here():
            return payload
        if self.draw(st.booleans()):
            return payload[: self.draw(st.integers(0, max(len(payload) - 1, 0)))]
        return payload + self.draw(st.binary(min_size=1, max_size=3))


# --- HEAD and PTSD ------------------------------------------------------------------------------


def head(
    draw: Draw, faults: Faults, size: tuple[int, int], counts: Sequence[int], duration: int
) -> bytes:
    """A HEAD of segments with these counts of frames."""
    width, height = size
    start = st.sampled_from((0, 1, -1, 2**62 - 1, -(2**62), 2**31, -(2**31)))
    sound = st.integers(0, 255)
    payload = b"".join(
        (
            faults.u8(0, 0),
            faults.u8(FORMAT_MINOR, FORMAT_MINOR),
            faults.u8(0, 0),
            faults.u8(0, 0),
            faults.varint(width),
            faults.varint(height),
            faults.varint(sum(counts)),
            faults.varint(len(counts)),
            faults.rational(draw(RATIONALS)),
            faults.field(zigzag(draw(start)), WRONG_VARINT),
            faults.varint(duration),
            faults.rational(draw(RATIONALS)),
            bytes([draw(sound), draw(sound)]),
            faults.u8(draw(st.sampled_from((1, 4, 5, 6, 7, 9))), 9),
            faults.u8(draw(st.integers(0, 1)), 1),
            faults.u8(draw(st.integers(0, 3)), 3),
            faults.u8(8, 8),
        )
    )
    return faults.end(payload)


def blob(draw: Draw, faults: Faults, content: bytes) -> bytes:
    """A blob, stored or compressed in one of many ways."""
    method = draw(st.integers(0, 1))
    packed = content
    if method:
        level, bits = draw(st.integers(0, 9)), draw(st.sampled_from((15, 9)))
        packed = pack(content, level, bits)
        if faults.here(5):
            packed = draw(
                st.sampled_from(
                    (
                        pack(content, 9, -15),  # without the header and the checksum of zlib
                        pack(content, 9, 31),  # gzip
                        pack(content, 9, 15, b"dictionary"),
                        packed[:-1],
                        packed[:-4] + bytes(4),
                        packed + packed,
                        packed + b"\x00",
                        pack(content + b"\x00", 9, 15),
                        pack(content[:-1], 9, 15),
                        b"",
                    )
                )
            )
    return faults.end(faults.u8(method, 1) + faults.varint(len(content)) + packed)


def pack(content: bytes, level: int, bits: int, dictionary: bytes | None = None) -> bytes:
    if dictionary is None:
        packer = zlib.compressobj(level, zlib.DEFLATED, bits)
    else:
        packer = zlib.compressobj(level, zlib.DEFLATED, bits, zdict=dictionary)
    return packer.compress(content) + packer.flush()


def ptsd(draw: Draw, faults: Faults, frames: int, duration: int) -> bytes:
    lengths = st.sampled_from((1, 2, 24, 25, 26, 1000, 2**30, 2**31 - 1))
    wrong = st.sampled_from([zigzag(-duration), zigzag(2**31 - duration)]) | WRONG_VARINT
    content = b"".join(faults.field(zigzag(draw(lengths) - duration), wrong) for _ in range(frames))
    return blob(draw, faults, content)


# --- SEGM ---------------------------------------------------------------------------------------


@st.composite
def models(draw: Draw, width: int, height: int, frames: int) -> ModelSpec:
    """A network within small limits, with extreme strides and kernels where they fit."""
    count = draw(st.sampled_from((1, 1, 2, 2, 3, 8)))
    channels = st.integers(1, 5 if count < 8 else 1)
    kernels = KERNELS if count < 8 else st.just(1)
    strides = st.integers(1, 8 if count < 3 else 2)
    stages = tuple(
        StageSpec(
            draw(strides), draw(kernels), draw(channels), draw(st.booleans()), draw(st.booleans())
        )
        for _ in range(count)
    )
    block = HfscmSpec()
    if any(stage.hfscm for stage in stages):
        extra = draw(st.integers(0, 4))
        block = HfscmSpec(
            reduction=draw(st.sampled_from((1, 2, 3, 5, 255))),
            kernel=draw(kernels),
            attention=draw(st.sampled_from(Attention)),
            extra_convs=extra,
            extra_kernel=draw(kernels) if extra else block.extra_kernel,
        )
    msfrp = draw(st.none() | st.integers(0, count - 1))
    detail = draw(st.none() | st.builds(DetailSpec, st.integers(0, count - 1), channels))
    model = ModelSpec(
        stages, draw(channels), draw(channels), draw(kernels), block, msfrp, detail=detail
    )
    try:
        check_limits(model, width, height, frames, small_limits())
    except UnsupportedError:
        return ModelSpec((StageSpec(8, 1, 1, False),), 1, 1, 1)
    return model


def beyond(draw: Draw, model: ModelSpec) -> ModelSpec:
    """The network with one of its numbers just out of range, which its tensors go along with."""
    place = draw(st.integers(0, len(model.stages) - 1))
    stage, block, kernel = model.stages[place], model.hfscm, draw(st.sampled_from((2, 17)))
    others = model.stages[:place], model.stages[place + 1 :]
    match draw(st.integers(0, 6)):
        case 0:
            stage = replace(stage, stride=9)
        case 1:
            stage = replace(stage, kernel=kernel)
        case 2:
            return replace(model, head_kernel=kernel)
        case 3:
            return replace(model, hfscm=replace(block, kernel=kernel))
        case 4:
            return replace(model, hfscm=replace(block, extra_convs=5))
        case 5:
            return replace(model, msfrp_stage=len(model.stages))
        case _:
            short = StageSpec(1, 1, 1, False)
            return replace(model, stages=(*model.stages, *[short] * (9 - len(model.stages))))
    return replace(model, stages=(*others[0], stage, *others[1]))


def model_bytes(faults: Faults, model: ModelSpec) -> bytes:
    """Section 5.1."""
    mask = sum(1 << index for index, stage in enumerate(model.stages) if stage.hfscm)
    if mask and faults.here():
        mask |= 1 << len(model.stages)
    flags = (mask > 0) + 2 * (model.msfrp_stage is not None)
    flags += 4 * (mask > 0 and model.hfscm.norm) + 8 * model.msfrp_after
    bilinear = sum(1 << index for index, stage in enumerate(model.stages) if stage.bilinear)
    flags += 16 * (model.detail is not None) + 32 * (bilinear > 0)
    count = len(model.stages)
    fields = [faults.u8(model.architecture, 3), faults.u8(flags, 63), faults.u8(count, 8)]
    for stage in model.stages:
        fields += [faults.u8(stage.stride, 8), faults.u8(stage.kernel, 15)]
        fields.append(faults.varint(stage.channels))
    if model.time is None:
        fields.append(faults.varint(model.embedding_channels))
    else:
        base = model.time.base
        numbers = (model.time.levels, base.numerator, base.denominator)
        fields += [faults.u8(number, 254) for number in numbers]
        fields.append(faults.varint(model.time.hidden))
    fields += [faults.varint(model.stem_channels), faults.u8(model.head_kernel, 15)]
    if model.transformer is not None:
        mixer = model.transformer
        widths = (mixer.head_width, mixer.feed_forward, mixer.modulation, mixer.bottleneck)
        fields += [faults.u8(mixer.heads, 254), *map(faults.varint, widths)]
    if mask:
        block = model.hfscm
        values = (mask, block.reduction, block.kernel, block.attention, block.extra_convs)
        most = (2**count - 1, 254, 15, 2, 4)
        fields += [faults.u8(*pair) for pair in zip(values, most, strict=True)]
        if block.extra_convs:
            fields.append(faults.u8(block.extra_kernel, 15))
    if model.msfrp_stage is not None:
        fields.append(faults.u8(model.msfrp_stage, count - 1))
    if model.detail is not None:
        fields.append(faults.u8(model.detail.stage, count - 1))
        fields.append(faults.varint(model.detail.channels))
    if bilinear:
        fields.append(faults.u8(bilinear, 2**count - 1))
    return b"".join(fields)


def golomb(weights: Sequence[int], order: int) -> bytes:
    """Section 6.2's codes, and the bits up to a whole byte."""
    bits = "".join(
        "0" * ((weight + 2**order).bit_length() - 1 - order) + f"{weight + 2**order:b}"
        for weight in weights
    )
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@st.composite
def explicit_weights(draw: Draw) -> list[int]:
    """Weights of a table: few or all symbols; equal, or skewed to the utmost; with gaps or not."""
    count = draw(st.sampled_from((2, 2, 3, 5, 20, 255, 256)))
    match draw(st.integers(0, 3)):
        case 0:
            return [1] * count
        case 1:
            return [1] * (count - 1) + [2**24 - count + 1]
        case 2:
            return [2**24 - 1, *[0] * (count - 2), 1]
        case _:
            inner = draw(st.lists(st.integers(0, 60000), min_size=count - 2, max_size=count - 2))
            return [draw(st.integers(1, 60000)), *inner, draw(st.integers(1, 60000))]


WRONG_TABLE = st.sampled_from(
    [
        bytes([5, 5, 0, 0xA0]),  # a single symbol
        bytes([6, 5, 0, 0xA0]),
        bytes([5, 6, 24]) + bytes(20),
        bytes([5, 6, 0, 0b1010_0000]),  # the first weight is 0
        bytes([5, 6, 0, 0b0101_0000]),  # the last
        bytes([5, 6, 0, 0b0100_1001]),  # a bit after the weights
        bytes([5, 6, 0]) + bytes(9),  # zeros without an end
        bytes([5, 6, 0, 0b0100_0000]),
        bytes([5, 6, 23]) + golomb([2**24 - 1, 2], 23),  # the sum is too large
        bytes([5, 6, 23]) + golomb([2**24, 1], 23),
        bytes([5, 6, 0]) + golomb([2**25 - 2, 1], 0),
        bytes([5, 6, 0]) + golomb([2**25 - 1, 1], 0),
        bytes([0, 255, 0]) + golomb([1] * 256, 0)[:-1],
    ]
)


@dataclass(frozen=True)
class SymbolClass:
    """What a class is coded with, ``body`` being what follows the coding, and its symbols."""

    code: int
    body: bytes
    table: entropy.Table | None
    sample: Callable[[int], np.ndarray]


def symbol_class(
    draw: Draw, faults: Faults, centre: int, coded: bool, rng: np.random.Generator
) -> SymbolClass:
    code = draw(st.sampled_from((0, 31, 32, 63, 64, 64, 64, 65))) if coded else 65
    if code == 65:
        symbol = draw(st.integers(0, 255))
        return SymbolClass(65, bytes([symbol]), None, lambda n: np.full(n, symbol, np.uint8))
    if code == 64:
        weights, order = draw(explicit_weights()), draw(st.integers(0, 23))
        first = draw(st.integers(0, 256 - len(weights)))
        table = entropy.ExplicitTable(first, tuple(weights))
        good = bytes([first, first + len(weights) - 1, order]) + golomb(weights, order)
        body = faults.field(good, WRONG_TABLE, 5)
        return SymbolClass(64, body, table, lambda n: rng.choice(table.used(), n))
    rarest = np.uint8((centre + 128) % 256)  # index 0
    if draw(st.booleans()):
        frozen = entropy.FrozenTable(code, centre)
        return SymbolClass(code, b"", frozen, lambda n: np.full(n, rarest, np.uint8))
    frozen = entropy.FrozenTable(code, centre)
    return SymbolClass(code, b"", frozen, lambda n: rng.integers(0, 256, n).astype(np.uint8))


Part = tuple[np.ndarray, entropy.Table]


def tensor(
    draw: Draw, faults: Faults, spec: TensorSpec, rng: np.random.Generator
) -> tuple[bytes, list[Part], np.ndarray]:
    """A tensor head, what is coded with which tables, and the tensor's symbols."""
    zero, prediction = draw(st.integers(0, 255)), 0
    if spec.name in FRAME_TENSORS:
        prediction = draw(st.sampled_from((0, 1, 2, 5, MOST_CLASSES)))
    axis = spec.channel_axis
    several = axis is not None and spec.shape[axis] > 1 and draw(st.booleans())
    count = spec.shape[axis] if several and axis is not None else 1
    scales = st.sampled_from((0x2B80, 0x2B81, 0x3A00, 0x3F80, 0x4980))
    wrong = st.sampled_from((0, 0x2B7F, 0x4981, 0x7F80, 0x7FC0, 0x8000, 0xBF80, 0xFFFF))
    scale = b"".join(
        struct.pack("<H", draw(wrong if faults.here() else scales)) for _ in range(min(count, 2))
    )
    scale += struct.pack("<H", 0x3F80) * (count - min(count, 2))
    coded = spec.size > 1 or faults.here()
    centre = 128 if prediction else zero
    classes = [symbol_class(draw, faults, centre, coded, rng) for _ in range(max(1, prediction))]
    first, *others = classes
    head = faults.u8(first.code | several << 7, 65) + bytes([zero]) + scale + first.body
    head += b"".join(faults.u8(each.code, 65) + each.body for each in others)
    if spec.name in FRAME_TENSORS:
        head = faults.u8(prediction, MOST_CLASSES) + head
    parts, symbols = coded_parts(spec, classes)
    if prediction:
        symbols = np.cumsum(symbols - np.uint8(128), axis=0, dtype=np.uint8) + np.uint8(zero)
    return head, parts, symbols


def coded_parts(spec: TensorSpec, classes: Sequence[SymbolClass]) -> tuple[list[Part], np.ndarray]:
    """Symbols for a tensor and, in the order of the format, with what they are coded."""
    if len(classes) == 1:
        symbols, table = classes[0].sample(spec.size), classes[0].table
        return [] if table is None else [(symbols, table)], symbols.reshape(spec.shape)
    parts, result = [], np.zeros(spec.shape, np.uint8)
    activity = Activity(spec.shape[1:])
    for frame in result:
        own = np.minimum(activity.lengths(), len(classes) - 1)
        for each in np.unique(own):
            symbols, table = classes[each].sample((own == each).sum()), classes[each].table
            frame[own == each] = symbols
            if table is not None:
                parts.append((symbols, table))
        activity.follow(frame)
    return parts, result


def segm(
    draw: Draw, faults: Faults, size: tuple[int, int], index: int, first: int, frames: int
) -> bytes:
    model = draw(models(*size, frames))
    if faults.here(10):
        model = beyond(draw, model)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tensors = [tensor(draw, faults, spec, rng) for spec in tensor_specs(model, *size, frames)]
    crc = 0
    for _, _, symbols in tensors:
        crc = zlib.crc32(symbols.tobytes(), crc)
    coded = [part for _, parts, _ in tensors for part in parts]
    words = entropy.encode(coded).astype("<u4").tobytes()
    count = leb(len(words) // 4)
    if faults.here(5):
        count, words = _wrong_words(draw, words)
    payload = b"".join(
        (
            faults.varint(index),
            faults.varint(first),
            faults.varint(frames),
            model_bytes(faults, model),
            faults.field(crc.to_bytes(4, "little"), st.just((crc ^ 1).to_bytes(4, "little"))),
            *(heading for heading, _, _ in tensors),
            faults.field(count, WRONG_VARINT),
            words,
        )
    )
    return faults.end(payload)


def _wrong_words(draw: Draw, words: bytes) -> tuple[bytes, bytes]:
    """A word more or less, at either end, or other words; the count mostly agrees."""
    changed = draw(
        st.sampled_from(
            (
                words + bytes(4),
                bytes(4) + words,
                words + b"\x01\x00\x00\x00",
                words[4:],
                words[:-4],
                words[:-4] + bytes(4),
                bytes(len(words)),
                b"\xff" * len(words),
                words[:-1],
            )
        )
    )
    return leb(len(changed) // 4), changed


# --- META, HASH, AUDI ---------------------------------------------------------------------------


def text(value: bytes) -> bytes:
    """A string of MessagePack in its shortest form."""
    if len(value) < 32:
        return bytes([0xA0 | len(value)]) + value
    if len(value) < 256:
        return bytes([0xD9, len(value)]) + value
    return b"\xda" + len(value).to_bytes(2, "big") + value


KEYS = ("tool", "source", "epochs", "seed", "crop", "audio", "title", "", "a", "é", "x" * 40)

PLAIN = st.sampled_from(
    [b"\xc0", b"\xc2", b"\xc3", b"\x00", b"\x7f", b"\xe0", b"\xff", b"\xcc\x80", b"\xcc\xff"]
    + [b"\xcd\x01\x00", b"\xce\x00\x01\x00\x00", b"\xcf" + b"\xff" * 8, b"\xd0\xdf", b"\xd0\x80"]
    + [b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", b"\xd1\xff\x7f", b"\xd2\xff\xff\x7f\xff"]
    + [b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff", b"\xd3\x80" + bytes(7)]
    + [b"\xcb" + struct.pack(">d", value) for value in (0.0, -0.0, 1.5, 1e308, 5e-324)]
    + [text(b""), text(b"nervcodec"), text("é\0\x1b".encode()), text(b"y" * 255), text(b"z" * 4096)]
    + [b"\x92\x01\x02", b"\x92\xcd\x05\x00\xcd\x02\x80", b"\x92\x01\xc3", b"\x91" + text(b"aac")]
)
WRONG_ITEM = st.sampled_from(
    [b"\xc1", b"\xca\x3f\x80\x00\x00", b"\xc4\x01a", b"\xc5\x00\x01a", b"\xc6\x00\x00\x00\x01a"]
    + [b"\xc7\x00\x01", b"\xd4\x01\x00", b"\xd6\xff" + bytes(4), b"\xd7\xff" + bytes(8), b"\xd8"]
    + [b"\xcc\x7f", b"\xcd\x00\xff", b"\xce\x00\x00\xff\xff", b"\xcf" + bytes(8), b"\xd0\x00"]
    + [
        b"\xd0\xe0",
        b"\xd1\xff\x80",
        b"\xd2\xff\xff\x80\x00",
        b"\xd3" + b"\xff" * 8,
        b"\xd1\x7f\xff",
    ]
    + [b"\xcb" + struct.pack(">d", value) for value in (math.nan, math.inf, -math.inf)]
    + [b"\xd9\x1f" + b"a" * 31, b"\xda\x00\xff" + b"a" * 255, b"\xdb\x00\x00\x00\x01a"]
    + [b"\xdc\x00\x0f" + bytes(15), b"\xdd\x00\x00\x00\x01\x00", b"\xde\x00\x00", b"\x91"]
    + [b"\xdf\x00\x00\x00\x00", text(b"y" * 4097), text(b"\xff"), text(b"\xed\xa0\x80")]
    + [text(b"\xc0\x80"), text(b"\xf4\x90\x80\x80"), b"\xdc\x04\x01" + bytes(1025), b"\xdd" * 9]
    + [
        b"\x91" * 4 + b"\x00",
        b"\x91\x91\x91\x90",
        b"\x91" * 2000 + b"\x00",
        b"\xdd\xff\xff\xff\xff",
    ]
    + [b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b""]
)
LONG = [b"\xdc\x04\x00" + bytes(1024), b"\x91\x91\x00", b"\x91\x90"]


def meta(draw: Draw, faults: Faults) -> bytes:
    pairs = []
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=6, unique=True)):
        value = draw(PLAIN | st.sampled_from(LONG))
        if draw(st.integers(0, 3)) == 3:
            value = b"\x82" + text(b"k") + value + text(b"l") + draw(PLAIN)
        pairs.append(text(key.encode()) + faults.field(value, WRONG_ITEM, 5))
    if draw(st.integers(0, 7)) == 7:
        pairs += [text(b"key %d" % n) + b"\x00" for n in range(draw(st.sampled_from((20, 250))))]
    if faults.here(5):
        extra = [text(b"tool") + b"\x00"] * 2 + [b"\x01\x00", b"\xc0\x00", b"\xa1\xff\x00"]
        pairs += draw(st.lists(st.sampled_from(extra), min_size=1, max_size=3))
        pairs += [text(b"many %d" % n) + b"\x00" for n in range(draw(st.sampled_from((0, 0, 260))))]
    count = len(pairs)
    start = bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")
    wrong = st.sampled_from([b"\x90", b"\xc0", b"", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x02"])
    return faults.end(faults.field(start, wrong) + b"".join(pairs))


def audi(draw: Draw, faults: Faults) -> bytes:
    content = draw(st.sampled_from((b"\x00", b"audio", bytes(3000), b"ab" * 40)))
    return faults.u8(draw(st.integers(0, 1)), 1) + blob(draw, faults, content)


# --- files --------------------------------------------------------------------------------------


@st.composite
def files(draw: Draw, faults: int = 2) -> bytes:
    """A file with up to ``faults`` wrong fields."""
    wrong = Faults(draw, faults)
    size = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    duration = draw(st.sampled_from((1, 2, 25, 2**31 - 1)))
    chunks: Chunks = [(HEAD, head(draw, wrong, size, counts, duration))]
    if draw(st.booleans()):
        chunks.append((PTSD, ptsd(draw, wrong, sum(counts), duration)))
    if draw(st.booleans()):
        chunks.append((META, meta(draw, wrong)))
    for index, frames in enumerate(counts):
        payload = segm(draw, wrong, size, index, sum(counts[:index]), frames)
        chunks.append((SEGM, payload))
    if draw(st.booleans()):
        chunks.append((HASH, wrong.end(draw(st.binary(min_size=8, max_size=8)) * len(counts))))
    if draw(st.booleans()):
        chunks.append((AUDI, audi(draw, wrong)))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        kind = draw(st.sampled_from((0x00, 0x01, 0x07, 0x40, 0x5F, 0x7F)))
        place = draw(st.integers(1, len(chunks)))
        chunks.insert(place, (kind, draw(st.binary(max_size=5))))
    if wrong.here(5):
        chunks = _wrong_chunks(draw, chunks)
    return assemble(chunks)


def _wrong_chunks(draw: Draw, chunks: Chunks) -> Chunks:
    place = draw(st.integers(0, len(chunks) - 1))
    other = draw(st.integers(0, len(chunks) - 1))
    rest = chunks[:place] + chunks[place + 1 :]
    match draw(st.integers(0, 3)):
        case 0:
            return rest
        case 1:
            return [*rest[:other], chunks[place], *rest[other:]]
        case 2:
            return [*chunks[:other], chunks[place], *chunks[other:]]
        case _:
            kinds = st.sampled_from((0x80, 0xC0, 0xDF, 0xFE, HEAD, PTSD, META, SEGM, HASH, AUDI))
            return [*chunks[:place], (draw(kinds), chunks[place][1]), *chunks[place + 1 :]]
