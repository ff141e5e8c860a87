"""Small synthetic clips, and videos read back, for the tests of whole encodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig

SMALLEST = EncodeConfig(
    train=TrainConfig(epochs=1, batch=16, hfs_weight=0),
    model=ModelConfig(params=5000, hfscm=False, msfrp=False, embedding_values=1),
)
"""For tests that look at all but the pictures."""


def moving_pattern(width: int, height: int, count: int) -> np.ndarray:
    """Smooth moving colours, uint8 (count, height, width, 3)."""
    t, y, x = np.ogrid[:count, :height, :width]
    red = np.sin(x / 7 + t / 3) + np.cos(y / 9)
    green = np.sin(y / 5 - t / 4) + np.cos(x / 11)
    blue = np.sin((x + y) / 13 + t / 2) + 0 * red
    return np.stack([128 + 60 * c for c in (red, green, blue)], axis=-1).astype(np.uint8)


def write_clip(
    path: Path,
    frames: np.ndarray,
    *,
    rate: int = 25,
    pts: list[int] | None = None,
    audio: bool = False,
) -> Path:
    """A video of ``frames`` in lossless H.264 with a 440 Hz tone where ``audio`` is set."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio else None
        for index, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _write_tone(container, sound, len(frames) / rate)
    return path


def _write_tone(
    container: av.container.OutputContainer, sound: av.AudioStream, seconds: float
) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * 440 * 2 * np.pi / 16000)
    for start in range(0, len(samples), 1024):
        block = samples[None, start : start + 1024].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(sound.encode(frame))
    container.mux(sound.encode())


@dataclass(frozen=True)
class ReadBack:
    """What a player would find in a video file; times in seconds."""

    times: list[Fraction]
    size: tuple[int, int]
    sample_aspect_ratio: Fraction | None
    colour: tuple[int, int, int, int]
    frames: list[np.ndarray]
    audio: list[tuple[bytes, Fraction]]


def read_back(path: Path) -> ReadBack:
    times, frames = [], []
    audio: list[tuple[bytes, Fraction]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            times.append(frame.pts * frame.time_base)
            frames.append(frame.to_ndarray(format="rgb24"))
        context = stream.codec_context
        colour = (
            context.color_primaries,
            context.color_trc,
            context.colorspace,
            context.color_range,
        )
        size, aspect = (stream.width, stream.height), stream.sample_aspect_ratio
    with av.open(str(path)) as container:
        if container.streams.audio:
            audio = [
                (bytes(packet), packet.pts * packet.time_base)
                for packet in container.demux(container.streams.audio[0])
                if packet.size
            ]
    return ReadBack(times, size, aspect, colour, frames, audio)
