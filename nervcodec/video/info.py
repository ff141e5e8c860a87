"""What is known of a video beside its frames: colour, geometry, time, tags, chapters.

:mod:`.probing` fills it; tags and chapters travel in META.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nervcodec.bitstream.syntax import MATRICES
from nervcodec.errors import UnsupportedError
from nervcodec.video.hdr import NO_HDR, HdrInfo

UNSPECIFIED = 2
"""The H.273 code point for "unspecified" primaries, transfer or matrix."""


TAGS = frozenset(
    ("title", "artist", "author", "album", "date", "year", "genre", "comment", "description")
) | {"synopsis", "copyright", "composer", "show", "episode_id", "network", "publisher"}
"""What is kept of a file's tags: what a person wrote, not the tool, time or place."""

MAX_CHAPTERS = 1000
_MAX_CHAPTER_TICKS = 2**53
_CHAPTER_TICKS = 10**9
_TITLE_BYTES = 24000
"""Room for all titles of chapters; with the rest it is well within the 65,536 bytes of META."""

_TAG_BYTES = 1000


@dataclass(frozen=True)
class Chapter:
    """A part of a clip: ``start`` and ``end`` in seconds on the frames' axis."""

    start: Fraction
    end: Fraction
    title: str


def chapters_to_meta(
    chapters: Sequence[Chapter], end: Fraction | None = None
) -> list[list[int | str]]:
    """The value of META's ``chapters``: of each the start and end in nanoseconds, and the title.

    Chapters that begin at ``end`` (seconds) or later are left out, what reaches beyond is cut.
    Titles are cut where there are too many to keep them whole.
    """
    found: list[list[int | str]] = []
    kept = [c for c in chapters if end is None or c.start < end][:MAX_CHAPTERS]
    for chapter in kept:
        last = chapter.end if end is None else min(chapter.end, end)
        ticks = [max(round(time * _CHAPTER_TICKS), 0) for time in (chapter.start, last)]
        if max(ticks) < _MAX_CHAPTER_TICKS:
            found.append([*ticks, _cut(chapter.title, min(_TITLE_BYTES // len(kept), 1000))])
    return found


def chapters_from_meta(meta: Mapping[str, Any]) -> tuple[Chapter, ...]:
    """The chapters of a META map; none where they are not as the format has them."""
    value = meta.get("chapters")
    if not isinstance(value, list) or not all(_is_chapter(item) for item in value):
        return ()
    if any(second[0] < first[0] for first, second in itertools.pairwise(value)):
        return ()
    return tuple(
        Chapter(Fraction(start, _CHAPTER_TICKS), Fraction(end, _CHAPTER_TICKS), _printable(title))
        for start, end, title in value
    )


def chapters_between(
    chapters: Sequence[Chapter], begin: Fraction, end: Fraction | None
) -> list[Chapter]:
    """What of the chapters lies between two times (seconds; None: no end); ``begin`` becomes 0."""
    return [
        Chapter(
            max(c.start, begin) - begin,
            (c.end if end is None else min(c.end, end)) - begin,
            c.title,
        )
        for c in chapters
        if c.end > begin and (end is None or c.start < end)
    ]


def _is_chapter(item: object) -> bool:
    if not isinstance(item, list) or [type(field) for field in item] != [int, int, str]:
        return False
    return bool(0 <= item[0] <= item[1] < _MAX_CHAPTER_TICKS)


def tags_to_meta(tags: Mapping[str, str]) -> dict[str, str]:
    """The value of META's ``tags``: those of :data:`TAGS` but the title, which has its own key."""
    return {k: _cut(v, _TAG_BYTES) for k, v in sorted(tags.items()) if k in TAGS - {"title"} and v}


def tags_from_meta(meta: Mapping[str, Any]) -> dict[str, str]:
    """Title and other tags of a META map, printable; what is not as the format has it is left."""
    value = meta.get("tags")
    tags = dict(value) if isinstance(value, dict) else {}
    tags["title"] = meta.get("title")
    return {k: _printable(v) for k, v in tags.items() if k in TAGS and isinstance(v, str) and v}


def _cut(text: str, most: int) -> str:
    """``text`` in at most ``most`` bytes of UTF-8."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def _printable(text: str) -> str:
    """``text`` without control characters, but for the ends of lines."""
    return "".join(c for c in text if c.isprintable() or c == "\n")


@dataclass(frozen=True)
class ColorInfo:
    """How the Y'CbCr samples of a video mean colours, as H.273 code points.

    ``primaries`` and ``transfer`` may be 2 (unspecified); ``matrix`` is one of ``MATRICES``
    and ``full_range`` is always decided. ``assumed`` says that matrix or range were decided by
    rule because the source carries no tag. Raises UnsupportedError for other values.
    """

    primaries: int
    transfer: int
    matrix: int
    full_range: bool
    assumed: bool = False

    def __post_init__(self) -> None:
        if self.matrix not in MATRICES:
            raise UnsupportedError(f"colour matrix {self.matrix} is not supported: {MATRICES}")
        for name, value in (("primaries", self.primaries), ("transfer", self.transfer)):
            if not 0 <= value <= 255:
                raise UnsupportedError(f"colour {name} {value} is not an H.273 code point")


@dataclass(frozen=True)
class VideoInfo:
    """What encode must know of the source's first video stream that has frames.

    ``width`` and ``height`` are those of the decoded picture, before crop and size.
    ``rotation`` is how far a player turns the picture counter-clockwise: 0, 90, 180 or 270.
    ``mirrored`` says that a player swaps top and bottom before it turns; the reader does so.
    ``frame_rate`` is an average, checked against the timestamps, and None when unknown;
    ``duration`` is in seconds. ``warnings`` are lines for a person, one for each thing that
    the decoded frames do not keep.
    """

    width: int
    height: int
    time_base: Fraction
    sample_aspect_ratio: Fraction
    rotation: int
    frame_rate: Fraction | None
    color: ColorInfo
    bit_depth: int
    pix_fmt: str
    codec: str
    container: str
    duration: Fraction | None
    has_audio: bool
    metadata: dict[str, str]
    warnings: tuple[str, ...]
    has_subtitles: bool = False
    chapters: tuple[Chapter, ...] = ()
    mirrored: bool = False
    hdr: HdrInfo = NO_HDR
