"""Frames as the planes Y', Cb and Cr that conventional codecs code; :mod:`.color` converts."""

from __future__ import annotations

from typing import TypeAlias

from av.video.frame import VideoFrame

from nervcodec.samples import Frames
from nervcodec.video.color import rgb_to_frame, samples_of
from nervcodec.video.info import ColorInfo

Planes: TypeAlias = tuple[Frames, Frames, Frames]
"""Y' (H, W), Cb and Cr, in 4:2:0 of half the height and width."""


def coded_format(width: int, height: int, bit_depth: int = 8) -> str:
    """The pixel format of that size: 4:2:0, or 4:4:4 where an odd side cannot be halved."""
    layout = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    return layout if bit_depth == 8 else f"{layout}{bit_depth}le"


def planes_of(frame: VideoFrame, bit_depth: int = 8) -> Planes:
    """Views of the planes of a frame in 4:2:0 or 4:4:4."""
    luma, blue, red = (samples_of(frame, index, bit_depth) for index in range(3))
    return luma, blue, red


def rgb_to_planes(rgb: Frames, color: ColorInfo, bit_depth: int = 8) -> Planes:
    """The planes that an encoder is given of an RGB frame (H, W, 3); raises what PyAV raises."""
    height, width = rgb.shape[:2]
    frame = rgb_to_frame(rgb, coded_format(width, height, bit_depth), color, bit_depth)
    return planes_of(frame, bit_depth)
