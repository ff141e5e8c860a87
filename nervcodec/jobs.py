"""One segment as a job: all that its training needs, and all that comes of it.

A job is a value that can be sent to another process or machine, and the same job gives the same
bytes wherever CPUs and libraries are the same. :mod:`nervcodec.executors` has jobs done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nervcodec.bitstream.coding import QuantizedTensor
from nervcodec.bitstream.segment import Segment, decode_segment, encode_segment
from nervcodec.bitstream.syntax import ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits, tensor_specs
from nervcodec.config import TrainConfig
from nervcodec.inference import FramesDigest, SegmentRenderer, select_device
from nervcodec.metrics import FrameStatistics
from nervcodec.samples import Frames
from nervcodec.training.checkpoint import TrainedSegment, TrainerState
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
        budget: bytes of the SEGM payload at most; None for what comes of the training.
        min_psnr: of the frames, in dB; likewise.
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
    budget: int | None = None
    min_psnr: float | None = None


@dataclass(frozen=True)
class LeastQuality:
    """What a segment's frames are to reach.

    Attributes:
        psnr: mean RGB PSNR in dB.
        frames: the source's, (N, H, W, 3).
    """

    psnr: float
    frames: Frames
    header: StreamHeader
    device: torch.device

    def reached(self, segment: Segment) -> float:
        """The PSNR of the segment's frames, by the fast path."""
        header = self.header
        statistics = FrameStatistics(with_ms_ssim=False, bit_depth=header.bit_depth)
        renderer = SegmentRenderer(
            segment, header.width, header.height, bit_depth=header.bit_depth, device=self.device
        )
        made = renderer.frames(range(len(self.frames)))
        for original, frame in zip(self.frames, made, strict=True):
            statistics.add(original, frame)
        return statistics.psnr


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
    index: int,
    first_frame: int,
    frames: int,
    model: ModelSpec,
    width: int,
    height: int,
    budget: int | None = None,
    quality: LeastQuality | None = None,
) -> bytes:
    """Quantize and code a trained network: the SEGM payload, of ``budget`` bytes at most.

    Args:
        quality: what it keeps, where it can.

    Raises:
        TargetError: where it does not fit.
    """

    def segment(tensors: Sequence[QuantizedTensor]) -> Segment:
        return Segment(index, first_frame, frames, model, tuple(tensors))

    def coded(tensors: Sequence[QuantizedTensor]) -> bytes:
        return encode_segment(segment(tensors))[0]

    specs = tensor_specs(model, width, height, frames)
    if quality is not None and network.steps is not None:
        wanted = quality

        def psnr(tensors: Sequence[QuantizedTensor]) -> float:
            return wanted.reached(segment(tensors))

        return coded(quantize_to_psnr(specs, network.tensors, network.steps, psnr, wanted.psnr))
    return coded(quantize_network(specs, network.tensors, network.steps, coded, budget))


def train_segment(
    job: SegmentJob, progress: Callable[[TrainProgress], None] | None = None
) -> TrainedSegment:
    """Train, quantize and code a segment, to the end of its schedule."""
    started = time.perf_counter()
    header, count = job.header, len(job.frames)
    device, quality = select_device(job.device), None
    if job.min_psnr is not None:
        quality = LeastQuality(job.min_psnr, job.frames, header, device)
    trainer = Trainer(
        job.frames,
        job.model,
        job.train,
        device,
        header.bit_depth,
        job.budget,
        job.min_psnr,
    )
    if job.state is not None:
        trainer.restore(job.state)
    network = trainer.train(progress)
    payload = segment_payload(
        network,
        job.index,
        job.first_frame,
        count,
        job.model,
        header.width,
        header.height,
        job.budget,
        quality,
    )
    seconds = job.seconds + time.perf_counter() - started
    return TrainedSegment(payload, network.psnr, seconds)


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
