"""What an encode would come to, before it is begun: its size, its time, its memory.

:mod:`nervcodec.planning` decides what is made; a few steps of its training are tried here.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from nervcodec.assembly import file_header
from nervcodec.config import EncodeConfig, TrainConfig
from nervcodec.executors import threads_of
from nervcodec.inference import select_device
from nervcodec.jobs import checking_seconds
from nervcodec.planning import open_source, plan_encode, source_digest
from nervcodec.training.trainer import Trainer

TRIED_FRAMES = 12
"""Frames of the first segment that the trial has."""

CHECK_BYTES = 64 << 20
"""What decoding again, measuring and writing take beside, as measured."""

TRIAL_SECONDS = 8.0
"""Time of the trial, a whole schedule in little: its steps take on average what all will take."""


@dataclass(frozen=True)
class EncodeEstimate:
    """What an encode would come to.

    Attributes:
        params: decoder parameters and embedding values.
        own_bytes: of the file without what is passed through, about; at most, where the file has
            a size to keep to.
        passed_bytes: of what is passed through.
        epochs: passes over the frames.
        seconds: of the whole encode.
        memory_bytes: at its peak, about; None where the system does not tell.
        warnings: what the file would not keep of the source.
    """

    frames: int
    width: int
    height: int
    segments: int
    params: int
    own_bytes: int
    passed_bytes: int
    epochs: int
    seconds: float
    memory_bytes: int | None
    warnings: tuple[str, ...]


def estimate(source: str | os.PathLike[str], config: EncodeConfig | None = None) -> EncodeEstimate:
    """Say what :func:`nervcodec.encode` would make of a source, in some seconds.

    Raises:
        HfsvError: as the encode would before it trains.
    """
    config = config or EncodeConfig()
    device = select_device(config.device)
    torch.set_num_threads(threads_of(config))
    started = time.perf_counter()
    found, reader = open_source(source, config, lambda: None)
    with reader:
        plan = plan_encode(found, reader, config, source_digest(found), lambda: None)
        reading = time.perf_counter() - started
        frames = np.stack([frame.rgb for frame in islice(iter(reader), TRIED_FRAMES)])
        header = file_header(reader, plan.segments, 1)
        size = frames.nbytes // len(frames) * max(plan.segments.lengths)
    workers = config.workers or 1
    trainer = Trainer(frames, plan.models[0], _trial(plan.train), device, reader.bit_depth)
    trainer.train()
    count, rounds = plan.segments.frames, TRIAL_SECONDS / trainer.step
    checking = checking_seconds(plan.models[0], header) * count / workers
    epoch = rounds * count / plan.train.batch / workers
    epochs, seconds = plan.train.epochs, 2 * reading + checking
    if config.time is None:
        seconds += epochs * epoch
    else:
        epochs = max(1, int((config.time.total_seconds() - seconds) / epoch))
        seconds = max(seconds, config.time.total_seconds())
    peak = peak_memory()
    return EncodeEstimate(
        frames=count,
        width=plan.width,
        height=plan.height,
        segments=len(plan.models),
        params=plan.params,
        own_bytes=plan.estimated_bytes,
        passed_bytes=0 if plan.audio is None else len(plan.audio.data),
        epochs=epochs,
        seconds=seconds,
        memory_bytes=None if peak is None else workers * (peak + size + CHECK_BYTES),
        warnings=plan.warnings,
    )


def _trial(train: TrainConfig) -> TrainConfig:
    return replace(train, seconds=TRIAL_SECONDS, batch=min(train.batch, TRIED_FRAMES))


def peak_memory() -> int | None:
    """Bytes that this process has had at most; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    resource = importlib.import_module("resource")  # Windows has none
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
