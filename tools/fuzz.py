"""Coverage-guided fuzzing of what reads bytes from strangers, by atheris (libFuzzer).

    python -m tools.fuzz TARGET [--seconds N] [--corpus FOLDER]   look for new inputs and crashes
    python -m tools.fuzz TARGET --minimize FOLDER                 keep the fewest that reach as much
    python -m tools.fuzz TARGET --replay FILE...                  run these inputs, without atheris

A target is fed bytes and may raise HfsvError only, within its time and memory. An input that makes
it do otherwise is written to the folder ``crashes`` of the corpus, and the exit status is 1.
``tests/fuzz_corpus`` holds the inputs that tests replay.
"""

# Imports stand in the functions that need them: atheris must see a module before it is loaded,
# and each target pays for its own libraries only.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import itertools
import os
import random
import resource
import shlex
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from nervcodec.bitstream.stream import StreamReader
    from nervcodec.bitstream.syntax import StreamHeader
    from nervcodec.bitstream.tensors import Limits
    from nervcodec.errors import HfsvError
    from tools.reference_decoder import InvalidFile

SEEDS = Path(__file__).parents[1] / "tests" / "fuzz_corpus"
FOUND = Path(".fuzz")

AGAIN = "--libfuzzer"
"""Marks a command line that libFuzzer made itself."""

Mutate = Callable[[bytes], bytes]
"""libFuzzer's own mutation."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        run: reads an input; raises HfsvError where it refuses it.
        mutate: makes a new input of one, where bytes changed at random would not get far.
        largest: bytes of the longest input.
        memory: bytes of address space beyond those in use once the target is loaded.
        seconds: the longest that one input may take.
    """

    run: Callable[[bytes], None]
    mutate: Callable[[bytes, Mutate, random.Random], bytes] | None = None
    largest: int = 4096
    memory: int = 256 << 20
    seconds: int = 5


# --- whole files ---------------------------------------------------------------------------------

SIGNATURE = b"\x89HFS\r\n\x1a\n"
END = 0xFF
KINDS = (0x81, 0x87, 0x05, 0x82, 0x03, 0x06, 0xFF, 0x40, 0xC0)

Chunks = list[tuple[int, bytes]]


def small_limits() -> Limits:
    """Limits under which whatever is accepted is quick to decode, and to render."""
    from nervcodec.bitstream.tensors import Limits

    return Limits(parameters=4000, macs_per_frame=1 << 22, activation_bytes=1 << 22)


def seal(chunks: Sequence[tuple[int, bytes]]) -> bytes:
    """A file of these chunks (END left out) with right checksums."""
    from nervcodec.bitstream.wire import varint

    def chunk(kind: int, payload: bytes) -> bytes:
        body = bytes([kind]) + varint(len(payload)) + payload
        return body + zlib.crc32(body).to_bytes(4, "little")

    before = SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks)
    return before + chunk(END, varint(len(before)) + hashlib.sha256(before).digest()[:16])


def unseal(data: bytes) -> Chunks | None:
    """The chunks of a file, END left out; None where its framing is damaged."""
    from tools.reference_decoder import InvalidFile, read_chunks

    try:
        return read_chunks(data)[:-1]
    except InvalidFile:
        return None


def mutate_file(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """Change a payload, or the chunks' order and kinds, and make all checksums good again."""
    chunks = unseal(data)
    if not chunks or rng.random() < 1 / 16:
        return mutate(data)
    place = rng.randrange(len(chunks))
    kind, payload = chunks[place]
    match rng.randrange(20):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
        case 2:
            chunks.insert(rng.randrange(len(chunks)), chunks.pop(place))
        case 3:
            chunks[place] = (rng.choice(KINDS), payload)
        case 4 | 5 | 6 if kind in (0x87, 0x06):
            chunks[place] = (kind, mutate_blob(payload, kind == 0x06, mutate, rng))
        case _:
            chunks[place] = (kind, mutate(payload))
    return seal(chunks)


def mutate_blob(payload: bytes, audio: bool, mutate: Mutate, rng: random.Random) -> bytes:
    """Change the content of PTSD or AUDI behind its length and compression."""
    from nervcodec.bitstream.wire import varint

    content = blob_content(payload[audio:])
    if content is None or rng.random() < 1 / 8:
        return mutate(payload)
    content = mutate(content)
    packed = zlib.compress(content) if rng.random() < 1 / 2 else None
    body = bytes([packed is not None]) + varint(len(content)) + (packed or content)
    return payload[:audio] + body


def blob_content(blob: bytes) -> bytes | None:
    """The content of a blob; None where that is damaged."""
    from tools.reference_decoder import InvalidFile, Reader

    try:
        return Reader(blob, "blob").blob(0, 1 << 20)
    except InvalidFile:
        return None


def read_file(data: bytes) -> StreamReader:
    """Read all that a file holds, symbols and audio bytes included."""
    import io

    from nervcodec.bitstream.stream import StreamReader

    reader = StreamReader(io.BytesIO(data), small_limits())
    for index in range(len(reader.segments)):
        reader.segment(index)
    reader.audio()
    return reader


def file_target() -> Target:
    """A whole file."""
    return Target(lambda data: _ignore(read_file(data)), mutate_file)


def _ignore(_: object) -> None:
    """Drop a result."""


def salvage_target() -> Target:
    """A whole file, damaged or not, of which is read what can be."""
    import io

    from nervcodec.bitstream.salvage import SalvageReader
    from nervcodec.bitstream.survey import Survey

    limits = small_limits()

    def run(data: bytes) -> None:
        survey = Survey(io.BytesIO(data))
        reader = SalvageReader(survey, limits)
        reader.audio()
        for number in range(len(reader.segments)):
            reader.segment(number)
        assert _covers(survey, data)
        ends = [0, *(run.frames.stop for run in reader.runs)]
        assert [run.frames.start for run in reader.runs] == ends[:-1]
        assert ends[-1] == reader.header.frames
        assert ends[-1] == sum(map(len, reader.lost)) + sum(s.frames for s in reader.segments)

    def change(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
        sealed = mutate_file(data, mutate, rng)
        return sealed if rng.random() < 1 / 2 else damage(sealed, rng)

    return Target(run, change)


def _covers(survey: Any, data: bytes) -> bool:
    """Whether every byte behind the signature is of a sound chunk or of a part said to be bad."""
    parts = [(chunk.start, chunk.end) for chunk in survey.chunks]
    parts += [(part.offset, part.offset + part.length) for part in survey.damage]
    end = len(SIGNATURE)
    for start, stop in sorted(parts):
        if start > end:
            return False
        end = max(end, stop)
    return end == len(data)


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut, swap or overwrite stretches of a file, its checksums left as they are."""
    for _ in range(rng.randint(1, 3)):
        start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0:
                data = data[:start] + data[end:]
            case 1:
                data = data[:end] + data[start:]
            case 2:
                data = data[:start] + rng.randbytes(min(end - start, 8)) + data[end:]
            case _:
                data = data[:start] + bytes([rng.choice(KINDS), rng.randrange(32)]) + data[start:]
    return data


# --- MessagePack ---------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 127, 128, -33, 1 << 16, 1 << 31, 1 << 40, (1 << 64) - 1, -(1 << 63)),
    *(0.0, 1.5, -1e308, float("inf"), float("nan"), "", "key", "x" * 32, b"", b"abc", bytes(64)),
    *([], [1, 2], [[]], {}, {"a": 1}),
)


def mutate_pack(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """Change one of the values of a MessagePack document, or its bytes."""
    import msgpack

    if rng.random() < 1 / 4:
        return mutate(data)
    try:
        value = msgpack.unpackb(data, strict_map_key=False)
        return bytes(msgpack.packb(_mutate_value(value, mutate, rng)))
    except (ValueError, TypeError, OverflowError):
        return mutate(data)


def _mutate_value(value: Any, mutate: Mutate, rng: random.Random) -> Any:
    """Walk down to some value within, and change it or its place."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 1 / 8:
        if isinstance(value, bytes) and rng.random() < 1 / 2:
            return mutate(value)
        return rng.choice(VALUES)
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    place = rng.randrange(len(pairs))
    key, item = pairs[place]
    match rng.randrange(8):
        case 0:
            del pairs[place]
        case 1:
            pairs.insert(place, (rng.choice(("", "more", 0)), rng.choice(VALUES)))
        case _:
            pairs[place] = (key, _mutate_value(item, mutate, rng))
    return dict(pairs) if isinstance(value, dict) else [item for _, item in pairs]


# --- single chunks -------------------------------------------------------------------------------


def make_header(frames: int) -> StreamHeader:
    from nervcodec.bitstream.syntax import StreamHeader

    return StreamHeader(
        width=12,
        height=10,
        frames=frames,
        segments=min(frames, 2),
        time_base=Fraction(1, 600),
        start_pts=-7,
        frame_duration=25,
        sample_aspect_ratio=Fraction(1),
        primaries=2,
        transfer=2,
        matrix=6,
        full_range=False,
        rotation=0,
    )


def meta_target() -> Target:
    """The payload of META."""
    from nervcodec.bitstream.stream import decode_meta, encode_meta

    def run(data: bytes) -> None:
        assert encode_meta(decode_meta(data)) == data

    return Target(run, mutate_pack)


def timestamps_target() -> Target:
    """A byte, the number of frames less one, then the payload of PTSD."""
    from nervcodec.bitstream.stream import decode_timestamps

    def run(data: bytes) -> None:
        frames = 1 + int.from_bytes(data[:1], "little")
        pts, last = decode_timestamps(data[1:], make_header(frames))
        ends = [*pts, pts[-1] + last]
        assert len(pts) == frames
        assert all(before < after for before, after in itertools.pairwise(ends))

    def change(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
        if rng.random() < 1 / 16:
            return mutate(data)
        return data[:1] + mutate_blob(data[1:], False, mutate, rng)

    return Target(run, change)


def segment_target() -> Target:
    """The payload of SEGM, in a clip of five frames of 12x10."""
    from nervcodec.bitstream.segment import decode_segment, encode_segment

    header, limits = make_header(5), small_limits()

    def run(data: bytes) -> None:
        segment = decode_segment(data, header, limits)
        again = decode_segment(encode_segment(segment)[0], header, limits)
        assert again.symbols_crc() == segment.symbols_crc()

    return Target(run)


# --- the second decoder --------------------------------------------------------------------------


def compare_decoders(data: bytes) -> tuple[HfsvError | None, InvalidFile | None]:
    """Read a file with both decoders, within the same small limits.

    Returns:
        The refusals of the program and of the second decoder, both None where it is accepted.

    Raises:
        AssertionError: where one accepts what the other refuses, or they read different things.
    """
    from nervcodec.errors import HfsvError
    from tools import reference_decoder

    limits = small_limits()
    with mock.patch.multiple(
        reference_decoder,
        MAX_PARAMETERS=limits.parameters,
        MAX_OPERATIONS=limits.macs_per_frame,
        MAX_MAP_BYTES=limits.activation_bytes,
    ):
        try:
            theirs = reference_decoder.parse(data)
            refusal = None
        except reference_decoder.InvalidFile as exc:
            refusal = exc
    try:
        ours = read_file(data)
    except HfsvError as exc:
        if refusal is None:
            raise AssertionError("only the second decoder accepts it") from exc
        return exc, refusal
    assert refusal is None, f"only the second decoder refuses it: {refusal}"
    _compare_heads(ours, theirs)
    for index, other in enumerate(theirs.segments):
        _compare_segments(ours, index, other)
    return None, None


def _compare_heads(ours: StreamReader, theirs: Any) -> None:
    """HEAD, timestamps, META, HASH and AUDI."""
    from nervcodec.bitstream.stream import AUDIO_CONTAINERS
    from tools.reference_decoder import is_known

    for field, value in vars(theirs.header).items():
        own = getattr(ours.header, {"start": "start_pts"}.get(field, field))
        own = own.as_integer_ratio() if isinstance(own, Fraction) else own
        assert own == (value if field != "rotation" else 90 * value), field
    assert [*ours.pts, ours.pts[-1] + ours.last_duration] == theirs.timestamps.tolist()
    known = {key: value for key, value in ours.meta.items() if is_known(key, value)}
    assert repr(known) == repr(theirs.meta)  # 1, 1.0 and True are equal but not the same
    assert (ours.digests or []) == theirs.hashes
    audio = ours.audio()
    own_audio = audio and (AUDIO_CONTAINERS.index(audio.container), audio.data)
    assert own_audio == theirs.audio


def _compare_segments(ours: StreamReader, index: int, other: Any) -> None:
    """The network, the symbols and their values."""
    import numpy as np

    from tools.reference_decoder import dequantize

    segment, model = ours.segment(index), other.model
    stages = [(stage.stride, stage.kernel, stage.channels) for stage in segment.model.stages]
    assert stages == [(stage.stride, stage.kernel, stage.channels) for stage in model.stages]
    for field in ("embedding_channels", "stem_channels", "head_kernel", "msfrp_stage"):
        assert getattr(segment.model, field) == getattr(model, field), field
    assert [stage.hfscm for stage in segment.model.stages] == [
        bool(model.hfscm.mask >> stage & 1) for stage in range(len(stages))
    ]
    assert _of_time(segment.model) == _of_time_as_read(model)
    assert (segment.index, segment.frames) == (index, other.frames)
    pairs = zip(segment.tensors, other.tensors, other.symbols, strict=True)
    for tensor, head, symbols in pairs:
        assert (tensor.spec.name, tensor.spec.shape) == (head.name, head.shape)
        assert np.array_equal(tensor.symbols, symbols), head.name
        assert np.array_equal(tensor.dequantize(), dequantize(head, symbols)), head.name


def _of_time(model: Any) -> tuple[Any, ...]:
    """What our model says of time, mixing and flags, in the second decoder's terms."""
    time, mixer = model.time, model.transformer
    return (
        int(model.architecture),
        time and (time.levels, time.base.numerator, time.base.denominator, time.hidden),
        mixer and (mixer.heads, mixer.head_width, mixer.feed_forward),
        mixer and (mixer.modulation, mixer.bottleneck),
        (model.has_hfscm and model.hfscm.norm, model.msfrp_after),
    )


def _of_time_as_read(model: Any) -> tuple[Any, ...]:
    time, mixer = model.time, model.mixing
    return (
        model.architecture,
        time and (time.levels, time.numerator, time.denominator, time.width),
        mixer and (mixer.heads, mixer.head_width, mixer.feed_forward),
        mixer and (mixer.modulation, mixer.bottleneck),
        (model.standardise, model.msfrp_after),
    )


def decoders_target() -> Target:
    """A whole file, in which both decoders must read the same."""
    return Target(lambda data: _ignore(compare_decoders(data)), mutate_file, seconds=20)


# --- rendering -----------------------------------------------------------------------------------


def decode_target() -> Target:
    """A whole file, rendered to a video file, with and without salvage."""
    import torch

    from nervcodec.decoder import DecodeConfig, decode

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    source = folder / "in.hfsv"
    outputs = [folder / "out.mp4", folder / "out.mkv"]
    config = DecodeConfig(
        preset="ultrafast",
        threads=1,
        overwrite=True,
        limits=replace(small_limits(), pixels=1 << 14),
    )

    def run(data: bytes) -> None:
        source.write_bytes(data)
        choice = zlib.crc32(data)
        output = outputs[choice & 1]
        decode(source, output, replace(config, salvage=bool(choice & 2)))
        assert output.stat().st_size
        assert {source, output} <= set(folder.iterdir()) <= {source, *outputs}

    return Target(run, mutate_network, memory=1 << 30, seconds=10)


def mutate_network(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """As :func:`mutate_file`, or change the values of a network and code them again."""
    import io

    from nervcodec.bitstream.segment import encode_segment
    from nervcodec.bitstream.stream import StreamReader
    from nervcodec.errors import HfsvError

    chunks = unseal(data)
    if not chunks or rng.random() < 1 / 2:
        return mutate_file(data, mutate, rng)
    try:
        reader = StreamReader(io.BytesIO(data), small_limits())
        index = rng.randrange(len(reader.segments))
        segment = reader.segment(index)
    except HfsvError:
        return mutate_file(data, mutate, rng)
    changed = encode_segment(_mutate_tensor(segment, mutate, rng))[0]
    places = [place for place, (kind, _) in enumerate(chunks) if kind == 0x82]
    chunks[places[index]] = (0x82, changed)
    return seal(chunks)


def _mutate_tensor(segment: Any, mutate: Mutate, rng: random.Random) -> Any:
    """Change symbols, zero point or scales of one tensor, within what the format allows."""
    import numpy as np

    from nervcodec.bitstream.coding import MAX_SCALE_BITS, MIN_SCALE_BITS

    place = rng.randrange(len(segment.tensors))
    tensor = segment.tensors[place]
    match rng.randrange(3):
        case 0:
            symbols = mutate(tensor.symbols.tobytes()).ljust(tensor.spec.size, b"\x00")
            flat = np.frombuffer(symbols, np.uint8)[: tensor.spec.size]
            tensor = replace(tensor, symbols=flat.reshape(tensor.spec.shape))
        case 1:
            tensor = replace(tensor, zero=rng.randrange(256))
        case _:
            scales = tensor.scales.copy()
            low, high = rng.choice(((MIN_SCALE_BITS, MAX_SCALE_BITS), (0x4500, MAX_SCALE_BITS)))
            scales[rng.randrange(scales.size)] = rng.randint(low, high)
            tensor = replace(tensor, scales=scales)
    tensors = (*segment.tensors[:place], tensor, *segment.tensors[place + 1 :])
    return replace(segment, tensors=tensors)


# --- audio ---------------------------------------------------------------------------------------

BAIT = "bait"
"""Name of a file that lies where FFmpeg would look for one that the audio names."""

AUDIO_TOKENS = (
    *(b"ftyp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"stsz", b"stsc"),
    *(b"stco", b"co64", b"ctts", b"elst", b"edts", b"mvex", b"moof", b"traf", b"trun", b"tfhd"),
    *(b"mdat", b"dref", b"alis", b"url ", b"mp4a", b"Opus", b"fLaC", b"alac", b"ac-3", b"esds"),
    *(b"sidx", b"meta", b"ilst", b"chap", b"tref", b"cmov", b"senc", b"encv", b"sinf", b"uuid"),
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"),
    *(b"\x1c\x53\xbb\x6b", b"\x19\x41\xa4\x69", b"\x12\x54\xc3\x67", b"\x11\x4d\x9b\x74"),
    *(b"A_AAC", b"A_OPUS", b"A_VORBIS", b"A_MS/ACM", b"A_REAL/COOK", b"A_QUICKTIME", b"V_VP8"),
    f"ffconcat version 1.0\nfile {BAIT}\n".encode(),
    f"#EXTM3U\n#EXTINF:1,\n{BAIT}\n".encode(),
    *(BAIT.encode(), f"file:{BAIT}".encode()),
    *(b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00"),
)


class BaitFolder:
    """A folder of files, made the current one, that tells when one of them has been opened."""

    def __init__(self) -> None:
        import ctypes

        folder = tempfile.mkdtemp(prefix="fuzz")
        os.chdir(folder)
        for name in (BAIT, "a", "0"):
            Path(name).write_bytes(b"RIFF")
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        is_open = 0x20
        if self._events < 0 or libc.inotify_add_watch(self._events, folder.encode(), is_open) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self.check_that_it_tells()

    def check_that_it_tells(self) -> None:
        Path(BAIT).read_bytes()
        try:
            self.check()
        except AssertionError:
            return
        raise RuntimeError("the system does not tell that a file was opened")

    def check(self) -> None:
        """Raise AssertionError if one of the files has been opened since the last time."""
        try:
            os.read(self._events, 1 << 16)
        except BlockingIOError:
            return
        raise AssertionError("another file was opened")


def audio_target() -> Target:
    """The payload of AUDI, its streams copied to a video file beside two pictures."""
    import numpy as np

    from nervcodec.bitstream.stream import decode_audio
    from nervcodec.video.formats import OutputFormat
    from nervcodec.video.info import ColorInfo
    from nervcodec.video.writer import VideoWriter

    formats = (
        OutputFormat("matroska", "ffv1"),
        OutputFormat("mp4", "h264", preset="ultrafast"),
        OutputFormat("mov", "h264", preset="ultrafast"),
    )
    output = Path(tempfile.mkdtemp(prefix="fuzz")) / "out"
    bait, picture = BaitFolder(), np.zeros((16, 16, 3), np.uint8)

    def run(data: bytes) -> None:
        audio = decode_audio(data)
        try:
            with VideoWriter(
                output,
                formats[zlib.crc32(data) % len(formats)],
                width=16,
                height=16,
                time_base=Fraction(1, 25),
                sample_aspect_ratio=Fraction(1),
                rotation=0,
                color=ColorInfo(1, 1, 1, False),
                frame_rate=Fraction(25),
                passthrough=(audio.data, audio.container),
                threads=1,
            ) as writer:
                for index in (-1, 1):
                    writer.write(picture, index, 1)
        finally:
            bait.check()

    def change(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
        return mutate_blob(data, True, lambda content: _mutate_audio(content, mutate, rng), rng)

    return Target(run, change, largest=1 << 14, memory=512 << 20, seconds=10)


def _mutate_audio(data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """libFuzzer sees nothing of what happens within FFmpeg: several changes at once, and names."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        if rng.random() < 1 / 3:
            token = rng.choice(AUDIO_TOKENS)
            kept = place + (len(token) if rng.random() < 2 / 3 else 0)
            data = data[:place] + token + data[kept:]
        else:
            data = mutate(data)
    return data


# --- checkpoints ---------------------------------------------------------------------------------


def checkpoint_target() -> Target:
    """What a checkpoint holds behind its hash."""
    from nervcodec.training.checkpoint import MAGIC, load_checkpoint

    path = Path(tempfile.mkdtemp(prefix="fuzz")) / "checkpoint"

    def run(data: bytes) -> None:
        path.write_bytes(MAGIC + hashlib.sha256(data).digest() + data)
        load_checkpoint(path, "key")

    return Target(run, mutate_pack)


TARGETS: dict[str, Callable[[], Target]] = {
    "file": file_target,
    "meta": meta_target,
    "timestamps": timestamps_target,
    "segment": segment_target,
    "decoders": decoders_target,
    "decode": decode_target,
    "audio": audio_target,
    "salvage": salvage_target,
    "checkpoint": checkpoint_target,
}
"""Targets by name; a new one needs a line here and first inputs in ``tests/fuzz_corpus``."""


def run_input(target: Target, data: bytes) -> None:
    """Feed one input to a target; what it refuses is no failure."""
    from nervcodec.errors import HfsvError

    try:
        target.run(data)
    except HfsvError:
        return


def limit_memory(extra: int) -> None:
    """Let the process have ``extra`` bytes of address space beyond those that it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


# --- the engine ----------------------------------------------------------------------------------


def fuzz(name: str, corpus: Path, arguments: Sequence[str]) -> None:
    """Run libFuzzer in this process; it ends the process itself."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["nervcodec"]):
        target = TARGETS[name]()
        run_input(target, b"")  # the rest is imported with the first input

    def run(data: bytes) -> None:
        run_input(target, data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        assert target.mutate is not None
        changed = target.mutate(
            data, lambda old: bytes(atheris.Mutate(old, most)), random.Random(seed)
        )
        return changed if len(changed) <= most else bytes(atheris.Mutate(data, most))

    options = {"custom_mutator": mutate} if target.mutate else {}
    again = [sys.executable, "-m", "tools.fuzz", AGAIN, name, str(corpus)]
    command = [
        shlex.join(again),  # libFuzzer's merge starts itself again, by a shell
        f"-max_len={target.largest}",
        f"-timeout={target.seconds}",
        f"-artifact_prefix={corpus / 'crashes'}/",
        "-keep_seed=1",  # what native code does with them shows in no coverage
        "-rss_limit_mb=0",  # the limit on the address space is stricter
        *arguments,
    ]
    if sys.argv[1:2] != [AGAIN]:  # which has the limit from its parent
        limit_memory(target.memory)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # some targets change folders
    atheris.Setup(command, run, **options)
    atheris.Fuzz()


def in_child(work: Callable[[], None]) -> int:
    """Do ``work`` in a process of its own; its exit status, negative where a signal ended it."""
    process = os.fork()
    if process == 0:
        work()
        sys.exit()  # on the way out libFuzzer writes down what ended its run
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        except KeyboardInterrupt:
            continue  # the child has it too, and ends in order


def replay(name: str, paths: Sequence[Path]) -> None:
    """Run files within the target's limits; the first that breaks them ends the process."""
    target = TARGETS[name]()
    inputs = [(path, path.read_bytes()) for path in paths]
    run_input(target, b"")
    limit_memory(target.memory)
    for path, data in inputs:
        print(path, flush=True)
        signal.setitimer(signal.ITIMER_PROF, target.seconds)  # of processor time; unheard, it kills
        run_input(target, data)
        signal.setitimer(signal.ITIMER_PROF, 0)


def main() -> int:
    if sys.argv[1:2] == [AGAIN]:
        fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz",
        description="Fuzz what reads bytes from strangers.",
        epilog="Exit status 1: something but HfsvError escaped, or time or memory ran out.",
    )
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--list", action="store_true", help="print the targets' names")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--corpus", type=Path, help=f"where inputs are kept ({FOUND}/TARGET)")
    parser.add_argument("--minimize", type=Path, metavar="FOLDER", help="write the corpus there")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run these inputs")
    arguments = parser.parse_args()
    if arguments.list:
        print(*TARGETS, sep="\n")
        return 0
    if arguments.target is None:
        parser.error("name a target")
    name: str = arguments.target
    if arguments.replay:
        replay(name, [path.resolve() for path in arguments.replay])
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install '.[fuzz]' in Python 3.11", file=sys.stderr)
        return 2
    corpus = (arguments.corpus or FOUND / name).resolve()
    (corpus / "crashes").mkdir(parents=True, exist_ok=True)
    inputs = corpus / "inputs"
    inputs.mkdir(exist_ok=True)
    seeds = SEEDS / name
    folders = [str(folder) for folder in (inputs, seeds) if folder.is_dir()]
    if arguments.minimize:
        arguments.minimize.mkdir(parents=True, exist_ok=True)
        destination = str(arguments.minimize.resolve())
        options = ["-merge=1", "-use_counters=0", destination, *folders]
    else:
        options = [f"-max_total_time={arguments.seconds}", *folders]
    status = in_child(lambda: fuzz(name, corpus, options))
    if status:
        print(f"{name}: failed ({status}); see {corpus / 'crashes'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
