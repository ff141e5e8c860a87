"""Whole files (spec sections 3 and 7): the chunks' contents put together and taken apart.

:mod:`nervcodec.decoder` evaluates what is read here; :mod:`nervcodec.encoder` makes it.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from nervcodec.bitstream.container import Chunk, ChunkType, ContainerReader, ContainerWriter
from nervcodec.bitstream.segment import Segment, decode_segment, encode_segment, read_segment_head
from nervcodec.bitstream.syntax import MAX_RATIONAL, ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits
from nervcodec.bitstream.wire import ByteReader, signed_varint, varint
from nervcodec.errors import BitstreamError, UnsupportedError

HASH_BYTES = 8
MAX_META_BYTES = 1 << 16
MAX_META_DEPTH = 4
MAX_AUDIO_BYTES = 1 << 30
AUDIO_CONTAINERS = ("mp4", "matroska")


@dataclass(frozen=True)
class SegmentHash:
    """What HASH says of one segment: CRC-32 of its symbols, SHA-256 of its reference frames."""

    symbols_crc: int
    frames_digest: bytes


@dataclass(frozen=True)
class AudioData:
    """Passed-through streams: a whole file of the named container, held in memory."""

    container: str
    data: bytes


@dataclass(frozen=True)
class SegmentInfo:
    """Where a segment stands: its first frame, its length and its network."""

    chunk: Chunk
    first_frame: int
    frames: int
    model: ModelSpec


def open_stream(path: Path) -> BinaryIO:
    """Open an ``.hfsv`` file for reading.

    Raises:
        BitstreamError: if the system refuses.
    """
    try:
        return path.open("rb")
    except OSError as exc:
        raise BitstreamError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc


def write_stream(
    stream: BinaryIO,
    header: StreamHeader,
    pts: Sequence[int],
    last_duration: int,
    segments: Sequence[Segment],
    hashes: Sequence[SegmentHash],
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
    writer.chunk(
        ChunkType.HASH,
        b"".join(entry.symbols_crc.to_bytes(4, "little") + entry.frames_digest for entry in hashes),
    )
    if audio is not None:
        writer.chunk(ChunkType.AUDI, encode_audio(audio))
    return writer.finish()


class StreamReader:
    """Reads and checks everything of a file but the segments' symbols, which come on demand."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._limits = limits
        self.container = ContainerReader(stream)
        self.header = StreamHeader.from_bytes(self.container.payload(self.container.chunks[0]))
        timing = self.container.single(ChunkType.PTSD)
        self.pts, self.last_duration = decode_timestamps(timing, self.header)
        self.segments = self._index_segments()
        self.hashes = self._read_hashes()
        meta = self.container.single(ChunkType.META)
        self.meta: dict[str, Any] = decode_meta(meta) if meta is not None else {}

    @property
    def file_bytes(self) -> int:
        return self.container.length

    @property
    def audio_bytes(self) -> int:
        """Bytes of the file that passed-through streams take, their chunk's frame included."""
        return sum(chunk.total for chunk in self.container.of_kind(ChunkType.AUDI))

    def segment(self, index: int) -> Segment:
        """Decode the symbols of one segment and check them against HASH."""
        payload = self.container.payload(self.segments[index].chunk)
        segment = decode_segment(payload, self.header, self._limits)
        if self.hashes is not None and segment.symbols_crc() != self.hashes[index].symbols_crc:
            raise BitstreamError(f"segment {index}: the decoded symbols do not match HASH")
        return segment

    def audio(self) -> AudioData | None:
        payload = self.container.single(ChunkType.AUDI)
        return None if payload is None else decode_audio(payload)

    def _index_segments(self) -> list[SegmentInfo]:
        result: list[SegmentInfo] = []
        first = 0
        for chunk in self.container.of_kind(ChunkType.SEGM):
            index, frames, model = read_segment_head(self.container.payload(chunk), self.header)
            if index != len(result):
                raise BitstreamError(f"segment {index} stands where {len(result)} should")
            result.append(SegmentInfo(chunk, first, frames, model))
            first += frames
        if len(result) != self.header.segments or first != self.header.frames:
            raise BitstreamError(
                f"HEAD announces {self.header.segments} segments and {self.header.frames} frames; "
                f"the file has {len(result)} and {first}"
            )
        return result

    def _read_hashes(self) -> list[SegmentHash] | None:
        payload = self.container.single(ChunkType.HASH)
        if payload is None:
            return None
        size = 4 + HASH_BYTES
        if len(payload) != size * len(self.segments):
            raise BitstreamError("HASH: its length does not fit the number of segments")
        entries = [payload[start : start + size] for start in range(0, len(payload), size)]
        return [SegmentHash(int.from_bytes(e[:4], "little"), e[4:]) for e in entries]


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
    if frames > 1000 * len(payload):
        raise BitstreamError("PTSD: too short for the number of frames")
    raw = _inflate(ByteReader(payload, "PTSD"), 9 * frames)
    reader = ByteReader(raw, "PTSD")
    pts = [start]
    for _ in range(frames):
        step = reader.signed_varint() + duration
        pts.append(pts[-1] + reader.check(step, 1, MAX_RATIONAL, "step between frames"))
    reader.finish()
    last = pts.pop()
    return pts, last - pts[-1]


def _deflate(raw: bytes) -> bytes:
    """Length and bytes, compressed by zlib where that is shorter."""
    packed = zlib.compress(raw, 9)
    if len(packed) < len(raw):
        return b"\x01" + varint(len(raw)) + packed
    return b"\x00" + varint(len(raw)) + raw


def _inflate(reader: ByteReader, cap: int) -> bytes:
    """The inverse of :func:`_deflate`; never makes more than ``cap`` bytes."""
    method = reader.bounded_u8(0, 1, "compression method")
    length = reader.bounded(0, cap, "uncompressed length")
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
    return AudioData(container, _inflate(reader, MAX_AUDIO_BYTES))


def encode_meta(meta: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(meta)
    assert len(payload) <= MAX_META_BYTES, len(payload)
    return payload


def decode_meta(payload: bytes) -> dict[str, Any]:
    """Parse META: one msgpack map with string keys, canonical, shallow and small."""
    if len(payload) > MAX_META_BYTES:
        raise UnsupportedError(f"META: {len(payload)} bytes; the limit is {MAX_META_BYTES}")
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
    """Whether ``value`` is nested at most ``depth`` deep and holds no NaN, infinity or bytes."""
    if depth < 0:
        return False
    if isinstance(value, dict):
        return all(_is_plain(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, float):
        return value - value == 0.0
    return value is None or isinstance(value, (bool, int, str))
