"""Puts .hfsv files together field by field from `bitstream_spec.md`.

Nothing here is of the program's own writer. Symbols are drawn by a generator of integers, so that
every machine makes the same bytes; what is made of them is in :mod:`.valid` and :mod:`.invalid`.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from tools import reference_decoder as reference

Fields = dict[str, bytes]
"""The fields of a payload by name, in order, so that one of them can be changed."""


# --- Bytes (sections 2 and 3) --------------------------------------------------------------------

SIGNATURE = bytes.fromhex("894846530D0A1A0A")
HEAD, PTSD, META, SEGM, HASH, AUDI, END = 0x81, 0x87, 0x05, 0x82, 0x03, 0x06, 0xFF


def varint(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def svarint(value: int) -> bytes:
    return varint(2 * value if value >= 0 else -2 * value - 1)


def u16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def join(fields: Fields, changes: Fields | None = None) -> bytes:
    """The payload of these fields, some of them changed."""
    changes = changes or {}
    assert changes.keys() <= fields.keys(), changes.keys() - fields.keys()
    return b"".join((fields | changes).values())


def stored(content: bytes, length: int | None = None) -> bytes:
    """A blob by method 0, which states ``length`` instead of its own if that is given."""
    return b"\x00" + varint(len(content) if length is None else length) + content


def compressed(length: int, stream: bytes) -> bytes:
    """A blob by method 1."""
    return b"\x01" + varint(length) + stream


def zlib_stored(content: bytes) -> bytes:
    """A zlib stream of one stored block, which needs no compressor."""
    size = len(content)
    block = b"\x01" + u16(size, size ^ 0xFFFF) + content
    return b"\x78\x01" + block + zlib.adler32(content).to_bytes(4, "big")


def chunk(kind: int, payload: bytes, length: bytes | None = None, damage: int = 0) -> bytes:
    """A chunk; ``length`` replaces its second field, ``damage`` changes its CRC."""
    body = bytes([kind]) + (varint(len(payload)) if length is None else length) + payload
    return body + u32(zlib.crc32(body) ^ damage)


def end_fields(before: bytes) -> Fields:
    return {"offset": varint(len(before)), "digest": hashlib.sha256(before).digest()[:16]}


def file_of(*chunks: bytes) -> bytes:
    """A file of these chunks and END."""
    before = SIGNATURE + b"".join(chunks)
    return before + chunk(END, join(end_fields(before)))


# --- HEAD (section 4) ----------------------------------------------------------------------------

MAJOR, MINOR = 0, 6

USUAL_HEADER = reference.Header(
    width=1,
    height=1,
    frames=1,
    segments=1,
    time_base=(1, 25),
    start=0,
    frame_duration=1,
    sample_aspect_ratio=(1, 1),
    primaries=1,
    transfer=1,
    matrix=1,
    full_range=0,
    rotation=0,
    bit_depth=8,
)


def head_fields(header: reference.Header) -> Fields:
    return {
        "major": bytes([MAJOR]),
        "minor": bytes([MINOR]),
        "profile": b"\x00",
        "flags": b"\x00",
        "width": varint(header.width),
        "height": varint(header.height),
        "frames": varint(header.frames),
        "segments": varint(header.segments),
        "time base": varint(header.time_base[0]) + varint(header.time_base[1]),
        "start": svarint(header.start),
        "frame duration": varint(header.frame_duration),
        "aspect": varint(header.sample_aspect_ratio[0]) + varint(header.sample_aspect_ratio[1]),
        "primaries": bytes([header.primaries]),
        "transfer": bytes([header.transfer]),
        "matrix": bytes([header.matrix]),
        "range": bytes([header.full_range]),
        "rotation": bytes([header.rotation]),
        "bit depth": bytes([header.bit_depth]),
    }


# --- SEGM (sections 5 and 6) ---------------------------------------------------------------------

EXPLICIT, CONSTANT, PER_CHANNEL = 64, 65, 0x80
SINGLE, DENSE, GROUPED = 0, 1, 2


class Random:
    """SplitMix64: the same integers on every machine and in every version of Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, count: int) -> int:
        """An integer in 0..count-1."""
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return (z ^ z >> 31) * count >> 64


@dataclass(frozen=True)
class Explicit:
    """An explicit table: the weights of the symbols from ``first`` on."""

    first: int
    weights: tuple[int, ...]
    order: int = 0

    def to_bytes(self) -> bytes:
        bits = ""
        for weight in self.weights:
            digits = f"{weight + 2**self.order:b}"
            bits += "0" * (len(digits) - self.order - 1) + digits
        bits += "0" * (-len(bits) % 8)
        packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return bytes([self.first, self.first + len(self.weights) - 1, self.order]) + packed

    def table(self) -> reference.Table:
        total, largest = sum(self.weights), max(self.weights)
        used = [self.first + i for i, weight in enumerate(self.weights) if weight]
        frequencies = [weight * 2**24 // total for weight in self.weights if weight]
        place = used.index(self.first + self.weights.index(largest))
        frequencies[place] += 2**24 - sum(frequencies)
        return reference.Table(tuple(frequencies), np.array(used, np.uint8))


@dataclass(frozen=True)
class Way:
    """How a tensor is written.

    Attributes:
        table: number of a frozen table, an explicit table, or None for a constant tensor.
        symbol: that of a constant tensor.
        symbols: those of another tensor, repeated as often as it takes; without them they are
            drawn by the table's frequencies.
        predicted: of an embedding, that changes from frame to frame are what is coded; ``symbol``
            and ``symbols`` are changes then.
        others: of a predicted embedding, how the classes after the first are coded.
        level: what the usual magnitude of the values is multiplied by.
        scales: upper halves of the scales, instead of those that give the usual magnitude.
    """

    table: int | Explicit | None = 22
    zero: int = 128
    symbol: int = 160
    symbols: bytes | None = None
    per_channel: bool = False
    level: float = 1.0
    scales: tuple[int, ...] | None = None
    predicted: bool = False
    others: tuple[Way, ...] = ()

    @property
    def classes(self) -> tuple[Way, ...]:
        return (self, *self.others)

    @property
    def centre(self) -> int:
        """The symbol that frozen tables are centred on."""
        return 128 if self.predicted else self.zero


@dataclass(frozen=True)
class Net:
    """A segment to be written.

    Attributes:
        ways: how those tensors are written that are not written as usual.
        usual: taken in turn by all others.
        seed: of the symbols drawn.
        state: of the coder after the last symbol, which must be 0 in a valid file.
    """

    model: reference.Model
    frames: int = 1
    ways: Mapping[str, Way] = field(default_factory=dict)
    usual: tuple[Way, ...] = (Way(22), Way(55), Way(25), Way(20), Way(52), Way(24))
    seed: int = 0
    state: int = 0


def make_model(
    stages: Sequence[tuple[int, int, int]],
    embedding: int = 3,
    stem: int = 5,
    head: int = 3,
    hfscm: tuple[int, int, int, int, int, int] | None = None,
    msfrp: int | None = None,
    time: tuple[int, int, int, int] | None = None,
    mixing: tuple[int, int, int, int, int] | None = None,
    standardise: bool = False,
    msfrp_after: bool = False,
    detail: tuple[int, int] | None = None,
    bilinear: int = 0,
) -> reference.Model:
    """A network of stages (stride, kernel, channels).

    It is HNeRV, with ``time`` NeRV, with ``mixing`` too E-NeRV. ``hfscm`` is mask, reduction,
    attention kernel, attention, extra convolutions, extra kernel; ``time`` levels, base
    numerator and denominator, width; ``mixing`` heads, head width, feed-forward width,
    modulation width, bottleneck; ``detail`` stage and channels; ``bilinear`` a mask.
    """
    block = reference.NO_HFSCM if hfscm is None else reference.Hfscm(*hfscm)
    shapes = tuple(
        reference.Stage(*stage, bilinear=bool(bilinear >> i & 1)) for i, stage in enumerate(stages)
    )
    return reference.Model(
        shapes,
        0 if time else embedding,
        stem,
        head,
        block,
        msfrp,
        architecture=1 if time is None else 2 if mixing is None else 3,
        time=None if time is None else reference.Time(*time),
        mixing=None if mixing is None else reference.Mixing(*mixing),
        standardise=standardise,
        msfrp_after=msfrp_after,
        detail=None if detail is None else reference.Detail(*detail),
    )


def model_fields(model: reference.Model) -> Fields:
    block, has_msfrp = model.hfscm, model.msfrp_stage is not None
    flags = int(block.mask > 0) | int(has_msfrp) << 1
    flags |= int(model.standardise) << 2 | int(model.msfrp_after) << 3
    bilinear = sum(int(stage.bilinear) << i for i, stage in enumerate(model.stages))
    flags |= int(model.detail is not None) << 4 | int(bilinear > 0) << 5
    fields = {
        "architecture": bytes([model.architecture]),
        "model flags": bytes([flags]),
        "stages": bytes([len(model.stages)]),
    }
    for i, stage in enumerate(model.stages):
        fields[f"stride {i}"] = bytes([stage.stride])
        fields[f"kernel {i}"] = bytes([stage.kernel])
        fields[f"channels {i}"] = varint(stage.channels)
    if model.time is None:
        fields["embedding channels"] = varint(model.embedding_channels)
    else:
        fields["levels"] = bytes([model.time.levels])
        fields["base numerator"] = bytes([model.time.numerator])
        fields["base denominator"] = bytes([model.time.denominator])
        fields["time width"] = varint(model.time.width)
    fields["stem channels"] = varint(model.stem_channels)
    fields["head kernel"] = bytes([model.head_kernel])
    if model.mixing is not None:
        fields["heads"] = bytes([model.mixing.heads])
        fields["head width"] = varint(model.mixing.head_width)
        fields["feed-forward width"] = varint(model.mixing.feed_forward)
        fields["modulation width"] = varint(model.mixing.modulation)
        fields["bottleneck"] = varint(model.mixing.bottleneck)
    if block.mask:
        fields["mask"] = bytes([block.mask])
        fields["reduction"] = bytes([block.reduction])
        fields["attention kernel"] = bytes([block.kernel])
        fields["attention"] = bytes([block.attention])
        fields["extra convolutions"] = bytes([block.extra_convolutions])
        fields["extra kernel"] = bytes([block.extra_kernel] if block.extra_convolutions else [])
    fields["msfrp stage"] = bytes([model.msfrp_stage] if model.msfrp_stage is not None else [])
    if model.detail is not None:
        fields["detail stage"] = bytes([model.detail.stage])
        fields["detail channels"] = varint(model.detail.channels)
    fields["bilinear"] = bytes([bilinear] if bilinear else [])
    return fields


def fitting(way: Way, name: str, shape: tuple[int, ...]) -> Way:
    """A way as near to this one as the tensor may be written."""
    if math.prod(shape) == 1:
        way = replace(way, table=None, symbols=None)
    several = len(shape) == 4 and channels_of(name, shape) > 1
    predicted = way.predicted and name in reference.OF_FRAMES
    others = way.others if predicted else ()
    return replace(way, per_channel=way.per_channel and several, predicted=predicted, others=others)


def table_of(way: Way) -> reference.Table:
    if isinstance(way.table, Explicit):
        return way.table.table()
    if way.table is None:
        return reference.Table((2**24,), np.array([way.symbol], np.uint8))
    symbols = (np.arange(256) + way.centre - 128) % 256
    return reference.Table(reference.frozen_tables()[way.table], symbols.astype(np.uint8))


def draw(table: reference.Table, count: int, random: Random) -> bytes:
    """Symbols as often as the table expects them."""
    symbols = table.symbols.tobytes()
    if len(symbols) == 1:
        return symbols * count
    ends = list(accumulate(table.frequencies))
    return bytes(symbols[bisect_right(ends, random.below(2**24))] for _ in range(count))


def channels_of(name: str, shape: tuple[int, ...]) -> int:
    return shape[1] if name in reference.OF_FRAMES else shape[0]


def usual_magnitude(name: str, shape: tuple[int, ...]) -> float:
    """Root mean square of a tensor's values that keeps maps from vanishing and saturating."""
    if name in reference.OF_FRAMES or name.endswith("phi"):
        return 1.0
    if name.endswith("bias"):
        return 0.2
    gain = 0.6 if ".extra." in name or name.startswith(("head", "msfrp")) else 1.4
    return gain / math.sqrt(math.prod(shape[1:]))


def choose_scales(
    way: Way, name: str, shape: tuple[int, ...], symbols: bytes, random: Random
) -> tuple[int, ...]:
    """Upper halves of float32 scales, those of a tensor's channels within half an octave."""
    if way.scales is not None:
        return way.scales
    if way.table is None and not way.predicted:
        square: float = (way.symbol - way.zero) ** 2
    else:
        square = sum((symbol - way.zero) ** 2 for symbol in symbols) / len(symbols)
    value = way.level * usual_magnitude(name, shape) / (math.sqrt(square) or 1)
    bits: int = struct.unpack("<2xH", struct.pack("<f", value))[0]
    if not way.per_channel:
        return (bits,)
    return tuple(bits - 64 + random.below(129) for _ in range(channels_of(name, shape)))


def encode(parts: Sequence[tuple[bytes, reference.Table]], state: int) -> list[int]:
    """The encoder of section 6.3: words for the symbols of all tensors, each with its table."""
    words = []
    for symbols, table in reversed(parts):
        before = [0, *accumulate(table.frequencies)]
        index_of = {symbol: i for i, symbol in enumerate(table.symbols.tolist())}
        for symbol in reversed(symbols):
            i = index_of[symbol]
            f = table.frequencies[i]
            if state >= f << 40:
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            state = (state // f) << 24 | (before[i] + state % f)
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


def coding_of(way: Way) -> tuple[int, bytes]:
    """The coding of a tensor or class, and what comes with it."""
    if isinstance(way.table, Explicit):
        return EXPLICIT, way.table.to_bytes()
    return (CONSTANT, bytes([way.symbol])) if way.table is None else (way.table, b"")


def tensor_fields(name: str, way: Way, scales: tuple[int, ...]) -> Fields:
    coding, table = coding_of(way)
    flag = PER_CHANNEL if way.per_channel else 0
    of_frames = name in reference.OF_FRAMES
    more: Fields = {}
    for number, other in enumerate(way.others, 1):
        code, body = coding_of(other)
        more |= {
            f"{name} coding of class {number}": bytes([code]),
            f"{name} table of class {number}": body,
        }
    return {
        f"{name} prediction": bytes([len(way.classes) * way.predicted] if of_frames else []),
        f"{name} coding": bytes([coding | flag]),
        f"{name} zero": bytes([way.zero]),
        f"{name} scales": u16(*scales),
        f"{name} table": table,
        **more,
    }


Parts = list[tuple[bytes, reference.Table]]


def draw_classes(way: Way, shape: tuple[int, ...], random: Random) -> tuple[bytes, Parts]:
    """All changes of a tensor in classes and, in the order of the format, what is coded."""
    tables = [table_of(replace(each, predicted=True)) for each in way.classes]
    changes = np.empty(shape, np.uint8)
    activity = np.zeros(shape[1:], np.int16)
    parts: Parts = []
    for frame in changes:
        classes = reference.classes_of(activity, len(tables))
        for number, (each, table) in enumerate(zip(way.classes, tables, strict=True)):
            places = classes == number
            drawn = draw(table, int(places.sum()), random)
            frame[places] = np.frombuffer(drawn, np.uint8)
            if each.table is not None:
                parts.append((drawn, table))
        activity = reference.next_activity(activity, frame)
    return changes.tobytes(), parts


def segment_fields(net: Net, header: reference.Header, index: int = 0, first: int = 0) -> Fields:
    """All fields of a SEGM payload."""
    random, crc = Random(net.seed), 0
    heads: Fields = {}
    parts: Parts = []
    shapes = reference.tensor_shapes(net.model, net.frames, header)
    unknown = net.ways.keys() - {shape.name for shape in shapes}
    assert not unknown, unknown
    for number, (name, shape, _, _) in enumerate(shapes):
        way = net.ways.get(name) or fitting(net.usual[number % len(net.usual)], name, shape)
        if way.others:
            coded, own = draw_classes(way, shape, random)
        else:
            table, count = table_of(way), math.prod(shape)
            coded = (way.symbols * count)[:count] if way.symbols else draw(table, count, random)
            own = [] if way.table is None else [(coded, table)]
        parts += own
        symbols = coded
        if way.predicted:
            changes = np.frombuffer(coded, np.uint8).reshape(shape)
            symbols = reference.add_up(changes, way.zero).tobytes()
        heads |= tensor_fields(name, way, choose_scales(way, name, shape, symbols, random))
        crc = zlib.crc32(symbols, crc)
    words = encode(parts, net.state)
    return {
        "index": varint(index),
        "first frame": varint(first),
        "frames": varint(net.frames),
        **model_fields(net.model),
        "symbols crc": u32(crc),
        **heads,
        "words": varint(len(words)),
        "data": u32(*words),
    }
