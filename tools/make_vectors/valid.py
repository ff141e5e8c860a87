"""The valid vectors: networks, codings, and everything beside the networks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack

from tools import reference_decoder as reference
from tools.make_vectors.writing import (
    AUDI,
    DENSE,
    GROUPED,
    HASH,
    HEAD,
    META,
    PTSD,
    SEGM,
    SINGLE,
    USUAL_HEADER,
    Explicit,
    Fields,
    Net,
    Random,
    Way,
    chunk,
    compressed,
    file_of,
    head_fields,
    join,
    make_model,
    segment_fields,
    stored,
    svarint,
    zlib_stored,
)

INPUTS = Path(__file__).parents[2] / "tests" / "vectors" / "inputs"
"""What another machine might make otherwise: a tone of 440 Hz, 2048 samples at 8000 Hz, by FFmpeg's
AAC in MP4 and FLAC in Matroska, both with its flag `bitexact`, and streams by zlib's level 9."""


@dataclass(frozen=True)
class Valid:
    """A valid file to be written.

    Attributes:
        about: what it is there for.
        size: width and height.
        head: fields of HEAD that are not as usual.
        extra: chunks, each with its place among the others.
        hashes: payload of HASH instead of the right one; empty for a file without HASH.
        plain: whether its picture may be flat or saturated.
    """

    about: str
    size: tuple[int, int]
    nets: Sequence[Net]
    head: dict[str, Any] = field(default_factory=dict)
    ptsd: bytes | None = None
    meta: dict[str, Any] | None = None
    audio: bytes | None = None
    extra: Sequence[tuple[int, bytes]] = ()
    hashes: bytes | None = None
    plain: bool = False

    def header(self) -> reference.Header:
        width, height = self.size
        frames, segments = sum(net.frames for net in self.nets), len(self.nets)
        usual = replace(USUAL_HEADER, width=width, height=height, frames=frames, segments=segments)
        return replace(usual, **self.head)

    def segments(self) -> list[Fields]:
        """The fields of each SEGM."""
        header, first, result = self.header(), 0, []
        for index, net in enumerate(self.nets):
            result.append(segment_fields(net, header, index, first))
            first += net.frames
        return result

    def file(self, segments: Sequence[Fields], hashes: bytes = b"") -> bytes:
        """The file of these segments, with HASH if ``hashes`` is not empty."""
        chunks = [chunk(HEAD, join(head_fields(self.header())))]
        if self.ptsd is not None:
            chunks.append(chunk(PTSD, self.ptsd))
        if self.meta is not None:
            chunks.append(chunk(META, msgpack.packb(self.meta)))
        chunks += [chunk(SEGM, join(fields)) for fields in segments]
        if hashes:
            chunks.append(chunk(HASH, hashes))
        if self.audio is not None:
            chunks.append(chunk(AUDI, self.audio))
        for place, added in self.extra:
            chunks.insert(place, added)
        return file_of(*chunks)


def input_file(name: str) -> bytes:
    return (INPUTS / name).read_bytes()


def frozen_zlib(name: str, content: bytes) -> bytes:
    """A stream that some zlib once made of ``content``; others would make another."""
    stream = input_file(name)
    assert zlib.decompress(stream) == content, name
    return stream


def steps(*longer: int) -> bytes:
    """The content of PTSD: how many ticks each frame lasts longer than usual."""
    return b"".join(map(svarint, longer))


def make_net(stages: Sequence[tuple[int, int, int]], frames: int = 1, **model: Any) -> Net:
    return Net(make_model(stages, **model), frames)


MINIMAL = Valid(
    "the file that the specification annotates",
    (4, 2),
    [
        Net(
            make_model([(2, 1, 1)], embedding=1, stem=1, head=1),
            frames=2,
            ways={
                "embedding": Way(
                    Explicit(126, (2, 0, 1, 1)), scales=(0x3F00,), symbols=b"\x7e\x81\x80\x7e"
                ),
                "stem.weight": Way(None, scales=(0x3E80,), symbol=136),
                "stem.bias": Way(None, scales=(0x3E00,), symbol=130),
                "stages.0.conv.weight": Way(
                    10, zero=120, scales=(0x3E00,), symbols=b"\x83\x76\x6d\x7d"
                ),
                "stages.0.conv.bias": Way(None, zero=0, scales=(0x3E80,), symbol=1),
                "head.weight": Way(40, scales=(0x3EC0,), symbols=b"\x83\x81\x7d"),
                "head.bias": Way(None, zero=255, scales=(0x3E00,), symbol=254),
            },
        )
    ],
    ptsd=stored(steps(0, 1)),
    meta={"title": "tiny"},
)
TINY = make_model([(2, 3, 3)], embedding=2, stem=3)
FULL = make_model([(3, 3, 6), (2, 3, 4)], hfscm=(2, 2, 3, SINGLE, 1, 3), msfrp=0)
TIMED = make_model([(3, 3, 5), (2, 3, 4)], time=(20, 5, 4, 8))
MIXED = make_model([(3, 3, 5), (2, 3, 4)], head=1, time=(20, 5, 4, 8), mixing=(2, 3, 7, 6, 2))


def network_vectors() -> dict[str, Valid]:
    """Every kind of network (sections 5.1, 5.2 and 8)."""
    return {
        "hnerv": Valid(
            "HNeRV of three stages", (40, 24), [make_net([(2, 1, 8), (2, 3, 6), (2, 5, 5)], 3)]
        ),
        "hfs_hnerv": Valid(
            "HFS-HNeRV: HFSCM in every stage with single attention of kernel 7, reduction 5 and "
            "two extra convolutions, and MSFRP",
            (48, 32),
            [
                make_net(
                    [(4, 1, 7), (2, 3, 6), (2, 5, 5)], 2, hfscm=(7, 5, 7, SINGLE, 2, 3), msfrp=1
                )
            ],
        ),
        "attention_dense": Valid(
            "dense attention; a reduction that does not divide the channels; HFSCM in stage 0 only",
            (24, 18),
            [make_net([(3, 3, 7), (2, 3, 4)], 2, hfscm=(1, 3, 5, DENSE, 1, 3))],
        ),
        "attention_grouped": Valid(
            "grouped attention for 7 channels, of 10 maps, and for 5",
            (24, 20),
            [make_net([(2, 3, 7), (2, 3, 5)], 2, hfscm=(3, 4, 3, GROUPED, 1, 3))],
        ),
        "reduction_large": Valid(
            "a reduction that leaves one channel",
            (16, 12),
            [make_net([(2, 3, 5), (2, 3, 4)], hfscm=(2, 255, 3, GROUPED, 1, 1))],
        ),
        "extra_none": Valid(
            "HFSCM without extra convolutions, so without the field for their kernel",
            (24, 16),
            [make_net([(2, 3, 5), (2, 3, 4)], 2, hfscm=(2, 2, 3, DENSE, 0, 1))],
        ),
        "extra_four": Valid(
            "HFSCM with four extra convolutions of kernel 5",
            (16, 16),
            [make_net([(4, 3, 4)], hfscm=(1, 1, 1, SINGLE, 4, 5))],
        ),
        "msfrp_alone": Valid(
            "MSFRP without HFSCM, at the middle stage",
            (36, 24),
            [make_net([(3, 3, 5), (2, 3, 5), (2, 3, 4)], 2, msfrp=1)],
        ),
        "msfrp_first": Valid(
            "MSFRP at the first stage, whose map is resized six fold",
            (30, 18),
            [make_net([(1, 3, 5), (2, 3, 5), (3, 3, 4)], msfrp=0)],
        ),
        "msfrp_last": Valid(
            "MSFRP at the last stage, where resizing changes nothing",
            (20, 12),
            [make_net([(2, 3, 5), (2, 3, 4)], msfrp=1)],
        ),
        "odd_sizes": Valid(
            "25x17 cropped from 27x18; HFSCM on maps of odd and of even size",
            (25, 17),
            [make_net([(3, 3, 6), (3, 3, 4)], 2, hfscm=(3, 2, 3, SINGLE, 1, 3))],
        ),
        "stride_one": Valid(
            "stages of stride 1 only: the embedding has the size of the frame",
            (13, 9),
            [make_net([(1, 3, 5), (1, 3, 4)], hfscm=(2, 2, 3, SINGLE, 1, 3), msfrp=0)],
        ),
        "stride_eight": Valid(
            "strides 8 and 7, most of the map cropped", (60, 25), [make_net([(8, 1, 2), (7, 1, 1)])]
        ),
        "one_pixel": Valid(
            "one frame of 1x1: every map has one value a channel",
            (1, 1),
            [make_net([(1, 3, 4), (1, 5, 3)], hfscm=(3, 2, 7, DENSE, 1, 3), msfrp=0)],
            plain=True,
        ),
        "one_row": Valid(
            "frames of one row, HFSCM on maps of one row",
            (9, 1),
            [make_net([(1, 3, 5), (1, 1, 4)], 2, hfscm=(3, 2, 3, SINGLE, 1, 3))],
        ),
        "one_column": Valid(
            "frames of one column, cropped from two",
            (1, 8),
            [make_net([(2, 3, 4)], 2, hfscm=(1, 2, 3, SINGLE, 1, 3), msfrp=0)],
        ),
        "kernels_small": Valid(
            "kernels 1, 3, 5 and 7; 1 at the head",
            (24, 16),
            [
                make_net(
                    [(2, 1, 4), (2, 3, 3), (1, 5, 3), (2, 7, 3)],
                    head=1,
                    hfscm=(4, 1, 5, SINGLE, 1, 7),
                )
            ],
        ),
        "kernels_large": Valid(
            "kernels 9, 11, 13 and 15, larger than the first maps",
            (14, 10),
            [
                make_net(
                    [(2, 9, 2), (1, 11, 2), (1, 13, 2), (2, 15, 2)],
                    head=15,
                    hfscm=(8, 2, 13, SINGLE, 1, 11),
                )
            ],
        ),
        "channels": Valid(
            "numbers of channels that take two bytes",
            (10, 8),
            [make_net([(1, 1, 128), (4, 1, 3)], embedding=200, stem=3)],
        ),
        "eight_stages": Valid(
            "eight stages, HFSCM in four of them",
            (32, 16),
            [
                make_net(
                    [(stride, 3, 3) for stride in (2, 1, 1, 2, 1, 1, 2, 1)],
                    hfscm=(0b10010110, 2, 3, SINGLE, 1, 1),
                    msfrp=4,
                )
            ],
        ),
        **time_vectors(),
        "standardise": Valid(
            "HFSCM that standardises what enters its spatial attention",
            (24, 18),
            [make_net([(3, 3, 6), (2, 3, 4)], 2, hfscm=(3, 2, 3, SINGLE, 1, 3), standardise=True)],
        ),
        "msfrp_after": Valid(
            "MSFRP added to the frame, beyond 0 and 1 in places",
            (24, 18),
            [
                Net(
                    make_model([(3, 3, 6), (2, 3, 4)], msfrp=0, msfrp_after=True),
                    frames=2,
                    ways={"msfrp.weight": Way(22, level=0.5), "msfrp.bias": Way(22, level=0.5)},
                )
            ],
        ),
        "segments": Valid(
            "six segments of different lengths and networks",
            (18, 12),
            [
                Net(TINY, frames=3, seed=1),
                Net(FULL, seed=2),
                Net(TIMED, frames=2, seed=5),
                Net(MIXED, frames=3, seed=6),
                make_net([(2, 1, 3), (3, 1, 2)], 2, msfrp=1),
                Net(TINY, frames=3, seed=4),
            ],
        ),
    }


def time_vectors() -> dict[str, Valid]:
    """NeRV and E-NeRV."""
    return {
        "nerv": Valid("NeRV with two dense layers", (36, 24), [Net(TIMED, frames=4)]),
        "nerv_one_layer": Valid(
            "NeRV with one dense layer, HFSCM and MSFRP; a base of 7/3",
            (22, 14),
            [
                make_net(
                    [(2, 3, 5), (2, 3, 4)],
                    3,
                    time=(9, 7, 3, 0),
                    hfscm=(3, 2, 3, GROUPED, 1, 3),
                    msfrp=0,
                )
            ],
        ),
        "nerv_levels": Valid(
            "255 levels at a base of 255/254 and 80 at 5/4, of many frames",
            (4, 4),
            [
                make_net([(2, 1, 3)], 30, time=(255, 255, 254, 3)),
                make_net([(2, 1, 3)], 50, time=(80, 5, 4, 0)),
            ],
        ),
        "nerv_slow": Valid("a base below 1", (8, 6), [make_net([(2, 3, 3)], 3, time=(6, 1, 3, 0))]),
        "e_nerv": Valid(
            "E-NeRV with two heads and a bottleneck, cropped", (34, 22), [Net(MIXED, frames=3)]
        ),
        "e_nerv_usual": Valid(
            "E-NeRV of one head, one dense layer and a usual first stage, HFSCM that standardises, "
            "and MSFRP added to the frame",
            (20, 16),
            [
                Net(
                    make_model(
                        [(2, 3, 5), (2, 3, 4)],
                        time=(12, 3, 2, 0),
                        mixing=(1, 4, 3, 5, 0),
                        hfscm=(2, 2, 3, DENSE, 1, 3),
                        msfrp=1,
                        standardise=True,
                        msfrp_after=True,
                    ),
                    frames=2,
                    ways={"msfrp.weight": Way(22, level=0.1), "msfrp.bias": Way(22, level=0.1)},
                    seed=7,
                )
            ],
        ),
        "detail": Valid(
            "a second embedding before the last of two stages, predicted",
            (18, 12),
            [
                Net(
                    make_model([(3, 3, 4), (2, 3, 3)], 2, detail=(1, 2)),
                    3,
                    {"detail": Way(20, predicted=True, per_channel=True)},
                )
            ],
        ),
        "detail_first_stage": Valid(
            "a second embedding on the grid of the first, not predicted",
            (18, 12),
            [Net(make_model([(3, 3, 4), (2, 3, 3)], 2, hfscm=(3, 2, 3, 0, 1, 3), detail=(0, 1)))],
        ),
        "classes": Valid(
            "embeddings whose changes are in classes, three or all eleven, one of them constant",
            (36, 24),
            [
                Net(
                    make_model([(3, 3, 4), (2, 3, 3)], 2, detail=(1, 2)),
                    6,
                    {
                        "embedding": Way(3, predicted=True, others=(Way(14), Way(20))),
                        "detail": Way(
                            2,
                            predicted=True,
                            per_channel=True,
                            others=(
                                *(Way(number) for number in (4, 33, 6, 8, 10, 38)),
                                Way(None, symbol=129),
                                Way(Explicit(126, (1, 2, 0, 3, 1))),
                                *(Way(number) for number in (16, 18)),
                            ),
                        ),
                    },
                )
            ],
        ),
        "bilinear": Valid(
            "stages of strides 1, 3, 2 and 5, bilinear but for the second, with HFSCM and MSFRP",
            (58, 29),
            [
                Net(
                    make_model(
                        [(1, 3, 4), (3, 1, 4), (2, 3, 3), (5, 3, 3)],
                        2,
                        hfscm=(0b1010, 2, 3, 0, 1, 3),
                        msfrp=2,
                        bilinear=0b1101,
                    ),
                    2,
                )
            ],
        ),
        "bilinear_nerv": Valid(
            "NeRV whose only stage is bilinear",
            (16, 12),
            [Net(make_model([(4, 3, 4)], time=(6, 5, 4, 5), bilinear=1), 2)],
        ),
        "e_nerv_one_place": Valid(
            "E-NeRV whose first map has one place, which it attends to alone",
            (6, 6),
            [make_net([(3, 3, 4), (2, 3, 3)], 2, time=(8, 5, 4, 3), mixing=(3, 2, 4, 4, 1))],
            plain=True,
        ),
    }


def explicit_way(order: int) -> Way:
    """A table of nine symbols, two of them unused, around the zero; its weights fit the order."""
    random = Random(order)
    half = [1, 1 + random.below(2**order // 4), 0, 1 + random.below(2**order // 4)]
    first = random.below(248)
    return Way(Explicit(first, (*half, 2**order, *reversed(half)), order), first + 4)


def coding_vectors() -> dict[str, Valid]:
    """Every kind of tensor head and of table (sections 5.3 and 6)."""
    many = make_model([(2, 3, 6), (2, 3, 5)], hfscm=(3, 2, 3, DENSE, 1, 3), msfrp=0)
    laplace, gauss = (tuple(map(Way, range(t, t + 32))) for t in (0, 32))
    orders = tuple(map(explicit_way, range(24)))
    gap = [0] * 70
    shapes = {
        "embedding": Way(Explicit(0, (1,) * 256)),
        "stem.weight": Way(Explicit(101, (2**23, *gap, 1, 2**23 - 1), 20), 139),
        "stem.bias": Way(Explicit(20, (2**24 - 1, 1)), 19, symbols=b"\x14\x15\x14"),
        "stages.0.conv.weight": Way(Explicit(250, (2, 3, 3, 0, 1, 3)), 253),
        "stages.0.conv.bias": Way(Explicit(0, (1, *[0] * 254, 2))),
    }
    extreme = {
        "embedding": Way(per_channel=True, scales=(0x2B80, 0x2BFF)),
        "stem.weight": Way(scales=(0x4980,)),
        "stem.bias": Way(scales=(0x2B80,)),
        "stages.0.conv.weight": Way(20, scales=(0x4249,)),
    }
    channel_wise = (Way(22, per_channel=True), Way(52), Way(25, per_channel=True))
    ends = (Way(20, 0, level=0.5), Way(50, 255), Way(22), Way(19, 1, level=0.5))
    constant = (Way(None), Way(None, 170), Way(None, 0, 255))
    first = (
        Way(22, 100, symbols=b"\xe4", per_channel=True, level=0.2),
        Way(Explicit(140, (3, 0, 1)), 150, symbols=b"\x8c"),
    )
    saturating = {
        "stages.1.hfscm.channel_expand.bias": Way(None, 255, 0, scales=(0x4980,)),
        "stages.1.hfscm.spatial_expand.bias": Way(None, 255, 0, scales=(0x4480,)),
        "head.weight": Way(scales=(0x4680,)),
    }
    return {
        "tables_laplace": Valid("all frozen Laplace tables", (20, 12), [Net(many, usual=laplace)]),
        "tables_gaussian": Valid("all frozen Gaussian tables", (20, 12), [Net(many, usual=gauss)]),
        "tables_explicit": Valid(
            "explicit tables of every order, with unused symbols in the middle",
            (20, 12),
            [Net(many, usual=orders)],
        ),
        "tables_explicit_shapes": Valid(
            "explicit tables of 256 symbols and of 2, of the largest weight and sum, with several "
            "largest weights",
            (12, 8),
            [Net(TINY, ways=shapes)],
        ),
        "scales_per_channel": Valid(
            "a scale for each channel, of embeddings too",
            (18, 12),
            [Net(FULL, 2, usual=channel_wise)],
        ),
        "scales_extreme": Valid(
            "the smallest and the largest scale", (12, 8), [Net(TINY, ways=extreme)]
        ),
        "zeros": Valid(
            "zeros 0 and 255, so that frozen tables wrap around",
            (18, 12),
            [Net(FULL, usual=ends)],
        ),
        "constant": Valid(
            "constant tensors only, which leave no words",
            (18, 12),
            [Net(FULL, usual=constant)],
            plain=True,
        ),
        "constant_per_channel": Valid(
            "constant tensors with a scale for each channel",
            (12, 12),
            [Net(TINY, 2, usual=(Way(None, per_channel=True), Way(None, 255)))],
        ),
        "no_words": Valid(
            "tensors that are not constant, whose indices are all 0, which leave no words",
            (12, 8),
            [Net(TINY, usual=first)],
            plain=True,
        ),
        "one_word": Valid(
            "one word for all symbols",
            (12, 8),
            [
                Net(
                    TINY,
                    ways={"head.bias": Way(12, symbols=b"\x82\x80\x7f")},
                    usual=(Way(None, per_channel=True, level=0.2), Way(None, 170)),
                )
            ],
        ),
        "predicted": Valid(
            "an embedding predicted from the frame before, around another zero than 128",
            (12, 8),
            [Net(TINY, 4, {"embedding": Way(18, 100, predicted=True, per_channel=True)})],
        ),
        "predicted_explicit": Valid(
            "changes of an embedding that go round from 255 to 0, with an explicit table",
            (12, 8),
            [Net(TINY, 4, {"embedding": Way(Explicit(70, (1, *gap, 1)), 200, predicted=True)})],
        ),
        "predicted_constant": Valid(
            "an embedding whose changes are all alike",
            (12, 8),
            [Net(TINY, 3, {"embedding": Way(None, 250, 133, predicted=True)})],
            plain=True,
        ),
        "saturated": Valid(
            "samples that are all 0 or 255, gates of which exp overflows",
            (18, 12),
            [Net(FULL, ways=saturating)],
            plain=True,
        ),
    }


EVERY_META = {
    "tool": "make_vectors 1",
    "source": "00112233445566778899aabbccddeeff",
    "epochs": 300,
    "seed": 2**32,
    "crop": [16, 12],
    "audio": ["flac, 8000 Hz, mono"],
    "title": "Caf\u00e9 \u6771\u4eac \U0001f3ac",
}
OTHER_META = {
    "tool": 7,
    "source": None,
    "epochs": True,
    "seed": "1",
    "crop": [16, 12, 2],
    "audio": "aac",
    "title": ["no", "string"],
    "later": {
        "depth": [[0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1]],
        "negative": [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)],
        "floats": [0.1, -0.0, 5e-324],
        "strings": ["", "x" * 31, "x" * 32, "x" * 255, "x" * 256],
        "many": list(range(16)),
        "map": {str(i): False for i in range(16)},
    },
    "": [],
}
SKIPPED = (
    (1, chunk(0x01, b"")),
    (3, chunk(0x41, b"private")),
    (5, chunk(0x7F, bytes(200))),
    (6, chunk(0x01, b"again")),
)
LONGEST = 2**31 - 1
"""Ticks of a frame, and the largest numerator."""


def stream_vectors() -> dict[str, Valid]:
    """Everything beside the networks (sections 3, 4 and 7)."""
    one, three, size = [Net(TINY)], [Net(TINY, frames=3)], (8, 6)
    random = Random(0)
    uneven = steps(*(random.below(5) - 2 + 90 * (random.below(20) == 0) for _ in range(240)))
    rate = {"time_base": (1, 90000), "frame_duration": 3003}
    mp4, matroska = input_file("tone.mp4"), input_file("tone.mkv")
    packed = compressed(len(matroska), frozen_zlib("tone.mkv.zlib", matroska))
    return {
        "minimal": MINIMAL,
        "bare": Valid("neither META nor HASH", size, one, hashes=b""),
        "meta_all": Valid("every key of META", size, one, meta=EVERY_META),
        "meta_ignored": Valid(
            "keys of META to be ignored: unknown, or with a value of another type",
            size,
            one,
            meta=OTHER_META,
        ),
        "hash_other": Valid(
            "a HASH of other frames, for which no decoder may refuse the file",
            size,
            one,
            meta={},
            hashes=bytes(8),
        ),
        "unknown_chunks": Valid(
            "chunks to be skipped in several places, one for private use",
            size,
            one,
            meta={},
            extra=SKIPPED,
        ),
        "audio_mp4": Valid("audio in MP4, stored", size, three, audio=b"\x00" + stored(mp4)),
        "audio_matroska": Valid(
            "audio in Matroska, compressed", size, three, audio=b"\x01" + packed
        ),
        "vfr_stored": Valid(
            "frames of different lengths, stored", size, three, rate, stored(steps(0, -3002, 900))
        ),
        "vfr_compressed": Valid(
            "many frames of different lengths, compressed",
            (4, 4),
            [Net(TINY, frames=240)],
            {"time_base": (1, 120), "frame_duration": 4},
            compressed(len(uneven), frozen_zlib("steps.zlib", uneven)),
        ),
        "vfr_redundant": Valid(
            "a PTSD that need not be there, in a zlib stream of one stored block",
            size,
            three,
            ptsd=compressed(3, zlib_stored(steps(0, 0, 0))),
        ),
        "times_longest": Valid(
            "the longest frames and the shortest, from the earliest start on",
            size,
            three,
            {"start": -(2**62), "time_base": (LONGEST, 1), "frame_duration": LONGEST},
            stored(steps(0, 1 - LONGEST, 0)),
        ),
        "times_latest": Valid(
            "the latest start",
            size,
            three,
            {"start": 2**62 - 1, "time_base": (LONGEST - 1, LONGEST)},
            stored(steps(LONGEST - 1, 0, 1)),
        ),
        "times_negative": Valid("frames before time 0", size, three, {**rate, "start": -3003}),
        **colour_vectors(),
        **depth_vectors(),
    }


def colour_vectors() -> dict[str, Valid]:
    names = ("primaries", "transfer", "full_range", "rotation", "sample_aspect_ratio")
    values = {
        1: (1, 13, 1, 1, (4, 3)),
        4: (4, 4, 0, 2, (1, 2)),
        5: (5, 6, 1, 3, (12, 11)),
        6: (6, 6, 0, 0, (10, 11)),
        7: (250, 0, 0, 1, (LONGEST, LONGEST - 1)),
        9: (9, 16, 0, 2, (1, LONGEST)),
    }
    about = "colour, range, rotation and sample aspect ratio"
    return {
        f"colour_matrix_{matrix}": Valid(
            about, (6, 4), [Net(TINY)], {"matrix": matrix, **dict(zip(names, rest, strict=True))}
        )
        for matrix, rest in values.items()
    }


def depth_vectors() -> dict[str, Valid]:
    display = [34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 1]
    return {
        "depth_10": Valid(
            "10 bits a sample, HDR of BT.2020 and PQ",
            (12, 8),
            [make_net([(2, 3, 5), (2, 3, 4)], 3)],
            {"bit_depth": 10, "primaries": 9, "transfer": 16, "matrix": 9},
            meta={"mastering_display": display, "content_light": [1000, 400]},
        ),
        "depth_12": Valid(
            "12 bits a sample",
            (9, 7),
            [make_net([(3, 3, 4)], 2, hfscm=(1, 2, 3, SINGLE, 1, 3)), Net(TINY)],
            {"bit_depth": 12},
        ),
    }


def valid_vectors() -> dict[str, Valid]:
    return {**network_vectors(), **coding_vectors(), **stream_vectors()}
