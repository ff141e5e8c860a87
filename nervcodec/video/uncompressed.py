"""Writing RGB frames without compression, or each as a picture: YUV4MPEG2, raw samples, PNG.

They have the interface of :class:`.writer.VideoWriter`, but hold pictures alone, at one rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from nervcodec.errors import OutputError
from nervcodec.samples import Frames
from nervcodec.video.color import rgb_to_frame, samples_of
from nervcodec.video.errors_av import AV_ERRORS, cause
from nervcodec.video.info import ColorInfo
from nervcodec.video.still import png, sixteen_bits

LEAST_DIGITS = 5
"""Of the number that names a picture."""


class FrameWriter(Protocol):
    """What takes the frames of a clip in order; a context manager around the writing."""

    warnings: list[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def write(self, rgb: Frames, pts: int, duration: int) -> None:
        """One frame, (H, W, 3); ``pts`` and ``duration`` in ticks of the clip's time base."""


class _Plain:
    """What the writers here share: there is nothing to finish."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The stream is its opener's to close."""


class RawWriter(_Plain):
    """Writes the very samples to ``stream`` as they come, rows of R, G, B; nothing else.

    They are bytes or, of more than 8 bits, little-endian and scaled to 16. Raises what the stream
    does.
    """

    def __init__(self, stream: BinaryIO, bit_depth: int = 8) -> None:
        super().__init__()
        self._stream, self._bit_depth = stream, bit_depth

    def write(self, rgb: Frames, pts: int, duration: int) -> None:
        samples = rgb if self._bit_depth == 8 else sixteen_bits(rgb, self._bit_depth).astype("<u2")
        self._stream.write(samples.tobytes())
        self._stream.flush()


class Y4mWriter(_Plain):
    """Writes YUV4MPEG2 to ``stream``, each frame as it comes, as FFmpeg's muxer would.

    4:2:0, or 4:4:4 for odd sizes, with the matrix and range of ``color``; the range is stated, a
    matrix cannot be. Raises what the stream does, and OutputError for a frame that cannot be
    converted.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        width: int,
        height: int,
        frame_rate: Fraction,
        sample_aspect_ratio: Fraction,
        color: ColorInfo,
        bit_depth: int = 8,
    ) -> None:
        super().__init__()
        self._stream, self._color, self._bit_depth = stream, color, bit_depth
        sampling = "444" if width % 2 or height % 2 else "420"
        self._pixel_format = f"yuv{sampling}p" + ("" if bit_depth == 8 else f"{bit_depth}le")
        layout = f"C{sampling}p{bit_depth} XYSCSS={sampling}P{bit_depth}"
        if bit_depth == 8:
            # Chroma lies between four samples of luma, as in JPEG.
            layout = "C444 XYSCSS=444" if sampling == "444" else "C420jpeg XYSCSS=420JPEG"
        rate, aspect = frame_rate.as_integer_ratio(), sample_aspect_ratio.as_integer_ratio()
        header = (
            f"YUV4MPEG2 W{width} H{height} F{rate[0]}:{rate[1]} Ip A{aspect[0]}:{aspect[1]} "
            f"{layout} XCOLORRANGE={'FULL' if color.full_range else 'LIMITED'}\n"
        )
        self._before = header.encode()

    def write(self, rgb: Frames, pts: int, duration: int) -> None:
        try:
            frame = rgb_to_frame(rgb, self._pixel_format, self._color, self._bit_depth)
        except AV_ERRORS as exc:
            raise OutputError(f"a frame cannot be converted for y4m: {cause(exc)}") from exc
        planes = (samples_of(frame, index, self._bit_depth).tobytes() for index in range(3))
        self._stream.write(self._before + b"FRAME\n" + b"".join(planes))
        self._before = b""
        self._stream.flush()


class PictureWriter(_Plain):
    """Writes PNG files with the very samples to ``folder``, 00001.png and so on.

    Raises OSError, and OutputError for a frame that FFmpeg's encoder refuses.
    """

    def __init__(self, folder: Path, bit_depth: int = 8) -> None:
        super().__init__()
        self._folder, self._bit_depth = folder, bit_depth
        self._written = 0

    def write(self, rgb: Frames, pts: int, duration: int) -> None:
        self._written += 1
        (self._folder / picture_name(self._written)).write_bytes(png(rgb, self._bit_depth))


def picture_name(number: int) -> str:
    """The name of a picture; ``number`` counts from 1."""
    return f"{number:0{LEAST_DIGITS}d}.png"


def constant_rate(times: Sequence[tuple[int, int]], time_base: Fraction) -> tuple[Fraction, bool]:
    """Average frames a second of frames with these (pts, duration), and whether it varies.

    Times that are no more than a tick off are only rounded.
    """
    count, first = len(times), times[0][0]
    ticks = sum(times[-1]) - first
    varies = any(
        abs((pts - first) * count - place * ticks) > count for place, (pts, _) in enumerate(times)
    )
    return count / (ticks * time_base), varies
