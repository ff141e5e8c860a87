"""The frames that a comparison is about: those of a source as a ``.hfsv`` codes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nervcodec.clip import HfsvFile
from nervcodec.config import RawFormat
from nervcodec.errors import InputVideoError, UsageError
from nervcodec.files import file_digest
from nervcodec.verification import stored_crop, stored_start
from nervcodec.video.info import ColorInfo
from nervcodec.video.inputs import find_source
from nervcodec.video.reader import FALLBACK_RATE, VideoReader

HELD_BYTES = 1 << 30
"""Frames that are kept in memory at most; of a longer clip the source is read anew each time."""

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Selection:
    """Which part of a source is coded and how it is scaled, as in ``EncodeConfig``."""

    crop: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    start: timedelta | None = None
    end: timedelta | None = None
    frames: int | None = None


def selection_of(file: HfsvFile) -> Selection:
    """What a ``.hfsv`` file says of the frames that it codes.

    Raises:
        UsageError: if its samples have more than 8 bits.
    """
    if file.bit_depth != 8:
        raise UsageError(
            f"{file.path}: has {file.bit_depth} bits a sample; comparisons are made at 8 bits"
        )
    size = file.width, file.height
    return Selection(stored_crop(file), size, stored_start(file), frames=len(file))


class Reference:
    """The frames of a source by index, uint8 RGB (H, W, 3), as often as they are wanted.

    Raises InputVideoError for the source and UsageError for what is selected of it.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        selection: Selection,
        *,
        raw: RawFormat | None = None,
        rate: Fraction | None = None,
        allow_damaged: bool = False,
    ) -> None:
        self.path = Path(source)
        self.selection = selection
        found = find_source(source, raw=None if raw is None else raw.layout, rate=rate)
        self._reader = VideoReader(
            found,
            crop=selection.crop,
            size=selection.size,
            max_frames=selection.frames,
            start=selection.start,
            end=selection.end,
            bit_depth=8,
            allow_damaged=allow_damaged,
        )
        try:
            self.digest = file_digest(*found.files)
        except OSError as exc:
            raise InputVideoError(f"{found}: cannot be read ({exc.strerror or exc})") from exc
        self._held: list[Frame] | None = None
        self.count = self._first_reading()

    def _first_reading(self) -> int:
        """Count the frames, and keep them while they are few."""
        limit = HELD_BYTES // (3 * self.width * self.height)
        held: list[Frame] = []
        count = 0
        for frame in self._reader:
            count += 1
            if count <= limit:
                held.append(frame.rgb)
        if count <= limit:
            self._held = held
        if self.selection.frames is not None and count != self.selection.frames:
            raise UsageError(
                f"{self.path}: has {count} of the {self.selection.frames} frames to compare"
            )
        return count

    def __iter__(self) -> Iterator[Frame]:
        if self._held is not None:
            yield from self._held
        else:
            yield from (frame.rgb for frame in self._reader)

    @property
    def width(self) -> int:
        return self._reader.out_width

    @property
    def height(self) -> int:
        return self._reader.out_height

    @property
    def color(self) -> ColorInfo:
        return self._reader.info.color

    @property
    def frame_rate(self) -> Fraction:
        """The source's average; all codecs are told this one."""
        return self._reader.info.frame_rate or FALLBACK_RATE

    @property
    def seconds(self) -> float:
        return float(self.count / self.frame_rate)

    @property
    def described(self) -> dict[str, Any]:
        """What tells these frames from others, as JSON has it."""
        info, color = self._reader.info, asdict(self.color)
        chosen = {k: v for k, v in asdict(self.selection).items() if v is not None}
        for name in ("start", "end"):
            if name in chosen:
                chosen[name] = chosen[name].total_seconds()
        return {
            "name": self.path.name,
            "digest": self.digest,
            "codec": info.codec,
            "pixel_format": info.pix_fmt,
            "source_size": [info.width, info.height],
            "width": self.width,
            "height": self.height,
            "frames": self.count,
            "frame_rate": str(self.frame_rate),
            "color": color,
            "selection": {k: list(v) if isinstance(v, tuple) else v for k, v in chosen.items()},
        }
