"""What a step of the training takes: ``python -m benchmarks.training`` prints JSON and a table.

A clip of smooth random pictures is trained on by the kernels, by these without Winograd's transform
of rows, and by torch alone, with the compact and the published content encoder, in the three phases
of a schedule: plain, with rounded tensors, and with free embeddings too. The figures are
milliseconds of CPU time of one thread, the least of some rounds in which all of them take turns;
with more threads, of the clock.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from nervcodec.config import AS_PUBLISHED, COMPACT, ModelConfig, TrainConfig
from nervcodec.fast import operations
from nervcodec.rate_control import default_detail, design_model
from nervcodec.samples import Frames
from nervcodec.training.trainer import Trainer

SIZES = {"176x144": (176, 144, 60_000), "320x160": (320, 160, 90_000)}
FRAMES = 24
STEPS = 20
"""As many as SOAP takes from one refinement of its bases to the next."""
PHASES = {"plain": 0.1, "rounded": 0.35, "free embeddings": 0.6}
"""Shares of a schedule where the steps of each phase are."""


@dataclass(frozen=True)
class Way:
    """How it is computed."""

    name: str
    kernels: bool
    encoder: str
    winograd: bool = True


WAYS = (
    Way("torch, published encoder", False, AS_PUBLISHED),
    Way("torch", False, COMPACT),
    Way("kernels, published encoder", True, AS_PUBLISHED),
    Way("kernels, direct convolutions", True, COMPACT, winograd=False),
    Way("kernels", True, COMPACT),
)


def pictures(width: int, height: int) -> Frames:
    """Smooth moving waves, (FRAMES, height, width, 3)."""
    n, y, x = np.mgrid[:FRAMES, :height, :width]
    waves = [np.sin(x / 9 + n / 5), np.cos(y / 7 - n / 3), np.sin((x + y) / 13 + n / 7)]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@contextmanager
def chosen_convolutions(way: Way) -> Iterator[None]:
    """Transformed rows only where the way has them."""
    kept = operations.LEAST_PLACES
    operations.LEAST_PLACES = kept if way.winograd else sys.maxsize
    try:
        yield
    finally:
        operations.LEAST_PLACES = kept


def seconds_of(way: Way, frames: Frames, params: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of a step in each phase."""
    height, width = frames.shape[1:3]
    spec = design_model(
        ModelConfig(detail_channels=default_detail(width, height)),
        params,
        width,
        height,
        len(frames),
    )
    total = 100_000
    config = TrainConfig(epochs=total // FRAMES, encoder=way.encoder)
    made = Trainer(frames, spec, config, torch.device("cpu"), kernels=way.kernels)
    steps = config.epochs * FRAMES
    found = []
    for share in PHASES.values():
        first = max(1, round(share * steps))
        made.restore(replace(made.state(), step=first))
        times: list[float] = []

        def proceed(first: int = first, times: list[float] = times) -> bool:
            times.append(clock())
            return made.step < first + STEPS + 2

        made.train(proceed=proceed)
        found.append((times[-1] - times[1]) / (len(times) - 2))
    return found


def measure(sizes: list[str], rounds: int, threads: int) -> list[dict[str, object]]:
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    found: list[dict[str, object]] = []
    for name in sizes:
        width, height, params = SIZES[name]
        frames = pictures(width, height)
        best = {way: [float("inf")] * len(PHASES) for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                with chosen_convolutions(way):
                    now = seconds_of(way, frames, params, clock)
                best[way] = [min(pair) for pair in zip(best[way], now, strict=True)]
        for way, times in best.items():
            phases = {
                phase: round(1000 * value, 2) for phase, value in zip(PHASES, times, strict=True)
            }
            found.append({"size": name, "params": params, "way": way.name, **phases})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", choices=tuple(SIZES), help="repeatable")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    lines = measure(options.size or list(SIZES), options.rounds, options.threads)
    for line in lines:
        print(json.dumps(line | {"threads": options.threads}))
    print("\n| size | way | " + " | ".join(PHASES) + " |")
    print("|---|---|" + "---|" * len(PHASES))
    for line in lines:
        cells = [line[key] for key in ("size", "way", *PHASES)]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
