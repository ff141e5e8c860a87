"""Writing RGB frames as a video file; :mod:`.reader` reads them back, :mod:`.color` converts.

MP4 and MOV hold a rendition in H.264 or HEVC with exact times; Matroska holds the very RGB
samples in FFV1, but its clock ticks in milliseconds. More than 8 bits a sample stay, in lossy
formats up to 10 unless 12 are asked for.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av
from av.codec.context import Flags
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nervcodec.errors import HfsvError, OutputError
from nervcodec.samples import Frames, convert_depth
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name, is_system_error
from nervcodec.video.formats import (
    ENCODERS,
    MIN_HEVC_SIDE,
    OutputFormat,
    fitting_chapters,
    fitting_tags,
)
from nervcodec.video.hdr import NO_HDR, HdrInfo
from nervcodec.video.info import UNSPECIFIED, Chapter, ColorInfo
from nervcodec.video.passthrough import AudioCopy
from nervcodec.video.remux import MAX_TIMESCALE, common_timescale, muxer_options

if TYPE_CHECKING:
    from av.container.core import Chapter as AVChapter

_NEVER_REORDERED = 2
"""Frames of a clip too short for B-frames. x265 4.2 gives its packets random decoding times."""
_MIN_MOV_TIMESCALE = 10000
"""The MP4 muxer doubles a time base's denominator until it is at least this."""
_MATROSKA_TICKS = 1000
_MAX_SAMPLE_TICKS = 2**31 - 1
"""What one sample of MP4 may last; a chapter is one."""

_CHAPTER_TIME_BASE = Fraction(1, 10**9)

_PATIENCE = 1000000
"""Microseconds of lossless frames to hold back at most until a subtitle comes."""

_FALLBACK_TIME_BASE = Fraction(1, 90000)
_KNOWN_PRIMARIES = frozenset((1, *range(4, 13), 22))
_KNOWN_TRANSFERS = frozenset((1, *range(4, 19)))


class VideoWriter:
    """Writes frames to exactly ``path``; as a context manager it finishes the file on success.

    Times are in ``time_base`` ticks and come back from MP4 and MOV as the very same rational
    seconds, frame for frame. Matroska rounds them to 1 ms, which is warned of when it matters.
    A first pts below zero moves picture and sound together to begin at zero. H.264 and HEVC
    are 4:2:0, or 4:4:4 for odd sizes. ``bit_depth`` is that of the frames given, ``fmt`` says which
    is written. ``passthrough`` is (bytes, container) of
    :class:`.passthrough.Passthrough`, of which ``audio`` and ``subtitles`` say what to write.
    ``chapters`` are in the order of their beginning; in MP4 and MOV one lasts until the next, and
    what comes before the first is one without a title. ``metadata`` has keys of :data:`.info.TAGS`.
    ``warnings`` grows as things are found out.

    Raises OutputError when the file cannot be written, BitstreamError for a bad passthrough.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fmt: OutputFormat,
        *,
        width: int,
        height: int,
        time_base: Fraction,
        sample_aspect_ratio: Fraction,
        rotation: int,
        color: ColorInfo,
        frame_rate: Fraction | None,
        passthrough: tuple[bytes, str] | None,
        metadata: dict[str, str] | None = None,
        threads: int | None = None,
        audio: bool = True,
        subtitles: bool = True,
        chapters: Sequence[Chapter] = (),
        bit_depth: int = 8,
        hdr: HdrInfo = NO_HDR,
    ) -> None:
        self._name = file_name(path)
        self._fmt = fmt
        self._size = (width, height)
        if fmt.codec == "hevc" and min(self._size) < MIN_HEVC_SIDE:
            raise OutputError(
                f"{self._name}: HEVC needs at least {MIN_HEVC_SIDE}x{MIN_HEVC_SIDE} pixels"
            )
        self._color = color
        self._given_depth, self._depth = bit_depth, fmt.depth(bit_depth)
        self._given_time_base = time_base
        self.warnings: list[str] = []
        self._time_base = self._representable(time_base)
        self._pixel_format = self._choose_pixel_format()
        self._hdr = self._fitting_hdr(hdr)
        self._closed = False
        self._shift: int | None = None
        self._last_pts: int | None = None
        self._first_dts: int | None = None
        self._first_ticks = self._end_ticks = 0
        self._audio = None
        if passthrough and (audio or subtitles):
            self._audio = AudioCopy(*passthrough, audio=audio, subtitles=subtitles)
        self._chapters, lines = fitting_chapters(fmt.container, chapters)
        self.warnings += lines
        options = muxer_options(fmt.container, self._timescale())
        if fmt.codec == "ffv1":
            options["max_interleave_delta"] = str(_PATIENCE)
        try:
            self._output = av.open(
                os.fspath(path), mode="w", format=fmt.container, container_options=options
            )
            self._stream = self._add_video(frame_rate, sample_aspect_ratio, threads)
            if rotation:
                self._stream.set_display_rotation(rotation)
            self._stream.disposition = Disposition.default
            tags, lines = fitting_tags(fmt.container, metadata or {})
            self.warnings += lines
            self._output.metadata.update(tags)
            if self._audio:
                self._audio.attach(self._output)
                self.warnings += self._audio.warnings
        except AV_ERRORS as exc:
            raise OutputError(f"{self._name}: cannot be written: {self._why(exc)}") from exc

    def _representable(self, time_base: Fraction) -> Fraction:
        """The time base itself where 32 bits hold it, else a fine one."""
        if max(time_base.numerator, time_base.denominator) <= MAX_TIMESCALE:
            return time_base
        self.warnings.append(f"frame times are rounded to {_FALLBACK_TIME_BASE} s")
        return _FALLBACK_TIME_BASE

    def _fitting_hdr(self, hdr: HdrInfo) -> HdrInfo:
        """What the codec can say of it; FFV1 has no place for it."""
        if hdr != NO_HDR and self._fmt.codec == "ffv1":
            self.warnings.append("HDR mastering and light level data are left out: FFV1 has none")
            return NO_HDR
        return hdr

    def _choose_pixel_format(self) -> str:
        suffix = "" if self._depth == 8 else f"{self._depth}le"
        if self._depth < self._given_depth:
            self.warnings.append(
                f"{self._given_depth}-bit samples are written with {self._depth} bits"
            )
        if self._fmt.codec == "ffv1":
            return f"gbrp{suffix}" if suffix else "bgr0"
        if self._size[0] % 2 or self._size[1] % 2:
            self.warnings.append(
                "width or height is odd: written as 4:4:4, which some players do not show"
            )
            return "yuv444p" + suffix
        return "yuv420p" + suffix

    def _timescale(self) -> int:
        """Ticks a second in which the starts of all streams are whole.

        MP4 counts chapters in them too: milliseconds are whole, and none lasts too many.
        """
        ticks = self._time_base.denominator
        while ticks < _MIN_MOV_TIMESCALE:
            ticks *= 2
        rates = self._audio.sample_rates if self._audio else ()
        if not self._chapters:
            return common_timescale(ticks, *rates)
        times = [Fraction(0), *(c.start for c in self._chapters), self._chapters[-1].end]
        longest = max(b - a for a, b in itertools.pairwise(times))
        choices = (common_timescale(ticks, 1000, *rates), common_timescale(ticks, 1000), ticks)
        fitting = (scale for scale in choices if scale * longest <= _MAX_SAMPLE_TICKS)
        return next(fitting, _MATROSKA_TICKS)

    def _add_video(
        self, frame_rate: Fraction | None, sample_aspect_ratio: Fraction, threads: int | None
    ) -> VideoStream:
        """Add and set up the video stream; raises what PyAV raises."""
        rate = (frame_rate or Fraction(25)).limit_denominator(100000)
        encoder = ENCODERS[self._fmt.codec]
        stream = self._output.add_stream(encoder, rate=rate, options=self._codec_options())
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt = self._pixel_format
        stream.time_base = context.time_base = self._time_base
        context.sample_aspect_ratio = sample_aspect_ratio
        context.flags |= Flags.frame_duration
        lossless = self._fmt.codec == "ffv1"
        primaries, transfer = self._color.primaries, self._color.transfer
        context.color_primaries = primaries if primaries in _KNOWN_PRIMARIES else UNSPECIFIED
        context.color_trc = transfer if transfer in _KNOWN_TRANSFERS else UNSPECIFIED
        context.colorspace = 0 if lossless else self._color.matrix
        context.color_range = 2 if lossless or self._color.full_range else 1
        context.thread_count = threads or 0
        if self._fmt.codec == "hevc" and self._fmt.container != "matroska":
            context.codec_tag = "hvc1"
        if lossless and sample_aspect_ratio != 1:
            self.warnings.append(
                f"the shape of its pixels ({sample_aspect_ratio}) is not kept in Matroska"
            )
        return stream

    def _codec_options(self) -> dict[str, str]:
        if self._fmt.codec == "ffv1":
            return {"level": "3", "slicecrc": "1"}
        options = {"crf": str(self._fmt.crf), "preset": self._fmt.preset}
        parameters = self._hdr.options(self._fmt.codec)
        if self._fmt.codec == "hevc":
            parameters.append("log-level=none")
        if parameters:
            options[f"{ENCODERS[self._fmt.codec].removeprefix('lib')}-params"] = ":".join(
                parameters
            )
        return options

    def _why(self, exc: BaseException) -> str:
        if is_system_error(exc):
            return cause(exc)
        width, height = self._size
        return f"{self._fmt.codec} in {self._fmt.container} at {width}x{height}: {cause(exc)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.close()
        else:
            self.abandon()

    def write(self, rgb: Frames, pts: int, duration: int) -> None:
        """Write one frame: (H, W, 3); ``pts`` and ``duration`` in ticks, pts rising."""
        assert not self._closed
        assert rgb.shape == (self._size[1], self._size[0], 3), rgb.shape
        if self._shift is None:
            self._begin(pts)
        assert self._shift is not None
        if self._last_pts is not None and pts <= self._last_pts:
            raise OutputError(f"{self._name}: frame time {pts} does not follow {self._last_pts}")
        self._last_pts = pts
        ticks = self._ticks(pts + self._shift)
        self._warn_if_rounded(ticks)
        if self._end_ticks == 0:
            self._first_ticks = ticks
        length = max(self._ticks(duration), 1)
        self._end_ticks = ticks + length
        try:
            samples = convert_depth(rgb, self._given_depth, self._depth)
            frame = rgb_to_frame(samples, self._pixel_format, self._color, self._depth)
            frame.pts, frame.time_base = ticks, self._time_base
            frame.duration = length
            packets = self._encode(frame)
        except AV_ERRORS as exc:
            raise OutputError(f"{self._name}: cannot encode a frame: {cause(exc)}") from exc
        self._mux(packets)
        if self._audio:
            self._audio.mux_until(ticks * self._time_base, self._shift * self._given_time_base)

    def _encode(self, frame: VideoFrame | None) -> list[Packet[VideoStream]]:
        packets = self._stream.encode(frame)
        if self._first_dts is None and packets:
            self._first_dts = packets[0].dts
        return packets

    def _begin(self, first_pts: int) -> None:
        self._shift = max(-first_pts, 0)
        if self._shift:
            seconds = float(self._shift * self._given_time_base)
            self.warnings.append(f"all times are {seconds:.3f} s later: the video began below 0")
        try:
            self._output.set_chapters(self._shifted_chapters())
            self._output.start_encoding()
        except AV_ERRORS as exc:
            raise OutputError(f"{self._name}: cannot be written: {self._why(exc)}") from exc

    def _shifted_chapters(self) -> list[AVChapter]:
        """The chapters for PyAV, on the axis of what is written.

        FFmpeg leaves an MP4 chapter out that has no title at all.
        """
        shift = (self._shift or 0) * self._given_time_base
        parts = [Chapter(c.start + shift, c.end + shift, c.title) for c in self._chapters]
        matroska = self._fmt.container == "matroska"
        if parts and parts[0].start > 0 and not matroska:
            parts.insert(0, Chapter(Fraction(0), parts[0].start, ""))
        return [
            {
                "id": index,
                "start": round(part.start / _CHAPTER_TIME_BASE),
                "end": round(part.end / _CHAPTER_TIME_BASE),
                "time_base": _CHAPTER_TIME_BASE,
                "metadata": {} if matroska and not part.title else {"title": part.title},
            }
            for index, part in enumerate(parts, 1)
        ]

    def _ticks(self, pts: int) -> int:
        """From ticks of the time base given to those of the one written."""
        if self._time_base == self._given_time_base:
            return pts
        return round(pts * self._given_time_base / self._time_base)

    def _warn_if_rounded(self, ticks: int) -> None:
        warning = "frame times are rounded to 1 ms in Matroska"
        exact = (ticks * self._time_base * _MATROSKA_TICKS).denominator == 1
        if self._fmt.container == "matroska" and not exact and warning not in self.warnings:
            self.warnings.append(warning)

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        try:
            self._output.mux(packets)
        except AV_ERRORS as exc:
            raise OutputError(f"{self._name}: cannot be written: {cause(exc)}") from exc

    def _flush(self) -> list[Packet[VideoStream]]:
        """What the encoder still holds, times set so that the video ends with its last frame.

        MP4 declares its length twice: as the steps between decoding times, of which the last
        packet's is free, and as when the last frame ends. Readers take the shorter.
        """
        begun = self._first_dts is not None
        packets = self._encode(None)
        if not packets:
            return packets
        if not begun and len(packets) <= _NEVER_REORDERED:
            for packet in packets:
                packet.dts = packet.pts
            self._first_dts = self._first_ticks
        last = packets[-1]
        assert self._first_dts is not None
        assert last.pts is not None
        assert last.dts is not None
        last.dts = max(last.dts, last.pts - (self._first_ticks - self._first_dts))
        last.duration = self._end_ticks - last.pts
        return packets

    def close(self) -> None:
        """Write what is still held back and finish the file; OutputError if that fails."""
        if self._closed:
            return
        try:
            self._mux(self._flush())
            if self._audio:
                shift = (self._shift or 0) * self._given_time_base
                self._audio.mux_until(None, shift)
            self._output.close()
        except AV_ERRORS as exc:
            raise OutputError(f"{self._name}: cannot be finished: {cause(exc)}") from exc
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is, unfinished; its maker removes it."""
        self._closed = True
        if self._audio:
            self._audio.close()
        try:
            self._output.close()
        except (*AV_ERRORS, HfsvError):
            return
