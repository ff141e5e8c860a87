"""bitstream_spec.md against the files and the code: its annotated example and its constants.

More of its constants are in test_tables.py; its rules are what the vectors are for.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from format_helpers import SPEC, spec_constants, spec_table
from test_tables import field_range, number, section

from nervcodec.bitstream import stream, syntax, tables
from nervcodec.bitstream.container import ChunkType
from nervcodec.bitstream.syntax import Attention, ModelSpec, StageSpec
from nervcodec.bitstream.tensors import activation_bytes, convolutions
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError
from nervcodec.samples import BIT_DEPTHS
from tools import reference_decoder
from tools.make_vectors.writing import (
    USUAL_HEADER,
    head_fields,
    join,
    make_model,
    model_fields,
)

VECTORS = Path(__file__).parent / "vectors"
MINIMAL = VECTORS / "valid" / "minimal.hfsv"


def table(title: str, columns: int, place: int = 0) -> list[list[str]]:
    """Cells of a table of a section, the ``place``-th with so many columns, without its head."""
    found = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in re.findall(r"(?:^\|.*\|\n)+", section(title), re.MULTILINE)
    ]
    fitting = [rows for rows in found if len(rows[0]) == columns]
    return fitting[place][2:]


def matched(title: str, pattern: str) -> tuple[str, ...]:
    found = re.search(pattern, section(title))
    assert found is not None, pattern
    return found.groups()


# --- the annotated file -------------------------------------------------------------------------


def test_the_annotated_bytes_are_those_of_the_vector() -> None:
    data, position = MINIMAL.read_bytes(), 0
    for offset, text, field, meaning in table("12.2", 4):
        part = bytes.fromhex(text)
        assert int(offset) == position
        assert data[position : position + len(part)] == part
        if field == "crc":
            assert int(meaning, 16) == int.from_bytes(part, "little")
        position += len(part)
    assert position == len(data) == int(matched("12.2", r"in (\d+) bytes")[0])


def annotated_data() -> list[int]:
    (cell,) = (meaning for _, _, field, meaning in table("12.2", 4) if field == "data")
    return [int(word, 16) for word in cell.split(", ")]


def test_the_annotated_symbols_follow_from_the_words() -> None:
    """By the pseudocode of 6.3, written here once more."""
    words = annotated_data()
    explicit = (2**23, 2**22, 2**22), (126, 128, 129), 128, 0.5
    conv = spec_table(10), [(i + 120 - 128) % 256 for i in range(256)], 120, 0.125
    head = spec_table(40), list(range(256)), 128, 0.375
    tensors = [explicit] * 4 + [conv] * 4 + [head] * 3
    rows = table("12.2", 7)
    state = 0
    for _ in range(2):
        state = state << 32 | words.pop()
    for row, (f, symbols, zero, scale) in zip(rows, tensors, strict=True):
        i = int(row[2])
        c = sum(f[:i])
        symbol = symbols[i]
        assert int(row[0], 16) == state
        assert row[1:6] == [str(n) for n in (state % 2**24, i, c, f[i], symbol)]
        assert float(row[6]) == (symbol - zero) * scale
        assert c <= state % 2**24 < c + f[i]
        state = (state >> 24) * f[i] + state % 2**24 - c
        if state < 2**32 and words:
            state = state << 32 | words.pop()
    assert (state, words) == (0, [])


def test_the_annotated_sample_is_worked_out_rightly() -> None:
    def gelu(x: float) -> float:
        return x * (1 + math.erf(x / math.sqrt(2))) / 2

    stem, stage = gelu(2 * 0.5 + 0.25), gelu(1.375 * gelu(1.25) + 0.25)
    y = 1.125 * stage - 0.125
    v = (1 + math.tanh(y)) / 2
    lines = [line for line in section("12.2").splitlines() if line.startswith("    ")]
    shown = [line.rsplit("= ")[-1] for line in lines if "=" in line]
    assert shown == [f"{x:.6f}" for x in (stem, stage, y, v)] + [str(math.floor(255 * v + 0.5))]
    assert f"floor({255 * v + 0.5:.4f})" in section("12.2")
    assert f"gelu({1.375 * stem + 0.25:.6f})" in section("12.2")


def test_the_annotated_frames_are_those_of_the_file() -> None:
    file = reference_decoder.parse(MINIMAL.read_bytes())
    pixels = re.findall(r"\( *(\d+), +(\d+), +(\d+)\)", section("12.2"))
    frames = np.array(pixels, dtype=int).reshape(2, 2, 4, 3)
    assert np.array_equal(frames, list(reference_decoder.render(file, 0)))


# --- the vectors' description -------------------------------------------------------------------


def described_fields(place: int) -> set[str]:
    names = ", ".join(name for name, _ in table("12.1", 2, place))
    return set(re.findall(r"`(\w+)`", names))


def test_the_fields_of_the_vectors_are_described() -> None:
    content = json.loads(MINIMAL.with_suffix(".json").read_bytes())
    assert described_fields(0) == content.keys() | content["segments"][0].keys()
    index = json.loads((VECTORS / "invalid" / "index.json").read_bytes())
    entries: list[dict[str, Any]] = list(index.values())
    assert described_fields(1) == entries[0].keys()
    stages = dict(table("12.1", 2, 1))["`stage`"]
    assert {entry["stage"] for entry in entries} == set(re.findall(r"`(\w+)` is", stages))


# --- the document itself ------------------------------------------------------------------------


def test_the_contents_list_every_section() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\(#(.+)\)$", SPEC, re.MULTILINE)
    headings = re.findall(r"^## (\d+)\. (.+)$", SPEC, re.MULTILINE)
    assert [entry[:2] for entry in listed] == headings
    assert [int(n) for n, _ in headings] == list(range(1, len(headings) + 1))
    for n, title, anchor in listed:
        words = re.sub(r"[^\w\s-]", "", f"{n} {title}".lower())
        assert anchor == words.replace(" ", "-")


def test_references_lead_somewhere() -> None:
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", SPEC, re.MULTILINE))
    references = set(re.findall(r"(?:section|see|of|\() ?(\d\.\d|(?<=section )\d+)\b", SPEC))
    assert {"5.1", "5.2", "5.3", "6", "6.2", "6.3", "9", "10"} <= references
    assert references <= headings


# --- constants ----------------------------------------------------------------------------------


def test_head_has_the_fields_of_the_spec_in_this_order() -> None:
    """The rational fields are one each in the table and in the tool."""
    names = [name for name, _, _ in table("HEAD", 3)]
    names[names.index("sample aspect ratio")] = "aspect"
    assert names == list(head_fields(USUAL_HEADER))


def test_the_version_in_head_is_that_of_the_title() -> None:
    cells = {name: meaning for name, _, meaning in table("HEAD", 3)}
    version = syntax.FORMAT_MAJOR, syntax.FORMAT_MINOR
    assert (int(cells["major"]), int(cells["minor"])) == version
    assert f"version {version[0]}.{version[1]}," in str(reference_decoder.__doc__)
    assert (cells["profile"], cells["flags"]) == ("0", "0")
    assert tuple(map(int, re.findall(r"\d+", cells["bit depth"]))) == BIT_DEPTHS


def test_further_ranges_are_those_of_the_spec() -> None:
    assert field_range("HEAD", "segments") == (1, 0)  # min(frames, ...)
    (most,) = matched("HEAD", r"1\.\.min\(frames, (2\*\*20 - 2)\)")
    assert number(most.replace(" ", "")) == syntax.MAX_SEGMENTS
    (chunks,) = matched("3. File", r"at most\s+(2\*\*\d+) chunks")
    assert number(chunks) == syntax.MAX_SEGMENTS + 2 == reference_decoder.MAX_CHUNKS
    assert field_range("5.1", "reduction") == (1, 255)
    cells = model_table()
    found = re.findall(r"(\d) ([\w-]+)", cells["architecture"])
    numbers = [(int(n), name.replace("-", "").upper()) for n, name in found]
    assert numbers == [(each.value, each.name) for each in syntax.Architecture]
    assert re.findall(r"(\d) (\w+)", cells["attention"]) == [
        (str(kind.value), kind.name.lower()) for kind in Attention
    ]


MIXING_FIELDS = ("heads", "head width", "feed-forward width", "modulation width", "bottleneck")


DETAIL_FIELDS = ("detail stage", "detail channels")


def model_table() -> dict[str, str]:
    """Name and meaning of the fields of 5.1, without the conditions before the names."""
    rows = [(re.sub(r"^(\.\.\. )?(\*.*\* )?", "", name), text) for name, _, text in table("5.1", 3)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@pytest.mark.parametrize("architecture", [1, 2, 3])
def test_the_model_has_the_fields_of_the_spec_in_this_order(architecture: int) -> None:
    time = (1, 1, 1, 1) if architecture > 1 else None
    mixing = (1, 1, 1, 1, 1) if architecture == 3 else None
    detail = (0, 1) if architecture == 1 else None
    block = (1, 1, 1, 0, 1, 1)
    model = make_model([(1, 1, 1)], hfscm=block, msfrp=0, time=time, mixing=mixing, detail=detail)
    assert model.architecture == architecture
    names = [name.removesuffix(" 0").removeprefix("model ") for name in model_fields(model)]
    left_out = {
        1: ["levels", "base numerator", "base denominator", "time width", *MIXING_FIELDS],
        2: ["embedding channels", *MIXING_FIELDS, *DETAIL_FIELDS],
        3: ["embedding channels", *DETAIL_FIELDS],
    }
    listed = [name.lower() for name in model_table()]
    assert names == [name for name in listed if name not in left_out[architecture]]


@pytest.mark.parametrize("stages", [1, 2, 8])
def test_mask_and_msfrp_stage_are_bounded_by_the_stages(stages: int) -> None:
    assert "1..2**N-1" in model_table()["mask"]
    assert model_table()["MSFRP stage"] == "0..N-1"
    model = make_model([(1, 1, 1)] * stages, hfscm=(2**stages - 1, 1, 1, 0, 0, 1), msfrp=stages - 1)
    fields = model_fields(model)
    assert ModelSpec.read(ByteReader(join(fields), "")).msfrp_stage == stages - 1
    for change in ({"mask": bytes([2**stages & 0xFF])}, {"msfrp stage": bytes([stages])}):
        with pytest.raises(BitstreamError):
            ModelSpec.read(ByteReader(join(fields, change), ""))


def test_chunk_types_and_order_are_those_of_the_second_decoder_too() -> None:
    rows = table("3. File", 5)
    types = [int(row[0].strip("`"), 16) for row in rows]
    assert tuple(types) == reference_decoder.ORDER
    private = [int(text, 16) for text in matched("3. File", r"`(0x..)`-`(0x..)` \(and")]
    for kind in ChunkType:
        assert not private[0] <= kind & 0x7F <= private[1]
    singles = {name for _, name, _, count, _ in rows if count == "1"}
    assert singles == {"HEAD", "END"}


def test_the_second_decoder_has_the_limits_of_the_spec() -> None:
    text = section("11. Security")
    parameters, operations, gibibytes = re.findall(
        r"are (2\*\*\d+)\s+parameters.*?(2\*\*\d+) multiply.*?(\d+) GiB of maps", text, re.DOTALL
    )[0]
    assert number(parameters) == reference_decoder.MAX_PARAMETERS
    assert number(operations) == reference_decoder.MAX_OPERATIONS
    assert int(gibibytes) << 30 == reference_decoder.MAX_MAP_BYTES
    assert tuple(reference_decoder.RATIOS) == spec_constants()


def test_maps_take_the_bytes_of_the_spec() -> None:
    (each,) = matched("11. Security", r"taken as (\d+) bytes for each value")
    spec = ModelSpec((StageSpec(2, 3, 7, True), StageSpec(3, 3, 5, False)), 2, 3, msfrp_stage=0)
    largest = max(conv.values for conv in convolutions(spec, 30, 20))
    assert activation_bytes(spec, 30, 20) == int(each) * largest


def test_tables_have_the_sizes_of_the_spec() -> None:
    assert number(matched("6. Entropy", r"with sum (2\*\*\d+)")[0]) == tables.TOTAL
    assert int(matched("6.1", r"has (\d+) frequencies")[0]) == tables.ALPHABET
    assert int(matched("6.1", r"zero \+ (\d+)\) mod 256")[0]) == tables.CENTRE
    assert int(matched("6.1", r"if t < (\d+)")[0]) == tables.LAPLACE_TABLES
    last = int(matched("5.3", r"0\.\.(\d+) frozen table")[0])
    assert last + 1 == len(tables.FIRST_RATIO)


def test_meta_is_bounded_as_the_spec_says() -> None:
    found = matched("META", r"at most (\d+) items, maps (\d+) pairs and strings\s+(\d+) bytes")
    items, pairs, size = map(int, found)

    def values(more: int) -> list[Any]:
        many = dict.fromkeys(map(str, range(pairs + more)), 0)
        return [[0] * (items + more), many, "x" * (size + more)]

    for good, bad in zip(values(0), values(1), strict=True):
        for read in (stream.decode_meta, reference_decoder.read_meta):
            read(msgpack.packb({"a": good}))
            with pytest.raises((BitstreamError, reference_decoder.InvalidFile)):
                read(msgpack.packb({"a": bad}))


def test_the_second_decoder_knows_the_keys_of_meta() -> None:
    cells = [re.findall(r"`(\w+)`", keys) for keys, _ in table("META", 2)]
    named = {key for keys in cells for key in keys}
    lists = {"crop", "audio", "chapters", "tags", "mastering_display", "content_light"}
    assert named == {*reference_decoder.META_TYPES} | lists


def test_audio_containers_are_those_of_the_spec() -> None:
    cells = {name: meaning for name, _, meaning in table("AUDI", 3)}
    listed = re.findall(r"(\d) (MP4|Matroska)", cells["container"])
    assert [name.lower() for _, name in listed] == list(stream.AUDIO_CONTAINERS)
    assert [int(n) for n, _ in listed] == [0, 1]
