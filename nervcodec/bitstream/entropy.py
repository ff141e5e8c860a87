"""Symbols to words and back (spec section 6): frequency tables and constriction's ANS coder.

Only integers decide what is coded: tables are exact, so a file decodes alike on every machine.
The frozen tables are in :mod:`nervcodec.bitstream.tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import constriction
import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.tables import ALPHABET, CENTRE, PRECISION, TOTAL, all_tables, frozen_table
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError

Symbols = npt.NDArray[np.uint8]
Frequencies = npt.NDArray[np.int64]

EXPLICIT = 64
CONSTANT = 65
MAX_GOLOMB_ORDER = 23
MAX_TABLE_SHIFT = 12
"""How far the encoder tries to coarsen an explicit table's weights."""
BLOCK = 1 << 16
"""Symbols that are decoded at a time."""


@dataclass(frozen=True)
class FrozenTable:
    """One of the 64 frozen tables, centred on the tensor's zero point."""

    table: int
    zero: int

    @property
    def code(self) -> int:
        return self.table

    def frequencies(self) -> Frequencies:
        return frozen_table(self.table)

    def to_indices(self, symbols: Symbols) -> npt.NDArray[np.int32]:
        shifted = symbols.astype(np.int32) - self.zero + CENTRE
        return shifted % ALPHABET

    def to_symbols(self, indices: npt.NDArray[np.int32]) -> Symbols:
        return ((indices + self.zero - CENTRE) % ALPHABET).astype(np.uint8)

    def to_bytes(self) -> bytes:
        return b""


@dataclass(frozen=True)
class ExplicitTable:
    """Integer weights for the symbols ``first``, ``first`` + 1, ...; a weight of 0 is unused."""

    first: int
    weights: tuple[int, ...]

    code = EXPLICIT

    def used(self) -> Symbols:
        return (self.first + np.flatnonzero(self.weights)).astype(np.uint8)

    def frequencies(self) -> Frequencies:
        return _scaled(np.array([weight for weight in self.weights if weight], dtype=np.int64))

    def to_indices(self, symbols: Symbols) -> npt.NDArray[np.int32]:
        return np.searchsorted(self.used(), symbols).astype(np.int32)

    def to_symbols(self, indices: npt.NDArray[np.int32]) -> Symbols:
        return self.used()[indices]

    def to_bytes(self) -> bytes:
        order = int(np.argmin(_golomb_lengths(np.array(self.weights))))
        bits = "".join(
            "0" * ((w + (1 << order)).bit_length() - order - 1) + f"{w + (1 << order):b}"
            for w in self.weights
        )
        bits += "0" * (-len(bits) % 8)
        body = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return bytes([self.first, self.first + len(self.weights) - 1, order]) + body

    @classmethod
    def read(cls, reader: ByteReader) -> ExplicitTable:
        first = reader.u8()
        last = reader.bounded_u8(first + 1, ALPHABET - 1, "last symbol of a table")
        order = reader.bounded_u8(0, MAX_GOLOMB_ORDER, "Golomb order")
        bits = _BitReader(reader)
        weights = tuple(bits.golomb(order) for _ in range(last - first + 1))
        bits.finish()
        if not weights[0] or not weights[-1]:
            raise BitstreamError("an explicit table begins or ends with an unused symbol")
        if sum(weights) > TOTAL:
            raise BitstreamError(f"an explicit table's weights sum to more than {TOTAL}")
        return cls(first, weights)


Table = FrozenTable | ExplicitTable


class _BitReader:
    """Reads bits, most significant first, from whole bytes of ``reader``."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._bits = 0
        self._count = 0

    def bit(self) -> int:
        if self._count == 0:
            self._bits, self._count = self._reader.u8(), 8
        self._count -= 1
        return self._bits >> self._count & 1

    def golomb(self, order: int) -> int:
        """One exponential Golomb code; more than 24 bits of value are refused."""
        zeros = 0
        while not self.bit():
            zeros += 1
            if zeros + order > MAX_GOLOMB_ORDER + 1:
                raise BitstreamError("a weight of an explicit table is too large")
        value = 1
        for _ in range(zeros + order):
            value = value << 1 | self.bit()
        return value - (1 << order)

    def finish(self) -> None:
        """Require that the rest of the current byte is zero."""
        if self._bits & ((1 << self._count) - 1):
            raise BitstreamError("padding bits of an explicit table are set")


def choose_table(symbols: Symbols, zero: int) -> Table:
    """The table that codes ``symbols`` (two different values or more) in the fewest bytes."""
    return choose(symbols, zero)[0]


def coded_bits(symbols: Symbols, zero: int) -> float:
    """What ``symbols`` take with the table of :func:`choose_table`, the table included."""
    return choose(symbols, zero)[1] if symbols.min() < symbols.max() else 0.0


def choose(symbols: Symbols, zero: int) -> tuple[Table, float]:
    """:func:`choose_table` and :func:`coded_bits` at once."""
    counts = np.bincount(symbols.ravel(), minlength=ALPHABET)
    frozen_bits = _frozen_costs() @ np.roll(counts, CENTRE - zero)
    best = int(np.argmin(frozen_bits))
    if _least_explicit_bits(counts) < frozen_bits[best]:
        explicit, explicit_bits = _best_explicit(counts)
        if explicit_bits < frozen_bits[best]:
            return explicit, explicit_bits
    return FrozenTable(best, zero), float(frozen_bits[best])


@cache
def _frozen_costs() -> npt.NDArray[np.float64]:
    """Bits of each symbol by each frozen table."""
    costs: npt.NDArray[np.float64] = PRECISION - np.log2(all_tables())
    return costs


def _least_explicit_bits(counts: npt.NDArray[np.int64]) -> float:
    """No explicit table takes less: the entropy, three bytes, and a bit a weight."""
    used = np.flatnonzero(counts)
    shares = counts[used] / counts.sum()
    entropy = -float((counts[used] * np.log2(shares)).sum())
    return entropy + 24 + float(used[-1] - used[0] + 1)


def _best_explicit(counts: npt.NDArray[np.int64]) -> tuple[ExplicitTable, float]:
    """The explicit table, its weights coarsened as far as pays, and its bits with the data's."""
    used = np.flatnonzero(counts)
    inner = counts[used[0] : used[-1] + 1]
    least = max(0, int(inner.sum() - 1).bit_length() - PRECISION)
    shifts = np.arange(least, least + MAX_TABLE_SHIFT)[:, None]
    weights = np.where(inner > 0, np.maximum(1, (inner + (1 << shifts >> 1)) >> shifts), 0)
    weights = weights[weights.sum(axis=1) <= TOTAL]
    costs = PRECISION - np.log2(_scaled(weights[:, inner > 0]))
    sizes = 3 + -(-_golomb_lengths(weights).min(axis=0) // 8)
    bits = costs @ inner[inner > 0] + 8 * sizes
    best = int(np.argmin(bits))
    return ExplicitTable(int(used[0]), tuple(weights[best].tolist())), float(bits[best])


def _scaled(weights: Frequencies) -> Frequencies:
    """Tables (..., n) of weights that are not 0; the first of the largest takes what is left."""
    frequencies: Frequencies = weights * TOTAL // weights.sum(axis=-1, keepdims=True)
    largest = np.argmax(weights, axis=-1)[..., None]
    rest = TOTAL - frequencies.sum(axis=-1, keepdims=True)
    own = np.take_along_axis(frequencies, largest, axis=-1)
    np.put_along_axis(frequencies, largest, own + rest, axis=-1)
    return frequencies


def _golomb_lengths(weights: Frequencies) -> npt.NDArray[np.int64]:
    """Bits of all ``weights`` (..., n) in exponential Golomb codes of each order, (orders, ...)."""
    orders = np.arange(MAX_GOLOMB_ORDER + 1).reshape(-1, *[1] * weights.ndim)
    exponents = np.frexp(weights + (1 << orders))[1]
    lengths: npt.NDArray[np.int64] = (2 * exponents - orders - 1).sum(axis=-1)
    return lengths


@lru_cache(maxsize=64)
def _model(table: Table) -> constriction.stream.model.Categorical:
    """The coder's model: with integer weights summing to 2**24 - n its arithmetic is exact."""
    weights = (table.frequencies() - 1).astype(np.float64)
    return constriction.stream.model.Categorical(weights, perfect=False, lazy=False)


def encode(parts: Sequence[tuple[Symbols, Table]]) -> npt.NDArray[np.uint32]:
    """Code several tensors' symbols into one run of 32-bit words."""
    coder = constriction.stream.stack.AnsCoder()
    for symbols, table in reversed(parts):
        coder.encode_reverse(table.to_indices(symbols.ravel()), _model(table))
    return np.asarray(coder.get_compressed(), dtype=np.uint32)


def estimated_bits(symbols: Symbols, table: Table) -> float:
    """What the coder spends on ``symbols`` by the probabilities of ``table``."""
    counts = np.bincount(table.to_indices(symbols.ravel()), minlength=table.frequencies().size)
    return float((counts * (np.log2(TOTAL) - np.log2(table.frequencies()))).sum())


class SymbolDecoder:
    """Decodes the symbols of one run of words, those of one table after those of another.

    The caller bounds their counts.
    """

    def __init__(self, words: npt.NDArray[np.uint32]) -> None:
        if words.size and words[-1] == 0:
            raise BitstreamError("the coded data ends with a zero word")
        self._coder = constriction.stream.stack.AnsCoder(words)

    def symbols(self, count: int, table: Table) -> Symbols:
        """The next ``count`` symbols, in blocks: an index takes 4 bytes and its arithmetic more."""
        model = _model(table)
        symbols: Symbols = np.empty(count, dtype=np.uint8)
        for start in range(0, count, BLOCK):
            block = symbols[start : start + BLOCK]
            block[:] = table.to_symbols(self._coder.decode(model, block.size))
        return symbols

    def finish(self) -> None:
        """Require that the words end exactly with the last symbol.

        Raises:
            BitstreamError: if they do not.
        """
        if not self._coder.is_empty():
            raise BitstreamError("the coded data does not end with the last symbol")


def decode(words: npt.NDArray[np.uint32], parts: Sequence[tuple[int, Table]]) -> list[Symbols]:
    """Decode ``count`` symbols for each (count, table), as :class:`SymbolDecoder` does.

    Raises:
        BitstreamError: if the words do not end exactly with the last symbol.
    """
    decoder = SymbolDecoder(words)
    result = [decoder.symbols(count, table) for count, table in parts]
    decoder.finish()
    return result
