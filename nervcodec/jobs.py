"""One segment as a job: all that its training needs, and all that comes of it.

A job is a value that can be sent to another process or machine, and the same job gives the same
bytes wherever CPUs and libraries are the same. :mod:`nervcodec.executors` has jobs done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from nervcodec.bitstream.coding import QuantizedTensor
from nervcodec.bitstream.segment import (
    Segment,
    SegmentHead,
    decode_segment,
    encode_segment,
)
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits, tensor_specs
from nervcodec.config import TrainConfig
from nervcodec.inference import FramesDigest, SegmentRenderer, select_device
from nervcodec.metrics import FrameStatistics
from nervcodec.samples import Frames
from nervcodec.training.checkpoint import TrainedSegment, TrainerState
from nervcodec.training.goal import NO_GOAL, Goal
from nervcodec.training.progress import TrainedNetwork, TrainProgress
from nervcodec.training.quantization import quantize, quantize_network, quantize_to_psnr
from nervcodec.training.trainer import Trainer


@dataclass(frozen=True)
class SegmentJob:
    """One segment's training.

    Attributes:
        index: number of the segment; ``first_frame`` is its first frame's in the clip.
        header: HEAD of the file, of which the size and depth of the frames are used.
        frames: (N, H, W, 3).
        threads: CPU threads. Sums of floats depend on their number, and so does the file.
        device: ``auto``, ``cpu`` or a torch device.
        state: of a training to go on with, on which ``seconds`` were spent; None to begin.
        trained: the outcome, if the segment is trained and only to be measured.
        goal: what the segment is to keep to.
    """

    index: int
    first_frame: int
    header: StreamHeader
    frames: Frames
    model: ModelSpec
    train: TrainConfig
    threads: int
    device: str = "auto"
    state: TrainerState | None = None
    seconds: float = 0.0
    trained: TrainedSegment | None = None
    goal: Goal = NO_GOAL


@dataclass(frozen=True)
class SegmentResult:
    """A finished segment, decoded again and measured against the job's frames in float64."""

    index: int
    trained: TrainedSegment
    symbols_crc: int
    digest: bytes
    statistics: FrameStatistics


def checking_seconds(model: ModelSpec, header: StreamHeader) -> float:
    """What it takes to decode a frame of such a network in float64 and to measure it, by trial."""
    tensors = [
        quantize(spec, np.zeros(spec.shape, dtype=np.float32))
        for spec in tensor_specs(model, header.width, header.height, 1)
    ]
    renderer = SegmentRenderer(
        Segment(0, 0, 1, model, tuple(tensors)),
        header.width,
        header.height,
        bit_depth=header.bit_depth,
        reference=True,
    )
    started = time.perf_counter()
    (frame,) = renderer.frames([0])
    FrameStatistics(bit_depth=header.bit_depth).add(frame, frame)
    return time.perf_counter() - started


def segment_payload(
    network: TrainedNetwork,
    head: SegmentHead,
    header: StreamHeader,
    goal: Goal = NO_GOAL,
    psnr: Callable[[Segment], float] | None = None,
) -> bytes:
    """Quantize and code a trained network: the SEGM payload.

    Args:
        head: the place of the segment, and its network.
        goal: what it is to keep to, where the network was trained for it.
        psnr: of a segment's frames in dB, for a goal of a quality.

    Raises:
        TargetError: where it does not fit its bytes.
    """
    model = head.model

    def segment(tensors: Sequence[QuantizedTensor]) -> Segment:
        return Segment(head.index, head.first_frame, head.frames, model, tuple(tensors))

    def coded(tensors: Sequence[QuantizedTensor]) -> bytes:
        return encode_segment(segment(tensors))[0]

    specs = tensor_specs(model, header.width, header.height, head.frames)
    values, steps = network.tensors, network.steps
    if goal.psnr is not None and psnr is not None and steps is not None:
        measured = psnr
        return coded(
            quantize_to_psnr(specs, values, steps, lambda t: measured(segment(t)), goal.psnr)
        )
    return coded(quantize_network(specs, values, steps, coded, goal.bytes))


def rendered_psnr(
    segment: Segment, header: StreamHeader, frames: Frames, device: torch.device
) -> float:
    """Mean RGB PSNR in dB of a segment's frames by the fast path, against the source's."""
    statistics = FrameStatistics(with_ms_ssim=False, bit_depth=header.bit_depth)
    renderer = SegmentRenderer(
        segment, header.width, header.height, bit_depth=header.bit_depth, device=device
    )
    for original, frame in zip(frames, renderer.frames(range(len(frames))), strict=True):
        statistics.add(original, frame)
    return statistics.psnr


def train_segment(
    job: SegmentJob, progress: Callable[[TrainProgress], None] | None = None
) -> TrainedSegment:
    """Train, quantize and code a segment, to the end of its schedule."""
    started = time.perf_counter()
    header, device = job.header, select_device(job.device)
    trainer = Trainer(job.frames, job.model, job.train, device, header.bit_depth, job.goal)
    if job.state is not None:
        trainer.restore(job.state)
    network = trainer.train(progress)
    head = SegmentHead(job.index, job.first_frame, len(job.frames), job.model)
    psnr = partial(rendered_psnr, header=header, frames=job.frames, device=device)
    payload = segment_payload(network, head, header, job.goal, psnr)
    return TrainedSegment(payload, network.psnr, job.seconds + time.perf_counter() - started)


def measure_segment(
    segment: Segment, header: StreamHeader, frames: Frames
) -> tuple[bytes, FrameStatistics]:
    """The digest of a segment's reference frames, and their quality against ``frames``."""
    digest, statistics = FramesDigest(), FrameStatistics(bit_depth=header.bit_depth)
    renderer = SegmentRenderer(
        segment, header.width, header.height, bit_depth=header.bit_depth, reference=True
    )
    for original, frame in zip(frames, renderer.frames(range(len(frames))), strict=True):
        digest.add(frame)
        statistics.add(original, frame)
    return digest.digest(), statistics


def run_job(
    job: SegmentJob, progress: Callable[[TrainProgress], None] | None = None
) -> SegmentResult:
    """Train a segment unless it is trained, decode it again and measure it.

    Sets torch's number of threads.

    Raises:
        HfsvError: where the training diverges, or the job does not fit the machine.
    """
    torch.set_num_threads(job.threads)
    trained = job.trained or train_segment(job, progress)
    segment = decode_segment(trained.payload, job.header, Limits())
    digest, statistics = measure_segment(segment, job.header, job.frames)
    return SegmentResult(job.index, trained, segment.symbols_crc(), digest, statistics)
