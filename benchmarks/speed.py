"""Speed and memory of training and decoding; ``python -m benchmarks.speed`` prints JSON.

Each case runs in a process of its own, so that peak memory is its own. The networks have random
weights: neither time depends on them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from nervcodec.bitstream.segment import Segment
from nervcodec.bitstream.tensors import macs_per_frame, parameter_count, tensor_specs
from nervcodec.config import TrainConfig
from nervcodec.inference import SegmentRenderer
from nervcodec.models.frame_decoder import FrameDecoder
from nervcodec.rate_control import design_model
from nervcodec.training.quantization import quantize
from nervcodec.training.trainer import Trainer
from tools.paper_tables.experiments import paper_model

CASES = (
    ("train", "hnerv", 320, 160, 74_000),
    ("train", "hfs-hnerv", 320, 160, 74_000),
    ("decode", "hnerv", 320, 160, 74_000),
    ("decode", "hfs-hnerv", 320, 160, 74_000),
    ("decode", "hnerv", 1280, 640, 1_500_000),
    ("decode", "hfs-hnerv", 1280, 640, 1_500_000),
)
FRAMES = 8
SECONDS = 5.0


def run_case(what: str, arch: str, width: int, height: int, params: int) -> dict[str, Any]:
    """Measure one case in this process."""
    config = paper_model((width, height), arch == "hfs-hnerv")
    model = design_model(config, params, width, height, 132)
    seconds = (_train_step if what == "train" else _decode_frame)(model, width, height)
    return {
        "case": what,
        "arch": arch,
        "width": width,
        "height": height,
        "parameters": parameter_count(model, width, height, 132),
        "gmac_per_frame": macs_per_frame(model, width, height) / 1e9,
        "threads": torch.get_num_threads(),
        "seconds_per_frame": seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _train_step(model: Any, width: int, height: int) -> float:
    """Seconds a training step of one frame."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, height, width, 3), np.uint8)
    steps = 0

    def per_epoch(epochs: int) -> float:
        nonlocal steps
        trainer = Trainer(frames, model, TrainConfig(epochs=epochs), torch.device("cpu"))
        started = time.perf_counter()
        trainer.train()
        steps = FRAMES * epochs
        return time.perf_counter() - started

    warm_up = per_epoch(1)
    return per_epoch(max(1, round(SECONDS / warm_up))) / steps


def _decode_frame(model: Any, width: int, height: int) -> float:
    """Seconds a frame of the fast path, network alone."""
    decoder = FrameDecoder(model, width, height)
    values = {name: p.detach().numpy() for name, p in decoder.named_parameters()}
    specs = tensor_specs(model, width, height, FRAMES)
    rng = np.random.default_rng(0)
    values["embedding"] = rng.standard_normal(specs[0].shape).astype(np.float32)
    tensors = tuple(quantize(spec, values[spec.name]) for spec in specs)
    renderer = SegmentRenderer(Segment(0, 0, FRAMES, model, tensors), width, height)
    list(renderer.frames([0]))
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        count += sum(1 for _ in renderer.frames(range(FRAMES)))
    return (time.perf_counter() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, help="run only the case of this number, here")
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(run_case(*CASES[arguments.case])))
        return
    for number in range(len(CASES)):
        command = [sys.executable, "-m", "benchmarks.speed", "--case", str(number)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
