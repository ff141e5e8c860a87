"""One RGB frame as a PNG file; :mod:`.writer` writes videos."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from nervcodec.errors import OutputError
from nervcodec.samples import Frames, peak
from nervcodec.video.errors_av import AV_ERRORS, cause


def png(rgb: Frames, bit_depth: int = 8) -> bytes:
    """The bytes of a PNG file with exactly these samples, (H, W, 3).

    More than 8 bits are scaled to 16 and rounded, so that the samples can be had back.

    Raises:
        OutputError: if FFmpeg's encoder refuses, as for a frame too large for its memory.
    """
    height, width = rgb.shape[:2]
    try:
        frame = _frame(rgb, bit_depth)
        encoder = CodecContext.create("png", "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, frame.format.name
        encoder.time_base = Fraction(1)
        # Unset, it would be written as samples of no width.
        encoder.sample_aspect_ratio = Fraction(1)
        encoder.thread_count = 1
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()])
    except AV_ERRORS as exc:
        raise OutputError(f"PNG at {width}x{height}: {cause(exc)}") from exc


def _frame(rgb: Frames, bit_depth: int) -> VideoFrame:
    if bit_depth == 8:
        return VideoFrame.from_ndarray(rgb, format="rgb24")
    deep = sixteen_bits(rgb, bit_depth)
    return VideoFrame.from_ndarray(deep, format="rgb48le").reformat(format="rgb48be")


def sixteen_bits(rgb: Frames, bit_depth: int) -> npt.NDArray[np.uint16]:
    """Samples scaled from one largest value to the other and rounded."""
    scaled = rgb * np.float32(65535 / peak(bit_depth)) + np.float32(0.5)
    return scaled.astype(np.uint16)
