"""Clips made on the spot and read back with PyAV alone, for the tests of ``nervcodec.video``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame

KR_KB = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
MS = Fraction(1, 1000)


def clip(name: str) -> Path:
    """A clip of the test corpus; skips the test where there is no corpus."""
    folder = os.environ.get("HFSV_CLIPS")
    if not folder:
        pytest.skip("HFSV_CLIPS is not set: no corpus of real clips")
    path = Path(folder) / name
    assert path.exists(), f"{path} is missing from the corpus"
    return path


def manifest() -> list[dict[str, str]]:
    """The corpus's table, one dict a clip."""
    lines = clip("MANIFEST.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    return [dict(zip(header, line.split("\t"), strict=False)) for line in lines[1:]]


def picture(width: int, height: int, index: int = 0) -> np.ndarray:
    """A smooth moving picture, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width] / 40.0
    phase = index * 0.15
    waves = (np.sin(x + phase), np.cos(y - phase), np.sin((x + y) / 2 + 2 * phase))
    return np.round(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def yuv_to_rgb(
    y: np.ndarray, u: np.ndarray, v: np.ndarray, matrix: int, full_range: bool, bits: int = 8
) -> np.ndarray:
    """H.273 in float64: codes (H, W) of so many bits to RGB (H, W, 3), clipped to 0 .. 255."""
    kr, kb = KR_KB[matrix]
    unit = 2 ** (bits - 8)
    y, u, v = (np.asarray(a, np.float64) for a in (y, u, v))
    luma = y / (2**bits - 1) if full_range else (y / unit - 16) / 219
    span = 2**bits - 1 if full_range else 224 * unit
    cb, cr = ((c - 128 * unit) / span for c in (u, v))
    red = luma + 2 * (1 - kr) * cr
    blue = luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=-1) * 255, 0, 255)


def rgb_to_yuv(
    rgb: np.ndarray, matrix: int, full_range: bool, bits: int = 8
) -> tuple[np.ndarray, ...]:
    """H.273 in float64: RGB (H, W, 3) of 0 .. 255 to codes Y, Cb, Cr (H, W), not rounded."""
    kr, kb = KR_KB[matrix]
    red, green, blue = np.moveaxis(np.asarray(rgb, np.float64) / 255, -1, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    unit, most = 2 ** (bits - 8), 2**bits - 1
    y_span, c_span = (most, most) if full_range else (219 * unit, 224 * unit)
    black = 0 if full_range else 16 * unit
    return (luma * y_span + black, *(c * c_span + 128 * unit for c in chroma))


def planes_of(frame: VideoFrame) -> list[np.ndarray]:
    """The planes of a Y'CbCr or grey frame: views of its codes, each (H, W)."""
    planes = []
    for plane, component in zip(frame.planes, frame.format.components, strict=True):
        kind = np.uint8 if component.bits == 8 else np.uint16
        lines = np.frombuffer(plane, kind).reshape(plane.height, -1)
        planes.append(lines[:, : plane.width])
    return planes


def full_planes(frame: VideoFrame) -> list[np.ndarray]:
    """The planes' codes, float64, chroma repeated to be as large as luma."""
    planes = []
    for lines in planes_of(frame):
        height, width = lines.shape
        down, right = -(-frame.height // height), -(-frame.width // width)
        large = lines.repeat(down, axis=0).repeat(right, axis=1)[: frame.height, : frame.width]
        planes.append(large.astype(float))
    return planes


def flat_frame(pixel_format: str, codes: tuple[int, int, int], size: int = 32) -> VideoFrame:
    """A frame of one colour; ``codes`` are 8-bit Y, Cb, Cr, shifted up for deeper formats."""
    frame = VideoFrame(size, size, pixel_format)
    bits = frame.format.components[0].bits
    for plane, code in zip(frame.planes, codes, strict=False):
        samples = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
        samples[:] = code << (bits - 8)
    return frame


@dataclass(frozen=True)
class ClipSpec:
    """What :func:`make_clip` writes: ``chapters`` are (start, end, title) in milliseconds, and
    there is an audio stream for each of ``audio_languages`` where ``audio`` names a codec.
    """

    width: int = 64
    height: int = 48
    frames: int = 10
    container: str = "mp4"
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    time_base: Fraction = Fraction(1, 25)
    pts: tuple[int, ...] | None = None
    colour: tuple[int, int, int, int] = (2, 2, 2, 0)
    pixel_shape: Fraction | None = None
    rotation: int = 0
    audio: str | None = None
    audio_rate: int = 48000
    audio_seconds: Fraction = Fraction(1, 2)
    audio_languages: tuple[str, ...] = ("und",)
    chapters: tuple[tuple[int, int, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    muxer: tuple[tuple[str, str], ...] = ()


def make_clip(path: Path, spec: ClipSpec) -> Path:
    """Write a clip with PyAV alone, optionally with a tone."""
    with av.open(
        os.fspath(path), "w", format=spec.container, container_options=dict(spec.muxer)
    ) as output:
        stream = output.add_stream(spec.codec, rate=25, options=dict(spec.options))
        context = stream.codec_context
        context.width, context.height = spec.width, spec.height
        context.pix_fmt = spec.pixel_format
        context.color_primaries, context.color_trc = spec.colour[:2]
        context.colorspace, context.color_range = spec.colour[2:]
        if spec.pixel_shape:
            context.sample_aspect_ratio = spec.pixel_shape
        stream.time_base = context.time_base = spec.time_base
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        output.metadata.update(dict(spec.tags))
        output.set_chapters(
            [
                {"id": i, "start": a, "end": b, "time_base": MS, "metadata": {"title": title}}
                for i, (a, b, title) in enumerate(spec.chapters, 1)
            ]
        )
        sounds = []
        for language in spec.audio_languages if spec.audio else ():
            sounds.append(output.add_stream(spec.audio, rate=spec.audio_rate, layout="stereo"))
            sounds[-1].metadata["language"] = language
        for index, pts in enumerate(spec.pts or range(spec.frames)):
            rgb = VideoFrame.from_ndarray(picture(spec.width, spec.height, index))
            frame = rgb.reformat(format=spec.pixel_format)
            frame.pts, frame.time_base = pts, spec.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for sound in sounds:
            _add_tone(output, sound, spec)
    return path


def _add_tone(output: av.container.OutputContainer, sound: av.AudioStream, spec: ClipSpec) -> None:
    """A 440 Hz tone."""
    time = np.arange(int(spec.audio_rate * spec.audio_seconds)) / spec.audio_rate
    wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    frame = AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = spec.audio_rate, 0
    output.mux(sound.encode(frame))
    output.mux(sound.encode(None))


@dataclass(frozen=True)
class Subtitles:
    """Texts, each (start, duration, text) in milliseconds, as :func:`add_subtitles` takes them."""

    codec: str
    texts: tuple[tuple[int, int, bytes], ...]
    language: str = "und"
    title: str = ""
    disposition: int = 0


def add_subtitles(path: Path, source: Path, container: str, *subtitles: Subtitles) -> Path:
    """Write the streams of ``source`` and then these subtitles to ``path``."""
    options = {"default_mode": "passthrough"} if container == "matroska" else {}
    with (
        av.open(os.fspath(source)) as old,
        av.open(os.fspath(path), "w", format=container, container_options=options) as new,
    ):
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        streams = []
        for spec in subtitles:
            stream = new.add_mux_stream(spec.codec)
            stream.time_base, stream.disposition = MS, Disposition(spec.disposition)
            stream.metadata.update({"language": spec.language, "title": spec.title})
            streams.append(stream)
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                new.mux(packet)
        for stream, spec in zip(streams, subtitles, strict=True):
            for start, duration, text in spec.texts:
                packet = Packet(text)
                packet.pts = packet.dts = start
                packet.duration, packet.time_base = duration, MS
                packet.stream = stream
                new.mux(packet)
    return path


def subtitle_packets(path: Path) -> list[list[tuple[Fraction, Fraction, bytes]]]:
    """(start, duration, bytes) of each text of each subtitle stream; empty MP4 texts left out."""
    with av.open(os.fspath(path)) as container:
        streams = container.streams.subtitles
        found: dict[int, list[tuple[Fraction, Fraction, bytes]]] = {s.index: [] for s in streams}
        for packet in container.demux(streams) if streams else ():
            if packet.size and bytes(packet) != bytes(2):
                times = (packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base)
                found[packet.stream.index].append((*times, bytes(packet)))
        return list(found.values())


def decoded(path: Path) -> list[VideoFrame]:
    """All frames of the first video stream."""
    with av.open(os.fspath(path)) as container:
        return list(container.decode(video=0))


def times(path: Path) -> list[Fraction]:
    """When each frame of the first video stream is shown, in seconds."""
    return [frame.pts * frame.time_base for frame in decoded(path)]


def audio_packets(path: Path) -> list[list[tuple[Fraction, bytes]]]:
    """(seconds, bytes) of each packet of each audio stream."""
    with av.open(os.fspath(path)) as container:
        streams = container.streams.audio
        if not streams:
            return []
        found: dict[int, list[tuple[Fraction, bytes]]] = {s.index: [] for s in streams}
        for packet in container.demux(streams):
            if packet.size:
                start = packet.pts * packet.time_base
                found[packet.stream.index].append((start, bytes(packet)))
        return list(found.values())


def first_heard(path: Path) -> list[Fraction]:
    """When the first sample of each audio stream is heard, without what its start discards."""
    with av.open(os.fspath(path)) as container:
        count = len(container.streams.audio)
    found = []
    for number in range(count):
        with av.open(os.fspath(path)) as container:
            frame = next(container.decode(audio=number))
            found.append(frame.pts * frame.time_base)
    return found


def first_frame(path: Path) -> VideoFrame:
    """The first frame of the first video stream."""
    with av.open(os.fspath(path)) as container:
        return next(container.decode(video=0))


def first_shown(path: Path) -> Fraction:
    """When the first frame is shown, in seconds."""
    frame = first_frame(path)
    return frame.pts * frame.time_base
