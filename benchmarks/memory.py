"""Peak memory against the number of frames: of decoding, and of encoding where a source is given.

``python -m benchmarks.memory`` decodes files of tiny networks with random symbols, one for each
100 frames: what is rendered is noise, the way is the same.
``python -m benchmarks.memory CLIP --keyint 10 --frames 10 20 40`` encodes the beginnings of a clip
with the narrowest networks for one epoch, and decodes the outcome. Each run has a process of its
own; prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from nervcodec.bitstream.coding import QuantizedTensor
from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.stream import write_stream
from nervcodec.bitstream.syntax import StreamHeader
from nervcodec.bitstream.tensors import tensor_specs
from nervcodec.config import ModelConfig, parse_size
from nervcodec.rate_control import design_model, least_params
from nervcodec.segments import plan_segments
from nervcodec.video.reader import VideoReader

WIDTH, HEIGHT = 64, 48
FRAME_COUNTS = (100, 1000, 4000, 10_883)
KEYINT = 100
SCALE = 0x3C00
"""2**-7 as the upper half of a float32."""

PEAK = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

DECODE = f"""
import resource, sys, nervcodec
nervcodec.decode(sys.argv[1], sys.argv[2], nervcodec.DecodeConfig(preset="ultrafast", threads=1))
{PEAK}
"""

ENCODE = f"""
import resource, sys, nervcodec
from nervcodec.config import ModelConfig, TrainConfig, parse_size
source, output, frames, keyint, params, size = sys.argv[1:]
config = nervcodec.EncodeConfig(
    train=TrainConfig(epochs=1, hfs_weight=0),
    model=ModelConfig(params=int(params), hfscm=False, msfrp=False),
    size=parse_size(size),
    frames=int(frames),
    keyint=int(keyint),
    audio=False,
    threads=1,
)
nervcodec.encode(source, output, config)
{PEAK}
"""


def noise(index: int, first: int, frames: int) -> Segment:
    """A segment whose network has random symbols."""
    model = design_model(ModelConfig(), 50 * frames + 20_000, WIDTH, HEIGHT, frames)
    rng = np.random.default_rng(index)
    tensors = tuple(
        QuantizedTensor(
            spec,
            rng.integers(96, 160, spec.shape, np.uint8),
            128,
            np.array([SCALE], dtype=np.uint16),
        )
        for spec in tensor_specs(model, WIDTH, HEIGHT, frames)
    )
    return Segment(index, first, frames, model, tensors)


def write_noise(path: Path, frames: int, keyint: int | None = None) -> None:
    """A valid file of so many frames, in segments of at most ``keyint``; None for a single one."""
    plan = plan_segments(range(frames), WIDTH, HEIGHT, keyint=keyint)
    segments = (noise(index, *place) for index, place in enumerate(plan.ranges()))
    header = StreamHeader(
        width=WIDTH,
        height=HEIGHT,
        frames=frames,
        segments=len(plan.lengths),
        time_base=Fraction(1, 25),
        start_pts=0,
        frame_duration=1,
        sample_aspect_ratio=Fraction(1),
        primaries=1,
        transfer=1,
        matrix=1,
        full_range=False,
        rotation=0,
    )
    with path.open("wb") as stream:
        digests = [bytes(8)] * header.segments
        write_stream(stream, header, range(frames), 1, segments, digests, {}, None)


def run(program: str, *arguments: object) -> dict[str, float]:
    """Peak memory and time of a program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    started = time.perf_counter()
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    return {"peak_rss_mb": round(int(result.stdout) / 1024, 1), "seconds": round(seconds, 1)}


def measure_noise(folder: Path) -> None:
    """Decode files of ever more segments."""
    coded, video = folder / "noise.hfsv", folder / "noise.mp4"
    for frames in FRAME_COUNTS:
        write_noise(coded, frames, KEYINT)
        print(json.dumps({"decode": frames, **run(DECODE, coded, video)}), flush=True)
        video.unlink()


def measure_clip(
    folder: Path, source: Path, size: tuple[int, int] | None, keyint: int, counts: list[int]
) -> None:
    """Encode so many frames of a clip in segments of ``keyint``, and decode them."""
    coded, video = folder / "clip.hfsv", folder / "clip.mp4"
    with VideoReader(source, size=size) as reader:
        width, height = reader.out_width, reader.out_height
    model = ModelConfig(hfscm=False, msfrp=False)
    for frames in counts:
        params = -(-frames // keyint) * least_params(model, width, height, keyint)
        place = {"size": f"{width}x{height}", "keyint": keyint}
        peak = run(ENCODE, source, coded, frames, keyint, params, place["size"])
        print(json.dumps({"encode": frames, **place, **peak}), flush=True)
        print(json.dumps({"decode": frames, **place, **run(DECODE, coded, video)}), flush=True)
        coded.unlink()
        video.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--size", type=parse_size)
    parser.add_argument("--keyint", type=int, default=30)
    parser.add_argument("--frames", type=int, nargs="+", default=[30, 60, 120])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.source is None:
            measure_noise(Path(folder))
        else:
            measure_clip(Path(folder), options.source, options.size, options.keyint, options.frames)


if __name__ == "__main__":
    main()
