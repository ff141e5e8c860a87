"""What of a damaged file still decodes, and how the command line tells it; limits."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from damaged_files import (
    FIRSTS,
    FRAMES,
    HEADER,
    LENGTHS,
    NAMES,
    PTS,
    SMALL,
    clip,
    faults,
    flipped,
    places,
    salvage,
    segment_places,
    segments,
    survey,
    without_segments,
)
from format_helpers import (
    AUDI,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SMALL_LIMITS,
    Chunks,
    assemble,
    disassemble,
    head_bytes,
    leb,
    make_segment,
    read_all,
    same_segment,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nervcodec.bitstream.salvage import SalvageReader
from nervcodec.bitstream.segment import encode_segment
from nervcodec.bitstream.stream import AudioData, decode_timestamps, write_stream
from nervcodec.bitstream.survey import Fault
from nervcodec.bitstream.syntax import ModelSpec, StageSpec
from nervcodec.bitstream.tensors import Limits, check_clip_limits, macs_per_frame
from nervcodec.cli import main as cli_main
from nervcodec.decoder import DecodeConfig, HfsvFile, decode
from nervcodec.errors import BitstreamError, LimitError, UnsupportedError
from nervcodec.verification import DamageReport, examine
from nervcodec.video.passthrough import extract
from nervcodec.video.writer import VideoWriter
from tests.synthetic import moving_pattern, read_back, write_clip

# --- what can be salvaged -----------------------------------------------------------------------


def test_a_sound_file_is_read_as_ever() -> None:
    reader, strict = salvage(SMALL), read_all(SMALL)
    assert (reader.header, list(reader.pts), reader.last_duration) == (
        strict.header,
        list(strict.pts),
        strict.last_duration,
    )
    assert (reader.segments, reader.digests, reader.meta, reader.audio()) == (
        strict.segments,
        strict.digests,
        strict.meta,
        strict.audio(),
    )
    assert (reader.lost, reader.warnings, strict.lost, strict.warnings) == ([], [], [], [])
    assert (reader.file_bytes, reader.audio_bytes) == (strict.file_bytes, strict.audio_bytes)


@pytest.mark.parametrize("count", range(7))
def test_any_segments_may_be_lost(count: int) -> None:
    for lost in itertools.combinations(range(6), count):
        reader = salvage(without_segments(clip(), *lost))
        kept = [index for index in range(6) if index not in lost]
        assert [segment.index for segment in reader.segments] == kept
        for number, index in enumerate(kept):
            assert same_segment(reader.segment(number), segments()[index])
        frames = [frame for run in reader.lost for frame in run]
        expected = [range(FIRSTS[index], FIRSTS[index] + LENGTHS[index]) for index in lost]
        assert frames == [frame for run in expected for frame in run]
        assert tuple(reader.pts) == PTS
        assert reader.digests == [bytes([index] * 8) for index in kept]
        runs = reader.runs
        assert all(before.whole != after.whole for before, after in itertools.pairwise(runs))
        assert [n for run in runs for n in run.segments] == list(range(6))
        assert [n for run in runs for n in run.frames] == list(range(FRAMES))
        assert [n for run in runs if run.whole for n in run.segments] == kept


def test_every_flipped_bit_leaves_what_it_did_not_touch() -> None:
    """And nothing that is read differs from what was written."""
    data = SMALL
    whole = read_all(data)
    originals = [whole.segment(index) for index in range(2)]
    everything = places(data)
    for position in range(0, len(data), 3):
        found = survey(flipped(data, position, bit=position % 8))
        assert found.damage
        touched = [kind for kind, start, _, end in everything if start <= position < end]
        if touched == [HEAD]:
            with pytest.raises(BitstreamError, match="nothing can be salvaged"):
                SalvageReader(found, SMALL_LIMITS)
            continue
        reader = SalvageReader(found, SMALL_LIMITS)
        assert reader.header == whole.header
        for number, info in enumerate(reader.segments):
            assert same_segment(reader.segment(number), originals[info.index])
        assert len(reader.segments) == (1 if touched == [SEGM] else 2)
        assert list(reader.pts) == list(whole.pts) or touched == [PTSD]
        assert reader.meta == (whole.meta if touched != [META] else {})
        assert reader.audio() == (whole.audio() if touched != [AUDI] else None)
        assert any("times are lost" in text for text in reader.warnings) == (touched == [PTSD])


def test_a_file_cut_anywhere_keeps_the_segments_before() -> None:
    data = clip()
    behind_head = places(data)[0][3]
    for length in range(behind_head, len(data), 17):
        reader = salvage(data[:length])
        whole = sum(end <= length for _, _, _, end in segment_places(data))
        assert [segment.index for segment in reader.segments] == list(range(whole))
        if whole:
            assert tuple(reader.pts) == PTS


def with_chunks(changes: dict[int, bytes | None]) -> bytes:
    """The clip with the payloads of some chunks replaced, or left out, and right checksums."""
    chunks = disassemble(clip())
    replaced = [(kind, changes.get(n, payload)) for n, (kind, payload) in enumerate(chunks)]
    return assemble([(kind, payload) for kind, payload in replaced if payload is not None])


FIRST_SEGM = 3


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        (1, {"index": 0}),
        (1, {"index": 2}),
        (1, {"first_frame": 1}),
        (1, {"first_frame": 3}),
        (2, {"index": 5}),
        (5, {"index": 0, "first_frame": 0}),
        (0, {"first_frame": 1}),
        (5, {"first_frame": 8}),
        (3, {"index": 1}),
    ],
)
def test_segments_that_cannot_stand_where_they_say_are_not_used(
    index: int, changes: dict[str, int]
) -> None:
    moved = replace(segments()[index], **changes)
    found = survey(with_chunks({FIRST_SEGM + index: encode_segment(moved)[0]}))
    reader = SalvageReader(found, SMALL_LIMITS)
    assert [part.fault for part in found.damage] == [Fault.CONTENT]
    assert "does not fit" in found.damage[0].detail
    assert [segment.index for segment in reader.segments] == [n for n in range(6) if n != index]


def test_a_repeated_segment_is_used_once() -> None:
    chunks = disassemble(clip())
    chunks.insert(5, chunks[4])
    reader = salvage(assemble(chunks))
    assert [segment.index for segment in reader.segments] == list(range(6))
    assert reader.lost == []
    assert len(reader.warnings) == 1


def test_symbols_that_do_not_decode_are_lost() -> None:
    payload = bytearray(encode_segment(segments()[2])[0])
    payload[-1] ^= 1
    reader = salvage(with_chunks({FIRST_SEGM + 2: bytes(payload)}))
    assert reader.lost == [range(3, 6)]


@pytest.mark.parametrize("kind", [PTSD, META, HASH, AUDI])
def test_invalid_contents_with_right_checksums_are_left_out(kind: int) -> None:
    chunks = [(k, b"\xc1" if k == kind else payload) for k, payload in disassemble(SMALL)]
    found = survey(assemble(chunks))
    reader = SalvageReader(found, SMALL_LIMITS)
    audio = reader.audio()
    assert faults(found)[0][::2] == (NAMES[kind], Fault.CONTENT)
    assert len(found.damage) == 1
    assert (audio is None, reader.digests is None, reader.meta == {}) == (
        kind == AUDI,
        kind == HASH,
        kind == META,
    )
    assert tuple(reader.pts) == tuple(range(-7, 118, 25)) or kind != PTSD
    assert len(reader.segments) == 2


def test_chunks_out_of_order_are_not_used_but_segments_are_found() -> None:
    chunks = disassemble(SMALL)
    found = survey(assemble([*chunks[:2], *chunks[3:], chunks[2], chunks[1]]))
    reader = SalvageReader(found, SMALL_LIMITS)
    assert [(part.chunk, part.fault) for part in found.damage] == [
        ("META", Fault.ORDER),
        ("PTSD", Fault.ORDER),
    ]
    assert len(reader.segments) == 2
    assert reader.meta == {}


@pytest.mark.parametrize("bit", range(8))
def test_lost_times_are_told_though_the_type_is_damaged(bit: int) -> None:
    data = SMALL
    reader = salvage(flipped(data, places(data)[1][1], bit=bit))
    assert reader.pts == decode_timestamps(None, reader.header)[0]
    assert any("times are lost" in text for text in reader.warnings)


def test_times_are_not_lost_with_other_chunks() -> None:
    for kind, _, offset, _ in places(clip())[2:]:
        reader = salvage(flipped(clip(), offset))
        assert tuple(reader.pts) == PTS, NAMES[kind]
        assert not any("times are lost" in text for text in reader.warnings)


def test_times_are_not_lost_where_there_were_none() -> None:
    """A constant frame rate, and a segment whose type is damaged."""
    data = assemble([item for item in disassemble(clip()) if item[0] != PTSD])
    for place in segment_places(data):
        reader = salvage(flipped(data, place[1]))
        assert len(reader.lost) == 1
        assert not any("times are lost" in text for text in reader.warnings)


def test_nothing_can_be_salvaged_without_head() -> None:
    chunks = disassemble(clip())
    for data in (
        flipped(clip(), 12),
        assemble(chunks[1:]),
        assemble([(HEAD, b"\x00\x06junk"), *chunks[1:]]),
    ):
        with pytest.raises(BitstreamError, match=r"HEAD"):
            salvage(data)


def test_what_needs_a_later_version_is_named_as_such() -> None:
    head = head_bytes(major=b"\x01", minor=b"\x00") + b"new fields"
    chunks: Chunks = [(HEAD, head), (0x99, b"essential"), *disassemble(clip())[1:]]
    with pytest.raises(UnsupportedError, match=r"version 1\.0"):
        salvage(flipped(assemble(chunks), -1))
    chunks[0] = disassemble(clip())[0]
    with pytest.raises(UnsupportedError, match="0x99"):
        salvage(flipped(assemble(chunks), -1))


def test_segments_beyond_the_limits_are_refused_and_not_lost() -> None:
    data = without_segments(clip(), 1)
    with pytest.raises(LimitError, match="parameters; the limit is 100"):
        salvage(data, Limits(parameters=100))


@settings(max_examples=200)
@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(-2, 2),
)
def test_a_file_is_sound_exactly_where_the_strict_reader_takes_it(
    index: int, changes: list[tuple[int, int]], growth: int
) -> None:
    chunks = list(disassemble(SMALL))
    kind, original = chunks[index]
    payload = bytearray(original)
    for position, value in changes:
        payload[position % len(payload)] = value
    payload = payload[:growth] if growth < 0 else payload + bytes(growth)
    chunks[index] = (kind, bytes(payload))
    data = assemble(chunks)
    try:
        read_all(data)
        error = None
    except BitstreamError as exc:
        error = exc
    found = survey(data)
    try:
        reader = SalvageReader(found, SMALL_LIMITS)
        reader.audio()
    except UnsupportedError:
        assert isinstance(error, UnsupportedError)
    except BitstreamError:
        assert kind == HEAD
        assert error is not None
    else:
        assert DamageReport(tuple(found.damage), tuple(reader.runs), None).sound == (error is None)


# --- limits -------------------------------------------------------------------------------------


def test_a_clip_is_limited_as_a_whole() -> None:
    model = tiny_model()
    parts = [(model, 3), (model, 4)]
    macs = 7 * macs_per_frame(model, 16, 12)
    check_clip_limits(16, 12, parts, Limits(pixels=7 * 16 * 12, macs=macs))
    with pytest.raises(LimitError, match=f"{7 * 16 * 12} pixels") as caught:
        check_clip_limits(16, 12, parts, Limits(pixels=7 * 16 * 12 - 1))
    assert caught.value.limit == "pixels"
    with pytest.raises(LimitError, match=f"{macs} multiplications in all") as caught:
        check_clip_limits(16, 12, parts, Limits(macs=macs - 1))
    assert caught.value.limit == "macs"


def test_a_tiny_file_of_endless_frames_is_refused_by_default(tmp_path: Path) -> None:
    """82 bytes that ask for 2**24 frames of 4096 x 4096."""
    head = head_bytes(frames=leb(2**24), segments=leb(1), width=leb(4096), height=leb(4096))
    stages = bytes([4]) + bytes([8, 1, 1]) * 4
    segment = b"\x00\x00" + leb(2**24) + bytes([1, 0]) + stages + bytes([1, 1, 1])
    path = tmp_path / "long.hfsv"
    path.write_bytes(assemble([(HEAD, head), (SEGM, segment)]))
    assert path.stat().st_size < 120
    with pytest.raises(LimitError, match="pixels in all frames"):
        decode(path, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == [path]


# --- the library's files and the command line ---------------------------------------------------


def run(*arguments: object) -> int:
    """Run ``hfsv`` in this process and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hfsv", *map(str, arguments)])
        return cli_main._run()


@pytest.fixture(scope="module")
def sound_track(tmp_path_factory: pytest.TempPathFactory) -> AudioData:
    source = tmp_path_factory.mktemp("sound") / "in.mp4"
    write_clip(source, moving_pattern(16, 16, 15), audio=True)
    carried = extract(source)
    assert carried is not None
    return AudioData(carried.container, carried.data)


@pytest.fixture
def folder(tmp_path: Path, sound_track: AudioData) -> Path:
    """``sound.hfsv`` with sound, and ``damaged.hfsv`` without segments 1, 2 and 4."""
    data = clip(sound_track)
    (tmp_path / "sound.hfsv").write_bytes(data)
    (tmp_path / "damaged.hfsv").write_bytes(without_segments(data, 1, 2, 4))
    return tmp_path


LOST = [range(2, 6), range(7, 9)]
KEPT = [0, 1, 6, 9]


def test_frames_of_a_damaged_file(folder: Path) -> None:
    with HfsvFile(folder / "sound.hfsv") as file:
        frames = file[:]
        assert file.lost == []
    with pytest.raises(BitstreamError, match="checksum"):
        HfsvFile(folder / "damaged.hfsv")
    with HfsvFile(folder / "damaged.hfsv", salvage=True) as file:
        assert len(file) == FRAMES
        assert file.lost == LOST
        assert np.array_equal(np.stack(list(file)), frames[KEPT])
        assert np.array_equal(file[KEPT], frames[KEPT])
        assert np.array_equal(file[-1], frames[9])
        assert np.array_equal(file[0:2], frames[0:2])
        for number in (2, 5, 7, 8, -2):
            with pytest.raises(BitstreamError, match=rf"frame {number % 10} is lost"):
                file[number]
        for chosen in (slice(1, 3), slice(6, 8), slice(None), [9, 3]):
            with pytest.raises(BitstreamError, match="is lost"):
                file[chosen]
        with pytest.raises(IndexError):
            file[10]


def test_frames_before_the_first_whole_segment_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "damaged.hfsv"
    path.write_bytes(without_segments(clip(), 0, 5))
    with HfsvFile(path, salvage=True) as file:
        assert file.lost == [range(2), range(9, 10)]
        for number in (0, 9):
            with pytest.raises(BitstreamError, match="is lost"):
                file[number]
        assert file[2:9].shape == (7, 12, 16, 3)


def test_salvaged_video_has_the_true_frames_and_times(folder: Path, capfd) -> None:
    assert run("decode", folder / "sound.hfsv", folder / "sound.mkv") == 0
    capfd.readouterr()
    assert run("decode", "--salvage", folder / "damaged.hfsv", folder / "rest.mkv") == 0
    sound, rest = read_back(folder / "sound.mkv"), read_back(folder / "rest.mkv")
    assert sound.times == [Fraction(pts, 1000) for pts in PTS]
    assert rest.times == [sound.times[number] for number in KEPT]
    for number, frame in zip(KEPT, rest.frames, strict=True):
        assert np.array_equal(frame, sound.frames[number])
    assert len(rest.audio) > 5
    assert rest.audio == sound.audio
    err = capfd.readouterr().err
    starts = [segment_places((folder / "sound.hfsv").read_bytes())[i][1] for i in (1, 2, 4)]
    for start in starts:
        assert f"warning: SEGM, bytes {start}.." in err
    assert "warning: frames 2..5 are lost" in err
    assert "warning: frames 7..8 are lost" in err
    assert "4 frames in" in err


@pytest.mark.parametrize(
    ("lost", "kept", "end"),
    [
        ((1, 2, 4), KEPT, 590),
        ((0, 3), [2, 3, 4, 5, 7, 8, 9], 590),
        ((3, 5), [0, 1, 2, 3, 4, 5, 7, 8], 520),
    ],
)
def test_the_last_frame_before_lost_ones_lasts_until_the_next(
    tmp_path: Path, monkeypatch, lost: tuple[int, ...], kept: Sequence[int], end: int
) -> None:
    path = tmp_path / "damaged.hfsv"
    path.write_bytes(without_segments(clip(), *lost))
    given = []
    write = VideoWriter.write
    monkeypatch.setattr(
        VideoWriter, "write", lambda *call: (given.append(call[2:]), write(*call))[1]
    )
    report = decode(path, tmp_path / "out.mp4", DecodeConfig(salvage=True))
    assert (report.frames, report.lost_frames) == (len(kept), FRAMES - len(kept))
    times = [PTS[number] for number in kept]
    lengths = [after - before for before, after in itertools.pairwise([*times, end])]
    assert given == list(zip(times, lengths, strict=True))
    assert read_back(tmp_path / "out.mp4").times == [Fraction(pts, 1000) for pts in times]
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == Fraction(sum(lengths), 1000)


def test_salvage_changes_nothing_for_a_sound_file(folder: Path) -> None:
    for suffix in ("mp4", "mkv"):
        plain, salvaged = folder / f"plain.{suffix}", folder / f"salvaged.{suffix}"
        first = decode(folder / "sound.hfsv", plain)
        second = decode(folder / "sound.hfsv", salvaged, DecodeConfig(salvage=True))
        assert replace(first, seconds=0) == replace(second, seconds=0)
        assert first.lost_frames == 0
        before, after = read_back(plain), read_back(salvaged)
        assert before.times == after.times
        assert np.array_equal(np.stack(before.frames), np.stack(after.frames))
        assert before.audio == after.audio


def test_salvage_without_sound_or_times(folder: Path, capfd) -> None:
    data = (folder / "damaged.hfsv").read_bytes()
    offsets = {kind: offset for kind, _, offset, _ in places((folder / "sound.hfsv").read_bytes())}
    path = folder / "worse.hfsv"
    path.write_bytes(flipped(data, offsets[PTSD] + 2, offsets[AUDI] + 50))
    assert run("decode", path, folder / "out.mkv", "--salvage", "--json") == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (result["type"], result["frames"], result["lost_frames"]) == ("result", 4, 6)
    assert any("constant frame rate" in text for text in result["warnings"])
    assert any(text.startswith("AUDI, bytes") for text in result["warnings"])
    written = read_back(folder / "out.mkv")
    assert written.times == [Fraction(100 + 40 * number, 1000) for number in KEPT]
    assert written.audio == []


@pytest.mark.parametrize("flag", [(), ("--salvage",)])
def test_a_file_of_which_nothing_is_whole_is_an_error(tmp_path: Path, capfd, flag) -> None:
    path = tmp_path / "damaged.hfsv"
    for data in (without_segments(clip(), *range(6)), flipped(clip(), 12)):
        path.write_bytes(data)
        assert run("decode", path, tmp_path / "out.mp4", *flag) == 4
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert ("nothing can be salvaged" in lines[0]) == bool(flag)
        assert list(tmp_path.iterdir()) == [path]


def test_decode_says_how_to_learn_more_of_damage_alone(folder: Path, capfd) -> None:
    (folder / "other.hfsv").write_bytes(b"text")
    for name, told in (("damaged", True), ("other", False), ("missing", False)):
        assert run("decode", folder / f"{name}.hfsv", folder / "out.mp4") == 4
        assert ("hfsv verify" in capfd.readouterr().err) == told


def test_verify_lists_what_is_damaged(folder: Path, capfd) -> None:
    path = folder / "damaged.hfsv"
    starts = [segment_places(clip())[index][1:] for index in (1, 2, 4)]
    assert run("verify", path) == 4
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"{path}: damaged",
        *(
            f"  SEGM, bytes {start}..{end - 1}: the checksum does not match"
            for start, _, end in starts
        ),
        "  segment 0, frames 0..1: whole",
        "  segments 1..2, frames 2..5: lost",
        "  segment 3, frames 6..6: whole",
        "  segment 4, frames 7..8: lost",
        "  segment 5, frames 9..9: whole",
        "hfsv decode --salvage renders the segments that are whole",
        f"hfsv: error: the checksum of the chunk at byte {starts[0][0]} does not match",
    ]


def test_verify_tells_damage_as_json(folder: Path, capfd) -> None:
    assert run("verify", folder / "damaged.hfsv", "--json") == 4
    printed = capfd.readouterr()
    (line,) = [json.loads(text) for text in printed.out.splitlines()]
    start, _, end = segment_places(clip())[1][1:]
    assert line["type"] == "damage"
    assert len(line["damage"]) == 3
    assert line["damage"][0] == {
        "chunk": "SEGM",
        "offset": start,
        "length": end - start,
        "fault": "checksum",
        "detail": "the checksum does not match",
    }
    keys = ("first_segment", "segments", "first_frame", "frames", "whole")
    assert line["segments"] == [
        dict(zip(keys, values, strict=True))
        for values in (
            (0, 1, 0, 2, True),
            (1, 2, 2, 4, False),
            (3, 1, 6, 1, True),
            (4, 1, 7, 2, False),
            (5, 1, 9, 1, True),
        )
    ]
    assert line["hindrance"] is None
    assert len(printed.err.splitlines()) == 1


def test_verify_of_a_file_that_cannot_be_salvaged(tmp_path: Path, capfd) -> None:
    path = tmp_path / "damaged.hfsv"
    path.write_bytes(flipped(clip(), 12))
    assert run("verify", path) == 4
    err = capfd.readouterr().err
    assert "HEAD, bytes 8.." in err
    assert "nothing can be salvaged" in err
    assert "--salvage" not in err
    assert run("verify", path, "--json") == 4
    line = json.loads(capfd.readouterr().out)
    assert line["segments"] == []
    assert "HEAD" in line["hindrance"]


def test_verify_is_brief_where_it_should_be(folder: Path, capfd) -> None:
    (folder / "other.hfsv").write_bytes(b"text")
    for arguments in (("-q", "damaged.hfsv"), ("other.hfsv",), ("missing.hfsv",)):
        assert run("verify", *arguments[:-1], folder / arguments[-1]) == 4
        printed = capfd.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1
    assert run("verify", folder / "sound.hfsv") == 0
    err = capfd.readouterr().err
    assert err.splitlines() == [f"{folder / 'sound.hfsv'}: sound (6 segments, 10 frames)"]


def test_long_lists_are_cut_for_a_person(tmp_path: Path, capfd) -> None:
    header = replace(HEADER, frames=44, segments=44)
    model = ModelSpec((StageSpec(4, 1, 1, False),), 1, 1)
    parts = [make_segment(model, header, n, 1, seed=n, first_frame=n) for n in range(44)]
    out = io.BytesIO()
    write_stream(out, header, range(0, 440, 10), 10, parts, [bytes(8)] * 44, {}, None)
    path = tmp_path / "damaged.hfsv"
    path.write_bytes(without_segments(out.getvalue(), *range(0, 44, 2)))
    assert run("verify", path) == 4
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 + 21 + 21 + 2
    assert lines[21] == "  ... and 2 more"
    assert run("decode", path, tmp_path / "out.mkv", "--salvage") == 0
    assert len(capfd.readouterr().err.splitlines()) < 50


def test_verify_names_all_segments_whose_frames_do_not_match(folder: Path, capfd) -> None:
    from nervcodec.inference import FramesDigest

    data = (folder / "sound.hfsv").read_bytes()
    digests = []
    with HfsvFile(folder / "sound.hfsv") as file:
        for number in range(6):
            digest = FramesDigest()
            for frame in file.reference_frames(number):
                digest.add(frame)
            digests.append(digest.digest())
    for wrong, named in (
        ((), ""),
        ((2,), "segment 2 do"),
        ((0, 3), "segments 0, 3 do"),
        ((0, 1, 2, 4, 5), "segments 0..2, 4..5 do"),
    ):
        hashes = b"".join(bytes(8) if n in wrong else digests[n] for n in range(6))
        chunks = [(k, hashes if k == HASH else payload) for k, payload in disassemble(data)]
        path = folder / "hashed.hfsv"
        path.write_bytes(assemble(chunks))
        assert run("verify", "--frames", path) == (4 if wrong else 0)
        lines = capfd.readouterr().err.splitlines()
        assert named in lines[-1]
        assert not any("damaged" in line for line in lines)


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [
        ("--max-params", "100", "1M"),
        ("--max-macs", "1k", "1G"),
        ("--max-memory", "1k", "1G"),
        ("--max-pixels", "500", "1M"),
        ("--max-total-macs", "100k", "1G"),
    ],
)
def test_limits_can_be_set(folder: Path, capfd, option: str, low: str, high: str) -> None:
    output = folder / "out.mkv"
    for name in ("sound", "damaged"):
        arguments = ("decode", folder / f"{name}.hfsv", output, "--salvage", "-q", option)
        assert run(*arguments, low) == 4
        line = capfd.readouterr().err
        assert f"({option} sets it)" in line
        assert "the limit is" in line
        assert not output.exists()
        assert run(*arguments, high, "-y") == 0
        output.unlink()
    assert run("verify", folder / "sound.hfsv", "--source", output, option, low) == 4
    assert f"({option} sets it)" in capfd.readouterr().err
    for text in ("many", "0", "-5"):
        assert run("verify", folder / "sound.hfsv", option, text) == 2
        assert option in capfd.readouterr().err


def test_verify_tells_damage_of_a_file_beyond_the_limits(folder: Path, capfd) -> None:
    assert run("verify", folder / "damaged.hfsv", "--max-params", "100") == 4
    err = capfd.readouterr().err
    assert "SEGM, bytes" in err
    assert "the limit is 100" in err
    assert "--salvage" not in err


def test_limits_can_be_set_in_the_environment(folder: Path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("HFSV_VERIFY_MAX_PARAMS", "100")
    assert run("verify", folder / "sound.hfsv") == 4
    assert "--max-params" in capfd.readouterr().err


def test_examine_tells_what_verify_prints(folder: Path) -> None:
    report = examine(folder / "damaged.hfsv")
    assert [part.chunk for part in report.damage] == ["SEGM"] * 3
    assert (report.sound, report.salvageable, report.hindrance) == (False, True, None)
    report = examine(folder / "sound.hfsv")
    assert (report.damage, report.sound, report.salvageable) == ((), True, True)
    assert [run.whole for run in report.segments] == [True]
    with pytest.raises(BitstreamError, match="no such file"):
        examine(folder / "missing.hfsv")
