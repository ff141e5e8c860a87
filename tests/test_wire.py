"""Varints and the reader of fields against spec section 2."""

from __future__ import annotations

import numpy as np
import pytest
from format_helpers import leb, zigzag
from hypothesis import given
from hypothesis import strategies as st

from nervcodec.bitstream import wire
from nervcodec.bitstream.wire import ByteReader, signed_varint, signed_varints, varint
from nervcodec.errors import BitstreamError

LARGEST = 2**63 - 1


def reader(data: bytes) -> ByteReader:
    return ByteReader(data, "TEST")


@given(st.integers(0, LARGEST))
def test_varint_is_leb128_and_comes_back(value: int) -> None:
    data = varint(value)
    assert data == leb(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    source = reader(data + b"\x55")
    assert source.varint() == value
    assert source.remaining == 1


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16383, "ff7f"),
        (16384, "808001"),
        (LARGEST, "ffffffffffffffff7f"),
    ],
)
def test_varint_examples(value: int, data: str) -> None:
    assert varint(value).hex() == data
    assert reader(bytes.fromhex(data)).varint() == value


@pytest.mark.parametrize("value", [-1, LARGEST + 1])
def test_varint_out_of_range_is_our_own_bug(value: int) -> None:
    with pytest.raises(AssertionError):
        varint(value)


@given(st.integers(0, 2**49 - 1), st.integers(1, 2))
def test_longer_forms_of_a_varint_are_refused(value: int, extra: int) -> None:
    minimal = leb(value)
    padded = minimal[:-1] + bytes([minimal[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\x00"
    with pytest.raises(BitstreamError, match="longer than it need be"):
        reader(padded).varint()


@pytest.mark.parametrize("tail", ["8001", "ff7f", "80808000"])
def test_varint_of_more_than_nine_bytes_is_refused(tail: str) -> None:
    with pytest.raises(BitstreamError, match="9 bytes"):
        reader(b"\xff" * 8 + bytes.fromhex(tail)).varint()


@given(st.integers(128, LARGEST))
def test_cut_varint_is_refused(value: int) -> None:
    data = leb(value)
    for cut in range(len(data)):
        with pytest.raises(BitstreamError, match="middle of a field"):
            reader(data[:cut]).varint()


@given(st.integers(-(2**62), 2**62 - 1))
def test_signed_varint_comes_back(value: int) -> None:
    data = signed_varint(value)
    assert data == zigzag(value)
    assert reader(data).signed_varint() == value


@pytest.mark.parametrize(
    ("value", "unsigned"), [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4), (-(2**62), LARGEST)]
)
def test_zigzag_order(value: int, unsigned: int) -> None:
    assert signed_varint(value) == leb(unsigned)
    assert reader(leb(unsigned)).signed_varint() == value


def test_fixed_fields_are_little_endian() -> None:
    source = reader(b"\x07\x34\x12")
    assert source.u8() == 7
    assert source.u16() == 0x1234
    source.finish()


@pytest.mark.parametrize("data", [b"", b"\x01"])
def test_reading_past_the_end_is_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="TEST"):
        reader(data).u16()
    with pytest.raises(BitstreamError):
        reader(data).take(len(data) + 1)


def test_a_failed_read_takes_nothing() -> None:
    source = reader(b"abc")
    with pytest.raises(BitstreamError):
        source.take(4)
    assert source.take(3) == b"abc"
    assert source.take(0) == b""


@pytest.mark.parametrize(("value", "good"), [(2, False), (3, True), (9, True), (10, False)])
def test_bounds_are_inclusive(value: int, good: bool) -> None:
    for method in (reader(bytes([value])).bounded, reader(bytes([value])).bounded_u8):
        if good:
            assert method(3, 9, "field") == value
        else:
            with pytest.raises(BitstreamError, match=rf"field is {value}, not in 3\.\.9"):
                method(3, 9, "field")


def test_bytes_left_over_are_refused() -> None:
    source = reader(b"\x01\x02\x03")
    source.u8()
    with pytest.raises(BitstreamError, match="2 bytes too many"):
        source.finish()


# --- many at a time -----------------------------------------------------------------------------


def one_by_one(data: bytes, count: int) -> list[int]:
    """What :func:`signed_varints` is to give, by the reader of single fields."""
    source, values = reader(data), []
    for _ in range(count):
        before = source.remaining
        values.append(source.signed_varint())
        if before - source.remaining > 5:
            raise BitstreamError("longer than five bytes")
    source.finish()
    return values


def all_at_once(data: bytes, count: int) -> list[int]:
    blocks = list(signed_varints(data, count, "TEST"))
    return np.concatenate(blocks).tolist() if blocks else []


@given(st.lists(st.integers(-(2**34), 2**34 - 1), max_size=40), st.integers(5, 12))
def test_many_come_back_whatever_the_block(values: list[int], block: int) -> None:
    data = b"".join(map(signed_varint, values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "BLOCK_BYTES", block)
        assert all_at_once(data, len(values)) == values


@given(st.binary(max_size=12), st.integers(0, 5), st.integers(5, 12))
def test_many_are_refused_as_single_ones_are(data: bytes, count: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "BLOCK_BYTES", block)
        try:
            expected = one_by_one(data, count)
        except BitstreamError:
            with pytest.raises(BitstreamError):
                all_at_once(data, count)
        else:
            assert all_at_once(data, count) == expected
