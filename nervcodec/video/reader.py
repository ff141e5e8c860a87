"""Reading a video as RGB frames with exact times; :mod:`.source` opens and decodes the file,
:mod:`.probing` describes it, :mod:`.writer` is the way back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from types import TracebackType
from typing import Self

from av.video.frame import VideoFrame

from nervcodec.errors import InputVideoError, UsageError
from nervcodec.samples import BIT_DEPTHS, Frames
from nervcodec.video.color import frame_to_rgb
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name
from nervcodec.video.info import VideoInfo
from nervcodec.video.inputs import find_source
from nervcodec.video.probing import describe
from nervcodec.video.resample import Geometry, plan_geometry
from nervcodec.video.source import Damage, decode_frames

FALLBACK_RATE = Fraction(25)
"""Frames a second for files with neither timestamps nor a rate, as FFmpeg takes them."""

_MICROSECOND = timedelta(microseconds=1)

_CUT_SHORT = Fraction(1)
"""Seconds by which a video may end before its declared duration without a warning."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture: ``rgb`` (H, W, 3), C-contiguous; ``pts`` in ``VideoInfo.time_base``."""

    rgb: Frames
    pts: int


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Describe a video after decoding its first frame; InputVideoError if that cannot be done."""
    return describe(path)[1]


class VideoReader:
    """The frames of a video's first stream that has any, in order, cropped and sized.

    ``crop`` and ``size`` are (width, height); the crop is centred and comes first. With ``size``
    and no crop the picture may change its size on the way. Where a player would mirror the
    picture, it is: turning it by ``info.rotation`` is all that is left to do. Samples have
    ``bit_depth`` bits, by default the fewest that hold those of the source, at most 12.

    Frames from ``start`` to before ``end`` are given, ``max_frames`` of them at most. Both times
    are counted from the first frame's, and a frame's own is rounded to microseconds.

    ``allow_damaged`` gives every frame of a damaged file that decodes, in one thread: the same
    ones each time.

    ``on_skip`` is called for each frame before ``start``, which are decoded like the others: what
    it raises ends the iteration.

    Each iteration opens the file anew, ends the one before, and holds only the frame at hand and
    what the decoder's threads hold. ``warnings`` is filled when an iteration ends;
    ``info.warnings`` is known at once.
    Raises InputVideoError for the file, and UsageError for crop and size and where no frame is
    left between ``start`` and ``end``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        crop: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        max_frames: int | None = None,
        bit_depth: int | None = None,
        start: timedelta | None = None,
        end: timedelta | None = None,
        allow_damaged: bool = False,
        on_skip: Callable[[], None] | None = None,
    ) -> None:
        self._path = find_source(path)
        self.name = file_name(path)
        if max_frames is not None and max_frames < 1:
            raise UsageError(f"at least one frame must be read, not {max_frames}")
        self._max_frames = max_frames
        self._start = 0 if start is None else start // _MICROSECOND
        self._end = None if end is None else end // _MICROSECOND
        self._allow_damaged = allow_damaged
        self._on_skip = on_skip or _pass_over
        self._stream_index, self.info = describe(self._path, allow_damaged=allow_damaged)
        self.bit_depth = bit_depth or _fitting_depth(self.info.bit_depth)
        self._crop, self._size = crop, size
        self._geometry = self._plan(self.info.width, self.info.height)
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
        damage = Damage() if self._allow_damaged else None
        given = guessed = 0
        end: list[str] = []
        length = self.info.duration
        self.warnings = self._depth_warnings()
        self._scaled, self._change = 0, ""
        try:
            for index, frame in enumerate(decode_frames(self._path, self._stream_index, damage)):
                pts = clock.pts(frame.pts)
                time = round(clock.elapsed * 1_000_000)
                if self._end is not None and time >= self._end:
                    break
                if time < self._start:
                    self._on_skip()
                    continue
                given += 1
                guessed += frame.is_corrupt
                yield SourceFrame(self._rgb(frame, index), pts)
                if given == self._max_frames:
                    break
            else:
                end = clock.check_end()
                length = clock.length
            if self._start and not given:
                raise UsageError(self._nothing_left(length))
        finally:
            self.warnings += clock.warnings + end
            if self._scaled:
                size = f"{self.out_width}x{self.out_height}"
                others = f"{self._scaled} frames of another size are scaled to {size}"
                self.warnings.append(f"{self._change}: {others}")
            if damage is not None:
                self.warnings += damage.warnings(given)
            if guessed:
                self.warnings.append(f"{guessed} frames are damaged, repaired by guessing")

    def _nothing_left(self, length: Fraction | None) -> str:
        until = "" if self._end is None else f" and before {self._end / 1e6:.6f} s"
        lasts = "" if length is None else f": the video lasts {float(length):.3f} s"
        start = f"{self._start / 1e6:.6f} s or later"
        return f"{self.name}: no frame begins at {start}{until}{lasts}"

    def _plan(self, width: int, height: int) -> Geometry:
        return plan_geometry(width, height, self.info.sample_aspect_ratio, self._crop, self._size)

    def _geometry_of(self, frame: VideoFrame, index: int) -> Geometry:
        """How a frame is made as large as the others; InputVideoError where it cannot be."""
        first, now = (self.info.width, self.info.height), (frame.width, frame.height)
        if now == first:
            return self._geometry
        change = f"the picture changes from {first[0]}x{first[1]} to {now[0]}x{now[1]}"
        change += f" at frame {index}"
        if self._crop is not None:
            raise InputVideoError(f"{self.name}: {change}; --crop needs frames of one size")
        if self._size is None:
            raise InputVideoError(f"{self.name}: {change}; --size WxH makes all one size")
        self._change = self._change or change
        self._scaled += 1
        return self._plan(*now)

    def _depth_warnings(self) -> list[str]:
        given, kept = self.info.bit_depth, self.bit_depth
        return [f"{given}-bit samples are reduced to {kept} bits"] if kept < given else []

    def _rgb(self, frame: VideoFrame, index: int) -> Frames:
        """(out_height, out_width, 3)."""
        geometry = self._geometry_of(frame, index)
        try:
            rgb = frame_to_rgb(frame, self.info.color, self.bit_depth)
            return geometry.apply(rgb[::-1] if self.info.mirrored else rgb)
        except AV_ERRORS as exc:
            raise InputVideoError(
                f"{self.name}: frame {index} ({frame.format.name}) cannot be converted to RGB: "
                f"{cause(exc)}"
            ) from exc


def _fitting_depth(bits: int) -> int:
    return next((depth for depth in BIT_DEPTHS if depth >= bits), BIT_DEPTHS[-1])


def _pass_over() -> None:
    """Nothing is to be done for a frame that is not wanted."""


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

    @property
    def elapsed(self) -> Fraction:
        """Seconds from the first frame's time to the latest one's."""
        return ((self._previous or 0) - self._first) * self._info.time_base

    @property
    def length(self) -> Fraction:
        """Seconds that all frames so far last."""
        return self.elapsed + self._step * self._info.time_base

    def check_end(self) -> list[str]:
        """A warning if the last frame came long before the duration that the file declares."""
        if self._info.duration is None or self._previous is None:
            return []
        end = self.length
        if self._info.duration - end <= _CUT_SHORT:
            return []
        declared = float(self._info.duration)
        return [f"the video ends at {float(end):.2f} s of {declared:.2f} s: it may be cut short"]
