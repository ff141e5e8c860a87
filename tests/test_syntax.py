"""HEAD and the model description against spec sections 4 and 5.1, field by field."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from format_helpers import (
    HEAD_VALUE,
    MODEL_VALUE,
    head_bytes,
    head_fields,
    leb,
    make_header,
    model_bytes,
    model_fields,
    model_specs,
    zigzag,
)
from hypothesis import given
from hypothesis import strategies as st

from nervcodec.bitstream.syntax import (
    Attention,
    HfscmSpec,
    ModelSpec,
    StageSpec,
    StreamHeader,
    TimeSpec,
    TransformerSpec,
)
from nervcodec.bitstream.wire import ByteReader
from nervcodec.errors import BitstreamError, UnsupportedError

TICKS = st.integers(1, 2**31 - 1)
BYTES = st.integers(0, 255)


@st.composite
def headers(draw: Any) -> StreamHeader:
    width = draw(st.integers(1, 32768))
    frames = draw(st.integers(1, 2**24))
    return StreamHeader(
        width=width,
        height=draw(st.integers(1, min(32768, 2**28 // width))),
        frames=frames,
        segments=draw(st.integers(1, min(frames, 2**20 - 2))),
        time_base=Fraction(draw(TICKS), draw(TICKS)),
        start_pts=draw(st.integers(-(2**62), 2**62 - 1)),
        frame_duration=draw(TICKS),
        sample_aspect_ratio=Fraction(draw(TICKS), draw(TICKS)),
        primaries=draw(BYTES),
        transfer=draw(BYTES),
        matrix=draw(st.sampled_from((1, 4, 5, 6, 7, 9))),
        full_range=draw(st.booleans()),
        rotation=draw(st.sampled_from((0, 90, 180, 270))),
    )


def parse_model(data: bytes) -> ModelSpec:
    reader = ByteReader(data, "MODEL")
    spec = ModelSpec.read(reader)
    reader.finish()
    return spec


# --- HEAD ---------------------------------------------------------------------------------------


def test_head_has_the_layout_of_the_spec() -> None:
    assert HEAD_VALUE.to_bytes() == head_bytes()
    assert StreamHeader.from_bytes(head_bytes()) == HEAD_VALUE


@given(headers())
def test_head_comes_back(header: StreamHeader) -> None:
    assert StreamHeader.from_bytes(header.to_bytes()) == header


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"flags": b"\x01"}, "flags"),
        ({"flags": b"\x80"}, "flags"),
        ({"width": leb(0)}, "width"),
        ({"width": leb(32769), "height": leb(1)}, "width"),
        ({"height": leb(0)}, "height"),
        ({"height": leb(32769), "width": leb(1)}, "height"),
        ({"width": leb(32768), "height": leb(8193)}, "width x height"),
        ({"frames": leb(0)}, "frames"),
        ({"frames": leb(2**24 + 1)}, "frames"),
        ({"segments": leb(0)}, "segments"),
        ({"segments": leb(6)}, "segments"),
        ({"time_base_numerator": leb(0)}, "time base"),
        ({"time_base_numerator": leb(2**31)}, "time base"),
        ({"time_base_denominator": leb(0)}, "time base"),
        ({"time_base_denominator": leb(2**31)}, "time base"),
        ({"time_base_numerator": leb(2)}, "time base 2/600 is not in lowest terms"),
        ({"frame_duration": leb(0)}, "duration"),
        ({"frame_duration": leb(2**31)}, "duration"),
        ({"aspect_numerator": leb(0)}, "aspect"),
        ({"aspect_numerator": leb(2**31)}, "aspect"),
        ({"aspect_denominator": leb(0)}, "aspect"),
        ({"aspect_denominator": leb(2**31)}, "aspect"),
        ({"aspect_numerator": leb(6)}, "aspect ratio 6/3 is not in lowest terms"),
        *(({"matrix": bytes([m])}, f"matrix {m} is not") for m in (0, 2, 3, 8, 10, 255)),
        ({"range": b"\x02"}, "range"),
        ({"rotation": b"\x04"}, "rotation"),
        ({"bit_depth": b"\x07"}, "bit depth"),
        *(({"bit_depth": bytes([d])}, "bit depth") for d in (0, 9, 11, 13, 16)),
    ],
)
def test_head_fields_out_of_range_are_refused(changes: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(BitstreamError, match=complaint) as caught:
        StreamHeader.from_bytes(head_bytes(**changes))
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"width": leb(32768), "height": leb(8192)}, "width", 32768),
        ({"width": leb(8192), "height": leb(32768)}, "height", 32768),
        ({"width": leb(1), "height": leb(1)}, "width", 1),
        ({"frames": leb(2**24)}, "frames", 2**24),
        ({"segments": leb(5)}, "segments", 5),
        ({"time_base_numerator": leb(2**31 - 1)}, "time_base", Fraction(2**31 - 1, 600)),
        ({"time_base_denominator": leb(2**31 - 1)}, "time_base", Fraction(1, 2**31 - 1)),
        ({"start": zigzag(-(2**62))}, "start_pts", -(2**62)),
        ({"start": zigzag(2**62 - 1)}, "start_pts", 2**62 - 1),
        ({"frame_duration": leb(2**31 - 1)}, "frame_duration", 2**31 - 1),
        ({"matrix": b"\x09"}, "matrix", 9),
        ({"range": b"\x00"}, "full_range", False),
        ({"rotation": b"\x01"}, "rotation", 90),
    ],
)
def test_head_fields_at_their_limits_are_read(
    changes: dict[str, bytes], field: str, value: object
) -> None:
    assert getattr(StreamHeader.from_bytes(head_bytes(**changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"major": b"\x01", "minor": b"\x00"}, r"version 1\.0.*later"),
        ({"major": b"\x01"}, r"version 1\.6"),
        ({"major": b"\xff"}, r"version 255\.6"),
        ({"minor": b"\x00"}, r"version 0\.0"),
        ({"minor": b"\x05"}, r"version 0\.5"),
        ({"minor": b"\x07"}, r"version 0\.7"),
        ({"profile": b"\x01"}, "profile 1"),
    ],
)
def test_other_versions_are_unsupported(changes: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(UnsupportedError, match=complaint):
        StreamHeader.from_bytes(head_bytes(**changes))


def test_a_later_version_is_named_whatever_follows_it() -> None:
    with pytest.raises(UnsupportedError, match=r"version 7\.3"):
        StreamHeader.from_bytes(b"\x07\x03" + bytes(3))


def test_cut_or_longer_heads_are_refused() -> None:
    data = head_bytes()
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            StreamHeader.from_bytes(data[:length])
    with pytest.raises(BitstreamError, match="1 bytes too many"):
        StreamHeader.from_bytes(data + b"\x00")


@pytest.mark.parametrize("field", [n for n, v in head_fields().items() if v != leb(v[0])])
def test_the_multi_byte_fields_of_head_are_minimal(field: str) -> None:
    value = head_fields()[field]
    longer = value[:-1] + bytes([value[-1] | 0x80, 0])
    with pytest.raises(BitstreamError, match="longer than it need be"):
        StreamHeader.from_bytes(head_bytes(**{field.replace(" ", "_"): longer}))


# --- model description --------------------------------------------------------------------------


def test_the_model_has_the_layout_of_the_spec() -> None:
    assert MODEL_VALUE.to_bytes() == model_bytes()
    assert parse_model(model_bytes()) == MODEL_VALUE


def test_a_plain_model_is_short() -> None:
    spec = ModelSpec((StageSpec(2, 3, 5, False),), embedding_channels=6, stem_channels=7)
    data = bytes([1, 0, 1, 2, 3, 5, 6, 7, 3])
    assert spec.to_bytes() == data
    assert parse_model(data) == spec
    assert not spec.has_hfscm


@given(model_specs(max_channels=65536, stages=8))
def test_models_come_back(spec: ModelSpec) -> None:
    assert parse_model(spec.to_bytes()) == spec


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"flags": b"\x06"}, "flags 6 switch a part of HFSCM"),
        ({"flags": b"\x09"}, "flags 9 switch a part of MSFRP"),
        ({"flags": b"\x43"}, "flags"),
        ({"flags": b"\x83"}, "flags"),
        ({"stages": b"\x00"}, "stages"),
        ({"stages": b"\x09"}, "stages"),
        ({"stride": b"\x00"}, "stride"),
        ({"second_stride": b"\x09"}, "stride"),
        ({"kernel": b"\x00"}, "kernel"),
        ({"kernel": b"\x02"}, "kernel 2 is even"),
        ({"second_kernel": b"\x11"}, "kernel"),
        ({"channels": leb(0)}, "channels"),
        ({"second_channels": leb(65537)}, "channels"),
        ({"embedding_channels": leb(0)}, "embedding channels"),
        ({"embedding_channels": leb(65537)}, "embedding channels"),
        ({"stem_channels": leb(0)}, "stem channels"),
        ({"stem_channels": leb(65537)}, "stem channels"),
        ({"head_kernel": b"\x00"}, "head kernel"),
        ({"head_kernel": b"\x04"}, "head kernel 4 is even"),
        ({"head_kernel": b"\x11"}, "head kernel"),
        ({"mask": b"\x00"}, "mask"),
        ({"mask": b"\x04"}, "mask"),
        ({"reduction": b"\x00"}, "reduction"),
        ({"attention_kernel": b"\x00"}, "attention kernel"),
        ({"attention_kernel": b"\x06"}, "attention kernel 6 is even"),
        ({"attention_kernel": b"\x11"}, "attention kernel"),
        ({"attention": b"\x03"}, "attention kind"),
        ({"extra_convolutions": b"\x05"}, "extra convolutions"),
        ({"extra_kernel": b"\x00"}, "extra kernel"),
        ({"extra_kernel": b"\x0e"}, "extra kernel 14 is even"),
        ({"extra_kernel": b"\x11"}, "extra kernel"),
        ({"msfrp_stage": b"\x02"}, "MSFRP"),
    ],
)
def test_model_fields_out_of_range_are_refused(changes: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(BitstreamError, match=complaint) as caught:
        parse_model(model_bytes(**changes))
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("architecture", [0, 4, 255])
def test_unknown_architectures_are_unsupported(architecture: int) -> None:
    with pytest.raises(UnsupportedError, match=f"architecture {architecture}"):
        parse_model(model_bytes(architecture=bytes([architecture])))


ENERV_BYTES = {
    "architecture": b"\x03",
    "flags": b"\x02",
    "stages": b"\x01",
    "stage": b"\x02\x03\x05",
    "levels": b"\x50",
    "base": b"\x05\x04",
    "time width": leb(300),
    "stem": leb(7),
    "head kernel": b"\x01",
    "heads": b"\x08",
    "head width": leb(200),
    "feed forward": leb(512),
    "modulation": leb(128),
    "bottleneck": leb(0),
    "msfrp": b"\x00",
}
ENERV_VALUE = ModelSpec(
    stages=(StageSpec(2, 3, 5, False),),
    embedding_channels=0,
    stem_channels=7,
    head_kernel=1,
    msfrp_stage=0,
    time=TimeSpec(80, Fraction(5, 4), 300),
    transformer=TransformerSpec(8, 200, 512, 128, 0),
)


def enerv(**changes: bytes) -> bytes:
    fields = ENERV_BYTES | {name.replace("_", " "): value for name, value in changes.items()}
    assert fields.keys() == ENERV_BYTES.keys()
    return b"".join(fields.values())


def test_nerv_and_enerv_have_the_layout_of_the_spec() -> None:
    assert ENERV_VALUE.to_bytes() == enerv()
    assert parse_model(enerv()) == ENERV_VALUE
    nothing = dict.fromkeys(
        ("heads", "head_width", "feed_forward", "modulation", "bottleneck"), b""
    )
    nerv = enerv(architecture=b"\x02", flags=b"\x0a", **nothing)
    assert parse_model(nerv) == replace(ENERV_VALUE, transformer=None, msfrp_after=True)
    assert parse_model(nerv).to_bytes() == nerv
    for data in (enerv(), nerv):
        for length in range(len(data)):
            with pytest.raises(BitstreamError):
                parse_model(data[:length])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"levels": b"\x00"}, "frequency levels"),
        ({"base": b"\x00\x04"}, "frequency base"),
        ({"base": b"\x05\x00"}, "frequency base"),
        ({"base": b"\x0a\x08"}, "frequency base 10/8 is not in lowest terms"),
        ({"time_width": leb(65537)}, "time layer"),
        ({"heads": b"\x00"}, "attention heads"),
        ({"head_width": leb(0)}, "attention head"),
        ({"head_width": leb(65537)}, "attention head"),
        ({"feed_forward": leb(0)}, "feed-forward"),
        ({"feed_forward": leb(65537)}, "feed-forward"),
        ({"modulation": leb(0)}, "modulation"),
        ({"modulation": leb(65537)}, "modulation"),
        ({"bottleneck": leb(65537)}, "bottleneck"),
    ],
)
def test_fields_of_enerv_out_of_range_are_refused(
    changes: dict[str, bytes], complaint: str
) -> None:
    with pytest.raises(BitstreamError, match=complaint) as caught:
        parse_model(enerv(**changes))
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("levels", b"\x01"),
        ("levels", b"\xff"),
        ("base", b"\xff\xfe"),
        ("base", b"\x01\xff"),
        ("time_width", leb(0)),
        ("time_width", leb(65536)),
        ("heads", b"\xff"),
        ("head_width", leb(65536)),
        ("feed_forward", leb(65536)),
        ("modulation", leb(65536)),
        ("bottleneck", leb(65536)),
    ],
)
def test_fields_of_enerv_at_their_limits_are_read(name: str, value: bytes) -> None:
    spec = parse_model(enerv(**{name: value}))
    assert spec != ENERV_VALUE
    assert spec.to_bytes() == enerv(**{name: value})


def test_hfscm_may_standardise() -> None:
    spec = parse_model(model_bytes(flags=b"\x07"))
    assert spec == replace(MODEL_VALUE, hfscm=replace(MODEL_VALUE.hfscm, norm=True))
    assert spec.to_bytes() == model_bytes(flags=b"\x07")


def test_bilinear_stages_follow_all_else() -> None:
    data = model_bytes(flags=b"\x23") + b"\x02"
    spec = parse_model(data)
    first, second = MODEL_VALUE.stages
    assert spec == replace(MODEL_VALUE, stages=(first, replace(second, bilinear=True)))
    assert spec.to_bytes() == data
    for wrong in (b"", b"\x00", b"\x04"):
        with pytest.raises(BitstreamError):
            parse_model(model_bytes(flags=b"\x23") + wrong)


def test_enerv_has_no_bilinear_stages() -> None:
    with pytest.raises(BitstreamError, match="bilinear"):
        parse_model(enerv(flags=b"\x22") + b"\x01")


def test_without_extra_convolutions_there_is_no_extra_kernel() -> None:
    data = model_bytes(extra_convolutions=b"\x00", extra_kernel=b"")
    spec = parse_model(data)
    assert spec.hfscm.extra_convs == 0
    assert spec.to_bytes() == data


def test_cut_models_are_refused() -> None:
    data = model_bytes()
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            parse_model(data[:length])


def test_model_fields_at_their_limits_are_read() -> None:
    spec = ModelSpec(
        stages=(StageSpec(8, 15, 65536, True),) * 8,
        embedding_channels=65536,
        stem_channels=65536,
        head_kernel=15,
        hfscm=HfscmSpec(255, 15, Attention.DENSE, 4, 15),
        msfrp_stage=7,
    )
    data = spec.to_bytes()
    assert data[-7:] == bytes([0xFF, 255, 15, 1, 4, 15, 7])
    assert parse_model(data) == spec


def test_the_mask_names_stages_from_the_lowest_bit() -> None:
    assert [s.hfscm for s in parse_model(model_bytes(mask=b"\x01")).stages] == [True, False]
    assert [s.hfscm for s in parse_model(model_bytes(mask=b"\x03")).stages] == [True, True]


OTHER_VALUES = {
    "stride": b"\x04",
    "kernel": b"\x03",
    "channels": leb(129),
    "second stride": b"\x01",
    "second kernel": b"\x07",
    "second channels": leb(8),
    "embedding channels": leb(128),
    "stem channels": leb(2),
    "head kernel": b"\x05",
    "mask": b"\x01",
    "reduction": b"\x06",
    "attention kernel": b"\x05",
    "attention": b"\x01",
    "extra convolutions": b"\x02",
    "extra kernel": b"\x07",
    "msfrp stage": b"\x00",
}


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_no_model_field_is_read_and_dropped(name: str, value: bytes) -> None:
    data = model_bytes(**{name.replace(" ", "_"): value})
    spec = parse_model(data)
    assert spec != MODEL_VALUE
    assert spec.to_bytes() == data


def test_every_free_model_field_was_tried() -> None:
    assert set(model_fields()) - set(OTHER_VALUES) == {"architecture", "flags", "stages"}


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [(12, 18, (3, 2)), (13, 19, (4, 3)), (1, 1, (1, 1)), (6, 7, (2, 1))],
)
def test_the_grid_covers_the_frame(width: int, height: int, grid: tuple[int, int]) -> None:
    assert MODEL_VALUE.total_stride == 6
    assert MODEL_VALUE.grid(width, height) == grid


def test_rotations_are_stored_as_quarter_turns() -> None:
    for turns in range(4):
        assert make_header(rotation=90 * turns).to_bytes()[-2] == turns
