"""Reading .hfsv files: frames by index, and whole clips to a video file.

:mod:`nervcodec.inference` evaluates the networks, :mod:`nervcodec.video.writer` writes videos,
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
from types import TracebackType
from typing import overload

import numpy as np
import torch

from nervcodec.bitstream.salvage import SalvageReader
from nervcodec.bitstream.stream import (
    SegmentInfo,
    StreamContents,
    StreamReader,
    open_stream,
)
from nervcodec.bitstream.survey import Survey
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import Limits, check_clip_limits
from nervcodec.errors import BitstreamError
from nervcodec.files import atomic_output, check_output
from nervcodec.inference import Frames, SegmentRenderer, select_device
from nervcodec.video.info import ColorInfo
from nervcodec.video.writer import VideoWriter, output_format

FrameCallback = Callable[[int, int], None]
"""Called with the number of frames done and the number of all frames."""


LONGEST_RUN = 64
"""Frames of a segment that are listed at a time; a multiple of what is evaluated together."""


@dataclass(frozen=True)
class DecodeConfig:
    """How :func:`decode` renders.

    Attributes:
        codec: ``h264``, ``hevc`` or ``ffv1``; None for the output suffix's default.
        crf, preset: of x264 and x265.
        audio: carry the file's audio over.
        threads: CPU threads; None for all.
        limits: what the file may ask for.
        salvage: of a damaged file, render the segments that are whole.
    """

    codec: str | None = None
    crf: int = 12
    preset: str = "medium"
    audio: bool = True
    device: str = "auto"
    threads: int | None = None
    overwrite: bool = False
    limits: Limits = field(default_factory=Limits)
    salvage: bool = False


@dataclass(frozen=True)
class DecodeReport:
    """What :func:`decode` did; ``seconds`` is the whole time, the video's encoding included.

    ``lost_frames`` are those that a damaged file no longer holds, beside the ``frames`` rendered.
    """

    frames: int
    seconds: float
    warnings: tuple[str, ...]
    lost_frames: int


class HfsvFile:
    """An open ``.hfsv`` file: a sequence of frames, uint8 RGB of shape (height, width, 3).

    Opening checks the whole file's checksums; networks are built when a frame of theirs is
    asked for, and the latest is kept. Use it as a context manager or call :meth:`close`.

    With ``salvage`` a damaged file is opened too if a segment of it is whole. Its length is still
    that of the undamaged clip; iterating passes over the frames that are ``lost``, and asking for
    one raises BitstreamError.

    Raises:
        BitstreamError: if the file is missing, damaged, or beyond ``limits``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        limits: Limits | None = None,
        salvage: bool = False,
    ) -> None:
        self.path = Path(path)
        self._device = device
        self._limits = limits or Limits()
        self._stream = open_stream(self.path)
        self._current: tuple[int, SegmentRenderer] | None = None
        try:
            self.reader = self._read(salvage)
        except BaseException:
            self._stream.close()
            raise

    def _read(self, salvage: bool) -> StreamContents:
        if not salvage:
            return StreamReader(self._stream, self._limits)
        reader = SalvageReader(Survey(self._stream), self._limits)
        if not reader.segments:
            raise BitstreamError("nothing can be salvaged: no segment is whole")
        return reader

    @property
    def header(self) -> StreamHeader:
        return self.reader.header

    @property
    def width(self) -> int:
        return self.header.width

    @property
    def height(self) -> int:
        return self.header.height

    @property
    def pts(self) -> Sequence[int]:
        """Each frame's presentation time in units of ``header.time_base`` seconds."""
        return self.reader.pts

    @property
    def lost(self) -> list[range]:
        """Runs of frames that a damaged file no longer holds, in order; none without salvage."""
        return self.reader.lost

    def __len__(self) -> int:
        return self.header.frames

    @overload
    def __getitem__(self, index: int) -> Frames: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int]) -> Frames: ...

    def __getitem__(self, index: int | slice | Sequence[int]) -> Frames:
        """One frame (H, W, 3) for an integer, else a stack of frames (N, H, W, 3)."""
        if isinstance(index, (int, np.integer)):
            return next(self.frames([int(index)]))
        chosen = range(len(self))[index] if isinstance(index, slice) else index
        stack = np.empty((len(chosen), self.height, self.width, 3), dtype=np.uint8)
        frames = self._frames(chosen) if isinstance(chosen, range) else self.frames(chosen)
        for position, frame in enumerate(frames):
            stack[position] = frame
        return stack

    def __iter__(self) -> Iterator[Frames]:
        for segment in self.reader.segments:
            yield from self._frames(_frames_of(segment))

    def frames(self, indices: Sequence[int]) -> Iterator[Frames]:
        """Frames in the order of ``indices``; negative ones count from the end.

        Raises:
            IndexError: for an index outside the clip, before any frame is made.
            BitstreamError: when a frame is reached that is lost.
        """
        return self._frames([range(len(self))[index] for index in indices])

    def _frames(self, wanted: Sequence[int]) -> Iterator[Frames]:
        position = 0
        while position < len(wanted):
            number = self.segment_of(wanted[position])
            info = self.reader.segments[number]
            if wanted[position] not in _frames_of(info):
                raise BitstreamError(f"{self.path}: frame {wanted[position]} is lost")
            run: list[int] = []
            while position < len(wanted) and len(run) < LONGEST_RUN:
                offset = wanted[position] - info.first_frame
                if not 0 <= offset < info.frames:
                    break
                run.append(offset)
                position += 1
            yield from self._renderer(number).frames(run)

    def segment_of(self, frame: int) -> int:
        """Place in ``reader.segments`` of the one that holds a frame."""
        segments = self.reader.segments
        low, high = 0, len(segments)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if segments[middle].first_frame <= frame else (low, middle)
        return low

    def _renderer(self, number: int) -> SegmentRenderer:
        if self._current is None or self._current[0] != number:
            self._current = None
            segment = self.reader.segment(number)
            device = select_device(self._device)
            renderer = SegmentRenderer(segment, self.width, self.height, device=device)
            self._current = (number, renderer)
        return self._current[1]

    def reference_frames(self, number: int) -> Iterator[Frames]:
        """The normative float64 frames of one segment."""
        segment = self.reader.segment(number)
        renderer = SegmentRenderer(segment, self.width, self.height, reference=True)
        return renderer.frames(range(segment.frames))

    def check_clip_limits(self) -> None:
        """Refuse to make all frames where that is more than ``limits`` allow.

        Raises:
            LimitError
        """
        segments = ((segment.model, segment.frames) for segment in self.reader.segments)
        check_clip_limits(self.width, self.height, segments, self._limits)

    def close(self) -> None:
        self._current = None
        self._stream.close()

    def __enter__(self) -> HfsvFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def decode(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: DecodeConfig | None = None,
    progress: FrameCallback | None = None,
) -> DecodeReport:
    """Render ``source`` to a video file, with its timestamps and audio.

    Raises:
        HfsvError: no output is left then.
    """
    config = config or DecodeConfig()
    path, started = Path(output), time.perf_counter()
    fmt = output_format(path, config.codec, crf=config.crf, preset=config.preset)
    check_output(Path(source), path, config.overwrite)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with (
        HfsvFile(
            source, device=config.device, limits=config.limits, salvage=config.salvage
        ) as file,
        atomic_output(path) as temporary,
    ):
        file.check_clip_limits()
        audio = file.reader.audio() if config.audio else None
        writer = VideoWriter(
            temporary,
            fmt,
            width=file.width,
            height=file.height,
            time_base=file.header.time_base,
            sample_aspect_ratio=file.header.sample_aspect_ratio,
            rotation=file.header.rotation,
            color=color_info(file.header),
            frame_rate=_frame_rate(file.header),
            passthrough=None if audio is None else (audio.data, audio.container),
            metadata=_tags(file),
            threads=config.threads,
        )
        lost = sum(map(len, file.lost))
        rendered = len(file) - lost
        with writer:
            for done, (frame, (pts, duration)) in enumerate(zip(file, _times(file), strict=True)):
                writer.write(frame, pts, duration)
                if progress is not None:
                    progress(done + 1, rendered)
        warnings = (*file.reader.warnings, *writer.warnings)
    return DecodeReport(rendered, time.perf_counter() - started, warnings, lost)


def color_info(header: StreamHeader) -> ColorInfo:
    return ColorInfo(header.primaries, header.transfer, header.matrix, header.full_range)


def _frame_rate(header: StreamHeader) -> Fraction:
    return 1 / (header.frame_duration * header.time_base)


def _times(file: HfsvFile) -> Iterator[tuple[int, int]]:
    """When each frame that is not lost is presented, and how long: to the next one, if any."""
    present = itertools.chain.from_iterable(map(_frames_of, file.reader.segments))
    for index, following in itertools.pairwise(itertools.chain(present, [None])):
        assert index is not None
        if following is None and index + 1 == len(file):
            yield file.pts[index], file.reader.last_duration
        else:
            end = file.pts[following or index + 1]
            yield file.pts[index], end - file.pts[index]


def _frames_of(segment: SegmentInfo) -> range:
    return range(segment.first_frame, segment.first_frame + segment.frames)


def _tags(file: HfsvFile) -> dict[str, str]:
    title = file.reader.meta.get("title")
    return {"title": title} if isinstance(title, str) else {}
