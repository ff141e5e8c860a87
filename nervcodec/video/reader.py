"""Reading a video as RGB frames with exact times; :mod:`.source` opens and decodes the file,
:mod:`.probing` describes it, :mod:`.writer` is the way back.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from nervcodec.errors import InputVideoError, UsageError
from nervcodec.video.color import frame_to_rgb
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name
from nervcodec.video.info import VideoInfo
from nervcodec.video.inputs import find_source
from nervcodec.video.probing import describe
from nervcodec.video.resample import plan_geometry
from nervcodec.video.source import decode_frames

FALLBACK_RATE = Fraction(25)
"""Frames a second for files with neither timestamps nor a rate, as FFmpeg takes them."""

_CUT_SHORT = Fraction(1)
"""Seconds by which a video may end before its declared duration without a warning."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture: ``rgb`` uint8 (H, W, 3), C-contiguous; ``pts`` in ``VideoInfo.time_base``."""

    rgb: NDArray[np.uint8]
    pts: int


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Describe a video after decoding its first frame; InputVideoError if that cannot be done."""
    return describe(path)[1]


class VideoReader:
    """The frames of a video's first stream that has any, in order, cropped and sized.

    ``crop`` and ``size`` are (width, height); the crop is centred and comes first. Each
    iteration opens the file anew, ends the one before, and holds only the frame at hand and what
    the decoder's threads hold. ``warnings`` is filled when an iteration ends;
    ``info.warnings`` is known at once.
    Raises InputVideoError for the file and UsageError for crop and size.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        crop: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        max_frames: int | None = None,
    ) -> None:
        self._path = find_source(path)
        self._name = file_name(path)
        if max_frames is not None and max_frames < 1:
            raise UsageError(f"at least one frame must be read, not {max_frames}")
        self._max_frames = max_frames
        self._stream_index, self.info = describe(self._path)
        self._geometry = plan_geometry(
            self.info.width, self.info.height, self.info.sample_aspect_ratio, crop, size
        )
        self.out_width = self._geometry.width
        self.out_height = self._geometry.height
        self.out_sample_aspect_ratio = self._geometry.sample_aspect_ratio
        self.warnings: list[str] = []
        self._running: Generator[SourceFrame, None, None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration under way, if there is one, and close its file."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def __iter__(self) -> Iterator[SourceFrame]:
        self.close()
        self._running = self._frames()
        return self._running

    def _frames(self) -> Generator[SourceFrame, None, None]:
        clock = _Clock(self.info)
        damaged = 0
        end: list[str] = []
        self.warnings = []
        try:
            frames = decode_frames(self._path, self._stream_index)
            for count, frame in enumerate(frames):
                damaged += frame.is_corrupt
                yield SourceFrame(self._rgb(frame, count), clock.pts(frame.pts))
                if count + 1 == self._max_frames:
                    break
            else:
                end = clock.check_end()
        finally:
            self.warnings += clock.warnings + end
            if damaged:
                self.warnings.append(f"{damaged} frames are damaged, repaired by guessing")

    def _rgb(self, frame: VideoFrame, index: int) -> NDArray[np.uint8]:
        """uint8 (out_height, out_width, 3)."""
        if (frame.width, frame.height) != (self.info.width, self.info.height):
            raise InputVideoError(
                f"{self._name}: the picture changes from {self.info.width}x{self.info.height} "
                f"to {frame.width}x{frame.height} at frame {index}; only one size can be encoded"
            )
        try:
            return self._geometry.apply(frame_to_rgb(frame, self.info.color))
        except AV_ERRORS as exc:
            raise InputVideoError(
                f"{self._name}: frame {index} ({frame.format.name}) cannot be converted to RGB: "
                f"{cause(exc)}"
            ) from exc


class _Clock:
    """Strictly increasing timestamps, in ticks of ``info.time_base``, made up where missing."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._step = 1 / ((info.frame_rate or FALLBACK_RATE) * info.time_base)
        self._known = Fraction(0)
        self._since_known = 0
        self._previous: int | None = None
        self._first = 0
        self._missing = self._moved = 0

    def pts(self, given: int | None) -> int:
        """The pts of the next frame from the one it came with."""
        if given is None:
            self._missing += 1
            pts = round(self._known + self._since_known * self._step)
        else:
            pts = given
            self._known, self._since_known = Fraction(given), 0
        self._since_known += 1
        if self._previous is None:
            self._first = pts
        elif pts <= self._previous:
            self._moved += 1
            pts = self._previous + 1
        self._previous = pts
        return pts

    @property
    def warnings(self) -> list[str]:
        """What was made up so far."""
        rate = self._info.frame_rate or FALLBACK_RATE
        lines = []
        if self._missing:
            lines.append(f"{self._missing} frames have no timestamp, taken at {rate} a second")
        if self._moved:
            lines.append(
                f"{self._moved} frames are not later than the one before, moved by the least step"
            )
        return lines

    def check_end(self) -> list[str]:
        """A warning if the last frame came long before the duration that the file declares."""
        if self._info.duration is None or self._previous is None:
            return []
        end = (self._previous - self._first + self._step) * self._info.time_base
        if self._info.duration - end <= _CUT_SHORT:
            return []
        declared = float(self._info.duration)
        return [f"the video ends at {float(end):.2f} s of {declared:.2f} s: it may be cut short"]
