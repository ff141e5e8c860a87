"""The frozen tables, and every constant that bitstream_spec.md and the code both state."""

from __future__ import annotations

import ast
import hashlib
import re

import numpy as np
import pytest
from format_helpers import SIGNATURE, SPEC, spec_constants, spec_table

from nervcodec.bitstream import coding, container, entropy, stream, syntax, wire
from nervcodec.bitstream.container import ChunkType
from nervcodec.bitstream.tables import FIRST_RATIO, all_tables, frozen_table, tables_digest
from nervcodec.bitstream.tensors import Limits

# --- the frozen tables --------------------------------------------------------------------------


def test_the_constants_are_those_of_the_spec() -> None:
    assert spec_constants() == FIRST_RATIO


def test_the_tables_are_those_of_the_spec() -> None:
    for t in range(64):
        assert tuple(frozen_table(t).tolist()) == spec_table(t)


def test_the_digest_is_that_of_the_spec() -> None:
    printed = re.search(r"^    ([0-9a-f]{64})$", SPEC, re.MULTILINE)
    assert printed is not None
    own = b"".join(f.to_bytes(4, "little") for t in range(64) for f in spec_table(t))
    assert tables_digest() == hashlib.sha256(own).hexdigest() == printed.group(1)


def test_every_table_is_a_distribution() -> None:
    tables = all_tables()
    assert tables.shape == (64, 256)
    assert (tables.sum(axis=1) == 2**24).all()
    assert (tables >= 1).all()


def test_tables_fall_from_their_centre_alike_on_both_sides() -> None:
    tables = all_tables()
    assert (np.diff(tables[:, 128:], axis=1) <= 0).all()
    np.testing.assert_array_equal(tables[:, 127:0:-1], tables[:, 129:])


def test_each_family_widens_with_its_number() -> None:
    centres = all_tables()[:, 128]
    assert (np.diff(centres[:32]) < 0).all()
    assert (np.diff(centres[32:]) < 0).all()


def test_cached_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        frozen_table(3)[0] = 5


# --- other constants of the spec ----------------------------------------------------------------


def section(title: str) -> str:
    """Text of the section whose heading begins with ``title``."""
    found = re.search(rf"^#+ {re.escape(title)}.*?\n(.*?)(?=^#)", SPEC, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(1)


def field_range(title: str, field: str) -> tuple[int, int]:
    """Range ``a..b`` of a field in the table of a section."""
    row = next(line for line in section(title).splitlines() if re.search(rf"\b{field} \|", line))
    found = re.search(r"(\d+)\.\.(\S+?)[,` |]", row + " ")
    assert found is not None, row
    return int(found.group(1)), number(found.group(2))


def number(text: str) -> int:
    """A number such as ``2**31-1`` or ``65,536``."""
    total = 0
    for sign, term in re.findall(r"([+-]?)([\d,*]+)", text):
        base, _, exponent = term.replace(",", "").partition("**")
        total += (-1 if sign == "-" else 1) * int(base) ** int(exponent or 1)
    return total


@pytest.mark.parametrize(
    ("title", "field", "expected"),
    [
        ("HEAD", "width", (1, syntax.MAX_SIDE)),
        ("HEAD", "height", (1, syntax.MAX_SIDE)),
        ("HEAD", "frames", (1, syntax.MAX_FRAMES)),
        ("HEAD", "frame duration", (1, syntax.MAX_RATIONAL)),
        ("HEAD", "rotation", (0, 3)),
        ("5.1", "stages", (1, syntax.MAX_STAGES)),
        ("5.1", "stride", (1, syntax.MAX_STRIDE)),
        ("5.1", "kernel", (1, syntax.MAX_KERNEL)),
        ("5.1", "head kernel", (1, syntax.MAX_KERNEL)),
        ("5.1", "attention kernel", (1, syntax.MAX_KERNEL)),
        ("5.1", "extra kernel", (1, syntax.MAX_KERNEL)),
        ("5.1", "channels", (1, syntax.MAX_CHANNELS)),
        ("5.1", "embedding channels", (1, syntax.MAX_CHANNELS)),
        ("5.1", "stem channels", (1, syntax.MAX_CHANNELS)),
        ("5.1", "extra convolutions", (0, syntax.MAX_EXTRA_CONVS)),
        ("6.2", "order", (0, entropy.MAX_GOLOMB_ORDER)),
    ],
)
def test_ranges_are_those_of_the_spec(title: str, field: str, expected: tuple[int, int]) -> None:
    assert field_range(title, field) == expected


@pytest.mark.parametrize(
    ("title", "pattern", "expected"),
    [
        ("2. Primitive", r"At most (\d+) bytes \(63 bits\)", wire.MAX_VARINT_BYTES),
        ("2. Primitive", r"both in 1\.\.(\S+) and", syntax.MAX_RATIONAL),
        ("3. File", r"`varint` of at most (\d+) bytes", container.MAX_LENGTH_BYTES),
        ("3. File", r"at most\s+(2\*\*\d+) chunks", container.MAX_CHUNKS),
        ("3. File", r"and (\d+) bytes, the\s+first half", container.DIGEST_BYTES),
        ("HEAD", r"width x height is at most (\S+) \|", syntax.MAX_PIXELS),
        ("PTSD", r"`frames` to (\d+) x `frames` bytes", stream.MAX_STEP_BYTES),
        ("5.3", r"(\d+) explicit table", entropy.EXPLICIT),
        ("5.3", r"; (\d+) constant", entropy.CONSTANT),
        ("6.2", r"`z \+ g` is at most (\d+)", entropy.MAX_GOLOMB_ORDER + 1),
        ("HASH", r"the first (\d+) bytes of the SHA-256", stream.HASH_BYTES),
        ("META", r"at most ([\d,]+) bytes\.", stream.MAX_META_BYTES),
        ("META", r"at depth (\d+) or less", stream.MAX_META_DEPTH),
        ("AUDI", r"1\.\.(\S+) bytes:", stream.MAX_AUDIO_BYTES),
        ("11. Security", r"segment are (2\*\*\d+)\s+parameters", Limits().parameters),
        ("11. Security", r"(2\*\*\d+) multiply-accumulates", Limits().macs_per_frame),
        ("11. Security", r"(2\*\*\d+) pixels", Limits().pixels),
        ("11. Security", r"(2\*\*\d+)\s+multiplications", Limits().macs),
        ("11. Security", r"(\d+) GiB of maps", Limits().activation_bytes >> 30),
    ],
)
def test_constants_are_those_of_the_spec(title: str, pattern: str, expected: int) -> None:
    found = re.search(pattern, section(title))
    assert found is not None, pattern
    assert number(found.group(1)) == expected


def test_the_scales_limits_are_those_of_the_spec() -> None:
    found = re.search(r"`b` in (0x[0-9A-F]+)\.\.(0x[0-9A-F]+)", section("5.3"))
    assert found is not None
    low, high = (ast.literal_eval(text) for text in found.groups())
    assert (low, high) == (coding.MIN_SCALE_BITS, coding.MAX_SCALE_BITS)
    bits = np.array([low, high], dtype=np.uint16)
    assert coding.scale_values(bits).tolist() == [2.0**-40, 2.0**20]


def test_the_matrices_are_those_of_the_spec() -> None:
    found = re.search(r"to Y'CbCr with: ([\d, or]+)", section("HEAD"))
    assert found is not None
    assert tuple(map(int, re.findall(r"\d+", found.group(1)))) == syntax.MATRICES


def test_chunks_and_their_order_are_those_of_the_spec() -> None:
    rows = re.findall(r"^\| `0x(..)` \| (\w+) \| (yes|no) \|", section("3. File"), re.MULTILINE)
    assert {name: int(code, 16) for code, name, _ in rows} == {k.name: k.value for k in ChunkType}
    for code, _, critical in rows:
        assert bool(int(code, 16) & container.CRITICAL) == (critical == "yes")
    ranks = [container._RANK[ChunkType(int(code, 16))] for code, _, _ in rows]
    assert ranks == sorted(ranks)


def test_the_signature_is_that_of_the_spec() -> None:
    found = re.search(r"^    signature +([0-9A-F ]+)$", SPEC, re.MULTILINE)
    assert found is not None
    assert bytes.fromhex(found.group(1)) == container.SIGNATURE == SIGNATURE


def test_the_version_is_that_of_the_spec() -> None:
    title = re.search(r"bitstream, version (\d+)\.(\d+)", SPEC)
    assert title is not None
    assert tuple(map(int, title.groups())) == (syntax.FORMAT_MAJOR, syntax.FORMAT_MINOR)
    latest = re.search(r"\*\*(\d+\.\d+)\*\*", SPEC.split("## 13. ")[1])
    assert latest is not None
    assert latest.group(1) == f"{syntax.FORMAT_MAJOR}.{syntax.FORMAT_MINOR}"
