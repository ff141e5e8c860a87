"""Writing videos: exact times, honest colours, lossless FFV1, and clear errors."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_helpers import (
    KR_KB,
    ClipSpec,
    audio_packets,
    decoded,
    make_clip,
    picture,
    times,
    yuv_to_rgb,
)

from nervcodec.errors import OutputError, UsageError
from nervcodec.video.color import frame_to_rgb, rgb_to_frame
from nervcodec.video.formats import OutputFormat, output_format
from nervcodec.video.info import ColorInfo
from nervcodec.video.passthrough import extract
from nervcodec.video.reader import VideoReader, probe
from nervcodec.video.writer import VideoWriter

BT709 = ColorInfo(1, 1, 1, False)
FAST = OutputFormat("mp4", "h264", crf=12, preset="veryfast")
FFV1 = OutputFormat("matroska", "ffv1")


def writer(path: Path, fmt: OutputFormat = FAST, **changes: object) -> VideoWriter:
    """A writer of 64x64 at 25 frames a second, but for ``changes``."""
    settings: dict[str, object] = {
        "width": 64,
        "height": 64,
        "time_base": Fraction(1, 25),
        "sample_aspect_ratio": Fraction(1),
        "rotation": 0,
        "color": BT709,
        "frame_rate": Fraction(25),
        "passthrough": None,
    }
    return VideoWriter(path, fmt, **(settings | changes))  # type: ignore[arg-type]


def write(
    path: Path, fmt: OutputFormat = FAST, pts: tuple[int, ...] = (0, 1, 2), **changes: object
) -> list[str]:
    """Write moving pictures at ``pts``, the last shown as long as the one before; warnings."""
    durations = [b - a for a, b in itertools.pairwise(pts)]
    durations.append(durations[-1] if durations else 1)
    width, height = changes.get("width", 64), changes.get("height", 64)
    with writer(path, fmt, **changes) as output:
        for index, (time, duration) in enumerate(zip(pts, durations, strict=True)):
            output.write(picture(width, height, index), time, duration)  # type: ignore[arg-type]
    return output.warnings


# --- times ----------------------------------------------------------------------------------

VFR = (0, 3000, 6003, 20000, 20001, 49281, 60000, 60001, 99999, 100007, 130000, 133003)
CLOCKS = {
    "25": (Fraction(1, 25), tuple(range(20))),
    "ntsc": (Fraction(1001, 30000), tuple(range(20))),
    "ntsc ticks": (Fraction(1, 30000), tuple(1001 * i for i in range(20))),
    "variable": (Fraction(1, 90000), VFR),
    "from 10 s": (Fraction(1, 15360), tuple(153600 + 512 * i for i in range(20))),
    "from 8.333 s": (Fraction(1, 15360), tuple(127995 + 512 * i for i in range(20))),
    "from hours": (Fraction(1, 90000), tuple(2065839149 + 3600 * i for i in range(20))),
    "nanoseconds": (Fraction(1, 10**9), tuple(16683333 * i for i in range(20))),
    "gaps": (Fraction(1001, 24000), (0, 1, 4, 5, 6, 9)),
    "one frame": (Fraction(1, 25), (7,)),
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_mp4_times_come_back_exactly(
    tmp_path: Path, clock: str, container: str, codec: str
) -> None:
    time_base, pts = CLOCKS[clock]
    path = tmp_path / "a.tmp"
    fmt = OutputFormat(container, codec, 20, "fast")
    rate = 1 / (time_base * max(pts[1] - pts[0], 1)) if len(pts) > 1 else Fraction(25)
    assert write(path, fmt, pts, time_base=time_base, frame_rate=rate) == []
    assert times(path) == [p * time_base for p in pts]


def test_times_are_checked_with_b_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, OutputFormat("mp4", "h264", 20, "fast"), VFR, time_base=Fraction(1, 90000))
    assert any(frame.pict_type == 3 for frame in decoded(path)), "no B frame: the test is void"


STEPS = {
    "even": (3003,) * 29,
    "uneven": (29281, 40, 3000, 7, 12000) * 6,
    "first long": (29281, *(3000,) * 28),
}


@pytest.mark.parametrize("last", [1, 3003, 90000])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize(
    ("codec", "preset"), [("h264", "medium"), ("h264", "ultrafast"), ("hevc", "medium")]
)
def test_video_ends_with_its_last_frame(
    tmp_path: Path, codec: str, preset: str, container: str, steps: str, count: int, last: int
) -> None:
    path, tick = tmp_path / "a", Fraction(1, 90000)
    durations = [*STEPS[steps][: count - 1], last]
    fmt = OutputFormat(container, codec, 30, preset)
    with writer(path, fmt, time_base=tick) as output:
        for index, duration in enumerate(durations):
            output.write(picture(64, 64, index), sum(durations[:index]), duration)
    with av.open(os.fspath(path)) as file:
        stream = file.streams.video[0]
        assert (stream.start_time, stream.duration) == (0, sum(durations))
        assert abs(Fraction(file.duration, 10**6) - sum(durations) * tick) <= Fraction(1, 10**6)
    assert times(path) == [sum(durations[:index]) * tick for index in range(count)]


def test_time_before_zero_moves_picture_and_sound_together(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mp4", ClipSpec(audio="aac"))
    sound = extract(source)
    assert sound is not None
    path = tmp_path / "a.mp4"
    carried = (sound.data, sound.container)
    warnings = write(path, FAST, (-5, -4, -3, -2), passthrough=carried)
    assert times(path) == [Fraction(i, 25) for i in range(4)]
    assert len(warnings) == 1
    assert "0.200 s later" in warnings[0]
    moved = [t - s for (s, _), (t, _) in zip(*audio_packets(source), *audio_packets(path))]  # noqa: B905
    assert set(moved) == {Fraction(1, 5)}


@pytest.mark.parametrize(("time_base", "warned"), [((1, 25), False), ((1001, 30000), True)])
def test_matroska_says_when_it_rounds(
    tmp_path: Path, time_base: tuple[int, int], warned: bool
) -> None:
    path, ticks = tmp_path / "a.mkv", Fraction(*time_base)
    warnings = write(path, FFV1, tuple(range(9)), time_base=ticks)
    assert warnings == (["frame times are rounded to 1 ms in Matroska"] if warned else [])
    error = [abs(t - i * ticks) for i, t in enumerate(times(path))]
    assert len(error) == 9
    assert max(error) <= Fraction(1, 2000)
    assert (max(error) > 0) == warned


def test_time_base_too_fine_for_the_container_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    fine = Fraction(1, 2**40)
    warnings = write(path, FAST, (0, 2**35, 2**36), time_base=fine)
    assert "rounded to 1/90000" in warnings[0]
    expected = (0, Fraction(1, 32), Fraction(1, 16))
    assert all(abs(t - e) < Fraction(1, 90000) for t, e in zip(times(path), expected, strict=True))


def test_times_that_do_not_rise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="frame time 1 does not follow 1"):
        write(tmp_path / "a.mp4", FAST, (0, 1, 1))


# --- colour ---------------------------------------------------------------------------------


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
def test_rgb_to_ycbcr_and_back(matrix: int, full_range: bool) -> None:
    rgb, color = picture(160, 120), ColorInfo(2, 2, matrix, full_range)
    frame = rgb_to_frame(rgb, "yuv444p", color)
    assert (frame.colorspace, frame.color_range) == (matrix, 2 if full_range else 1)
    assert np.abs(yuv_to_rgb(*frame.to_ndarray(), matrix, full_range) - rgb).mean() < 0.6
    for pixel_format, most in (("yuv444p", 0.6), ("yuv420p", 0.9)):
        back = frame_to_rgb(rgb_to_frame(rgb, pixel_format, color), color).astype(int)
        assert np.abs(back - rgb).mean() < most
        assert np.abs((back - rgb).mean(axis=(0, 1))).max() < 0.15, "biased"


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("full_range", [False, True])
def test_grey_stays_neutral(pixel_format: str, full_range: bool) -> None:
    color = ColorInfo(1, 1, 1, full_range)
    for level in (0, 1, 16, 127, 128, 235, 255):
        frame = rgb_to_frame(np.full((16, 16, 3), level, np.uint8), pixel_format, color)
        back = frame_to_rgb(frame, color).astype(int)
        assert np.ptp(back) == 0
        assert abs(int(back[0, 0, 0]) - level) <= 1


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize(
    "color",
    [
        ColorInfo(2, 2, 6, False),
        ColorInfo(2, 2, 1, False),
        ColorInfo(1, 1, 1, True),
        ColorInfo(9, 16, 9, False),
        ColorInfo(5, 15, 5, True),
        ColorInfo(7, 7, 7, False),
    ],
)
def test_tags_and_colours_survive_the_file(tmp_path: Path, codec: str, color: ColorInfo) -> None:
    path = tmp_path / "a.mp4"
    write(path, OutputFormat("mp4", codec, 1, "veryfast"), color=color)
    frame = decoded(path)[0]
    tags = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
    assert tags == (color.primaries, color.transfer, color.matrix, 2 if color.full_range else 1)
    with VideoReader(path) as reader:
        assert reader.info.color == color
        for index, found in enumerate(reader):
            assert np.abs(found.rgb.astype(int) - picture(64, 64, index)).mean() < 1.5


def test_unknown_code_points_are_written_as_unspecified(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", color=ColorInfo(200, 99, 1, False))
    assert probe(tmp_path / "a.mp4").color == BT709.__class__(2, 2, 1, False)


# --- geometry and codecs --------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("fmt", [FAST, replace(FAST, container="mov", codec="hevc"), FFV1])
def test_rotation_is_kept(tmp_path: Path, fmt: OutputFormat, rotation: int) -> None:
    write(tmp_path / "a", fmt, rotation=rotation)
    assert probe(tmp_path / "a").rotation == rotation


def test_pixel_shape_is_kept_or_warned_of(tmp_path: Path) -> None:
    shape = Fraction(1137, 800)
    assert write(tmp_path / "a.mp4", sample_aspect_ratio=shape) == []
    assert probe(tmp_path / "a.mp4").sample_aspect_ratio == shape
    warnings = write(tmp_path / "a.mkv", FFV1, sample_aspect_ratio=shape)
    assert "1137/800" in warnings[0]


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (65, 48), (64, 47)])
def test_odd_sizes_are_written_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    path, (width, height) = tmp_path / "a.mp4", size
    warnings = write(path, width=width, height=height)
    assert len(warnings) == 1
    assert "4:4:4" in warnings[0]
    info = probe(path)
    assert (info.width, info.height, info.pix_fmt) == (width, height, "yuv444p")


@pytest.mark.parametrize("color", [BT709, ColorInfo(9, 16, 9, True)])
def test_ffv1_gives_back_the_very_samples(tmp_path: Path, color: ColorInfo) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (4, 47, 65, 3)).astype(np.uint8)
    path = tmp_path / "a.mkv"
    with writer(path, FFV1, width=65, height=47, color=color) as output:
        for index, rgb in enumerate(noise):
            output.write(rgb, index, 1)
    assert output.warnings == []
    with VideoReader(path) as reader:
        assert np.array_equal(np.stack([frame.rgb for frame in reader]), noise)
    frame = decoded(path)[0]
    assert (frame.color_primaries, frame.color_trc) == (color.primaries, color.transfer)


def test_hevc_in_mp4_is_tagged_for_players(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", OutputFormat("mp4", "hevc", 20, "ultrafast"))
    with av.open(os.fspath(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_metadata_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", metadata={"title": "Föhn"})
    assert probe(tmp_path / "a.mp4").metadata == {"title": "Föhn"}


def test_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, threads=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_encoders_are_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for codec in ("h264", "hevc"):
        write(tmp_path / "a.mp4", OutputFormat("mp4", codec, 20, "ultrafast"))
    assert capfd.readouterr() == ("", "")


# --- formats and errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "container", "found"),
    [
        ("a.mp4", None, "mp4", "h264"),
        ("a.M4V", "hevc", "mp4", "hevc"),
        ("b.mov", None, "mov", "h264"),
        ("c.mkv", None, "matroska", "ffv1"),
        ("c.mkv", "h264", "matroska", "h264"),
    ],
)
def test_format_by_suffix(name: str, codec: str | None, container: str, found: str) -> None:
    fmt = output_format(name, codec, crf=20, preset="slow")
    assert fmt == OutputFormat(container, found, 20, "slow")
    assert output_format(name, codec).crf == 12


def test_formats_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"a\.txt: .*\.mp4 \.m4v \.mov \.mkv"):
        output_format("a.txt")
    with pytest.raises(UsageError, match=r"\.mp4 can hold h264 hevc, not ffv1"):
        output_format("a.mp4", "ffv1")
    with pytest.raises(UsageError, match="crf"):
        OutputFormat("mp4", "h264", crf=60)
    with pytest.raises(UsageError, match="preset quick"):
        OutputFormat("mp4", "h264", preset="quick")
    with pytest.raises(UsageError, match="mp4 output cannot be in vp9"):
        OutputFormat("mp4", "vp9")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^a\.mp4: .*no such file or folder"):
        write(tmp_path / "none" / "a.mp4")
    with pytest.raises(OutputError, match="it is a folder"):
        write(tmp_path)
    with pytest.raises(OutputError, match="HEVC needs at least 64x64"):
        write(tmp_path / "a.mp4", OutputFormat("mp4", "hevc"), width=8, height=8)
    with pytest.raises(OutputError, match="h264 in mp4 at 20000x2"):
        write(tmp_path / "a.mp4", width=20000, height=2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("frames", [3, 40])
@pytest.mark.parametrize("fmt", [FAST, FFV1])
def test_full_disk(fmt: OutputFormat, frames: int) -> None:
    with pytest.raises(OutputError, match="no space left"):
        write(Path("/dev/full"), fmt, tuple(range(frames)))


def test_an_error_in_the_block_is_not_hidden(tmp_path: Path) -> None:
    output = writer(tmp_path / "a.mp4")

    def fail_after_a_frame() -> None:
        with output:
            output.write(picture(64, 64), 0, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_a_frame()
    with pytest.raises(AssertionError):
        output.write(picture(64, 64), 1, 1)
    output.close()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_in_hevc_have_decoding_times(tmp_path: Path, frames: int) -> None:
    """x265 leaves those of one and two frames to chance."""
    for attempt in range(5):
        path = tmp_path / f"{attempt}.mp4"
        write(path, OutputFormat("mp4", "hevc", preset="ultrafast"), tuple(range(frames)))
        with av.open(str(path)) as container:
            (stream,) = container.streams.video
            packets = [packet for packet in container.demux(stream) if packet.size]
        steps = [(p.pts - p.dts) * p.time_base for p in packets]
        assert len(packets) == frames
        assert min(steps) >= 0
        assert max(steps) <= Fraction(3, 25)
