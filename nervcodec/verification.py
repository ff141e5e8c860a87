"""Checking a .hfsv file: its checksums and symbols, its reference frames, its source.

Frames come from :mod:`nervcodec.decoder`, measures from :mod:`nervcodec.metrics`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from nervcodec.decoder import FrameCallback, HfsvFile
from nervcodec.errors import BitstreamError, UsageError
from nervcodec.inference import FramesDigest
from nervcodec.metrics import FrameStatistics
from nervcodec.video.reader import VideoReader


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify` found; the measures are None where they were not asked for.

    ``psnr`` and ``ms_ssim`` are means over frames in RGB against the source.
    """

    segments: int
    frames: int
    frames_checked: bool
    psnr: float | None
    lowest_psnr: float | None
    ms_ssim: float | None


def verify(
    path: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    frames: bool = False,
    device: str = "auto",
    progress: FrameCallback | None = None,
) -> VerifyReport:
    """Check every checksum and symbol; optionally the reference frames, or against the source.

    Args:
        source: the video the file was made of; its frames are cropped and scaled as META says
            the encoder did.
        frames: evaluate every frame in float64 and compare with HASH.

    Raises:
        BitstreamError: on any mismatch. InputVideoError, UsageError: if ``source`` is unfit.
    """
    with HfsvFile(path, device=device) as file:
        for number in range(len(file.reader.segments)):
            file.reader.segment(number)
            if frames:
                _check_reference(file, number, progress)
        statistics = None
        if source is not None:
            statistics = _compare(file, source, progress)
        return VerifyReport(
            segments=len(file.reader.segments),
            frames=len(file),
            frames_checked=frames,
            psnr=statistics.psnr if statistics else None,
            lowest_psnr=statistics.lowest_psnr if statistics else None,
            ms_ssim=statistics.ms_ssim if statistics else None,
        )


def _check_reference(file: HfsvFile, number: int, progress: FrameCallback | None) -> None:
    if file.reader.digests is None:
        raise BitstreamError(f"{file.path}: holds no hashes of its frames")
    digest = FramesDigest()
    first = file.reader.segments[number].first_frame
    for offset, frame in enumerate(file.reference_frames(number)):
        digest.add(frame)
        if progress is not None:
            progress(first + offset + 1, len(file))
    if digest.digest() != file.reader.digests[number]:
        raise BitstreamError(f"{file.path}: the frames of segment {number} do not match HASH")


def _compare(
    file: HfsvFile, source: str | os.PathLike[str], progress: FrameCallback | None
) -> FrameStatistics:
    statistics = FrameStatistics()
    crop = _stored_crop(file)
    size = (file.width, file.height)
    with VideoReader(source, crop=crop, size=size, max_frames=len(file)) as reader:
        decoded = iter(file)
        for original in reader:
            statistics.add(original.rgb, next(decoded))
            if progress is not None:
                progress(statistics.frames, len(file))
    if statistics.frames != len(file):
        raise UsageError(f"{source}: has {statistics.frames} frames, {file.path} has {len(file)}")
    return statistics


def _stored_crop(file: HfsvFile) -> tuple[int, int] | None:
    """The crop that META records, if it is one."""
    crop = file.reader.meta.get("crop")
    match crop:
        case [int(width), int(height)] if min(width, height) > 0:
            return width, height
    return None
