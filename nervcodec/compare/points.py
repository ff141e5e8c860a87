"""One measured encode, of a conventional codec or of a ``.hfsv`` file, as results hold it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from nervcodec.bitstream.container import ChunkType, chunk_name
from nervcodec.clip import HfsvFile
from nervcodec.compare.anchors import EncodedStream, decode_stream, encode_stream, stream_at_bytes
from nervcodec.compare.encoders import Encoder, own_words, text_bytes
from nervcodec.compare.measures import QualityMeter
from nervcodec.compare.reference import Reference
from nervcodec.errors import UsageError
from nervcodec.files import file_digest
from nervcodec.info import FileInfo, probe
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.planes import coded_format

OURS = "hfsv"

FrameCount = Callable[[int], None]
"""Told how many frames have been measured."""


@dataclass(frozen=True)
class Point:
    """One rate with its quality.

    Attributes:
        codec: a label of :mod:`.encoders` or :data:`OURS`.
        preset: of the encoder; of a ``.hfsv`` its network.
        setting: what sets the rate, for a person.
        bytes: those of the video alone; what is counted is told in the report.
        quality: as in :class:`.measures.Quality`.
        frame_psnr: RGB PSNR of each frame in dB, to a hundredth.
        encode_seconds: None where a file was there already.
        details: what else a reader may ask for: settings, frame types, place of the file.
        matches: the name of the ``.hfsv`` whose bytes this point was to have.
        tune: one of :data:`.encoders.TUNES`; empty for the encoder's own.
    """

    codec: str
    preset: str
    setting: str
    bytes: int
    quality: dict[str, float]
    frame_psnr: tuple[float, ...]
    encode_seconds: float | None
    decode_seconds: float
    details: dict[str, Any]
    matches: str | None = None
    tune: str = ""

    @property
    def name(self) -> str:
        return f"{self.curve} {self.setting}"

    @property
    def curve(self) -> str:
        """The curve that it lies on."""
        return f"{self.codec} {self.preset}" + (f" tune {self.tune}" if self.tune else "")


def measure_anchor(
    reference: Reference,
    encoder: Encoder,
    preset: str,
    metrics: Sequence[str],
    *,
    crf: float | None = None,
    target: tuple[str, int] | None = None,
    tune: str | None = None,
    progress: FrameCount | None = None,
) -> Point:
    """Encode, decode and measure at ``crf``, or at the bytes of ``target`` (its name, its bytes).

    Raises:
        UsageError: as :func:`.anchors.encode_stream` does.
    """
    arguments = encoder.name, preset
    rate, color = reference.frame_rate, reference.color
    if target is not None:
        stream = stream_at_bytes(reference, *arguments, target[1], rate, color, tune)
    else:
        assert crf is not None
        stream = encode_stream(reference, *arguments, crf, rate, color, tune)
    meter, kinds, seconds = _meter(reference, metrics), Counter[str](), 0.0
    for index, (original, decoded) in enumerate(
        zip(reference, decode_stream(stream), strict=True), start=1
    ):
        meter.add(_both(original, reference), (decoded.rgb, decoded.picture))
        kinds[PictureType(decoded.picture.pict_type).name] += 1
        seconds += decoded.seconds
        if progress is not None:
            progress(index)
    quality = meter.finish()
    return Point(
        codec=encoder.label,
        preset=preset,
        setting=f"crf {stream.crf:g}",
        bytes=stream.size,
        quality=quality.values,
        frame_psnr=_rounded(quality.frame_psnr),
        encode_seconds=stream.seconds,
        decode_seconds=seconds,
        details={
            "crf": stream.crf,
            "preset_value": encoder.preset_value(preset),
            "pixel_format": coded_format(reference.width, reference.height),
            "frame_types": dict(kinds),
            **_stream_details(stream),
        },
        matches=None if target is None else target[0],
        tune=tune or "",
    )


def _stream_details(stream: EncodedStream) -> dict[str, Any]:
    first = bytes(stream.packets[0])
    return {
        "encoder": own_words(stream.extradata + first),
        "keyframes": sum(packet.is_keyframe for packet in stream.packets),
        "text_bytes": text_bytes(first),
        "extradata_bytes": len(stream.extradata),
    }


def measure_hfsv(
    reference: Reference,
    path: Path,
    metrics: Sequence[str],
    *,
    device: str = "auto",
    encode_seconds: float | None = None,
    progress: FrameCount | None = None,
) -> Point:
    """Decode and measure a ``.hfsv`` file that holds the frames of ``reference``.

    Raises:
        BitstreamError: if it is damaged. UsageError: if it holds other frames.
    """
    info = probe(path)
    meter, seconds = _meter(reference, metrics), 0.0
    with HfsvFile(path, device=device) as file:
        check_same(file, reference)
        file.check_clip_limits()
        decoded = _timed(iter(file))
        for index, original in enumerate(reference, start=1):
            rgb, spent = next(decoded)
            meter.add(_both(original, reference), _both(rgb, reference))
            seconds += spent
            if progress is not None:
                progress(index)
    quality = meter.finish()
    parameters = sum(info.parameters(segment) for segment in info.segments)
    return Point(
        codec=OURS,
        preset=info.architecture,
        setting=path.name,
        bytes=info.file_bytes - info.audio_bytes,
        quality=quality.values,
        frame_psnr=_rounded(quality.frame_psnr),
        encode_seconds=encode_seconds,
        decode_seconds=seconds,
        details={
            "encoder": str(info.meta.get("tool", "")),
            "digest": file_digest(path),
            "same_source": info.meta.get("source") == reference.digest,
            "epochs": info.meta.get("epochs"),
            "seed": info.meta.get("seed"),
            "parameters": parameters,
            "macs_per_frame": max(info.macs(segment) for segment in info.segments),
            "segments": len(info.segments),
            "file_bytes": info.file_bytes,
            "audio_bytes": info.audio_bytes,
            "container_bytes": _container_bytes(info),
            "device": device,
        },
    )


def check_same(file: HfsvFile, reference: Reference) -> None:
    """Require that a file holds the frames of ``reference``; raises UsageError else."""
    ours = file.width, file.height, len(file)
    theirs = reference.width, reference.height, reference.count
    if ours != theirs:
        raise UsageError(
            f"{file.path}: holds {ours[2]} frames of {ours[0]}x{ours[1]}, not {theirs[2]} of "
            f"{theirs[0]}x{theirs[1]} as are compared"
        )


def _container_bytes(info: FileInfo) -> int:
    """All but networks and what is passed through."""
    segments = info.chunk_bytes[chunk_name(ChunkType.SEGM)]
    return info.file_bytes - info.audio_bytes - segments


def _meter(reference: Reference, metrics: Sequence[str]) -> QualityMeter:
    size = reference.width, reference.height
    return QualityMeter(metrics, size, coded_format(*size), reference.frame_rate)


def _both(rgb: NDArray[np.uint8], reference: Reference) -> tuple[NDArray[np.uint8], VideoFrame]:
    """A frame in RGB, and in Y'CbCr as an encoder is given it."""
    size = reference.width, reference.height
    return rgb, rgb_to_frame(rgb, coded_format(*size), reference.color)


def _timed(frames: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, time.perf_counter() - start


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in values)
