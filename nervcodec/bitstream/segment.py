"""The SEGM chunk (spec section 5): a network's quantized tensors, one chunk a segment.

The tensors' names and shapes come from :mod:`nervcodec.bitstream.tensors`, their coding from
:mod:`nervcodec.bitstream.coding`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from nervcodec.bitstream import entropy
from nervcodec.bitstream.coding import QuantizedTensor, TensorCoding, choose_coding
from nervcodec.bitstream.container import CRC_BYTES
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits, TensorSpec, check_limits, tensor_specs
from nervcodec.bitstream.wire import ByteReader, varint
from nervcodec.errors import BitstreamError

MAX_SEGMENT_HEAD = 256
"""Place, frames and model take less: at most 3 x 9, 3, 8 x 11, 22, 37, 8 and 1 bytes."""


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
    headers, tables = bytearray(head + crc), 0
    parts: list[tuple[entropy.Symbols, entropy.Table]] = []
    for tensor in segment.tensors:
        coding = choose_coding(tensor)
        headers += coding.to_bytes()
        tables += coding.table_bytes
        parts += coding.parts(tensor.symbols)
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
    codings = [
        TensorCoding.read(reader, spec)
        for spec in tensor_specs(model, header.width, header.height, frames)
    ]
    count = reader.varint()
    if 4 * count != reader.remaining:
        raise BitstreamError(f"SEGM: {count} words are announced, {reader.remaining} bytes left")
    words = np.frombuffer(reader.take(4 * count), dtype="<u4").astype(np.uint32)
    decoder = entropy.SymbolDecoder(words)
    tensors = tuple(coding.decode(decoder) for coding in codings)
    decoder.finish()
    segment = Segment(head.index, head.first_frame, frames, model, tensors)
    if segment.symbols_crc() != crc:
        raise BitstreamError(
            f"SEGM {head.index}: the decoded symbols do not have the checksum stated"
        )
    return segment


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
        coding = TensorCoding.read(reader, tensor.spec)
        side = 8 * (before - reader.remaining)
        spent = sum(entropy.estimated_bits(*part) for part in coding.parts(tensor.symbols))
        found.append(TensorBits(tensor.spec, side, spent))
    return found
