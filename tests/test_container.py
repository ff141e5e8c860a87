"""The outer layer of a file against spec section 3: what is damaged or out of place is refused."""

from __future__ import annotations

import hashlib
import io
import itertools
import tracemalloc
from pathlib import Path

import pytest
from format_helpers import (
    AUDI,
    END,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SIGNATURE,
    Chunks,
    assemble,
    chunk,
    disassemble,
    end_chunk,
    leb,
    read_all,
    small_file,
)

from nervcodec.bitstream import container
from nervcodec.bitstream.container import ChunkType, ContainerReader, ContainerWriter
from nervcodec.errors import BitstreamError, UnsupportedError

PLAIN: Chunks = [
    (HEAD, b"head"),
    (PTSD, b"times"),
    (META, b""),
    (SEGM, b"first"),
    (SEGM, bytes(300)),
    (HASH, b"hash"),
    (AUDI, b"audio"),
]
NAMES = {HEAD: "HEAD", PTSD: "PTSD", META: "META", HASH: "HASH", AUDI: "AUDI"}


def scan(data: bytes) -> ContainerReader:
    reader = ContainerReader(io.BytesIO(data))
    reader.check_order()
    return reader


def test_the_writer_makes_the_bytes_of_the_spec() -> None:
    out = io.BytesIO()
    writer = ContainerWriter(out)
    for kind, payload in PLAIN:
        writer.chunk(ChunkType(kind), payload)
    length = writer.finish()
    assert out.getvalue() == assemble(PLAIN)
    assert length == len(out.getvalue())


def test_the_reader_gives_every_payload_from_an_open_file(tmp_path: Path) -> None:
    data = assemble(PLAIN)
    path = tmp_path / "clip.hfsv"
    path.write_bytes(data)
    with path.open("rb") as stream:
        stream.seek(11)  # wherever the caller left it
        reader = ContainerReader(stream)
        assert reader.length == len(data)
        assert [(c.kind, reader.payload(c)) for c in reader.chunks[:-1]] == PLAIN
        assert reader.chunks[-1].kind == END
        assert sum(c.total for c in reader.chunks) + len(SIGNATURE) == len(data)
        assert [c.length for c in reader.of_kind(ChunkType.SEGM)] == [5, 300]
        assert [c.end for c in reader.chunks] == [*(c.start for c in reader.chunks[1:]), len(data)]
        assert [data[c.start : c.offset] for c in reader.chunks] == [c.head for c in reader.chunks]
        assert reader.single(ChunkType.META) == b""
        assert reader.single(ChunkType.HASH) == b"hash"


def test_an_absent_chunk_is_none() -> None:
    assert scan(assemble(PLAIN[:1])).single(ChunkType.META) is None


def test_a_shortened_file_is_noticed_when_a_payload_is_read() -> None:
    stream = io.BytesIO(assemble(PLAIN))
    reader = ContainerReader(stream)
    stream.truncate(reader.chunks[4].offset + 10)
    with pytest.raises(BitstreamError, match="shortened"):
        reader.payload(reader.chunks[4])


# --- damage -------------------------------------------------------------------------------------


def test_every_truncation_is_refused() -> None:
    data = small_file()
    read_all(data)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            read_all(data[:length])


def test_every_flipped_bit_is_refused() -> None:
    data = small_file()
    for position, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        with pytest.raises(BitstreamError):
            read_all(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SIGNATURE[:7],
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        SIGNATURE.replace(b"\r\n", b"\n") + bytes(100),
        SIGNATURE.replace(b"\n", b"\r\n") + bytes(100),
        bytes(b & 0x7F for b in SIGNATURE) + bytes(100),
    ],
)
def test_other_files_are_named_as_such(data: bytes) -> None:
    with pytest.raises(BitstreamError, match=r"not an \.hfsv file"):
        scan(data)


def test_the_signature_alone_is_truncated() -> None:
    with pytest.raises(BitstreamError, match="truncated"):
        scan(SIGNATURE)


@pytest.mark.parametrize("index", range(len(PLAIN)))
def test_a_wrong_checksum_is_refused_though_the_digest_is_right(index: int) -> None:
    parts = [bytearray(chunk(*item)) for item in PLAIN]
    parts[index][-1] ^= 1
    before = SIGNATURE + b"".join(parts)
    with pytest.raises(BitstreamError, match="checksum of the chunk"):
        scan(before + end_chunk(before))


def test_a_wrong_digest_is_refused_though_the_checksums_are_right() -> None:
    before = SIGNATURE + b"".join(chunk(*item) for item in PLAIN)
    digest = hashlib.sha256(before).digest()[:16]
    for position in range(16):
        wrong = bytearray(digest)
        wrong[position] ^= 0x10
        with pytest.raises(BitstreamError, match="digest"):
            scan(before + chunk(END, leb(len(before)) + wrong))


def test_chunks_of_another_file_are_noticed() -> None:
    first, second = assemble(PLAIN), assemble([*PLAIN[:-1], (AUDI, b"other")])
    cut = first.index(chunk(AUDI, b"audio"))
    with pytest.raises(BitstreamError, match="digest"):
        scan(first[:cut] + chunk(AUDI, b"other") + first[cut + len(chunk(AUDI, b"audio")) :])
    assert scan(second).single(ChunkType.AUDI) == b"other"


@pytest.mark.parametrize("offset", [-1, 1, 10**6])
def test_a_wrong_offset_in_end_is_refused(offset: int) -> None:
    before = SIGNATURE + chunk(HEAD, b"head")
    digest = hashlib.sha256(before).digest()[:16]
    with pytest.raises(BitstreamError, match="offset"):
        scan(before + chunk(END, leb(len(before) + offset) + digest))


def test_end_must_be_exact() -> None:
    before = SIGNATURE + chunk(HEAD, b"head")
    digest = hashlib.sha256(before).digest()
    place = leb(len(before))
    longer = place[:-1] + bytes([place[-1] | 0x80, 0])
    for payload in (
        b"",
        place,
        place + digest[:15],
        place + digest[:17],
        place + digest,
        longer + digest[:16],
        bytes(10**5),
    ):
        with pytest.raises(BitstreamError, match=r"END|varint"):
            scan(before + chunk(END, payload))


@pytest.mark.parametrize("tail", [b"\x00", b"\n", chunk(AUDI, b"late"), assemble(PLAIN)])
def test_nothing_may_follow_end(tail: bytes) -> None:
    with pytest.raises(BitstreamError, match="after the END"):
        scan(assemble(PLAIN) + tail)


def test_a_second_end_is_data_after_the_first() -> None:
    inner = assemble(PLAIN[:1])
    with pytest.raises(BitstreamError, match="after the END"):
        scan(inner + end_chunk(inner))


def test_lengths_are_minimal_and_at_most_five_bytes() -> None:
    for length in ("8000", "84808000", "ffffffffff", "80808080807f"):
        body = bytes([HEAD]) + bytes.fromhex(length) + bytes(600)
        with pytest.raises(BitstreamError, match=r"varint|middle of a field"):
            scan(SIGNATURE + body)


def test_a_length_beyond_the_file_takes_no_memory() -> None:
    data = SIGNATURE + bytes([HEAD]) + leb(2**35 - 1) + bytes(50)
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match="truncated"):
            scan(data)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_scan_does_not_hold_payloads(tmp_path: Path) -> None:
    path = tmp_path / "long.hfsv"
    path.write_bytes(assemble([(HEAD, b"h"), (AUDI, bytes(12 << 20))]))
    with path.open("rb") as stream:
        tracemalloc.start()
        try:
            reader = ContainerReader(stream)
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()
    assert reader.chunks[1].length == 12 << 20


# --- order and unknown chunks -------------------------------------------------------------------


@pytest.mark.parametrize("index", [i for i in range(6) if i != 3])
def test_chunks_out_of_order_are_refused(index: int) -> None:
    swapped = PLAIN.copy()
    swapped[index], swapped[index + 1] = swapped[index + 1], swapped[index]
    with pytest.raises(BitstreamError, match=r"out of order|not HEAD"):
        scan(assemble(swapped))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("late", [False, True])
def test_only_segm_may_be_repeated(kind: int, late: bool) -> None:
    first = next(i for i, item in enumerate(PLAIN) if item[0] == kind)
    repeated = PLAIN.copy()
    repeated.insert(len(PLAIN) if late else first + 1, PLAIN[first])
    with pytest.raises(BitstreamError, match=f"{NAMES[kind]} is repeated"):
        scan(assemble(repeated))


def test_head_must_come_first() -> None:
    for chunks in ([], PLAIN[1:], [(0x40, b"mine"), *PLAIN]):
        with pytest.raises(BitstreamError, match="HEAD"):
            scan(assemble(chunks))


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x02, 0x07, 0x40, 0x5F, 0x7F])
@pytest.mark.parametrize("place", range(1, len(PLAIN) + 1))
def test_unknown_chunks_that_are_not_critical_are_skipped(kind: int, place: int) -> None:
    chunks = PLAIN.copy()
    chunks[place:place] = [(kind, b"unknown"), (kind, b"again")]
    reader = scan(assemble(chunks))
    assert reader.single(ChunkType.HEAD) == b"head"
    assert len(reader.of_kind(ChunkType.SEGM)) == 2


def test_unknown_chunks_do_not_hide_the_order() -> None:
    with pytest.raises(BitstreamError, match="META"):
        scan(assemble([PLAIN[0], PLAIN[3], (0x40, b""), PLAIN[2]]))


@pytest.mark.parametrize("kind", [0x80, 0x83, 0x85, 0x86, 0xC0, 0xDF, 0xFE])
@pytest.mark.parametrize("place", [1, 4, len(PLAIN)])
def test_unknown_critical_chunks_need_a_later_version(kind: int, place: int) -> None:
    chunks = PLAIN.copy()
    chunks.insert(place, (kind, b"essential"))
    with pytest.raises(UnsupportedError, match=f"{kind:#04x}"):
        scan(assemble(chunks))


def test_a_damaged_unknown_chunk_is_damage() -> None:
    data = bytearray(assemble([PLAIN[0], (0x40, b"unknown")]))
    data[data.index(b"unknown")] ^= 1
    with pytest.raises(BitstreamError, match="checksum"):
        scan(bytes(data))


def test_more_chunks_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_CHUNKS", len(PLAIN) - 1)
    with pytest.raises(BitstreamError, match="chunks"):
        scan(assemble(PLAIN))


def test_end_counts_as_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_CHUNKS", len(PLAIN) + 1)
    scan(assemble(PLAIN))
    monkeypatch.setattr(container, "MAX_CHUNKS", len(PLAIN))
    with pytest.raises(BitstreamError, match="chunks"):
        scan(assemble(PLAIN))


def test_the_small_file_has_every_kind_of_chunk() -> None:
    assert [kind for kind, _ in disassemble(small_file())] == [
        HEAD,
        PTSD,
        META,
        SEGM,
        SEGM,
        HASH,
        AUDI,
    ]
