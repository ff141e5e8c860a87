"""The outer layer of a file (spec section 3): signature, checked chunks, END with its digest.

Works on file objects that the caller opens; what the payloads mean is in
:mod:`nervcodec.bitstream.syntax` and :mod:`nervcodec.bitstream.stream`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from nervcodec.bitstream.wire import MAX_VARINT_BYTES, ByteReader, varint
from nervcodec.errors import BitstreamError, UnsupportedError

SIGNATURE = b"\x89HFS\r\n\x1a\n"
CRITICAL = 0x80
DIGEST_BYTES = 16
CRC_BYTES = 4
BLOCK = 1 << 20

MAX_LENGTH_BYTES = 5
"""A chunk's length is a varint of at most 35 bits: 32 GiB."""

NO_SIGNATURE = "not an .hfsv file (the signature is missing)"

MAX_CHUNKS = 1 << 20
"""More than a segment a second for eleven days; bounds the index that a reader builds."""


class ChunkType(IntEnum):
    """Types of chunk; bit 7 marks those that a decoder must understand."""

    HEAD = 0x81
    SEGM = 0x82
    HASH = 0x03
    META = 0x05
    AUDI = 0x06
    PTSD = 0x87
    END = 0xFF


ORDER = (
    ChunkType.HEAD,
    ChunkType.PTSD,
    ChunkType.META,
    ChunkType.SEGM,
    ChunkType.HASH,
    ChunkType.AUDI,
    ChunkType.END,
)
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}


@dataclass(frozen=True)
class Chunk:
    """Where one chunk lies: ``offset`` of its payload in the file and the payload's length."""

    kind: int
    offset: int
    length: int

    @property
    def head(self) -> bytes:
        """The chunk's first bytes: its type and length."""
        return bytes([self.kind]) + varint(self.length)

    @property
    def start(self) -> int:
        """Offset of the chunk's type byte."""
        return self.offset - len(self.head)

    @property
    def end(self) -> int:
        """Offset of what follows the chunk."""
        return self.offset + self.length + CRC_BYTES

    @property
    def total(self) -> int:
        """Bytes that the chunk takes in the file: type, length, payload and checksum."""
        return self.end - self.start


def chunk_name(kind: int) -> str:
    """The name of a type of chunk, or its number where the format gives it none."""
    return ChunkType(kind).name if kind in _RANK else f"{kind:#04x}"


def read_head(stream: BinaryIO, start: int) -> Chunk:
    """Type and length of the chunk that begins at byte ``start``; its checksum is not looked at.

    Raises:
        BitstreamError: if the file ends there, or the length is no varint of five bytes at most.
    """
    stream.seek(start)
    head = _take(stream, 1, "chunk type")
    while len(head) <= MAX_LENGTH_BYTES:
        head += _take(stream, 1, "chunk length")
        if head[-1] < 0x80:
            break
    length = ByteReader(head[1:], f"chunk at byte {start}").varint()
    return Chunk(head[0], start + len(head), length)


Watch = Callable[[bytes], object]


def ignore(data: bytes) -> None:
    """A watcher that does nothing."""


def has_right_checksum(stream: BinaryIO, chunk: Chunk, watch: Watch = ignore) -> bool:
    """Whether a chunk's checksum is right; ``watch`` is given all of its bytes in order.

    Raises:
        BitstreamError: if the file ends within the chunk.
    """
    stream.seek(chunk.offset)
    watch(chunk.head)
    crc, left = zlib.crc32(chunk.head), chunk.length
    while left:
        block = _take(stream, min(left, BLOCK), "chunk")
        crc, left = zlib.crc32(block, crc), left - len(block)
        watch(block)
    stored = _take(stream, CRC_BYTES, "chunk checksum")
    watch(stored)
    return crc == int.from_bytes(stored, "little")


def _take(stream: BinaryIO, count: int, what: str) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise BitstreamError(f"truncated: the file ends within the {what} at byte {stream.tell()}")
    return data


def misplaced(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Those chunks that are repeated or out of order; which they are depends on the version.

    Raises:
        UnsupportedError: at an unknown critical chunk.
    """
    rank = -1
    for chunk in chunks:
        if chunk.kind not in _RANK:
            if chunk.kind & CRITICAL:
                raise UnsupportedError(
                    f"unknown critical chunk type {chunk.kind:#04x}: "
                    "the file needs a later version of the format"
                )
            continue
        here = _RANK[ChunkType(chunk.kind)]
        if here < rank or (here == rank and chunk.kind != ChunkType.SEGM):
            yield chunk
        else:
            rank = here


class ContainerWriter:
    """Writes a file chunk by chunk to ``stream``, which needs only ``write``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._written = 0
        self._write(SIGNATURE)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._written += len(data)

    def chunk(self, kind: ChunkType, payload: bytes) -> None:
        """Append one chunk; the caller keeps the canonical order."""
        head = bytes([kind]) + varint(len(payload))
        self._write(head + payload)
        self._write(zlib.crc32(payload, zlib.crc32(head)).to_bytes(CRC_BYTES, "little"))

    def finish(self) -> int:
        """Append END and return the length of the whole file in bytes."""
        digest = self._digest.digest()[:DIGEST_BYTES]
        self.chunk(ChunkType.END, varint(self._written) + digest)
        return self._written


class Container:
    """The chunks of a file whose checksums are right, and their payloads on demand.

    ``length`` is that of the file in bytes.
    """

    length: int

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.chunks: list[Chunk] = []

    def payload(self, chunk: Chunk, most: int | None = None) -> bytes:
        """Read the payload of a chunk that the scan has found sound, or its beginning."""
        return self.read(chunk.offset, chunk.length if most is None else min(chunk.length, most))

    def read(self, offset: int, count: int) -> bytes:
        """Bytes of the file that have been there when it was scanned."""
        self._stream.seek(offset)
        data = self._stream.read(count)
        if len(data) != count:
            raise BitstreamError("the file was shortened while it was being read")
        return data

    def of_kind(self, kind: ChunkType) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.kind == kind]

    def single(self, kind: ChunkType) -> bytes | None:
        """Payload of the only chunk of this kind, or None where it is absent."""
        found = self.of_kind(kind)
        return self.payload(found[0]) if found else None

    def check_end(self, chunk: Chunk, digest: bytes | None) -> None:
        """Check what END says of its own offset and, where it is given, the file's digest.

        Raises:
            BitstreamError
        """
        if chunk.length > MAX_VARINT_BYTES + DIGEST_BYTES:
            raise BitstreamError("END: too long")
        reader = ByteReader(self.payload(chunk), "END")
        if reader.varint() != chunk.start:
            raise BitstreamError("END: the offset that it states is not its own")
        if reader.take(DIGEST_BYTES) != digest and digest is not None:
            raise BitstreamError("END: the digest of the file does not match")
        reader.finish()


class ContainerReader(Container):
    """Checks a whole file's structure and checksums, and stops at the first fault.

    The file is read once in blocks, so memory does not grow with its length.
    :class:`nervcodec.bitstream.survey.Survey` reads on where this one stops.

    Raises:
        BitstreamError: on any damage; UnsupportedError on an unknown critical chunk.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._digest = hashlib.sha256(SIGNATURE)
        stream.seek(0)
        if stream.read(len(SIGNATURE)) != SIGNATURE:
            raise BitstreamError(NO_SIGNATURE)
        self.length = len(SIGNATURE)
        while self._scan_chunk():
            if len(self.chunks) == MAX_CHUNKS:
                raise BitstreamError(f"more than {MAX_CHUNKS} chunks")
        stream.seek(self.length)
        if stream.read(1):
            raise BitstreamError("data after the END chunk")
        if self.chunks[0].kind != ChunkType.HEAD:
            raise BitstreamError("the first chunk is not HEAD")

    def _scan_chunk(self) -> bool:
        """Check the next chunk; False after END."""
        digest_before = self._digest.digest()[:DIGEST_BYTES]
        chunk = read_head(self._stream, self.length)
        if not has_right_checksum(self._stream, chunk, self._digest.update):
            raise BitstreamError(f"the checksum of the chunk at byte {chunk.start} does not match")
        self.chunks.append(chunk)
        self.length = chunk.end
        if chunk.kind != ChunkType.END:
            return True
        self.check_end(chunk, digest_before)
        return False

    def check_order(self) -> None:
        """Check types, order and counts of the chunks; after the version, which rules them."""
        for chunk in misplaced(self.chunks):
            raise BitstreamError(f"chunk {chunk_name(chunk.kind)} is repeated or out of order")
