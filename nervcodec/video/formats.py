"""Kinds of video files: their containers, codecs and depths, and what tags and chapters they take.

:mod:`.writer` writes them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nervcodec.errors import UsageError
from nervcodec.samples import BIT_DEPTHS
from nervcodec.video.errors_av import file_name
from nervcodec.video.info import Chapter

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's muxer by suffix of the output file."""

_DEFAULT_CODEC = {"mp4": "h264", "mov": "h264", "matroska": "ffv1"}
_CODECS = {
    "mp4": ("h264", "hevc"),
    "mov": ("h264", "hevc"),
    "matroska": ("ffv1", "h264", "hevc"),
}
ENCODERS = {"h264": "libx264", "hevc": "libx265", "ffv1": "ffv1"}
_MAX_DEPTH = {"h264": 10, "hevc": 12, "ffv1": 12}
_USUAL_DEPTH = {"h264": 10, "hevc": 10, "ffv1": 12}
"""Players show HEVC of 10 bits, hardly ever of 12."""

DEFAULT_CRF = 12
DEFAULT_PRESET = "medium"
PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
"""Names that x264 and x265 give to their trades of speed for size."""

MIN_HEVC_SIDE = 64
"""x265 4.2 writes past its look-ahead arrays on smaller frames, which may end the process."""

_MOV_TAGS = frozenset(("title", "artist", "album", "date", "genre", "comment", "copyright"))
_MP4_TAGS = _MOV_TAGS | {"composer", "description", "synopsis", "show", "episode_id", "network"}
_TAGS = {"mp4": _MP4_TAGS, "mov": _MOV_TAGS}
"""What FFmpeg writes to MP4 and MOV; Matroska takes every tag."""

_OTHER_TAGS = {"author": "artist", "year": "date"}
"""Tags that MP4 and MOV have under another name."""


@dataclass(frozen=True)
class OutputFormat:
    """Container (``mp4``, ``mov``, ``matroska``) and codec (``h264``, ``hevc``, ``ffv1``).

    ``crf`` and ``preset`` are x264's and x265's; at crf 12 what is lost is not seen. FFV1 has
    no such setting: it loses nothing. ``bit_depth`` None is that of the frames, but in H.264 and
    HEVC at most 10.
    """

    container: str
    codec: str
    crf: int = DEFAULT_CRF
    preset: str = DEFAULT_PRESET
    bit_depth: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in _CODECS.get(self.container, ()):
            raise UsageError(f"{self.container} output cannot be in {self.codec}")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"crf must be 0 to 51, not {self.crf}")
        if self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset}, it is one of {' '.join(PRESETS)}")
        depths = [depth for depth in BIT_DEPTHS if depth <= _MAX_DEPTH[self.codec]]
        if self.bit_depth not in (None, *depths):
            raise UsageError(f"{self.codec} has {depths} bits a sample, not {self.bit_depth}")

    def depth(self, frames: int) -> int:
        """Bits a sample that are written of frames that have so many."""
        return self.bit_depth or min(frames, _USUAL_DEPTH[self.codec])


def output_format(
    path: str | os.PathLike[str],
    codec: str | None = None,
    *,
    crf: int = DEFAULT_CRF,
    preset: str = DEFAULT_PRESET,
    bit_depth: int | None = None,
) -> OutputFormat:
    """The format for an output file by its suffix; UsageError names the suffixes known."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        known = " ".join(CONTAINERS)
        raise UsageError(f"{file_name(path)}: unknown kind of video, name it one of {known}")
    container = CONTAINERS[suffix]
    codec = codec or _DEFAULT_CODEC[container]
    if codec not in _CODECS[container]:
        known = " ".join(_CODECS[container])
        raise UsageError(f"{file_name(path)}: {suffix} can hold {known}, not {codec}")
    return OutputFormat(container, codec, crf, preset, bit_depth)


def default_codec(fmt: OutputFormat, bit_depth: int, width: int, height: int) -> OutputFormat:
    """The same with the codec that suits frames of this depth and size, where none was asked for.

    More than 8 bits are written in HEVC, which plays in more places so than H.264, if it can be.
    """
    deep = fmt.depth(bit_depth) > 8
    if fmt.codec == "h264" and deep and min(width, height) >= MIN_HEVC_SIDE:
        return replace(fmt, codec="hevc")
    return fmt


def fitting_tags(container: str, tags: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The tags that a container takes, under its names, and a line about those that it does not."""
    known = _TAGS.get(container)
    if known is None:
        return dict(tags), []
    other = {_OTHER_TAGS[k]: v for k, v in tags.items() if k in _OTHER_TAGS}
    named = other | {k: v for k, v in tags.items() if k not in _OTHER_TAGS}
    lost = sorted(named.keys() - known)
    lines = [f"tags left out, {container} has none: {' '.join(lost)}"] if lost else []
    return {k: v for k, v in named.items() if k in known}, lines


def fitting_chapters(
    container: str, chapters: Sequence[Chapter]
) -> tuple[list[Chapter], list[str]]:
    """As a container can say it, and a line where that is not what they were.

    Those of MP4 and MOV follow each other without gaps.
    """
    if container == "matroska" or not chapters:
        return list(chapters), []
    lines = []
    if any(a.end != b.start for a, b in itertools.pairwise(chapters)):
        lines.append(f"chapters last until the next begins: {container} has no end of them")
    ends = [*(chapter.start for chapter in chapters[1:]), chapters[-1].end]
    return [Chapter(c.start, end, c.title) for c, end in zip(chapters, ends, strict=True)], lines
