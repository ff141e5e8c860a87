"""Whole files (spec sections 3 and 7): the chunks' contents put together and taken apart.

:mod:`nervcodec.decoder` evaluates what is read here; :mod:`nervcodec.encoder` makes it.
"""

from __future__ import annotations

import io
import itertools
import math
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from nervcodec.bitstream.container import (
    Chunk,
    ChunkType,
    Container,
    ContainerReader,
    ContainerWriter,
)
from nervcodec.bitstream.segment import (
    MAX_SEGMENT_HEAD,
    Segment,
    decode_segment,
    encode_segment,
    read_segment_head,
)
from nervcodec.bitstream.syntax import MAX_RATIONAL, ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits
from nervcodec.bitstream.wire import ByteReader, signed_varint, signed_varints, varint
from nervcodec.errors import BitstreamError

HASH_BYTES = 8
"""Bytes of the SHA-256 of a segment's reference frames that HASH holds."""

MAX_STEP_BYTES = 5
"""A step between frames takes at most so many bytes in PTSD."""

MAX_META_BYTES = 1 << 16
MAX_META_DEPTH = 4
MAX_AUDIO_BYTES = 1 << 30
AUDIO_CONTAINERS = ("mp4", "matroska")


@dataclass(frozen=True)
class AudioData:
    """Passed-through streams: a whole file of the named container, held in memory."""

    container: str
    data: bytes


@dataclass(frozen=True)
class SegmentInfo:
    """Where a segment stands: its index, its first frame, its length and its network."""

    chunk: Chunk
    index: int
    first_frame: int
    frames: int
    model: ModelSpec


class _RawFile(io.FileIO):
    """A file for reading, where the system's refusals are BitstreamErrors."""

    def readinto(self, buffer: Any, /) -> int | None:
        with _refusals_told(self.name):
            return super().readinto(buffer)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with _refusals_told(self.name):
            return super().seek(offset, whence)


@contextmanager
def _refusals_told(path: object) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise BitstreamError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc


def open_stream(path: Path) -> BinaryIO:
    """Open an ``.hfsv`` file for reading.

    Raises:
        BitstreamError: if the system refuses, now or when it is read.
    """
    with _refusals_told(path):
        stream = io.BufferedReader(_RawFile(path))
    if not stream.seekable():
        stream.close()
        raise BitstreamError(f"{path}: not a regular file")
    return stream


def write_stream(
    stream: BinaryIO,
    header: StreamHeader,
    pts: Sequence[int],
    last_duration: int,
    segments: Iterable[Segment],
    digests: Sequence[bytes] | None,
    meta: dict[str, Any],
    audio: AudioData | None,
) -> int:
    """Write a whole file and return its length in bytes."""
    writer = ContainerWriter(stream)
    timing = encode_timestamps(pts, header.frame_duration, last_duration)
    header = replace(header, start_pts=pts[0])
    writer.chunk(ChunkType.HEAD, header.to_bytes())
    if timing:
        writer.chunk(ChunkType.PTSD, timing)
    writer.chunk(ChunkType.META, encode_meta(meta))
    for segment in segments:
        writer.chunk(ChunkType.SEGM, encode_segment(segment)[0])
    if digests is not None:
        writer.chunk(ChunkType.HASH, b"".join(digests))
    if audio is not None:
        writer.chunk(ChunkType.AUDI, encode_audio(audio))
    return writer.finish()


class StreamContents:
    """What a file holds; the segments' symbols are decoded on demand.

    Made by :class:`StreamReader`, or of a damaged file by
    :class:`nervcodec.bitstream.salvage.SalvageReader`.

    Attributes:
        pts, last_duration: when each frame is presented, and how long the last one lasts.
        segments: in order; those of a sound file hold all frames.
        digests: HASH's, one for each of ``segments``; None where there is no HASH.
    """

    container: Container
    header: StreamHeader
    pts: Sequence[int]
    last_duration: int
    segments: list[SegmentInfo]
    digests: list[bytes] | None
    meta: dict[str, Any]

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @property
    def lost(self) -> list[range]:
        """Runs of frames that none of ``segments`` holds, in order."""
        return []

    @property
    def warnings(self) -> list[str]:
        """What is to be told to whoever uses the contents."""
        return []

    @property
    def file_bytes(self) -> int:
        return self.container.length

    @property
    def audio_bytes(self) -> int:
        """Bytes of the file that passed-through streams take, their chunk's frame included."""
        return sum(chunk.total for chunk in self.container.of_kind(ChunkType.AUDI))

    def segment(self, number: int) -> Segment:
        """Decode the symbols of the segment at a place of ``segments``."""
        payload = self.container.payload(self.segments[number].chunk)
        return decode_segment(payload, self.header, self._limits)

    def audio(self) -> AudioData | None:
        payload = self.container.single(ChunkType.AUDI)
        return None if payload is None else decode_audio(payload)


class StreamReader(StreamContents):
    """Reads and checks everything of a file but the segments' symbols, which come on demand.

    Raises:
        BitstreamError: on any damage.
    """

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        super().__init__(limits)
        self.container = container = ContainerReader(stream)
        self.header = StreamHeader.from_bytes(container.payload(container.chunks[0]))
        container.check_order()
        timing = container.single(ChunkType.PTSD)
        self.pts, self.last_duration = decode_timestamps(timing, self.header)
        self.segments = self._index_segments()
        hashes = container.single(ChunkType.HASH)
        self.digests = None if hashes is None else split_digests(hashes, len(self.segments))
        meta = container.single(ChunkType.META)
        self.meta = {} if meta is None else decode_meta(meta)

    def _index_segments(self) -> list[SegmentInfo]:
        result: list[SegmentInfo] = []
        first = 0
        for chunk in self.container.of_kind(ChunkType.SEGM):
            head = self.container.payload(chunk, MAX_SEGMENT_HEAD)
            place = read_segment_head(head, self.header)
            if place.index != len(result):
                raise BitstreamError(f"segment {place.index} stands where {len(result)} should")
            if place.first_frame != first:
                raise BitstreamError(
                    f"segment {place.index} begins at frame {place.first_frame}, not {first}"
                )
            result.append(SegmentInfo(chunk, place.index, first, place.frames, place.model))
            first += place.frames
        if len(result) != self.header.segments or first != self.header.frames:
            raise BitstreamError(
                f"HEAD announces {self.header.segments} segments and {self.header.frames} frames; "
                f"the file has {len(result)} and {first}"
            )
        return result


def split_digests(payload: bytes, segments: int) -> list[bytes]:
    """HASH's digest of each segment."""
    if len(payload) != HASH_BYTES * segments:
        raise BitstreamError("HASH: its length does not fit the number of segments")
    starts = range(0, len(payload), HASH_BYTES)
    return [payload[start : start + HASH_BYTES] for start in starts]


def encode_timestamps(pts: Sequence[int], duration: int, last_duration: int) -> bytes:
    """PTSD payload, empty where every frame lasts ``duration``."""
    steps = [after - before for before, after in itertools.pairwise(pts)] + [last_duration]
    if all(step == duration for step in steps):
        return b""
    return _deflate(b"".join(signed_varint(step - duration) for step in steps))


def decode_timestamps(payload: bytes | None, header: StreamHeader) -> tuple[Sequence[int], int]:
    """Timestamps of all frames, and how long the last one lasts."""
    start, duration, frames = header.start_pts, header.frame_duration, header.frames
    if payload is None:
        return range(start, start + frames * duration, duration), duration
    raw = _inflate(ByteReader(payload, "PTSD"), frames, MAX_STEP_BYTES * frames)
    pts = array("q", [0]) * frames
    times, time, done, step = np.frombuffer(pts, dtype=np.int64), start, 0, duration
    for longer in signed_varints(raw, frames, "PTSD"):
        steps = longer + duration
        if steps.min() < 1 or steps.max() > MAX_RATIONAL:
            raise BitstreamError(f"PTSD: a frame's length is not in 1..{MAX_RATIONAL}")
        ends = time + np.cumsum(steps)
        times[done] = time
        times[done + 1 : done + steps.size] = ends[:-1]
        time, step, done = int(ends[-1]), int(steps[-1]), done + steps.size
    return pts, step


def _deflate(raw: bytes) -> bytes:
    """Length and bytes, compressed by zlib where that is shorter."""
    packed = zlib.compress(raw, 9)
    if len(packed) < len(raw):
        return b"\x01" + varint(len(raw)) + packed
    return b"\x00" + varint(len(raw)) + raw


def _inflate(reader: ByteReader, low: int, high: int) -> bytes:
    """The inverse of :func:`_deflate`; the content must have ``low`` to ``high`` bytes."""
    method = reader.bounded_u8(0, 1, "compression method")
    length = reader.bounded(low, high, "uncompressed length")
    data = reader.take(reader.remaining)
    if method == 0:
        raw, clean = data, True
    else:
        inflater = zlib.decompressobj()
        try:
            raw = inflater.decompress(data, length + 1)
        except zlib.error as exc:
            raise BitstreamError(f"compressed data is damaged ({exc})") from exc
        clean = inflater.eof and not inflater.unused_data
    if len(raw) != length or not clean:
        raise BitstreamError("compressed data has another length than stated")
    return raw


def encode_audio(audio: AudioData) -> bytes:
    return bytes([AUDIO_CONTAINERS.index(audio.container)]) + _deflate(audio.data)


def decode_audio(payload: bytes) -> AudioData:
    reader = ByteReader(payload, "AUDI")
    container = AUDIO_CONTAINERS[reader.bounded_u8(0, len(AUDIO_CONTAINERS) - 1, "container")]
    return AudioData(container, _inflate(reader, 1, MAX_AUDIO_BYTES))


def encode_meta(meta: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(meta)
    assert len(payload) <= MAX_META_BYTES, len(payload)
    return payload


def decode_meta(payload: bytes) -> dict[str, Any]:
    """Parse META: one msgpack map with string keys, canonical, shallow and small."""
    if len(payload) > MAX_META_BYTES:
        raise BitstreamError(f"META: {len(payload)} bytes, more than {MAX_META_BYTES}")
    try:
        value = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique_keys,
            ext_hook=_no_extension,
            max_array_len=1024,
            max_map_len=256,
            max_str_len=4096,
            max_bin_len=4096,
            max_ext_len=0,
        )
        canonical = msgpack.packb(value) == payload
    except (ValueError, RecursionError) as exc:
        raise BitstreamError(f"META: {str(exc) or type(exc).__name__}") from exc
    if not isinstance(value, dict) or not canonical or not _is_plain(value, MAX_META_DEPTH):
        raise BitstreamError("META: not a canonical map of plain values")
    return value


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    result = dict(pairs)
    if len(result) != len(pairs) or not all(isinstance(key, str) for key in result):
        raise ValueError("a key is repeated or is not text")
    return result


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _is_plain(value: Any, depth: int) -> bool:
    """Whether ``value`` has at most ``depth`` levels of maps and arrays, and no NaN or bytes."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in items)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))
