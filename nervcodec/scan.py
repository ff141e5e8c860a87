"""The first reading of a source: what is to be known of a clip before its networks are made.

Frames are not kept: :mod:`nervcodec.coder` reads them again, a segment at a time.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise

from nervcodec.bitstream.syntax import MAX_RATIONAL
from nervcodec.config import EncodeConfig
from nervcodec.errors import InputVideoError
from nervcodec.samples import sample_type
from nervcodec.segments import SampleVariance, SegmentPlan, plan_segments
from nervcodec.video.reader import VideoReader
from nervcodec.video.scenes import SceneDetector


@dataclass(frozen=True)
class ScannedClip:
    """What the first reading found out.

    Attributes:
        pts: of all frames, 8 bytes each.
        cuts: frames that begin a scene, where they were asked for.
        variance: of the samples, 16 bytes a frame.
        warnings: of the reading.
        origin: seconds in the source that are 0 in the file.
    """

    pts: array[int]
    cuts: list[int]
    variance: SampleVariance
    warnings: tuple[str, ...]
    origin: Fraction


def scan(reader: VideoReader, config: EncodeConfig, check: Callable[[], None]) -> ScannedClip:
    """Read the whole clip once; ``check`` is called for each frame and may raise.

    Raises:
        InputVideoError: if there is no frame, and what the reader raises.
    """
    pts, cuts = array("q"), list[int]()
    detector = None
    if config.scene_cut is not None:
        size = (reader.out_width, reader.out_height)
        detector = SceneDetector(*size, config.scene_cut, reader.bit_depth)
    variance = SampleVariance()
    for frame in reader:
        check()
        variance.add(frame.rgb)
        if detector is not None and detector.begins_scene(frame.rgb):
            cuts.append(len(pts))
        pts.append(frame.pts)
    if not pts:
        raise InputVideoError(f"{reader.name}: no frame could be decoded")
    origin = Fraction(0)
    if config.start is not None:
        origin = pts[0] * reader.info.time_base
        pts = array("q", (time - pts[0] for time in pts))
    return ScannedClip(pts, cuts, variance, tuple(reader.warnings), origin)


def plan_clip(clip: ScannedClip, reader: VideoReader, config: EncodeConfig) -> SegmentPlan:
    """The segments that the clip is cut into."""
    keyint, frames, ticks = config.keyint, None, None
    if isinstance(keyint, timedelta):
        microseconds = keyint // timedelta(microseconds=1)
        ticks = max(1, round(Fraction(microseconds, 1_000_000) / reader.info.time_base))
    else:
        frames = keyint
    return plan_segments(
        clip.pts,
        reader.out_width,
        reader.out_height,
        keyint=frames,
        ticks=ticks,
        cuts=clip.cuts,
        sample_bytes=sample_type(reader.bit_depth).itemsize,
    )


def common_step(pts: Sequence[int], reader: VideoReader) -> int:
    """The most frequent step between frames, in ticks; one frame lasts as the rate says."""
    steps = Counter(after - before for before, after in pairwise(pts))
    if steps:
        step = min(steps, key=lambda value: (-steps[value], value))
    else:
        rate = reader.info.frame_rate or Fraction(25)
        step = round(1 / (rate * reader.info.time_base))
    return min(MAX_RATIONAL, max(1, step))


def end_of(pts: Sequence[int], reader: VideoReader) -> Fraction:
    """When the last of some frames ends, in seconds."""
    return Fraction(pts[-1] + common_step(pts, reader)) * reader.info.time_base
