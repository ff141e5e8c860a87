"""Quality of decoded frames by several measures; rates are beside it in :mod:`.points`.

PSNR and MS-SSIM are those of :mod:`nervcodec.metrics`; SSIM, XPSNR and VMAF are libavfilter's,
where the PyAV at hand has them.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from av.error import FFmpegError
from av.filter import Graph, filters_available
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from nervcodec.errors import HfsvError
from nervcodec.metrics import MS_SSIM_MIN_SIDE, PSNR_CAP, YcbcrStatistics, ms_ssim, psnr
from nervcodec.video.errors_av import cause
from nervcodec.video.planes import planes_of

METRICS = ("psnr", "ssim", "ms-ssim", "xpsnr", "vmaf")
"""As a user names them. PSNR is always measured, in RGB and in Y'CbCr."""

FILTERS = {"ssim": "ssim", "xpsnr": "xpsnr", "vmaf": "libvmaf"}
"""The filter of libavfilter behind a metric."""


@dataclass(frozen=True)
class Quality:
    """Means over the frames.

    Attributes:
        values: ``psnr`` (RGB), ``psnr_611``, ``psnr_y``, ``psnr_cb``, ``psnr_cr`` in dB, and of
            those asked for ``ms_ssim``, ``ssim`` (0 to 1), ``xpsnr`` (dB), ``vmaf`` (0 to 100).
        frame_psnr: RGB PSNR of each frame in dB, at most 100.
    """

    values: dict[str, float]
    frame_psnr: tuple[float, ...]


def left_out(metrics: Sequence[str], width: int, height: int) -> dict[str, str]:
    """Why some of ``metrics`` cannot be had here, by their names."""
    reasons = {
        name: f"the PyAV at hand was built without FFmpeg's filter {FILTERS[name]}"
        for name in metrics
        if name in FILTERS and FILTERS[name] not in filters_available
    }
    if "ms-ssim" in metrics and min(width, height) < MS_SSIM_MIN_SIDE:
        reasons["ms-ssim"] = f"not defined for a side below {MS_SSIM_MIN_SIDE} samples"
    return reasons


class QualityMeter:
    """Gathers :class:`Quality` frame by frame.

    Args:
        metrics: of :data:`METRICS`, those that :func:`left_out` does not name.
        size: width and height of the frames.
        pixel_format: of the frames in Y'CbCr.
        frame_rate: which XPSNR looks at.

    Raises HfsvError if a filter fails.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        size: tuple[int, int],
        pixel_format: str,
        frame_rate: Fraction,
    ) -> None:
        self._frame_psnr: list[float] = []
        self._ycbcr = YcbcrStatistics()
        self._ms_ssim: list[float] | None = [] if "ms-ssim" in metrics else None
        source = (
            f"video_size={size[0]}x{size[1]}:pix_fmt={pixel_format}:time_base={1 / frame_rate}"
            f":frame_rate={frame_rate}:pixel_aspect=1/1"
        )
        self._filters: list[_Filter] = []
        if "ssim" in metrics:
            self._filters.append(_TaggedFilter("ssim", source, {"lavfi.ssim.All": 1}))
        if "xpsnr" in metrics:
            planes = {f"lavfi.xpsnr.xpsnr.{p}": w for p, w in zip("yuv", (6, 1, 1), strict=True)}
            self._filters.append(_TaggedFilter("xpsnr", source, planes))
        if "vmaf" in metrics:
            self._filters.append(_Vmaf(source))

    def add(
        self,
        reference: tuple[NDArray[np.uint8], VideoFrame],
        decoded: tuple[NDArray[np.uint8], VideoFrame],
    ) -> None:
        """One more frame of either, in RGB (H, W, 3) and in Y'CbCr."""
        self._frame_psnr.append(min(psnr(reference[0], decoded[0]), PSNR_CAP))
        self._ycbcr.add(planes_of(reference[1]), planes_of(decoded[1]))
        if self._ms_ssim is not None:
            similarity = ms_ssim(reference[0], decoded[0])
            assert similarity is not None, "left_out names MS-SSIM for such frames"
            self._ms_ssim.append(similarity)
        for chosen in self._filters:
            chosen.add(reference[1], decoded[1])

    def finish(self) -> Quality:
        """The means of all frames so far, of which there must be one; nothing is added after."""
        luma, blue, red = self._ycbcr.components
        values = {
            "psnr": float(np.mean(self._frame_psnr)),
            "psnr_611": self._ycbcr.psnr,
            "psnr_y": luma,
            "psnr_cb": blue,
            "psnr_cr": red,
        }
        if self._ms_ssim is not None:
            values["ms_ssim"] = float(np.mean(self._ms_ssim))
        for chosen in self._filters:
            values[chosen.name] = chosen.finish()
        return Quality(values, tuple(self._frame_psnr))


class _Filter(Protocol):
    name: str

    def add(self, reference: VideoFrame, decoded: VideoFrame) -> None: ...

    def finish(self) -> float: ...


class _Comparing:
    """A graph of one filter that takes the decoded frames and the reference, in that order.

    XPSNR, whose weights are those of its first input, takes them the other way round.
    """

    def __init__(self, name: str, options: str, source: str) -> None:
        kind = FILTERS[name]
        self._reference_first = name == "xpsnr"
        self._count = 0
        try:
            self._graph = Graph()
            self._ends = [self._graph.add("buffer", source) for _ in range(2)]
            comparing = self._graph.add(kind, options)
            self._sink = self._graph.add("buffersink")
            for place, end in enumerate(self._ends):
                end.link_to(comparing, 0, place)
            comparing.link_to(self._sink)
            self._graph.configure()
        except (FFmpegError, ValueError) as exc:
            raise HfsvError(f"FFmpeg's filter {kind} cannot be set up: {exc}") from exc

    def push(self, reference: VideoFrame, decoded: VideoFrame) -> None:
        pair = (reference, decoded) if self._reference_first else (decoded, reference)
        for end, frame in zip(self._ends, pair, strict=True):
            end.push(_stamped(frame, self._count))
        self._count += 1

    def pull(self) -> VideoFrame | None:
        try:
            frame = self._sink.pull()
        except (BlockingIOError, EOFError):
            return None
        assert isinstance(frame, VideoFrame)
        return frame

    def end(self) -> None:
        for end in self._ends:
            end.push(None)


def _stamped(frame: VideoFrame, index: int) -> VideoFrame:
    """The same picture with its index as time and without any tags that differ between codecs."""
    copy = VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    copy.pts = index
    return copy


class _TaggedFilter:
    """A filter that leaves its values, by frame, in tags; each has its weight."""

    def __init__(self, name: str, source: str, weights: dict[str, int]) -> None:
        self.name = name
        self._weights = weights
        self._comparing = _Comparing(name, "", source)
        self._sums: list[float] = []

    def add(self, reference: VideoFrame, decoded: VideoFrame) -> None:
        try:
            self._comparing.push(reference, decoded)
            self._collect()
        except FFmpegError as exc:
            raise HfsvError(f"FFmpeg's filter {FILTERS[self.name]} fails: {cause(exc)}") from exc

    def _collect(self) -> None:
        while (frame := self._comparing.pull()) is not None:
            tags = frame.metadata
            found = sum(w * _capped(float(tags[key])) for key, w in self._weights.items())
            self._sums.append(found / sum(self._weights.values()))

    def finish(self) -> float:
        self._comparing.end()
        self._collect()
        return float(np.mean(self._sums))


def _capped(value: float) -> float:
    return value if math.isfinite(value) else PSNR_CAP


class _Vmaf:
    """VMAF's default model, whose mean stands in a log that is whole when the graph is gone."""

    name = "vmaf"

    def __init__(self, source: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hfsv-")
        self._log = Path(self._folder.name) / "vmaf.json"
        options = f"log_fmt=json:log_path={self._log}"
        self._comparing: _Comparing | None = _Comparing("vmaf", options, source)

    def add(self, reference: VideoFrame, decoded: VideoFrame) -> None:
        assert self._comparing is not None
        self._comparing.push(reference, decoded)
        while self._comparing.pull() is not None:
            pass

    def finish(self) -> float:
        assert self._comparing is not None
        self._comparing.end()
        while self._comparing.pull() is not None:
            pass
        self._comparing = None
        pooled = json.loads(self._log.read_text())["pooled_metrics"]
        self._folder.cleanup()
        return float(pooled["vmaf"]["mean"])
