"""Rendering .hfsv files, or a part of them, to a video file, a pipe or pictures.

:mod:`nervcodec.clip` serves the frames, :mod:`nervcodec.targets` says where they go,
:mod:`nervcodec.verification` checks files. Nothing of the encoder is imported.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import torch

from nervcodec.ahead import Ahead
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import Limits
from nervcodec.clip import HfsvFile, Position
from nervcodec.errors import BitstreamError, UsageError
from nervcodec.samples import convert_depth
from nervcodec.targets import PNG, RAW, Output, Target, choose_target
from nervcodec.video.cut import cut
from nervcodec.video.formats import default_codec
from nervcodec.video.hdr import NO_HDR, HdrInfo
from nervcodec.video.info import (
    Chapter,
    ColorInfo,
    chapters_between,
    chapters_from_meta,
    tags_from_meta,
)
from nervcodec.video.passthrough import AudioCopy
from nervcodec.video.uncompressed import (
    FrameWriter,
    PictureWriter,
    RawWriter,
    Y4mWriter,
    constant_rate,
)
from nervcodec.video.writer import VideoWriter

__all__ = ["DecodeConfig", "DecodeReport", "FrameCallback", "HfsvFile", "color_info", "decode"]

FrameCallback = Callable[[int, int], None]
"""Called with the number of frames done and the number of all frames."""


@dataclass(frozen=True)
class DecodeConfig:
    """How :func:`decode` renders.

    Attributes:
        codec: ``h264``, ``hevc`` or ``ffv1``; None for the output suffix's default.
        crf, preset: of x264 and x265.
        bit_depth: bits a sample that are written; None for those of the frames, but in H.264 and
            HEVC at most 10.
        audio, subtitles: carry the file's streams of these kinds over.
        start: the first frame, by its number (from the end where negative) or by the time since
            the clip begins at which it is shown.
        frames: how many to render; None, or more than there are, for all from ``start`` on.
        format: ``mp4``, ``mov``, ``mkv``, ``y4m``, ``raw`` (packed R, G, B) or ``png`` (a folder
            of pictures); None for the one of the output's suffix.
        threads: CPU threads; None for all.
        limits: what the file may ask for.
        salvage: of a damaged file, render the segments that are whole.
    """

    codec: str | None = None
    crf: int = 12
    preset: str = "medium"
    bit_depth: int | None = None
    audio: bool = True
    subtitles: bool = True
    device: str = "auto"
    threads: int | None = None
    overwrite: bool = False
    limits: Limits = field(default_factory=Limits)
    salvage: bool = False
    start: Position = 0
    frames: int | None = None
    format: str | None = None


@dataclass(frozen=True)
class DecodeReport:
    """What :func:`decode` did; ``seconds`` is the whole time, the video's encoding included.

    ``lost_frames`` are those that a damaged file no longer holds, beside the ``frames`` rendered.
    """

    frames: int
    seconds: float
    warnings: tuple[str, ...]
    lost_frames: int


def decode(
    source: str | os.PathLike[str],
    output: Output,
    config: DecodeConfig | None = None,
    progress: FrameCallback | None = None,
) -> DecodeReport:
    """Render ``source`` to a video file, with its timestamps and audio.

    Where ``config.format`` or the output asks for it, frames alone are written: as y4m or raw
    samples to a file or an open binary stream, each as it is made, or as PNG files to a folder.

    A part of it, by ``config.start`` and ``config.frames``, begins at time 0, sound and picture
    alike, and takes the evaluation of that part alone.

    Raises:
        HfsvError: no output is left then, but for what a stream has taken.
        BrokenPipeError: if a stream's reader is gone.
    """
    config = config or DecodeConfig()
    started = time.perf_counter()
    target = choose_target(
        output,
        config.format,
        config.codec,
        crf=config.crf,
        preset=config.preset,
        bit_depth=config.bit_depth,
    )
    target.check(Path(source), config.overwrite)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with (
        # Frames are asked for in order: a network is of no use after its last.
        HfsvFile(
            source,
            device=config.device,
            limits=config.limits,
            salvage=config.salvage,
            cache_bytes=0,
        ) as file,
        target.open() as opened,
    ):
        wanted = _wanted(file, config)
        file.check_clip_limits(wanted)
        rendered = sum(map(len, file.present(wanted)))
        if not rendered:
            raise BitstreamError(f"frames {wanted.start}..{wanted.stop - 1} are all lost")
        origin = 0 if len(wanted) == len(file) else file.pts[wanted.start]
        writer = _writer(file, wanted, opened, target, config)
        frames = itertools.chain.from_iterable(map(file.frames, file.present(wanted)))
        with writer, Ahead(frames) as made:
            times = _times(file, wanted)
            for done, (frame, (pts, duration)) in enumerate(zip(made, times, strict=True)):
                samples = frame
                if target.video is None and config.bit_depth is not None:
                    samples = convert_depth(frame, file.bit_depth, config.bit_depth)
                writer.write(samples, pts - origin, duration)
                if progress is not None:
                    progress(done + 1, rendered)
        warnings = (*file.reader.warnings, *writer.warnings)
    warnings += target.older_pictures(rendered)
    seconds = time.perf_counter() - started
    return DecodeReport(rendered, seconds, warnings, len(wanted) - rendered)


def _writer(
    file: HfsvFile, wanted: range, opened: Path | BinaryIO, target: Target, config: DecodeConfig
) -> FrameWriter:
    if target.video is None:
        return _plain_writer(file, wanted, opened, target.kind, config)
    assert isinstance(opened, Path)
    fmt = target.video
    if config.codec is None:
        fmt = default_codec(fmt, file.bit_depth, file.width, file.height)
    return VideoWriter(
        opened,
        fmt,
        width=file.width,
        height=file.height,
        time_base=file.header.time_base,
        sample_aspect_ratio=file.header.sample_aspect_ratio,
        rotation=file.header.rotation,
        color=color_info(file.header),
        frame_rate=_frame_rate(file.header),
        passthrough=_passthrough(file, wanted) if config.audio or config.subtitles else None,
        metadata=tags_from_meta(file.reader.meta),
        threads=config.threads,
        audio=config.audio,
        subtitles=config.subtitles,
        chapters=_chapters(file, wanted),
        bit_depth=file.bit_depth,
        hdr=HdrInfo.from_meta(file.reader.meta),
    )


def _plain_writer(
    file: HfsvFile, wanted: range, opened: Path | BinaryIO, kind: str, config: DecodeConfig
) -> FrameWriter:
    """A writer of frames alone, its warnings saying what is lost."""
    writer: FrameWriter
    depth = config.bit_depth or file.bit_depth
    rate, varies = constant_rate(list(_times(file, wanted)), file.header.time_base)
    if isinstance(opened, Path):
        writer = PictureWriter(opened, depth)
    elif kind == RAW:
        writer = RawWriter(opened, depth)
    else:
        writer = Y4mWriter(
            opened,
            width=file.width,
            height=file.height,
            frame_rate=rate,
            sample_aspect_ratio=file.header.sample_aspect_ratio,
            color=color_info(file.header),
            bit_depth=depth,
        )
    if varies:
        writer.warnings.append(
            f"the frames' times vary, {kind} has one rate: {float(rate):.3f} a second on average"
        )
    lost = _lost(file, wanted, kind, config)
    writer.warnings += [f"left out, {kind} has no place for it: {what}" for what in lost]
    return writer


def _lost(file: HfsvFile, wanted: range, kind: str, config: DecodeConfig) -> list[str]:
    """What else than frames the clip has."""
    header, lost = file.header, []
    if kind in (RAW, PNG) and header.sample_aspect_ratio != 1:
        lost.append(f"the shape of the pixels ({header.sample_aspect_ratio})")
    if header.rotation:
        lost.append(f"the rotation by {header.rotation} degrees")
    wants = config.audio or config.subtitles
    if passthrough := _passthrough(file, wanted) if wants else None:
        copy = AudioCopy(*passthrough, audio=config.audio, subtitles=config.subtitles)
        copy.close()
        lost += copy.descriptions
    if HdrInfo.from_meta(file.reader.meta) != NO_HDR:
        lost.append("HDR mastering and light level data")
    if chapters := _chapters(file, wanted):
        lost.append(f"{len(chapters)} chapters")
    return lost


def _wanted(file: HfsvFile, config: DecodeConfig) -> range:
    """The frames to render.

    Raises:
        UsageError: if there are none.
    """
    start = file.index_of(config.start)
    if config.frames is None:
        return range(start, len(file))
    if config.frames < 1:
        raise UsageError(f"frames must be 1 or more, not {config.frames}")
    return range(start, min(start + config.frames, len(file)))


def _seconds(file: HfsvFile, wanted: range) -> tuple[Fraction, Fraction | None]:
    """When a part of the clip begins and ends; what goes on beyond the last frame belongs to it."""
    tick = file.header.time_base
    end = file.pts[wanted.stop] * tick if wanted.stop < len(file) else None
    return file.pts[wanted.start] * tick, end


def _passthrough(file: HfsvFile, wanted: range) -> tuple[bytes, str] | None:
    """Bytes and container of the sound and subtitles that belong to the part of the clip."""
    audio = file.reader.audio()
    if audio is None or len(wanted) == len(file):
        return None if audio is None else (audio.data, audio.container)
    data = cut(audio.data, audio.container, *_seconds(file, wanted))
    return None if data is None else (data, audio.container)


def _chapters(file: HfsvFile, wanted: range) -> Sequence[Chapter]:
    """The file's chapters, of a part of the clip those that it touches."""
    chapters = chapters_from_meta(file.reader.meta)
    if len(wanted) == len(file):
        return chapters
    return chapters_between(chapters, *_seconds(file, wanted))


def color_info(header: StreamHeader) -> ColorInfo:
    return ColorInfo(header.primaries, header.transfer, header.matrix, header.full_range)


def _frame_rate(header: StreamHeader) -> Fraction:
    return 1 / (header.frame_duration * header.time_base)


def _times(file: HfsvFile, wanted: range) -> Iterator[tuple[int, int]]:
    """When each frame that is not lost is presented, and how long: to the next one, if any."""
    present = itertools.chain.from_iterable(file.present(wanted))
    for index, following in itertools.pairwise(itertools.chain(present, [None])):
        assert index is not None
        if following is None and index + 1 == len(file):
            yield file.pts[index], file.reader.last_duration
        else:
            end = file.pts[following or index + 1]
            yield file.pts[index], end - file.pts[index]
