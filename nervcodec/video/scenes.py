"""Finding scene cuts with FFmpeg's scdet, which compares each frame with the one before."""

from __future__ import annotations

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from nervcodec.samples import Frames, convert_depth

_SCORE = "lavfi.scd.score"

_COLUMNS = 32
"""scdet compares this many columns at a time, behind the picture's edge whatever lies there."""


class SceneDetector:
    """Fed a clip's frames in order, it says which of them begin a new scene.

    Args:
        width, height: of the frames.
        threshold: how different, in percent, two frames must be; FFmpeg's default is 10.
        bit_depth: of the frames' samples.
    """

    def __init__(self, width: int, height: int, threshold: float, bit_depth: int = 8) -> None:
        self._bit_depth = bit_depth
        self._margin = -width % _COLUMNS
        self._graph = Graph()
        size = f"video_size={width + self._margin}x{height}:pix_fmt=rgb24:time_base=1/1"
        self._source = self._graph.add("buffer", size)
        detector = self._graph.add("scdet", "threshold=0")
        self._sink = self._graph.add("buffersink")
        self._source.link_to(detector)
        detector.link_to(self._sink)
        self._graph.configure()
        self._threshold = threshold
        self._frames = 0

    def begins_scene(self, rgb: Frames) -> bool:
        """Whether the next frame, (height, width, 3), is the first of a scene."""
        rgb = convert_depth(rgb, self._bit_depth, 8)
        whole = np.pad(rgb, ((0, 0), (0, self._margin), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(whole, format="rgb24")
        frame.pts = self._frames
        self._frames += 1
        self._source.push(frame)
        score = float(self._sink.pull().metadata[_SCORE])
        return self._frames > 1 and score >= self._threshold
