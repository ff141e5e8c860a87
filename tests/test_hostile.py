"""Hostile input: every truncation and flip, files drawn from the grammar, the fuzzers' findings.

Damaged files are read by hostile_runner.py in processes that may die without harm to the tests.
``tools/fuzz.py`` looks for new inputs.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import av
import hostile_grammar
import numpy as np
import pytest
from format_helpers import (
    AUDI,
    HEAD,
    META,
    PTSD,
    SEGM,
    SIGNATURE,
    SMALL_LIMITS,
    assemble,
    chunk,
    disassemble,
    leb,
    make_header,
    make_segment,
    read_all,
    small_file,
)
from hostile_runner import MEMORY, Outcome
from hypothesis import event, given, settings
from hypothesis import strategies as st

from nervcodec.bitstream import entropy
from nervcodec.bitstream.entropy import ExplicitTable, FrozenTable, Table
from nervcodec.bitstream.stream import AudioData, decode_meta, write_stream
from nervcodec.bitstream.survey import Survey
from nervcodec.bitstream.syntax import HfscmSpec, ModelSpec, StageSpec
from nervcodec.bitstream.tensors import Limits, tensor_specs
from nervcodec.errors import BitstreamError, HfsvError, LimitError, UnsupportedError
from nervcodec.video.passthrough import AudioCopy
from tools import fuzz, reference_decoder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux has them")

ROOT = Path(__file__).parents[1]
VECTORS = sorted(
    (ROOT / "tests" / "vectors" / "valid").glob("*.hfsv"), key=lambda path: path.stat().st_size
)
PLAIN = ModelSpec((StageSpec(2, 3, 2, False), StageSpec(5, 1, 3, False)), 2, 2)


# --- the files, and running ---------------------------------------------------------------------


def coded(model: ModelSpec, width: int, height: int, pts: list[int], **changes: Any) -> bytes:
    """A file of one segment; ``changes`` are write_stream's ``meta`` and ``audio``."""
    header = make_header(width=width, height=height, frames=len(pts), segments=1)
    segment = make_segment(model, header, 0, len(pts), seed=len(pts))
    parts = {"meta": {"tool": "test"}, "audio": None} | changes
    out = io.BytesIO()
    write_stream(out, header, pts, 25, [segment], [bytes(8)], **parts)
    return out.getvalue()


@cache
def plain_file() -> bytes:
    """Few bytes, in a plain network."""
    return coded(PLAIN, 5, 3, [0])


@cache
def varied_file() -> bytes:
    """Compressed timestamps, stored audio, META of every type of value."""
    meta = {
        "tool": "test",
        "crop": [1280, 640],
        "x": [None, True, -1, -200, -40000, 1 << 40, 1.5, {"y": ["é" * 20]}],
    }
    pts = [index * 25 + index % 3 for index in range(40)]
    return coded(PLAIN, 20, 16, pts, meta=meta, audio=AudioData("mp4", bytes(range(30))))


@cache
def pixel_file() -> bytes:
    """The smallest network of all parts, and a frame of one pixel."""
    block = HfscmSpec(reduction=1, kernel=1, extra_convs=1, extra_kernel=1)
    return coded(ModelSpec((StageSpec(1, 1, 1, True),), 1, 1, 1, block, 0), 1, 1, [0])


FILES = {"pixel": pixel_file, "small": small_file, "plain": plain_file, "varied": varied_file}


def save(folder: Path, *names: str) -> list[Path]:
    paths = [folder / f"{name}.hfsv" for name in names]
    for path in paths:
        path.write_bytes(FILES[path.stem]())
    return paths


def child(*command: str | Path, seconds: float) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def sweep(
    folder: Path, reader: str, sweeps: str, paths: list[Path], seconds: float = 300
) -> dict[str, Outcome]:
    """Run sweeps in a process of its own, which must end well whatever becomes of the cases."""
    progress = folder / "progress"
    result = child("-m", "tests.hostile_runner", reader, sweeps, progress, *paths, seconds=seconds)
    last = progress.read_text(encoding="utf-8").strip() if progress.exists() else "none"
    assert result.returncode == 0, f"ended with {result.returncode} at {last}\n{result.stderr}"
    assert result.stdout, f"ended without a word at {last}"
    outcomes = {name: Outcome(**values) for name, values in json.loads(result.stdout).items()}
    for outcome in outcomes.values():
        assert outcome.escaped == []
        assert outcome.cases == outcome.refused + outcome.accepted > 0
        assert outcome.memory <= MEMORY
    return outcomes


def byte_count(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def test_the_files_are_sound() -> None:
    for make in FILES.values():
        read_all(make())
    kinds = {kind for make in FILES.values() for kind, _ in disassemble(make())}
    assert {HEAD, PTSD, META, SEGM, AUDI} <= kinds
    blobs = {
        payload[kind == AUDI]
        for make in FILES.values()
        for kind, payload in disassemble(make())
        if kind in (PTSD, AUDI)
    }
    assert blobs == {0, 1}, "stored and compressed"


# --- the runner notices -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("hang", "ended with -27"),
        ("abort", "ended with -6"),
        ("crash", "ended with -11"),
        ("exit", "without a word"),
        ("allocate", "MemoryError"),
        ("escape", "KeyError"),
    ],
)
def test_the_runner_notices(
    tmp_path: Path, fault: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_DEADLINE", "1")
    path = tmp_path / "file"
    path.write_bytes(b"sound")
    with pytest.raises(AssertionError, match=told):
        sweep(tmp_path, f"broken:{fault}", "truncations", [path])


def test_the_runner_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"sound")
    outcomes = sweep(tmp_path, "broken:refusal", "whole,truncations,flips", [path, path])
    counts = {name: (one.cases, one.accepted, one.refused) for name, one in outcomes.items()}
    assert counts == {"whole": (2, 2, 0), "truncations": (10, 0, 10), "flips": (80, 0, 80)}


# --- damage that no checksum is told of ---------------------------------------------------------

DAMAGE = "truncations,flips,edits,garbage,stale_ends"


def assert_noticed(outcomes: dict[str, Outcome], paths: list[Path]) -> None:
    for outcome in outcomes.values():
        assert outcome.accepted == 0, outcome.accepted_cases
    assert outcomes["truncations"].cases == byte_count(paths)
    assert outcomes["flips"].cases == 8 * byte_count(paths)


def test_all_damage_is_noticed(tmp_path: Path) -> None:
    paths = save(tmp_path, *FILES)
    assert_noticed(sweep(tmp_path, "symbols", DAMAGE, paths), paths)


def test_all_damage_of_some_vectors_is_noticed(tmp_path: Path) -> None:
    paths = VECTORS[::6][:4]
    if not paths:
        pytest.skip("there are no vectors")
    outcomes = sweep(tmp_path, "vectors", "whole,truncations,flips", paths)
    assert outcomes.pop("whole").refused == 0
    assert_noticed(outcomes, paths)


@pytest.mark.slow
def test_all_damage_of_all_vectors_is_noticed(tmp_path: Path) -> None:
    assert_noticed(sweep(tmp_path, "vectors", DAMAGE, VECTORS, seconds=3000), VECTORS)


# --- damage with checksums made good ------------------------------------------------------------

SEALED = (
    "sealed_flips,sealed_truncations,sealed_edits,sealed_values,sealed_chunks,sealed_contents,"
    "sealed_meta"
)


@pytest.mark.parametrize(
    ("reader", "sweeps", "files"),
    [
        ("symbols", "sealed_flips,sealed_truncations", "small"),
        ("decoders", "sealed_edits,sealed_chunks,sealed_meta", "plain"),
        ("decoders", "sealed_contents", "varied"),
        ("info", "sealed_flips", "plain"),
        ("decoders", "sealed_values", "pixel"),
        ("frames", "sealed_flips", "pixel"),
    ],
)
def test_sealed_damage_is_refused_or_read(
    tmp_path: Path, reader: str, sweeps: str, files: str
) -> None:
    for name, outcome in sweep(tmp_path, reader, sweeps, save(tmp_path, files)).items():
        assert outcome.refused > 0
        assert outcome.accepted > 0 or name == "sealed_truncations"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["symbols", "decoders", "info", "salvage", "frames"])
def test_sealed_damage_of_all_files_is_refused_or_read(tmp_path: Path, reader: str) -> None:
    paths = save(tmp_path, *FILES) + VECTORS[:3]
    sweep(tmp_path, reader, SEALED, paths, seconds=3000)


# --- salvage ------------------------------------------------------------------------------------


def test_salvage_of_all_damage(tmp_path: Path) -> None:
    """Whatever else is damaged, only without HEAD is nothing to be said of the file."""
    outcomes = sweep(tmp_path, "salvage", "truncations,flips,garbage", save(tmp_path, "plain"))
    head = len(chunk(*disassemble(plain_file())[0]))
    assert outcomes["truncations"].refused == len(SIGNATURE) + head
    assert outcomes["flips"].refused == 8 * head


@pytest.mark.slow
def test_salvage_of_all_damage_of_vectors(tmp_path: Path) -> None:
    paths = save(tmp_path, *FILES) + VECTORS[::6][:4]
    sweep(tmp_path, "salvage", DAMAGE, paths, seconds=3000)


def test_a_survey_of_nested_chunks_takes_no_time_to_speak_of() -> None:
    """A chain of damaged chunks with a sound one in each: hops from all of them add up."""
    inner = chunk(AUDI, b"")
    link = bytes([SEGM, len(inner) + 2]) + inner + bytes([SEGM, 0]) + b"\x01" * 4
    data = SIGNATURE + chunk(HEAD, disassemble(plain_file())[0][1]) + link * 1500
    started = os.times().user
    survey = Survey(io.BytesIO(data))
    assert os.times().user - started < 5
    assert survey.chunks


# --- the grammar --------------------------------------------------------------------------------


def assert_agree(data: bytes, *, on_kind: bool) -> None:
    """Both decoders read the same, or refuse, and of one fault they say alike what it is."""
    ours, theirs = fuzz.compare_decoders(data)
    event("refused" if ours else "accepted")
    if on_kind:
        unsupported = isinstance(theirs, reference_decoder.UnsupportedFile)
        assert isinstance(ours, UnsupportedError) == unsupported, (ours, theirs)


@settings(max_examples=60)
@given(hostile_grammar.files(faults=0))
def test_sound_files_are_read_alike(data: bytes) -> None:
    """Some few ask for more than the low limits here, which both must say."""
    ours, theirs = fuzz.compare_decoders(data)
    if isinstance(ours, LimitError):
        assert isinstance(theirs, reference_decoder.UnsupportedFile)
    else:
        assert (ours, theirs) == (None, None)


@settings(max_examples=120)
@given(hostile_grammar.files(faults=1))
def test_one_fault_is_refused_or_read_alike(data: bytes) -> None:
    assert_agree(data, on_kind=True)


@pytest.mark.slow
@settings(max_examples=5000)
@given(hostile_grammar.files(faults=1))
def test_one_fault_is_refused_or_read_alike_at_length(data: bytes) -> None:
    assert_agree(data, on_kind=True)


@pytest.mark.slow
@settings(max_examples=5000)
@given(hostile_grammar.files(faults=4))
def test_some_faults_are_refused_or_read_alike(data: bytes) -> None:
    assert_agree(data, on_kind=False)


@settings(max_examples=300)
@given(st.data())
def test_meta_is_refused_or_read_alike(data: st.DataObject) -> None:
    payload = hostile_grammar.meta(data.draw, hostile_grammar.Faults(data.draw, 2, among=40))
    try:
        ours = decode_meta(payload)
    except HfsvError:
        event("refused")
        with pytest.raises(reference_decoder.InvalidFile):
            reference_decoder.read_meta(payload)
        return
    event("accepted")
    known = {key: value for key, value in ours.items() if reference_decoder.is_known(key, value)}
    assert repr(known) == repr(reference_decoder.read_meta(payload))


# --- what the limits admit ----------------------------------------------------------------------


def announced(frames: int, model: ModelSpec, heading: bytes, symbol: int) -> bytes:
    """HEAD and SEGM of constant tensors but the embedding, whose head is given."""
    header = make_header(frames=frames, segments=1)
    specs = tensor_specs(model, header.width, header.height, frames)
    crc = 0
    for place, spec in enumerate(specs):
        for start in range(0, spec.size, 1 << 20):
            crc = zlib.crc32(bytes([0 if place else symbol]) * min(1 << 20, spec.size - start), crc)
    constant = bytes([65, 0, 0x80, 0x3F, 0])
    payload = b"".join(
        (leb(0), leb(0), leb(frames), model.to_bytes(), crc.to_bytes(4, "little"), heading)
    )
    payload += constant * (len(specs) - 1) + leb(0)
    return assemble([(HEAD, header.to_bytes()), (SEGM, payload)])


WIDE = ModelSpec((StageSpec(1, 1, 1, False),), 65536, 1, 1)
"""Seventeen frames of 12x10 have 133,693,440 symbols, as many as the limits admit."""

EXPLICIT_3 = bytes([64, 128, 0x80, 0x3F, 3, 4, 0, 0b0100_1000])
FROZEN_3 = bytes([0, 131, 0x80, 0x3F])
NARROW = ModelSpec((StageSpec(6, 1, 1, False), StageSpec(8, 1, 1, False)), 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("heading", [EXPLICIT_3, FROZEN_3])
def test_the_most_symbols_that_the_limits_admit(tmp_path: Path, heading: bytes) -> None:
    path = tmp_path / "most.hfsv"
    path.write_bytes(announced(17, WIDE, heading, 3))
    assert path.stat().st_size < 130
    result = child("-c", PEAK, path, seconds=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 400 << 20


@pytest.mark.slow
def test_the_most_frames_that_head_admits(tmp_path: Path) -> None:
    frames = 1 << 24
    chunks = disassemble(announced(frames, NARROW, bytes([65, 0, 0x80, 0x3F, 0]), 0))
    timing = b"\x01" + leb(frames) + zlib.compress(bytes(frames), 9)
    path = tmp_path / "most.hfsv"
    path.write_bytes(assemble([chunks[0], (PTSD, timing), chunks[1]]))
    assert path.stat().st_size < 17_000
    result = child("-c", PEAK, path, seconds=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 400 << 20


PEAK = """
import sys
from pathlib import Path
from format_helpers import read_all
from hostile_runner import address_space
from nervcodec.bitstream.tensors import Limits
data = Path(sys.argv[1]).read_bytes()
base = address_space("VmPeak")
read_all(data, Limits())
print(address_space("VmPeak") - base)
"""


def test_limits_are_asked_before_symbols_are_decoded() -> None:
    for limits in (Limits(parameters=20_000), SMALL_LIMITS):
        with pytest.raises(UnsupportedError, match="limit"):
            read_all(announced(1, WIDE, FROZEN_3, 3), limits)


# --- symbols in blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_do_not_change_the_symbols(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(block)
    parts: list[tuple[np.ndarray, Table]] = [
        (rng.integers(0, 256, 640).astype(np.uint8), FrozenTable(20, 77)),
        (rng.choice(np.array([3, 4, 9], np.uint8), 500), ExplicitTable(3, (5, 1, 0, 0, 0, 0, 2))),
        (rng.integers(0, 256, 63).astype(np.uint8), FrozenTable(40, 0)),
    ]
    words = entropy.encode(parts)
    monkeypatch.setattr(entropy, "BLOCK", block)
    decoded = entropy.decode(words, [(symbols.size, table) for symbols, table in parts])
    for found, (symbols, _) in zip(decoded, parts, strict=True):
        assert np.array_equal(found, symbols)


def test_decoding_takes_little_more_than_the_symbols() -> None:
    count, table = 1 << 22, FrozenTable(0, 131)
    entropy.decode(np.zeros(0, np.uint32), [(1, table)])
    tracemalloc.start()
    try:
        (symbols,) = entropy.decode(np.zeros(0, np.uint32), [(count, table)])
        assert tracemalloc.get_traced_memory()[1] < count + (2 << 20)
    finally:
        tracemalloc.stop()
    assert (symbols == 3).all()


# --- audio --------------------------------------------------------------------------------------


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Names and contents of an MP4's boxes."""
    found, place = [], 0
    while place < len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        found.append((name, data[place + 8 : place + size]))
        place += size
    return found


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def with_tables(data: bytes, **tables: list[int]) -> bytes:
    """An MP4 with other tables: of these numbers, behind version and flags."""
    result = b""
    for name, content in boxes(data):
        changed = content
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"):
            changed = with_tables(content, **tables)
        elif name.decode() in tables:
            numbers = tables[name.decode()]
            changed = struct.pack(f">{1 + len(numbers)}I", 0, *numbers)
        result += box(name, changed)
    return result


@cache
def tone(*fragments: str) -> bytes:
    """A tenth of a second of AAC in MP4."""
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 1600)).astype(np.float32)
    buffer = io.BytesIO()
    options = {"movflags": "+frag_keyframe+empty_moov"} if fragments else {}
    with av.open(buffer, "w", format="mp4", container_options=options) as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


MANY = 10_000_000

TABLES_OF_MANY = {
    "sizes": {"stsz": [1, MANY], "stts": [1, MANY, 2], "stsc": [1, 1, MANY, 1]},
    "runs": {
        "stsz": [1, 100],
        "stts": [1, 100, 1],
        "stsc": [1, 1, MANY, 1],
        "stco": [100, *[44] * 100],
    },
    "long runs": {"stsc": [2**32 - 1, 1, 1, 1]},
}


def test_sound_tables_of_samples_are_read() -> None:
    for data in (tone(), tone("fragmented"), with_tables(tone())):
        AudioCopy(data, "mp4").close()


@pytest.mark.parametrize("name", TABLES_OF_MANY)
def test_more_samples_than_bytes_are_refused(name: str) -> None:
    """FFmpeg would make an entry of 24 bytes or more for each."""
    with pytest.raises(BitstreamError, match="more samples than it can hold"):
        AudioCopy(with_tables(tone(), **TABLES_OF_MANY[name]), "mp4")


def test_fragments_of_more_samples_than_bytes_are_refused() -> None:
    assert b"trun" in tone("fragmented")
    with pytest.raises(BitstreamError, match="more samples than it can hold"):
        AudioCopy(with_tables(tone("fragmented"), trun=[MANY]), "mp4")


@pytest.mark.parametrize(
    "hidden",
    [
        struct.pack(">I4sQ", 1, b"free", 2**64 - 1),
        struct.pack(">I4sQ", 1, b"mdat", 16) + box(b"free", b""),
        struct.pack(">I4s", 0, b"free"),
        box(b"free", b"")[:-1] + b"x",
        b"stsc" + b"\xff" * 8,
        b"\0\0\0\1mdat",
        b"stsz",
        b"",
    ],
)
def test_odd_boxes_hide_no_tables_and_raise_our_errors(hidden: bytes) -> None:
    bomb = with_tables(tone(), **TABLES_OF_MANY["sizes"])
    for data in (hidden, hidden + bomb, bomb + hidden, bomb[:-20] + hidden):
        with pytest.raises(BitstreamError):
            AudioCopy(data, "mp4")


def test_boxes_without_end_are_refused_at_once() -> None:
    started = os.times().user
    for unit in (box(b"free", b""), box(b"free", b"stsz" + bytes(12))):
        with pytest.raises(BitstreamError, match="boxes"):
            AudioCopy(unit * (1 << 19), "mp4")
    names = box(b"free", b"stsc" * (1 << 21))
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match="boxes"):
            AudioCopy(names, "mp4")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert os.times().user - started < 10


def test_names_of_tables_among_the_samples_are_nothing() -> None:
    sound = tone()
    place = sound.index(b"mdat") + 40
    assert len(dict(boxes(sound))[b"mdat"]) > 60
    data = sound[:place] + (b"stsz" + b"\xff" * 12) + sound[place + 16 :]
    AudioCopy(data, "mp4").close()


# --- fuzzing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_fuzzers_inputs_do_no_harm(target: str) -> None:
    """Those that reach most, and those that once did harm."""
    inputs = sorted((fuzz.SEEDS / target).iterdir())
    assert inputs
    result = child("-m", "tools.fuzz", target, "--replay", *inputs, seconds=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(path) for path in inputs]


BROKEN = """
import sys
from tools import fuzz
def run(data):
    if len(data) > 3:
        FAULT
fuzz.TARGETS = {"broken": lambda: fuzz.Target(run, seconds=1)}
sys.argv[1:] = ["broken", *sys.argv[1:]]
sys.exit(fuzz.main())
"""
FAULTS = ["raise KeyError", "bytes(1 << 30)", "import os; os.abort()", "while True: pass"]


def broken(fault: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return child("-c", BROKEN.replace("FAULT", fault), *arguments, seconds=60)


@pytest.mark.parametrize("fault", FAULTS)
def test_replay_notices(tmp_path: Path, fault: str) -> None:
    paths = [tmp_path / "harmless", tmp_path / "harmful"]
    for path, data in zip(paths, (b"abc", b"abcd"), strict=True):
        path.write_bytes(data)
    result = broken(fault, "--replay", *paths)
    assert result.returncode != 0
    assert result.stdout.split() == [str(path) for path in paths]


@pytest.mark.parametrize("fault", FAULTS[::3])
def test_the_fuzzer_notices(tmp_path: Path, fault: str) -> None:
    pytest.importorskip("atheris")
    result = broken(fault, "--seconds", "20", "--corpus", tmp_path)
    assert result.returncode == 1, result.stderr
    assert [path.stat().st_size > 3 for path in (tmp_path / "crashes").iterdir()] == [True]


def test_the_fuzzer_ends_well(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    result = broken("pass", "--seconds", "1", "--corpus", tmp_path)
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "crashes").iterdir())


def test_the_fuzzer_says_that_atheris_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "meta", "--corpus", str(tmp_path / "corpus")])
    assert fuzz.main() == 2
    assert "atheris is not installed" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()
