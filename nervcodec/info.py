"""What a ``.hfsv`` file says of itself, without evaluating it; neither torch nor PyAV is needed.

:func:`to_json` gives ffprobe's shape with our additions under ``hfsv``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

from nervcodec.bitstream.container import ChunkType, chunk_name
from nervcodec.bitstream.segment import tensor_bits
from nervcodec.bitstream.stream import SegmentInfo, StreamReader, open_stream
from nervcodec.bitstream.syntax import FORMAT_MAJOR, FORMAT_MINOR, Architecture, StreamHeader
from nervcodec.bitstream.tensors import Limits, macs_per_frame, parameter_count

MATRIX_NAMES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
}
PRIMARIES_NAMES = {
    1: "bt709",
    2: "unknown",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
}
TRANSFER_NAMES = {
    1: "bt709",
    2: "unknown",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}


_NETWORKS = {
    Architecture.HNERV: "hnerv",
    Architecture.NERV: "nerv",
    Architecture.ENERV: "e-nerv",
}


@dataclass(frozen=True)
class FileInfo:
    """A file's description.

    Attributes:
        file_bytes: length of the file; ``audio_bytes`` of them are passed-through streams.
        duration: of the video in seconds, the last frame included.
        segments: each segment's place and network.
        chunk_bytes: bytes of each kind of chunk, their frames included.
        meta: the META chunk's map.
    """

    path: Path
    header: StreamHeader
    file_bytes: int
    audio_bytes: int
    duration: Fraction
    variable_frame_rate: bool
    segments: tuple[SegmentInfo, ...]
    chunk_bytes: dict[str, int]
    meta: dict[str, Any]

    @property
    def bits_per_pixel(self) -> float:
        """Of the file without audio."""
        header = self.header
        bits = 8 * (self.file_bytes - self.audio_bytes)
        return bits / (header.width * header.height * header.frames)

    @property
    def average_frame_rate(self) -> Fraction:
        return self.header.frames / self.duration

    @property
    def architecture(self) -> str:
        """Of the first segment's network: ``nerv``, ``e-nerv`` or ``hnerv``.

        ``hfs-`` goes before where a segment's network has a part of HFS-HNeRV.
        """
        models = [segment.model for segment in self.segments]
        extended = any(model.has_hfscm or model.msfrp_stage is not None for model in models)
        return ("hfs-" if extended else "") + _NETWORKS[models[0].architecture]

    def parameters(self, segment: SegmentInfo) -> int:
        """Decoder parameters and embedding values of a segment."""
        header = self.header
        return parameter_count(segment.model, header.width, header.height, segment.frames)

    def macs(self, segment: SegmentInfo) -> int:
        """Multiply-accumulates a frame of a segment."""
        return macs_per_frame(segment.model, self.header.width, self.header.height)


def probe(path: str | os.PathLike[str]) -> FileInfo:
    """Describe a ``.hfsv`` file; all of its checksums are checked.

    Raises:
        BitstreamError: if it is missing, damaged or unsupported.
    """
    with open_stream(Path(path)) as stream:
        reader = StreamReader(stream, Limits())
        header = reader.header
        ticks = reader.pts[-1] + reader.last_duration - reader.pts[0]
        sizes: dict[str, int] = {}
        for chunk in reader.container.chunks:
            name = chunk_name(chunk.kind)
            sizes[name] = sizes.get(name, 0) + chunk.total
        return FileInfo(
            path=Path(path),
            header=header,
            file_bytes=reader.file_bytes,
            audio_bytes=reader.audio_bytes,
            duration=ticks * header.time_base,
            variable_frame_rate=bool(reader.container.of_kind(ChunkType.PTSD)),
            segments=tuple(reader.segments),
            chunk_bytes=sizes,
            meta=reader.meta,
        )


@dataclass(frozen=True)
class LayerBytes:
    """Bytes of one tensor of a segment's network, or of what is not a tensor's (``shape`` empty).

    Attributes:
        name: as the format lists it, or what it is.
        symbols, side: of the coded values, and of scales and tables.
    """

    segment: int
    name: str
    shape: tuple[int, ...]
    symbols: float
    side: float

    @property
    def values(self) -> int:
        return prod(self.shape) if self.shape else 0

    @property
    def bytes(self) -> float:
        return self.symbols + self.side


FRAMING = "place, model, checksum, rounding"
"""What of a SEGM chunk belongs to no tensor."""


def layers(path: str | os.PathLike[str], limits: Limits | None = None) -> list[LayerBytes]:
    """Where the bytes of the SEGM chunks are, tensor by tensor; their sum is that of the chunks.

    All symbols are decoded for it, which takes a second for some millions of them.

    Raises:
        BitstreamError: if the file is missing, damaged or unsupported.
    """
    limits = limits or Limits()
    found = []
    with open_stream(Path(path)) as stream:
        reader = StreamReader(stream, limits)
        for number, segment in enumerate(reader.segments):
            payload = reader.container.payload(segment.chunk)
            parts = [
                LayerBytes(number, part.spec.name, part.spec.shape, part.symbols / 8, part.side / 8)
                for part in tensor_bits(payload, reader.header, limits)
            ]
            rest = segment.chunk.total - sum(part.bytes for part in parts)
            found += [*parts, LayerBytes(number, FRAMING, (), 0.0, rest)]
    return found


def to_json(info: FileInfo) -> dict[str, Any]:
    """ffprobe's ``streams`` and ``format``, and ``hfsv`` for what is ours."""
    header = info.header
    rate = 1 / (header.frame_duration * header.time_base)
    start = header.start_pts * header.time_base
    video = {
        "index": 0,
        "codec_name": info.architecture,
        "codec_type": "video",
        "width": header.width,
        "height": header.height,
        "sample_aspect_ratio": _ratio(header.sample_aspect_ratio, ":"),
        "color_range": "pc" if header.full_range else "tv",
        "color_space": MATRIX_NAMES.get(header.matrix, str(header.matrix)),
        "color_transfer": TRANSFER_NAMES.get(header.transfer, str(header.transfer)),
        "color_primaries": PRIMARIES_NAMES.get(header.primaries, str(header.primaries)),
        "r_frame_rate": _ratio(rate, "/"),
        "avg_frame_rate": _ratio(info.average_frame_rate, "/"),
        "time_base": _ratio(header.time_base, "/"),
        "start_pts": header.start_pts,
        "start_time": _seconds(start),
        "duration": _seconds(info.duration),
        "nb_frames": str(header.frames),
        "bits_per_raw_sample": str(header.bit_depth),
        "tags": {"rotate": str(header.rotation)} if header.rotation else {},
    }
    title = info.meta.get("title")
    file_format = {
        "filename": str(info.path),
        "nb_streams": 1,
        "format_name": "hfsv",
        "start_time": _seconds(start),
        "duration": _seconds(info.duration),
        "size": str(info.file_bytes),
        "bit_rate": str(round(8 * info.file_bytes / info.duration)),
        "tags": {"title": title} if isinstance(title, str) else {},
    }
    return {"streams": [video], "format": file_format, "hfsv": _ours(info)}


def _ours(info: FileInfo) -> dict[str, Any]:
    segments = [
        {
            "first_frame": segment.first_frame,
            "frames": segment.frames,
            "bytes": segment.chunk.total,
            "parameters": info.parameters(segment),
            "macs_per_frame": info.macs(segment),
            "strides": [stage.stride for stage in segment.model.stages],
            "channels": [stage.channels for stage in segment.model.stages],
            "embedding": [
                segment.model.embedding_channels,
                *segment.model.grid(info.header.width, info.header.height),
            ],
            "hfscm": [stage.hfscm for stage in segment.model.stages],
            "bilinear": [stage.bilinear for stage in segment.model.stages],
            "msfrp_stage": segment.model.msfrp_stage,
        }
        for segment in info.segments
    ]
    return {
        "version": f"{FORMAT_MAJOR}.{FORMAT_MINOR}",
        "bits_per_pixel": info.bits_per_pixel,
        "audio_bytes": info.audio_bytes,
        "variable_frame_rate": info.variable_frame_rate,
        "chunk_bytes": info.chunk_bytes,
        "segments": segments,
        "meta": info.meta,
    }


def _ratio(value: Fraction, sign: str) -> str:
    return f"{value.numerator}{sign}{value.denominator}"


def _seconds(value: Fraction) -> str:
    return f"{float(value):.6f}"
