"""What the program and `tools/reference_decoder.py` say of a file, in the JSON of the vectors."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nervcodec.bitstream.stream import StreamReader
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader, TimeSpec, TransformerSpec
from nervcodec.bitstream.tensors import Limits
from nervcodec.errors import BitstreamError, UnsupportedError
from nervcodec.inference import SegmentRenderer
from nervcodec.samples import Frames
from tools import reference_decoder as reference
from tools.make_vectors.writing import MAJOR, MINOR, make_model

Json = dict[str, Any]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """A segment as one of the decoders gives it; `values` are float32."""

    model: reference.Model
    frames: int
    symbols: Sequence[Bytes]
    values: Sequence[npt.NDArray[np.float32]]
    pictures: Iterable[Frames]


def describe(
    header: reference.Header,
    times: Sequence[int],
    meta: Json,
    hashes: Sequence[bytes] | None,
    audio: tuple[str, bytes] | None,
    segments: Iterable[Decoded],
) -> Json:
    """What a vector's JSON holds; ``times`` has the end of the last frame as one item more."""
    described: list[Json] = []
    first = 0
    for index, segment in enumerate(segments):
        crc, values, frames = 0, hashlib.sha256(), hashlib.sha256()
        for symbols, tensor in zip(segment.symbols, segment.values, strict=True):
            crc = zlib.crc32(symbols.tobytes(), crc)
            values.update(tensor.astype("<f4").tobytes())
        for picture in segment.pictures:
            little_endian = picture.dtype.newbyteorder("<")
            frames.update(picture.astype(little_endian).tobytes())
        place = {"index": index, "first_frame": first, "frames": segment.frames}
        sums = {
            "symbols_crc32": f"{crc:08x}",
            "values_sha256": values.hexdigest(),
            "frames_sha256": frames.hexdigest(),
        }
        described.append({**place, "model": model_json(segment.model), **sums})
        first += segment.frames
    return {
        "head": head_json(header),
        "timestamps": list(times[:-1]),
        "last_duration": times[-1] - times[-2],
        "meta": meta,
        "hash": None if hashes is None else [each.hex() for each in hashes],
        "audio": audio
        and {
            "container": audio[0],
            "length": len(audio[1]),
            "sha256": hashlib.sha256(audio[1]).hexdigest(),
        },
        "segments": described,
    }


def head_json(header: reference.Header) -> Json:
    """Every field of HEAD."""
    version = {"major": MAJOR, "minor": MINOR, "profile": 0, "flags": 0}
    fields: Json = {**version, **asdict(header)}
    fields["range"] = fields.pop("full_range")
    for name in ("time_base", "sample_aspect_ratio"):
        fields[name] = list(fields[name])
    return fields


def model_json(model: reference.Model) -> Json:
    block = model.hfscm
    stages = [
        {**asdict(stage), "hfscm": bool(block.mask >> i & 1)}
        for i, stage in enumerate(model.stages)
    ]
    hfscm = {
        "reduction": block.reduction,
        "attention_kernel": block.kernel,
        "attention": ("single", "dense", "grouped")[block.attention],
        "extra_convolutions": block.extra_convolutions,
        "extra_kernel": block.extra_kernel if block.extra_convolutions else None,
    }
    return {
        "architecture": model.architecture,
        "stages": stages,
        "embedding_channels": model.embedding_channels,
        "stem_channels": model.stem_channels,
        "head_kernel": model.head_kernel,
        "hfscm": hfscm if block.mask else None,
        "msfrp_stage": model.msfrp_stage,
        "time": model.time and asdict(model.time),
        "mixing": model.mixing and asdict(model.mixing),
        "standardise": model.standardise,
        "msfrp_after": model.msfrp_after,
        "detail": model.detail and asdict(model.detail),
    }


def by_reference_decoder(data: bytes) -> Json:
    """What `tools/reference_decoder.py` reads; raises its InvalidFile."""
    file = reference.parse(data)
    audio = file.audio and (("mp4", "matroska")[file.audio[0]], file.audio[1])
    segments = []
    for index, segment in enumerate(file.segments):
        pairs = zip(segment.tensors, segment.symbols, strict=True)
        values = [reference.dequantize(*pair).astype(np.float32) for pair in pairs]
        pictures = reference.render(file, index)
        segments.append(Decoded(segment.model, segment.frames, segment.symbols, values, pictures))
    times = file.timestamps.tolist()
    return describe(file.header, times, file.meta, file.hashes or None, audio, segments)


def by_nervcodec(data: bytes) -> Json:
    """What the program reads; raises BitstreamError."""
    reader = StreamReader(io.BytesIO(data), Limits())
    header, audio = reader.header, reader.audio()
    segments = []
    for index in range(len(reader.segments)):
        segment = reader.segment(index)
        renderer = SegmentRenderer(
            segment, header.width, header.height, bit_depth=header.bit_depth, reference=True
        )
        segments.append(
            Decoded(
                reference_model(segment.model),
                segment.frames,
                [tensor.symbols for tensor in segment.tensors],
                [tensor.dequantize() for tensor in segment.tensors],
                renderer.frames(range(segment.frames)),
            )
        )
    return describe(
        reference_header(header),
        [*reader.pts, reader.pts[-1] + reader.last_duration],
        {key: value for key, value in reader.meta.items() if reference.is_known(key, value)},
        reader.digests,
        None if audio is None else (audio.container, audio.data),
        segments,
    )


def reference_header(header: StreamHeader) -> reference.Header:
    """The program's header as the other decoder has it."""
    aspect = header.sample_aspect_ratio
    return reference.Header(
        width=header.width,
        height=header.height,
        frames=header.frames,
        segments=header.segments,
        time_base=(header.time_base.numerator, header.time_base.denominator),
        start=header.start_pts,
        frame_duration=header.frame_duration,
        sample_aspect_ratio=(aspect.numerator, aspect.denominator),
        primaries=header.primaries,
        transfer=header.transfer,
        matrix=header.matrix,
        full_range=int(header.full_range),
        rotation=header.rotation // 90,
        bit_depth=header.bit_depth,
    )


def reference_model(spec: ModelSpec) -> reference.Model:
    """The program's model as the other decoder has it."""
    mask = sum(int(stage.hfscm) << i for i, stage in enumerate(spec.stages))
    block = spec.hfscm
    extra = (block.extra_convs, block.extra_kernel if block.extra_convs else 1)
    shapes = [(stage.stride, stage.kernel, stage.channels) for stage in spec.stages]
    time, mixer = spec.time, spec.transformer
    return make_model(
        shapes,
        spec.embedding_channels,
        spec.stem_channels,
        spec.head_kernel,
        (mask, block.reduction, block.kernel, int(block.attention), *extra) if mask else None,
        spec.msfrp_stage,
        None
        if time is None
        else (time.levels, time.base.numerator, time.base.denominator, time.hidden),
        None if mixer is None else mixing(mixer),
        block.norm,
        spec.msfrp_after,
        None if spec.detail is None else (spec.detail.stage, spec.detail.channels),
        sum(int(stage.bilinear) << index for index, stage in enumerate(spec.stages)),
    )


def coded_time(spec: TimeSpec) -> tuple[int, int, int, int]:
    return spec.levels, spec.base.numerator, spec.base.denominator, spec.hidden


def mixing(spec: TransformerSpec) -> tuple[int, int, int, int, int]:
    widths = (spec.head_width, spec.feed_forward, spec.modulation, spec.bottleneck)
    return (spec.heads, *widths)


def refusal_by_reference_decoder(data: bytes) -> str:
    """``invalid`` or ``unsupported``; empty for a file that it reads."""
    try:
        by_reference_decoder(data)
    except reference.InvalidFile as error:
        return "unsupported" if isinstance(error, reference.UnsupportedFile) else "invalid"
    return ""


def refusal_by_nervcodec(data: bytes) -> tuple[str, str]:
    """``invalid`` or ``unsupported``, and the stage; empty for a file that it reads."""
    stage = "open"
    try:
        reader = StreamReader(io.BytesIO(data), Limits())
        stage = "symbols"
        segments = [reader.segment(index) for index in range(len(reader.segments))]
        stage = "audio"
        reader.audio()
        stage = "frames"
        for segment in segments:
            renderer = SegmentRenderer(
                segment, reader.header.width, reader.header.height, reference=True
            )
            for _ in renderer.frames(range(segment.frames)):
                pass
    except BitstreamError as error:
        return "unsupported" if isinstance(error, UnsupportedError) else "invalid", stage
    return "", ""
