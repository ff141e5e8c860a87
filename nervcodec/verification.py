"""Checking a .hfsv file: its checksums and symbols, its reference frames, its source, its damage.

Frames come from :mod:`nervcodec.decoder`, measures from :mod:`nervcodec.metrics`.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from nervcodec.bitstream.salvage import SalvageReader, SegmentRun, few
from nervcodec.bitstream.stream import open_stream
from nervcodec.bitstream.survey import Damage, Survey
from nervcodec.bitstream.tensors import Limits
from nervcodec.config import RawFormat
from nervcodec.decoder import FrameCallback, HfsvFile, color_info
from nervcodec.errors import BitstreamError, UsageError
from nervcodec.inference import FramesDigest
from nervcodec.metrics import FrameStatistics, YcbcrStatistics
from nervcodec.video.inputs import find_source
from nervcodec.video.planes import rgb_to_planes
from nervcodec.video.reader import VideoReader

MAX_START = 1 << 53
"""Microseconds that META may state as a start."""


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify` found; the measures are None where they were not asked for.

    ``psnr`` and ``ms_ssim`` are means over frames in RGB against the source, ``psnr_611`` is that
    of the Y'CbCr made of both, in the file's matrix and range and in 4:2:0 unless a side is odd,
    weighted 6:1:1.
    """

    segments: int
    frames: int
    frames_checked: bool
    psnr: float | None
    psnr_611: float | None
    lowest_psnr: float | None
    ms_ssim: float | None


@dataclass(frozen=True)
class DamageReport:
    """What :func:`examine` found.

    Attributes:
        damage: the damaged parts of the file in order.
        segments: all segments, whole and lost, in runs; empty where nothing can be salvaged.
        hindrance: why nothing can be salvaged, else None.
    """

    damage: tuple[Damage, ...]
    segments: tuple[SegmentRun, ...]
    hindrance: str | None

    @property
    def sound(self) -> bool:
        """Whether the file has no fault, of its frames as of everything else."""
        return not self.damage and all(run.whole for run in self.segments)

    @property
    def salvageable(self) -> bool:
        """Whether some segment still decodes."""
        return any(run.whole for run in self.segments)


def examine(path: str | os.PathLike[str], *, limits: Limits | None = None) -> DamageReport:
    """Find out what is damaged in a file, and which segments still decode.

    Raises:
        BitstreamError: if it is missing or no ``.hfsv`` file at all.
    """
    with open_stream(Path(path)) as stream:
        survey = Survey(stream)
        try:
            runs, hindrance = SalvageReader(survey, limits or Limits()).runs, None
        except BitstreamError as exc:
            runs, hindrance = [], str(exc)
        return DamageReport(tuple(survey.damage), tuple(runs), hindrance)


def verify(
    path: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    allow_damaged: bool = False,
    raw: RawFormat | None = None,
    frames: bool = False,
    device: str = "auto",
    progress: FrameCallback | None = None,
    limits: Limits | None = None,
) -> VerifyReport:
    """Check every checksum and symbol; optionally the reference frames, or against the source.

    Args:
        source: the video the file was made of; its frames are cropped and scaled as META says
            the encoder did, and begin where it began.
        allow_damaged: as it was in :class:`nervcodec.EncodeConfig`.
        raw: the layout of ``source`` if it is raw video.
        frames: evaluate every frame in float64 and compare with HASH.
        limits: what the file may ask for.

    Raises:
        BitstreamError: on any mismatch; of frames, it names all segments concerned.
        InputVideoError, UsageError: if ``source`` is unfit.
    """
    with HfsvFile(path, device=device, limits=limits, cache_bytes=0) as file:
        if frames or source is not None:
            file.check_clip_limits()
        mismatched: list[int] = []
        for number in range(len(file.reader.segments)):
            file.reader.segment(number)
            if frames and not _matches_hash(file, number, progress):
                mismatched.append(number)
        if mismatched:
            raise BitstreamError(
                f"{file.path}: the frames of {_named(mismatched)} do not match HASH"
            )
        statistics = ycbcr = None
        if source is not None:
            layout = None if raw is None else raw.layout
            reader = VideoReader(
                find_source(source, raw=layout),
                crop=stored_crop(file),
                size=(file.width, file.height),
                max_frames=len(file),
                start=stored_start(file),
                bit_depth=file.bit_depth,
                allow_damaged=allow_damaged,
            )
            statistics, ycbcr = _compare(file, reader, source, progress)
        return VerifyReport(
            segments=len(file.reader.segments),
            frames=len(file),
            frames_checked=frames,
            psnr=statistics.psnr if statistics else None,
            psnr_611=ycbcr.psnr if ycbcr else None,
            lowest_psnr=statistics.lowest_psnr if statistics else None,
            ms_ssim=statistics.ms_ssim if statistics else None,
        )


def _matches_hash(file: HfsvFile, number: int, progress: FrameCallback | None) -> bool:
    if file.reader.digests is None:
        raise BitstreamError(f"{file.path}: holds no hashes of its frames")
    digest = FramesDigest()
    first = file.reader.segments[number].first_frame
    for offset, frame in enumerate(file.reference_frames(number)):
        digest.add(frame)
        if progress is not None:
            progress(first + offset + 1, len(file))
    return digest.digest() == file.reader.digests[number]


def _named(segments: list[int]) -> str:
    """Rising numbers of segments for a person: segments 1, 3..5."""
    parts = []
    for _, run in itertools.groupby(enumerate(segments), lambda item: item[1] - item[0]):
        numbers = [number for _, number in run]
        first, last = numbers[0], numbers[-1]
        parts.append(str(first) if first == last else f"{first}..{last}")
    return ("segment " if len(segments) == 1 else "segments ") + ", ".join(few(parts))


def _compare(
    file: HfsvFile,
    reader: VideoReader,
    source: str | os.PathLike[str],
    progress: FrameCallback | None,
) -> tuple[FrameStatistics, YcbcrStatistics]:
    color, depth = color_info(file.header), file.bit_depth
    statistics, ycbcr = FrameStatistics(bit_depth=depth), YcbcrStatistics(depth)
    with reader:
        decoded = iter(file)
        for original in reader:
            frame = next(decoded)
            statistics.add(original.rgb, frame)
            ycbcr.add(*(rgb_to_planes(rgb, color, depth) for rgb in (original.rgb, frame)))
            if progress is not None:
                progress(statistics.frames, len(file))
    if statistics.frames != len(file):
        raise UsageError(f"{source}: has {statistics.frames} frames, {file.path} has {len(file)}")
    return statistics, ycbcr


def stored_crop(file: HfsvFile) -> tuple[int, int] | None:
    """The crop that META records, if it is one."""
    crop = file.reader.meta.get("crop")
    if isinstance(crop, list) and [type(side) for side in crop] == [int, int] and min(crop) > 0:
        return crop[0], crop[1]
    return None


def stored_start(file: HfsvFile) -> timedelta | None:
    """Where in the source META says that the clip begins."""
    start = file.reader.meta.get("start")
    if type(start) is not int or not 0 <= start < MAX_START:
        return None
    return timedelta(microseconds=start)
