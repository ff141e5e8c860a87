"""The SEGM chunk (spec section 5): a network's quantized tensors, one chunk a segment.

The tensors' names and shapes come from :mod:`nervcodec.bitstream.tensors`, their coding from
:mod:`nervcodec.bitstream.entropy`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream import entropy
from nervcodec.bitstream.container import CRC_BYTES
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader
from nervcodec.bitstream.tables import CENTRE
from nervcodec.bitstream.tensors import (
    FRAME_TENSORS,
    Limits,
    TensorSpec,
    check_limits,
    tensor_specs,
)
from nervcodec.bitstream.wire import ByteReader, varint
from nervcodec.errors import BitstreamError

PER_CHANNEL = 0x80

PREDICT_NOTHING, PREDICT_PREVIOUS = 0, 1
"""How a frame's embeddings are predicted: not at all, or from those of the frame before."""
MAX_SEGMENT_HEAD = 256
"""Place, frames and model take less: at most 3 x 9, 3, 8 x 11, 22, 37 and 8 bytes."""

MIN_SCALE_BITS = 87 << 7
MAX_SCALE_BITS = 147 << 7
"""Scales lie in 2**-40 .. 2**20: wider than any network needs, and far from float32's ends."""


@dataclass(frozen=True)
class QuantizedTensor:
    """8-bit symbols with their zero point and scales.

    Attributes:
        spec: name and shape.
        symbols: uint8 array of the tensor's shape.
        zero: symbol that stands for 0.0.
        scales: upper 16 bits of each float32 scale, uint16 of shape (1,) or (channels,).
    """

    spec: TensorSpec
    symbols: npt.NDArray[np.uint8]
    zero: int
    scales: npt.NDArray[np.uint16]

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Values (symbol - zero) * scale; every product is exact in float32 (16 bits)."""
        scales = scale_values(self.scales)
        if scales.size > 1:
            axis = self.spec.channel_axis
            shape = [-1 if index == axis else 1 for index in range(self.symbols.ndim)]
            scales = scales.reshape(shape)
        return (self.symbols.astype(np.float32) - np.float32(self.zero)) * scales


def scale_values(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """float32 values whose upper 16 bits are ``bits`` and whose lower 16 bits are 0."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Segment:
    """One segment: its place, its network, and the network's tensors in order.

    Attributes:
        index: position among the segments.
        first_frame: number of its first frame in the clip.
    """

    index: int
    first_frame: int
    frames: int
    model: ModelSpec
    tensors: tuple[QuantizedTensor, ...]

    def symbols_crc(self) -> int:
        """CRC-32 of all symbols in file order."""
        crc = 0
        for tensor in self.tensors:
            crc = zlib.crc32(tensor.symbols.tobytes(), crc)
        return crc


@dataclass(frozen=True)
class SegmentSize:
    """Where the bytes of a SEGM payload went."""

    headers: int
    tables: int
    words: int


def encode_segment(segment: Segment) -> tuple[bytes, SegmentSize]:
    """The SEGM payload, and the share of its parts."""
    place = (segment.index, segment.first_frame, segment.frames)
    head = b"".join(map(varint, place)) + segment.model.to_bytes()
    crc = segment.symbols_crc().to_bytes(CRC_BYTES, "little")
    headers, tables, parts = bytearray(head + crc), 0, []
    for tensor in segment.tensors:
        coded, centre = tensor.symbols, tensor.zero
        if tensor.spec.name in FRAME_TENSORS:
            prediction, coded, centre = _choose_prediction(tensor)
            headers.append(prediction)
        flag = PER_CHANNEL if tensor.scales.size > 1 else 0
        scales = tensor.scales.astype("<u2").tobytes()
        first = int(coded.flat[0])
        if (coded == first).all():
            headers += bytes([entropy.CONSTANT | flag, tensor.zero]) + scales + bytes([first])
            continue
        table = entropy.choose_table(coded, centre)
        body = table.to_bytes()
        headers += bytes([table.code | flag, tensor.zero]) + scales + body
        tables += len(body)
        parts.append((coded, table))
    words = entropy.encode(parts).astype("<u4")
    payload = bytes(headers) + varint(words.size) + words.tobytes()
    return payload, SegmentSize(len(payload) - words.nbytes - tables, tables, words.nbytes)


def _choose_prediction(tensor: QuantizedTensor) -> tuple[int, entropy.Symbols, int]:
    """How embeddings are predicted, what is coded then, and the centre of their tables."""
    changes = _changes(tensor.symbols, tensor.zero)
    if entropy.coded_bits(changes, CENTRE) < entropy.coded_bits(tensor.symbols, tensor.zero):
        return PREDICT_PREVIOUS, changes, CENTRE
    return PREDICT_NOTHING, tensor.symbols, tensor.zero


def _changes(symbols: entropy.Symbols, zero: int) -> entropy.Symbols:
    """Each frame's symbols less those of the frame before, modulo 256, with 128 for no change.

    The first frame's are less the zero point.
    """
    before = np.full_like(symbols[:1], zero)
    return np.diff(symbols, axis=0, prepend=before) + np.uint8(CENTRE)


def _summed(changes: entropy.Symbols, zero: int) -> entropy.Symbols:
    """The inverse of :func:`_changes`."""
    steps = changes - np.uint8(CENTRE)
    steps[0] += np.uint8(zero)
    return np.cumsum(steps, axis=0, dtype=np.uint8)


@dataclass(frozen=True)
class SegmentHead:
    """The first fields of SEGM: the segment's place among segments and frames, its network."""

    index: int
    first_frame: int
    frames: int
    model: ModelSpec


def read_segment_head(payload: bytes, header: StreamHeader) -> SegmentHead:
    """The first fields of a SEGM payload, of which the beginning is enough."""
    return _read_head(ByteReader(payload, "SEGM"), header)


def _read_head(reader: ByteReader, header: StreamHeader) -> SegmentHead:
    index = reader.bounded(0, header.segments - 1, "segment index")
    first = reader.bounded(0, header.frames - 1, "first frame of the segment")
    frames = reader.bounded(1, header.frames - first, "frames of the segment")
    return SegmentHead(index, first, frames, ModelSpec.read(reader))


def decode_segment(payload: bytes, header: StreamHeader, limits: Limits) -> Segment:
    """Parse a SEGM payload and decode its symbols.

    Raises:
        BitstreamError: on damage. UnsupportedError: if it asks for more than ``limits``.
    """
    reader = ByteReader(payload, "SEGM")
    head = _read_head(reader, header)
    model, frames = head.model, head.frames
    check_limits(model, header.width, header.height, frames, limits)
    crc = int.from_bytes(reader.take(CRC_BYTES), "little")
    tensor_heads = [
        _read_tensor_head(reader, spec)
        for spec in tensor_specs(model, header.width, header.height, frames)
    ]
    count = reader.varint()
    if 4 * count != reader.remaining:
        raise BitstreamError(f"SEGM: {count} words are announced, {reader.remaining} bytes left")
    words = np.frombuffer(reader.take(4 * count), dtype="<u4").astype(np.uint32)
    parts = [(part.spec.size, part.table) for part in tensor_heads if part.table is not None]
    coded = iter(entropy.decode(words, parts))
    tensors = tuple(
        part.tensor(next(coded) if part.table is not None else None) for part in tensor_heads
    )
    segment = Segment(head.index, head.first_frame, frames, model, tensors)
    if segment.symbols_crc() != crc:
        raise BitstreamError(
            f"SEGM {head.index}: the decoded symbols do not have the checksum stated"
        )
    return segment


@dataclass(frozen=True)
class _TensorHead:
    spec: TensorSpec
    zero: int
    scales: npt.NDArray[np.uint16]
    table: entropy.Table | None
    constant: int
    prediction: int

    def tensor(self, coded: npt.NDArray[np.uint8] | None) -> QuantizedTensor:
        if coded is None:
            coded = np.full(self.spec.size, self.constant, dtype=np.uint8)
        symbols = coded.reshape(self.spec.shape)
        if self.prediction == PREDICT_PREVIOUS:
            symbols = _summed(symbols, self.zero)
        return QuantizedTensor(self.spec, symbols, self.zero, self.scales)


def _read_tensor_head(reader: ByteReader, spec: TensorSpec) -> _TensorHead:
    prediction = PREDICT_NOTHING
    if spec.name in FRAME_TENSORS:
        prediction = reader.bounded_u8(PREDICT_NOTHING, PREDICT_PREVIOUS, "prediction")
    byte = reader.u8()
    code = reader.check(byte & ~PER_CHANNEL, 0, entropy.CONSTANT, f"coding of {spec.name}")
    zero = reader.u8()
    scales = _read_scales(reader, spec, bool(byte & PER_CHANNEL))
    if code == entropy.CONSTANT:
        return _TensorHead(spec, zero, scales, None, reader.u8(), prediction)
    if spec.size < 2:
        raise BitstreamError(f"SEGM: {spec.name} has one value but is not coded as constant")
    table: entropy.Table
    if code == entropy.EXPLICIT:
        table = entropy.ExplicitTable.read(reader)
    else:
        table = entropy.FrozenTable(code, zero if prediction == PREDICT_NOTHING else CENTRE)
    return _TensorHead(spec, zero, scales, table, 0, prediction)


def _read_scales(reader: ByteReader, spec: TensorSpec, per_channel: bool) -> npt.NDArray[np.uint16]:
    count = 1
    if per_channel:
        if spec.channel_axis is None or spec.shape[spec.channel_axis] < 2:
            raise BitstreamError(f"SEGM: {spec.name} cannot have a scale for each channel")
        count = spec.shape[spec.channel_axis]
    scales = np.frombuffer(reader.take(2 * count), dtype="<u2").astype(np.uint16)
    if scales.min() < MIN_SCALE_BITS or scales.max() > MAX_SCALE_BITS:
        raise BitstreamError(f"SEGM: a scale of {spec.name} is out of range")
    return scales


@dataclass(frozen=True)
class TensorBits:
    """Where the bits of one tensor in a SEGM payload went.

    Attributes:
        side: its coding, zero point, scales and table.
        symbols: by the probabilities that they are coded with, which is what the coder spends to
            within a word for all tensors together.
    """

    spec: TensorSpec
    side: int
    symbols: float


def tensor_bits(payload: bytes, header: StreamHeader, limits: Limits) -> list[TensorBits]:
    """Each tensor's share of a SEGM payload; what is left is place, model, checksum and rounding.

    Raises:
        BitstreamError: as :func:`decode_segment` does.
    """
    tensors = decode_segment(payload, header, limits).tensors
    reader = ByteReader(payload, "SEGM")
    _read_head(reader, header)
    reader.take(CRC_BYTES)
    found = []
    for tensor in tensors:
        before = reader.remaining
        part = _read_tensor_head(reader, tensor.spec)
        side = 8 * (before - reader.remaining)
        coded = tensor.symbols
        if part.prediction == PREDICT_PREVIOUS:
            coded = _changes(coded, tensor.zero)
        spent = 0.0 if part.table is None else entropy.estimated_bits(coded, part.table)
        found.append(TensorBits(tensor.spec, side, spent))
    return found
