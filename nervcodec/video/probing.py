"""Describing a video for encode: geometry, colour, rate, and what will not be kept.

:mod:`.source` finds the stream and its first frame; :mod:`.reader` offers :func:`describe` as
``probe``.
"""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Discard, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nervcodec.errors import InputVideoError
from nervcodec.video.color import bits_of, can_convert, decide_color
from nervcodec.video.errors_av import file_name
from nervcodec.video.hdr import hdr_info, side_data_of
from nervcodec.video.info import TAGS, Chapter, ColorInfo, VideoInfo
from nervcodec.video.source import choose_stream, open_input, packet_rate, video_stream

_DEFAULT_TIME_BASE = Fraction(1, 90000)
_RATE_TOLERANCE = Fraction(3, 100)
_COMMON_RATES = tuple(
    Fraction(n, d) for d in (1001, 1000) for n in (24000, 30000, 60000, 120000)
) + tuple(Fraction(n) for n in (10, 12, 15, 25, 50, 100))


def describe(path: str | os.PathLike[str], *, allow_damaged: bool = False) -> tuple[int, VideoInfo]:
    """The index of the video stream that is read, and what is known of it."""
    index, frame = choose_stream(path, allow_damaged=allow_damaged)
    measured_rate = packet_rate(path, index)
    with open_input(path) as container:
        stream = video_stream(container, index)
        tags = _color_tags(frame, stream)
        if not can_convert(tags[2], frame.format):
            raise InputVideoError(
                f"{file_name(path)}: colour matrix {tags[2]} cannot be converted to RGB"
            )
        color = decide_color(tags, frame.format, frame.height)
        metadata = {**stream.metadata, **container.metadata}
        return index, VideoInfo(
            width=frame.width,
            height=frame.height,
            time_base=stream.time_base or _DEFAULT_TIME_BASE,
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            rotation=round(frame.rotation / 90) * 90 % 360,
            frame_rate=_frame_rate(stream, measured_rate),
            color=color,
            bit_depth=bits_of(frame.format),
            pix_fmt=frame.format.name,
            codec=stream.codec_context.codec.canonical_name,
            container=container.format.name,
            duration=_duration(container, stream),
            has_audio=bool(container.streams.audio),
            metadata={k.lower(): v for k, v in metadata.items() if k.lower() in TAGS},
            warnings=(
                *_picture_warnings(frame, stream, color),
                *_color_warnings(tags, frame, color),
                *(f"not kept: {item}" for item in not_carried(container, index)),
            ),
            has_subtitles=bool(container.streams.subtitles),
            chapters=_chapters(container),
            mirrored=_is_mirrored(frame),
            hdr=hdr_info(frame),
        )


def _color_tags(frame: VideoFrame, stream: VideoStream) -> tuple[int, int, int, int]:
    """Primaries, transfer, matrix, range: the decoder's word first, then the container's."""
    context = stream.codec_context
    return (
        _first_tagged(frame.color_primaries, context.color_primaries),
        _first_tagged(frame.color_trc, context.color_trc),
        _first_tagged(frame.colorspace, context.colorspace),
        frame.color_range or context.color_range,
    )


def _first_tagged(*values: int) -> int:
    return next((v for v in values if v != 2), 2)


def _frame_rate(stream: VideoStream, measured: Fraction | None) -> Fraction | None:
    """The declared rate if the timestamps agree with it, else theirs."""
    declared = [r for r in (stream.average_rate, stream.guessed_rate) if r]
    if measured is None:
        return declared[0] if declared else None
    for rate in (*declared, *_COMMON_RATES):
        if abs(rate / measured - 1) < _RATE_TOLERANCE:
            return rate
    return measured.limit_denominator(1001)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds that the file declares for the video; the file's own if only video is in it."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration and not container.streams.audio:
        return Fraction(container.duration, av.time_base)
    return None


def _picture_warnings(frame: VideoFrame, stream: VideoStream, color: ColorInfo) -> list[str]:
    lines = []
    if frame.interlaced_frame:
        lines.append("interlaced video is encoded as whole frames, not deinterlaced")
    if stream.metadata.get("alpha_mode") == "1" or _is_transparent(frame):
        lines.append("transparency (alpha) is dropped")
    if frame.rotation % 90:
        lines.append(f"rotation by {frame.rotation} degrees is kept as the nearest of 90")
    return lines


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether a player swaps top and bottom before it turns the picture.

    ``frame.rotation`` is that of the display matrix's first row, which such a swap leaves alone.
    """
    side_data = side_data_of(frame)
    if SideDataType.DISPLAYMATRIX not in side_data:
        return False
    matrix = bytes(side_data[SideDataType.DISPLAYMATRIX])
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    return bool(a * d - b * c < 0)


def _is_transparent(frame: VideoFrame) -> bool:
    """Whether any sample of this frame's alpha is below full."""
    if not any(c.is_alpha for c in frame.format.components):
        return False
    return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)


def _color_warnings(
    tags: tuple[int, int, int, int], frame: VideoFrame, color: ColorInfo
) -> list[str]:
    lines = []
    if tags[2] == 10:
        lines.append("BT.2020 constant luminance is converted as non-constant luminance")
    if SideDataType.DYNAMIC_HDR_PLUS in side_data_of(frame):
        lines.append("HDR10+ metadata is not kept")
    if SideDataType.DOVI_METADATA in side_data_of(frame):
        lines.append("Dolby Vision metadata is not kept")
    return lines


def not_carried(container: InputContainer, video_index: int) -> list[str]:
    """What else the file holds that is never kept: other video, data, attachments.

    A data stream that is not to be read is what a MOV file keeps its chapters in.
    """
    return [
        f"{stream.type} stream {stream.index} ({stream_name(stream)})"
        for stream in container.streams
        if stream.type not in ("audio", "subtitle")
        and stream.index != video_index
        and not (stream.type == "data" and stream.discard == Discard.all)
    ]


def _chapters(container: InputContainer) -> tuple[Chapter, ...]:
    """The chapters in the order of their beginning."""
    found = []
    for chapter in container.chapters():
        if ticks := chapter["time_base"]:
            start = chapter["start"] * ticks
            end = max(start, chapter["end"] * ticks)
            found.append(Chapter(start, end, chapter["metadata"].get("title", "")))
    return tuple(sorted(found, key=lambda chapter: chapter.start))


def stream_name(stream: Stream) -> str:
    """The codec's name, or "unknown" where FFmpeg knows none."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown"
