"""How many bits pictures take at a quality, as x264 finds it in seconds.

:mod:`nervcodec.planning` guesses from it how large a network must be to reach that quality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from av import FFmpegError
from av.codec import codecs_available
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from nervcodec.samples import Frames
from nervcodec.video.color import decide_color, frame_to_rgb, rgb_to_frame
from nervcodec.video.info import UNSPECIFIED, ColorInfo
from nervcodec.video.planes import coded_format

CRFS = (10, 18, 26, 34, 42)
"""Of the curve: from nearly lossless to hardly recognisable."""

LEAST_ERROR = 1e-4
"""Mean square of a frame that is the same."""

THREADS = 4
"""The guess shapes the network, and so the file: it must not depend on the machine's cores. For
the same reason x264 does without its macroblock tree, whose code for AVX-512 makes other bytes from
run to run (64x48, 208x120; not without B-frames, nor with AVX2); 5 % more bytes without it."""

ENCODER, DECODER = "libx264", "h264"


def bits_per_pixel_at(frames: Sequence[Frames], psnr: float, bit_depth: int = 8) -> float | None:
    """Bits a pixel that x264 takes for a mean RGB PSNR in dB, beyond its curve those of its ends.

    Args:
        frames: one after the other, (H, W, 3) each; more than 8 bits are cut to 8.

    Returns:
        None where there is no x264, or the frames are not for it.
    """
    if not {ENCODER, DECODER} <= set(codecs_available):
        return None
    clip = [(frame >> (bit_depth - 8)).astype(np.uint8) for frame in frames]
    pixels = sum(math.prod(frame.shape[:2]) for frame in clip)
    try:
        points = sorted(_point(clip, crf) for crf in CRFS)
    except (FFmpegError, OverflowError):
        return None
    return _between(points, psnr) * 8 / pixels


def _between(points: Sequence[tuple[float, int]], psnr: float) -> float:
    """Bytes at ``psnr``, by their logarithm along points (PSNR, bytes) in order."""
    for (low, fewer), (high, more) in pairwise(points):
        if low < high and psnr <= high:
            share = max(0.0, (psnr - low) / (high - low))
            return fewer * math.exp(share * math.log(more / fewer))
    return points[-1][1]


def _point(frames: Sequence[Frames], crf: int) -> tuple[float, int]:
    """PSNR and bytes of x264's packets."""
    height, width = frames[0].shape[:2]
    color = decide_color((UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, 0), VideoFormat("yuv420p"), height)
    encoder = _context(ENCODER, "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = coded_format(width, height)
    encoder.framerate = Fraction(25)
    encoder.thread_type = "AUTO"  # slice threads would cost bytes
    encoder.thread_count = THREADS
    encoder.options = {"crf": str(crf), "mbtree": "0"}
    packets = []
    for number, frame in enumerate(frames):
        picture = rgb_to_frame(frame, encoder.pix_fmt, color)
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    pairs = zip(frames, _decoded(packets, color), strict=True)
    errors = [np.square(np.subtract(a, b, dtype=np.float32)).mean() for a, b in pairs]
    psnr = np.mean(-10 * np.log10(np.maximum(errors, LEAST_ERROR) / 255**2))
    return float(psnr), sum(packet.size for packet in packets)


def _decoded(packets: Sequence[Packet[Any]], color: ColorInfo) -> Iterator[Frames]:
    decoder = _context(DECODER, "r")
    for packet in (*packets, None):
        for picture in decoder.decode(packet):
            yield frame_to_rgb(picture, color)


def _context(name: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    context = CodecContext.create(name, mode)
    assert isinstance(context, VideoCodecContext)
    return context
