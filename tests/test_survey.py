"""What is found in damaged files, and that the search for it has its bounds."""

from __future__ import annotations

import io
import random
import time
import tracemalloc
from pathlib import Path

import pytest
from damaged_files import (
    NAMES,
    SMALL,
    assert_complete,
    clip,
    faults,
    flipped,
    places,
    segment_places,
    survey,
    without_segments,
)
from format_helpers import (
    AUDI,
    END,
    HASH,
    HEAD,
    META,
    SEGM,
    SIGNATURE,
    assemble,
    chunk,
    disassemble,
    leb,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nervcodec.bitstream import survey as survey_module
from nervcodec.bitstream.container import ContainerReader
from nervcodec.bitstream.survey import TRUSTED_LENGTH, Fault, Survey
from nervcodec.errors import BitstreamError

# --- the survey ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, clip()])
def test_a_sound_file_has_no_damage(data: bytes) -> None:
    found = survey(data)
    assert found.damage == []
    assert found.chunks == ContainerReader(io.BytesIO(data)).chunks
    assert_complete(data, found)


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("where", ["first", "last", "checksum"])
def test_a_damaged_payload_costs_its_chunk_alone(index: int, where: str) -> None:
    data = SMALL
    everything = places(data)
    kind, start, offset, end = everything[index]
    position = {"first": offset, "last": end - 5, "checksum": end - 1}[where]
    found = survey(flipped(data, position))
    assert faults(found) == [(NAMES[kind], start, Fault.CHECKSUM)]
    assert found.damage[0].length == end - start
    assert [c.start for c in found.chunks] == [s for _, s, _, _ in everything if s != start]


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_length_costs_its_chunk_alone(index: int, bit: int) -> None:
    data = SMALL
    everything = places(data)
    kind, start, offset, end = everything[index]
    for position in range(start + 1, offset):
        damaged = flipped(data, position, bit=bit)
        found = survey(damaged)
        assert_complete(damaged, found)
        assert [c.start for c in found.chunks] == [s for _, s, _, _ in everything if s != start]
        (part,) = found.damage
        assert (part.chunk, part.offset) == (NAMES[kind], start)
        assert part.length == end - start
        expected = {Fault.UNREADABLE}
        if kind == END:
            expected = {Fault.TRUNCATED, Fault.UNREADABLE}
        assert part.fault in expected


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_type_costs_its_chunk_alone(index: int, bit: int) -> None:
    data = SMALL
    everything = places(data)
    kind, start, _, end = everything[index]
    found = survey(flipped(data, start, bit=bit))
    assert [c.start for c in found.chunks] == [s for _, s, _, _ in everything if s != start]
    part = found.damage[0]
    assert (part.chunk, part.offset, part.length, part.fault) == (
        NAMES.get(kind ^ 1 << bit, f"{kind ^ 1 << bit:#04x}"),
        start,
        end - start,
        Fault.CHECKSUM,
    )
    missing = {HEAD: ("HEAD", 8), END: ("END", len(data))}.get(kind)
    assert faults(found)[1:] == ([(*missing, Fault.MISSING)] if missing else [])


def test_a_file_cut_anywhere_keeps_the_chunks_before() -> None:
    data = SMALL
    everything = places(data)
    for length in range(len(SIGNATURE), len(data)):
        found = survey(data[:length])
        assert_complete(data[:length], found)
        assert [c.start for c in found.chunks] == [s for _, s, _, e in everything if e <= length]
        cut = [(kind, start) for kind, start, _, end in everything if start < length < end]
        expected = [(NAMES[kind], start, Fault.TRUNCATED) for kind, start in cut]
        for kind, place in ((HEAD, len(SIGNATURE)), (END, length)):
            if all(kind != k for k, _ in cut) and not (kind == HEAD and found.chunks):
                expected.append((NAMES[kind], place, Fault.MISSING))
        assert sorted(faults(found)) == sorted(expected)


@pytest.mark.parametrize("length", range(len(SIGNATURE)))
def test_less_than_the_signature_is_no_file_of_ours(length: int) -> None:
    with pytest.raises(BitstreamError, match=r"not an \.hfsv file"):
        survey(SIGNATURE[:length])


def test_a_damaged_signature_is_named_where_head_stands_behind_it() -> None:
    data = SMALL
    for position in range(len(SIGNATURE)):
        found = survey(flipped(data, position))
        assert faults(found) == [(None, 0, Fault.SIGNATURE)]
        assert_complete(data, found)
    for other in (flipped(data, 3, 12), flipped(assemble(disassemble(data)[1:]), 3)):
        with pytest.raises(BitstreamError, match=r"not an \.hfsv file"):
            survey(other)


def test_a_wrong_digest_is_named_though_all_checksums_are_right() -> None:
    before = SMALL[: places(SMALL)[-1][1]]
    data = before + chunk(END, leb(len(before)) + bytes(16))
    found = survey(data)
    assert faults(found) == [("END", len(before), Fault.CONTENT)]
    assert "digest" in found.damage[0].detail


def test_the_digest_is_no_second_fault_where_chunks_are_damaged() -> None:
    found = survey(without_segments(clip(), 1))
    assert [part.fault for part in found.damage] == [Fault.CHECKSUM]


def test_lost_bytes_are_told_by_ends_offset() -> None:
    data = clip()
    first, second = segment_places(data)[1:3]
    found = survey(data[: first[1]] + data[second[1] :])
    assert faults(found) == [("END", found.length - 24, Fault.CONTENT)]
    assert "offset" in found.damage[0].detail


@pytest.mark.parametrize("tail", [b"\n", bytes(3000), chunk(AUDI, b"late"), SMALL])
def test_data_after_end_is_named_and_not_read(tail: bytes) -> None:
    data = SMALL
    found = survey(data + tail)
    assert faults(found) == [(None, len(data), Fault.TRAILING)]
    assert_complete(data + tail, found)
    assert len(found.chunks) == 8


def test_a_file_without_end_is_named() -> None:
    data = clip()
    end = places(data)[-1][1]
    assert faults(survey(data[:end])) == [("END", end, Fault.MISSING)]


def test_a_file_without_head_is_named() -> None:
    found = survey(assemble(disassemble(SMALL)[1:]))
    assert faults(found) == [("HEAD", 8, Fault.MISSING)]


@pytest.mark.parametrize("payload", [bytes(40), bytes(1), b"\x82" * 40, b"\xff" * 7])
def test_bytes_between_chunks_are_a_part_of_their_own(payload: bytes) -> None:
    data = clip()
    place = segment_places(data)[2][1]
    found = survey(data[:place] + payload + data[place:])
    stretch, end = found.damage
    assert (stretch.offset, stretch.length) == (place, len(payload))
    assert (end.chunk, end.fault) == ("END", Fault.CONTENT)


def test_an_overwritten_boundary_costs_both_chunks() -> None:
    data = bytearray(clip())
    _, start, _, end = segment_places(bytes(data))[1]
    data[end - 10 : end + 10] = bytes(20)
    found = survey(bytes(data))
    following = segment_places(clip())[3][1]
    assert faults(found) == [("SEGM", start, Fault.UNREADABLE)]
    assert found.damage[0].length == following - start


def test_damaged_neighbours_are_named_one_by_one() -> None:
    data = without_segments(clip(), 1, 2, 3, 5)
    starts = [segment_places(clip())[index][1] for index in (1, 2, 3, 5)]
    assert faults(survey(data)) == [("SEGM", start, Fault.CHECKSUM) for start in starts]


def test_all_chunks_to_the_end_are_named_one_by_one() -> None:
    data = clip()
    for _, _, offset, _ in places(data)[5:]:
        data = flipped(data, offset)
    assert [part.chunk for part in survey(data).damage] == ["SEGM"] * 4 + ["HASH", "END"]


def test_a_damaged_payload_before_a_cut_is_named_with_the_cut_chunk() -> None:
    data = without_segments(clip(), 3)[: segment_places(clip())[4][3] - 10]
    assert [(part.chunk, part.fault) for part in survey(data).damage] == [
        ("SEGM", Fault.CHECKSUM),
        ("SEGM", Fault.TRUNCATED),
        ("END", Fault.MISSING),
    ]


@pytest.mark.parametrize("second", ["type", "length", "payload"])
def test_a_sound_chunk_between_damaged_ones_is_found(second: str) -> None:
    found = segment_places(clip())
    position = {"type": found[3][1], "length": found[3][1] + 1, "payload": found[3][2] + 9}[second]
    kept = survey(flipped(clip(), found[1][1] + 1, position, bit=2)).of_kind(SEGM)
    assert [c.start for c in kept] == [found[index][1] for index in (0, 2, 4, 5)]


def test_a_chunk_within_a_damaged_payload_is_not_taken_for_one_of_the_file() -> None:
    inner = chunk(META, b"inner") + SMALL
    data = assemble([(HEAD, b"h"), (SEGM, b"\x01" + inner), (SEGM, b"second"), (AUDI, inner)])
    for _, start, offset, _ in places(data)[1:4]:
        found = survey(flipped(data, offset))
        assert [c.start for c in found.chunks] == [s for _, s, _, _ in places(data) if s != start]


def test_a_length_that_leads_to_the_files_end_hides_no_chunks() -> None:
    data = clip()
    _, start, offset, _ = segment_places(data)[0]
    damaged = data[: start + 1] + leb(len(data) - offset - 4) + data[offset:]
    assert len(damaged) == len(data)
    found = survey(damaged)
    assert faults(found) == [("SEGM", start, Fault.UNREADABLE)]
    assert len(found.of_kind(SEGM)) == 5


def test_a_damaged_unknown_chunk_is_named_by_its_number() -> None:
    data = assemble([(HEAD, b"h"), (0x40, b"mine"), (SEGM, b"s")])
    found = survey(flipped(data, data.index(b"mine")))
    assert faults(found) == [("0x40", places(data)[1][1], Fault.CHECKSUM)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("set", "cut", "insert", "delete", "zero")),
            st.integers(0, 10**6),
            st.integers(0, 255),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=200)
def test_any_damage_leaves_every_byte_accounted_for(changes: list[tuple[str, int, int]]) -> None:
    damaged = bytearray(SMALL)
    for what, position, value in changes:
        place = position % len(damaged) if damaged else 0
        if what == "set":
            damaged[place : place + 1] = bytes([value])
        elif what == "cut":
            del damaged[max(place, 40) :]
        elif what == "insert":
            damaged[place:place] = bytes([value]) * (value % 7)
        elif what == "delete":
            del damaged[place : place + value]
        else:
            damaged[place : place + value] = bytes(len(damaged[place : place + value]))
    data = bytes(damaged)
    try:
        found = survey(data)
    except BitstreamError as exc:
        assert "not an .hfsv file" in str(exc)  # noqa: PT017
        return
    assert_complete(data, found)
    for sound in found.chunks:
        assert chunk(sound.kind, found.payload(sound)) == data[sound.start : sound.end]
    if data != SMALL:
        assert found.damage


# --- the search and its bounds ------------------------------------------------------------------


class Counting(io.BytesIO):
    """Counts the bytes that are read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def test_the_search_finds_long_chunks_behind_a_damaged_length() -> None:
    long = TRUSTED_LENGTH + 5000
    data = assemble([(HEAD, b"h"), *((SEGM, noise(long, seed)) for seed in range(3)), (HASH, b"h")])
    for index in (1, 2, 3):
        start = places(data)[index][1]
        found = survey(flipped(data, start + 2, bit=3))
        assert [c.start for c in found.chunks] == [s for _, s, _, _ in places(data) if s != start]


def test_the_search_finds_a_long_chunk_at_the_files_end() -> None:
    long = chunk(SEGM, noise(TRUSTED_LENGTH + 1))
    data = SIGNATURE + chunk(HEAD, b"h") + flipped(chunk(SEGM, b"s"), 1, bit=6) + long
    assert [c.kind for c in survey(data).chunks] == [HEAD, SEGM]


def test_the_search_finds_end_behind_a_long_damaged_chunk() -> None:
    data = assemble([(HEAD, b"h"), (SEGM, b"s"), (AUDI, noise(1 << 20))])
    start = places(data)[2][1]
    found = survey(flipped(data, start + 3, bit=2))
    assert faults(found) == [("AUDI", start, Fault.UNREADABLE)]
    assert found.chunks[-1].kind == END


def nested(size: int) -> bytes:
    """A chunk begins every few bytes and reaches nearly to the end."""
    lengths = (max(size - position - 20, 0) for position in range(0, size, 4))
    return b"".join(bytes([SEGM]) + leb(length) for length in lengths)


def alternating(size: int) -> bytes:
    """Tiny sound chunks, and between them heads whose length reaches nearly to the end."""
    tiny, out = chunk(SEGM, b""), bytearray()
    while len(out) < size:
        out += bytes([SEGM]) + leb(max(size - len(out) - 100, 200)) + tiny
    return bytes(out)


def crumbs(size: int) -> bytes:
    """Tiny sound chunks, and between them bytes that are none."""
    return (b"\0" + chunk(SEGM, b"")) * (size // 7)


HOSTILE = {
    "types": lambda size: b"\x82" * size,
    "short chunks": lambda size: b"\x82\x05" * (size // 2),
    "long chunks": lambda size: b"\x82\xff\x7f" * (size // 3),
    "nested": nested,
    "alternating": alternating,
    "crumbs": crumbs,
    "noise": noise,
    "zeros": bytes,
}


@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_search_reads_a_bounded_number_of_bytes(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "SEARCH_BYTES", 1 << 20)
    monkeypatch.setattr(survey_module, "SEARCH_FACTOR", 16)
    data = SIGNATURE + chunk(HEAD, b"h") + HOSTILE[pattern](100_000)
    stream = Counting(data)
    started = time.perf_counter()
    found = Survey(stream)
    assert time.perf_counter() - started < 10
    assert stream.count < (1 << 20) + 20 * len(data)
    assert_complete(data, found)


@pytest.mark.parametrize("pattern", ["types", "long chunks", "nested", "alternating", "crumbs"])
def test_a_search_that_is_given_up_is_told(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "SEARCH_BYTES", 0)
    monkeypatch.setattr(survey_module, "SEARCH_FACTOR", 4)
    data = SIGNATURE + chunk(HEAD, b"h") + HOSTILE[pattern](50_000)
    found = survey(data)
    assert found.damage[-1].fault == Fault.UNSEARCHED
    assert_complete(data, found)
    assert "not looked through" in str(found.damage[-1])


def test_more_chunks_than_may_be_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "MAX_CHUNKS", 20)
    exact = assemble([(HEAD, b"h"), *((SEGM, b"s") for _ in range(18))])
    assert survey(exact).damage == []
    many = assemble([(HEAD, b"h"), *((SEGM, b"s") for _ in range(100))])
    found = survey(many)
    assert len(found.chunks) == 20
    assert [part.fault for part in found.damage] == [Fault.UNSEARCHED]
    assert "more than 20 chunks" in found.damage[0].detail
    assert_complete(many, found)


def test_the_survey_holds_no_payloads(tmp_path: Path) -> None:
    path = tmp_path / "long.hfsv"
    path.write_bytes(flipped(assemble([(HEAD, b"h"), (AUDI, bytes(12 << 20))]), 40))
    with path.open("rb") as stream:
        tracemalloc.start()
        try:
            found = Survey(stream)
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()
    assert [part.fault for part in found.damage] == [Fault.CHECKSUM]
