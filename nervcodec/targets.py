"""What a clip is rendered to: a video file, frames in a file or a pipe, pictures in a folder.

:mod:`nervcodec.decoder` renders; the writers are in :mod:`nervcodec.video`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from nervcodec.errors import OutputError, UsageError
from nervcodec.files import atomic_folder, atomic_output, check_folder, check_output
from nervcodec.video.formats import (
    CONTAINERS,
    DEFAULT_CRF,
    DEFAULT_PRESET,
    OutputFormat,
    output_format,
)
from nervcodec.video.uncompressed import picture_name

Y4M, RAW, PNG = "y4m", "raw", "png"
FORMATS = (*(suffix[1:] for suffix in CONTAINERS), Y4M, RAW, PNG)
"""Names of what can be written."""

_SUFFIXES = {".y4m": Y4M, ".rgb": RAW}

_OUR_PICTURE = re.compile(r"[0-9]{5,}\.png")

Output: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A path, of a folder if it is one or ends in a slash; or an open binary stream."""


@dataclass(frozen=True)
class Target:
    """Where frames go.

    Attributes:
        output: a path, or a stream that takes the frames as they are made.
        kind: :data:`Y4M`, :data:`RAW`, :data:`PNG`, or empty for a video file.
        video: the format of a video file; None for the others.
    """

    output: Path | BinaryIO
    kind: str
    video: OutputFormat | None = None

    def check(self, source: Path | None, overwrite: bool) -> None:
        """Refuse a path at which nothing may be written.

        Args:
            source: the input; None for a pipe.

        Raises:
            UsageError, OutputExistsError, OutputError
        """
        if not isinstance(self.output, Path):
            return
        if self.kind == PNG:
            check_folder(self.output, overwrite)
        else:
            check_output(source, self.output, overwrite)

    @contextmanager
    def open(self) -> Iterator[Path | BinaryIO]:
        """What to write to: a path that becomes the output on success, or a stream.

        A reader that closes its end of a pipe shows as BrokenPipeError.

        Raises:
            OutputError: where the system refuses.
        """
        if not isinstance(self.output, Path):
            with _translated():
                yield self.output
        elif self.kind == PNG:
            with atomic_folder(self.output) as folder:
                yield folder
        else:
            with atomic_output(self.output) as path:
                if self.video is not None:
                    yield path
                else:
                    with path.open("wb") as stream:
                        yield stream

    def older_pictures(self, count: int) -> tuple[str, ...]:
        """A warning if pictures named like the ``count`` new ones lie behind them."""
        if self.kind != PNG or not isinstance(self.output, Path):
            return ()
        new = {picture_name(number) for number in range(1, count + 1)}
        names = (path.name for path in self.output.iterdir())
        older = sorted(n for n in names if _OUR_PICTURE.fullmatch(n) and n not in new)
        return (f"{self.output} holds older pictures too, such as {older[0]}",) if older else ()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(f"the frames cannot be written ({exc.strerror or exc})") from exc


def choose_target(
    output: Output,
    kind: str | None,
    codec: str | None,
    *,
    crf: int = DEFAULT_CRF,
    preset: str = DEFAULT_PRESET,
    bit_depth: int | None = None,
) -> Target:
    """The target by a name of :data:`FORMATS`, or None: by the output's suffix; y4m to a stream.

    Raises:
        UsageError: if the output cannot take that format, or the format that codec.
    """
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"unknown format {kind}, it is one of {' '.join(FORMATS)}")
    if not isinstance(output, (str, os.PathLike)):
        kind = kind or Y4M
        if kind not in (Y4M, RAW):
            raise UsageError(f"{kind} cannot be written to a pipe; y4m and raw can")
        return Target(output, _without_codec(kind, codec))
    path = Path(output)
    kind = kind or _kind(os.fspath(output))
    if kind in (Y4M, RAW, PNG):
        return Target(path, _without_codec(kind, codec))
    name = f"{path.stem or path}.{kind}"
    return Target(path, "", output_format(name, codec, crf=crf, preset=preset, bit_depth=bit_depth))


def _kind(output: str) -> str:
    path = Path(output)
    if output.endswith(os.sep) or os.path.isdir(path):
        return PNG
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        return suffix[1:]
    if suffix not in _SUFFIXES:
        known = " ".join((*CONTAINERS, *_SUFFIXES))
        raise UsageError(
            f"{path}: unknown kind of output, name it one of {known}, or a folder for PNG: name/"
        )
    return _SUFFIXES[suffix]


def _without_codec(kind: str, codec: str | None) -> str:
    if codec is not None:
        raise UsageError(f"{kind} is not compressed by {codec}")
    return kind
