"""Reading videos: colour, times, geometry, and one clear line for each file that is unfit."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from video_helpers import (
    KR_KB,
    ClipSpec,
    clip,
    decoded,
    flat_frame,
    make_clip,
    picture,
    times,
    yuv_to_rgb,
)

from nervcodec.errors import InputVideoError, UnsupportedError, UsageError
from nervcodec.video import source
from nervcodec.video.color import decide_color, frame_to_rgb
from nervcodec.video.info import ColorInfo
from nervcodec.video.reader import VideoReader, probe
from nervcodec.video.resample import area_taps, linear_taps, plan_geometry

PATCHES = ((16, 128, 128), (235, 128, 128), (126, 129, 127), (100, 140, 110), (60, 120, 150))


# --- colour ---------------------------------------------------------------------------------


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
def test_colours_are_those_of_the_standard(
    pixel_format: str, matrix: int, full_range: bool
) -> None:
    for codes in PATCHES:
        rgb = frame_to_rgb(flat_frame(pixel_format, codes), ColorInfo(1, 1, matrix, full_range))
        assert rgb.shape == (32, 32, 3)
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous
        expected = yuv_to_rgb(*(np.array(c) for c in codes), matrix, full_range)
        assert np.abs(rgb - expected).max() < 0.75


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray12le"])
@pytest.mark.parametrize("full_range", [False, True])
def test_grey_range_is_honoured(pixel_format: str, full_range: bool) -> None:
    for luma, _, _ in PATCHES:
        rgb = frame_to_rgb(flat_frame(pixel_format, (luma, 0, 0)), ColorInfo(2, 2, 6, full_range))
        neutral = np.array(128)
        expected = yuv_to_rgb(np.array(luma), neutral, neutral, 6, full_range)
        tolerance = 0.75 if not full_range else 1.5  # gray10: 1023 is white, not 1020
        assert np.abs(rgb - expected).max() < tolerance


def test_subsampled_chroma_is_not_shifted() -> None:
    frame = av.VideoFrame.from_ndarray(picture(320, 240)).reformat(format="yuv444p")
    full = frame_to_rgb(frame, ColorInfo(1, 1, 6, False)).astype(int)
    half = frame.reformat(format="yuv420p", interpolation="BICUBIC")
    difference = frame_to_rgb(half, ColorInfo(1, 1, 6, False)) - full
    assert np.abs(difference).mean() < 0.6
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.3  # without exact flags: 1 to 2


@pytest.mark.parametrize(
    ("tags", "pixel_format", "height", "expected"),
    [
        ((2, 2, 2, 0), "yuv420p", 720, ColorInfo(2, 2, 1, False, assumed=True)),
        ((2, 2, 2, 0), "yuv420p", 719, ColorInfo(2, 2, 6, False, assumed=True)),
        ((2, 2, 2, 1), "gray", 480, ColorInfo(2, 2, 6, False, assumed=True)),
        ((2, 2, 2, 2), "gray", 480, ColorInfo(2, 2, 6, True, assumed=True)),
        ((9, 16, 9, 1), "yuv420p10le", 180, ColorInfo(9, 16, 9, False)),
        ((1, 1, 1, 2), "yuv420p", 240, ColorInfo(1, 1, 1, True)),
        ((5, 15, 5, 0), "yuvj420p", 1080, ColorInfo(5, 15, 5, True)),
        ((1, 1, 1, 0), "yuv420p", 1080, ColorInfo(1, 1, 1, False, assumed=True)),
        ((2, 2, 2, 0), "bgra", 480, ColorInfo(2, 2, 6, True)),
        ((1, 13, 0, 2), "gbrp", 1080, ColorInfo(1, 13, 1, True)),
        ((2, 2, 0, 0), "yuv420p", 480, ColorInfo(2, 2, 6, False, assumed=True)),
        ((9, 14, 10, 1), "yuv420p", 480, ColorInfo(9, 14, 9, False)),
        ((0, 0, 1, 1), "yuv420p", 480, ColorInfo(2, 2, 1, False)),
    ],
)
def test_untagged_colour_is_decided_by_rule(
    tags: tuple[int, int, int, int], pixel_format: str, height: int, expected: ColorInfo
) -> None:
    assert decide_color(tags, VideoFormat(pixel_format), height) == expected


def test_color_info_refuses_what_cannot_be_converted() -> None:
    with pytest.raises(UnsupportedError, match="matrix 8"):
        ColorInfo(1, 1, 8, False)
    with pytest.raises(UnsupportedError, match="transfer 300"):
        ColorInfo(1, 300, 1, False)


def test_stream_that_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "ycgco.mp4", ClipSpec(pixel_format="yuv444p", colour=(1, 1, 8, 1)))
    with pytest.raises(InputVideoError, match=r"ycgco\.mp4: colour matrix 8"):
        probe(path)


def test_tags_of_the_file_reach_info_and_pixels(tmp_path: Path) -> None:
    reds = {}
    for matrix in (1, 6):
        spec = ClipSpec(codec="ffv1", container="matroska", colour=(1, 1, matrix, 1), frames=1)
        path = make_clip(tmp_path / f"{matrix}.mkv", spec)
        with VideoReader(path) as reader:
            assert reader.info.color == ColorInfo(1, 1, matrix, False)
            frame = next(iter(reader)).rgb
        source = decoded(path)[0].reformat(format="yuv444p", interpolation="BICUBIC")
        expected = yuv_to_rgb(*source.to_ndarray(), matrix, False)
        assert np.abs(frame - expected).mean() < 1
        reds[matrix] = frame[..., 0].astype(int)
    assert np.abs(reds[1] - reds[6]).mean() > 2


# --- times ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (Fraction(1, 25), tuple(range(12))),
        (Fraction(1001, 30000), tuple(range(12))),
        (Fraction(1, 90000), (0, 3000, 6003, 20000, 20001, 49281, 60000, 99999)),
        (Fraction(1, 15360), tuple(153600 + 512 * i for i in range(12))),
    ],
)
def test_times_are_the_files(tmp_path: Path, time_base: Fraction, pts: tuple[int, ...]) -> None:
    path = make_clip(tmp_path / "a.mp4", ClipSpec(time_base=time_base, pts=pts))
    with VideoReader(path) as reader:
        found = [frame.pts * reader.info.time_base for frame in reader]
        assert reader.warnings == []
    assert found == [p * time_base for p in pts] == times(path)


def test_missing_times_are_made_up(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.264", ClipSpec(container="h264"))
    with VideoReader(path) as reader:
        found = [frame.pts * reader.info.time_base for frame in reader]
        assert found == [Fraction(i, 25) for i in range(10)]
        assert reader.warnings == ["10 frames have no timestamp, taken at 25 a second"]


def test_equal_times_are_moved() -> None:
    with VideoReader(clip("odd/aux_tracks_dup_pts.mp4")) as reader:
        assert [frame.pts for frame in reader] == [0, 1, 2, 3, 4]
        assert "4 frames are not later" in reader.warnings[0]


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("odd/srt_ac3.mkv", Fraction(30000, 1001)),
        ("odd/avi_mpeg4_mp3_bframes.avi", Fraction(24000, 1001)),
        ("odd/hdr_pq_10bit_hevc.mp4", Fraction(25)),
        ("carphone_qcif_qp10.mp4", Fraction(30000, 1001)),
        ("odd/raw_no_timestamps_screen.264", Fraction(25)),
        ("odd/synth_1000fps.mp4", Fraction(1000)),
    ],
)
def test_frame_rate_agrees_with_the_timestamps(name: str, rate: Fraction) -> None:
    assert probe(clip(name)).frame_rate == rate


def test_rate_is_measured_past_the_reordering_of_b_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for packets in range(60, 70):
        monkeypatch.setattr(source, "_RATE_PACKETS", packets)
        assert source.packet_rate(clip("odd/hdr_pq_10bit_hevc.mp4"), 0) == 25


# --- geometry -------------------------------------------------------------------------------


def dense(taps: tuple[np.ndarray, np.ndarray], n_in: int) -> np.ndarray:
    """The (n_out, n_in) matrix of the taps."""
    index, weight = taps
    matrix = np.zeros((len(index), n_in))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weight)
    return matrix


@pytest.mark.parametrize(("n_in", "n_out"), [(12, 6), (9, 3), (10, 7), (7, 1), (1080, 271)])
def test_area_weights_are_the_overlaps(n_in: int, n_out: int) -> None:
    edges = np.arange(n_out + 1) * n_in / n_out
    expected = np.array(
        [
            [max(0, min(edges[i + 1], j + 1) - max(edges[i], j)) for j in range(n_in)]
            for i in range(n_out)
        ]
    )
    assert np.allclose(dense(area_taps(n_in, n_out), n_in), expected * n_out / n_in, atol=1e-6)


@pytest.mark.parametrize(("n_in", "n_out"), [(4, 8), (5, 7), (1, 3)])
def test_linear_weights_interpolate(n_in: int, n_out: int) -> None:
    position = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    assert np.allclose(dense(linear_taps(n_in, n_out), n_in) @ np.arange(n_in), position)


def test_halving_is_the_mean_of_four() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    small = plan_geometry(64, 48, Fraction(1), None, (32, 24)).apply(rgb)
    expected = np.floor(rgb.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3)) + 0.5)
    assert np.array_equal(small, expected)
    assert small.flags.c_contiguous


def test_size_in_one_axis_only() -> None:
    rgb = picture(64, 48)
    wide = plan_geometry(64, 48, Fraction(1), None, (128, 48)).apply(rgb)
    assert wide.shape == (48, 128, 3)
    assert np.abs(wide.reshape(48, 64, 2, 3).mean(axis=2) - rgb).max() < 2


def test_crop_is_centred_and_size_keeps_the_shape(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", ClipSpec(container="matroska", codec="ffv1", frames=1))
    with VideoReader(path) as reader:
        whole = next(iter(reader)).rgb
    with VideoReader(path, crop=(33, 20)) as reader:
        assert (reader.out_width, reader.out_height) == (33, 20)
        assert reader.out_sample_aspect_ratio == 1
        assert np.array_equal(next(iter(reader)).rgb, whole[14:34, 15:48])
    with VideoReader(path, crop=(32, 24), size=(16, 24)) as reader:
        assert reader.out_sample_aspect_ratio == 2
        assert next(iter(reader)).rgb.shape == (24, 16, 3)


@pytest.mark.parametrize(
    ("crop", "size"),
    [((65, 48), None), ((64, 49), None), ((0, 4), None), (None, (0, 9)), (None, (9, 10**6))],
)
def test_impossible_geometry_is_a_usage_error(
    tmp_path: Path, crop: tuple[int, int] | None, size: tuple[int, int] | None
) -> None:
    path = make_clip(tmp_path / "a.mp4", ClipSpec(frames=2))
    with pytest.raises(UsageError, match=r"\dx\d"):
        VideoReader(path, crop=crop, size=size)


# --- iteration ------------------------------------------------------------------------------


def test_iterations_are_independent_and_may_be_left(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ClipSpec())
    with VideoReader(path) as reader:
        first = [frame.pts for frame in reader]
        abandoned = iter(reader)
        next(abandoned)
        assert [frame.pts for frame in reader] == first
        assert len(first) == 10
        assert next(abandoned, None) is None
        last = iter(reader)
        next(last)
    assert next(last, None) is None


def test_max_frames_reads_no_further() -> None:
    with VideoReader(clip("odd/corrupt_28of50.mp4"), max_frames=28) as reader:
        assert sum(1 for _ in reader) == 28
    with pytest.raises(UsageError, match="at least one frame"):
        VideoReader(clip("odd/corrupt_28of50.mp4"), max_frames=0)


# --- files that are unfit -------------------------------------------------------------------


def test_missing_folder_empty_and_text(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("just words\n" * 100)
    expected = {
        "none.mp4": "no such file",
        "": "is a folder",
        "empty.mp4": "is empty",
        "text.mp4": "is not a video",
        "a\0b.mp4": "not a video",
    }
    for name, message in expected.items():
        with pytest.raises(InputVideoError, match=message):
            probe(tmp_path / name if "\0" not in name else f"{tmp_path}/{name}")


def test_a_playlist_named_mp4_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "other.mp4", ClipSpec(frames=2))
    evil = tmp_path / "evil.mp4"
    evil.write_text("ffconcat version 1.0\nfile other.mp4\n")
    with av.open(os.fspath(evil)) as container:
        assert container.format.name == "concat", "FFmpeg no longer follows it: test is void"
    with pytest.raises(InputVideoError, match="is not a video"):
        probe(evil)


def test_names_are_paths_never_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "data:a.mp4", ClipSpec(frames=2))
    monkeypatch.chdir(tmp_path)
    assert probe("data:a.mp4").width == 64


def test_cover_picture_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(os.fspath(path), "w", format="mp4") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame(16, 16, "yuvj420p")
        image.pts = 0
        output.mux([*cover.encode(image), *cover.encode(None)])
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 4800), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 48000
        output.mux([*sound.encode(silence), *sound.encode(None)])
    with av.open(os.fspath(path)) as container:
        assert container.streams.video[0].disposition & av.stream.Disposition.attached_pic
    with pytest.raises(InputVideoError, match="cover picture"):
        probe(path)


def test_mp4_that_ends_before_its_index_does(tmp_path: Path) -> None:
    spec = ClipSpec(frames=25, muxer=(("movflags", "+faststart"),))
    path = make_clip(tmp_path / "a.mp4", spec)
    with av.open(os.fspath(path)) as container:
        positions = sorted(p.pos for p in container.demux(video=0) if p.size)
    path.write_bytes(path.read_bytes()[: positions[20]])
    with pytest.raises(InputVideoError, match=r"a\.mp4: .*cut short: it ends after 20 frames"):
        list(VideoReader(path))


def test_matroska_that_ends_early_is_warned_of(tmp_path: Path) -> None:
    spec = ClipSpec(frames=75, container="matroska", codec="ffv1")
    path = make_clip(tmp_path / "a.mkv", spec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as reader:
        assert 20 < sum(1 for _ in reader) < 50
        assert "may be cut short" in reader.warnings[0]


def test_recording_that_starts_in_mid_stream(tmp_path: Path) -> None:
    spec = ClipSpec(
        frames=30, container="mpegts", options=(("g", "10"), ("bf", "0"), ("sc_threshold", "0"))
    )
    path = make_clip(tmp_path / "a.ts", spec)
    with av.open(os.fspath(path)) as container:
        positions = [p.pos for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[positions[5] // 188 * 188 :])
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 20


def test_raw_stream_that_starts_in_mid_stream(tmp_path: Path) -> None:
    options = (("g", "10"), ("bf", "0"), ("sc_threshold", "0"))
    path = make_clip(tmp_path / "a.264", ClipSpec(frames=30, container="h264", options=options))
    with av.open(os.fspath(path)) as container:
        positions = [p.pos for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[positions[5] :])
    assert sum(1 for _ in VideoReader(path)) == 20


def test_undecodable_packets_before_the_first_key_frame_are_skipped(tmp_path: Path) -> None:
    spec = ClipSpec(frames=12, codec="libvpx-vp9", options=(("g", "5"), ("cpu-used", "8")))
    source, path = make_clip(tmp_path / "s.mp4", spec), tmp_path / "a.mkv"
    with av.open(os.fspath(source)) as container, av.open(os.fspath(path), "w") as output:
        copy = output.add_stream_from_template(container.streams.video[0])
        packets = [p for p in container.demux(video=0) if p.size]
        assert [p.is_keyframe for p in packets[:6]] == [True, False, False, False, False, True]
        for packet in packets[1:]:
            packet.stream = copy
            output.mux(packet)
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 7


def test_stream_without_any_key_frame(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mp4", ClipSpec(options=(("bf", "0"), ("sc_threshold", "0"))))
    path = tmp_path / "a.mkv"
    with av.open(os.fspath(source)) as container, av.open(os.fspath(path), "w") as output:
        copy = output.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size and not packet.is_keyframe:
                packet.stream = copy
                output.mux(packet)
    with pytest.raises(InputVideoError, match=r"a\.mkv: no frame of its h264 video"):
        probe(path)


def test_ordinary_clip_has_no_warning() -> None:
    info = probe(clip("bigbuckbunny_720p_132f.mp4"))
    assert info.warnings == ()
    assert (info.codec, info.bit_depth, info.duration) == ("h264", 8, Fraction(132, 25))
    assert info.color == ColorInfo(2, 2, 1, False, assumed=True)
    assert info.metadata == {}
