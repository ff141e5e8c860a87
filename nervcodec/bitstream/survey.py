"""What can still be made out of a damaged file's structure (spec section 3).

:class:`~nervcodec.bitstream.container.ContainerReader` stops at the first fault; the survey reads
on behind it. What the chunks that it finds are good for is in :mod:`nervcodec.bitstream.salvage`.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from nervcodec.bitstream.container import (
    DIGEST_BYTES,
    MAX_CHUNKS,
    MAX_LENGTH_BYTES,
    NO_SIGNATURE,
    ORDER,
    SIGNATURE,
    Chunk,
    ChunkType,
    Container,
    Watch,
    chunk_name,
    has_right_checksum,
    ignore,
    read_head,
)
from nervcodec.errors import BitstreamError

SEARCH_BYTES = 1 << 26
SEARCH_FACTOR = 256
"""A survey checks at most so many bytes and so many times the file's length, which takes less than
a second for each megabyte. Of random bytes 100 MB are looked through for half of that."""

GLANCE_BYTES = 1 << 12
"""What a look at a byte that may begin a chunk counts for, since it takes as long."""

SEARCH_BLOCK = 1 << 14

TRUSTED_LENGTH = 1 << 16
"""Among random bytes those that look like longer chunks are rare, but would take most of the time.
A search checks them only where a known type, or the file's end, follows."""


class Fault(StrEnum):
    """What is wrong with a part of a file."""

    SIGNATURE = "signature"
    CHECKSUM = "checksum"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    """A stretch in which no chunk can be made out; chunks may have been lost in it."""
    UNSEARCHED = "unsearched"
    MISSING = "missing"
    TRAILING = "trailing"
    ORDER = "order"
    CONTENT = "content"
    """The chunk's checksum is right, but what it says is not."""


@dataclass(frozen=True)
class Damage:
    """One damaged part of a file.

    Attributes:
        chunk: name or number of the type of the chunk that is, or begins, there; None where
            nothing is known of it.
        offset, length: the bytes concerned.
        detail: what is wrong, for a person.
    """

    chunk: str | None
    offset: int
    length: int
    fault: Fault
    detail: str

    def __str__(self) -> str:
        last = self.offset + self.length - 1
        place = f"bytes {self.offset}..{last}" if self.length else f"byte {self.offset}"
        return f"{self.chunk or 'unknown'}, {place}: {self.detail}"


class _SearchedEnoughError(Exception):
    """The survey has checked as many bytes as it may."""


class Survey(Container):
    """All chunks of a file whose checksums are right, and all that is damaged.

    Every byte behind the signature belongs either to one of ``chunks`` or to a part listed in
    ``damage``; both are in order. The work grows no faster than the file's length, and memory
    with the lists only.

    Raises:
        BitstreamError: if neither signature nor HEAD are those of an ``.hfsv`` file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self.damage: list[Damage] = []
        self.length = stream.seek(0, io.SEEK_END)
        self._budget = SEARCH_BYTES + SEARCH_FACTOR * self.length
        self._check_signature()
        self._scan()
        if not self.chunks or self.chunks[0].kind != ChunkType.HEAD:
            self._miss(ChunkType.HEAD, len(SIGNATURE))
        if not self.chunks or self.chunks[-1].kind != ChunkType.END:
            self._miss(ChunkType.END, self.length)
        self.damage.sort(key=lambda part: part.offset)

    def condemn(self, useless: Iterable[tuple[Chunk, str]], fault: Fault) -> None:
        """Count chunks as damaged though their checksums are right, and say why of each."""
        details = dict(useless)
        self.chunks = [chunk for chunk in self.chunks if chunk not in details]
        for chunk, detail in details.items():
            self._lose(chunk_name(chunk.kind), chunk.start, chunk.end, fault, detail)
        self.damage.sort(key=lambda part: part.offset)

    def _lose(self, chunk: str | None, start: int, end: int, fault: Fault, detail: str) -> None:
        self.damage.append(Damage(chunk, start, end - start, fault, detail))

    def _miss(self, kind: ChunkType, place: int) -> None:
        """Note that a chunk is not there, unless it is there and damaged."""
        if all(p.chunk != kind.name and p.fault != Fault.UNSEARCHED for p in self.damage):
            self._lose(kind.name, place, place, Fault.MISSING, "the chunk is missing")

    def _check_signature(self) -> None:
        self._stream.seek(0)
        if self._stream.read(len(SIGNATURE)) == SIGNATURE:
            return
        head = self._head_at(len(SIGNATURE))
        if head is None or head.kind != ChunkType.HEAD or not self._is_sound(head):
            raise BitstreamError(NO_SIGNATURE)
        self._lose(None, 0, len(SIGNATURE), Fault.SIGNATURE, "the signature is damaged")

    def _scan(self) -> None:
        digest = hashlib.sha256(SIGNATURE)
        position = len(SIGNATURE)
        while position < self.length:
            if len(self.chunks) + len(self.damage) >= MAX_CHUNKS:
                self._give_up(position, f"there are more than {MAX_CHUNKS} chunks")
                return
            before = digest.digest()[:DIGEST_BYTES]
            try:
                chunk = self._sound_at(position, digest.update)
                position = self._pass_damage(position) if chunk is None else chunk.end
            except _SearchedEnoughError:
                self._give_up(position, "it would take too long")
                return
            if chunk is not None:
                self.chunks.append(chunk)
                if chunk.kind == ChunkType.END:
                    self._finish(chunk, before)
                    return

    def _give_up(self, position: int, why: str) -> None:
        name = self._known_name(position)
        self._lose(name, position, self.length, Fault.UNSEARCHED, f"not looked through: {why}")

    def _known_name(self, start: int) -> str | None:
        """Name of the type of chunk that the byte at ``start`` stands for."""
        kind = self.read(start, 1)[0]
        return chunk_name(kind) if kind in ORDER else None

    def _finish(self, end: Chunk, digest: bytes) -> None:
        try:
            self.check_end(end, None if self.damage else digest)
        except BitstreamError as exc:
            self.condemn([(end, str(exc))], Fault.CONTENT)
        if end.end < self.length:
            self._lose(None, end.end, self.length, Fault.TRAILING, "data after the END chunk")

    def _pass_damage(self, start: int) -> int:
        """Note what is damaged from ``start`` on, and return where a chunk can be read again."""
        chunks, resumed = self._hop(start)
        if resumed is None:
            resumed = self._search(start + 1)
            lead_to_the_end = bool(chunks) and chunks[-1].end >= self.length
            if resumed < self.length or not lead_to_the_end:
                self._lose_stretch(start, resumed)
                return resumed
        for chunk in chunks:
            if chunk.end <= self.length:
                fault, detail = Fault.CHECKSUM, "the checksum does not match"
            else:
                fault, detail = Fault.TRUNCATED, f"the file ends within its {chunk.total} bytes"
            end = min(chunk.end, self.length)
            self._lose(chunk_name(chunk.kind), chunk.start, end, fault, detail)
        return resumed

    def _lose_stretch(self, start: int, end: int) -> None:
        name = self._known_name(start)
        if end == self.length and end - start <= 1 + MAX_LENGTH_BYTES:
            self._lose(name, start, end, Fault.TRUNCATED, "the file ends within its length")
        else:
            self._lose(name, start, end, Fault.UNREADABLE, "no chunk can be made out")

    def _hop(self, start: int) -> tuple[list[Chunk], int | None]:
        """Follow the lengths of chunks with damaged payloads, from the one at ``start`` on.

        Returns the chunks, and the place behind them where a sound chunk stands or, behind END,
        the file ends; None where the lengths lead to no such place.
        """
        chunks: list[Chunk] = []
        position = start
        while len(chunks) < MAX_CHUNKS:
            chunk = self._head_at(position)
            if chunk is None or (chunks and chunk.kind not in ORDER):
                break
            chunks.append(chunk)
            position = chunk.end
            ended = position == self.length and chunk.kind == ChunkType.END
            if ended or self._sound_at(position):
                return chunks, position
        return chunks, None

    def _search(self, start: int) -> int:
        """The first place from ``start`` on at which a sound chunk begins, else the file's end.

        Only types are looked for that may follow the last sound chunk's.
        """
        types: Sequence[ChunkType] = ORDER
        if self.chunks and self.chunks[-1].kind in ORDER:
            last = ChunkType(self.chunks[-1].kind)
            types = ORDER[ORDER.index(last) + (last != ChunkType.SEGM) :]
        candidates = re.compile(b"[%s]" % re.escape(bytes(types)))
        for block_start in range(start, self.length, SEARCH_BLOCK):
            self._spend(SEARCH_BLOCK)
            self._stream.seek(block_start)
            for match in candidates.finditer(self._stream.read(SEARCH_BLOCK)):
                self._spend(GLANCE_BYTES)
                position = block_start + match.start()
                head = self._head_at(position)
                if head is not None and self._deserves_a_check(head) and self._is_sound(head):
                    return position
        return self.length

    def _deserves_a_check(self, chunk: Chunk) -> bool:
        if chunk.length <= TRUSTED_LENGTH or chunk.end == self.length:
            return True
        following = self._head_at(chunk.end)
        return following is not None and following.kind in ORDER

    def _sound_at(self, start: int, watch: Watch = ignore) -> Chunk | None:
        chunk = self._head_at(start)
        return chunk if chunk is not None and self._is_sound(chunk, watch) else None

    def _is_sound(self, chunk: Chunk, watch: Watch = ignore) -> bool:
        if chunk.end > self.length:
            return False
        self._spend(chunk.total)
        return has_right_checksum(self._stream, chunk, watch)

    def _head_at(self, start: int) -> Chunk | None:
        try:
            return read_head(self._stream, start)
        except BitstreamError:
            return None

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise _SearchedEnoughError
