"""Whole files against spec sections 3, 4 and 7: timestamps, META, AUDI, HASH and the segments."""

from __future__ import annotations

import io
import itertools
import os
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import pytest
from format_helpers import (
    AUDI,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SMALL_AUDIO,
    SMALL_DIGESTS,
    SMALL_HEADER,
    SMALL_LAST_DURATION,
    SMALL_META,
    SMALL_PTS,
    Chunks,
    assemble,
    disassemble,
    head_bytes,
    leb,
    make_header,
    read_all,
    same_segment,
    small_file,
    small_segments,
    zigzag,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nervcodec.bitstream.segment import encode_segment
from nervcodec.bitstream.stream import (
    AudioData,
    StreamReader,
    decode_audio,
    decode_meta,
    decode_timestamps,
    encode_audio,
    encode_meta,
    encode_timestamps,
    open_stream,
    write_stream,
)
from nervcodec.bitstream.tensors import Limits
from nervcodec.errors import BitstreamError, UnsupportedError

LONGEST = 2**31 - 1


@contextmanager
def little_memory(most: int = 4 << 20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak} bytes"


@cache
def small_chunks() -> tuple[tuple[int, bytes], ...]:
    return tuple(disassemble(small_file()))


def with_payload(kind: int, payload: bytes | None, index: int = 0) -> bytes:
    """The small file with the ``index``-th chunk of a kind replaced, or left out for None."""
    chunks: Chunks = list(small_chunks())
    place = [i for i, item in enumerate(chunks) if item[0] == kind][index]
    chunks[place : place + 1] = [] if payload is None else [(kind, payload)]
    return assemble(chunks)


@cache
def zipped_zeros() -> bytes:
    """16 kB that inflate to 16 MiB."""
    return zlib.compress(bytes(16 << 20), 9)


# --- whole files --------------------------------------------------------------------------------


def test_a_file_comes_back() -> None:
    data = small_file()
    reader = read_all(data)
    segments = small_segments()
    assert reader.header == SMALL_HEADER
    assert tuple(reader.pts) == SMALL_PTS
    assert reader.last_duration == SMALL_LAST_DURATION
    assert [(s.first_frame, s.frames, s.model) for s in reader.segments] == [
        (0, 3, segments[0].model),
        (3, 2, segments[1].model),
    ]
    assert all(same_segment(reader.segment(i), s) for i, s in enumerate(segments))
    assert reader.digests == SMALL_DIGESTS
    assert reader.meta == SMALL_META
    assert reader.audio() == SMALL_AUDIO
    assert reader.file_bytes == len(data)


def test_the_chunks_have_the_layout_of_the_spec() -> None:
    chunks = small_chunks()
    segments = small_segments()
    assert chunks[0] == (HEAD, SMALL_HEADER.to_bytes())
    assert chunks[2] == (META, msgpack.packb(SMALL_META))
    assert chunks[3:5] == tuple((SEGM, encode_segment(s)[0]) for s in segments)
    assert chunks[5] == (HASH, b"digest 0digest 1")
    assert chunks[6][1][0] == 1  # Matroska


def test_the_same_content_is_the_same_file() -> None:
    assert small_file() == small_file() == assemble(small_chunks())


def test_audio_bytes_are_what_leaving_the_audio_out_saves() -> None:
    reader = read_all(small_file())
    without = read_all(with_payload(AUDI, None))
    assert reader.file_bytes - reader.audio_bytes == without.file_bytes
    assert without.audio_bytes == 0
    assert without.audio() is None


def test_what_is_optional_may_be_absent() -> None:
    required = [item for item in small_chunks() if item[0] in (HEAD, SEGM)]
    reader = read_all(assemble(required))
    assert (reader.meta, reader.digests, reader.audio()) == ({}, None, None)
    assert list(reader.pts) == [-7 + 25 * n for n in range(5)]


@pytest.mark.parametrize("name", ["missing.hfsv", "."])
def test_what_cannot_be_opened_is_our_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(BitstreamError, match=r"no such file|is a directory"):
        open_stream(tmp_path / name)


def test_a_pipe_is_our_error() -> None:
    """As in ``hfsv info <(...)``: a file is read from several places, so a pipe will not do."""
    from nervcodec.info import probe

    reading, writing = os.pipe()
    try:
        os.write(writing, small_file())
        with pytest.raises(BitstreamError):
            probe(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


@settings(max_examples=300)
@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-2, 2),
)
def test_mutated_payloads_with_sound_checksums_raise_nothing_but_our_errors(
    index: int, changes: list[tuple[int, int]], growth: int
) -> None:
    chunks: Chunks = list(small_chunks())
    kind, original = chunks[index]
    payload = bytearray(original)
    for position, value in changes:
        payload[position % len(payload)] = value
    payload = payload[:growth] if growth < 0 else payload + bytes(growth)
    chunks[index] = (kind, bytes(payload))
    try:
        reader = read_all(assemble(chunks))
    except BitstreamError:
        return
    assert len(reader.pts) == reader.header.frames


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=6))
def test_shuffled_chunks_raise_nothing_but_our_errors(moves: list[tuple[int, int]]) -> None:
    """Chunks repeated, dropped and moved."""
    chunks: Chunks = list(small_chunks())
    for place, action in moves:
        if not chunks:
            break
        item = chunks[place % len(chunks)]
        if action == 0:
            chunks.remove(item)
        elif action == 1:
            chunks.append(item)
        else:
            chunks.insert(0, item)
    try:
        read_all(assemble(chunks))
    except BitstreamError:
        return
    kinds = [kind for kind, _ in chunks]
    rank = {kind: i for i, kind in enumerate((HEAD, PTSD, META, SEGM, HASH, AUDI))}
    assert kinds == sorted(kinds, key=rank.__getitem__)


# --- timestamps ---------------------------------------------------------------------------------


def ptsd(raw: bytes, *, length: int | None = None, packed: bool = True) -> bytes:
    """A PTSD payload of these bytes."""
    stated = leb(len(raw) if length is None else length)
    return b"\x01" + stated + zlib.compress(raw) if packed else b"\x00" + stated + raw


def times(payload: bytes | None, frames: int, **fields: int) -> tuple[Sequence[int], int]:
    return decode_timestamps(payload, make_header(frames=frames, segments=1, **fields))


@given(st.integers(-(2**40), 2**40), st.integers(1, LONGEST), st.integers(1, 50))
def test_a_constant_rate_takes_no_bytes(start: int, duration: int, frames: int) -> None:
    pts = [start + n * duration for n in range(frames)]
    assert encode_timestamps(pts, duration, duration) == b""
    decoded, last = times(None, frames, start_pts=start, frame_duration=duration)
    assert list(decoded) == pts
    assert last == duration


STEPS = st.integers(1, LONGEST) | st.integers(30, 40)


@given(st.integers(-(2**40), 2**40), STEPS, st.lists(STEPS, min_size=1, max_size=60))
def test_timestamps_come_back(start: int, duration: int, steps: list[int]) -> None:
    ends = list(itertools.accumulate(steps, initial=start))
    pts, last = ends[:-1], steps[-1]
    payload = encode_timestamps(pts, duration, last)
    assert (payload == b"") == (set(steps) == {duration})
    decoded, decoded_last = times(
        payload or None, len(steps), start_pts=start, frame_duration=duration
    )
    assert list(decoded) == pts
    assert decoded_last == last


def test_timestamps_by_hand() -> None:
    raw = b"".join(zigzag(extra) for extra in (0, 0, 22, 0, -24))
    for packed in (False, True):
        pts, last = times(ptsd(raw, packed=packed), 5, start_pts=-7)
        assert list(pts) == [-7, 18, 43, 90, 115]
        assert last == 1
    assert encode_timestamps([-7, 18, 43, 90, 115], 25, 1) == ptsd(raw, packed=False)


def test_long_regular_timestamps_are_compressed() -> None:
    pts = [n * 25 + n // 3 for n in range(3000)]
    payload = encode_timestamps(pts, 25, 25)
    assert payload[0] == 1
    assert len(payload) < 100
    assert list(times(payload, 3000)[0]) == pts


@pytest.mark.parametrize(
    ("extra", "good"),
    [(-24, True), (-25, False), (-26, False), (LONGEST - 25, True), (LONGEST - 24, False)],
)
def test_every_frame_lasts_a_tick_or_more(extra: int, good: bool) -> None:
    for extras in ((extra, 0), (0, extra)):
        payload = ptsd(b"".join(map(zigzag, extras)))
        if good:
            assert min(times(payload, 2)[1], times(payload, 2)[0][1]) >= 1
        else:
            with pytest.raises(BitstreamError, match=r"not in 1\.\.2147483647"):
                times(payload, 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        ptsd(bytes(4)),
        ptsd(bytes(6)),
        ptsd(bytes(4) + b"\x80"),
        ptsd(bytes(4) + b"\x80\x00"),
        ptsd(bytes(5), length=4),
        ptsd(bytes(5), length=6),
        ptsd(bytes(5), length=0),
        ptsd(bytes(5), length=4, packed=False),
        ptsd(bytes(5), length=6, packed=False),
        ptsd(bytes(26), packed=False),
        b"\x02" + ptsd(bytes(5))[1:],
        b"\xff" + ptsd(bytes(5))[1:],
        ptsd(bytes(5)) + b"\x00",
        ptsd(bytes(5)) + zlib.compress(b""),
        ptsd(bytes(5))[:-1],
        ptsd(bytes(5))[:-5],
        b"\x01\x05" + bytes(30),
        b"\x01\x05" + zlib.compress(bytes(5), wbits=-15),
        b"\x01\x05" + zlib.compress(bytes(5), wbits=31),
    ],
)
def test_malformed_timestamps_are_refused(payload: bytes) -> None:
    with pytest.raises(BitstreamError):
        times(payload, 5)


def test_inflated_timestamps_stay_within_their_bounds() -> None:
    bomb = zipped_zeros()
    for payload in (b"\x01" + leb(5) + bomb, b"\x01" + leb(26) + bomb, b"\x01" + leb(2**40) + bomb):
        with little_memory(1 << 20), pytest.raises(BitstreamError):
            times(payload, 5)


def test_the_decoder_reads_the_longest_runs_that_the_encoder_writes() -> None:
    frames = 1_000_000
    raw = bytes(frames - 1) + zigzag(1)  # all frames alike but the last, as encode_timestamps says
    pts, last = times(ptsd(raw), frames)
    assert len(pts) == frames
    assert last == 26


def test_timestamps_of_many_frames_take_little_memory() -> None:
    """1 kB of PTSD can announce a million frames."""
    frames = 50_000
    chunks: Chunks = [
        (HEAD, head_bytes(frames=leb(frames), segments=leb(1))),
        (PTSD, ptsd(b"\x02" * frames)),
        (SEGM, b"\x00\x00" + leb(frames) + bytes([1, 0, 1, 1, 1, 1, 1, 1, 1])),
    ]
    data = assemble(chunks)
    with little_memory(16 * frames):
        StreamReader(io.BytesIO(data), Limits(parameters=frames))


# --- META ---------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def depth(value: Any) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@given(st.dictionaries(st.text(max_size=3), PLAIN, max_size=4).filter(lambda m: depth(m) <= 4))
def test_meta_comes_back(meta: dict[str, Any]) -> None:
    assert decode_meta(encode_meta(meta)) == meta


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"a": "x" * 4096},
        {"a": "\u00e9" * 2048},
        {"a": [0] * 1024},
        {"a": {str(i): i for i in range(256)}},
        {str(i): i for i in range(256)},
        {"a": {"b": {"c": {"d": 1}}}},
        {"a": [[[1, "x", None]]]},
        {"a": {"b": {"c": {}}}},
        {"a": [2**64 - 1, -(2**63), 1.5e308, 5e-324, True]},
        {"\u65e5\u672c": "\x1b[31m", "": ""},
    ],
)
def test_meta_up_to_its_bounds_is_read(meta: dict[str, Any]) -> None:
    assert decode_meta(msgpack.packb(meta)) == meta


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        7,
        {"a": "x" * 4097},
        {"a": "\u00e9" * 2049},
        {"x" * 4097: 1},
        {"a": [0] * 1025},
        {"a": {str(i): i for i in range(257)}},
        {str(i): i for i in range(257)},
        {"a": {"b": {"c": {"d": {"e": 1}}}}},
        {"a": [[[[1]]]]},
        {"a": [[[{"b": [1]}]]]},
        {"a": b"bytes"},
        {b"a": 1},
        {1: 1},
        {None: 1},
        {"a": {2: 1}},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": [-float("inf")]},
        {"a": msgpack.ExtType(5, b"")},
        {"a": msgpack.ExtType(5, b"abcd")},
        {"a": msgpack.Timestamp(5)},
    ],
)
def test_meta_of_other_values_is_refused(value: Any) -> None:
    with pytest.raises(BitstreamError, match="META"):
        decode_meta(msgpack.packb(value, strict_types=False))


@pytest.mark.parametrize("inner", [{}, []])
def test_empty_containers_count_for_the_depth_too(inner: Any) -> None:
    with pytest.raises(BitstreamError, match="META"):
        decode_meta(msgpack.packb({"a": {"b": {"c": {"d": inner}}}}))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "c1",
        "81",
        "81a161",
        "81a16101 00",
        "82a16101a16102",  # a repeated key
        "81a16182a16201a16202",
        "81a161cc01",  # 1 in two bytes
        "81a161cd0001",
        "81a161d001",
        "81a161d1ff80",
        "81a161d90161",  # a short string with a long head
        "81a161dc000101",  # an array of one with a long head
        "de0001a16101",  # a map of one with a long head
        "df00000001a16101",
        "81d9016101",
        "81a161ca3f800000",  # a float of 32 bits
        "81a161cb7ff8000000000000",
        "81a161cb7ff0000000000000",
        "81a161a1ff",  # no UTF-8
        "81a1ff01",
        "81a161c40161",
        "81a161d40500",
        "81a161c7000500",
        "819001",  # an array as a key
        "818001",
        "81a161" + "91" * 2000,
        "81a161dbffffffff",
        "81a161ddffffffff",
        "dfffffffff",
    ],
)
def test_meta_in_another_form_is_refused(data: str) -> None:
    with little_memory(1 << 20), pytest.raises(BitstreamError, match="META"):
        decode_meta(bytes.fromhex(data))


def test_meta_has_a_largest_size() -> None:
    def meta(size: int) -> bytes:
        """A sound map of exactly ``size`` bytes: fifteen long strings and one that fits."""
        items = {f"{i:02}": "x" * 4096 for i in range(15)}
        rest = size - len(msgpack.packb(items | {"zz": "x" * 4000})) + 4000
        return msgpack.packb(items | {"zz": "x" * rest})

    assert len(meta(2**16)) == 2**16
    assert len(decode_meta(meta(2**16))) == 16
    with pytest.raises(BitstreamError, match="more than 65536"):
        decode_meta(msgpack.packb({f"{i:02}": "x" * 4096 for i in range(17)}))


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_random_meta_is_refused_or_canonical(data: bytes) -> None:
    try:
        meta = decode_meta(b"\x82\xa1a" + data)
    except BitstreamError:
        return
    assert msgpack.packb(meta) == b"\x82\xa1a" + data


# --- AUDI ---------------------------------------------------------------------------------------


@given(
    st.sampled_from(("mp4", "matroska")), st.binary(min_size=1, max_size=300) | st.just(bytes(5000))
)
def test_audio_comes_back(container: str, data: bytes) -> None:
    payload = encode_audio(AudioData(container, data))
    assert payload[0] == ("mp4", "matroska").index(container)
    assert len(payload) <= len(data) + 4
    assert decode_audio(payload) == AudioData(container, data)


def test_audio_by_hand() -> None:
    assert decode_audio(b"\x00\x00\x03abc") == AudioData("mp4", b"abc")
    assert decode_audio(b"\x01\x01\x03" + zlib.compress(b"abc")) == AudioData("matroska", b"abc")
    assert encode_audio(AudioData("mp4", b"abc")) == b"\x00\x00\x03abc"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x00\x00",
        b"\x00\x00\x00",
        b"\x00\x01\x00" + zlib.compress(b""),
        b"\x02\x00\x01a",
        b"\xff\x00\x01a",
        b"\x00\x02\x03abc",
        b"\x00\x00\x02abc",
        b"\x00\x00\x04abc",
        b"\x00\x01\x03abc",
        b"\x00\x01\x03" + zlib.compress(b"abcd"),
        b"\x00\x01\x03" + zlib.compress(b"ab"),
        b"\x00\x01\x03" + zlib.compress(b"abc") + b"\x00",
        b"\x00\x01\x03" + zlib.compress(b"abc")[:-1],
    ],
)
def test_malformed_audio_is_refused(payload: bytes) -> None:
    with pytest.raises(BitstreamError):
        decode_audio(payload)
    with pytest.raises(BitstreamError):
        read_all(with_payload(AUDI, payload))


def test_audio_bombs_are_not_inflated() -> None:
    bomb = zipped_zeros()
    for stated in (1, 3, 10_000):
        with little_memory(1 << 20), pytest.raises(BitstreamError, match="another length"):
            decode_audio(b"\x00\x01" + leb(stated) + bomb)
    for method in (b"\x00\x00", b"\x00\x01"):
        with little_memory(1 << 20), pytest.raises(BitstreamError, match="uncompressed length"):
            decode_audio(method + leb(2**30 + 1) + bomb)


def test_an_announced_gigabyte_is_not_allocated() -> None:
    with little_memory(1 << 20), pytest.raises(BitstreamError, match="another length"):
        decode_audio(b"\x00\x01" + leb(2**30) + zlib.compress(b"short"))


def test_opening_a_file_does_not_inflate_its_audio() -> None:
    data = with_payload(AUDI, b"\x00\x01" + leb(16 << 20) + zipped_zeros())
    with little_memory(4 << 20):
        reader = StreamReader(io.BytesIO(data), Limits())
    audio = reader.audio()
    assert audio is not None
    assert len(audio.data) == 16 << 20


# --- HASH ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 8, 15, 17, 24])
def test_hash_has_eight_bytes_a_segment(length: int) -> None:
    with pytest.raises(BitstreamError, match="HASH"):
        read_all(with_payload(HASH, bytes(length)))


def test_the_digests_of_frames_are_not_checked_with_the_symbols() -> None:
    reader = read_all(with_payload(HASH, bytes(range(16))))
    assert reader.digests == [bytes(range(8)), bytes(range(8, 16))]


def test_frames_that_do_not_match_hash_are_found(tmp_path: Path) -> None:
    """The small file's digests are made up; those that its networks give are accepted."""
    from nervcodec.inference import FramesDigest, SegmentRenderer
    from nervcodec.verification import verify

    path = tmp_path / "clip.hfsv"
    path.write_bytes(small_file())
    assert verify(path).segments == 2
    with pytest.raises(BitstreamError, match=r"segments 0\.\.1 do not match HASH"):
        verify(path, frames=True)
    digests = []
    for segment in small_segments():
        renderer = SegmentRenderer(segment, SMALL_HEADER.width, SMALL_HEADER.height, reference=True)
        digest = FramesDigest()
        for frame in renderer.frames(range(segment.frames)):
            digest.add(frame)
        digests.append(digest.digest())
    path.write_bytes(with_payload(HASH, b"".join(digests)))
    assert verify(path, frames=True).frames_checked
    path.write_bytes(with_payload(HASH, digests[0] + bytes(8)))
    with pytest.raises(BitstreamError, match="segment 1 do not match HASH"):
        verify(path, frames=True)


@pytest.mark.parametrize("index", [0, 1])
def test_symbols_with_another_checksum_are_refused(index: int) -> None:
    segment = small_segments()[index]
    payload = bytearray(encode_segment(segment)[0])
    place = payload.index(segment.symbols_crc().to_bytes(4, "little"))
    payload[place] ^= 1
    reader = StreamReader(io.BytesIO(with_payload(SEGM, bytes(payload), index)), Limits())
    reader.segment(1 - index)
    with pytest.raises(BitstreamError, match=f"SEGM {index}: .* checksum"):
        reader.segment(index)


# --- segments -----------------------------------------------------------------------------------


def with_segments(
    count: int,
    frames: int,
    lengths: Sequence[int],
    indices: Sequence[int],
    firsts: Sequence[int] | None = None,
) -> bytes:
    """A file that announces ``count`` segments and ``frames``, and holds segments as listed."""
    firsts = [sum(lengths[:i]) for i in range(len(lengths))] if firsts is None else firsts
    model = bytes([1, 0, 1, 1, 1, 1, 1, 1, 1])
    head = head_bytes(frames=leb(frames), segments=leb(count))
    places = zip(indices, firsts, lengths, strict=True)
    segments = [b"".join(map(leb, place)) + model for place in places]
    return assemble([(HEAD, head), *((SEGM, payload) for payload in segments)])


def open_data(data: bytes) -> StreamReader:
    return StreamReader(io.BytesIO(data), Limits())


def test_segments_follow_each_other() -> None:
    reader = open_data(with_segments(3, 6, (1, 3, 2), (0, 1, 2)))
    places = [(s.index, s.first_frame, s.frames) for s in reader.segments]
    assert places == [(0, 0, 1), (1, 1, 3), (2, 4, 2)]


@pytest.mark.parametrize(
    ("count", "frames", "lengths", "indices"),
    [
        (1, 5, (), ()),
        (2, 5, (5,), (0,)),
        (2, 5, (2, 2), (0, 1)),
        (2, 5, (3, 3), (0, 1)),
        (2, 5, (2, 3, 1), (0, 1, 1)),
        (3, 5, (2, 2), (0, 1)),
        (1, 5, (2, 3), (0, 0)),
        (2, 5, (2, 3), (1, 0)),
        (2, 5, (2, 3), (0, 0)),
        (2, 5, (2, 3), (1, 1)),
        (3, 5, (2, 3), (0, 2)),
    ],
)
def test_segments_that_do_not_fit_head_are_refused(
    count: int, frames: int, lengths: Sequence[int], indices: Sequence[int]
) -> None:
    with pytest.raises(BitstreamError, match=r"segment|HEAD announces"):
        open_data(with_segments(count, frames, lengths, indices))


@pytest.mark.parametrize("firsts", [(1, 2), (0, 1), (0, 3), (0, 0), (3, 0)])
def test_segments_out_of_place_are_refused(firsts: Sequence[int]) -> None:
    with pytest.raises(BitstreamError, match="frame"):
        open_data(with_segments(2, 5, (2, 3), (0, 1), firsts))


def test_a_network_of_another_architecture_is_unsupported_on_opening() -> None:
    payload = b"\x00\x00\x03\x04" + bytes(20)
    with pytest.raises(UnsupportedError, match="architecture 4"):
        open_data(with_payload(SEGM, payload, 0))


def test_a_later_version_is_named_though_chunks_changed() -> None:
    head = head_bytes(major=b"\x01", minor=b"\x00") + b"new fields"
    data = assemble([(HEAD, head), (0x99, b"a chunk of that version"), *small_chunks()[1:]])
    with pytest.raises(UnsupportedError, match=r"version 1\.0"):
        open_data(data)


def test_the_writer_takes_the_start_from_the_timestamps() -> None:
    segment = replace(small_segments()[0], frames=3)
    header = make_header(frames=3, segments=1, start_pts=999)
    out = io.BytesIO()
    length = write_stream(out, header, [10, 35, 60], 25, [segment], [bytes(8)], {}, None)
    assert length == len(out.getvalue())
    reader = read_all(out.getvalue())
    assert reader.header.start_pts == 10
    assert list(reader.pts) == [10, 35, 60]
    assert [kind for kind, _ in disassemble(out.getvalue())] == [HEAD, META, SEGM, HASH]
