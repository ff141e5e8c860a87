"""A file of several segments, ways to damage it, and what is found in it then."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction
from functools import cache

from format_helpers import (
    AUDI,
    END,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SIGNATURE,
    SMALL_LIMITS,
    disassemble,
    leb,
    make_header,
    make_segment,
    small_file,
    tiny_model,
)

from nervcodec.bitstream.salvage import SalvageReader
from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import AudioData, write_stream
from nervcodec.bitstream.survey import Fault, Survey
from nervcodec.bitstream.tensors import Limits

NAMES = {
    HEAD: "HEAD",
    PTSD: "PTSD",
    META: "META",
    SEGM: "SEGM",
    HASH: "HASH",
    AUDI: "AUDI",
    END: "END",
}
SMALL = small_file()
LENGTHS = (2, 1, 3, 1, 2, 1)
FIRSTS = tuple(itertools.accumulate(LENGTHS[:-1], initial=0))
FRAMES = sum(LENGTHS)
PTS = (100, 140, 200, 240, 280, 320, 400, 440, 500, 520)
LAST_DURATION = 70
HEADER = make_header(
    width=16,
    height=12,
    frames=FRAMES,
    segments=len(LENGTHS),
    time_base=Fraction(1, 1000),
    start_pts=PTS[0],
    frame_duration=40,
)


@cache
def segments() -> tuple[Segment, ...]:
    model = tiny_model()
    places = zip(FIRSTS, LENGTHS, strict=True)
    return tuple(
        make_segment(model, HEADER, index, frames, seed=index, first_frame=first)
        for index, (first, frames) in enumerate(places)
    )


@cache
def clip(audio: AudioData | None = None) -> bytes:
    """Six segments of a variable frame rate; the hashes of the frames are made up."""
    out = io.BytesIO()
    digests = [bytes([index] * 8) for index in range(len(LENGTHS))]
    write_stream(out, HEADER, PTS, LAST_DURATION, segments(), digests, {"title": "t"}, audio)
    return out.getvalue()


def places(data: bytes) -> list[tuple[int, int, int, int]]:
    """Kind, start, payload's start and end of each chunk of a sound file, END included."""
    found, start = [], len(SIGNATURE)
    for kind, payload in [*disassemble(data), (END, None)]:
        length = len(data) - start - 6 if payload is None else len(payload)
        offset = start + 1 + len(leb(length))
        found.append((kind, start, offset, offset + length + 4))
        start = offset + length + 4
    assert start == len(data)
    return found


def segment_places(data: bytes) -> list[tuple[int, int, int, int]]:
    return [place for place in places(data) if place[0] == SEGM]


def flipped(data: bytes, *positions: int, bit: int = 0) -> bytes:
    damaged = bytearray(data)
    for position in positions:
        damaged[position] ^= 1 << bit
    return bytes(damaged)


def without_segments(data: bytes, *indices: int) -> bytes:
    """The file with a byte changed in the payload of some segments."""
    found = segment_places(data)
    return flipped(data, *(found[index][2] + 9 for index in indices))


def survey(data: bytes) -> Survey:
    return Survey(io.BytesIO(data))


def salvage(data: bytes, limits: Limits = SMALL_LIMITS) -> SalvageReader:
    return SalvageReader(survey(data), limits)


def tiles(found: Survey) -> list[tuple[int, int]]:
    """Where the parts of a file lie that a survey has found, sound or damaged, by offset."""
    parts = [(chunk.start, chunk.end) for chunk in found.chunks]
    parts += [(part.offset, part.offset + part.length) for part in found.damage if part.length]
    return sorted(parts)


def assert_complete(data: bytes, found: Survey) -> None:
    """Every byte is in exactly one part."""
    parts = tiles(found)
    if not found.damage or found.damage[0].fault != Fault.SIGNATURE:
        parts.insert(0, (0, len(SIGNATURE)))
    ends = [0, *(end for _, end in parts)]
    assert [start for start, _ in parts] == ends[:-1]
    assert ends[-1] == len(data)


def faults(found: Survey) -> list[tuple[str | None, int, Fault]]:
    return [(part.chunk, part.offset, part.fault) for part in found.damage]
