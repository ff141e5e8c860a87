"""Entropy coding against spec section 6: an independent coder in integers must agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from format_helpers import spec_table
from hypothesis import given, settings
from hypothesis import strategies as st

from nervcodec.bitstream.entropy import (
    ExplicitTable,
    FrozenTable,
    Symbols,
    Table,
    choose_table,
    decode,
    encode,
)
from nervcodec.bitstream.tables import all_tables
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError

# --- section 6 written again, from the spec's text ----------------------------------------------


def spec_explicit(data: bytes) -> tuple[list[int], list[int], int]:
    """Used symbols, their frequencies and the number of bytes of an explicit table (6.2)."""
    first, last, order = data[:3]
    bits = "".join(f"{byte:08b}" for byte in data[3:])
    weights, position = [], 0
    for _ in range(last - first + 1):
        zeros = bits.index("1", position) - position
        start, width = position + zeros, zeros + order + 1
        weights.append(int(bits[start : start + width], 2) - 2**order)
        position = start + width
    used = [first + i for i, weight in enumerate(weights) if weight]
    weights = [weight for weight in weights if weight]
    frequencies = [weight * 2**24 // sum(weights) for weight in weights]
    frequencies[weights.index(max(weights))] += 2**24 - sum(frequencies)
    return used, frequencies, 3 + -(-position // 8)


def spec_alphabet(table: Table) -> tuple[list[int], Sequence[int]]:
    """The symbol and the frequency of each index of a table."""
    if isinstance(table, FrozenTable):
        return [(i + table.zero - 128) % 256 for i in range(256)], spec_table(table.table)
    return spec_explicit(table.to_bytes())[:2]


def spec_decode(words: Sequence[int], parts: Sequence[tuple[int, Table]]) -> list[list[int]]:
    """Section 6.3; fails where the words do not end with the last symbol."""
    stack = [int(word) for word in words]
    assert not stack or stack[-1]
    state, result = 0, []
    for _ in range(2):
        if stack:
            state = state << 32 | stack.pop()
    for count, table in parts:
        alphabet, f = spec_alphabet(table)
        below = [sum(f[:i]) for i in range(len(f) + 1)]
        symbols = []
        for _ in range(count):
            q = state % 2**24
            i = next(i for i in range(len(f)) if below[i] <= q < below[i + 1])
            state = (state >> 24) * f[i] + q - below[i]
            if state < 2**32 and stack:
                state = state << 32 | stack.pop()
            symbols.append(alphabet[i])
        result.append(symbols)
    assert state == 0
    assert not stack
    return result


def spec_encode(parts: Sequence[tuple[Symbols, Table]]) -> list[int]:
    state, words = 0, []
    for symbols, table in reversed(parts):
        alphabet, frequencies = spec_alphabet(table)
        for symbol in reversed(symbols.ravel().tolist()):
            i = alphabet.index(symbol)
            f, c = frequencies[i], sum(frequencies[:i])
            if state >= f << 40:
                words.append(state % 2**32)
                state >>= 32
            state = (state // f) << 24 | (c + state % f)
    while state:
        words.append(state % 2**32)
        state >>= 32
    return words


# --- data ---------------------------------------------------------------------------------------


def array(values: Sequence[int]) -> Symbols:
    return np.array(values, dtype=np.uint8)


@st.composite
def parts(draw: Any) -> tuple[Symbols, Table]:
    """Symbols and a table that can code them, well or badly."""
    if draw(st.booleans()):
        symbols = draw(st.lists(st.integers(0, 255), min_size=1, max_size=30))
        return array(symbols), FrozenTable(draw(st.integers(0, 63)), draw(st.integers(0, 255)))
    table = draw(explicit_tables())
    used = st.sampled_from(table.used().tolist())
    return array(draw(st.lists(used, min_size=1, max_size=30))), table


@st.composite
def explicit_tables(draw: Any, most: int = 2**16) -> ExplicitTable:
    length = draw(st.integers(2, 40))
    first = draw(st.integers(0, 256 - length))
    positive = st.integers(1, most)
    inner = draw(st.lists(st.just(0) | positive, min_size=length - 2, max_size=length - 2))
    return ExplicitTable(first, (draw(positive), *inner, draw(positive)))


def laplace(scale: float, count: int, centre: float = 128, seed: int = 0) -> Symbols:
    values = np.rint(np.random.default_rng(seed).laplace(centre, scale, count))
    return np.clip(values, 0, 255).astype(np.uint8)


def gauss(scale: float, count: int, centre: float = 128, seed: int = 0) -> Symbols:
    values = np.rint(np.random.default_rng(seed).normal(centre, scale, count))
    return np.clip(values, 0, 255).astype(np.uint8)


def two_modes(count: int) -> Symbols:
    """What no frozen table fits."""
    return np.random.default_rng(5).choice(array([3, 4, 240]), count, p=[0.45, 0.1, 0.45])


def ideal_bits(symbols: Symbols, table: Table) -> float:
    """Length of the data by the table's probabilities, without the table."""
    alphabet, frequencies = spec_alphabet(table)
    bits = dict(zip(alphabet, 24 - np.log2(frequencies), strict=True))
    return sum(bits[symbol] for symbol in symbols.ravel().tolist())


def total_bits(symbols: Symbols, table: Table) -> float:
    return ideal_bits(symbols, table) + 8 * len(table.to_bytes())


SAMPLES = {
    "narrow": laplace(0.3, 4000),
    "medium": laplace(6, 4000, centre=90),
    "wide": gauss(50, 4000),
    "off centre": gauss(9, 4000, centre=20),
    "two modes": two_modes(4000),
    "short": laplace(6, 40),
    "pair": array([7, 9]),
    "rare": array([5] * 3999 + [200]),
    "uniform": np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8),
}
SAMPLE = pytest.mark.parametrize("name", SAMPLES)


# --- the coder ----------------------------------------------------------------------------------


@given(st.lists(parts(), max_size=4))
def test_words_are_those_of_the_spec_and_come_back(coded: list[tuple[Symbols, Table]]) -> None:
    words = encode(coded)
    assert words.dtype == np.uint32
    assert words.tolist() == spec_encode(coded)
    expected = [symbols.tolist() for symbols, _ in coded]
    asked = [(symbols.size, table) for symbols, table in coded]
    assert [s.tolist() for s in decode(words, asked)] == expected
    assert spec_decode(words.tolist(), asked) == expected


@pytest.mark.parametrize("table", range(64))
def test_every_frozen_table_codes_every_symbol(table: int) -> None:
    symbols = np.random.default_rng(table).permutation(256).astype(np.uint8)
    part = (symbols, FrozenTable(table, 4 * table))
    words = encode([part])
    assert words.tolist() == spec_encode([part])
    assert decode(words, [(256, part[1])])[0].tolist() == symbols.tolist()


def test_extreme_probabilities_are_exact() -> None:
    """Frequencies 1 and 2**24 - 1, and the widest alphabet of equal ones."""
    skewed = ExplicitTable(0, (1, 2**24 - 1))
    assert skewed.frequencies().tolist() == [1, 2**24 - 1]
    symbols = array([1] * 50 + [0, 1, 0, 0] + [1] * 50)
    flat = ExplicitTable(0, (1,) * 256)
    assert set(flat.frequencies().tolist()) == {2**16}
    coded: list[tuple[Symbols, Table]] = [(symbols, skewed), (symbols, flat)]
    words = encode(coded)
    assert words.tolist() == spec_encode(coded)
    first, second = decode(words, [(symbols.size, skewed), (symbols.size, flat)])
    assert first.tolist() == second.tolist() == symbols.tolist()


def test_shapes_are_flattened_in_row_major_order() -> None:
    symbols = SAMPLES["medium"][:60]
    table = choose_table(symbols, 90)
    cube = np.asfortranarray(symbols.reshape(3, 4, 5))
    assert encode([(cube, table)]).tolist() == encode([(symbols, table)]).tolist()


def test_a_skewed_table_codes_far_below_a_bit() -> None:
    symbols = np.zeros(100_000, dtype=np.uint8)
    table = ExplicitTable(0, (2**24 - 1, 1))
    words = encode([(symbols, table)])
    assert words.size <= 2
    assert not decode(words, [(symbols.size, table)])[0].any()


@SAMPLE
def test_the_coded_size_is_within_a_percent_of_the_ideal(name: str) -> None:
    symbols = SAMPLES[name]
    table = choose_table(symbols, 128)
    bits = 32 * encode([(symbols, table)]).size
    ideal = ideal_bits(symbols, table)
    # The last words hold what is left of the state: two words more or less.
    assert ideal - 64 <= bits <= 1.01 * ideal + 64


def test_nothing_is_coded_in_no_words() -> None:
    assert encode([]).size == 0
    assert decode(np.empty(0, np.uint32), []) == []


# --- damaged words ------------------------------------------------------------------------------


def test_words_left_over_are_refused() -> None:
    symbols = SAMPLES["medium"][:500]
    table = choose_table(symbols, 90)
    words = encode([(symbols, table)])
    for wrong in (
        np.append(words, np.uint32(7)),
        np.insert(words, 0, np.uint32(7)),
        np.insert(words, 0, np.uint32(0)),
        np.concatenate([words, words]),
    ):
        with pytest.raises(BitstreamError, match="last symbol"):
            decode(wrong, [(symbols.size, table)])
    for count in (0, 1, symbols.size // 2, symbols.size - 1):
        with pytest.raises(BitstreamError, match="last symbol"):
            decode(words, [(count, table)])


def test_missing_words_give_other_symbols_or_an_error() -> None:
    """A state that runs out of words sinks to 0: the final state alone does not show it."""
    symbols = SAMPLES["medium"][:500]
    table = choose_table(symbols, 90)
    words = encode([(symbols, table)])
    for start in range(1, words.size + 1):
        assert_as_the_spec(words[start:], [(symbols.size, table)], symbols)
        assert_as_the_spec(words[:-start], [(symbols.size, table)], symbols)


def assert_as_the_spec(
    words: npt.NDArray[np.uint32], asked: list[tuple[int, Table]], original: Symbols | None = None
) -> None:
    """``decode`` refuses what section 6.3 refuses, and decodes all else alike."""
    try:
        expected = spec_decode(words.tolist(), asked)
    except AssertionError:
        with pytest.raises(BitstreamError):
            decode(words, asked)
        return
    assert [s.tolist() for s in decode(words, asked)] == expected
    assert original is None or expected != [original.tolist()]


def test_a_zero_word_on_top_is_refused() -> None:
    for words in ([0], [5, 0], [0, 0]):
        with pytest.raises(BitstreamError, match="zero word"):
            decode(np.array(words, np.uint32), [(3, FrozenTable(9, 0))])


def test_words_without_symbols_are_refused() -> None:
    with pytest.raises(BitstreamError, match="last symbol"):
        decode(np.array([1], np.uint32), [])


@given(st.lists(st.integers(0, 2**32 - 1), max_size=8), st.lists(parts(), max_size=3))
def test_garbage_is_refused_or_decoded_as_the_spec_says(
    values: list[int], shapes: list[tuple[Symbols, Table]]
) -> None:
    asked = [(symbols.size, table) for symbols, table in shapes]
    assert_as_the_spec(np.array(values, dtype=np.uint32), asked)


# --- explicit tables ----------------------------------------------------------------------------


@given(explicit_tables())
def test_explicit_tables_come_back(table: ExplicitTable) -> None:
    data = table.to_bytes()
    reader = ByteReader(data + b"\xff\xff", "TABLE")
    assert ExplicitTable.read(reader) == table
    assert reader.remaining == 2
    used, frequencies, length = spec_explicit(data)
    assert used == table.used().tolist()
    assert frequencies == table.frequencies().tolist()
    assert length == len(data)
    assert sum(frequencies) == 2**24
    assert min(frequencies) >= 1


@given(explicit_tables(most=2**9))
@settings(max_examples=20)
def test_explicit_tables_have_the_cheapest_order(table: ExplicitTable) -> None:
    lengths = [
        sum(2 * (weight + 2**order).bit_length() - 1 - order for weight in table.weights)
        for order in range(24)
    ]
    assert len(table.to_bytes()) == 3 + -(-min(lengths) // 8)


def test_what_is_missing_goes_to_the_first_of_the_largest_weights() -> None:
    assert ExplicitTable(9, (1, 0, 1, 1)).frequencies().tolist() == [5592406, 5592405, 5592405]


def read_table(data: bytes) -> ExplicitTable:
    return ExplicitTable.read(ByteReader(data, "TABLE"))


def bits(first: int, last: int, order: int, text: str) -> bytes:
    """A table whose weights are written as a string of bits, padded with zeros."""
    text = text.replace(" ", "")
    text += "0" * (-len(text) % 8)
    return bytes([first, last, order]) + int(text, 2).to_bytes(len(text) // 8, "big")


def test_an_explicit_table_written_by_hand() -> None:
    assert read_table(bits(5, 7, 0, "010 1 011")) == ExplicitTable(5, (1, 0, 2))
    assert read_table(bits(0, 1, 2, "101 01000")) == ExplicitTable(0, (1, 4))
    largest = "0" + "1" + format(2**24 - 1 - 2**23, "024b")
    assert read_table(bits(0, 1, 23, largest + "1" + format(1, "023b"))) == ExplicitTable(
        0, (2**24 - 1, 1)
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (bits(255, 255, 0, "010 010"), "last symbol"),
        (bits(255, 0, 0, "010 010"), "last symbol"),
        (bits(7, 7, 0, "010"), "last symbol"),
        (bits(7, 6, 0, "010"), "last symbol"),
        (bits(0, 1, 24, "1" * 60), "Golomb order"),
        (bits(0, 1, 255, "1" * 60), "Golomb order"),
        (bits(0, 1, 0, "1 010"), "unused symbol"),
        (bits(0, 1, 0, "010 1"), "unused symbol"),
        (bits(0, 2, 0, "1 010 1"), "unused symbol"),
        (bits(0, 1, 0, "010 010 01"), "padding"),
        (bits(0, 1, 0, "010 010 10"), "padding"),
        (bits(0, 1, 0, "0" * 25 + "1" * 40), "too large"),
        (bits(0, 1, 23, "00" + "1" * 60), "too large"),
        (bits(0, 1, 0, "0" * 400), "too large"),
        (bits(0, 1, 23, ("01" + "0" * 23 + "1") * 2), "sum to more"),
    ],
)
def test_hostile_explicit_tables_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(BitstreamError, match=complaint):
        read_table(data)


def test_the_weights_sum_to_exactly_the_limit_or_less() -> None:
    fits = ExplicitTable(0, (2**24 - 2, 1, 1))
    assert read_table(fits.to_bytes()) == fits
    with pytest.raises(BitstreamError, match="sum to more"):
        read_table(ExplicitTable(0, (2**24 - 2, 1, 2)).to_bytes())


@given(explicit_tables())
@settings(max_examples=20)
def test_cut_explicit_tables_are_refused(table: ExplicitTable) -> None:
    data = table.to_bytes()
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            read_table(data[:length])


@given(explicit_tables(), st.integers(0), st.binary(max_size=8))
def test_a_damaged_explicit_table_is_refused_or_usable(
    table: ExplicitTable, bit: int, tail: bytes
) -> None:
    data = bytearray(table.to_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    try:
        read = read_table(bytes(data) + tail)
    except BitstreamError:
        return
    frequencies = read.frequencies()
    assert frequencies.sum() == 2**24
    assert frequencies.min() >= 1
    symbols = np.repeat(read.used(), 2)
    assert decode(encode([(symbols, read)]), [(symbols.size, read)])[0].tolist() == list(symbols)


# --- the choice ---------------------------------------------------------------------------------


@SAMPLE
@pytest.mark.parametrize("zero", [0, 90, 255])
def test_no_frozen_and_no_plain_explicit_table_is_cheaper(name: str, zero: int) -> None:
    symbols = SAMPLES[name]
    chosen = total_bits(symbols, choose_table(symbols, zero))
    counts = np.bincount(symbols, minlength=256)
    shifts = np.roll(24 - np.log2(all_tables()), zero - 128, axis=1)
    assert chosen <= (shifts @ counts).min() + 1e-6
    used = np.flatnonzero(counts)
    plain = ExplicitTable(int(used[0]), tuple(counts[used[0] : used[-1] + 1].tolist()))
    assert chosen <= total_bits(symbols, plain) + 1e-6


@pytest.mark.parametrize(
    ("symbols", "zero", "expected"),
    [
        (laplace(6, 300), 128, FrozenTable),
        (gauss(12, 300, centre=60), 60, FrozenTable),
        (two_modes(300), 128, ExplicitTable),
        (laplace(6, 4000), 0, ExplicitTable),
        (array([7, 9]), 8, FrozenTable),
    ],
)
def test_both_kinds_of_table_are_chosen(symbols: Symbols, zero: int, expected: type) -> None:
    assert isinstance(choose_table(symbols, zero), expected)


@pytest.mark.parametrize(("make", "family"), [(laplace, range(32)), (gauss, range(32, 64))])
def test_the_frozen_families_fit_what_they_are_named_for(make: Any, family: range) -> None:
    for scale in (2.0, 6.0, 20.0):
        symbols = make(scale, 20_000)
        counts = np.bincount(symbols, minlength=256)
        bits_of = (24 - np.log2(all_tables())) @ counts
        best = int(np.argmin(bits_of))
        assert best in family
        entropy = -(counts[counts > 0] * np.log2(counts[counts > 0] / symbols.size)).sum()
        assert bits_of[best] <= 1.01 * entropy


def test_chosen_tables_are_near_the_entropy() -> None:
    for name in ("medium", "wide", "two modes", "rare"):
        symbols = SAMPLES[name]
        counts = np.bincount(symbols)
        counts = counts[counts > 0]
        entropy = -(counts * np.log2(counts / symbols.size)).sum()
        assert total_bits(symbols, choose_table(symbols, 128)) <= 1.03 * entropy + 300


def test_weights_of_many_symbols_still_fit_their_sum() -> None:
    """More symbols than 2**24 force coarser weights."""
    symbols = np.zeros((1 << 24) + 10, dtype=np.uint8)
    symbols[::1000] = 200
    symbols[5] = 77
    table = choose_table(symbols, 0)
    assert isinstance(table, ExplicitTable)
    assert sum(table.weights) <= 2**24
    assert table.used().tolist() == [0, 77, 200]
