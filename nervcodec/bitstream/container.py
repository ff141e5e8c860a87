"""The outer layer of a file (spec section 3): signature, checked chunks, END with its digest.

Works on file objects that the caller opens; what the payloads mean is in
:mod:`nervcodec.bitstream.syntax` and :mod:`nervcodec.bitstream.stream`.
"""

from __future__ import annotations

import hashlib
import zlib
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


_RANK = {
    kind: rank
    for rank, kind in enumerate(
        (
            ChunkType.HEAD,
            ChunkType.PTSD,
            ChunkType.META,
            ChunkType.SEGM,
            ChunkType.HASH,
            ChunkType.AUDI,
            ChunkType.END,
        )
    )
}


@dataclass(frozen=True)
class Chunk:
    """Where one chunk lies: ``offset`` of its payload in the file and the payload's length."""

    kind: int
    offset: int
    length: int

    @property
    def total(self) -> int:
        """Bytes that the chunk takes in the file: type, length, payload and checksum."""
        return 1 + len(varint(self.length)) + self.length + CRC_BYTES


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


class ContainerReader:
    """Checks a whole file's structure and checksums, then gives payloads on demand.

    The file is read once in blocks, so memory does not grow with its length.

    Raises:
        BitstreamError: on any damage; UnsupportedError on an unknown critical chunk.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._position = 0
        self.chunks: list[Chunk] = []
        stream.seek(0)
        if stream.read(len(SIGNATURE)) != SIGNATURE:
            raise BitstreamError("not an .hfsv file (the signature is missing)")
        self._position = len(SIGNATURE)
        self._digest.update(SIGNATURE)
        while self._scan_chunk():
            if len(self.chunks) == MAX_CHUNKS:
                raise UnsupportedError(f"more than {MAX_CHUNKS} chunks")
        if stream.read(1):
            raise BitstreamError("data after the END chunk")
        if self.chunks[0].kind != ChunkType.HEAD:
            raise BitstreamError("the first chunk is not HEAD")

    @property
    def length(self) -> int:
        """Length of the file in bytes."""
        return self._position

    def payload(self, chunk: Chunk, most: int | None = None) -> bytes:
        """Read the payload of a chunk that the scan has found sound, or its beginning."""
        length = chunk.length if most is None else min(chunk.length, most)
        self._stream.seek(chunk.offset)
        data = self._stream.read(length)
        if len(data) != length:
            raise BitstreamError("the file was shortened while it was being read")
        return data

    def of_kind(self, kind: ChunkType) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.kind == kind]

    def single(self, kind: ChunkType) -> bytes | None:
        """Payload of the only chunk of this kind, or None where it is absent."""
        found = self.of_kind(kind)
        return self.payload(found[0]) if found else None

    def _take(self, count: int, what: str) -> bytes:
        data = self._stream.read(count)
        if len(data) != count:
            raise BitstreamError(
                f"truncated: the file ends within the {what} at byte {self._position + len(data)}"
            )
        self._position += count
        return data

    def _scan_chunk(self) -> bool:
        """Check the next chunk; False after END."""
        start = self._position
        digest_before = self._digest.digest()[:DIGEST_BYTES]
        head = self._take(1, "chunk type")
        while len(head) <= MAX_LENGTH_BYTES:
            head += self._take(1, "chunk length")
            if head[-1] < 0x80:
                break
        length = ByteReader(head[1:], f"chunk at byte {start}").varint()
        offset = self._position
        crc = zlib.crc32(head)
        self._digest.update(head)
        while left := offset + length - self._position:
            block = self._take(min(left, BLOCK), "chunk")
            crc = zlib.crc32(block, crc)
            self._digest.update(block)
        stored = self._take(CRC_BYTES, "chunk checksum")
        self._digest.update(stored)
        if crc != int.from_bytes(stored, "little"):
            raise BitstreamError(f"the checksum of the chunk at byte {start} does not match")
        chunk = Chunk(head[0], offset, length)
        self.chunks.append(chunk)
        if chunk.kind != ChunkType.END:
            return True
        self._check_end(chunk, start, digest_before)
        return False

    def _check_end(self, chunk: Chunk, start: int, digest: bytes) -> None:
        if chunk.length > MAX_VARINT_BYTES + DIGEST_BYTES:
            raise BitstreamError("END: too long")
        reader = ByteReader(self.payload(chunk), "END")
        self._stream.seek(self._position)
        if reader.varint() != start:
            raise BitstreamError("END: the offset that it states is not its own")
        if reader.take(DIGEST_BYTES) != digest:
            raise BitstreamError("END: the digest of the file does not match")
        reader.finish()

    def check_order(self) -> None:
        """Check types, order and counts of the chunks; after the version, which rules them."""
        rank = -1
        for chunk in self.chunks:
            if chunk.kind not in _RANK:
                if chunk.kind & CRITICAL:
                    raise UnsupportedError(
                        f"unknown critical chunk type {chunk.kind:#04x}: "
                        "the file needs a later version of the format"
                    )
                continue
            here = _RANK[ChunkType(chunk.kind)]
            if here < rank or (here == rank and chunk.kind != ChunkType.SEGM):
                raise BitstreamError(
                    f"chunk {ChunkType(chunk.kind).name} is repeated or out of order"
                )
            rank = here
