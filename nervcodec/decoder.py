"""Reading .hfsv files: frames by index, and whole clips to a video file.

:mod:`nervcodec.inference` evaluates the networks, :mod:`nervcodec.video.writer` writes videos,
:mod:`nervcodec.verification` checks files. Nothing of the encoder is imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np
import torch

from nervcodec.bitstream.stream import StreamReader, open_stream
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import Limits
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
    """

    codec: str | None = None
    crf: int = 12
    preset: str = "medium"
    audio: bool = True
    device: str = "auto"
    threads: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class DecodeReport:
    """What :func:`decode` did; ``seconds`` is the whole time, the video's encoding included."""

    frames: int
    seconds: float
    warnings: tuple[str, ...]


class HfsvFile:
    """An open ``.hfsv`` file: a sequence of frames, uint8 RGB of shape (height, width, 3).

    Opening checks the whole file's checksums; networks are built when a frame of theirs is
    asked for, and the latest is kept. Use it as a context manager or call :meth:`close`.

    Raises:
        BitstreamError: if the file is missing, damaged, or beyond ``limits``.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, device: str = "auto", limits: Limits | None = None
    ) -> None:
        self.path = Path(path)
        self._device = device
        self._stream = open_stream(self.path)
        self._current: tuple[int, SegmentRenderer] | None = None
        try:
            self.reader = StreamReader(self._stream, limits or Limits())
        except BaseException:
            self._stream.close()
            raise

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
        return self._frames(range(len(self)))

    def frames(self, indices: Sequence[int]) -> Iterator[Frames]:
        """Frames in the order of ``indices``; negative ones count from the end.

        Raises:
            IndexError: for an index outside the clip, before any frame is made.
        """
        return self._frames([range(len(self))[index] for index in indices])

    def _frames(self, wanted: Sequence[int]) -> Iterator[Frames]:
        position = 0
        while position < len(wanted):
            number = self.segment_of(wanted[position])
            info = self.reader.segments[number]
            run: list[int] = []
            while position < len(wanted) and len(run) < LONGEST_RUN:
                offset = wanted[position] - info.first_frame
                if not 0 <= offset < info.frames:
                    break
                run.append(offset)
                position += 1
            yield from self._renderer(number).frames(run)

    def segment_of(self, frame: int) -> int:
        """Number of the segment that holds a frame."""
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
    with HfsvFile(source, device=config.device) as file, atomic_output(path) as temporary:
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
        with writer:
            for index, frame in enumerate(file):
                writer.write(frame, file.pts[index], _duration(file, index))
                if progress is not None:
                    progress(index + 1, len(file))
    return DecodeReport(len(file), time.perf_counter() - started, tuple(writer.warnings))


def color_info(header: StreamHeader) -> ColorInfo:
    return ColorInfo(header.primaries, header.transfer, header.matrix, header.full_range)


def _frame_rate(header: StreamHeader) -> Fraction:
    return 1 / (header.frame_duration * header.time_base)


def _duration(file: HfsvFile, index: int) -> int:
    if index + 1 == len(file):
        return file.reader.last_duration
    return file.pts[index + 1] - file.pts[index]


def _tags(file: HfsvFile) -> dict[str, str]:
    title = file.reader.meta.get("title")
    return {"title": title} if isinstance(title, str) else {}
