"""Codes the segments of a plan: their networks are trained, here or side by side, and decoded.

:mod:`nervcodec.encoder` makes the plan before, and a file of what comes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from nervcodec.assembly import file_header
from nervcodec.bitstream.segment import Segment, SegmentHead, decode_segment
from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import Limits
from nervcodec.config import EncodeConfig, TrainConfig
from nervcodec.errors import InputVideoError, InterruptedEncode
from nervcodec.executors import Executor, choose_executor, threads_of
from nervcodec.inference import FramesDigest, SegmentRenderer
from nervcodec.jobs import (
    SegmentJob,
    SegmentResult,
    checking_seconds,
    rendered_psnr,
    segment_payload,
)
from nervcodec.metrics import FrameStatistics
from nervcodec.planning import EncodePlan
from nervcodec.preview import Preview
from nervcodec.reports import EncodeCallback, EncodeProgress, Tally, remark
from nervcodec.samples import Frames
from nervcodec.training.checkpoint import CheckpointKeeper, TrainedSegment
from nervcodec.training.goal import NO_GOAL
from nervcodec.training.progress import TrainProgress
from nervcodec.training.trainer import Trainer
from nervcodec.video.reader import SourceFrame, VideoReader

Stop = Callable[[], bool]

STOPPED_FRAMES = 16
"""Frames of a segment that are measured when the encode was asked to stop."""

LEAST_SECONDS = 0.001
"""Time for a segment's training where there is none left: one step."""


@dataclass(frozen=True)
class CodedSegment:
    """One segment as it goes into the file; ``digest`` is None where it was not asked for."""

    trained: TrainedSegment
    model: ModelSpec
    symbols_crc: int
    digest: bytes | None


class SegmentCoder:
    """Codes the segments of one encode.

    Args:
        reader: of the source's frames.
        keeper: of the checkpoint, whose segments are not trained again.
        deadline: of the whole encode, by ``time.perf_counter``; None for ``plan.train.epochs``.

    Attributes:
        statistics: of the decoded frames so far.
        epochs: of the last training.
    """

    def __init__(
        self,
        reader: VideoReader,
        config: EncodeConfig,
        plan: EncodePlan,
        keeper: CheckpointKeeper,
        device: torch.device,
        progress: EncodeCallback,
        deadline: float | None,
    ) -> None:
        self._reader, self._config, self._plan = reader, config, plan
        self._keeper, self._device, self._progress = keeper, device, progress
        self._deadline = deadline
        self._lengths = plan.segments.lengths
        self._header = file_header(reader, plan.segments, 1)
        self._frame_check: float | None = None
        self._preview = None
        if config.preview is not None:
            self._preview = Preview(config.preview, lambda text: self._warn("train", text))
        self.statistics = FrameStatistics(bit_depth=reader.bit_depth)
        self.epochs = plan.train.epochs

    def code(self, stop: Stop) -> list[CodedSegment]:
        """All segments, or the first ones where the encode was asked to stop.

        Raises:
            InterruptedEncode: if there is none.
        """
        executor = choose_executor(self._config)
        if executor is None:
            return self._one_by_one(stop)
        if len(self._lengths) == 1:
            text = "there is one segment, which workers cannot share; --keyint makes more"
            self._warn("read", text)
        return self._side_by_side(executor, stop)

    def segments(self, coded: list[CodedSegment]) -> Iterator[Segment]:
        """Their symbols, for the file."""
        return (decode_segment(part.trained.payload, self._header, Limits()) for part in coded)

    def _warn(self, stage: str, text: str) -> None:
        self._progress(remark(stage, "", text))

    def _one_by_one(self, stop: Stop) -> list[CodedSegment]:
        """In this process; those that were reached when the encode was asked to stop.

        The frames of one are let go of before those of the next are read.
        """
        coded: list[CodedSegment] = []
        source = iter(self._reader)
        for index, count in enumerate(self._lengths):
            unfinished = bool(coded) and coded[-1].trained.float_psnr is None
            if coded and self._keeper.segment(index) is None and (unfinished or stop()):
                break
            part = self._coded(self._read(source, count), index, stop)
            if part is None:
                break
            coded.append(part)
        return coded

    def _read(self, source: Iterator[SourceFrame], count: int) -> Frames:
        """The next ``count`` frames, (count, H, W, 3)."""
        frames = None
        for index in range(count):
            frame = next(source, None)
            if frame is None:
                raise InputVideoError(f"{self._reader.name}: has changed since it was first read")
            if frames is None:
                frames = np.empty((count, *frame.rgb.shape), dtype=frame.rgb.dtype)
            frames[index] = frame.rgb
        assert frames is not None
        return frames

    def _side_by_side(self, executor: Executor, stop: Stop) -> list[CodedSegment]:
        """All, or of an encode that was asked to stop those before the first unfinished.

        Raises:
            InterruptedEncode: if the first one is not finished; the others are in the checkpoint.
        """
        tally = Tally(self._lengths, self._progress)
        results: dict[int, SegmentResult] = {}
        for result in executor.run(self._jobs(), tally.training, stop):
            if self._keeper.segment(result.index) is None:
                self._keeper.add(result.trained, result.index)
            results[result.index] = result
            tally.finished(result.index)
        coded: list[CodedSegment] = []
        while (found := results.get(len(coded))) is not None:
            self.statistics.extend(found.statistics)
            model = self._plan.models[len(coded)]
            coded.append(CodedSegment(found.trained, model, found.symbols_crc, found.digest))
        if not coded:
            raise InterruptedEncode(
                "interrupted before the first segment was finished; nothing was written"
            )
        return coded

    def _jobs(self) -> Iterator[SegmentJob]:
        """A job for each segment; those in the checkpoint are only measured again."""
        source, state, plan = iter(self._reader), True, self._plan
        for index, (first, count) in enumerate(plan.segments.ranges()):
            job = SegmentJob(
                index,
                first,
                self._header,
                self._read(source, count),
                plan.models[index],
                self._schedule(index, self._config.workers or 1),
                threads_of(self._config),
                self._config.device,
                trained=self._keeper.segment(index),
                goal=plan.goals[index],
            )
            if job.trained is None and state:
                job = replace(job, state=self._keeper.state, seconds=self._keeper.seconds)
                state = False
            yield job

    def _schedule(self, index: int, workers: int) -> TrainConfig:
        """How a segment is trained: where the encode has a time, with its part of what is left."""
        train, lengths = self._plan.train, self._lengths[index:]
        if self._deadline is None:
            return train
        if self._frame_check is None:
            self._frame_check = checking_seconds(self._plan.models[index], self._header)
        spent = self._keeper.seconds if self._keeper.state is not None else 0.0
        left = self._deadline - time.perf_counter() + spent
        left -= self._frame_check * sum(lengths) / workers
        share = min(1.0, workers * lengths[0] / sum(lengths))
        return replace(train, seconds=max(LEAST_SECONDS, left * share))

    def _coded(self, frames: Frames, index: int, stop: Stop) -> CodedSegment | None:
        """One segment, trained unless the checkpoint has it, and decoded again."""
        trained = self._keeper.segment(index) or self._trained(frames, index, stop)
        return None if trained is None else self._verified(trained, frames, stop)

    def _trained(self, frames: Frames, index: int, stop: Stop) -> TrainedSegment | None:
        """Train, quantize and code one segment, or go on with it.

        None if it was stopped in its first epoch, where there are segments before it.
        """
        model, count = self._plan.models[index], len(frames)
        schedule, goal = self._schedule(index, 1), self._plan.goals[index]
        depth = self._header.bit_depth
        trainer = Trainer(frames, model, schedule, self._device, depth, goal)
        before, total = sum(self._lengths[:index]), sum(self._lengths)
        spent, started = self._keeper.seconds, time.perf_counter()
        if self._keeper.state is not None:
            trainer.restore(self._keeper.state)

        def seconds() -> float:
            return spent + time.perf_counter() - started

        def report(training: TrainProgress) -> None:
            if self._preview is not None:
                self._preview.show(training, index, frames, trainer.render, depth)
            done = (before + training.step / training.steps * count) / total
            later = (total - before - count) / count
            eta = training.eta + later * training.steps * training.seconds_per_step
            place = (index + 1, len(self._lengths))
            self._progress(EncodeProgress("train", *place, done, eta, training))

        def proceed() -> bool:
            stopping = stop()
            self._keeper.keep(trainer.state, seconds(), now=stopping)
            return not stopping

        network = trainer.train(report, proceed)
        # Who stops early gets what there is, even where it is longer: steps may not be trained yet.
        payload = segment_payload(
            network,
            SegmentHead(index, before, count, model),
            self._header,
            goal if trainer.finished else NO_GOAL,
            partial(rendered_psnr, header=self._header, frames=frames, device=self._device),
        )
        trained = TrainedSegment(payload, network.psnr, seconds())
        if trainer.finished:
            self._keeper.add(trained)
        elif index > 0 and trainer.epochs_done == 0:
            return None
        self.epochs = trainer.epochs_done
        return trained

    def _verified(self, trained: TrainedSegment, frames: Frames, stop: Stop) -> CodedSegment:
        """Decode what was coded, measure it in float64, and take its digest.

        Who asked to stop does not want to wait: a few frames are measured then, and there is no
        digest.
        """
        header = self._header
        segment = decode_segment(trained.payload, header, Limits())
        count, stopping = len(frames), stop()
        renderer = SegmentRenderer(
            segment,
            header.width,
            header.height,
            bit_depth=header.bit_depth,
            reference=not stopping,
            device=self._device,
        )
        numbers = range(0, count, -(-count // STOPPED_FRAMES)) if stopping else range(count)
        digest = FramesDigest()
        done = sum(self._lengths[: segment.index + 1]) / sum(self._lengths)
        for number, frame in zip(numbers, renderer.frames(numbers), strict=True):
            digest.add(frame)
            self.statistics.add(frames[number], frame)
            text = f"verifying by decoding, frame {number + 1}/{count}"
            place = (segment.index + 1, len(self._lengths))
            self._progress(EncodeProgress("verify", *place, done, description=text))
            if not stopping and number + 1 < count and stop():
                stopping = True
                break
        checked = None if stopping else digest.digest()
        return CodedSegment(trained, segment.model, segment.symbols_crc(), checked)
