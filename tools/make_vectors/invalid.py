"""The invalid vectors: each breaks one rule of `bitstream_spec.md`.

Where that can be, all the rest of the file fits the wrong value, so that a decoder which lacks
the check reads the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import msgpack

from tools import reference_decoder as reference
from tools.make_vectors.valid import FULL, MINIMAL, MIXED, Valid, coding_vectors, input_file, steps
from tools.make_vectors.writing import (
    AUDI,
    END,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SIGNATURE,
    SINGLE,
    Explicit,
    Fields,
    Net,
    Way,
    chunk,
    compressed,
    end_fields,
    file_of,
    head_fields,
    join,
    make_model,
    stored,
    u32,
    varint,
    zlib_stored,
)


@dataclass(frozen=True)
class Invalid:
    """A file that must be refused.

    Attributes:
        reason: what is wrong with it.
        section: that of the specification whose rule it breaks.
        stage: where it shows: ``open``, unless a decoder must look at tensor heads and words
            (``symbols``), at the content of AUDI (``audio``) or at frames (``frames``).
        unsupported: it may be valid for another version or another decoder.
    """

    reason: str
    section: str
    data: bytes
    stage: str = "open"
    unsupported: bool = False


Faults = Iterator[tuple[str, Invalid]]
FieldFault = tuple[str, Fields, str]
"""Name, the fields that are wrong, and what is wrong with them."""

TWO = replace(MINIMAL, nets=[replace(MINIMAL.nets[0], frames=1)] * 2)
"""`MINIMAL` in two segments."""
PLAIN = make_model([(8, 1, 1)], embedding=1, stem=1, head=1)
CONSTANT = (Way(None),)


def parts_of(valid: Valid) -> dict[str, bytes]:
    """Chunks by name, in order: "SEGM 0", "SEGM 1", ... and one of each other kind."""
    parts = {
        "HEAD": chunk(HEAD, join(head_fields(valid.header()))),
        "PTSD": chunk(PTSD, valid.ptsd or stored(bytes(valid.header().frames))),
        "META": chunk(META, msgpack.packb(valid.meta or {})),
    }
    for index, fields in enumerate(valid.segments()):
        parts[f"SEGM {index}"] = chunk(SEGM, join(fields))
    parts["HASH"] = chunk(HASH, bytes(8 * len(valid.nets)))
    parts["AUDI"] = chunk(AUDI, b"\x00" + stored(b"audio"))
    return parts


def altered(valid: Valid, name: str, changed: bytes) -> bytes:
    """The file without the chunks that may be absent; that of this name is another."""
    parts = parts_of(valid) | {name: changed}
    return file_of(*(parts[key] for key in parts if key == name or key[:4] in ("HEAD", "SEGM")))


def framing_faults() -> Faults:
    """Signature, chunks, END (section 3)."""
    before = SIGNATURE + b"".join(parts_of(MINIMAL).values())
    data = file_of(*parts_of(MINIMAL).values())
    head, meta = join(head_fields(MINIMAL.header())), msgpack.packb(MINIMAL.meta)
    fields = end_fields(before)
    offset, digest = fields["offset"], fields["digest"]
    long = bytes([offset[0], offset[1] | 0x80, 0])

    def end(field: str, value: bytes) -> bytes:
        return before + chunk(END, join(fields, {field: value}))

    def meta_of(length: bytes) -> bytes:
        return altered(MINIMAL, "META", chunk(META, meta, length))

    def damaged(name: str, kind: int, payload: bytes) -> bytes:
        return altered(MINIMAL, name, chunk(kind, payload, damage=1 << 31))

    cases = (
        ("truncated_empty", b"", "the file is empty"),
        ("truncated_signature", data[:5], "the file ends within the signature"),
        ("truncated_after_signature", data[:8], "there are no chunks"),
        ("truncated_payload", data[:20], "the file ends within a payload"),
        ("truncated_crc", before[:-2], "the file ends within a CRC"),
        ("truncated_before_end", before, "there is no END"),
        ("truncated_end", data[:-1], "the file ends within END's CRC"),
        ("signature_text_mode", data.replace(b"\r\n", b"\n", 1), "CR LF became LF"),
        ("signature_seven_bits", b"\t" + data[1:], "bit 7 of the signature is lost"),
        ("data_after_end", data + b"\x00", "a byte follows END"),
        ("end_twice", data + data[len(before) :], "a second END follows END"),
        ("end_offset", end("offset", varint(len(before) + 1)), "END's offset is wrong"),
        ("end_offset_long", end("offset", long), "END's offset is not minimal"),
        ("end_digest", end("digest", bytes(16)), "END's digest is wrong"),
        ("end_short", end("digest", digest[:15]), "END is a byte short"),
        ("end_leftover", end("digest", digest + b"\x00"), "END is a byte too long"),
        ("crc_head", damaged("HEAD", HEAD, head), "the CRC of HEAD is wrong"),
        ("crc_meta", damaged("META", META, meta), "the CRC of META is wrong"),
        ("crc_skipped", damaged("META", 0x01, b"?"), "the CRC of a chunk to be skipped is wrong"),
        ("length_long", meta_of(bytes([len(meta) | 0x80, 0])), "a length is not minimal"),
        ("length_six_bytes", meta_of(b"\xff" * 5 + b"\x01"), "a length has six bytes"),
    )
    for name, broken, reason in cases:
        yield name, Invalid(reason, "3", broken)


def order_faults() -> Faults:
    """Order and counts of chunks, unknown ones (section 3)."""
    parts = parts_of(TWO)
    names = ["HEAD", "PTSD", "META", "SEGM 0", "SEGM 1", "HASH", "AUDI"]

    def fault(name: str, order: list[str], reason: str) -> tuple[str, Invalid]:
        data = file_of(*(parts[key] for key in order))
        return f"chunks_{name}", Invalid(reason, "3", data)

    def moved(name: str, place: int) -> list[str]:
        rest = [other for other in names if other != name]
        return [*rest[:place], name, *rest[place:]]

    parts["skipped"] = chunk(0x01, b"")
    third = {"index": varint(2), "first frame": varint(2)}
    parts["SEGM 2"] = chunk(SEGM, join(TWO.segments()[1], third))
    yield fault("head_missing", names[1:], "HEAD is missing")
    yield fault("head_second", ["skipped", *names], "a chunk to be skipped stands before HEAD")
    yield fault("head_after_ptsd", moved("HEAD", 1), "PTSD stands before HEAD")
    yield fault("meta_before_ptsd", moved("META", 1), "META stands before PTSD")
    yield fault("segm_before_meta", moved("META", 4), "a SEGM stands before META")
    yield fault("hash_before_segm", moved("HASH", 4), "HASH stands before a SEGM")
    yield fault("audi_before_hash", moved("AUDI", 5), "AUDI stands before HASH")
    for place, name in enumerate(names):
        if not name.startswith("SEGM"):
            twice = [*names[:place], name, *names[place:]]
            yield fault(f"{name.lower()}_twice", twice, f"there are two {name}")
    yield fault("segm_missing", names[:4] + names[5:], "there is one SEGM, HEAD says two")
    yield fault("segm_none", names[:3] + names[5:], "there is no SEGM")
    yield fault("segm_more", [*names[:5], "SEGM 2"], "there are three SEGM, HEAD says two")
    for kind, name in ((0x88, "unknown"), (0xC1, "private")):
        data = altered(MINIMAL, "META", chunk(kind, b""))
        reason = f"the critical chunk type {kind:#04x} is unknown"
        yield f"critical_{name}", Invalid(reason, "10", data, unsupported=True)


def version_faults() -> Faults:
    """Version, profile, flags (sections 4 and 10)."""
    fields = head_fields(MINIMAL.header())

    def fault(name: str, reason: str, data: bytes) -> tuple[str, Invalid]:
        return name, Invalid(reason, "10", data, unsupported=True)

    for major, minor in ((0, 0), (0, 5), (0, 7), (0, 9), (1, 0), (255, 5)):
        head = chunk(HEAD, join(fields, {"major": bytes([major]), "minor": bytes([minor])}))
        data = altered(MINIMAL, "HEAD", head)
        yield fault(f"version_{major}_{minor}", f"version {major}.{minor}", data)
    yield fault(
        "version_other_layout",
        "version 1.0: neither the rest of HEAD nor the order of chunks may matter",
        file_of(chunk(HEAD, b"\x01\x00"), chunk(0xA0, b""), chunk(HASH, b""), chunk(META, b"")),
    )
    head = chunk(HEAD, join(fields, {"profile": b"\x01"}))
    yield fault("profile", "profile 1", altered(MINIMAL, "HEAD", head))
    head = chunk(HEAD, join(fields, {"flags": b"\x01"}))
    data = altered(MINIMAL, "HEAD", head)
    yield "head_flags", Invalid("a reserved flag is set", "10", data)
    data = altered(MINIMAL, "HEAD", chunk(HEAD, b"\x00"))
    yield "head_one_byte", Invalid("HEAD ends within the version", "2", data)


HEAD_FAULTS: tuple[FieldFault, ...] = (
    ("width_zero", {"width": varint(0)}, "width is 0"),
    ("width_not_minimal", {"width": b"\x84\x00"}, "the varint of the width is not minimal"),
    ("height_zero", {"height": varint(0)}, "height is 0"),
    ("frames_zero", {"frames": varint(0)}, "frames is 0"),
    ("frames_many", {"frames": varint(2**24 + 1)}, "frames is 2**24 + 1"),
    ("segments_zero", {"segments": varint(0)}, "segments is 0"),
    ("segments_many", {"segments": varint(3)}, "there are more segments than frames"),
    (
        "segments_beyond_chunks",
        {"frames": varint(2**20), "segments": varint(2**20 - 1)},
        "there are more segments than there may be chunks",
    ),
    ("time_base_zero", {"time base": b"\x00\x01"}, "the time base is 0/1"),
    ("time_base_infinite", {"time base": b"\x01\x00"}, "the time base is 1/0"),
    ("time_base_large", {"time base": varint(2**31) + b"\x01"}, "a numerator is 2**31"),
    ("time_base_small", {"time base": b"\x01" + varint(2**31)}, "a denominator is 2**31"),
    ("time_base_not_lowest", {"time base": b"\x02\x32"}, "the time base is 2/50"),
    ("start_ten_bytes", {"start": b"\x80" * 9 + b"\x01"}, "the varint of start has ten bytes"),
    ("duration_zero", {"frame duration": varint(0)}, "the frame duration is 0"),
    ("duration_large", {"frame duration": varint(2**31)}, "the frame duration is 2**31"),
    ("aspect_zero", {"aspect": b"\x00\x01"}, "the sample aspect ratio is 0/1"),
    ("aspect_infinite", {"aspect": b"\x01\x00"}, "the sample aspect ratio is 1/0"),
    ("aspect_large", {"aspect": varint(2**31) + b"\x01"}, "a numerator is 2**31"),
    ("aspect_not_lowest", {"aspect": b"\x04\x02"}, "the sample aspect ratio is 4/2"),
    ("matrix_0", {"matrix": b"\x00"}, "matrix is 0 (RGB)"),
    ("matrix_2", {"matrix": b"\x02"}, "matrix is 2 (unspecified)"),
    ("matrix_8", {"matrix": b"\x08"}, "matrix is 8 (YCgCo)"),
    ("matrix_10", {"matrix": b"\x0a"}, "matrix is 10 (BT.2020 of constant luminance)"),
    ("range", {"range": b"\x02"}, "range is 2"),
    ("rotation", {"rotation": b"\x04"}, "rotation is 4"),
    ("bit_depth_7", {"bit depth": b"\x07"}, "bit depth is 7"),
    ("bit_depth_9", {"bit depth": b"\x09"}, "bit depth is 9"),
    ("bit_depth_16", {"bit depth": b"\x10"}, "bit depth is 16"),
    ("leftover", {"bit depth": b"\x08\x00"}, "a byte is left over"),
    ("short", {"bit depth": b""}, "the last field is missing"),
)


def head_faults() -> Faults:
    """Ranges of HEAD (section 4)."""
    fields = head_fields(MINIMAL.header())
    for name, changes, reason in HEAD_FAULTS:
        data = altered(MINIMAL, "HEAD", chunk(HEAD, join(fields, changes)))
        yield f"head_{name}", Invalid(reason, "4", data)
    for name, size in (("width", (32769, 1)), ("height", (1, 32769)), ("area", (32768, 8193))):
        valid = Valid("", size, [Net(PLAIN, usual=CONSTANT)])
        data = valid.file(valid.segments())
        yield f"head_{name}_large", Invalid(f"{size[0]} x {size[1]} samples", "4", data)


def ptsd_faults() -> Faults:
    """PTSD of three frames whose usual duration is 10, and its blob (sections 2 and 4)."""
    valid = Valid("", (4, 2), [Net(PLAIN, 3, usual=CONSTANT)], {"frame_duration": 10})
    good = steps(0, 1, 0)
    stream, zeros = zlib_stored(good), input_file("zeros.zlib")
    cases = (
        ("empty", b"", "the payload is empty"),
        ("method", b"\x02" + stored(good)[1:], "the blob's method is 2"),
        ("length_small", stored(steps(0, 0)), "the content is shorter than a byte a frame"),
        ("length_large", stored(bytes(16)), "the content is longer than five bytes a frame"),
        ("stored_short", stored(good, 4), "the content is a byte shorter than stated"),
        ("stored_long", stored(good + b"\x00", 3), "the content is a byte longer than stated"),
        ("zlib_short", compressed(4, stream), "the content is a byte shorter than stated"),
        ("zlib_long", compressed(3, zlib_stored(good + b"\x00")), "the content is longer"),
        ("zlib_bomb", compressed(15, zeros), "the content is 256 KiB, not 15 bytes"),
        ("zlib_truncated", compressed(3, stream[:-1]), "the Adler-32 is cut off"),
        ("zlib_no_block", compressed(3, stream[:2]), "the zlib stream is its head alone"),
        ("zlib_leftover", compressed(3, stream + b"\x00"), "a byte follows the zlib stream"),
        ("zlib_adler", compressed(3, stream[:-1] + b"?"), "the Adler-32 is wrong"),
        ("zlib_raw", compressed(3, stream[2:-4]), "deflate without zlib's frame"),
        ("zlib_head", compressed(3, b"\x78\x02" + stream[2:]), "the zlib header is wrong"),
        ("zlib_dictionary", compressed(3, b"\x78\x20" + bytes(4) + stream[2:]), "a dictionary"),
        ("leftover", stored(good + b"\x00"), "the content has a value more than frames"),
        ("values_few", stored(steps(300, 0)), "the content has a value less than frames"),
        ("cut", stored(steps(0, 0) + b"\x80"), "the content ends within a varint"),
        ("not_minimal", stored(steps(0, 0) + b"\x80\x00"), "a varint is not minimal"),
        ("duration_zero", stored(steps(0, -10, 0)), "a frame lasts 0 ticks"),
        ("duration_negative", stored(steps(0, 0, -11)), "the last frame lasts -1 ticks"),
        ("duration_large", stored(steps(0, 2**31 - 10, 0)), "a frame lasts 2**31 ticks"),
    )
    for name, payload, reason in cases:
        data = altered(valid, "PTSD", chunk(PTSD, payload))
        yield f"ptsd_{name}", Invalid(reason, "4", data)


META_FAULTS = (
    ("empty", "", "the payload is empty"),
    ("nil", "c0", "it is no map but nil"),
    ("array", "90", "it is no map but an array"),
    ("leftover", "80 00", "a byte is left over"),
    ("short", "81 a1 61", "a value is missing"),
    ("key_twice", "82 a1 61 01 a1 61 02", "a key stands there twice"),
    ("key_twice_within", "81 a1 61 82 a1 62 01 a1 62 02", "a key stands twice in a map within"),
    ("key_integer", "81 01 01", "a key is an integer"),
    ("key_binary", "81 c4 01 61 01", "a key is binary"),
    ("integer_long", "81 a1 61 cc 7f", "127 takes two bytes"),
    ("integer_long_16", "81 a1 61 cd 00 ff", "255 takes three bytes"),
    ("integer_long_32", "81 a1 61 ce 00 00 ff ff", "65535 takes five bytes"),
    ("integer_long_64", "81 a1 61 cf 00 00 00 00 ff ff ff ff", "2**32 - 1 takes nine bytes"),
    ("integer_signed", "81 a1 61 d1 00 80", "128 is in a signed form"),
    ("integer_negative_long", "81 a1 61 d0 e0", "-32 takes two bytes"),
    ("float_32", "81 a1 61 ca 3f 80 00 00", "a float has 32 bits"),
    ("float_nan", "81 a1 61 cb 7f f8 00 00 00 00 00 00", "a float is no number"),
    ("float_infinite", "81 a1 61 cb ff f0 00 00 00 00 00 00", "a float is infinite"),
    ("string_long", "81 a1 61 d9 01 61", "a string of one byte has a length of its own"),
    ("string_utf8", "81 a1 61 a1 ff", "a string is not UTF-8"),
    ("string_surrogate", "81 a1 61 a3 ed a0 80", "a string holds a surrogate"),
    ("string_overlong", "81 a1 61 a2 c0 af", "a string holds an overlong form"),
    ("array_long", "81 a1 61 dc 00 01 01", "an array of one has a length of 16 bits"),
    ("map_long", "de 00 01 a1 61 01", "a map of one has a length of 16 bits"),
    ("binary", "81 a1 61 c4 01 00", "a value is binary"),
    ("extension", "81 a1 61 d4 05 00", "a value is an extension"),
    ("timestamp", "81 a1 61 d6 ff 00 00 00 00", "a value is a timestamp"),
    ("reserved", "81 a1 61 c1", "the byte 0xc1 is used"),
    ("depth", "81 a1 61 81 a1 62 81 a1 63 81 a1 64 90", "an array is at depth 5"),
    ("array_many", "81 a1 61 dc 04 01" + 1025 * " 00", "an array has 1025 items"),
    ("string_many", "81 a1 61 da 10 01" + 4097 * " 61", "a string has 4097 bytes"),
)


def meta_faults() -> Faults:
    """META (section 7), after the right MessagePack of the valid vectors."""
    cases = [(name, bytes.fromhex(text), reason) for name, text, reason in META_FAULTS]
    many = msgpack.packb({"a": {f"{i:x}": 0 for i in range(257)}})
    for name, payload, reason in [*cases, ("map_many", many, "a map has 257 pairs")]:
        data = altered(MINIMAL, "META", chunk(META, payload))
        yield f"meta_{name}", Invalid(reason, "7", data)


def other_faults() -> Faults:
    """HASH and AUDI (section 7)."""
    for size in (0, 7, 9, 16):
        data = altered(MINIMAL, "HASH", chunk(HASH, bytes(size)))
        yield f"hash_length_{size}", Invalid(f"{size} bytes for one segment", "7", data)
    content = b"audio"
    cases = (
        ("empty", b"", "the payload is empty"),
        ("container", b"\x02" + stored(content), "the container is 2"),
        ("method", b"\x00\x02" + stored(content)[1:], "the blob's method is 2"),
        ("length_zero", b"\x00" + stored(b""), "the content is empty"),
        ("length_large", b"\x00" + stored(content, 2**30 + 1), "2**30 + 1 bytes are announced"),
        ("stored_short", b"\x00" + stored(content, 6), "the content is shorter than stated"),
        ("zlib_bomb", b"\x01" + compressed(5, input_file("zeros.zlib")), "256 KiB, not 5 bytes"),
        ("zlib_short", b"\x01" + compressed(6, zlib_stored(content)), "the content is shorter"),
    )
    for name, payload, reason in cases:
        data = altered(MINIMAL, "AUDI", chunk(AUDI, payload))
        yield f"audi_{name}", Invalid(reason, "7", data, "audio")


def place_faults() -> Faults:
    """Index, first frame and frames of SEGM (section 5)."""
    fields = TWO.segments()[1]
    cases: tuple[FieldFault, ...] = (
        ("index", {"index": varint(0)}, "index is 0 in the second SEGM"),
        ("index_large", {"index": varint(2)}, "index is 2 in the second SEGM"),
        ("first_frame", {"first frame": varint(0)}, "first frame is 0 in the second SEGM"),
        ("first_frame_large", {"first frame": varint(2)}, "first frame is HEAD's frames"),
        ("frames_zero", {"frames": varint(0)}, "frames is 0"),
        ("frames_many", {"frames": varint(2)}, "the segment reaches beyond HEAD's frames"),
    )
    for name, changes, reason in cases:
        data = altered(TWO, "SEGM 1", chunk(SEGM, join(fields, changes)))
        yield f"segm_{name}", Invalid(reason, "5", data)
    head = head_fields(TWO.header())
    swapped = [chunk(HEAD, join(head)), *(chunk(SEGM, join(f)) for f in reversed(TWO.segments()))]
    yield "segm_order", Invalid("the segments are in the wrong order", "5", file_of(*swapped))
    data = altered(TWO, "HEAD", chunk(HEAD, join(head, {"frames": varint(3)})))
    yield "segm_frames_sum", Invalid("the frames sum to 2, HEAD says 3", "5", data)
    (fields,) = MINIMAL.segments()
    for last, stage in (
        ("stages", "open"),
        ("head kernel", "symbols"),
        ("embedding zero", "symbols"),
        ("embedding scales", "symbols"),
        ("head.bias scales", "symbols"),
    ):
        names = list(fields)
        payload = b"".join(fields[name] for name in names[: names.index(last) + 1])
        data = altered(MINIMAL, "SEGM 0", chunk(SEGM, payload))
        reason = f"the payload ends after the field {last}"
        yield (
            f"segm_cut_{last.replace(' ', '_').replace('.', '_')}",
            Invalid(reason, "2", data, stage),
        )


def constant_file(model: reference.Model, changes: Fields | None = None) -> bytes:
    """A file of 6x6 samples with constant tensors, whose SEGM has other fields."""
    valid = Valid("", (6, 6), [Net(model, usual=CONSTANT)])
    (fields,) = valid.segments()
    return altered(valid, "SEGM 0", chunk(SEGM, join(fields, changes)))


def model_faults() -> Faults:
    """The model (section 5.1)."""
    block, small = FULL.hfscm, replace(PLAIN, stages=(reference.Stage(1, 1, 1),))

    def staged(stride: int, kernel: int, channels: int) -> reference.Model:
        return replace(small, stages=(reference.Stage(stride, kernel, channels),))

    def blocked(**changes: int) -> reference.Model:
        return replace(FULL, hfscm=replace(block, **changes))

    def timed(**changes: int) -> reference.Model:
        return replace(MIXED, time=reference.Time(**vars(MIXED.time) | changes))

    def mixed(**changes: int) -> reference.Model:
        return replace(MIXED, mixing=reference.Mixing(**vars(MIXED.mixing) | changes))

    models: tuple[tuple[str, reference.Model, str], ...] = (
        ("stages_nine", replace(small, stages=small.stages * 9), "stages is 9"),
        ("stride_nine", staged(9, 1, 1), "a stride is 9"),
        ("kernel_even", staged(1, 2, 1), "a kernel is 2"),
        ("kernel_large", staged(1, 17, 1), "a kernel is 17"),
        ("channels_many", staged(1, 1, 65537), "channels is 65537"),
        ("embedding_many", replace(small, embedding_channels=65537), "E is 65537"),
        ("stem_many", replace(small, stem_channels=65537), "S is 65537"),
        ("head_kernel_even", replace(small, head_kernel=4), "the head kernel is 4"),
        ("head_kernel_large", replace(small, head_kernel=17), "the head kernel is 17"),
        ("attention_kernel_even", blocked(kernel=2), "the attention kernel is 2"),
        ("attention_kernel_large", blocked(kernel=17), "the attention kernel is 17"),
        ("extra_five", blocked(extra_convolutions=5), "extra convolutions is 5"),
        ("extra_kernel_even", blocked(extra_kernel=2), "the extra kernel is 2"),
        ("extra_kernel_large", blocked(extra_kernel=17), "the extra kernel is 17"),
        ("mask_large", blocked(mask=0b110), "the mask names stage 2 of 2"),
    )
    fields: tuple[FieldFault, ...] = (
        ("flags", {"model flags": b"\x43"}, "a flag that does not exist is set"),
        ("stages_zero", {"stages": b"\x00"}, "stages is 0"),
        ("stride_zero", {"stride 0": b"\x00"}, "a stride is 0"),
        ("kernel_zero", {"kernel 0": b"\x00"}, "a kernel is 0"),
        ("channels_zero", {"channels 0": b"\x00"}, "channels is 0"),
        ("embedding_zero", {"embedding channels": b"\x00"}, "E is 0"),
        ("stem_zero", {"stem channels": b"\x00"}, "S is 0"),
        ("mask_zero", {"mask": b"\x00"}, "HFSCM is flagged, and no stage has it"),
        ("reduction_zero", {"reduction": b"\x00"}, "reduction is 0"),
        ("attention_three", {"attention": b"\x03"}, "attention is 3"),
        ("msfrp_stage", {"msfrp stage": b"\x02"}, "MSFRP is at stage 2 of 2"),
    )
    widest = ("head_width", "feed_forward", "modulation")
    models += (
        ("standardise_alone", replace(small, standardise=True), "flags bit 2 without bit 0"),
        ("after_alone", replace(small, msfrp_after=True), "flags bit 3 without bit 1"),
        ("time_wide", timed(width=65537), "D is 65537"),
        *((f"{name}_wide", mixed(**{name: 65537}), f"{name} is 65537") for name in widest),
        ("bottleneck_wide", mixed(bottleneck=65537), "Z is 65537"),
        ("detail_wide", replace(small, detail=reference.Detail(0, 65537)), "G is 65537"),
    )
    time_fields: tuple[FieldFault, ...] = (
        ("detail_of_time", {"model flags": b"\x10"}, "flags bit 4 in architecture 3"),
        (
            "bilinear_e_nerv",
            {"model flags": b"\x20", "bilinear": b"\x01"},
            "flags bit 5 in architecture 3",
        ),
        ("levels_zero", {"levels": b"\x00"}, "L is 0"),
        ("base_zero", {"base numerator": b"\x00"}, "P is 0"),
        ("base_infinite", {"base denominator": b"\x00"}, "Q is 0"),
        ("base_not_lowest", {"base numerator": b"\x08"}, "P/Q is 8/4"),
        ("heads_zero", {"heads": b"\x00"}, "H is 0"),
        ("head_width_zero", {"head width": b"\x00"}, "U is 0"),
        ("feed_forward_zero", {"feed-forward width": b"\x00"}, "F is 0"),
        ("modulation_zero", {"modulation width": b"\x00"}, "M is 0"),
    )
    resized = replace(small, stages=(replace(small.stages[0], bilinear=True),))
    bilinear_fields: tuple[FieldFault, ...] = (
        ("bilinear_none", {"bilinear": b"\x00"}, "flags bit 5 without a bilinear stage"),
        ("bilinear_stage", {"bilinear": b"\x02"}, "stage 1 of 1 is bilinear"),
    )
    detailed = replace(small, detail=reference.Detail(0, 1))
    detail_fields: tuple[FieldFault, ...] = (
        ("detail_stage", {"detail stage": b"\x01"}, "d is 1 of 1 stage"),
        ("detail_zero", {"detail channels": b"\x00"}, "G is 0"),
    )
    cases = [(name, constant_file(model), reason) for name, model, reason in models]
    cases += [
        (name, constant_file(detailed, changes), reason) for name, changes, reason in detail_fields
    ]
    cases += [
        (name, constant_file(resized, changes), reason) for name, changes, reason in bilinear_fields
    ]
    cases += [(name, constant_file(FULL, changes), reason) for name, changes, reason in fields]
    cases += [
        (name, constant_file(MIXED, changes), reason) for name, changes, reason in time_fields
    ]
    for name, data, reason in cases:
        yield f"model_{name}", Invalid(reason, "5.1", data)
    data = constant_file(FULL, {"architecture": b"\x04"})
    reason = "the architecture is 4"
    yield "model_architecture", Invalid(reason, "10", data, unsupported=True)


def written_file(ways: Mapping[str, Way]) -> bytes:
    """`MINIMAL` with other tensors, which the rest of the file fits."""
    (net,) = MINIMAL.nets
    valid = replace(MINIMAL, nets=[replace(net, ways={**net.ways, **ways})], ptsd=None, meta=None)
    return valid.file(valid.segments())


def segment_file(changes: Fields) -> bytes:
    """`MINIMAL` with other fields in its SEGM."""
    (fields,) = MINIMAL.segments()
    return altered(MINIMAL, "SEGM 0", chunk(SEGM, join(fields, changes)))


def tensor_faults() -> Faults:
    """Tensor heads (section 5.3)."""

    def fault(name: str, reason: str, tensor: str, way: Way) -> tuple[str, Invalid]:
        return f"tensor_{name}", Invalid(reason, "5.3", written_file({tensor: way}), "symbols")

    frozen, constant = Way(12), Way(None, per_channel=True)
    yield fault("one_value_frozen", "one value has a frozen table", "stem.weight", frozen)
    yield fault("channels_of_bias", "a bias has a scale a channel", "head.bias", constant)
    yield fault("channels_of_one", "one channel has a scale a channel", "embedding", constant)
    for name, bits in (
        ("small", 0x2B7F),
        ("large", 0x4981),
        ("zero", 0),
        ("subnormal", 1),
        ("negative", 0xBF80),
        ("infinite", 0x7F80),
        ("nan", 0x7FC0),
    ):
        reason = f"the upper half of a scale is {bits:#06x}"
        yield fault(f"scale_{name}", reason, "head.bias", Way(None, scales=(bits,)))
    several = Way(None, per_channel=True, scales=(0x3C00, 0x3C00, 0x4981))
    yield fault("scale_of_channel", "a scale of channel 2 is above 2**20", "head.weight", several)
    (fields,) = MINIMAL.segments()
    data = segment_file({"embedding prediction": b"\x0c"})
    yield "tensor_prediction", Invalid("prediction is 12", "5.3", data, "symbols")
    for coding, what in ((66, "66"), (128, "0 with a scale for each channel")):
        table = fields["embedding table"] + bytes([coding])
        others = {"embedding prediction": b"\x02", "embedding table": table}
        reason = f"the coding of class 1 is {what}"
        yield f"tensor_class_{coding}", Invalid(reason, "5.3", segment_file(others), "symbols")
    for coding in (66, 127, 66 + 128):
        data = segment_file({"embedding coding": bytes([coding])})
        yield f"tensor_coding_{coding}", Invalid(f"coding is {coding}", "5.3", data, "symbols")


def coding_faults() -> Faults:
    """Explicit tables, words, the final state and the symbols' CRC (section 6)."""
    (fields,), coded = MINIMAL.segments(), MINIMAL.nets[0].ways["embedding"]
    words = struct.unpack(f"<{fields['words'][0]}I", fields["data"])
    less, more = varint(len(words) - 1), varint(len(words) + 1)
    crc = bytes([fields["symbols crc"][0] ^ 1]) + fields["symbols crc"][1:]
    table, count, data, stated = "embedding table", "words", "data", "symbols crc"
    cases: tuple[FieldFault, ...] = (
        ("table_last_equal", {table: b"\x7e\x7e\x00\x80"}, "last is first"),
        ("table_last_below", {table: b"\x7e\x7d\x00\x80"}, "last is below first"),
        ("table_padding", {table: fields[table][:-1] + b"\x81"}, "bits after the weights are set"),
        ("table_code_long", {table: b"\x7e\x81\x17\x20" + bytes(20)}, "z + g is 25"),
        ("table_code_endless", {table: b"\x7e\x81\x00" + bytes(40)}, "a code has no 1 in it"),
        ("words_few", {count: less}, "fewer words are counted than there are"),
        ("words_many", {count: more}, "more words are counted than there are"),
        ("words_huge", {count: varint(2**62 + len(words))}, "words x 4 exceeds 2**64"),
        (
            "words_not_minimal",
            {count: bytes([len(words) | 0x80, 0])},
            "words is not minimal",
        ),
        ("words_missing", {count: b"", data: b""}, "the payload ends before words"),
        ("leftover", {data: fields[data] + b"\x00"}, "a byte follows the words"),
        ("word_none", {count: varint(0), data: b""}, "the words are missing"),
        ("symbols_crc", {stated: crc}, "the CRC of the symbols is wrong"),
        ("symbols_crc_constant", {"stem.bias table": b"\x83"}, "a constant tensor is changed"),
    )
    for name, changes, reason in cases:
        section = "6.2" if name.startswith("table") else "6.3"
        yield f"coding_{name}", Invalid(reason, section, segment_file(changes), "symbols")
    for name, explicit, reason in (
        ("first_unused", Explicit(125, (0, 2, 0, 1, 1)), "first has the weight 0"),
        ("last_unused", Explicit(126, (2, 0, 1, 1, 0)), "last has the weight 0"),
        ("sum", Explicit(126, (2**23, 2, 2, 2**23)), "the weights sum to 2**24 + 4"),
        ("order", Explicit(126, (2, 0, 1, 1), 24), "the order is 24"),
    ):
        written = written_file({"embedding": replace(coded, table=explicit)})
        yield f"coding_table_{name}", Invalid(reason, "6.2", written, "symbols")
    valid = coding_vectors()["one_word"]
    (fields,) = valid.segments()
    zero_added = join(fields, {count: varint(2), data: fields[data] + u32(0)})
    written = altered(valid, "SEGM 0", chunk(SEGM, zero_added))
    yield "coding_word_zero", Invalid("the last word is 0", "6.3", written, "symbols")
    written = constant_file(PLAIN, {count: varint(1), data: u32(1)})
    yield "coding_word_needless", Invalid("a word, and no symbol", "6.3", written, "symbols")
    for name, state in (("state", 1), ("state_large", 2**63 + 1)):
        valid = replace(MINIMAL, nets=[replace(MINIMAL.nets[0], state=state)])
        reason = f"the final state is {state}, though all symbols are right"
        written = altered(valid, "HEAD", chunk(HEAD, join(head_fields(valid.header()))))
        yield f"coding_{name}", Invalid(reason, "6.3", written, "symbols")


def limit_faults() -> Faults:
    """Valid files beyond the limits of section 11."""

    def fault(name: str, size: tuple[int, int], model: reference.Model) -> tuple[str, Invalid]:
        valid = Valid("", size, [Net(model, usual=CONSTANT)])
        data = valid.file(valid.segments())
        reason = f"valid but for a decoder's limits: {name} of section 11"
        return f"limit_{name}", Invalid(reason, "11", data, "symbols", unsupported=True)

    yield fault("parameters", (1, 1), make_model([(1, 3, 3641)], 1, 4096, 1))
    yield fault("multiplications", (1024, 1024), make_model([(1, 15, 256)] * 2, 1, 256, 1))
    yield fault("maps", (16384, 16384), make_model([(8, 1, 1)], 1, 1, 1))
    time, narrow = (1, 1, 1, 0), (1, 1, 1, 1, 0)
    many_places = make_model([(1, 1, 1)], stem=1, head=1, time=time, mixing=narrow)
    yield fault("attention", (23171, 1), many_places)
    wide = (16, 65536, 1, 1, 0)
    wide_heads = make_model([(1, 1, 1)], stem=1, head=1, time=time, mixing=wide)
    yield fault("attention_multiplications", (1200, 1), wide_heads)


def frame_faults() -> Faults:
    """A network whose layers multiply up to infinity, which the head multiplies by 0."""
    model = make_model([(1, 1, 64)] * 8, 64, 64, 1, hfscm=(0b111111, 64, 1, SINGLE, 4, 1))
    largest = Way(None, 0, 255, scales=(0x4980,))
    ways = {f"head.{part}": Way(None, 0, 0, scales=(0x3F80,)) for part in ("weight", "bias")}
    valid = Valid("", (1, 1), [Net(model, ways=ways, usual=(largest,))])
    data = valid.file(valid.segments())
    yield "frame_nan", Invalid("y is NaN: infinity times 0", "8", data, "frames")


def invalid_vectors() -> dict[str, Invalid]:
    groups = (
        framing_faults(),
        order_faults(),
        version_faults(),
        head_faults(),
        ptsd_faults(),
        place_faults(),
        model_faults(),
        tensor_faults(),
        coding_faults(),
        other_faults(),
        meta_faults(),
        frame_faults(),
        limit_faults(),
    )
    return dict(chain.from_iterable(groups))
