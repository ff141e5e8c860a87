"""The x264 and x265 anchors on a small synthetic clip: real bytes, all frames, right colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from nervcodec.compare.anchors import (
    AnchorPoint,
    _likely_step,
    anchor_at_bytes,
    decode_stream,
    encode_anchor,
    encode_stream,
)
from nervcodec.compare.encoders import ENCODERS, available, own_words, text_bytes
from nervcodec.errors import UsageError
from nervcodec.metrics import PSNR_CAP, FrameStatistics, psnr
from nervcodec.video.color import rgb_to_frame, samples_of
from nervcodec.video.info import ColorInfo

CODECS = ("libx264", "libx265")
WITH_AV1 = [
    *CODECS,
    pytest.param(
        "libsvtav1",
        marks=pytest.mark.skipif(
            not available(ENCODERS["libsvtav1"]), reason="this PyAV has no SVT-AV1"
        ),
    ),
]
FRAMES, HEIGHT, WIDTH = 20, 96, 128


def moving_clip(
    frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH
) -> NDArray[np.uint8]:
    """A textured, coloured pattern that drifts: (T, H, W, 3)."""
    grain = np.random.default_rng(7).normal(0, 12, (height + frames, width + 2 * frames, 3))
    rows, columns = np.mgrid[: height + frames, : width + 2 * frames]
    waves = np.stack([np.sin(rows / 11 + c) * np.cos(columns / (17 + c)) for c in range(3)], axis=2)
    scene = np.clip(128 + 90 * waves + grain, 0, 255).astype(np.uint8)
    return np.stack([scene[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])


@pytest.fixture(scope="module")
def clip() -> NDArray[np.uint8]:
    return moving_clip()


def slices(packet: bytes) -> int:
    """How many coded slices of H.264 an Annex B packet holds."""
    return sum(unit[0] & 31 in (1, 5) for unit in re.findall(rb"\x00\x00\x01(.)", packet, re.S))


@pytest.mark.parametrize("codec", WITH_AV1)
def test_bytes_and_quality_fall_with_crf(codec: str, clip: NDArray[np.uint8]) -> None:
    points = [encode_anchor(clip, codec, "medium", crf, 24) for crf in (15, 25, 35, 45)]
    assert [p.crf for p in points] == [15, 25, 35, 45]
    assert all(a.bytes > b.bytes for a, b in pairwise(points))
    assert all(a.psnr > b.psnr for a, b in pairwise(points))
    assert all(p.encode_seconds > 0 and p.decode_seconds > 0 for p in points)


@pytest.mark.parametrize("codec", WITH_AV1)
def test_a_point_is_what_the_packets_give(codec: str, clip: NDArray[np.uint8]) -> None:
    point = encode_anchor(clip, codec, "fast", 28.5, 24)
    stream = encode_stream(clip, codec, "fast", 28.5, 24)
    decoded = [frame.rgb for frame in decode_stream(stream)]
    assert len(decoded) == len(stream.packets) == FRAMES
    assert stream.size == len(b"".join(bytes(packet) for packet in stream.packets))
    assert stream.extradata
    statistics = FrameStatistics()
    for reference, frame in zip(clip, decoded, strict=True):
        statistics.add(reference, frame)
    assert point.bytes == pytest.approx(stream.size, rel=0.01)  # threads make x264 vary a little
    assert point.psnr == pytest.approx(statistics.psnr, abs=0.05)
    assert (point.codec, point.preset, point.crf, point.ms_ssim) == (codec, "fast", 28.5, None)


@pytest.mark.parametrize("codec", WITH_AV1)
def test_the_weighted_psnr_is_that_of_the_planes(codec: str, clip: NDArray[np.uint8]) -> None:
    stream = encode_stream(clip[:6], codec, "fast", 28, 24)
    expected = []
    for reference, decoded in zip(clip[:6], decode_stream(stream), strict=True):
        given = rgb_to_frame(reference, "yuv420p", stream.color)
        pairs = [(samples_of(given, i, 8), samples_of(decoded.picture, i, 8)) for i in range(3)]
        errors = [(a - b.astype(float)) ** 2 for a, b in pairs]
        luma, blue, red = (10 * np.log10(255**2 / error.mean()) for error in errors)
        expected.append((6 * luma + blue + red) / 8)
    point = encode_anchor(clip[:6], codec, "fast", 28, 24)
    assert point.psnr_611 == pytest.approx(np.mean(expected), abs=0.05)


def test_lossless_planes_reach_the_cap(clip: NDArray[np.uint8]) -> None:
    point = encode_anchor(clip[:3], "libx264", "medium", 0, 24)
    assert point.psnr_611 == PSNR_CAP
    assert point.psnr < 50


def test_the_encoders_keep_their_b_frames(clip: NDArray[np.uint8]) -> None:
    for codec in CODECS:
        stream = encode_stream(clip, codec, "medium", 30, 24)
        times = [-1 if packet.pts is None else packet.pts for packet in stream.packets]
        assert sorted(times) == list(range(FRAMES))
        assert times != sorted(times), "coding order differs from display order with B-frames"


def test_x264_does_not_cut_frames_into_slices() -> None:
    stream = encode_stream(moving_clip(6, 256, 192), "libx264", "medium", 30, 24)
    assert [slices(bytes(packet)) for packet in stream.packets] == [1] * 6


@pytest.mark.parametrize("codec", CODECS)
def test_odd_sizes_are_coded_in_444(codec: str) -> None:
    # Columns of alternating red and blue: subsampled chroma would mix them to about 12 dB.
    stripes = np.zeros((4, 67, 81, 3), np.uint8)
    stripes[:, :, ::2, 0] = 200
    stripes[:, :, 1::2, 2] = 200
    assert encode_anchor(stripes, codec, "medium", 10, 24).psnr > 30
    assert encode_anchor(stripes[:, :66, :80], codec, "medium", 10, 24).psnr < 20


def test_tiny_frames_in_x264() -> None:
    assert encode_anchor(np.zeros((3, 1, 1, 3), np.uint8), "libx264", "medium", 20, 24).bytes > 0


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("codec", WITH_AV1)
def test_colours_survive_in_each_matrix(codec: str, matrix: int, full_range: bool) -> None:
    color = ColorInfo(primaries=2, transfer=2, matrix=matrix, full_range=full_range)
    red = np.tile(np.array([220, 30, 60], np.uint8), (2, 64, 64, 1))
    stream = encode_stream(red, codec, "medium", 5, 24, color)
    for frame in decode_stream(stream):
        assert np.abs(frame.rgb.astype(int) - red[0]).max() <= 4
    assert stream.color == color


@pytest.mark.parametrize(("codec", "decoder"), [("libx264", "h264"), ("libx265", "hevc")])
@pytest.mark.parametrize("full_range", [False, True])
def test_colour_tags_are_in_the_stream(
    codec: str, decoder: str, full_range: bool, clip: NDArray[np.uint8]
) -> None:
    color = ColorInfo(primaries=9, transfer=14, matrix=9, full_range=full_range)
    stream = encode_stream(clip[:1], codec, "fast", 30, 24, color)
    context = CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.extradata = stream.extradata
    (picture,) = context.decode(stream.packets[0]) + context.decode(None)
    tags = (picture.color_primaries, picture.color_trc, picture.colorspace, picture.color_range)
    assert tags == (9, 14, 9, ColorRange.JPEG if full_range else ColorRange.MPEG)


def test_the_default_matrix_goes_by_the_height(clip: NDArray[np.uint8]) -> None:
    small = encode_stream(clip[:1], "libx264", "ultrafast", 30, 24).color
    high = encode_stream(np.zeros((1, 720, 64, 3), np.uint8), "libx264", "ultrafast", 30, 24).color
    assert (small.matrix, small.full_range) == (6, False)
    assert (high.matrix, high.full_range) == (1, False)


def test_crf_0_of_x264_loses_only_the_conversion(clip: NDArray[np.uint8]) -> None:
    gray = np.repeat(clip[:4, :, :, :1], 3, axis=3)
    point = encode_anchor(gray, "libx264", "medium", 0, 24)
    assert point.psnr > 50


def test_ms_ssim_where_the_frames_are_large_enough() -> None:
    large = moving_clip(2, 176, 192)
    point = encode_anchor(large, "libx264", "veryfast", 25, 24)
    assert point.ms_ssim is not None
    assert 0.8 < point.ms_ssim < 1
    left_out = encode_anchor(large, "libx264", "veryfast", 25, 24, with_ms_ssim=False)
    assert left_out.ms_ssim is None


def test_an_iterator_will_do(clip: NDArray[np.uint8]) -> None:
    def one_by_one() -> Iterator[NDArray[np.uint8]]:
        yield from clip[:5]

    point = encode_anchor(one_by_one(), "libx265", "veryfast", 30, 24)
    assert point.bytes == encode_anchor(clip[:5], "libx265", "veryfast", 30, 24).bytes


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("target", [4000, 20000])
def test_a_size_is_hit(codec: str, target: int, clip: NDArray[np.uint8]) -> None:
    point = anchor_at_bytes(clip, codec, "veryfast", target, 24)
    assert point.bytes == pytest.approx(target, rel=0.02)
    assert round(point.crf * 10) == pytest.approx(point.crf * 10)
    assert point.psnr == pytest.approx(
        encode_anchor(clip, codec, "veryfast", point.crf, 24).psnr, abs=0.05
    )


@pytest.mark.parametrize("target", [1, 3000, 4000, 8000, 20000, 10**7])
def test_few_encodes_find_a_size(
    target: int, clip: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        tried.append(arguments[3])
        return encode_stream(*arguments, **options)

    monkeypatch.setattr("nervcodec.compare.anchors.encode_stream", counted)
    point = anchor_at_bytes(clip, "libx264", "veryfast", target, 24)
    assert len(tried) == len(set(tried)) <= 8
    assert point.crf in tried


def test_the_search_ends_on_any_curve() -> None:
    for size in (lambda crf: 1000, lambda crf: 3000 - (crf % 2), lambda crf: 10 ** (6 - crf / 100)):
        low, high, sizes = 0, 510, dict[int, int]()
        while low <= high:
            step = _likely_step(low, high, sizes, 2000, 10)
            assert low <= step <= high
            sizes[step] = round(size(step))
            low, high = (step + 1, high) if sizes[step] > 2000 else (low, step - 1)
        assert len(sizes) <= 16


def test_a_size_out_of_reach_gives_the_end_of_the_scale(clip: NDArray[np.uint8]) -> None:
    smallest = anchor_at_bytes(clip[:3], "libx264", "ultrafast", 1, 24)
    largest = anchor_at_bytes(clip[:3], "libx264", "ultrafast", 10**9, 24)
    assert smallest.bytes == encode_anchor(clip[:3], "libx264", "ultrafast", 51, 24).bytes
    # The quantizer saturates before the scale ends.
    assert largest.crf < 5
    assert smallest.crf > 46


@pytest.mark.parametrize(
    ("codec", "preset", "crf", "rate", "message"),
    [
        ("libvpx", "medium", 30, 24, "libx264, libx265, libsvtav1"),
        ("libx264", "swift", 30, 24, "swift"),
        ("libx264", "medium", -1, 24, "CRF -1"),
        ("libx265", "medium", 51.1, 24, "CRF 51.1"),
        ("libx264", "medium", float("nan"), 24, "CRF nan"),
        ("libx264", "medium", 30, 0, "frame rate 0"),
    ],
)
def test_settings_that_cannot_be(
    codec: str, preset: str, crf: float, rate: int, message: str, clip: NDArray[np.uint8]
) -> None:
    with pytest.raises(UsageError, match=message):
        encode_anchor(clip, codec, preset, crf, rate)


@pytest.mark.parametrize(
    ("frames", "codec", "message"),
    [
        ([], "libx264", "no frames"),
        ([np.zeros((64, 64), np.uint8)], "libx264", "H, W, 3"),
        ([np.zeros((64, 64, 3), np.float32)], "libx264", "float32"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((66, 64, 3), np.uint8)], "libx264", "frame 1"),
        ([np.zeros((64, 62, 3), np.uint8)], "libx265", "64x64"),
        ([np.zeros((2, 20000, 3), np.uint8)], "libx264", "cannot encode 20000x2"),
    ],
)
def test_frames_that_cannot_be_encoded(
    frames: list[NDArray[np.uint8]], codec: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        encode_anchor(frames, codec, "medium", 30, 24)


def test_a_target_of_no_bytes(clip: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="0 bytes"):
        anchor_at_bytes(clip, "libx264", "medium", 0, 24)


@pytest.mark.parametrize("codec", WITH_AV1)
def test_the_encoders_are_silent(
    codec: str, capfd: pytest.CaptureFixture[str], clip: NDArray[np.uint8]
) -> None:
    encode_anchor(clip[:3], codec, "medium", 30, 24)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_point_is_a_value(clip: NDArray[np.uint8]) -> None:
    point = encode_anchor(clip[:1], "libx264", "ultrafast", 40, 24)
    assert isinstance(point, AnchorPoint)
    with pytest.raises(AttributeError):
        point.bytes = 1  # type: ignore[misc]
    first = next(decode_stream(encode_stream(clip[:1], "libx264", "ultrafast", 40, 24)))
    assert point.psnr == pytest.approx(psnr(clip[0], first.rgb), abs=0.05)


def test_the_encoders_tell_their_settings(clip: NDArray[np.uint8]) -> None:
    for codec, start in (("libx264", "x264 - core"), ("libx265", "x265 (build")):
        stream = encode_stream(clip[:2], codec, "slow", 31, 24)
        words = own_words(stream.extradata + bytes(stream.packets[0]))
        assert words.startswith(start)
        assert "crf=31.0" in words
    first = bytes(encode_stream(clip[:2], "libx264", "slow", 31, 24).packets[0])
    assert 400 < text_bytes(first) < len(first)
    assert text_bytes(b"\0\0\1") == 0
    assert own_words(b"\0\0\1") == ""
