"""How long until the quality of the published recipe: ``python -m benchmarks.time_to_quality``.

The reference is HNeRV as published: Adam at 1e-3, batches of 2 frames, plain MSE, rounding to 8
bits after 300 epochs. Then the same clip is encoded by default settings into at most as many bytes,
in more and more epochs, until the decoded file is as good. Seconds are of the whole encode, its
check by decoding included; where the machine does other work too, the CPU time tells more. Both
sides are computed by the same operations; ``torch_step`` is the reference's step by torch alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nervcodec
from benchmarks.rate_distortion import CLIPS, clip_of
from nervcodec.config import ADAM, AS_PUBLISHED, EncodeConfig, SizeTarget, TrainConfig
from nervcodec.rate_control import design_model
from nervcodec.training.trainer import Trainer
from nervcodec.video.reader import VideoReader
from tools.paper_tables.experiments import paper_model

EPOCHS = (4, 6, 8, 11, 13, 15, 17, 20, 28, 40, 56, 80)
TIMED_STEPS = 8


def base_config(name: str, threads: int) -> EncodeConfig:
    clip = clip_of(name)
    return EncodeConfig(
        crop=clip.crop,
        size=clip.size,
        frames=clip.frames,
        audio=False,
        threads=threads,
        overwrite=True,
    )


def reference_config(name: str, params: int, epochs: int, threads: int) -> EncodeConfig:
    return replace(
        base_config(name, threads),
        train=TrainConfig(
            epochs=epochs,
            batch=2,
            optimizer=ADAM,
            learning_rate=1e-3,
            rate_weight=0.0,
            hfs_weight=0.0,
            psnr_weights=False,
            encoder=AS_PUBLISHED,
        ),
        model=paper_model(clip_of(name).coded, False, params=params, detail_channels=0),
    )


def encode(source: Path, output: Path, config: EncodeConfig) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    report = nervcodec.encode(source, output, config)
    return {
        "epochs": config.train.epochs,
        "bytes": report.file_bytes,
        "psnr": round(report.psnr, 3),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def steps_of_torch(name: str, config: EncodeConfig) -> dict[str, float]:
    """Seconds of CPU that a step of the reference takes by the kernels, and by torch alone."""
    clip = clip_of(name)
    count = 2 * TIMED_STEPS
    with VideoReader(clip.path(), crop=clip.crop, size=clip.size, max_frames=count) as reader:
        frames = np.stack([frame.rgb for frame in reader])
    size = (frames.shape[2], frames.shape[1])
    assert config.model.params is not None
    spec = design_model(config.model, config.model.params, *size, count)
    found = {}
    for label, kernels in (("step", True), ("torch_step", False)):
        train = replace(config.train, epochs=2)
        trainer = Trainer(frames, spec, train, torch.device("cpu"), kernels=kernels)
        started: list[float] = []

        def proceed(trainer: Trainer = trainer, started: list[float] = started) -> bool:
            if trainer.step == TIMED_STEPS:
                started.append(time.process_time())
            return True

        trainer.train(proceed=proceed)
        found[label] = round((time.process_time() - started[0]) / TIMED_STEPS, 4)
    return found


def measure(
    name: str, params: int, epochs: int, threads: int, given: dict[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """The reference first, unless it is given, then our encodes until one is as good."""
    source = clip_of(name).path()
    config = reference_config(name, params, epochs, threads)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.hfsv"
        reference = given or encode(source, output, config) | steps_of_torch(name, config)
        yield {"recipe": "reference", **reference}
        for count in EPOCHS:
            ours = replace(
                base_config(name, threads),
                train=TrainConfig(epochs=count),
                size_target=SizeTarget(bytes=reference["bytes"]),
            )
            found = encode(source, output, ours)
            ratios = {
                f"{key}_ratio": round(found[key] / reference[key], 4)
                for key in ("seconds", "cpu_seconds")
            }
            yield {"recipe": "nervcodec", **found, **ratios}
            if found["psnr"] >= reference["psnr"]:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", choices=[clip.name for clip in CLIPS], default="bunny")
    parser.add_argument("--params", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=300, help="of the reference")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--given", type=json.loads, metavar="JSON", help="the reference's line of an earlier run"
    )
    options = parser.parse_args()
    arguments = (options.clip, options.params, options.epochs, options.threads, options.given)
    lines = []
    for line in measure(*arguments):
        lines.append(
            {"clip": options.clip, "params": options.params, "cpu_seconds_ratio": 1, **line}
        )
        print(json.dumps(lines[-1]), flush=True)
    columns = ("recipe", "epochs", "bytes", "psnr", "cpu_seconds", "cpu_seconds_ratio")
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for line in lines:
        print("| " + " | ".join(str(line[key]) for key in columns) + " |")


if __name__ == "__main__":
    main()
