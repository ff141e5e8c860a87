"""A file put together: HEAD, META, what is passed through, and the networks' segments.

:mod:`nervcodec.coder` makes the networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, BinaryIO

from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import AudioData, write_stream
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.config import EncodeConfig
from nervcodec.scan import ScannedClip, common_step, end_of
from nervcodec.segments import SegmentPlan
from nervcodec.version import __version__
from nervcodec.video.info import chapters_between, chapters_to_meta, tags_to_meta
from nervcodec.video.inputs import Source
from nervcodec.video.passthrough import Passthrough, extract
from nervcodec.video.reader import VideoReader

MAX_TITLE = 256


def file_header(reader: VideoReader, plan: SegmentPlan, frame_duration: int) -> StreamHeader:
    """HEAD; its start is set when the file is written."""
    info = reader.info
    return StreamHeader(
        width=reader.out_width,
        height=reader.out_height,
        frames=plan.frames,
        segments=len(plan.lengths),
        time_base=info.time_base,
        start_pts=0,
        frame_duration=frame_duration,
        sample_aspect_ratio=reader.out_sample_aspect_ratio,
        primaries=info.color.primaries,
        transfer=info.color.transfer,
        matrix=info.color.matrix,
        full_range=info.color.full_range,
        rotation=info.rotation,
        bit_depth=reader.bit_depth,
    )


def passed_through(
    source: Source,
    reader: VideoReader,
    config: EncodeConfig,
    clip: ScannedClip,
    frames: int | None = None,
) -> Passthrough | None:
    """Sound and subtitles, of a part of the source those that are heard or shown with it.

    Args:
        frames: how many of the clip's were coded, where they are not all.
    """
    info = reader.info
    sound = config.audio and info.has_audio
    if not sound and not (config.subtitles and info.has_subtitles):
        return None
    cut = frames is not None or config.frames is not None or config.end is not None
    return extract(
        source,
        begin=None if config.start is None else clip.origin,
        end=clip.origin + end_of(clip.pts[:frames], reader) if cut else None,
        audio=config.audio,
        subtitles=config.subtitles,
        allow_damaged=config.allow_damaged,
    )


def file_meta(
    reader: VideoReader,
    config: EncodeConfig,
    clip: ScannedClip,
    audio: Passthrough | None,
    *,
    frames: int,
    source_digest: str,
    epochs: int,
) -> dict[str, Any]:
    """META: what the file says of its making; nothing of the machine or its paths."""
    end = end_of(clip.pts[:frames], reader)
    train = config.train
    meta: dict[str, Any] = {
        "tool": f"nervcodec {__version__}",
        "source": source_digest,
        "epochs": epochs,
        "seed": train.seed,
    }
    if audio is not None and audio.streams:
        meta["audio"] = list(audio.streams)
    if config.start is not None:
        meta["start"] = config.start // timedelta(microseconds=1)
    if config.crop is not None:
        meta["crop"] = list(config.crop)
    info = reader.info
    title = info.metadata.get("title")
    if title:
        meta["title"] = title[:MAX_TITLE]
    if tags := tags_to_meta(info.metadata):
        meta["tags"] = tags
    chapters = info.chapters
    if config.start is not None:
        chapters = tuple(chapters_between(chapters, clip.origin, None))
    if fitting := chapters_to_meta(chapters, end):
        meta["chapters"] = fitting
    return meta | info.hdr.to_meta()


def write_file(
    stream: BinaryIO,
    reader: VideoReader,
    config: EncodeConfig,
    clip: ScannedClip,
    plan: SegmentPlan,
    segments: Iterable[Segment],
    digests: Sequence[bytes] | None,
    audio: Passthrough | None,
    *,
    source_digest: str,
    epochs: int,
) -> int:
    """Write the whole file and return its length."""
    duration = common_step(clip.pts, reader)
    header = file_header(reader, plan, duration)
    meta = file_meta(
        reader,
        config,
        clip,
        audio,
        frames=plan.frames,
        source_digest=source_digest,
        epochs=epochs,
    )
    passed = AudioData(audio.container, audio.data) if audio and audio.data else None
    pts = clip.pts[: header.frames]
    return write_stream(stream, header, pts, duration, segments, digests, meta, passed)
