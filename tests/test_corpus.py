"""Every odd video encoded and decoded again: what :mod:`corpus` says must come back.

Networks are the smallest there are, trained for an epoch: the pictures are not looked at, but
that each is read in its true colours is checked apart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from corpus import CORPUS, MADE, UNFIT, Row, Sound, Text, Unfit
from video_helpers import (
    KR_KB,
    MS,
    audio_packets,
    clip,
    decoded,
    first_frame,
    first_heard,
    first_shown,
    full_planes,
    manifest,
    subtitle_packets,
    yuv_to_rgb,
)

import nervcodec
from nervcodec.cli import main as cli_main
from nervcodec.errors import InputVideoError
from nervcodec.samples import peak
from nervcodec.video.formats import OutputFormat
from nervcodec.video.info import VideoInfo
from nervcodec.video.reader import VideoReader, probe
from nervcodec.video.writer import VideoWriter
from tests.synthetic import SMALLEST

CROP = (32, 24)
WRITTEN_BITS = {".mp4": 10, ".mkv": 12}
"""The most bits a sample that are written."""

HALF_MS = MS / 2
MOST_LOST = 10
"""Mean difference of RGB samples after 4:2:0 and x264, for edges between saturated colours."""

BIG = 100_000_000
"""Pixels of a whole clip that takes too long to read to its end."""


def name(row: Row | Unfit) -> str:
    return Path(row.file).stem


@dataclass(frozen=True)
class Coded:
    """A row's file, the report of its encode, what was decoded from it, and the warnings."""

    row: Row
    source: Path
    report: nervcodec.EncodeReport
    videos: dict[str, Path]
    warnings: dict[str, tuple[str, ...]]


@pytest.fixture(scope="module", params=(*CORPUS, *MADE), ids=name)
def coded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Coded:
    row: Row = request.param
    folder = tmp_path_factory.mktemp("corpus")
    source = row.source(folder)
    config = replace(SMALLEST, crop=None if row.whole else CROP, frames=row.coded)
    report = nervcodec.encode(source, folder / "out.hfsv", config)
    videos = {suffix: folder / f"out{suffix}" for suffix in (".mp4", ".mkv")}
    warnings = {
        suffix: nervcodec.decode(folder / "out.hfsv", path).warnings
        for suffix, path in videos.items()
    }
    return Coded(row, source, report, videos, warnings)


def expected_streams(row: Row, suffix: str) -> list[Sound | Text]:
    lost = row.only_mkv if suffix == ".mp4" else row.only_mp4
    return [stream for stream in row.streams if stream.name not in lost]


# --- pictures -------------------------------------------------------------------------------


def test_every_frame_comes_back_at_its_time(coded: Coded) -> None:
    *begins, end = coded.row.seconds
    assert coded.report.frames == len(begins)
    frames = decoded(coded.videos[".mp4"])
    assert [frame.pts * frame.time_base for frame in frames] == begins
    with av.open(os.fspath(coded.videos[".mp4"])) as container:
        stream = container.streams.video[0]
        assert (stream.start_time + stream.duration) * stream.time_base == end


def test_matroska_has_the_times_to_the_millisecond(coded: Coded) -> None:
    *begins, _ = coded.row.seconds
    frames = decoded(coded.videos[".mkv"])
    assert len(frames) == len(begins)
    late = [f.pts * f.time_base - time for f, time in zip(frames, begins, strict=True)]
    assert max(map(abs, late)) <= HALF_MS
    rounds = any(time % MS for time in begins)
    assert any("1 ms" in line for line in coded.warnings[".mkv"]) == rounds


def test_shape_and_colour_come_back(coded: Coded) -> None:
    row = coded.row
    width, height = row.size if row.whole else CROP
    for suffix, path in coded.videos.items():
        frame = decoded(path)[0]
        assert (frame.width, frame.height) == (width, height)
        assert frame.rotation % 360 == row.rotation
        assert max(c.bits for c in frame.format.components) == min(row.bits, WRITTEN_BITS[suffix])
        assert (frame.color_primaries, frame.color_trc) == row.colour[:2]
        if suffix == ".mp4":
            assert (frame.colorspace, frame.color_range == 2) == row.colour[2:]
            odd = width % 2 or height % 2
            assert frame.planes[1].width == (width if odd else width // 2)
    with av.open(os.fspath(coded.videos[".mp4"])) as container:
        assert container.streams.video[0].sample_aspect_ratio == row.shape
    assert any("pixels" in line for line in coded.warnings[".mkv"]) == (row.shape != 1)


# --- sound, subtitles, chapters, tags -------------------------------------------------------


def test_streams_are_carried_or_named(coded: Coded) -> None:
    row = coded.row
    assert coded.report.audio_streams == tuple(stream.name for stream in row.streams)
    for suffix, lost in ((".mp4", row.only_mkv), (".mkv", row.only_mp4)):
        lines = [line for line in coded.warnings[suffix] if "left out," in line]
        assert [line.rpartition(": ")[2] for line in lines] == list(lost)
        kept = expected_streams(row, suffix)
        with av.open(os.fspath(coded.videos[suffix])) as container:
            found = [s.type for s in container.streams if s.type in ("audio", "subtitle")]
        assert found == ["audio" if isinstance(stream, Sound) else "subtitle" for stream in kept]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_the_same_bytes_at_the_same_times(coded: Coded, suffix: str) -> None:
    sounds = [s for s in expected_streams(coded.row, suffix) if isinstance(s, Sound)]
    found = audio_packets(coded.videos[suffix])
    assert [len(packets) for packets in found] == [sound.packets for sound in sounds]
    if not sounds:
        return
    for given, packets, sound in zip(audio_packets(coded.source), found, sounds, strict=True):
        assert given[0][0] == sound.begins
        assert [data for _, data in packets] == [data for _, data in given[: sound.packets]]
        pairs = zip(given, packets, strict=False)
        assert max(abs(old - new) for (old, _), (new, _) in pairs) <= 3 * HALF_MS


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_and_picture_stay_in_step(coded: Coded, suffix: str) -> None:
    """Matroska plays the priming too, which is a packet or two."""
    path, begin = coded.videos[suffix], coded.row.seconds[0]
    sounds = [s for s in expected_streams(coded.row, suffix) if isinstance(s, Sound)]
    if sounds:
        assert first_shown(coded.source) == begin
    for given, found, sound in zip(
        first_heard(coded.source), first_heard(path), sounds, strict=bool(sounds)
    ):
        assert given == sound.heard
        apart = abs((found - first_shown(path)) - (sound.heard - begin))
        priming = sound.heard - sound.begins
        assert apart <= (HALF_MS if suffix == ".mp4" else max(priming, sound.lasts) + MS)


def test_texts_are_carried(coded: Coded) -> None:
    for suffix, path in coded.videos.items():
        texts = [s.texts for s in expected_streams(coded.row, suffix) if isinstance(s, Text)]
        given, found = subtitle_packets(coded.source), subtitle_packets(path)
        assert [len(stream) for stream in found] == texts
        if texts:
            for old, new in zip(given, found, strict=True):
                assert new == old[: len(new)]


def test_chapters_and_tags_are_carried(coded: Coded) -> None:
    row = coded.row
    for path in coded.videos.values():
        with av.open(os.fspath(path)) as container:
            chapters = [
                (*(c[key] * c["time_base"] / MS for key in ("start", "end")), c["metadata"])
                for c in container.chapters()
            ]
            tags = {key.lower(): value for key, value in container.metadata.items()}
        assert [(*times, found["title"]) for *times, found in chapters] == list(row.chapters)
        written_by_ffmpeg = ("major_brand", "minor_version", "compatible_brands", "encoder")
        assert {k: v for k, v in tags.items() if k not in written_by_ffmpeg} == dict(row.tags)


def test_what_is_lost_is_said(coded: Coded) -> None:
    row = coded.row
    # Whether mirroring is lost, test_subtitles tells.
    lines = [line for line in coded.report.warnings if "mirror" not in line]
    assert len(lines) == len(row.says)
    for text in row.says:
        assert sum(text in line for line in lines) == 1, text


# --- the whole picture, without a network ---------------------------------------------------


def true_colours(frame: VideoFrame, matrix: int, full_range: bool, step: int) -> np.ndarray:
    """float64 RGB by the formulas of H.273, of each ``step``-th sample in both directions."""
    if frame.format.is_rgb or frame.format.has_palette:
        return frame.to_ndarray(format="rgb24")[::step, ::step].astype(float)
    luma, *chroma = (plane[::step, ::step] for plane in full_planes(frame))
    bits = frame.format.components[0].bits
    neutral = np.full_like(luma, 128 << (bits - 8))
    blue, red = chroma[:2] if len(chroma) >= 2 else (neutral, neutral)
    return yuv_to_rgb(luma, blue, red, matrix, full_range, bits)


def written(rgb: np.ndarray, bit_depth: int, info: VideoInfo, path: Path) -> Path:
    """A picture alone as MP4, with the shape, rotation and colour of ``info``."""
    with VideoWriter(
        path,
        OutputFormat("mp4", "h264", preset="ultrafast"),
        width=info.width,
        height=info.height,
        time_base=info.time_base,
        sample_aspect_ratio=info.sample_aspect_ratio,
        rotation=info.rotation,
        color=info.color,
        frame_rate=info.frame_rate,
        passthrough=None,
        bit_depth=bit_depth,
    ) as output:
        output.write(rgb, 0, 1)
    return path


@pytest.mark.parametrize("row", [*CORPUS, *MADE], ids=name)
def test_whole_picture_is_read_and_written(row: Row, tmp_path: Path) -> None:
    source = row.source(tmp_path)
    with VideoReader(source, max_frames=1) as reader:
        info, depth, samples = reader.info, reader.bit_depth, next(iter(reader)).rgb
    rgb = samples / peak(depth) * 255
    assert (info.width, info.height) == row.size
    assert (info.sample_aspect_ratio, info.rotation) == (row.shape, row.rotation)
    assert info.bit_depth == row.bits
    color = info.color
    assert (color.primaries, color.transfer, color.matrix, color.full_range) == row.colour

    original = first_frame(source)
    step = 1 + row.size[0] // 500
    shown = rgb[::-1] if info.mirrored else rgb
    errors = {
        (matrix, full): np.abs(
            shown[::step, ::step] - true_colours(original, matrix, full, step)
        ).mean()
        for matrix in KR_KB
        for full in (False, True)
    }
    # Chroma is interpolated in another way: of all matrices and ranges the true one fits best.
    assert errors[row.colour[2:]] <= min(errors.values()) + 0.1

    found = first_frame(written(samples, depth, info, tmp_path / "out.mp4"))
    assert (found.width, found.height) == row.size
    assert found.rotation % 360 == row.rotation
    assert probe(tmp_path / "out.mp4").sample_aspect_ratio == row.shape
    assert np.abs(found.to_ndarray(format="rgb24") - rgb).mean() < MOST_LOST


@pytest.mark.parametrize("row", [row for row in CORPUS if row.coded], ids=name)
def test_every_frame_is_read(row: Row) -> None:
    frames = len(row.times) - 1
    if frames * row.size[0] * row.size[1] > BIG:
        pytest.skip("too large to be read in a test")
    with VideoReader(clip(row.file)) as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
    assert times == [ticks * row.tick for ticks in row.times[:-1]]


# --- files that are unfit -------------------------------------------------------------------


@pytest.mark.parametrize("unfit", UNFIT, ids=name)
def test_unfit_file_is_refused_in_a_line(
    unfit: Unfit,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = clip(unfit.file)
    arguments = ["encode", str(path), str(tmp_path / "out.hfsv")]
    monkeypatch.setattr("sys.argv", ["hfsv", *arguments, "--params", "9000", "--quiet"])
    assert cli_main._run() == InputVideoError.exit_code == 3
    printed = capfd.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"hfsv: error: {path.name}: ")
    assert unfit.error in line
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("unfit", UNFIT, ids=name)
def test_frames_before_the_damage_are_read(unfit: Unfit) -> None:
    times: list[int] = []
    with pytest.raises(InputVideoError):
        times.extend(frame.pts for frame in VideoReader(clip(unfit.file)))
    assert len(times) == unfit.frames


def test_table_has_every_file_of_the_corpus() -> None:
    assert sorted(row.file for row in (*CORPUS, *UNFIT)) == sorted(r["file"] for r in manifest())
