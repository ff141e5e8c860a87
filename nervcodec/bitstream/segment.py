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
from nervcodec.bitstream.tensors import Limits, TensorSpec, check_limits, tensor_specs
from nervcodec.bitstream.wire import ByteReader, varint
from nervcodec.errors import BitstreamError

PER_CHANNEL = 0x80
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
        flag = PER_CHANNEL if tensor.scales.size > 1 else 0
        scales = tensor.scales.astype("<u2").tobytes()
        first = int(tensor.symbols.flat[0])
        if (tensor.symbols == first).all():
            headers += bytes([entropy.CONSTANT | flag, tensor.zero]) + scales + bytes([first])
            continue
        table = entropy.choose_table(tensor.symbols, tensor.zero)
        body = table.to_bytes()
        headers += bytes([table.code | flag, tensor.zero]) + scales + body
        tables += len(body)
        parts.append((tensor.symbols, table))
    words = entropy.encode(parts).astype("<u4")
    payload = bytes(headers) + varint(words.size) + words.tobytes()
    return payload, SegmentSize(len(payload) - words.nbytes - tables, tables, words.nbytes)


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

    def tensor(self, symbols: npt.NDArray[np.uint8] | None) -> QuantizedTensor:
        if symbols is None:
            symbols = np.full(self.spec.size, self.constant, dtype=np.uint8)
        return QuantizedTensor(self.spec, symbols.reshape(self.spec.shape), self.zero, self.scales)


def _read_tensor_head(reader: ByteReader, spec: TensorSpec) -> _TensorHead:
    byte = reader.u8()
    code = reader.check(byte & ~PER_CHANNEL, 0, entropy.CONSTANT, f"coding of {spec.name}")
    zero = reader.u8()
    scales = _read_scales(reader, spec, bool(byte & PER_CHANNEL))
    if code == entropy.CONSTANT:
        return _TensorHead(spec, zero, scales, None, reader.u8())
    if spec.size < 2:
        raise BitstreamError(f"SEGM: {spec.name} has one value but is not coded as constant")
    table: entropy.Table
    if code == entropy.EXPLICIT:
        table = entropy.ExplicitTable.read(reader)
    else:
        table = entropy.FrozenTable(code, zero)
    return _TensorHead(spec, zero, scales, table, 0)


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
        spent = 0.0 if part.table is None else entropy.estimated_bits(tensor.symbols, part.table)
        found.append(TensorBits(tensor.spec, side, spent))
    return found
