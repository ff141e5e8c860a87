"""Primitive fields of the format (spec section 2): fixed integers and minimal LEB128 varints.

The chunks built from them are in :mod:`nervcodec.bitstream.container`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nervcodec.errors import BitstreamError

MAX_VARINT_BYTES = 9
"""A varint holds at most 63 bits, so that every timestamp of FFmpeg's fits when zigzagged."""


def varint(value: int) -> bytes:
    """Minimal unsigned LEB128 of ``value``, which must be in [0, 2**63)."""
    assert 0 <= value < 1 << (7 * MAX_VARINT_BYTES), value
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """Zigzag varint: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


BLOCK_BYTES = 1 << 12
NARROW_BYTES = 5
"""Varints of so many bytes are read many at a time; nothing that occurs in numbers is longer."""


def signed_varints(data: bytes, count: int, name: str) -> Iterator[npt.NDArray[np.int64]]:
    """All of ``data`` as ``count`` zigzag varints of at most five bytes, in blocks.

    Raises:
        BitstreamError: if it is anything else.
    """
    raw, position = np.frombuffer(data, dtype=np.uint8), 0
    while count:
        block = raw[position : position + BLOCK_BYTES]
        ends = np.flatnonzero(block < 0x80)[:count]
        if not ends.size:
            raise BitstreamError(f"{name}: ends in the middle of a field")
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        if lengths.max() > NARROW_BYTES or (block[ends[lengths > 1]] == 0).any():
            raise BitstreamError(f"{name}: a varint is longer than it need be")
        values = np.zeros(ends.size, dtype=np.int64)
        for index in range(int(lengths.max())):
            longer = lengths > index
            values[longer] |= (block[starts[longer] + index] & 0x7F).astype(np.int64) << 7 * index
        yield (values >> 1) ^ -(values & 1)
        position += int(ends[-1]) + 1
        count -= ends.size
    if position != raw.size:
        raise BitstreamError(f"{name}: {raw.size - position} bytes too many")


class ByteReader:
    """Reads fields from ``data``; every read past the end raises :class:`BitstreamError`."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > self.remaining:
            raise BitstreamError(f"{self._name}: ends in the middle of a field")
        start = self._position
        self._position += count
        return self._data[start : self._position]

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def varint(self) -> int:
        value = 0
        for index in range(MAX_VARINT_BYTES):
            byte = self.u8()
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index > 0:
                    raise BitstreamError(f"{self._name}: a varint is longer than it need be")
                return value
        raise BitstreamError(f"{self._name}: a varint is longer than {MAX_VARINT_BYTES} bytes")

    def signed_varint(self) -> int:
        value = self.varint()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def bounded(self, low: int, high: int, field: str) -> int:
        """A varint that must be in [low, high]."""
        return self.check(self.varint(), low, high, field)

    def bounded_u8(self, low: int, high: int, field: str) -> int:
        """A byte that must be in [low, high]."""
        return self.check(self.u8(), low, high, field)

    def check(self, value: int, low: int, high: int, field: str) -> int:
        if not low <= value <= high:
            raise BitstreamError(f"{self._name}: {field} is {value}, not in {low}..{high}")
        return value

    def finish(self) -> None:
        """Require that all of the data has been read."""
        if self.remaining:
            raise BitstreamError(f"{self._name}: {self.remaining} bytes too many")
