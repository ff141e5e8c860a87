"""SEGM against spec sections 5.2 and 5.3: round trips, and files that ask for too much."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from format_helpers import (
    SMALL_LIMITS,
    assemble,
    chunk,
    head_bytes,
    leb,
    make_header,
    make_segment,
    model_specs,
    read_all,
    same_segment,
    tiny_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nervcodec.bitstream import entropy
from nervcodec.bitstream.activity import MOST_CLASSES, bit_lengths
from nervcodec.bitstream.coding import (
    QuantizedTensor,
    TensorCoding,
    changes_of,
    choose_coding,
    class_candidates,
    scale_values,
    summed,
)
from nervcodec.bitstream.segment import (
    Segment,
    SegmentHead,
    decode_segment,
    encode_segment,
    read_segment_head,
)
from nervcodec.bitstream.syntax import Attention, HfscmSpec, ModelSpec, StageSpec
from nervcodec.bitstream.tensors import (
    Limits,
    TensorSpec,
    activation_bytes,
    macs_per_frame,
    parameter_count,
    tensor_specs,
)
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError, UnsupportedError

HEADER = make_header()
ONE = 0x3F80
"""Upper half of the float32 1.0."""


# --- round trips --------------------------------------------------------------------------------


@cache
def coded_tiny(seed: int, frames: int) -> tuple[Segment, bytes, int]:
    """A segment, its payload, and how many bytes of that are words."""
    segment = make_segment(tiny_model(), HEADER, 0, frames, seed)
    payload, size = encode_segment(segment)
    return segment, payload, size.words


@given(model_specs(), st.integers(1, 13), st.integers(1, 13), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=20)
def test_segments_come_back(
    model: ModelSpec, width: int, height: int, frames: int, seed: int
) -> None:
    header = make_header(width=width, height=height)
    segment = make_segment(model, header, 1, frames, seed, first_frame=2)
    payload, size = encode_segment(segment)
    assert size.headers + size.tables + size.words == len(payload)
    assert read_segment_head(payload, header) == SegmentHead(1, 2, frames, model)
    assert same_segment(decode_segment(payload, header, Limits()), segment)


def test_the_payload_is_the_same_every_time() -> None:
    first, second = (encode_segment(make_segment(tiny_model(), HEADER))[0] for _ in range(2))
    assert first == second


def test_symbols_crc_covers_constant_tensors_too() -> None:
    segment = coded_tiny(0, 1)[0]
    joined = b"".join(tensor.symbols.tobytes() for tensor in segment.tensors)
    assert segment.symbols_crc() == zlib.crc32(joined)


# --- a payload by hand: one stage of stride 2 on a 4 x 2 frame ----------------------------------

HAND_MODEL = bytes([1, 0, 1, 2, 1, 2, 3, 2, 1])
"""Stage (2, 1, 2 channels), 3 embedding channels, 2 stem channels, head kernel 1."""
HAND_HEADER = make_header(width=4, height=2, frames=2, segments=1)
HAND_TENSORS = (
    ("embedding", (2, 3, 1, 2)),
    ("stem.weight", (2, 3, 1, 1)),
    ("stem.bias", (2,)),
    ("stages.0.conv.weight", (8, 2, 1, 1)),
    ("stages.0.conv.bias", (8,)),
    ("head.weight", (3, 2, 1, 1)),
    ("head.bias", (3,)),
)


def constant(symbol: int, *scales: int, zero: int = 0) -> bytes:
    """Head of a constant tensor."""
    coding = 65 | (0x80 if len(scales) > 1 else 0)
    return bytes([coding, zero]) + u16(*(scales or (ONE,))) + bytes([symbol])


def u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


def hand_payload(
    heads: dict[int, bytes] | None = None,
    words: bytes | None = None,
    *,
    symbols: dict[int, bytes] | None = None,
    index: bytes = b"\x00",
    first: bytes = b"\x00",
    frames: bytes = b"\x02",
    prediction: bytes = b"\x00",
) -> bytes:
    """All tensors constant but those in ``heads``; ``words`` follow their own count.

    ``symbols`` are those of the tensors in ``heads``, for the checksum.
    """
    crc, tensors = 0, []
    for i, (_, shape) in enumerate(HAND_TENSORS):
        tensors += [prediction if i == 0 else b"", (heads or {}).get(i, constant(10 + i))]
        crc = zlib.crc32((symbols or {}).get(i, bytes([10 + i]) * prod(shape)), crc)
    head = index + first + frames + HAND_MODEL + crc.to_bytes(4, "little")
    return head + b"".join(tensors) + (b"\x00" if words is None else words)


def decode_hand(payload: bytes) -> Segment:
    return decode_segment(payload, HAND_HEADER, Limits())


def test_a_payload_written_by_hand() -> None:
    scales = (0x4000, 0x4080, 0x2B80)
    heads = {0: constant(7, *scales, zero=5), 2: constant(9, 0x4980, zero=255)}
    payload = hand_payload(heads, symbols={0: b"\x07" * 12, 2: b"\x09" * 2})
    segment = decode_hand(payload)
    assert (segment.index, segment.first_frame, segment.frames) == (0, 0, 2)
    assert [(t.spec.name, t.spec.shape) for t in segment.tensors] == list(HAND_TENSORS)
    values = [tensor.dequantize() for tensor in segment.tensors]
    expected = np.array([4.0, 8.0, 2.0**-39], dtype=np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(values[0], np.broadcast_to(expected, (2, 3, 1, 2)))
    assert values[2].tolist() == [(9 - 255) * 2.0**20] * 2
    assert all((v == 10 + i).all() for i, v in enumerate(values) if i not in (0, 2))
    assert encode_segment(segment)[0] == payload


def test_a_predicted_embedding_by_hand() -> None:
    """Changes of +1, -3 and 0 from 250, which go round from 255 to 0; a constant one."""
    frozen = entropy.FrozenTable(20, 128)
    coded = np.array([129] * 6 + [125, 128, 140, 127, 128, 129], dtype=np.uint8)
    words = entropy.encode([(coded, frozen)])
    data = leb(words.size) + words.astype("<u4").tobytes()
    values = bytes([251] * 6 + [248, 251, 7, 250, 251, 252])
    heads = {0: bytes([20, 250]) + u16(ONE)}
    payload = hand_payload(heads, data, symbols={0: values}, prediction=b"\x01")
    embedding = decode_hand(payload).tensors[0]
    assert embedding.symbols.ravel().tolist() == list(values)
    assert embedding.dequantize().ravel().tolist()[:7] == [1.0] * 6 + [-2.0]
    heads, values = {0: constant(130, zero=3)}, bytes([5] * 6 + [7] * 6)
    payload = hand_payload(heads, symbols={0: values}, prediction=b"\x01")
    assert decode_hand(payload).tensors[0].symbols.ravel().tolist() == list(values)


def test_the_better_prediction_is_chosen() -> None:
    model = tiny_model()
    header = make_header(width=48, height=40, frames=30)
    segment = make_segment(model, header, 0, 30)
    embedding = segment.tensors[0]
    rng = np.random.default_rng(1)
    slow = rng.integers(0, 256, embedding.spec.shape[1:]) + np.arange(30)[:, None, None, None]
    fast = rng.integers(120, 136, embedding.spec.shape)
    sizes = []
    for symbols in (slow, fast):
        changed = replace(embedding, symbols=symbols.astype(np.uint8))
        changed = replace(segment, tensors=(changed, *segment.tensors[1:]))
        payload, size = encode_segment(changed)
        assert same_segment(decode_segment(payload, header, Limits()), changed)
        sizes.append(size.words)
    assert sizes[0] < sizes[1] - fast.size * 3 / 8  # 4 bits a value, against next to none


def test_other_predictions_are_refused() -> None:
    with pytest.raises(BitstreamError, match="prediction is 12"):
        decode_hand(hand_payload(prediction=b"\x0c"))


def test_classes_by_hand() -> None:
    """The second frame's changes are classed by those of the first, at (1, 3, 1, 2) places.

    Changes of +1, 0, 0, 0, -9 and 0 make activities of 16, 0, 0, 0, 112 and 0, and with what is
    around (16, 4), (0, 0) and (112, 28): 5 and 3, 0 and 0, 7 and 5 bits.
    """
    tables = entropy.FrozenTable(3, 128), entropy.FrozenTable(30, 128), entropy.FrozenTable(12, 128)
    first = np.array([129, 128, 128, 128, 119, 128], dtype=np.uint8)
    last = np.array([130, 131, 128, 128, 132, 133], dtype=np.uint8)
    order = [(first, tables[0]), (last[2:4], tables[0]), (last[[1]], tables[1])]
    words = entropy.encode([*order, (last[[0, 4, 5]], tables[2])])
    data = leb(words.size) + words.astype("<u4").tobytes()
    heads = {0: bytes([3, 100]) + u16(ONE) + bytes([65, 7, 65, 8, 30, 65, 9, 12])}
    values = bytes([101, 100, 100, 100, 91, 100, 103, 103, 100, 100, 95, 105])
    payload = hand_payload(heads, data, symbols={0: values}, prediction=b"\x06")
    assert decode_hand(payload).tensors[0].symbols.ravel().tolist() == list(values)


@given(
    hnp.arrays(np.uint8, st.tuples(*(st.integers(1, 5),) * 4), elements=st.integers(120, 136)),
    st.booleans(),
)
def test_embeddings_in_classes_come_back(changes: npt.NDArray[np.uint8], still: bool) -> None:
    """However few they are: the encoder's choice, and every number of classes."""
    symbols = summed(np.full_like(changes, 128) if still else changes, 100)
    spec = TensorSpec("embedding", symbols.shape)
    tensor = QuantizedTensor(spec, symbols, 100, np.array([ONE], np.uint16))
    chosen = choose_coding(tensor)
    lengths = bit_lengths(changes_of(symbols, 100))
    every = [classes for classes, _ in class_candidates(changes_of(symbols, 100), lengths)]
    for coding in (chosen, *(replace(chosen, prediction=len(c), classes=c) for c in every)):
        words = entropy.encode(list(coding.parts(symbols)))
        decoder = entropy.SymbolDecoder(words)
        read = TensorCoding.read(ByteReader(coding.to_bytes(), "test"), spec)
        assert read == coding or spec.size < 2
        np.testing.assert_array_equal(coding.decode(decoder).symbols, symbols)
        decoder.finish()


def test_classes_pay_where_some_places_change_more_than_others() -> None:
    rng = np.random.default_rng(1)
    spread = np.where(np.arange(20) < 10, 0.2, 5.0)
    steps = np.rint(rng.standard_normal((40, 2, 20, 20)) * spread).astype(np.int64)
    symbols = (128 + steps.cumsum(axis=0)).astype(np.uint8)
    spec = TensorSpec("embedding", symbols.shape)
    tensor = QuantizedTensor(spec, symbols, 128, np.array([ONE], np.uint16))
    coding = choose_coding(tensor)
    assert coding.prediction > 2
    bits = sum(entropy.estimated_bits(*part) for part in coding.parts(symbols))
    assert bits < 0.8 * entropy.coded_bits(changes_of(symbols, 128), 128)


def test_coded_tensors_by_hand() -> None:
    """A frozen table and an explicit one, their symbols in file order in one run of words."""
    frozen, explicit = entropy.FrozenTable(20, 8), entropy.ExplicitTable(6, (3, 0, 1))
    first, second = np.arange(12, dtype=np.uint8), np.array([6, 8] * 4, dtype=np.uint8)
    words = entropy.encode([(first, frozen), (second, explicit)])
    heads = {
        0: bytes([20, 8]) + u16(ONE),
        4: bytes([64, 0]) + u16(ONE) + explicit.to_bytes(),
    }
    symbols = {0: first.tobytes(), 4: second.tobytes()}
    data = leb(words.size) + words.astype("<u4").tobytes()
    payload = hand_payload(heads, data, symbols=symbols)
    segment = decode_hand(payload)
    assert segment.tensors[0].symbols.shape == (2, 3, 1, 2)
    assert segment.tensors[0].symbols.ravel().tolist() == first.tolist()
    assert segment.tensors[4].symbols.tolist() == second.tolist()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0x2B80, 0x4980))
def test_values_are_exact_in_float32(symbol: int, zero: int, bits: int) -> None:
    tensor = QuantizedTensor(
        TensorSpec("x", (1,)), np.array([symbol], np.uint8), zero, np.array([bits], np.uint16)
    )
    mantissa, exponent = 128 + bits % 128, (bits >> 7) - 127 - 7
    value = tensor.dequantize()
    assert value.dtype == np.float32
    assert float(value[0]) == (symbol - zero) * mantissa * 2.0**exponent


def test_each_channel_has_its_own_scale_on_the_right_axis() -> None:
    scales = np.array([0x3F80, 0x4000], dtype=np.uint16)
    for name, shape, axis in (("embedding", (3, 2, 1, 1), 1), ("a.weight", (2, 3, 1, 1), 0)):
        tensor = QuantizedTensor(TensorSpec(name, shape), np.ones(shape, np.uint8), 0, scales)
        values = np.moveaxis(tensor.dequantize(), axis, 0)
        assert (values[0] == 1).all()
        assert (values[1] == 2).all()


# --- malformed payloads -------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [66, 67, 100, 127, 66 | 0x80, 255])
def test_unknown_codings_are_refused(coding: int) -> None:
    with pytest.raises(BitstreamError, match=r"coding of stem\.weight"):
        decode_hand(hand_payload({1: bytes([coding, 0]) + u16(ONE, ONE) + b"\x00"}))


@pytest.mark.parametrize("bits", [0, 1, 0x2B7F, 0x4981, 0x7F80, 0x7FC0, 0x8000, 0xBF80, 0xFFFF])
def test_scales_out_of_range_are_refused(bits: int) -> None:
    """Zero, too small, too large, infinite, not a number, negative."""
    for head in (constant(1, bits), constant(1, ONE, bits)):
        with pytest.raises(BitstreamError, match=r"scale of stem\.weight"):
            decode_hand(hand_payload({1: head}))


@pytest.mark.parametrize("bits", [0x2B80, 0x4980])
def test_scales_at_their_limits_are_read(bits: int) -> None:
    segment = decode_hand(hand_payload({1: constant(1, bits)}, symbols={1: b"\x01" * 6}))
    assert segment.tensors[1].scales.tolist() == [bits]


@pytest.mark.parametrize("index", [2, 4, 6])
def test_biases_have_one_scale(index: int) -> None:
    with pytest.raises(BitstreamError, match="scale for each channel"):
        decode_hand(hand_payload({index: constant(1, ONE, ONE)}))


def test_a_single_channel_has_one_scale() -> None:
    model = ModelSpec((StageSpec(1, 1, 1, False),), 1, 1, 1)
    head = b"\x00\x00\x01" + model.to_bytes() + bytes(4) + b"\x00"
    with pytest.raises(BitstreamError, match="embedding cannot have a scale"):
        decode_segment(head + bytes([65 | 0x80, 0]) + u16(ONE) + b"\x00", HAND_HEADER, Limits())


@pytest.mark.parametrize("coding", [0, 63, 64])
def test_a_tensor_of_one_value_must_be_constant(coding: int) -> None:
    model = ModelSpec((StageSpec(1, 1, 1, False),), 1, 1, 1)
    # The stem's weight is 1 x 1 x 1 x 1.
    head = b"\x00\x00\x01" + model.to_bytes() + bytes(4) + b"\x00" + constant(1)
    with pytest.raises(BitstreamError, match=r"stem\.weight has one value"):
        decode_segment(head + bytes([coding, 0]) + u16(ONE) + bytes(40), HAND_HEADER, Limits())


@pytest.mark.parametrize(
    ("index", "first", "frames"),
    [
        (b"\x01", b"\x00", b"\x02"),
        (b"\x00", b"\x00", b"\x00"),
        (b"\x00", b"\x00", b"\x03"),
        (b"\x00", b"\x01", b"\x02"),
        (b"\x00", b"\x02", b"\x01"),
    ],
)
def test_place_is_bounded_by_head(index: bytes, first: bytes, frames: bytes) -> None:
    payload = hand_payload(index=index, first=first, frames=frames)
    with pytest.raises(BitstreamError, match="segment"):
        decode_hand(payload)
    with pytest.raises(BitstreamError, match="segment"):
        read_segment_head(payload, HAND_HEADER)


@pytest.mark.parametrize(
    "words",
    [
        b"\x00\x00",
        b"\x01",
        b"\x01" + bytes(3),
        b"\x01" + bytes([0, 0, 0, 1, 0]),
        b"\x02" + bytes([0, 0, 0, 1]),
        leb(2**40),
        leb(2**62),
        b"\x80\x00",
    ],
)
def test_the_number_of_words_must_be_exact(words: bytes) -> None:
    with pytest.raises(BitstreamError, match=r"words|varint"):
        decode_hand(hand_payload(words=words))


def test_words_that_code_nothing_are_refused() -> None:
    with pytest.raises(BitstreamError, match="last symbol"):
        decode_hand(hand_payload(words=b"\x01" + bytes([1, 0, 0, 0])))


def test_every_truncation_of_a_payload_is_refused() -> None:
    payload = coded_tiny(4, 2)[1]
    for length in range(len(payload)):
        with pytest.raises(BitstreamError):
            decode_segment(payload[:length], HEADER, Limits())


@given(st.binary(max_size=40), st.integers(0, 3))
def test_garbage_words_are_refused(words: bytes, seed: int) -> None:
    words += bytes(-len(words) % 4)
    _, payload, size = coded_tiny(seed, 1)
    assert size > 40
    head = payload[: len(payload) - size - len(leb(size // 4))]
    with pytest.raises(BitstreamError):
        decode_segment(head + leb(len(words) // 4) + words, HEADER, Limits())


def test_missing_and_damaged_words_are_refused() -> None:
    """What the final state of the coder lets pass, the symbols' checksum finds."""
    _, payload, size = coded_tiny(0, 1)
    count = size // 4
    head, words = payload[: len(payload) - size - len(leb(count))], payload[len(payload) - size :]
    for missing in range(1, count + 1):
        for rest in (words[4 * missing :], words[: size - 4 * missing]):
            with pytest.raises(BitstreamError):
                decode_segment(head + leb(count - missing) + rest, HEADER, Limits())
    for position in range(size):
        damaged = bytearray(words)
        damaged[position] ^= 0x10
        with pytest.raises(BitstreamError):
            decode_segment(head + leb(count) + damaged, HEADER, Limits())


def test_other_symbols_do_not_have_the_checksum_stated() -> None:
    for changed in ({0: constant(77)}, {6: constant(15)}):
        with pytest.raises(BitstreamError, match="checksum"):
            decode_hand(hand_payload(changed))


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=5))
@settings(max_examples=200)
def test_a_mutated_payload_raises_nothing_but_our_errors(
    seed: int, changes: list[tuple[int, int]]
) -> None:
    payload = bytearray(coded_tiny(seed, 2)[1])
    for position, value in changes:
        payload[position % len(payload)] = value
    try:
        segment = decode_segment(bytes(payload), HEADER, SMALL_LIMITS)
    except BitstreamError:
        return
    assert all(np.isfinite(tensor.dequantize()).all() for tensor in segment.tensors)


# --- limits, before anything is allocated -------------------------------------------------------


@contextmanager
def at_once(seconds: float = 1.0, memory: int = 1 << 20) -> Iterator[None]:
    """Fails where the block takes long or much memory (as numpy and Python see it)."""
    started = time.perf_counter()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory, f"{peak} bytes"
    assert time.perf_counter() - started < seconds


def file_with(model: ModelSpec, **fields: bytes) -> bytes:
    """A small, sound file whose one segment announces ``model``."""
    fields = {"frames": leb(1), "segments": leb(1)} | fields
    payload = b"\x00\x00" + fields["frames"] + model.to_bytes() + bytes(100)
    return assemble([(0x81, head_bytes(**fields)), (0x82, payload)])


HUGE = {
    "a network of 4 GB": (ModelSpec((StageSpec(2, 3, 10_000, False),) * 4, 16, 10_000), {}),
    "the largest network of all": (
        ModelSpec(
            (StageSpec(8, 15, 65536, True),) * 8,
            65536,
            65536,
            15,
            HfscmSpec(1, 15, Attention.DENSE, 4, 15),
            0,
        ),
        {"width": leb(32768), "height": leb(8192)},
    ),
    "embeddings of many frames": (
        ModelSpec((StageSpec(1, 1, 1, False),), 65536, 1, 1),
        {"frames": leb(2**24)},
    ),
    "a large embedding grid": (
        ModelSpec((StageSpec(1, 1, 1, False),), 9, 1, 1),
        {"width": leb(32768), "height": leb(8192)},
    ),
    "much work with few parameters": (
        ModelSpec((StageSpec(8, 15, 200, False), StageSpec(8, 15, 40, False)), 1, 40),
        {"width": leb(32768), "height": leb(8192)},
    ),
    "large maps with little work": (
        ModelSpec((StageSpec(8, 1, 3, False), StageSpec(8, 1, 9, False)), 1, 1, 1),
        {"width": leb(32768), "height": leb(8192)},
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_networks_are_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: Any) -> Any:
        raise AssertionError("symbols are decoded before the limits are checked")

    monkeypatch.setattr(entropy, "decode", too_late)
    model, fields = HUGE[name]
    data = file_with(model, **fields)
    assert len(data) < 300
    with at_once(), pytest.raises(UnsupportedError, match="the limit is"):
        read_all(data, Limits())


def test_every_limit_counts_by_itself() -> None:
    segment, payload, _ = coded_tiny(0, 2)
    exact = Limits(
        parameters=parameter_count(segment.model, 12, 10, 2),
        macs_per_frame=macs_per_frame(segment.model, 12, 10),
        activation_bytes=activation_bytes(segment.model, 12, 10),
    )
    assert same_segment(decode_segment(payload, HEADER, exact), segment)
    for less, what in (
        (replace(exact, parameters=exact.parameters - 1), "parameters"),
        (replace(exact, macs_per_frame=exact.macs_per_frame - 1), "multiplications"),
        (replace(exact, activation_bytes=exact.activation_bytes - 1), "activations"),
    ):
        with pytest.raises(UnsupportedError, match=what):
            decode_segment(payload, HEADER, less)


def test_the_number_of_scales_is_bounded_by_the_payload() -> None:
    model = ModelSpec((StageSpec(1, 1, 65536, False),), 1, 1, 1)
    payload = b"\x00\x00\x01" + model.to_bytes() + bytes(4) + b"\x00" + constant(1) * 3
    with at_once(), pytest.raises(BitstreamError, match="middle of a field"):
        decode_segment(payload + bytes([65 | 0x80, 0]) + u16(ONE), HAND_HEADER, Limits())


def test_a_constant_network_needs_no_words() -> None:
    """Limits, not the payload's length, bound what a file may ask for."""
    model = ModelSpec((StageSpec(2, 3, 100, False),), 8, 100)
    count = len(tensor_specs(model, 4, 2, 1))
    crc = zlib.crc32(b"\x03" * parameter_count(model, 4, 2, 1)).to_bytes(4, "little")
    payload = b"\x00\x00\x01" + model.to_bytes() + crc + b"\x00" + constant(3) * count + b"\x00"
    segment = decode_segment(payload, HAND_HEADER, Limits())
    assert sum(t.symbols.size for t in segment.tensors) == parameter_count(model, 4, 2, 1)
    with pytest.raises(UnsupportedError):
        decode_segment(payload, HAND_HEADER, Limits(parameters=1000))


def test_a_short_file_of_many_frames_is_refused_at_once(tmp_path: Any) -> None:
    from nervcodec.decoder import HfsvFile

    path = tmp_path / "frames.hfsv"
    model = ModelSpec((StageSpec(1, 1, 1, False),), 1, 1, 1)
    path.write_bytes(file_with(model, frames=leb(50_000), width=leb(1), height=leb(1)))
    with (
        HfsvFile(path, limits=Limits(parameters=1000)) as clip,
        at_once(),
        pytest.raises(UnsupportedError, match="parameters"),
    ):
        next(iter(clip))


def test_scale_values_are_upper_halves_of_float32() -> None:
    values = scale_values(np.array([0x3F80, 0x4049, 0x0D80], dtype=np.uint16))
    assert values.dtype == np.float32
    assert values.tolist() == [1.0, 3.140625, 2.0**-100]


def test_hand_made_files_are_read(tmp_path: Any) -> None:
    """What the tests above take apart is a file that the reader takes whole."""
    head = head_bytes(width=leb(4), height=leb(2), frames=leb(2), segments=leb(1))
    reader = read_all(assemble([(0x81, head), (0x40, b"private"), (0x82, hand_payload())]))
    assert reader.segment(0).tensors[6].symbols.tolist() == [16, 16, 16]
    assert reader.digests is None
    assert chunk(0x82, hand_payload())[0] == 0x82


def test_the_largest_changes_have_the_last_class() -> None:
    changes = np.full((60, 1, 3, 3), 255, dtype=np.uint8)
    assert bit_lengths(changes).max() == MOST_CLASSES - 1
