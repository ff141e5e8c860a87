"""More than 8 bits a sample, and HDR metadata: from the source through the file to the output."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from test_cli import run
from video_helpers import KR_KB, ClipSpec, clip, decoded, make_clip, picture

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.decoder import DecodeConfig
from nervcodec.errors import UsageError
from nervcodec.info import probe as probe_hfsv
from nervcodec.metrics import FrameStatistics, psnr
from nervcodec.samples import convert_depth, peak, sample_type
from nervcodec.video.color import frame_to_rgb, rgb_to_frame
from nervcodec.video.formats import OutputFormat
from nervcodec.video.hdr import NO_HDR, HdrInfo, hdr_info
from nervcodec.video.info import ColorInfo
from nervcodec.video.reader import VideoReader
from nervcodec.video.still import png
from nervcodec.video.writer import VideoWriter

DISPLAY = (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50)
HDR = HdrInfo(DISPLAY, (1000, 400))
PQ = ColorInfo(9, 16, 9, False)
TRAIN = TrainConfig(epochs=2)


# --- conversion -----------------------------------------------------------------------------


def codes_of(rgb: np.ndarray, bits: int, matrix: int, full_range: bool) -> list[np.ndarray]:
    """H.273 in float64: RGB 0..1 (H, W, 3) to Y', Cb, Cr codes, not rounded."""
    kr, kb = KR_KB[matrix]
    red, green, blue = np.moveaxis(rgb, -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if full_range:
        largest = 2**bits - 1
        return [largest * luma, *(largest * c + 2 ** (bits - 1) for c in chroma)]
    scale = 2 ** (bits - 8)
    return [scale * (219 * luma + 16), *(scale * (224 * c + 128) for c in chroma)]


def frame_of(planes: list[np.ndarray], pixel_format: str) -> VideoFrame:
    """A frame of codes given at full size; subsampled planes take every second one."""
    height, width = planes[0].shape
    frame = VideoFrame(width, height, pixel_format)
    kind = np.dtype(">u2" if pixel_format.endswith("be") else "<u2")
    for plane, codes in zip(frame.planes, planes, strict=False):
        lines = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        steps = height // plane.height, width // plane.width
        lines[:, : plane.width] = np.rint(codes[:: steps[0], :: steps[1]])
    return frame


def scene(width: int = 96, height: int = 64) -> np.ndarray:
    """Float RGB in 0.1..0.9, smooth."""
    return 0.1 + 0.8 * picture(width, height) / 255


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_colours_are_those_of_the_standard(bits: int, matrix: int, full_range: bool) -> None:
    color, depth = ColorInfo(2, 2, matrix, full_range), min(bits, 12)
    planes = codes_of(scene(), bits, matrix, full_range)
    for suffix in ("le", "be"):
        rgb = frame_to_rgb(frame_of(planes, f"yuv444p{bits}{suffix}"), color, depth)
        assert (rgb.dtype, rgb.shape, rgb.flags.c_contiguous) == (np.uint16, (64, 96, 3), True)
        # Half a code of the source's and half of the result's; chroma counts up to 1.9 times.
        assert np.abs(rgb - scene() * peak(depth)).max() < 2.3
        assert np.abs(rgb - scene() * peak(depth)).mean() < 0.6


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10be", "yuv420p12le", "p010le"])
@pytest.mark.parametrize("full_range", [False, True])
def test_flat_deep_pictures_are_exact_however_chroma_is_sampled(
    pixel_format: str, full_range: bool
) -> None:
    bits = 12 if "12" in pixel_format else 10
    for colour in ((0.2, 0.5, 0.7), (0.9, 0.1, 0.4), (1, 1, 1), (0, 0, 0)):
        flat = np.broadcast_to(np.array(colour, float), (32, 48, 3))
        planes = [np.rint(codes) for codes in codes_of(flat, bits, 9, full_range)]
        if pixel_format == "p010le":
            frame = VideoFrame(48, 32, pixel_format)
            for plane, codes in zip(
                frame.planes, (planes[0], np.stack(planes[1:], 2)), strict=True
            ):
                np.frombuffer(memoryview(plane), np.uint16)[:] = int(codes.flat[0]) << 6
            chroma = np.frombuffer(memoryview(frame.planes[1]), np.uint16)
            chroma[0::2], chroma[1::2] = (int(p.flat[0]) << 6 for p in planes[1:])
        else:
            frame = frame_of(planes, pixel_format)
        rgb = frame_to_rgb(frame, ColorInfo(9, 16, 9, full_range), bits)
        assert np.abs(rgb - flat * peak(bits)).max() < 2


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pixel_format", ["gray10le", "gray12le", "gray16be", "gray"])
def test_deep_grey_keeps_its_range(pixel_format: str, full_range: bool) -> None:
    bits = VideoFrame(2, 2, pixel_format).format.components[0].bits
    levels = np.broadcast_to(np.linspace(0, 1, 96)[None, :, None], (16, 96, 3))
    luma = np.rint(codes_of(levels, bits, 6, full_range)[0])
    if pixel_format == "gray":
        frame = VideoFrame.from_ndarray(luma.astype(np.uint8), format="gray")
    else:
        frame = frame_of([luma], pixel_format)
    rgb = frame_to_rgb(frame, ColorInfo(2, 2, 6, full_range), 10)
    assert np.ptp(rgb, axis=2).max() == 0
    assert np.abs(rgb - levels * 1023).max() <= 0.5 + 1023 / 2 / (219 * 2 ** (bits - 8))


@pytest.mark.parametrize(("pixel_format", "bits"), [("gbrp10le", 10), ("gbrp12le", 12)])
def test_deep_rgb_is_only_moved(pixel_format: str, bits: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 1 << bits, (31, 45, 3), np.uint16)
    frame = rgb_to_frame(rgb, pixel_format, PQ, bits)
    assert (frame.format.name, frame.colorspace, frame.color_range) == (pixel_format, 0, 2)
    assert np.array_equal(frame_to_rgb(frame, PQ, bits), rgb)


@pytest.mark.parametrize("pixel_format", ["rgb48le", "rgb48be", "gbrp16le", "rgba64le", "rgb24"])
def test_rgb_of_other_depths_is_scaled_from_white_to_white(pixel_format: str) -> None:
    bits = 8 if pixel_format == "rgb24" else 16
    ramp = np.linspace(0, peak(bits), 96).round().astype(sample_type(bits))
    rgb = np.repeat(np.tile(ramp, (8, 1))[:, :, None], 3, axis=2)
    source = VideoFrame.from_ndarray(rgb, format="rgb48le" if bits == 16 else "rgb24")
    frame = source.reformat(format=pixel_format)
    found = frame_to_rgb(frame, PQ, 12)
    assert np.abs(found - rgb / peak(bits) * 4095).max() <= 0.502
    assert found.min() == 0
    assert found.max() == 4095


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize("bits", [10, 12])
def test_deep_rgb_to_ycbcr(bits: int, matrix: int, full_range: bool) -> None:
    color = ColorInfo(2, 2, matrix, full_range)
    rgb = np.rint(scene() * peak(bits)).astype(np.uint16)
    frame = rgb_to_frame(rgb, f"yuv444p{bits}le", color, bits)
    assert (frame.colorspace, frame.color_range) == (matrix, 2 if full_range else 1)
    expected = codes_of(rgb / peak(bits), bits, matrix, full_range)
    for plane, codes in zip(frame.planes, expected, strict=True):
        assert np.abs(samples_of(plane) - codes).max() < 0.51


def samples_of(plane: VideoPlane) -> np.ndarray:
    lines = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
    return lines[:, : plane.width].astype(int)


@pytest.mark.parametrize("sampling", ["420", "422", "444"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize("bits", [10, 12])
def test_deep_ycbcr_there_and_back(bits: int, matrix: int, full_range: bool, sampling: str) -> None:
    """What an encode and a decode do to a picture, the network left out."""
    color, pixel_format = ColorInfo(2, 2, matrix, full_range), f"yuv{sampling}p{bits}le"
    frame = frame_of(codes_of(scene(), bits, matrix, full_range), pixel_format)
    back = rgb_to_frame(frame_to_rgb(frame, color, bits), pixel_format, color, bits)
    for before, after in zip(frame.planes, back.planes, strict=True):
        pair = [
            np.frombuffer(memoryview(p), np.uint16).reshape(p.height, -1) for p in (before, after)
        ]
        difference = np.subtract(*(lines[:, : before.width].astype(int) for lines in pair))
        assert np.abs(difference).mean() < 1
        assert abs(difference.mean()) < 0.2, "biased"


def test_extreme_samples_do_not_wrap_around() -> None:
    corners = np.array([[[r, g, b] for b in (0, 1023)] for r in (0, 1023) for g in (0, 1023)])
    rgb = corners.astype(np.uint16)
    for full_range in (False, True):
        color = ColorInfo(9, 16, 9, full_range)
        back = frame_to_rgb(rgb_to_frame(rgb, "yuv444p10le", color, 10), color, 10)
        assert np.abs(back.astype(int) - rgb).max() <= 3


def test_samples_change_their_depth_from_white_to_white() -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(1, -1, 1)
    deep = convert_depth(eight, 8, 12)
    assert (deep.dtype, deep.min(), deep.max()) == (np.uint16, 0, 4095)
    assert np.array_equal(convert_depth(deep, 12, 8), eight)
    assert convert_depth(eight, 8, 8) is eight


@pytest.mark.parametrize("bits", [10, 12])
def test_a_deep_png_gives_the_samples_back(bits: int) -> None:
    rgb = np.random.default_rng(1).integers(0, 1 << bits, (9, 11, 3), np.uint16)
    rgb[0, 0] = (0, peak(bits), 1)
    with av.open(io.BytesIO(png(rgb, bits))) as container:
        (frame,) = container.decode(video=0)
    assert frame.format.name == "rgb48be"
    assert np.array_equal(frame_to_rgb(frame, PQ, bits), rgb)


def test_psnr_is_counted_from_the_peak_of_the_depth() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint16), np.full((4, 4, 3), 1023 // 11, np.uint16)
    assert psnr(black, grey, 10) == pytest.approx(20 * np.log10(11))
    statistics = FrameStatistics(bit_depth=10)
    statistics.add(black, grey)
    assert statistics.psnr == pytest.approx(20 * np.log10(11))
    with pytest.raises(UsageError, match="must be uint8"):
        psnr(black, grey)


# --- files ----------------------------------------------------------------------------------


def deep_clip(path: Path, pixel_format: str = "yuv420p10le", codec: str = "ffv1") -> Path:
    return make_clip(
        path,
        ClipSpec(
            width=80,
            height=64,
            frames=4,
            container="matroska",
            codec=codec,
            pixel_format=pixel_format,
            time_base=Fraction(1, 1000),
            pts=(0, 40, 80, 120),
            colour=(9, 16, 9, 1),
        ),
    )


def encode(source: Path, output: Path, **config: object) -> Path:
    settings = EncodeConfig(train=TRAIN, model=ModelConfig(params=12000), overwrite=True)
    nervcodec.encode(source, output, replace(settings, **config))  # type: ignore[arg-type]
    return output


@pytest.fixture(scope="module")
def deep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    return encode(deep_clip(folder / "deep.mkv"), folder / "deep.hfsv")


@pytest.mark.parametrize(
    ("pixel_format", "asked", "depth"),
    [
        ("yuv420p10le", None, 10),
        ("yuv422p12le", None, 12),
        ("yuv444p16le", None, 12),
        ("yuv444p9le", None, 10),
        ("yuv420p", None, 8),
        ("gray12le", None, 12),
        ("gbrp14le", None, 12),
        ("yuv420p10le", 8, 8),
        ("yuv420p", 10, 10),
    ],
)
def test_the_depth_of_the_frames(
    tmp_path: Path, pixel_format: str, asked: int | None, depth: int
) -> None:
    with VideoReader(deep_clip(tmp_path / "a.mkv", pixel_format), bit_depth=asked) as reader:
        frames = [frame.rgb for frame in reader]
        assert reader.bit_depth == depth
        reduced = [line for line in reader.warnings if "reduced" in line]
        given = reader.info.bit_depth
    assert all(frame.dtype == sample_type(depth) for frame in frames)
    assert frames[0].max() > 0.7 * peak(depth)
    expected = [f"{given}-bit samples are reduced to {depth} bits"] if given > depth else []
    assert reduced == expected


def test_a_deep_source_is_coded_at_its_depth(deep_file: Path) -> None:
    with nervcodec.open(deep_file) as file:
        assert (file.bit_depth, file.header.bit_depth) == (10, 10)
        frames = file[:]
        assert (frames.dtype, frames.shape) == (np.uint16, (4, 64, 80, 3))
        assert frames.max() > 300
        assert np.unique(frames % 4).tolist() == [0, 1, 2, 3], "the samples are of 8 bits"
        assert np.array_equal(file[2], frames[2])
        assert np.array_equal(np.stack(list(file)), frames)
        integers = file.tensors(slice(None), dtype=torch.int16, layout="nhwc")
        assert np.array_equal(integers.numpy(), frames)
        floats = file.tensors(slice(None), layout="nhwc")
        assert np.allclose(floats.numpy(), frames / 1023)
        with pytest.raises(UsageError, match="do not fit uint8"):
            file.tensors(0, dtype=torch.uint8)
    described = probe_hfsv(deep_file)
    assert described.header.bit_depth == 10


def test_a_deep_file_agrees_with_its_hash_and_its_source(
    tmp_path: Path, deep_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = deep_clip(tmp_path / "deep.mkv")
    assert run("verify", deep_file, "--frames", "--source", source) == 0
    report = nervcodec.verify(deep_file, source=source, frames=True)
    with nervcodec.open(deep_file) as file, VideoReader(source) as reader:
        pairs = zip(reader, file, strict=True)
        expected = np.mean([psnr(original.rgb, frame, 10) for original, frame in pairs])
    assert report.psnr == pytest.approx(expected, abs=1e-6)


def test_a_scene_cut_is_found_in_deep_frames(tmp_path: Path) -> None:
    output = encode(deep_clip(tmp_path / "a.mkv"), tmp_path / "a.hfsv", scene_cut=10.0)
    with nervcodec.open(output) as file:
        assert len(file.reader.segments) == 1


@pytest.mark.parametrize(
    ("name", "codec", "depth", "pixel_format"),
    [
        ("a.mp4", None, None, "yuv420p10le"),
        ("a.mp4", "h264", None, "yuv420p10le"),
        ("a.mov", "hevc", 12, "yuv420p12le"),
        ("a.mp4", None, 8, "yuv420p"),
        ("a.mkv", "hevc", 8, "yuv420p"),
        ("a.mkv", None, None, "gbrp10le"),
        ("a.mkv", None, 8, "bgr0"),
    ],
)
def test_a_deep_file_is_rendered_at_its_depth(
    tmp_path: Path,
    deep_file: Path,
    name: str,
    codec: str | None,
    depth: int | None,
    pixel_format: str,
) -> None:
    output = tmp_path / name
    report = nervcodec.decode(deep_file, output, DecodeConfig(codec=codec, bit_depth=depth))
    frames = decoded(output)
    assert {frame.format.name for frame in frames} == {pixel_format}
    with av.open(str(output)) as container:
        found = container.streams.video[0].codec_context.codec.canonical_name
    default = "ffv1" if name == "a.mkv" else "h264" if depth == 8 else "hevc"
    assert found == (codec or default)
    with nervcodec.open(deep_file) as file:
        originals = list(file)
    written = 8 if depth == 8 else 10
    color = ColorInfo(9, 16, 9, False)
    for frame, original in zip(frames, originals, strict=True):
        rgb = frame_to_rgb(frame, color, written)
        expected = convert_depth(original, 10, written)
        if pixel_format in ("gbrp10le", "bgr0"):
            assert np.array_equal(rgb, expected)
        else:
            assert psnr(expected, rgb, written) > 35
    reduced = [line for line in report.warnings if "bits" in line]
    assert reduced == (["10-bit samples are written with 8 bits"] if depth == 8 else [])


def test_small_deep_pictures_are_written_in_h264(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "a.mp4",
        ClipSpec(width=48, height=32, frames=3, pixel_format="yuv420p10le"),
    )
    output = encode(source, tmp_path / "a.hfsv", model=ModelConfig(params=9000))
    nervcodec.decode(output, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec.canonical_name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p10le"


def test_depths_that_a_codec_lacks_are_refused(tmp_path: Path, deep_file: Path) -> None:
    with pytest.raises(UsageError, match=r"h264 has .* bits a sample, not 12"):
        nervcodec.decode(deep_file, tmp_path / "a.mp4", DecodeConfig(codec="h264", bit_depth=12))
    with pytest.raises(UsageError, match="bit-depth"):
        EncodeConfig(bit_depth=9)
    assert run("decode", deep_file, tmp_path / "a.mp4", "--bit-depth", "9") == 2


def test_one_deep_frame_as_png(tmp_path: Path, deep_file: Path) -> None:
    output = tmp_path / "a.png"
    assert run("frame", deep_file, 1, output) == 0
    (frame,) = decoded(output)
    with nervcodec.open(deep_file) as file:
        assert np.array_equal(frame_to_rgb(frame, PQ, 10), file[1])


def test_the_depth_is_part_of_what_a_checkpoint_belongs_to(tmp_path: Path) -> None:
    source = deep_clip(tmp_path / "a.mkv")
    ten = encode(source, tmp_path / "ten.hfsv").read_bytes()
    eight = encode(source, tmp_path / "eight.hfsv", bit_depth=8).read_bytes()
    assert ten != eight
    assert probe_hfsv(tmp_path / "eight.hfsv").header.bit_depth == 8


@pytest.mark.parametrize(
    ("name", "bits", "depth"),
    [
        ("odd/h264_10bit.mp4", 10, 10),
        ("odd/hdr_pq_10bit_hevc.mp4", 10, 10),
        ("odd/hdr_pq_12bit_hevc.mp4", 12, 12),
        ("odd/alpha_prores4444_1frame.mov", 12, 12),
        ("odd/two_frames_prores422hq_interlaced.mov", 10, 10),
    ],
)
def test_deep_clips_of_the_corpus(name: str, bits: int, depth: int) -> None:
    with VideoReader(clip(name), max_frames=1, size=(64, 48)) as reader:
        (frame,) = reader
        assert (reader.info.bit_depth, reader.bit_depth) == (bits, depth)
    assert frame.rgb.dtype == np.uint16
    assert len(np.unique(frame.rgb % 4)) == 4


# --- HDR metadata ---------------------------------------------------------------------------


def test_hdr_metadata_of_a_real_clip() -> None:
    with VideoReader(clip("odd/hdr10_mdcv_clli_av1.mp4"), max_frames=1) as reader:
        assert reader.info.hdr == HdrInfo(
            (33899, 16099, 12250, 35150, 6899, 2600, 15634, 16449, 10_000_000, 0), (1100, 180)
        )
        assert not [line for line in reader.info.warnings if "HDR" in line]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("hdr", [HDR, HdrInfo(DISPLAY), HdrInfo(content_light=(800, 200))])
def test_hdr_metadata_is_written(tmp_path: Path, codec: str, hdr: HdrInfo) -> None:
    path = tmp_path / "a.mp4"
    with hdr_writer(path, OutputFormat("mp4", codec, preset="ultrafast"), hdr) as writer:
        for index in range(2):
            frame = np.full((64, 64, 3), 100 + index, np.uint16)
            writer.write(frame, index, 1)
    assert writer.warnings == []
    frame = decoded(path)[0]
    assert hdr_info(frame) == hdr
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)


def hdr_writer(path: Path, fmt: OutputFormat, hdr: HdrInfo) -> VideoWriter:
    return VideoWriter(
        path,
        fmt,
        width=64,
        height=64,
        time_base=Fraction(1, 25),
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=PQ,
        frame_rate=Fraction(25),
        passthrough=None,
        bit_depth=10,
        hdr=hdr,
    )


def test_hdr_metadata_that_ffv1_cannot_carry_is_named(tmp_path: Path) -> None:
    fmt = OutputFormat("matroska", "ffv1")
    with hdr_writer(tmp_path / "a.mkv", fmt, HDR) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint16), 0, 1)
    assert writer.warnings == ["HDR mastering and light level data are left out: FFV1 has none"]
    with hdr_writer(tmp_path / "b.mkv", fmt, NO_HDR) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint16), 0, 1)
    assert writer.warnings == []


def test_hdr_metadata_goes_through_the_file(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mp4", tmp_path / "a.hfsv"
    with hdr_writer(source, OutputFormat("mp4", "hevc", preset="ultrafast"), HDR) as writer:
        for index in range(3):
            gradient = np.linspace(0, 1023, 64 * 64 * 3).reshape(64, 64, 3)
            writer.write(np.roll(gradient, index, 1).astype(np.uint16), index, 1)
    encode(source, output)
    meta = probe_hfsv(output).meta
    assert meta["mastering_display"] == list(DISPLAY)
    assert meta["content_light"] == [1000, 400]
    nervcodec.decode(output, tmp_path / "b.mp4")
    frame = decoded(tmp_path / "b.mp4")[0]
    assert SideDataType.CONTENT_LIGHT_LEVEL in frame.side_data
    assert hdr_info(frame) == HDR


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"mastering_display": None, "content_light": None},
        {"mastering_display": [1] * 9, "content_light": [1]},
        {"mastering_display": [1] * 9 + [True], "content_light": [True, 1]},
        {"mastering_display": [1] * 9 + [1.0], "content_light": ["1", "2"]},
        {"mastering_display": [1] * 9 + [-1], "content_light": [-1, 1]},
        {"mastering_display": [1] * 9 + [2**32], "content_light": [1, 65536]},
    ],
)
def test_hdr_metadata_that_is_not_as_the_format_has_it_is_ignored(meta: dict[str, object]) -> None:
    assert HdrInfo.from_meta(meta) == NO_HDR


def test_hdr_metadata_is_what_meta_says() -> None:
    assert HdrInfo.from_meta(HDR.to_meta()) == HDR
    assert NO_HDR.to_meta() == {}
    largest = {"mastering_display": [2**32 - 1] * 10, "content_light": [65535, 0]}
    assert HdrInfo.from_meta(largest).to_meta() == largest


# --- frames alone ---------------------------------------------------------------------------


def test_deep_frames_as_y4m(tmp_path: Path, deep_file: Path) -> None:
    nervcodec.decode(deep_file, tmp_path / "a.y4m")
    frames = decoded(tmp_path / "a.y4m")
    assert {frame.format.name for frame in frames} == {"yuv420p10le"}
    with nervcodec.open(deep_file) as file:
        for frame, original in zip(frames, file, strict=True):
            assert psnr(original, frame_to_rgb(frame, PQ, 10), 10) > 35


def test_deep_frames_as_raw_samples(tmp_path: Path, deep_file: Path) -> None:
    nervcodec.decode(deep_file, tmp_path / "a.rgb")
    nervcodec.decode(deep_file, tmp_path / "b.rgb", DecodeConfig(bit_depth=8))
    deep = np.frombuffer((tmp_path / "a.rgb").read_bytes(), "<u2").reshape(4, 64, 80, 3)
    plain = np.frombuffer((tmp_path / "b.rgb").read_bytes(), np.uint8).reshape(4, 64, 80, 3)
    with nervcodec.open(deep_file) as file:
        frames = file[:]
    assert np.array_equal(np.rint(deep / 65535 * 1023), frames)
    assert np.array_equal(plain, convert_depth(frames, 10, 8))


def test_deep_frames_as_pictures_and_back(tmp_path: Path, deep_file: Path) -> None:
    nervcodec.decode(deep_file, f"{tmp_path / 'frames'}/")
    with nervcodec.open(deep_file) as file, VideoReader(tmp_path / "frames") as reader:
        assert reader.bit_depth == 12  # of 16
        for original, found in zip(file, reader, strict=True):
            assert np.array_equal(convert_depth(found.rgb, 12, 10), original)
