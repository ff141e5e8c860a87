"""Rate-distortion points of x264, x265 and SVT-AV1, which :mod:`.encoders` describes.

The encoders run in memory with a preset and a CRF and nothing else changed: B-frames, look-ahead
and psychovisual tuning as they come. The colour conversions are those of :mod:`nervcodec.video`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av import FFmpegError
from av.codec.context import CodecContext, Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from nervcodec.compare.encoders import PRESETS, Encoder, find_encoder
from nervcodec.errors import UsageError
from nervcodec.metrics import FrameStatistics, YcbcrStatistics
from nervcodec.video.color import decide_color, frame_to_rgb, rgb_to_frame
from nervcodec.video.errors_av import cause
from nervcodec.video.info import UNSPECIFIED, ColorInfo
from nervcodec.video.planes import coded_format, planes_of, rgb_to_planes

_FIRST_CRF = 30
_HALVING = 6
"""Steps of CRF that halve the bytes, more or less, in all encoders here."""

_GUESSES = 7
"""Encodes of a search before it turns to bisection, which takes 9 more at most."""

_CLOSE_ENOUGH = 1.005
"""Ratio to the target at which the search ends: less than half a tenth of CRF."""


@dataclass(frozen=True)
class AnchorPoint:
    """One measured point of a conventional codec.

    ``bytes`` is the sum of the video packets alone (see :class:`EncodedStream`), ``psnr`` the
    mean over the frames of their RGB PSNR in dB, ``ms_ssim`` None where it was left out or is
    not defined. ``psnr_611`` is the PSNR of Y'CbCr weighted 6:1:1, of the planes that come out
    of the decoder against those that the encoder was given. The seconds are wall-clock and
    include the conversion from and to RGB: encoding with all threads, decoding on one.
    """

    codec: str
    preset: str
    crf: float
    bytes: int
    psnr: float
    psnr_611: float
    ms_ssim: float | None
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class EncodedStream:
    """A coded clip before it is measured: its packets in coding order and how they came about.

    ``extradata`` holds the parameter sets, which a container stores once; x265 adds 2.3 kB of
    text about its settings there. x264 puts its text (0.7 kB) in the first packet.
    """

    codec: str
    preset: str
    crf: float
    color: ColorInfo
    packets: tuple[Packet[Any], ...]
    extradata: bytes
    seconds: float

    @property
    def size(self) -> int:
        """Bytes of the packets, without ``extradata`` and without any container."""
        return sum(packet.size for packet in self.packets)


def encode_anchor(
    frames: Iterable[NDArray[np.uint8]],
    codec: str,
    preset: str,
    crf: float,
    frame_rate: Fraction | int,
    *,
    color: ColorInfo | None = None,
    with_ms_ssim: bool = True,
) -> AnchorPoint:
    """Encode, decode and measure ``frames`` with ``libx264``, ``libx265`` or ``libsvtav1``.

    Args:
        frames: uint8 RGB (H, W, 3) each, or one array (T, H, W, 3). They are gone through twice;
            an iterator is therefore held in memory as a whole.
        codec: a key of :data:`.encoders.ENCODERS`.
        preset: one of :data:`.encoders.PRESETS`.
        crf: from 0 to the encoder's largest.
        frame_rate: frames a second; at one CRF encoders spend fewer bytes at higher rates.
        color: matrix and range of the Y'CbCr in between; None for limited range with BT.709
            from 720 lines on, else BT.601.
        with_ms_ssim: False leaves MS-SSIM out, for speed.

    Sides that are odd cannot be halved, so such frames are coded in 4:4:4, all others in 4:2:0.

    Raises:
        UsageError: an unknown codec or preset, a CRF out of range, frames that are none, unlike
            each other, or too small for the codec.
    """
    clip = _replayable(frames)
    return _measure(encode_stream(clip, codec, preset, crf, frame_rate, color), clip, with_ms_ssim)


def anchor_at_bytes(
    frames: Iterable[NDArray[np.uint8]],
    codec: str,
    preset: str,
    target_bytes: int,
    frame_rate: Fraction | int,
    *,
    color: ColorInfo | None = None,
    with_ms_ssim: bool = True,
) -> AnchorPoint:
    """The point of :func:`encode_anchor` whose bytes are nearest to ``target_bytes`` in ratio.

    Searches the CRF in tenths (SVT-AV1: in ones), with 3 to 5 encodes as a rule and 16 at most,
    and measures the nearest of them alone. A size
    out of the codec's reach gives a point near CRF 0 or 51: compare ``bytes`` with the target.

    Raises UsageError as :func:`encode_anchor` does, and for a target below one byte.
    """
    clip = _replayable(frames)
    stream = stream_at_bytes(clip, codec, preset, target_bytes, frame_rate, color)
    return _measure(stream, clip, with_ms_ssim)


def stream_at_bytes(
    frames: Iterable[NDArray[np.uint8]],
    codec: str,
    preset: str,
    target_bytes: int,
    frame_rate: Fraction | int,
    color: ColorInfo | None = None,
    tune: str | None = None,
) -> EncodedStream:
    """The encoding half of :func:`anchor_at_bytes`; ``frames`` are gone through several times."""
    if target_bytes < 1:
        raise UsageError(f"target of {target_bytes} bytes: at least 1 is needed")
    steps = find_encoder(codec).crf_steps
    low, high = 0, find_encoder(codec).max_crf * steps
    sizes: dict[int, int] = {}
    nearest: EncodedStream | None = None
    while low <= high:
        step = _likely_step(low, high, sizes, target_bytes, steps)
        stream = encode_stream(frames, codec, preset, step / steps, frame_rate, color, tune)
        sizes[step] = stream.size
        if nearest is None or _off(stream, target_bytes) < _off(nearest, target_bytes):
            nearest = stream
        if _off(stream, target_bytes) < _CLOSE_ENOUGH:
            break
        if stream.size > target_bytes:
            low = step + 1
        else:
            high = step - 1
    assert nearest is not None
    return nearest


def _likely_step(low: int, high: int, sizes: dict[int, int], target: int, steps: int) -> int:
    """Where in ``low``..``high`` the target is likely, by the two known sizes that are nearest.

    The logarithm of the size is nearly straight over the CRF. After some such guesses the middle
    is taken, so that a curve that is not costs few encodes more than bisection.
    """
    if len(sizes) >= _GUESSES:
        return (low + high) // 2
    nearest = sorted(sizes, key=lambda step: abs(math.log(sizes[step] / target)))[:2]
    if not nearest:
        return min(_FIRST_CRF * steps, high)
    halving: float = _HALVING * steps
    if len(nearest) == 2:
        doublings = math.log2(sizes[nearest[0]] / sizes[nearest[1]])
        if doublings * (nearest[1] - nearest[0]) > 0:
            halving = (nearest[1] - nearest[0]) / doublings
    guess = nearest[0] + math.log2(sizes[nearest[0]] / target) * halving
    return min(max(round(guess), low), high)


def encode_stream(
    frames: Iterable[NDArray[np.uint8]],
    codec: str,
    preset: str,
    crf: float,
    frame_rate: Fraction | int,
    color: ColorInfo | None = None,
    tune: str | None = None,
) -> EncodedStream:
    """The encoding half of :func:`encode_anchor`, with its arguments and errors.

    ``tune`` is one of :data:`.encoders.TUNES`, None for the encoder's own.
    """
    encoder = find_encoder(codec)
    _check_settings(encoder, preset, crf, frame_rate)
    others = iter(frames)
    first = next(others, None)
    if first is None:
        raise UsageError("no frames to encode")
    _check_first(first, encoder)
    height, width = first.shape[:2]
    color = color or _default_color(height)
    try:
        context = _open_encoder(width, height, encoder, preset, crf, frame_rate, color, tune)
        packets, seconds = _encode_all(context, itertools.chain([first], others), color)
    except (FFmpegError, OverflowError) as exc:
        raise UsageError(f"{codec} cannot encode {width}x{height}: {cause(exc)}") from exc
    extradata = context.extradata or b""
    return EncodedStream(codec, preset, crf, color, tuple(packets), extradata, seconds)


@dataclass(frozen=True)
class DecodedFrame:
    """``rgb`` (H, W, 3) uint8, the decoder's own ``picture``, and the seconds for both."""

    rgb: NDArray[np.uint8]
    picture: VideoFrame
    seconds: float


def decode_stream(stream: EncodedStream) -> Iterator[DecodedFrame]:
    """Each frame of ``stream`` by index."""
    decoder = CodecContext.create(find_encoder(stream.codec).decoder, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.extradata
    decoder.thread_count = 1  # more would go on working while the caller's clock stands still
    index = 0
    start = time.perf_counter()
    for packet in (*stream.packets, None):
        for picture in decoder.decode(packet):
            assert picture.pts == index, (picture.pts, index)
            rgb = frame_to_rgb(picture, stream.color)
            yield DecodedFrame(rgb, picture, time.perf_counter() - start)
            index += 1
            start = time.perf_counter()


def _measure(
    stream: EncodedStream, frames: Iterable[NDArray[np.uint8]], with_ms_ssim: bool
) -> AnchorPoint:
    statistics = FrameStatistics(with_ms_ssim=with_ms_ssim)
    ycbcr = YcbcrStatistics()
    decode_seconds = 0.0
    for reference, decoded in zip(frames, decode_stream(stream), strict=True):
        statistics.add(reference, decoded.rgb)
        ycbcr.add(rgb_to_planes(reference, stream.color), planes_of(decoded.picture))
        decode_seconds += decoded.seconds
    return AnchorPoint(
        codec=stream.codec,
        preset=stream.preset,
        crf=stream.crf,
        bytes=stream.size,
        psnr=statistics.psnr,
        psnr_611=ycbcr.psnr,
        ms_ssim=statistics.ms_ssim,
        encode_seconds=stream.seconds,
        decode_seconds=decode_seconds,
    )


def _open_encoder(
    width: int,
    height: int,
    encoder: Encoder,
    preset: str,
    crf: float,
    frame_rate: Fraction | int,
    color: ColorInfo,
    tune: str | None,
) -> VideoCodecContext:
    context = CodecContext.create(encoder.name, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = width, height
    context.pix_fmt = coded_format(width, height)
    context.framerate = Fraction(frame_rate)
    context.time_base = 1 / Fraction(frame_rate)
    context.color_primaries = color.primaries
    context.color_trc = color.transfer
    context.colorspace = color.matrix
    context.color_range = ColorRange.JPEG if color.full_range else ColorRange.MPEG
    # PyAV asks for slice threads, which make x264 cut every frame into slices: 1 to 16 % more
    # bytes at the same PSNR. AUTO is what the ffmpeg program does.
    context.thread_type = "AUTO"
    context.flags |= Flags.global_header
    settings = {"preset": encoder.preset_value(preset), "crf": f"{crf:g}"}
    context.options = {**settings, **encoder.options, **encoder.tuned(tune)}
    context.open()
    return context


def _encode_all(
    context: VideoCodecContext, frames: Iterable[NDArray[np.uint8]], color: ColorInfo
) -> tuple[list[Packet[Any]], float]:
    """The packets of all frames, and the seconds without those spent in fetching the frames."""
    pixel_format, shape = context.pix_fmt, (context.height, context.width, 3)
    assert pixel_format is not None
    packets: list[Packet[Any]] = []
    seconds = 0.0
    for index, frame in enumerate(frames):
        if frame.shape != shape or frame.dtype != np.uint8:
            raise UsageError(f"frame {index} is {frame.dtype} {frame.shape}, not uint8 {shape}")
        start = time.perf_counter()
        picture = rgb_to_frame(frame, pixel_format, color)
        picture.pts = index
        packets += context.encode(picture)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    packets += context.encode(None)
    return packets, seconds + time.perf_counter() - start


def _check_settings(encoder: Encoder, preset: str, crf: float, frame_rate: Fraction | int) -> None:
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose from {', '.join(PRESETS)}")
    if not 0 <= crf <= encoder.max_crf:
        raise UsageError(f"CRF {crf} is not between 0 and {encoder.max_crf}")
    if frame_rate <= 0:
        raise UsageError(f"frame rate {frame_rate} is not positive")


def _check_first(frame: NDArray[np.uint8], encoder: Encoder) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise UsageError(f"frames to encode must be uint8 (H, W, 3), not {frame.shape}")
    height, width = frame.shape[:2]
    side = encoder.min_side
    if min(width, height) < side:
        raise UsageError(
            f"{encoder.name} needs frames of at least {side}x{side}, not {width}x{height}"
        )
    if not encoder.odd_sizes and (width % 2 or height % 2):
        raise UsageError(f"{encoder.name} needs even sides, not {width}x{height}")


def _default_color(height: int) -> ColorInfo:
    untagged = (UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, 0)
    return decide_color(untagged, VideoFormat("yuv420p"), height)


def _replayable(frames: Iterable[NDArray[np.uint8]]) -> Iterable[NDArray[np.uint8]]:
    return list(frames) if isinstance(frames, Iterator) else frames


def _off(stream: EncodedStream, target_bytes: int) -> float:
    """How far the size is from the target as a ratio, 1 being exact."""
    return max(stream.size / target_bytes, target_bytes / stream.size)
