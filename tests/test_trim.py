"""Encoding a part of a video: which frames, at which times, with which sound and subtitles."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_helpers import (
    ClipSpec,
    Subtitles,
    add_subtitles,
    audio_packets,
    clip,
    make_clip,
    subtitle_packets,
    times,
)

import nervcodec
from nervcodec import EncodeConfig, ModelConfig, TrainConfig
from nervcodec import encoder as encoder_module
from nervcodec.bitstream.stream import StreamReader
from nervcodec.bitstream.tensors import Limits
from nervcodec.cli import main as cli_main
from nervcodec.cli.position import seconds
from nervcodec.errors import InterruptedEncode, UsageError
from nervcodec.video.passthrough import extract
from nervcodec.video.reader import VideoReader

PTS = (0, 40, 80, 100, 101, 200, 240, 400, 440, 480, 520, 560)
"""Of the frames of the test clip, in milliseconds since its first."""

FIRST_MS = 200
"""When the test clip's first frame is presented; its sound begins at 0."""

SETTINGS = EncodeConfig(
    train=TrainConfig(epochs=1), model=ModelConfig(params=9000), device="cpu", threads=1
)


def ms(count: float) -> timedelta:
    return timedelta(milliseconds=count)


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        return cli_main._run()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48x32, frames at uneven times, sound that goes on longer, subtitles and chapters."""
    folder = tmp_path_factory.mktemp("source")
    spec = ClipSpec(
        width=48,
        height=32,
        container="matroska",
        time_base=Fraction(1, 1000),
        pts=tuple(FIRST_MS + time for time in PTS),
        audio="aac",
        audio_rate=16000,
        audio_seconds=Fraction(2),
    )
    clip_path = make_clip(folder / "clip.mkv", spec)
    texts = ((0, 250, b"gone"), (300, 300, b"come on"), (450, 100, b"in"), (1500, 100, b"late"))
    path = add_subtitles(folder / "in.mkv", clip_path, "matroska", Subtitles("subrip", texts))
    return with_chapters(path, folder / "chapters.mkv", (0, 300), (300, 500), (500, 2000))


def with_chapters(source: Path, path: Path, *spans: tuple[int, int]) -> Path:
    """A copy with chapters over these milliseconds, titled by their number."""
    with (
        av.open(os.fspath(source)) as old,
        av.open(os.fspath(path), "w", format="matroska") as new,
    ):
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        new.set_chapters(
            [
                {
                    "id": number + 1,
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": str(number)},
                }
                for number, (start, end) in enumerate(spans)
            ]
        )
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
    return path


def contents(path: Path) -> StreamReader:
    with path.open("rb") as stream:
        return StreamReader(stream, Limits())


# --- times as a person writes them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("12.5", 12_500_000),
        ("7", 7_000_000),
        ("0", 0),
        ("10s", 10_000_000),
        ("500ms", 500_000),
        ("1:02.5", 62_500_000),
        ("0:01:02.5", 62_500_000),
        ("1:00:00", 3_600_000_000),
        ("0.033367", 33_367),
        (1.25, 1_250_000),  # as TOML gives it
    ],
)
def test_times_in_words(text: str, microseconds: int) -> None:
    assert seconds(text) == timedelta(microseconds=microseconds)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1:60", "abc", "1:2:3:4", "5y", "1 s", "inf"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as"):
        seconds(text)


# --- which frames -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "count", "kept"),
    [
        (None, None, None, range(0, 12)),
        (ms(0), None, None, range(0, 12)),
        (ms(80), None, None, range(2, 12)),  # a frame's own time: from it on
        (ms(80.001), None, None, range(3, 12)),
        (ms(79.999), None, None, range(2, 12)),
        (None, ms(100), None, range(0, 3)),  # a frame's own time: without it
        (None, ms(100.001), None, range(0, 4)),
        (ms(100), ms(101), None, range(3, 4)),
        (ms(240), ms(10_000), None, range(6, 12)),
        (ms(240), ms(440), 1, range(6, 7)),
        (ms(240), ms(440), 9, range(6, 8)),
        (ms(560), None, None, range(11, 12)),
        (None, ms(0.001), None, range(0, 1)),
    ],
)
def test_frames_between_two_times(
    source: Path,
    start: timedelta | None,
    end: timedelta | None,
    count: int | None,
    kept: range,
) -> None:
    with VideoReader(source) as reader:
        whole = list(reader)
    with VideoReader(source, start=start, end=end, max_frames=count) as reader:
        for _ in range(2):
            part = list(reader)
            assert [frame.pts for frame in part] == [FIRST_MS + PTS[index] for index in kept]
            for frame, index in zip(part, kept, strict=True):
                assert np.array_equal(frame.rgb, whole[index].rgb)


def test_a_time_as_it_is_printed_finds_its_frame(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    path = make_clip(tmp_path / "a.mp4", ClipSpec(time_base=1 / rate, frames=12))
    for index in range(12):
        printed = seconds(f"{float(index / rate):.6f}")
        with VideoReader(path, start=printed) as reader:
            assert sum(1 for _ in reader) == 12 - index
        if index:
            with VideoReader(path, end=printed) as reader:
                assert sum(1 for _ in reader) == index


@pytest.mark.parametrize(
    "name",
    [
        "odd/nonzero_start_pts.mp4",
        "odd/sar1137_800_firstpts10s.mp4",
        "odd/editlist_trim_48to24_aac.mp4",
        "odd/interlaced_field_sar16_15.ts",
        "odd/raw_no_timestamps_screen.264",
        "odd/newtonscradle_vfr.gif",
        "odd/aux_tracks_dup_pts.mp4",
        "odd/odd161x121_vp9.webm",
    ],
)
def test_a_real_clip_falls_into_two_parts_anywhere(name: str) -> None:
    def read(**bounds: Any) -> list[tuple[int, int]]:
        with VideoReader(clip(name), size=(16, 16), **bounds) as reader:
            return [(frame.pts, hash(frame.rgb.tobytes())) for frame in reader]

    with VideoReader(clip(name), max_frames=4) as reader:
        before, at = [frame.pts * reader.info.time_base for frame in reader][0::3]
    cut = timedelta(microseconds=round((at - before) * 10**6))
    first, second = read(end=cut), read(start=cut)
    assert len(first) == 3
    assert first + second == read()


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (ms(561), None, "at 0.561000 s or later: the video lasts 0.611 s"),
        (ms(300), ms(400), "at 0.300000 s or later and before 0.400000 s"),
        (timedelta(days=9), ms(10**12), "the video lasts 0.611 s"),
    ],
)
def test_no_frame_left(
    source: Path, tmp_path: Path, start: timedelta, end: timedelta | None, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        nervcodec.encode(source, tmp_path / "out.hfsv", EncodeConfig(start=start, end=end))
    assert not list(tmp_path.iterdir())


def test_passing_over_frames_can_be_stopped(source: Path, tmp_path: Path) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    with pytest.raises(InterruptedEncode, match="nothing was written"):
        nervcodec.encode(source, tmp_path / "out.hfsv", EncodeConfig(start=ms(560)), stop=stop)
    assert asked == 3
    assert not list(tmp_path.iterdir())


# --- the whole way ------------------------------------------------------------------------------


def encode_part(source: Path, output: Path, **bounds: Any) -> nervcodec.EncodeReport:
    config = EncodeConfig(
        train=SETTINGS.train, model=SETTINGS.model, device="cpu", threads=1, **bounds
    )
    return nervcodec.encode(source, output, config)


def test_a_part_begins_at_zero_with_its_sound(source: Path, tmp_path: Path) -> None:
    coded, output = tmp_path / "out.hfsv", tmp_path / "out.mkv"
    report = encode_part(source, coded, start=ms(200), end=ms(480))
    assert report.frames == 4
    nervcodec.decode(coded, output)
    origin = Fraction(FIRST_MS + 200, 1000)
    assert times(output) == [Fraction(time, 1000) for time in (0, 40, 200, 240)]
    assert contents(coded).header.start_pts == 0
    # The last frame lasts as long as most do.
    end = Fraction(FIRST_MS + 440 + 40, 1000)
    lasts = Fraction(1024, 16000)
    given = [(t, data) for t, data in audio_packets(source)[0] if origin - lasts < t < end]
    heard = audio_packets(output)[0]
    assert [data for _, data in heard] == [data for _, data in given]
    assert len(heard) > 2
    for (now, _), (before, _) in zip(heard, given, strict=True):
        assert abs(now - (before - origin)) <= Fraction(1, 1000)
    assert subtitle_packets(output) == [
        [
            (Fraction(0), Fraction(200, 1000), b"come on"),
            (Fraction(50, 1000), Fraction(100, 1000), b"in"),
        ]
    ]
    million = 10**6
    assert contents(coded).meta["chapters"] == [
        [0, 100 * million, "1"],
        [100 * million, 280 * million, "2"],
    ]


def test_the_sound_of_an_mp4_keeps_its_place_to_the_sample(tmp_path: Path) -> None:
    """AAC with its priming, 44.1 kHz against 30000/1001 frames a second."""
    spec = ClipSpec(
        width=48,
        height=32,
        time_base=Fraction(1001, 30000),
        frames=30,
        audio="aac",
        audio_rate=44100,
        audio_seconds=Fraction(1),
    )
    path = make_clip(tmp_path / "in.mp4", spec)
    coded, output = tmp_path / "out.hfsv", tmp_path / "out.mp4"
    encode_part(path, coded, start=ms(400), frames=6)
    nervcodec.decode(coded, output)
    origin = Fraction(12 * 1001, 30000)
    assert times(output) == [Fraction(k * 1001, 30000) for k in range(6)]
    before = {data: time for time, data in audio_packets(path)[0]}
    heard = audio_packets(output)[0]
    assert 8 <= len(heard) <= 11
    assert heard[0][0] <= 0 < heard[1][0]
    for time, data in heard:
        assert abs(time - (before[data] - origin)) <= Fraction(1, 44100)


def test_without_a_start_the_times_stay(source: Path, tmp_path: Path) -> None:
    coded = tmp_path / "out.hfsv"
    encode_part(source, coded, end=ms(100))
    reader = contents(coded)
    assert list(reader.pts) == [FIRST_MS, FIRST_MS + 40, FIRST_MS + 80]
    nervcodec.decode(coded, tmp_path / "out.mkv")
    heard = [time for time, _ in audio_packets(tmp_path / "out.mkv")[0]]
    given = [time for time, _ in audio_packets(source)[0] if time < Fraction(FIRST_MS + 120, 1000)]
    assert heard == given


def test_start_at_zero_moves_the_clip_to_zero(source: Path, tmp_path: Path) -> None:
    encode_part(source, tmp_path / "out.hfsv", start=ms(0), audio=False, subtitles=False)
    assert list(contents(tmp_path / "out.hfsv").pts) == list(PTS)


def test_the_sound_of_a_part_is_what_cutting_the_whole_gives(source: Path) -> None:
    from nervcodec.video.cut import cut

    whole, begin, end = extract(source), Fraction(3, 10), Fraction(1, 2)
    part = extract(source, begin=begin, end=end)
    assert whole is not None
    assert part is not None
    assert part.container == whole.container
    assert part.data == cut(whole.data, whole.container, begin, end)


def test_sound_that_ended_before_the_part_is_named(tmp_path: Path) -> None:
    spec = ClipSpec(width=48, height=32, frames=25, audio="aac", audio_seconds=Fraction(1, 4))
    path = make_clip(tmp_path / "in.mp4", spec)
    report = encode_part(path, tmp_path / "out.hfsv", start=ms(600))
    assert report.audio_streams == ()
    assert report.audio_bytes == 0
    assert any("there is nothing in it" in line for line in report.warnings)


def test_verify_against_the_source_begins_where_the_encode_began(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "out.hfsv"
    report = encode_part(source, coded, start=ms(240), end=ms(480))
    assert nervcodec.probe(coded).meta["start"] == 240_000
    found = nervcodec.verify(coded, source=source)
    assert found.psnr == pytest.approx(report.psnr, abs=0.01)
    assert run("verify", coded, "--source", source) == 0
    assert f"PSNR {found.psnr:.2f} dB" in capfd.readouterr().err


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., EncodeConfig]:
    """The configuration that an ``hfsv encode`` command comes to."""

    class Seen(Exception):
        pass

    def instead(source: Path, output: Path, config: EncodeConfig, *_: object) -> None:
        raise Seen(config)

    def configure(*arguments: str, config: Path | None = None) -> EncodeConfig:
        monkeypatch.setattr(encoder_module, "encode", instead)
        before = ["--config", str(config)] if config else []
        with pytest.raises(Seen) as caught:
            cli_main.cli.main(
                [*before, "encode", "in.mp4", "out.hfsv", *arguments], standalone_mode=False
            )
        result: EncodeConfig = caught.value.args[0]
        return result

    return configure


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        ("", None, None),
        ("-ss 1:02.5", ms(62_500), None),
        ("-t 10", None, ms(10_000)),
        ("-to 0:00:10", None, ms(10_000)),
        ("-ss 2 -t 500ms", ms(2000), ms(2500)),
        ("-ss 2 -to 2.5", ms(2000), ms(2500)),
        ("-t 3 -ss 2s -to 9", ms(2000), ms(5000)),  # FFmpeg's rule: -t counts
    ],
)
def test_options(
    asked: Callable[..., EncodeConfig],
    arguments: str,
    start: timedelta | None,
    end: timedelta | None,
) -> None:
    config = asked(*arguments.split())
    assert (config.start, config.end) == (start, end)
    assert not config.allow_damaged


def test_options_from_file_and_environment(
    asked: Callable[..., EncodeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hfsv.toml"
    path.write_text('[encode]\nss = 1.5\nto = "1:00"\nallow-damaged = true\n')
    config = asked(config=path)
    assert (config.start, config.end, config.allow_damaged) == (ms(1500), ms(60_000), True)
    monkeypatch.setenv("HFSV_ENCODE_START", "2s")
    assert asked(config=path).start == ms(2000)
    assert asked("-ss", "3", config=path).start == ms(3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-ss", "-1"], "'-1' is not a time"),
        (["-ss", "soon"], "'soon' is not a time"),
        (["-t", "0"], "end 0:00:00"),
        (["-ss", "5", "-to", "5"], "must be after 0:00:05"),
        (["-ss", "9"], "the video lasts 0.611 s"),
    ],
)
def test_parts_that_are_none(
    source: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run("encode", source, tmp_path / "out.hfsv", *arguments) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert printed.count("error") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bounds", [{"start": ms(-1)}, {"start": ms(5), "end": ms(5)}])
def test_bounds_are_checked(bounds: dict[str, timedelta]) -> None:
    with pytest.raises(UsageError, match="must be"):
        EncodeConfig(**bounds)
