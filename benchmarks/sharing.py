"""How parameters are best shared among scenes; ``python -m benchmarks.sharing FOLDER_OF_CLIPS``.

Scenes of several clips are each trained alone at several numbers of parameters. What a clip of
some of them comes to, however their parameters are shared, is read off these curves: at equal
parameters, interpolated between logarithms of parameters and of mean squared error. A segment's
share is its frames times a power q of its difficulty; q = 0 is by length. Prints JSON lines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.metrics import FrameStatistics
from nervcodec.video.formats import OutputFormat
from nervcodec.video.info import ColorInfo
from nervcodec.video.reader import VideoReader
from nervcodec.video.writer import VideoWriter

Frames = list[npt.NDArray[np.uint8]]

SIZE = (176, 144)
PARAMS = (4_500, 10_500, 16_500)
POWERS = (0.0, 0.4, 0.6, 0.8, 1.0)
CUT = (292, 240)
"""A part of the shape of SIZE, of clips that are 240 samples high."""


@dataclass(frozen=True)
class Scene:
    """So many frames of a file from ``first`` on, or the first one repeated."""

    file: str
    crop: tuple[int, int] | None
    first: int
    count: int
    still: bool = False


SCENES = {
    "carphone": Scene("carphone_qcif_qp10.mp4", None, 0, 30),
    "basketball": Scene("basketballpass_416x240_lossless.mp4", CUT, 0, 30),
    "bunny": Scene("bigbuckbunny_720p_132f.mp4", (880, 720), 60, 30),
    "basketball, later": Scene("basketballpass_416x240_lossless.mp4", CUT, 40, 24),
    "still picture": Scene("bigbuckbunny_720p_132f.mp4", (880, 720), 0, 24, still=True),
    "carphone, later": Scene("carphone_qcif_qp10.mp4", None, 60, 24),
    "kitchen": Scene("odd/opus_h264.mkv", CUT, 100, 24),
}
CLIPS = {
    30_000: ("carphone", "basketball", "bunny"),
    36_000: ("basketball, later", "still picture", "carphone, later", "kitchen"),
}
"""Scenes of each clip, by the parameters that they share."""


def read(folder: Path, scene: Scene) -> Frames:
    with VideoReader(folder / scene.file, crop=scene.crop, size=SIZE) as reader:
        frames = [f.rgb for f in itertools.islice(reader, scene.first, scene.first + scene.count)]
    return frames[:1] * scene.count if scene.still else frames


def write(path: Path, frames: Frames) -> None:
    """Losslessly."""
    with VideoWriter(
        path,
        OutputFormat("matroska", "ffv1"),
        width=SIZE[0],
        height=SIZE[1],
        time_base=Fraction(1, 25),
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=ColorInfo(1, 1, 1, False),
        frame_rate=Fraction(25),
        passthrough=None,
    ) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, number, 1)


def x264_bytes(frames: Frames) -> float:
    """Mean bytes a frame of x264 ultrafast at QP 28, the first frame coded for itself."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {
        "preset": "ultrafast",
        "qp": "28",
        "x264-params": "threads=1:keyint=infinite:scenecut=0",
    }
    pictures: list[VideoFrame | None] = []
    for number, rgb in enumerate(frames):
        picture = VideoFrame.from_ndarray(rgb, format="rgb24")
        picture.pts = number
        pictures.append(picture)
    packets = itertools.chain.from_iterable(map(encoder.encode, [*pictures, None]))
    return sum(packet.size for packet in packets) / len(frames)


def variance(frames: Frames) -> float:
    return float(np.var(np.stack(frames)))


DIFFICULTIES: dict[str, Callable[[Frames], float]] = {
    "x264 bytes": x264_bytes,
    "variance": variance,
}

Curve = list[tuple[int, float]]
"""Parameters and mean squared error, rising."""


def train(path: Path, frames: Frames, epochs: int) -> Iterator[tuple[int, float]]:
    """Parameters and mean squared error of the decoded file, for each number of parameters."""
    coded = path.with_suffix(".hfsv")
    for params in PARAMS:
        config = EncodeConfig(
            train=TrainConfig(epochs=epochs, hfs_weight=0, seed=1),
            model=ModelConfig(params=params, hfscm=False, msfrp=False),
            threads=1,
            overwrite=True,
        )
        report = nervcodec.encode(path, coded, config)
        statistics = FrameStatistics(with_ms_ssim=False)
        with nervcodec.open(coded) as clip:
            for frame, decoded in zip(frames, clip, strict=True):
                statistics.add(frame, decoded)
        yield report.params, 255**2 / 10 ** (statistics.psnr_of_mean_mse / 10)


def error_at(curve: Curve, params: float) -> float:
    known, errors = zip(*curve, strict=True)
    return math.exp(np.interp(math.log(params), np.log(known), np.log(errors)))


def shared(
    names: tuple[str, ...], total: int, curves: dict[str, Curve], weights: dict[str, float]
) -> dict[str, float]:
    """PSNR of the clip's mean squared error, and the mean of its segments' PSNR by length."""
    lengths = np.array([SCENES[name].count for name in names])
    parts = lengths * [weights[name] for name in names]
    errors = np.array(
        [
            error_at(curves[n], share)
            for n, share in zip(names, total * parts / parts.sum(), strict=True)
        ]
    )
    whole = 10 * math.log10(255**2 / np.average(errors, weights=lengths))
    mean = np.average(10 * np.log10(255**2 / errors), weights=lengths)
    return {"psnr_of_mean_mse": round(whole, 2), "mean_psnr": round(float(mean), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    curves: dict[str, Curve] = {}
    difficulty: dict[str, dict[str, float]] = {kind: {} for kind in DIFFICULTIES}
    with tempfile.TemporaryDirectory() as folder:
        for name, scene in SCENES.items():
            path, frames = Path(folder) / "scene.mkv", read(options.clips, scene)
            write(path, frames)
            for kind, measure in DIFFICULTIES.items():
                difficulty[kind][name] = measure(frames)
            curves[name] = list(train(path, frames, options.epochs))
            path.unlink()
            values = {kind: round(difficulty[kind][name]) for kind in DIFFICULTIES}
            print(json.dumps({"scene": name, **values, "curve": curves[name]}), flush=True)
    for (total, names), kind, power in itertools.product(CLIPS.items(), DIFFICULTIES, POWERS):
        weights = {name: value**power for name, value in difficulty[kind].items()}
        place = {"params": total, "scenes": names, "difficulty": kind, "q": power}
        print(json.dumps({**place, **shared(names, total, curves, weights)}))


if __name__ == "__main__":
    main()
