"""One RGB frame as a PNG file; :mod:`.writer` writes videos."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from nervcodec.errors import OutputError
from nervcodec.video.errors_av import AV_ERRORS, cause


def png(rgb: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file with exactly these samples, uint8 (H, W, 3).

    Raises:
        OutputError: if FFmpeg's encoder refuses, as for a frame too large for its memory.
    """
    height, width = rgb.shape[:2]
    try:
        encoder = CodecContext.create("png", "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "rgb24"
        encoder.time_base = Fraction(1)
        # Unset, it would be written as samples of no width.
        encoder.sample_aspect_ratio = Fraction(1)
        encoder.thread_count = 1
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()])
    except AV_ERRORS as exc:
        raise OutputError(f"PNG at {width}x{height}: {cause(exc)}") from exc
