"""What is known of a video before its frames: colour, geometry, time. :mod:`.source` fills it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from nervcodec.bitstream.syntax import MATRICES
from nervcodec.errors import UnsupportedError

UNSPECIFIED = 2
"""The H.273 code point for "unspecified" primaries, transfer or matrix."""


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
