"""What can be read as one video: a file, raw samples without a header, a folder of pictures.

:mod:`.source` opens and decodes it. Names of files are never patterns here: FFmpeg is given one
file at a time, so that percent signs and gaps between numbers mean nothing to it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from nervcodec.errors import InputVideoError, UsageError
from nervcodec.video.errors_av import AV_ERRORS, cause, file_name, is_system_error

DEFAULT_RATE = Fraction(25)
"""Pictures a second where nobody says."""

PICTURE_DEMUXERS = {
    ".png": "png_pipe",
    ".jpg": "jpeg_pipe",
    ".jpeg": "jpeg_pipe",
    ".tif": "tiff_pipe",
    ".tiff": "tiff_pipe",
    ".bmp": "bmp_pipe",
}
"""FFmpeg's demuxer of one picture by the suffix of its file."""

_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)


@dataclass(frozen=True)
class Source(os.PathLike[str]):
    """A video to read.

    Attributes:
        path: the file or folder.
        demuxer: FFmpeg's demuxer, with its ``options``; empty where the content decides.
        pictures: of a folder, in order; else empty.
    """

    path: Path
    demuxer: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read, in order."""
        return self.pictures or (self.path,)

    def picture(self, index: int) -> Source:
        """One picture of a folder."""
        return Source(self.pictures[index], self.demuxer, self.options)


def find_source(
    path: str | os.PathLike[str],
    *,
    raw: tuple[int, int, str] | None = None,
    rate: Fraction | None = None,
) -> Source:
    """The source at a path; what is one already stays as it is.

    Args:
        raw: width, height and FFmpeg's name of the pixel format, if the file is raw video.
        rate: frames a second of raw video and pictures; None for :data:`DEFAULT_RATE`.

    Raises:
        InputVideoError: a folder without one sequence of pictures; raw video that ends within a
            frame.
        UsageError: a rate for a file that has its own, or no such pixel format or size.
    """
    if isinstance(path, Source):
        return path
    options = {"framerate": str(rate or DEFAULT_RATE)}
    if raw is not None:
        return _raw_source(Path(path), raw, options)
    if os.path.isdir(path):
        demuxer, pictures = _pictures(Path(path))
        return Source(Path(path), demuxer, options, pictures)
    if rate is not None:
        raise UsageError(
            f"{file_name(path)}: has its own frame rate; one can be given for raw video and "
            "folders of pictures"
        )
    return Source(Path(path))


def _raw_source(path: Path, raw: tuple[int, int, str], options: Mapping[str, str]) -> Source:
    width, height, pixel_format = raw
    frame_bytes = _frame_bytes(width, height, pixel_format)
    frames, rest = divmod(path.stat().st_size if os.path.isfile(path) else 0, frame_bytes)
    if rest:
        raise InputVideoError(
            f"{file_name(path)}: {rest} bytes are left over after {frames} frames of "
            f"{frame_bytes} bytes ({width}x{height} {pixel_format})"
        )
    size = {"video_size": f"{width}x{height}", "pixel_format": pixel_format}
    return Source(path, "rawvideo", {**options, **size})


def _frame_bytes(width: int, height: int, pixel_format: str) -> int:
    """The length of a raw frame: that of what FFmpeg's own encoder of raw video makes."""
    try:
        encoder = CodecContext.create("rawvideo", "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, pixel_format
        encoder.time_base = 1 / DEFAULT_RATE
        return sum(p.size for p in encoder.encode(VideoFrame(width, height, pixel_format)))
    except AV_ERRORS as exc:
        raise UsageError(
            f"raw video of {width}x{height} in {pixel_format!r} cannot be read: {cause(exc)}"
        ) from exc


def _pictures(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """The demuxer and the pictures of a folder in the order of the last number in their names.

    Other files and hidden ones are passed over.
    """
    name = file_name(folder)
    try:
        with os.scandir(folder) as entries:
            files = [Path(e.path) for e in entries if e.is_file() and not e.name.startswith(".")]
    except OSError as exc:
        why = cause(exc) if is_system_error(exc) else exc.strerror
        raise InputVideoError(f"{name}: the folder cannot be read: {why}") from exc
    numbered = sorted(
        (*_parts(file), file) for file in files if file.suffix.lower() in PICTURE_DEMUXERS
    )
    if not numbered:
        raise InputVideoError(f"{name}: is a folder without pictures (PNG, JPEG, TIFF or BMP)")
    sequences = Counter((before, after) for before, after, _, _ in numbered)
    if len(sequences) > 1:
        listed = [f"{before}*{after}" for before, after in sequences]
        raise InputVideoError(
            f"{name}: the folder holds {len(sequences)} sequences of pictures "
            f"({file_name(listed[0])}, {file_name(listed[1])} ...): one is needed"
        )
    number, times = Counter(number for _, _, number, _ in numbered).most_common(1)[0]
    if times > 1:
        raise InputVideoError(f"{name}: {times} pictures of the folder have the number {number}")
    pictures = tuple(file for _, _, _, file in numbered)
    return PICTURE_DEMUXERS[pictures[0].suffix.lower()], pictures


def _parts(picture: Path) -> tuple[str, str, int]:
    """What is before and behind the last number in a file's name, and that number.

    A name without any is a sequence of its own.
    """
    suffix = picture.suffix.lower()
    found = _LAST_NUMBER.fullmatch(picture.stem)
    if found is None:
        return picture.stem, suffix, 0
    return found[1], found[3] + suffix, int(found[2])
