"""Rate-distortion curves of nervcodec, x264 and x265 on three small clips, and their BD-rates.

``python -m benchmarks.rate_distortion run`` measures what is not there yet, a JSON file a point in
``docs/results/rate_distortion``; ``show`` prints tables and BD-rates of what is there, and
``plot`` draws ``docs/rate_distortion.svg``. Bytes are whole files without sound for nervcodec and
video packets for the others; PSNR is that of decoded files, frame by frame.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import nervcodec
from nervcodec.compare.anchors import encode_anchor
from nervcodec.compare.bd_rate import BdFigure, bd_rate
from nervcodec.config import ADAM, AS_PUBLISHED, EncodeConfig, ModelConfig, TrainConfig, rate_weight
from nervcodec.rate_control import choose_strides
from nervcodec.video.reader import VideoReader
from tools.paper_tables.experiments import SMALL, Clip, paper_model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "rate_distortion"
WORK = ROOT / "paper" / "rate_distortion"
PLOT = ROOT / "docs" / "rate_distortion.svg"

CLIPS = (
    SMALL.clip("bunny")[0],
    Clip("basket", (208, 120), "basketballpass_416x240_lossless.mp4", size=(208, 120), frames=96),
    SMALL.clip("carphone")[0],
)
BITS_PER_PIXEL = (0.03, 0.06, 0.12, 0.24)
OWN_CRFS = (20, 26, 32, 38)
CRFS = (16, 20, 24, 28, 32, 36, 40)
PRESETS = ("medium", "veryslow")
ROUNDED_BITS = 7.2
"""What a parameter takes in a network that is rounded to 8 bits after its training."""

HNERV_RATE = 2e-3
"""Adam's peak learning rate for HNeRV: at the default of 4e-3 two of six of its points came out
unstable, at 1.5 to 3 dB less than their neighbours let expect."""

TRAINED, WHOLE = "nervcodec", "nervcodec-whole"
ROUNDED, HNERV_ROUNDED = "rounded", "hnerv-rounded"
NETWORKS = (TRAINED, WHOLE, ROUNDED, HNERV_ROUNDED)
LABELS = {
    TRAINED: "nervcodec",
    WHOLE: "nervcodec, HFSCM in all stages",
    ROUNDED: "HFS-HNeRV, Adam, rounded to 8 bits",
    HNERV_ROUNDED: "HNeRV, Adam, rounded to 8 bits",
}


@dataclass(frozen=True)
class Job:
    """One point: an encode at a CRF, ours or an anchor, or a rounded network at bits a pixel."""

    clip: str
    series: str
    point: float
    epochs: int = 0

    @property
    def path(self) -> Path:
        epochs = f"-{self.epochs}" if self.epochs else ""
        return RESULTS / f"{self.clip}-{self.series}{epochs}-{self.point:g}.json"


def clip_of(name: str) -> Clip:
    return next(clip for clip in CLIPS if clip.name == name)


def config_of(job: Job, threads: int | None) -> EncodeConfig:
    """How a network's point is encoded: the program's own way, or the paper's at the same size."""
    clip = clip_of(job.clip)
    config = EncodeConfig(
        crop=clip.crop,
        size=clip.size,
        frames=clip.frames,
        audio=False,
        threads=threads,
        overwrite=True,
        resume=True,
    )
    if job.series in (TRAINED, WHOLE):
        train = TrainConfig(epochs=job.epochs, rate_weight=rate_weight(job.point))
        stages = range(len(choose_strides(*clip.coded)))
        carrying = tuple(stages) if job.series == WHOLE else None
        return replace(config, train=train, model=ModelConfig(hfscm_stages=carrying))
    with VideoReader(clip.path(), crop=clip.crop, size=clip.size, max_frames=clip.frames) as reader:
        frames = sum(1 for _ in reader)
    width, height = clip.coded
    extended = job.series == ROUNDED
    return replace(
        config,
        train=TrainConfig(
            epochs=job.epochs,
            optimizer=ADAM,
            learning_rate=None if extended else HNERV_RATE,
            psnr_weights=False,
            encoder=AS_PUBLISHED,
            rate_weight=0.0,
            hfs_weight=TrainConfig.hfs_weight if extended else 0.0,
        ),
        model=paper_model(
            clip.coded, extended, params=round(job.point * width * height * frames / ROUNDED_BITS)
        ),
    )


def measure_network(job: Job, threads: int | None) -> dict[str, Any]:
    output = WORK / f"{job.path.stem}.hfsv"
    output.parent.mkdir(parents=True, exist_ok=True)
    source = clip_of(job.clip).path()
    report = nervcodec.encode(source, output, config_of(job, threads))
    checked = nervcodec.verify(output, source=source)
    return {
        "bytes": report.file_bytes,
        "params": report.params,
        "psnr": checked.psnr,
        "psnr_611": checked.psnr_611,
        "ms_ssim": checked.ms_ssim,
        "encode_seconds": report.train_seconds,
        "threads": threads,
    }


def measure_anchor(job: Job) -> dict[str, Any]:
    clip = clip_of(job.clip)
    codec, preset = job.series.split("-")
    with VideoReader(clip.path(), crop=clip.crop, size=clip.size, max_frames=clip.frames) as reader:
        frames = np.stack([frame.rgb for frame in reader])
        rate, color = reader.info.frame_rate or Fraction(25), reader.info.color
    point = encode_anchor(frames, codec, preset, job.point, rate, color=color)
    return asdict(point)


def measure(job: Job, threads: int | None) -> Path:
    """Measure a point, and write it down."""
    network = job.series in NETWORKS
    found = measure_network(job, threads) if network else measure_anchor(job)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    job.path.write_text(json.dumps(asdict(job) | found, indent=1) + "\n", encoding="utf-8")
    return job.path


def jobs(
    clips: list[str], series: list[str], crfs: list[float], rates: list[float], epochs: int
) -> Iterator[Job]:
    """Wanted points, the anchors' first, which take seconds."""
    for name in clips:
        if "anchors" in series:
            for codec in ("libx264", "libx265"):
                for preset in PRESETS:
                    for crf in CRFS:
                        yield Job(name, f"{codec}-{preset}", crf)
        for network in NETWORKS:
            if network in series:
                for point in crfs if network in (TRAINED, WHOLE) else rates:
                    yield Job(name, network, point, epochs)


def curves(clip: str) -> dict[str, list[dict[str, Any]]]:
    """What is there of a clip: a list of points by rate for each series."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob(f"{clip}-*.json")):
        point = json.loads(path.read_text(encoding="utf-8"))
        epochs = f", {point['epochs']} epochs" if point["epochs"] else ""
        label = LABELS.get(point["series"], point["series"].removeprefix("lib").replace("-", " "))
        found.setdefault(label + epochs, []).append(point)
    return {name: sorted(points, key=lambda p: p["bytes"]) for name, points in found.items()}


def show(clip: str) -> None:
    """Markdown: all points of a clip, and the BD-rate of each network against each other curve."""
    found = curves(clip)
    print(f"\n### {clip}\n\n| codec | bytes | RGB dB | 6:1:1 dB | MS-SSIM | seconds |")
    print("|---|---|---|---|---|---|")
    for name, points in found.items():
        for p in points:
            similarity = "-" if p["ms_ssim"] is None else f"{p['ms_ssim']:.4f}"
            print(
                f"| {name} | {p['bytes']:,} | {p['psnr']:.2f} | {p['psnr_611']:.2f} | "
                f"{similarity} | {p['encode_seconds']:.0f} |"
            )
    print("\n| BD-rate (Akima) of | against | RGB, percent | overlap | 6:1:1, percent | overlap |")
    print("|---|---|---|---|---|---|")
    for name, points in found.items():
        for other, anchor in found.items():
            if name == other or not name.startswith(LABELS[TRAINED]):
                continue
            figures = [
                bd_rate(_curve(anchor, measure), _curve(points, measure))
                for measure in ("psnr", "psnr_611")
            ]
            if any(figure.value is not None for figure in figures):
                cells = " | ".join(f"{_percent(f)} | {f.overlap:.2f}" for f in figures)
                print(f"| {name} | {other} | {cells} |")


def _curve(points: list[dict[str, Any]], measure: str) -> list[tuple[float, float]]:
    return [(p["bytes"], p[measure]) for p in points]


def _percent(figure: BdFigure) -> str:
    return "-" if figure.value is None else f"{figure.value:+.1f}"


def plot() -> None:
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, len(CLIPS))
    for axis, clip in zip(axes, CLIPS, strict=True):
        for name, points in curves(clip.name).items():
            own = name.startswith(LABELS[TRAINED])
            kb, psnr = zip(*((p["bytes"] / 1000, p["psnr"]) for p in points), strict=True)
            axis.plot(kb, psnr, "o-" if own else ".--", label=name, linewidth=2 if own else 1)
        axis.set(title=clip.name, xlabel="kB", ylabel="RGB PSNR, dB", xscale="log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(PLOT, metadata={"Date": None})


def run(todo: list[Job], processes: int, threads: int | None) -> None:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(measure, job, threads) for job in todo]
        for number, done in enumerate(as_completed(waiting), 1):
            print(f"{number}/{len(todo)} {done.result().name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "show", "plot"))
    names = [clip.name for clip in CLIPS]
    parser.add_argument("--clip", action="append", choices=names, help="repeatable; default all")
    every = ("anchors", *NETWORKS)
    parser.add_argument("--series", action="append", choices=every, help="repeatable; default all")
    parser.add_argument("--crf", action="append", type=float, help="of ours; repeatable")
    parser.add_argument(
        "--bpp", action="append", type=float, help="bits a pixel of rounded networks; repeatable"
    )
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="points at a time")
    parser.add_argument("--threads", type=int, help="of each; default all")
    arguments = parser.parse_args()
    clips = arguments.clip or names
    if arguments.action == "show":
        for clip in clips:
            show(clip)
    elif arguments.action == "plot":
        plot()
    else:
        crfs, rates = arguments.crf or list(OWN_CRFS), arguments.bpp or list(BITS_PER_PIXEL)
        wanted = jobs(clips, arguments.series or list(every), crfs, rates, arguments.epochs)
        run([job for job in wanted if not job.path.exists()], arguments.jobs, arguments.threads)


if __name__ == "__main__":
    main()
