"""How a tensor's symbols are coded (spec sections 5.3 and 5.4): prediction, classes, tables.

The segment around it is in :mod:`nervcodec.bitstream.segment`, the coder in
:mod:`nervcodec.bitstream.entropy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream import entropy
from nervcodec.bitstream.activity import MOST_CLASSES, Activity, bit_lengths
from nervcodec.bitstream.entropy import Symbols
from nervcodec.bitstream.tables import CENTRE
from nervcodec.bitstream.tensors import FRAME_TENSORS, TensorSpec
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError

PER_CHANNEL = 0x80

MIN_SCALE_BITS = 87 << 7
MAX_SCALE_BITS = 147 << 7
"""Scales lie in 2**-40 .. 2**20: wider than any network needs, and far from float32's ends."""

NO_PREDICTION = 0

Scales = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class QuantizedTensor:
    """8-bit symbols with their zero point and scales.

    Attributes:
        spec: name and shape.
        symbols: uint8 array of the tensor's shape.
        zero: symbol that stands for 0.0.
        scales: upper 16 bits of each float32 scale, uint16 of shape (1,) or (channels,).
    """

    spec: TensorSpec
    symbols: Symbols
    zero: int
    scales: Scales

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Values (symbol - zero) * scale; every product is exact in float32 (16 bits)."""
        scales = scale_values(self.scales)
        if scales.size > 1:
            axis = self.spec.channel_axis
            shape = [-1 if index == axis else 1 for index in range(self.symbols.ndim)]
            scales = scales.reshape(shape)
        return (self.symbols.astype(np.float32) - np.float32(self.zero)) * scales


def scale_values(bits: Scales) -> npt.NDArray[np.float32]:
    """float32 values whose upper 16 bits are ``bits`` and whose lower 16 bits are 0."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class SymbolClass:
    """What a class of symbols is coded with: a table, or for None the symbol that all are."""

    table: entropy.Table | None
    constant: int = CENTRE

    @property
    def code(self) -> int:
        return entropy.CONSTANT if self.table is None else self.table.code

    def to_bytes(self) -> bytes:
        """What follows the coding."""
        return bytes([self.constant]) if self.table is None else self.table.to_bytes()

    @classmethod
    def read(cls, reader: ByteReader, code: int, zero: int) -> SymbolClass:
        if code == entropy.CONSTANT:
            return cls(None, reader.u8())
        if code == entropy.EXPLICIT:
            return cls(entropy.ExplicitTable.read(reader))
        return cls(entropy.FrozenTable(code, zero))


@dataclass(frozen=True)
class TensorCoding:
    """The head of a tensor.

    Attributes:
        prediction: 0 where symbols are coded as they are; else embeddings are coded as changes
            from frame to frame, in so many classes.
        classes: one, or as many as there are.
    """

    spec: TensorSpec
    zero: int
    scales: Scales
    prediction: int
    classes: tuple[SymbolClass, ...]

    def to_bytes(self) -> bytes:
        first, *others = self.classes
        head = bytes([self.prediction] if self.spec.name in FRAME_TENSORS else [])
        flag = PER_CHANNEL if self.scales.size > 1 else 0
        head += bytes([first.code | flag, self.zero]) + self.scales.astype("<u2").tobytes()
        more = b"".join(bytes([each.code]) + each.to_bytes() for each in others)
        return head + first.to_bytes() + more

    @classmethod
    def read(cls, reader: ByteReader, spec: TensorSpec) -> TensorCoding:
        """Parse and check the head of a tensor from the reader's position on."""
        prediction = NO_PREDICTION
        if spec.name in FRAME_TENSORS:
            prediction = reader.bounded_u8(NO_PREDICTION, MOST_CLASSES, "prediction")
        byte = reader.u8()
        code = reader.check(byte & ~PER_CHANNEL, 0, entropy.CONSTANT, f"coding of {spec.name}")
        zero = reader.u8()
        scales = _read_scales(reader, spec, bool(byte & PER_CHANNEL))
        centre = zero if prediction == NO_PREDICTION else CENTRE
        classes: list[SymbolClass] = []
        while True:
            if spec.size < 2 and code != entropy.CONSTANT:
                raise BitstreamError(
                    f"SEGM: {spec.name} has one value but is not coded as constant"
                )
            classes.append(SymbolClass.read(reader, code, centre))
            if len(classes) >= prediction:
                break
            code = reader.bounded_u8(0, entropy.CONSTANT, f"coding of a class of {spec.name}")
        return cls(spec, zero, scales, prediction, tuple(classes))

    @cached_property
    def table_bytes(self) -> int:
        """What explicit tables take."""
        return sum(len(each.to_bytes()) for each in self.classes if each.table is not None)

    def parts(self, symbols: Symbols) -> Iterator[tuple[Symbols, entropy.Table]]:
        """What is coded of the tensor's symbols, in order, and with what."""
        coded = symbols if self.prediction == NO_PREDICTION else changes_of(symbols, self.zero)
        if len(self.classes) == 1:
            if self.classes[0].table is not None:
                yield coded.ravel(), self.classes[0].table
            return
        numbers = np.minimum(bit_lengths(coded), len(self.classes) - 1)
        for frame, own in zip(coded, numbers, strict=True):
            for number in np.unique(own):
                table = self.classes[number].table
                if table is not None:
                    yield frame[own == number], table

    def decode(self, decoder: entropy.SymbolDecoder) -> QuantizedTensor:
        """The tensor, its symbols being the next ones of ``decoder``."""
        symbols = self._coded(decoder)
        if self.prediction != NO_PREDICTION:
            symbols = summed(symbols, self.zero)
        return QuantizedTensor(self.spec, symbols, self.zero, self.scales)

    def _coded(self, decoder: entropy.SymbolDecoder) -> Symbols:
        shape, coded = self.spec.shape, np.empty(self.spec.shape, dtype=np.uint8)
        if len(self.classes) == 1:
            return _next_symbols(decoder, self.classes[0], self.spec.size).reshape(shape)
        activity = Activity(shape[1:])
        for frame in coded:
            own = np.minimum(activity.lengths(), len(self.classes) - 1)
            for number in np.unique(own):
                places = own == number
                count = int(np.count_nonzero(places))
                frame[places] = _next_symbols(decoder, self.classes[number], count)
            activity.follow(frame)
        return coded


def _next_symbols(decoder: entropy.SymbolDecoder, coded: SymbolClass, count: int) -> Symbols:
    if coded.table is None:
        return np.full(count, coded.constant, dtype=np.uint8)
    return decoder.symbols(count, coded.table)


def choose_coding(tensor: QuantizedTensor) -> TensorCoding:
    """The coding of a tensor that takes the fewest bits."""
    symbols, zero = tensor.symbols, tensor.zero
    whole, least = _best_class(symbols, zero)
    prediction = NO_PREDICTION
    classes: tuple[SymbolClass, ...] = (whole,)
    if tensor.spec.name in FRAME_TENSORS:
        changes = changes_of(symbols, zero)
        for candidate, bits in class_candidates(changes, bit_lengths(changes)):
            if bits < least:
                prediction, classes, least = len(candidate), candidate, bits
    return TensorCoding(tensor.spec, zero, tensor.scales, prediction, classes)


def class_candidates(
    changes: Symbols, lengths: Symbols
) -> Iterator[tuple[tuple[SymbolClass, ...], float]]:
    """One class, two, and so on: the last has all activities that the others have not."""
    before: tuple[SymbolClass, ...] = ()
    spent = 0.0
    for number in range(int(lengths.max()) + 1):
        last, bits = _best_class(changes[lengths >= number], CENTRE)
        yield (*before, last), spent + bits
        own, bits = _best_class(changes[lengths == number], CENTRE)
        before, spent = (*before, own), spent + bits


def _best_class(symbols: Symbols, zero: int) -> tuple[SymbolClass, float]:
    """What codes the symbols in the fewest bits, and how many those are with its coding."""
    if not symbols.size or symbols.min() == symbols.max():
        return SymbolClass(None, int(symbols.flat[0]) if symbols.size else CENTRE), 16
    table, bits = entropy.choose(symbols, zero)
    return SymbolClass(table), 8 + bits


def changes_of(symbols: Symbols, zero: int) -> Symbols:
    """Each frame's symbols less those of the frame before, modulo 256, with 128 for no change.

    The first frame's are less the zero point.
    """
    before = np.full_like(symbols[:1], zero)
    return np.diff(symbols, axis=0, prepend=before) + np.uint8(CENTRE)


def summed(changes: Symbols, zero: int) -> Symbols:
    """The inverse of :func:`changes_of`."""
    steps = changes - np.uint8(CENTRE)
    steps[0] += np.uint8(zero)
    return np.cumsum(steps, axis=0, dtype=np.uint8)


def _read_scales(reader: ByteReader, spec: TensorSpec, per_channel: bool) -> Scales:
    count = 1
    if per_channel:
        if spec.channel_axis is None or spec.shape[spec.channel_axis] < 2:
            raise BitstreamError(f"SEGM: {spec.name} cannot have a scale for each channel")
        count = spec.shape[spec.channel_axis]
    scales = np.frombuffer(reader.take(2 * count), dtype="<u2").astype(np.uint16)
    if scales.min() < MIN_SCALE_BITS or scales.max() > MAX_SCALE_BITS:
        raise BitstreamError(f"SEGM: a scale of {spec.name} is out of range")
    return scales
