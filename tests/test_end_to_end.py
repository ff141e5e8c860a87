"""Whole encodes and decodes through the library: what comes out against what went in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import nervcodec
from nervcodec.bitstream.segment import encode_segment
from nervcodec.bitstream.tensors import Limits
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.metrics import psnr
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.reader import VideoReader
from tests.synthetic import moving_pattern, read_back, write_clip

QUICK = EncodeConfig(
    train=TrainConfig(epochs=6), model=ModelConfig(params=9000), threads=1, overwrite=True
)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, nervcodec.EncodeReport]:
    """A 64x48 clip of 12 frames with sound, its .hfsv, and the encoder's report."""
    folder = tmp_path_factory.mktemp("coded")
    source = write_clip(folder / "in.mp4", moving_pattern(64, 48, 12), audio=True)
    report = nervcodec.encode(source, folder / "out.hfsv", QUICK)
    return source, folder / "out.hfsv", report


def test_decoded_mp4_has_times_geometry_and_sound_of_the_source(coded, tmp_path):
    source, file, _ = coded
    nervcodec.decode(file, tmp_path / "out.mp4")
    before, after = read_back(source), read_back(tmp_path / "out.mp4")
    assert after.times == before.times
    assert after.size == before.size
    assert len(before.audio) > 5
    assert after.audio == before.audio


def test_decoded_frames_resemble_the_source(coded):
    source, file, report = coded
    originals = read_back(source).frames
    with nervcodec.open(file) as clip:
        assert len(clip) == len(originals)
        measured = np.mean([psnr(a, b) for a, b in zip(originals, clip, strict=True)])
        with VideoReader(source) as reader:
            as_coded = np.mean([psnr(a.rgb, b) for a, b in zip(reader, clip, strict=True)])
    assert report.psnr > 20  # far above the 11.6 dB of the best flat grey
    assert as_coded == pytest.approx(report.psnr, abs=0.01)
    assert measured == pytest.approx(report.psnr, abs=0.5)  # another YUV to RGB conversion


def test_report_is_measured_on_the_file(coded):
    _, file, report = coded
    assert report.file_bytes == file.stat().st_size
    pixels = report.frames * report.width * report.height
    assert report.bits_per_pixel == 8 * (report.file_bytes - report.audio_bytes) / pixels
    assert 0 < report.audio_bytes < report.file_bytes
    assert report.params <= 9000


def test_ffv1_holds_the_very_frames(coded, tmp_path):
    _, file, _ = coded
    nervcodec.decode(file, tmp_path / "out.mkv")
    stored = read_back(tmp_path / "out.mkv")
    with nervcodec.open(file) as clip:
        assert all((a == b).all() for a, b in zip(stored.frames, clip, strict=True))
    assert [packet for packet, _ in stored.audio] == [p for p, _ in read_back(coded[0]).audio]


def test_frames_by_index_equal_frames_in_order(coded):
    with nervcodec.open(coded[1]) as clip:
        everything = clip[:]
        assert (clip[7] == everything[7]).all()
        assert (clip[-1] == everything[11]).all()
        assert (clip[[5, 2, 2]] == everything[[5, 2, 2]]).all()
        with pytest.raises(IndexError):
            clip[12]


def test_same_seed_gives_the_same_bytes(coded, tmp_path):
    source, file, _ = coded
    nervcodec.encode(source, tmp_path / "again.hfsv", QUICK)
    assert (tmp_path / "again.hfsv").read_bytes() == file.read_bytes()


def test_verify_measures_the_same_as_the_encoder(coded):
    source, file, report = coded
    found = nervcodec.verify(file, source=source, frames=True)
    assert found.frames_checked
    assert found.psnr == pytest.approx(report.psnr, abs=0.01)
    assert found.psnr_611 == pytest.approx(weighted_psnr(source, file), abs=1e-6)


def weighted_psnr(source, file):
    """6:1:1 from the matrices of PyAV's own arrays."""
    values = []
    with nervcodec.open(file) as clip, VideoReader(source) as reader:
        for reference, decoded in zip(reader, clip, strict=True):
            color = reader.info.color
            pair = [rgb_to_frame(rgb, "yuv420p", color) for rgb in (reference.rgb, decoded)]
            a, b = (frame.to_ndarray().astype(float) for frame in pair)  # (H * 3 / 2, W)
            error, height = (a - b) ** 2, reference.rgb.shape[0]
            parts = error[:height], error[height : height * 5 // 4], error[height * 5 // 4 :]
            psnrs = [10 * np.log10(255**2 / part.mean()) for part in parts]
            values.append(np.average(psnrs, weights=(6, 1, 1)))
    return np.mean(values)


def test_verify_refuses_another_source(coded, tmp_path):
    other = write_clip(tmp_path / "short.mp4", moving_pattern(64, 48, 5))
    with pytest.raises(nervcodec.UsageError, match="5 frames"):
        nervcodec.verify(coded[1], source=other)


def test_coded_symbols_are_within_a_percent_of_their_entropy(coded):
    with nervcodec.open(coded[1]) as clip:
        segment = clip.reader.segment(0)
    _, size = encode_segment(segment)
    bits = 0.0
    for tensor in segment.tensors:
        counts = np.unique(tensor.symbols, return_counts=True)[1]
        bits -= (counts * np.log2(counts / counts.sum())).sum()
    tables = 0
    for tensor in segment.tensors:
        used = np.unique(tensor.symbols)
        tables += 3 + (int(used[-1]) - int(used[0]) + 1) if used.size > 1 else 0
    assert size.words + size.tables <= 1.01 * (bits / 8 + tables)


def test_segments_have_networks_of_their_own(tmp_path):
    frames = moving_pattern(48, 32, 7)
    source = write_clip(tmp_path / "in.mp4", frames)
    config = EncodeConfig(
        train=TrainConfig(epochs=2), model=ModelConfig(params=20000), keyint=3, threads=1
    )
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    with nervcodec.open(tmp_path / "out.hfsv") as clip:
        assert [segment.frames for segment in clip.reader.segments] == [3, 2, 2]
        assert clip[:].shape == (7, 32, 48, 3)
        assert (clip[[6, 0, 4]] == clip[:][[6, 0, 4]]).all()


def test_variable_frame_rate_is_kept(tmp_path):
    pts = [0, 1, 3, 4, 9, 11]
    source = write_clip(tmp_path / "in.mp4", moving_pattern(32, 32, 6), pts=pts)
    nervcodec.encode(source, tmp_path / "out.hfsv", QUICK)
    nervcodec.decode(tmp_path / "out.hfsv", tmp_path / "out.mp4")
    assert read_back(tmp_path / "out.mp4").times == [Fraction(p, 25) for p in pts]


@pytest.mark.parametrize(("width", "height", "count"), [(33, 21, 3), (16, 64, 1), (1, 1, 2)])
def test_any_size_and_frame_count(tmp_path, width, height, count):
    frames = moving_pattern(width, height, count)
    even = frames.repeat(2, axis=1).repeat(2, axis=2)
    source = write_clip(tmp_path / "in.mp4", even)
    config = EncodeConfig(
        train=TrainConfig(epochs=1), size=(width, height), model=ModelConfig(params=9000)
    )
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    nervcodec.decode(tmp_path / "out.hfsv", tmp_path / "out.mp4")
    after = read_back(tmp_path / "out.mp4")
    assert after.size == (width, height)
    assert len(after.times) == count


def test_hnerv_is_the_same_network_without_the_parts(tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 3))
    model = ModelConfig(params=9000, hfscm=False, msfrp=False)
    config = EncodeConfig(train=TrainConfig(epochs=1, hfs_weight=0.0), model=model)
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    info = nervcodec.probe(tmp_path / "out.hfsv")
    assert info.architecture == "hnerv"
    with nervcodec.open(tmp_path / "out.hfsv") as clip:
        names = [tensor.spec.name for tensor in clip.reader.segment(0).tensors]
    assert not [name for name in names if "hfscm" in name or "msfrp" in name]


def test_real_clip_with_sound_round_trips(clips, tmp_path):
    source = clips / "bigbuckbunny_720p_132f.mp4"
    config = EncodeConfig(
        train=TrainConfig(epochs=1), model=ModelConfig(params=20000), size=(64, 36)
    )
    report = nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert report.frames == 132
    assert report.audio_streams
    nervcodec.decode(tmp_path / "out.hfsv", tmp_path / "out.mp4")
    before, after = read_back(source), read_back(tmp_path / "out.mp4")
    assert after.times == before.times
    assert after.audio == before.audio
    assert after.size == (64, 36)
    assert after.colour[2:] == (1, 1)  # untagged 720 lines: taken and tagged as 709, limited


def test_sample_aspect_ratio_is_kept(clips, tmp_path):
    source = clips / "carphone_qcif_qp10.mp4"
    config = EncodeConfig(train=TrainConfig(epochs=1), model=ModelConfig(params=9000), frames=4)
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    nervcodec.decode(tmp_path / "out.hfsv", tmp_path / "out.mp4")
    before, after = read_back(source), read_back(tmp_path / "out.mp4")
    assert after.sample_aspect_ratio == before.sample_aspect_ratio == Fraction(128, 117)
    assert after.times == before.times[:4]
    assert after.size == (176, 144)


def test_frames_beyond_the_limits_are_refused_before_training(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 1))
    monkeypatch.setattr("nervcodec.rate_control.Limits", lambda: Limits(activation_bytes=100_000))
    with pytest.raises(nervcodec.TargetError, match=r"64x48 .*--size"):
        nervcodec.encode(source, tmp_path / "out.hfsv", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("name", "suffix", "chapters", "subtitles"),
    [
        ("chapters3_aac.mp4", ".mp4", 3, 0),
        ("chapters3_aac.mp4", ".mkv", 3, 0),
        ("multi_2video_2aac_2movtext.mp4", ".mp4", 0, 2),
        ("srt_ac3.mkv", ".mkv", 0, 1),
    ],
)
def test_chapters_and_subtitles_survive(clips, tmp_path, name, suffix, chapters, subtitles):
    source, output = clips / "odd" / name, tmp_path / f"out{suffix}"
    train, model = TrainConfig(epochs=1), ModelConfig(params=20000)
    config = EncodeConfig(train=train, model=model, size=(32, 24), frames=30)
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    nervcodec.decode(tmp_path / "out.hfsv", output)

    def chapters_of(container: av.container.InputContainer) -> list[tuple[str, Fraction]]:
        return [(c["metadata"]["title"], c["start"] * c["time_base"]) for c in container.chapters()]

    with av.open(str(source)) as before, av.open(str(output)) as after:
        given, end = chapters_of(before), after.duration / Fraction(1_000_000)
        assert chapters_of(after) == [(title, start) for title, start in given if start < end]
        assert (len(given), len(after.streams.subtitles)) == (chapters, subtitles)
        assert len(after.streams.audio) == len(before.streams.audio)
