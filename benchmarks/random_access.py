"""Latency of a random frame: a .hfsv against seeking in an x264 MP4 of the same frames.

``python -m benchmarks.random_access FILE.hfsv SOURCE`` prints JSON lines, one for the .hfsv and one
for each MP4 (x264 medium at its default quality), times in milliseconds. The same frames are
asked for of each, in one process:

- ``open``: to open the file; of a .hfsv all checksums are checked.
- ``first``: the first frame then; of a .hfsv its network is built, of an MP4 the decoder.
- ``next``: another one after it; the network, or the decoder, is there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

import nervcodec
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.reader import VideoReader

KEYFRAME_INTERVALS = (250, 30)
"""x264's default, and what is common where one is to seek."""

SHARES = (50, 90, 99)

Seconds = tuple[float, float, float]


def make_mp4(path: Path, coded: Path, source: Path, keyint: int) -> None:
    """The frames that ``coded`` was made of, in H.264 with a keyframe at least every ``keyint``."""
    with nervcodec.open(coded) as clip:
        crop, size, frames = clip.reader.meta.get("crop"), (clip.width, clip.height), len(clip)
    crop = None if crop is None else (crop[0], crop[1])
    with (
        VideoReader(source, crop=crop, size=size, max_frames=frames) as reader,
        av.open(str(path), "w") as output,
    ):
        rate = reader.info.frame_rate or Fraction(25)
        stream = output.add_stream("libx264", rate=rate, options={"g": str(keyint)})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for index, frame in enumerate(reader):
            picture = rgb_to_frame(frame.rgb, "yuv420p", reader.info.color)
            picture.pts, picture.time_base = index, 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode())


def hfsv_latency(path: Path, first: int, second: int) -> Seconds:
    """Seconds to open, for the first frame, and for the next."""
    times = [time.perf_counter()]
    with nervcodec.open(path, device="cpu") as clip:
        times.append(time.perf_counter())
        for frame in (first, second):
            clip[frame]
            times.append(time.perf_counter())
    return _steps(times)


def mp4_latency(path: Path, threads: int, pts: Sequence[int], first: int, second: int) -> Seconds:
    """The same of an MP4 whose frames have these ``pts``: to the keyframe before, then on."""
    times = [time.perf_counter()]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        times.append(time.perf_counter())
        for frame in (first, second):
            _seek(container, stream, pts[frame])
            times.append(time.perf_counter())
    return _steps(times)


def _seek(container: InputContainer, stream: VideoStream, pts: int) -> None:
    """Decode from the keyframe before to the frame wanted, and that to RGB."""
    container.seek(pts, stream=stream)
    frame = next(frame for frame in container.decode(stream) if frame.pts == pts)
    frame.to_ndarray(format="rgb24")


def _steps(times: list[float]) -> Seconds:
    opened, first, following = np.diff(times).tolist()
    return opened, first, following


def _frame_times(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [frame.pts or 0 for frame in container.decode(video=0)]


def measure(
    path: Path, pairs: Sequence[tuple[int, int]], latency: Callable[[int, int], Seconds]
) -> dict[str, Any]:
    """Percentiles over ``pairs`` of frames in milliseconds; one pair more comes before."""
    latency(*pairs[0])
    steps = 1000 * np.array([latency(*pair) for pair in pairs])
    columns = {"open": steps[:, 0], "first": steps[:, 1], "next": steps[:, 2]}
    columns["open_and_first"] = columns["open"] + columns["first"]
    return {"bytes": path.stat().st_size, **{k: _percentiles(v) for k, v in columns.items()}}


def _percentiles(values: np.ndarray[Any, Any]) -> dict[str, float]:
    found = {f"p{share}": round(float(np.percentile(values, share)), 3) for share in SHARES}
    return {"mean": round(float(values.mean()), 3), **found}


def rows(coded: Path, source: Path, samples: int, threads: int) -> Iterator[dict[str, Any]]:
    with nervcodec.open(coded) as clip:
        frames = len(clip)
    draw = np.random.default_rng(0).integers(0, frames, (samples, 2)).tolist()
    pairs = [(first, second) for first, second in draw]
    common = {"clip": source.name, "frames": frames, "samples": samples, "threads": threads}
    result = measure(coded, pairs, lambda a, b: hfsv_latency(coded, a, b))
    yield {"file": "hfsv", **common, **result}
    with tempfile.TemporaryDirectory() as folder:
        for keyint in KEYFRAME_INTERVALS:
            path = Path(folder) / f"{keyint}.mp4"
            make_mp4(path, coded, source, keyint)
            pts = _frame_times(path)
            assert len(pts) == frames, (len(pts), frames)
            seek = _seeker(path, threads, pts)
            yield {"file": f"x264 keyint {keyint}", **common, **measure(path, pairs, seek)}


def _seeker(path: Path, threads: int, pts: Sequence[int]) -> Callable[[int, int], Seconds]:
    return lambda first, second: mp4_latency(path, threads, pts, first, second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("coded", type=Path, metavar="FILE.hfsv")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="what it was made of")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for row in rows(arguments.coded, arguments.source, arguments.samples, arguments.threads):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
