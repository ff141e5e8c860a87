"""Reads many damaged files in a process of its own, under limits; run by test_hostile.py.

    python -m tests.hostile_runner READER SWEEP[,SWEEP...] PROGRESS FILE...

The process may die: of a deadline, for want of memory or by an abort in native code. PROGRESS then
names the last case. Otherwise it prints an :class:`Outcome` for each sweep as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from format_helpers import (
    AUDI,
    HEAD,
    META,
    PTSD,
    SEGM,
    SIGNATURE,
    SMALL_LIMITS,
    Chunks,
    assemble,
    chunk,
    disassemble,
    leb,
    read_all,
    take_leb,
)

from nervcodec.bitstream.salvage import SalvageReader
from nervcodec.bitstream.survey import Survey
from nervcodec.bitstream.tensors import Limits
from nervcodec.errors import HfsvError
from tools.fuzz import compare_decoders

MEMORY = 32 << 20
"""Bytes of address space beyond those in use after a sound file was read."""

BOMB = 4 * MEMORY
"""Bytes to which some hundred thousand would be inflated."""

DEADLINE = float(os.environ.get("HOSTILE_DEADLINE", "5"))
"""Seconds of processor time for one case; waiting is bounded by who runs this."""

Read = Callable[[bytes], object]
Case = tuple[str, bytes]


@dataclass
class Outcome:
    """What became of the cases.

    Attributes:
        escaped: cases with the errors that are not ours, the first of them.
        accepted_cases: names of those that were read without an error, the first of them.
        slowest: seconds that ``slowest_case`` took.
        memory: bytes of address space that were taken beyond those in use at the start.
    """

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    accepted_cases: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_case: str = ""
    memory: int = 0


# --- damage that no checksum is told of ---------------------------------------------------------


def truncations(data: bytes) -> Iterator[Case]:
    """Every beginning of the file."""
    for length in range(len(data)):
        yield f"the first {length} bytes", data[:length]


def flips(data: bytes) -> Iterator[Case]:
    """Every bit flipped."""
    changed = bytearray(data)
    for place in range(len(data)):
        for bit in range(8):
            changed[place] ^= 1 << bit
            yield f"byte {place} bit {bit}", bytes(changed)
            changed[place] ^= 1 << bit


def edits(data: bytes) -> Iterator[Case]:
    """Every byte replaced by some, left out, repeated, and preceded by a foreign one."""
    for place, byte in enumerate(data):
        before, after = data[:place], data[place + 1 :]
        for value in {0, 0x7F, 0x80, 0xFF, (byte + 1) % 256} - {byte}:
            yield f"byte {place} is {value}", before + bytes([value]) + after
        yield f"byte {place} left out", before + after
        yield f"byte {place} twice", before + bytes([byte]) + data[place:]
        yield f"a byte before byte {place}", before + bytes([byte ^ 0x55]) + data[place:]


def garbage(data: bytes) -> Iterator[Case]:
    """Bursts of random bytes, blocks that changed places, and files of nothing but noise."""
    rng = random.Random(0)
    for case in range(1000):
        start = rng.randrange(len(data))
        burst = rng.randbytes(rng.randint(2, 64))
        changed = data[:start] + burst + data[start + len(burst) :]
        if changed != data:
            yield f"burst {case}", changed
    for case in range(1000):
        a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
        moved = data[:a] + data[b:c] + data[a:b] + data[c:]
        if moved != data:
            yield f"move {case}", moved
    for case in range(1000):
        noise = rng.randbytes(rng.randint(0, 400))
        yield f"noise {case}", noise
        yield f"noise {case} with a signature", SIGNATURE + noise


def stale_ends(data: bytes) -> Iterator[Case]:
    """Every bit of every payload flipped and the chunk's checksum made good, but END as it was."""
    chunks = disassemble(data)
    end = data[sum(len(chunk(*item)) for item in chunks) + len(SIGNATURE) :]
    for place, (kind, payload) in enumerate(chunks):
        before = SIGNATURE + b"".join(chunk(*item) for item in chunks[:place])
        after = b"".join(chunk(*item) for item in chunks[place + 1 :]) + end
        for name, changed in flips(payload):
            yield f"chunk {place}, {name}", before + chunk(kind, changed) + after


# --- damage with checksums made good ------------------------------------------------------------


def sealed_flips(data: bytes) -> Iterator[Case]:
    """Every bit of every chunk's type and payload flipped."""
    yield from _each_chunk(data, flips)


def sealed_truncations(data: bytes) -> Iterator[Case]:
    """Every payload cut at every byte."""
    yield from _each_chunk(data, truncations)


def sealed_edits(data: bytes) -> Iterator[Case]:
    """Every byte of every payload edited."""
    yield from _each_chunk(data, edits)


def sealed_values(data: bytes) -> Iterator[Case]:
    """Every value of every byte of HEAD and of what SEGM begins with, the network's shape."""
    chunks = disassemble(data)
    for place, (kind, payload) in enumerate(chunks):
        if kind not in (HEAD, SEGM):
            continue
        for at, byte in enumerate(payload[:28]):
            for value in set(range(256)) - {byte}:
                changed = payload[:at] + bytes([value]) + payload[at + 1 :]
                yield f"chunk {place}, byte {at} is {value}", _with(chunks, place, changed)


def sealed_chunks(data: bytes) -> Iterator[Case]:
    """Chunks of every other type, left out, repeated, and moved."""
    chunks = disassemble(data)
    for place, (kind, payload) in enumerate(chunks):
        rest = chunks[:place] + chunks[place + 1 :]
        yield f"chunk {place} left out", assemble(rest)
        for value in range(256):
            if value != kind:
                changed = [*chunks[:place], (value, payload), *chunks[place + 1 :]]
                yield f"chunk {place} of type {value:#04x}", assemble(changed)
        for other in range(len(chunks)):
            if other != place:
                moved = [*rest[:other], chunks[place], *rest[other:]]
                yield f"chunk {place} at {other}", assemble(moved)
            yield (
                f"chunk {place} repeated at {other}",
                assemble([*chunks[:other], chunks[place], *chunks[other:]]),
            )


def sealed_contents(data: bytes) -> Iterator[Case]:
    """What PTSD and AUDI hold, changed behind the compression, and how it is compressed."""
    chunks = disassemble(data)
    for place, (kind, payload) in enumerate(chunks):
        if kind not in (PTSD, AUDI):
            continue
        start = int(kind == AUDI)
        content = _content(payload[start:])
        for name, changed in flips(content):
            for method in (0, 1):
                packed = zlib.compress(changed) if method else changed
                blob = payload[:start] + bytes([method]) + leb(len(changed)) + packed
                yield f"content of chunk {place}, {name}", _with(chunks, place, blob)
        for at, value in itertools.product(range(min(3, len(content))), range(256)):
            changed = content[:at] + bytes([value]) + content[at + 1 :]
            blob = payload[:start] + b"\x00" + leb(len(changed)) + changed
            yield f"content of chunk {place}, byte {at} is {value}", _with(chunks, place, blob)
        bomb = payload[:start] + b"\x01" + leb(len(content)) + _bomb()
        yield f"chunk {place} of {BOMB} bytes and more", _with(chunks, place, bomb)
        packed = zlib.compress(content)
        for body in (packed + b"\x00", packed + packed, packed[:-1], packed[2:-4], content):
            blob = payload[:start] + b"\x01" + leb(len(content)) + body
            yield f"chunk {place}, {body.hex()}"[:70], _with(chunks, place, blob)
        for length in {0, 1, len(content) - 1, len(content) + 1, *(2**n for n in range(63))}:
            if length != len(content):
                blob = payload[:start] + b"\x01" + leb(length) + packed
                yield f"chunk {place} of {length} bytes", _with(chunks, place, blob)


def sealed_meta(data: bytes) -> Iterator[Case]:
    """META, if there is one, of random codes of MessagePack, more often sound than by chance."""
    chunks = disassemble(data)
    place = next((i for i, (kind, _) in enumerate(chunks) if kind == META), None)
    if place is None:
        return
    rng = random.Random(1)
    for case in range(2000):
        payload = bytes([0x80 | rng.randrange(4)]) + b"".join(
            rng.choice((b"\xa1a", b"\xa1b", rng.randbytes(1), rng.randbytes(3)))
            for _ in range(rng.randrange(12))
        )
        yield f"META {case}", _with(chunks, place, payload)


def _with(chunks: Chunks, place: int, payload: bytes) -> bytes:
    return assemble([*chunks[:place], (chunks[place][0], payload), *chunks[place + 1 :]])


def _each_chunk(data: bytes, damage: Callable[[bytes], Iterator[Case]]) -> Iterator[Case]:
    chunks = disassemble(data)
    for place, (_, payload) in enumerate(chunks):
        for name, changed in damage(payload):
            if changed != payload:
                yield f"chunk {place}, {name}", _with(chunks, place, changed)


def _content(blob: bytes) -> bytes:
    length, start = take_leb(blob, 1)
    content = zlib.decompress(blob[start:]) if blob[0] else blob[start:]
    assert len(content) == length
    return content


@cache
def _bomb() -> bytes:
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(BOMB >> 20)) + packer.flush()


def whole(data: bytes) -> Iterator[Case]:
    """The file as it is."""
    yield "as it is", data


SWEEPS: dict[str, Callable[[bytes], Iterator[Case]]] = {
    sweep.__name__: sweep
    for sweep in (
        *(truncations, flips, edits, garbage, stale_ends, sealed_flips, sealed_truncations),
        *(sealed_edits, sealed_values, sealed_chunks, sealed_contents, sealed_meta, whole),
    )
}


# --- readers ------------------------------------------------------------------------------------


def symbols_reader() -> Read:
    """Everything of a file but its frames."""
    return lambda data: read_all(data, SMALL_LIMITS)


def info_reader() -> Read:
    """What ``hfsv info`` says."""
    from nervcodec.info import probe, to_json

    path = Path(f"/proc/self/fd/{os.memfd_create('file')}")

    def read(data: bytes) -> object:
        path.write_bytes(data)
        return json.dumps(to_json(probe(path)))

    return read


def frames_reader() -> Read:
    """The frames of both paths."""
    import torch

    from nervcodec.inference import SegmentRenderer

    torch.set_num_threads(1)

    def read(data: bytes) -> object:
        reader = read_all(data, SMALL_LIMITS)
        width, height = reader.header.width, reader.header.height
        for index in range(len(reader.segments)):
            segment = reader.segment(index)
            for reference in (False, True):
                renderer = SegmentRenderer(segment, width, height, reference=reference)
                for _ in renderer.frames(range(segment.frames)):
                    pass
        return reader

    return read


def vectors_reader() -> Read:
    """As :func:`symbols_reader`, within the limits of the program."""
    return lambda data: read_all(data, Limits())


def decoders_reader() -> Read:
    """As :func:`symbols_reader`, and the second decoder must read the same."""

    def read(data: bytes) -> object:
        refusal, _ = compare_decoders(data)
        if refusal is not None:
            raise refusal
        return None

    return read


def salvage_reader() -> Read:
    """What can be salvaged, which is all of a sound file."""

    def read(data: bytes) -> object:
        reader = SalvageReader(Survey(io.BytesIO(data)), SMALL_LIMITS)
        for number in range(len(reader.segments)):
            reader.segment(number)
        return reader.audio(), reader.runs, reader.warnings

    return read


def broken_reader(fault: str) -> Read:
    """A reader with a fault, by which the tests see that each is noticed."""

    def read(data: bytes) -> object:
        if data.startswith(b"sound"):
            return None
        match fault:
            case "hang":
                while True:
                    pass
            case "allocate":
                return bytes(2 * MEMORY)
            case "abort":
                os.abort()
            case "crash":
                return ctypes.string_at(0)
            case "exit":
                os._exit(0)
            case "escape":
                raise KeyError(fault)
            case _:
                raise HfsvError(fault)

    return read


READERS: dict[str, Callable[[], Read]] = {
    "symbols": symbols_reader,
    "vectors": vectors_reader,
    "decoders": decoders_reader,
    "salvage": salvage_reader,
    "info": info_reader,
    "frames": frames_reader,
}


def reader_of(name: str) -> Read:
    kind, _, detail = name.partition(":")
    return broken_reader(detail) if kind == "broken" else READERS[kind]()


# --- running ------------------------------------------------------------------------------------


def run(read: Read, cases: Iterator[Case], progress: int, outcome: Outcome) -> None:
    """Feed the cases to ``read``; ``progress`` is the file that names the present one."""
    for name, data in cases:
        os.pwrite(progress, f"{name:<80}\n".encode(), 0)
        signal.setitimer(signal.ITIMER_PROF, DEADLINE)
        started = time.perf_counter()
        try:
            read(data)
        except HfsvError:
            outcome.refused += 1
        except BaseException as exc:  # a panic of constriction's is no Exception
            if len(outcome.escaped) < 10:
                outcome.escaped.append(f"{name}: {exc!r}"[:300])
        else:
            outcome.accepted += 1
            if len(outcome.accepted_cases) < 10:
                outcome.accepted_cases.append(name)
        taken = time.perf_counter() - started
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcome.cases += 1
        if taken > outcome.slowest:
            outcome.slowest, outcome.slowest_case = taken, name


def address_space(name: str) -> int:
    """A figure of /proc/self/status, in bytes: VmSize now, VmPeak the most so far."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


def main(arguments: list[str]) -> None:
    reader, sweeps, progress, *paths = arguments
    read = reader_of(reader)
    files = [Path(path).read_bytes() for path in paths]
    for data in files:
        with contextlib.suppress(HfsvError):
            read(data)  # what is imported or made with the first file
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    base = address_space("VmPeak")
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    number = os.open(progress, os.O_WRONLY | os.O_CREAT)
    outcomes = {name: Outcome() for name in sweeps.split(",")}
    for name, outcome in outcomes.items():
        for path, data in zip(paths, files, strict=True):
            run(read, _named(f"{Path(path).name}, {name}", SWEEPS[name](data)), number, outcome)
        outcome.memory = address_space("VmPeak") - base
    json.dump({name: asdict(outcome) for name, outcome in outcomes.items()}, sys.stdout)


def _named(prefix: str, cases: Iterator[Case]) -> Iterator[Case]:
    for name, data in cases:
        yield f"{prefix}: {name}", data


if __name__ == "__main__":
    main(sys.argv[1:])
