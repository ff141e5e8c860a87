"""Subtitles, chapters and tags through .hfsv's AUDI and META and back, through real files."""

from __future__ import annotations

import io
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from video_helpers import (
    ClipSpec,
    Subtitles,
    add_subtitles,
    audio_packets,
    clip,
    make_clip,
    picture,
    subtitle_packets,
    times,
)

from nervcodec.errors import BitstreamError, HfsvError, InputVideoError
from nervcodec.video import passthrough as passthrough_module
from nervcodec.video.formats import OutputFormat
from nervcodec.video.info import (
    MAX_CHAPTERS,
    Chapter,
    ColorInfo,
    chapters_from_meta,
    chapters_to_meta,
    tags_from_meta,
    tags_to_meta,
)
from nervcodec.video.passthrough import AudioCopy, Passthrough, extract
from nervcodec.video.reader import probe
from nervcodec.video.remux import open_memory_output
from nervcodec.video.writer import VideoWriter

FORMATS = {
    "mp4": OutputFormat("mp4", "h264", 30, "ultrafast"),
    "mov": OutputFormat("mov", "h264", 30, "ultrafast"),
    "matroska": OutputFormat("matroska", "ffv1"),
}
SECOND = Fraction(1)
HALF_MILLISECOND = Fraction(1, 2000)
PLAIN = ((100, 700, b"One"), (900, 400, b"Two"), (900, 300, b"with Two"), (5000, 1000, b"Three"))
MOV_TEXT = tuple((t, d, len(s).to_bytes(2, "big") + s) for t, d, s in PLAIN if s != b"with Two")
ASS = tuple((t, d, b"%d,0,Default,,0,0,0,,{\\i1}%b" % (t, s)) for t, d, s in PLAIN)
FORCED = Disposition.forced | Disposition.default
SPOKEN = Disposition.hearing_impaired


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of pictures and AAC."""
    return make_clip(tmp_path_factory.mktemp("clips") / "s.mp4", ClipSpec(audio="aac"))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "s.mp4", ClipSpec())


def with_texts(folder: Path, source: Path, container: str = "matroska") -> Path:
    """The source with three streams of subtitles: two in Matroska's codecs, or all in MP4's."""
    codecs = [("subrip", PLAIN), ("ass", ASS), ("webvtt", PLAIN)]
    if container == "mp4":
        codecs = [("mov_text", MOV_TEXT)] * 3
    (a, b, c) = codecs
    return add_subtitles(
        folder / f"texts.{container}",
        source,
        container,
        Subtitles(*a, "ger", "Für alle", FORCED),
        Subtitles(*b, "eng", "", SPOKEN),
        Subtitles(*c, "fra", "Third", Disposition(0)),
    )


def write(
    path: Path, carried: Passthrough | None, first: int = 0, **options: Any
) -> tuple[Path, list[str]]:
    """Eight frames of 1/20 s with what is carried, in the format named like the file."""
    settings: dict[str, Any] = {
        "width": 32,
        "height": 32,
        "time_base": Fraction(1, 20),
        "sample_aspect_ratio": Fraction(1),
        "rotation": 0,
        "color": ColorInfo(1, 1, 1, False),
        "frame_rate": Fraction(20),
        "passthrough": carried and (carried.data, carried.container),
    }
    with VideoWriter(path, FORMATS[path.name], **(settings | options)) as output:
        for index in range(8):
            output.write(picture(32, 32, index), first + index, 1)
    return path, output.warnings


def streams_of(path: Path, kind: str = "subtitle") -> list[tuple[str, str | None, str, int]]:
    """Codec, language, title (MP4: name) and disposition of each stream."""
    with av.open(os.fspath(path)) as container:
        return [
            (
                s.codec_context.codec.canonical_name,
                s.language,
                s.metadata.get("title") or s.metadata.get("handler_name", ""),
                int(s.disposition),
            )
            for s in container.streams
            if s.type == kind
        ]


def taken(path: Path, **options: Any) -> Passthrough:
    found = extract(path, **options)
    assert found is not None
    return found


# --- subtitles ------------------------------------------------------------------------------


def test_matroska_to_matroska_keeps_every_text(tmp_path: Path, spoken: Path) -> None:
    source = with_texts(tmp_path, spoken)
    carried = taken(source)
    assert carried.container == "matroska"
    assert carried.dropped == ()
    assert carried.streams == (
        "aac 48000 Hz stereo",
        "subrip subtitles (ger)",
        "ass subtitles (eng)",
        "webvtt subtitles (fra)",
    )
    path, warnings = write(tmp_path / "matroska", carried)
    assert warnings == []
    assert streams_of(path) == [
        ("subrip", "ger", "Für alle", int(FORCED)),
        ("ass", "eng", "", int(SPOKEN)),
        ("webvtt", "fra", "Third", 0),
    ]
    before = subtitle_packets(source)
    assert [len(texts) for texts in before] == [4, 4, 4]
    assert subtitle_packets(path) == before
    assert [d for _, d in audio_packets(path)[0]] == [d for _, d in audio_packets(source)[0]]


def test_no_stream_becomes_the_default_in_matroska(tmp_path: Path, silent: Path) -> None:
    texts = [Subtitles("subrip", PLAIN, "ger"), Subtitles("subrip", PLAIN, "eng")]
    source = add_subtitles(tmp_path / "s", silent, "matroska", *texts)
    path, _ = write(tmp_path / "matroska", taken(source))
    assert [row[3] for row in streams_of(path)] == [0, 0]
    assert [row[3] for row in streams_of(path, "video")] == [int(Disposition.default)]


def test_frames_do_not_wait_in_memory_for_a_late_subtitle(tmp_path: Path, silent: Path) -> None:
    late = Subtitles("subrip", ((60000, 1000, b"Late"),))
    carried = taken(add_subtitles(tmp_path / "s", silent, "matroska", late))
    noise = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    path = tmp_path / "matroska"
    with VideoWriter(
        path,
        FORMATS["matroska"],
        width=32,
        height=32,
        time_base=Fraction(1, 20),
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=ColorInfo(1, 1, 1, False),
        frame_rate=Fraction(20),
        passthrough=(carried.data, carried.container),
    ) as output:
        for index in range(180):
            output.write(noise, index, 1)
        assert path.stat().st_size > 100 * noise.size * 0.9
    assert len(times(path)) == 180
    assert [len(texts) for texts in subtitle_packets(path)] == [1]


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_srt_beside_aac_gives_an_mp4_with_the_sound(
    tmp_path: Path, spoken: Path, container: str
) -> None:
    source = with_texts(tmp_path, spoken)
    path, warnings = write(tmp_path / container, taken(source))
    assert warnings == [
        f"subtitles left out, .{container} cannot carry it, .mkv can: {codec} subtitles ({text})"
        for codec, text in (("subrip", "ger"), ("ass", "eng"), ("webvtt", "fra"))
    ]
    assert streams_of(path) == []
    pairs = list(zip(audio_packets(source)[0], audio_packets(path)[0], strict=True))
    assert [a[1] for a, _ in pairs] == [b[1] for _, b in pairs]
    assert max(abs(a[0] - b[0]) for a, b in pairs) <= HALF_MILLISECOND


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_mov_text_passes_through(tmp_path: Path, spoken: Path, container: str) -> None:
    source = with_texts(tmp_path, spoken, "mp4")
    carried = taken(source)
    assert carried.container == "mp4"
    path, warnings = write(tmp_path / container, carried)
    assert warnings == []
    assert [row[:2] for row in streams_of(path)] == [
        ("mov_text", "ger"),
        ("mov_text", "eng"),
        ("mov_text", "fra"),
    ]
    before = subtitle_packets(source)
    assert [len(texts) for texts in before] == [3, 3, 3]
    assert subtitle_packets(path) == before
    assert audio_packets(path) == audio_packets(source)


def test_dispositions_and_titles_go_through_mp4(tmp_path: Path, spoken: Path) -> None:
    sound = taken(with_texts(tmp_path, spoken, "mp4"))
    buffer = io.BytesIO(sound.data)
    with av.open(buffer) as made:
        assert [int(s.disposition) for s in made.streams.subtitles] == [
            int(FORCED),
            int(SPOKEN | Disposition.captions),
            0,
        ]
    titled = add_subtitles(
        tmp_path / "titled", spoken, "mp4", Subtitles("mov_text", MOV_TEXT, "deu")
    )
    with av.open(os.fspath(titled)) as source, open_memory_output(buffer, "mp4", 1000) as output:
        (stream,) = source.streams.subtitles
        stream.metadata["title"] = "Für " + "ü" * 200
        copy = passthrough_module.add_copy(output, stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    again = Passthrough(buffer.getvalue(), "mp4", (), ())
    path, _ = write(tmp_path / "mov", again)
    assert streams_of(path)[0][:3] == ("mov_text", "ger", "Für " + "ü" * 61)


def test_mov_text_into_matroska_is_named(tmp_path: Path, spoken: Path) -> None:
    path, warnings = write(tmp_path / "matroska", taken(with_texts(tmp_path, spoken, "mp4")))
    assert warnings[0] == (
        "subtitles left out, .mkv cannot carry it, .mp4 and .mov can: mov_text subtitles (ger)"
    )
    assert len(warnings) == 3
    assert len(audio_packets(path)) == 1


def test_subtitles_without_sound(tmp_path: Path, silent: Path) -> None:
    for container in ("matroska", "mp4"):
        source = with_texts(tmp_path, silent, container)
        path, warnings = write(tmp_path / container, taken(source))
        assert warnings == []
        assert subtitle_packets(path) == subtitle_packets(source)


def test_each_kind_can_be_left_out_on_the_way_in(tmp_path: Path, spoken: Path) -> None:
    source = with_texts(tmp_path, spoken)
    assert taken(source, subtitles=False).streams == ("aac 48000 Hz stereo",)
    assert taken(source, subtitles=False).container == "mp4"
    assert len(taken(source, audio=False).streams) == 3
    assert extract(source, audio=False, subtitles=False) is None


def test_each_kind_can_be_left_out_on_the_way_out(tmp_path: Path, spoken: Path) -> None:
    carried = taken(with_texts(tmp_path, spoken))
    path, warnings = write(tmp_path / "matroska", carried, subtitles=False)
    assert (len(subtitle_packets(path)), len(audio_packets(path)), warnings) == (0, 1, [])
    path, warnings = write(tmp_path / "matroska", carried, audio=False)
    assert (len(subtitle_packets(path)), len(audio_packets(path)), warnings) == (3, 0, [])
    path, warnings = write(tmp_path / "mp4", carried, audio=False, subtitles=False)
    assert (subtitle_packets(path), audio_packets(path), warnings) == ([], [], [])


def test_cut_drops_later_texts_and_says_what_has_none(tmp_path: Path, spoken: Path) -> None:
    late = Subtitles("subrip", PLAIN[3:], "eng")
    source = add_subtitles(
        tmp_path / "s", spoken, "matroska", Subtitles("subrip", PLAIN, "ger"), late
    )
    carried = taken(source, end=SECOND)
    assert carried.streams == ("aac 48000 Hz stereo", "subrip subtitles (ger)")
    assert carried.dropped == ("subrip subtitles (eng): there is nothing in it",)
    path, _ = write(tmp_path / "matroska", carried)
    assert subtitle_packets(path) == [subtitle_packets(source)[0][:3]]


def test_texts_move_with_a_picture_that_began_below_zero(tmp_path: Path, silent: Path) -> None:
    source = with_texts(tmp_path, silent)
    chapters = (Chapter(Fraction(0), SECOND, "One"),)
    for name in FORMATS:
        carried = taken(source)
        path, _ = write(tmp_path / name, carried, -10, chapters=chapters)
        assert times(path)[0] == 0
        wanted = [("", 0, 0.5)] * (name != "matroska") + [("One", 0.5, 1.5)]
        assert chapters_of(path) == wanted
    before, after = subtitle_packets(source), subtitle_packets(tmp_path / "matroska")
    moved = {b[0] - a[0] for x, y in zip(before, after, strict=True) for a, b in zip(x, y)}  # noqa: B905
    assert moved == {Fraction(1, 2)}


@pytest.mark.parametrize(
    ("name", "container", "texts"),
    [
        ("multi_2video_2aac_2movtext.mp4", "mp4", [4, 4]),
        ("srt_ac3.mkv", "matroska", [1]),
        ("pgs_ac3_fps600.mkv", "matroska", [2]),
    ],
)
def test_real_subtitles(tmp_path: Path, name: str, container: str, texts: list[int]) -> None:
    source = clip(f"odd/{name}")
    carried = taken(source)
    assert (carried.container, carried.dropped) == (container, ())
    path, warnings = write(tmp_path / container, carried)
    assert warnings == []
    assert [len(stream) for stream in subtitle_packets(path)] == texts
    assert subtitle_packets(path) == subtitle_packets(source)
    for old, new in zip(streams_of(source), streams_of(path), strict=True):
        assert old == new
    assert [[d for _, d in s] for s in audio_packets(path)] == [
        [d for _, d in s] for s in audio_packets(source)
    ]


def test_what_the_better_container_cannot_hold_is_named(
    tmp_path: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = add_subtitles(tmp_path / "s", spoken, "mp4", Subtitles("mov_text", MOV_TEXT, "ger"))
    able = passthrough_module.can_carry
    refused = {("mp4", "audio")}
    monkeypatch.setattr(
        passthrough_module,
        "can_carry",
        lambda c, s, x: (c, s.type) not in refused and able(c, s, x),
    )
    carried = taken(source)
    assert carried.streams == ("aac 48000 Hz stereo",)
    assert carried.dropped == (
        "mov_text subtitles (ger): it does not go into .mkv, which the other streams need",
    )
    refused |= {("matroska", "audio")}
    with pytest.raises(InputVideoError, match=r"its audio \(aac 48000 Hz stereo\) cannot be"):
        extract(source)
    refused |= {("mp4", "subtitle")}
    alone = taken(source, audio=False)
    assert (alone.data, alone.streams) == (b"", ())
    assert alone.dropped == ("mov_text subtitles (ger): neither MP4 nor Matroska can carry it",)


# --- chapters -------------------------------------------------------------------------------


def chapters_of(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    return [(c.title, c.start, c.end) for c in probe(path).chapters]


REAL = [
    (f"Chapter {i + 1}", Fraction(a, 1000), Fraction(b, 1000))
    for i, (a, b) in enumerate(((0, 201), (201, 800), (800, 850)))
]


@pytest.mark.parametrize("container", FORMATS)
def test_chapters_of_a_real_file(tmp_path: Path, container: str) -> None:
    source = clip("odd/chapters3_aac.mp4")
    info = probe(source)
    assert not any("not kept" in line for line in info.warnings)
    kept = chapters_from_meta({"chapters": chapters_to_meta(info.chapters)})
    path, warnings = write(tmp_path / container, taken(source), chapters=kept)
    assert warnings == []
    assert chapters_of(path) == REAL
    assert len(audio_packets(path)) == 1
    assert probe(path).warnings == ()


def test_gaps_between_chapters(tmp_path: Path) -> None:
    parts = (
        Chapter(Fraction(1, 4), Fraction(1, 2), "Öne"),
        Chapter(Fraction(3, 4), Fraction(4, 4), ""),
        Chapter(Fraction(4, 4), Fraction(7000), "long"),
    )
    path, warnings = write(tmp_path / "matroska", None, chapters=parts)
    assert warnings == []
    assert chapters_of(path) == [(c.title, c.start, c.end) for c in parts]
    for name in ("mp4", "mov"):
        path, warnings = write(tmp_path / name, None, chapters=parts)
        assert warnings == [f"chapters last until the next begins: {name} has no end of them"]
        assert chapters_of(path) == [
            ("", 0, Fraction(1, 4)),
            ("Öne", Fraction(1, 4), Fraction(3, 4)),
            ("", Fraction(3, 4), 1),
            ("long", 1, 7000),
        ]


def test_chapters_are_rounded_to_the_nearest_nanosecond(tmp_path: Path) -> None:
    third = (Chapter(Fraction(1, 3), Fraction(2, 3), "x"),)
    path, _ = write(tmp_path / "matroska", None, chapters=third)
    tick = Fraction(1, 10**9)
    assert chapters_of(path) == [("x", 333333333 * tick, 666666667 * tick)]


def test_a_fine_clock_leaves_long_chapters_whole(tmp_path: Path) -> None:
    parts = tuple(Chapter(Fraction(i * 3600), Fraction(i * 3600 + 3600), str(i)) for i in range(3))
    for time_base in (Fraction(1, 90000), Fraction(1, 14112000), Fraction(1, 2**31 - 1)):
        path, _ = write(tmp_path / "mp4", None, chapters=parts, time_base=time_base)
        assert chapters_of(path) == [(c.title, c.start, c.end) for c in parts]


def test_chapters_in_meta() -> None:
    parts = [
        Chapter(Fraction(0), Fraction(1, 3), "a"),
        Chapter(Fraction(1, 3), Fraction(2), "b"),
        Chapter(Fraction(2), Fraction(4), "c"),
    ]
    assert chapters_to_meta(parts, Fraction(1)) == [
        [0, 333333333, "a"],
        [333333333, 1000000000, "b"],
    ]
    many = [Chapter(Fraction(i), Fraction(i + 1), "ü" * 3000) for i in range(2 * MAX_CHAPTERS)]
    assert len(chapters_to_meta(many)) == MAX_CHAPTERS
    assert chapters_to_meta(many)[0] == [0, 10**9, "ü" * 12]
    assert chapters_to_meta(many[:2])[1][2] == "ü" * 500
    assert chapters_to_meta([Chapter(Fraction(2**60), Fraction(2**60), "x")]) == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [[0, 1]],
        [[0, 1, 2]],
        [[0, True, "x"]],
        [[0.0, 1, "x"]],
        [[2, 1, "x"]],
        [[-1, 1, "x"]],
        [[0, 2**53, "x"]],
        [[5, 6, "x"], [4, 6, "x"]],
    ],
)
def test_chapters_that_are_none(value: object) -> None:
    assert chapters_from_meta({"chapters": value}) == ()


def test_text_of_strangers_is_made_printable() -> None:
    meta = {
        "chapters": [[0, 2**53 - 1, "a\x1b[2J\0b"]],
        "title": "t\x07\nu",
        "tags": {"date": "\x85"},
    }
    assert chapters_from_meta(meta) == (Chapter(Fraction(0), Fraction(2**53 - 1, 10**9), "a[2Jb"),)
    assert tags_from_meta(meta) == {"title": "t\nu", "date": ""}


@pytest.mark.parametrize("container", FORMATS)
def test_chapters_of_strangers_are_written_or_refused(tmp_path: Path, container: str) -> None:
    rng = random.Random(5)
    for _ in range(30):
        ends = sorted(rng.choice((rng.randrange(10), rng.randrange(2**53))) for _ in range(6))
        value = [[a, rng.randrange(a, 2**53), rng.choice(("", "x" * 4000, "ü"))] for a in ends]
        parts = chapters_from_meta({"chapters": value})
        assert len(parts) == 6
        try:
            path, _ = write(tmp_path / container, None, chapters=parts)
        except HfsvError:
            continue
        assert len(times(path)) == 8


# --- tags -----------------------------------------------------------------------------------


def test_tags_of_a_real_file_hold_nothing_of_the_machine() -> None:
    for name in ("dolbyvision_hlg_rot_iphone.mov", "vfr_rot180_aac.mp4", "opus_h264.mkv"):
        assert probe(clip(f"odd/{name}")).metadata == {}


ALL = {k: f"the {k}" for k in ("title", "artist", "album", "date", "genre", "comment", "copyright")}
MORE = {k: f"the {k}" for k in ("composer", "description", "synopsis", "show", "network")}


def test_tags_come_back(tmp_path: Path) -> None:
    tags = ALL | MORE
    kept = tags_from_meta({"title": tags["title"], "tags": tags_to_meta(tags | {"encoder": "x"})})
    assert kept == tags
    for name, found, lost in (
        ("mp4", tags, []),
        ("mov", ALL, sorted(MORE)),
        ("matroska", tags, []),
    ):
        path, warnings = write(tmp_path / name, None, metadata=kept)
        assert probe(path).metadata == found
        assert warnings == ([f"tags left out, {name} has none: {' '.join(lost)}"] if lost else [])


def test_tags_with_another_name(tmp_path: Path) -> None:
    path, warnings = write(tmp_path / "mp4", None, metadata={"author": "me", "year": "1990"})
    assert (probe(path).metadata, warnings) == ({"artist": "me", "date": "1990"}, [])
    path, _ = write(tmp_path / "mov", None, metadata={"author": "me", "artist": "you"})
    assert probe(path).metadata == {"artist": "you"}


def test_tags_are_cut_and_checked() -> None:
    assert tags_to_meta({"comment": "ü" * 3000, "title": "x", "date": ""}) == {"comment": "ü" * 500}
    assert tags_from_meta({"title": 3, "tags": {"date": 7, "encoder": "x", "genre": "g"}}) == {
        "genre": "g"
    }
    assert tags_from_meta({"tags": ["title"]}) == {}


# --- what a file says of itself -------------------------------------------------------------


def test_has_subtitles(tmp_path: Path, silent: Path) -> None:
    assert not probe(silent).has_subtitles
    assert probe(with_texts(tmp_path, silent)).has_subtitles


# --- hostile bytes --------------------------------------------------------------------------


def test_only_sound_and_subtitles_are_let_in(silent: Path) -> None:
    with pytest.raises(BitstreamError, match="not all audio or subtitles"):
        AudioCopy(silent.read_bytes(), "mp4")
    with pytest.raises(BitstreamError, match="not all audio or subtitles"):
        AudioCopy(clip("odd/chapters3_aac.mp4").read_bytes(), "mp4")


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_flipped_bytes_only_raise_our_errors(tmp_path: Path, spoken: Path, container: str) -> None:
    sound = taken(with_texts(tmp_path, spoken, container)).data
    rng = random.Random(11)
    refused = 0
    for turn in range(120):
        data = bytearray(sound)
        for _ in range(rng.choice((1, 4, 30))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            write(tmp_path / list(FORMATS)[turn % 3], Passthrough(bytes(data), container, (), ()))
        except HfsvError:
            refused += 1
    assert refused > 5
