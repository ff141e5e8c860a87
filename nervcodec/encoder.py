"""Encodes a video: frames, segments, networks, symbols, chunks, and a check by decoding.

The reverse is :mod:`nervcodec.decoder`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nervcodec.assembly import file_header, passed_through, write_file
from nervcodec.bitstream.segment import Segment, SegmentHead, decode_segment
from nervcodec.bitstream.stream import StreamReader
from nervcodec.bitstream.syntax import FORMAT_MAJOR, FORMAT_MINOR, ModelSpec
from nervcodec.bitstream.tensors import Limits, parameter_count
from nervcodec.config import EncodeConfig, TrainConfig
from nervcodec.errors import (
    InputVideoError,
    InterruptedEncode,
)
from nervcodec.executors import Executor, choose_executor, threads_of
from nervcodec.files import atomic_output, check_name, check_output, file_digest
from nervcodec.inference import FramesDigest, SegmentRenderer, select_device
from nervcodec.jobs import (
    SegmentJob,
    SegmentResult,
    checking_seconds,
    rendered_psnr,
    segment_payload,
)
from nervcodec.metrics import FrameStatistics, bits_per_pixel
from nervcodec.planning import EncodePlan, lost_parts, open_source, plan_encode, source_digest
from nervcodec.preview import Preview
from nervcodec.reports import EncodeCallback, EncodeProgress, EncodeReport, Tally
from nervcodec.samples import Frames
from nervcodec.scan import ScannedClip
from nervcodec.segments import SegmentPlan
from nervcodec.training.checkpoint import (
    CheckpointKeeper,
    TrainedSegment,
    checkpoint_key,
    checkpoint_path,
)
from nervcodec.training.goal import NO_GOAL, Goal
from nervcodec.training.progress import TrainProgress
from nervcodec.training.trainer import Trainer
from nervcodec.version import __version__
from nervcodec.video.inputs import Source
from nervcodec.video.passthrough import Passthrough
from nervcodec.video.reader import SourceFrame, VideoReader

Stop = Callable[[], bool]

STOPPED_FRAMES = 16
"""Frames of a segment that are measured when the encode was asked to stop."""

LEAST_SECONDS = 0.001
"""Time for a segment's training where there is none left: one step."""


@dataclass(frozen=True)
class _Coded:
    """One segment as it goes into the file; ``digest`` is None where it was not asked for."""

    trained: TrainedSegment
    model: ModelSpec
    symbols_crc: int
    digest: bytes | None


def encode(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: EncodeConfig | None = None,
    progress: EncodeCallback | None = None,
    stop: Stop | None = None,
) -> EncodeReport:
    """Encode a video file, or the pictures in a folder, to ``output``.

    While it works, a checkpoint lies beside the output. It is removed in the end, but not when
    the encode was stopped or failed: ``config.resume`` goes on from it.

    Args:
        stop: asked often; once it says True the training ends, and what there is is written.

    Raises:
        HfsvError: no output is left then, and an existing one stays as it was.
    """
    config = config or EncodeConfig()
    output_path = Path(output)
    check_output(Path(source), output_path, config.overwrite or config.resume)
    device = select_device(config.device)
    if config.threads is not None or config.workers is not None:
        torch.set_num_threads(threads_of(config))
    stop = stop or _never
    found, reader = open_source(source, config, lambda: _check(stop))
    with reader:
        work = _Encode(found, output_path, config, progress or _ignore, device, reader)
        return work.run(stop)


def _ignore(progress: EncodeProgress) -> None:
    """The callback of callers that have none."""


def _never() -> bool:
    return False


def _check(stop: Stop) -> None:
    if stop():
        raise InterruptedEncode("interrupted before the training; nothing was written")


class _Encode:
    """One encode under way."""

    def __init__(
        self,
        source: Source,
        output: Path,
        config: EncodeConfig,
        progress: EncodeCallback,
        device: torch.device,
        reader: VideoReader,
    ) -> None:
        self._source, self._output = source, output
        self._config, self._progress, self._device = config, progress, device
        self._reader = reader
        self._source_digest = source_digest(source)
        self._keeper = CheckpointKeeper(
            checkpoint_path(output),
            _key(self._source_digest, config),
            config.checkpoint_seconds,
            lambda text: self._say("resume", "", (text,)),
        )
        self._statistics = FrameStatistics(bit_depth=reader.bit_depth)
        self._preview = None
        if config.preview is not None:
            self._preview = Preview(config.preview, lambda text: self._say("train", "", (text,)))
        self._train, self._epochs = config.train, config.train.epochs
        self._goals: Sequence[Goal] = ()
        self._deadline: float | None = None
        self._frame_check: float | None = None

    def run(self, stop: Stop) -> EncodeReport:
        started = time.perf_counter()
        self._open_checkpoint()
        if self._config.time is not None:
            self._deadline = started + self._config.time.total_seconds() - self._keeper.all_seconds
        self._say("read", "reading the source")
        reader, config, digest = self._reader, self._config, self._source_digest
        made = plan_encode(self._source, reader, config, digest, lambda: _check(stop))
        clip, plan, audio, models = made.clip, made.segments, made.audio, made.models
        self._train, self._goals = made.train, made.goals
        self._announce(made)
        executor = choose_executor(config)
        if executor is None:
            coded = self._code_segments(models, plan, stop)
        else:
            if len(models) == 1:
                text = "there is one segment, which workers cannot share; --keyint makes more"
                self._say("read", "", (text,))
            coded = self._code_side_by_side(executor, models, plan, stop)
        cut = len(coded) < len(plan.lengths)
        interrupted = cut or any(part.digest is None for part in coded)
        if cut:
            plan = SegmentPlan(plan.lengths[: len(coded)])
            audio = passed_through(self._source, reader, config, clip, plan.frames)
        with atomic_output(self._output) as temporary:
            digests = [part.digest for part in coded if part.digest is not None]
            hashed = digests if len(digests) == len(coded) else None
            with temporary.open("wb") as stream:
                write_file(
                    stream,
                    reader,
                    config,
                    clip,
                    plan,
                    self._segments(plan, coded),
                    hashed,
                    audio,
                    source_digest=digest,
                    epochs=self._epochs,
                )
            if interrupted:
                self._keeper.interrupted(file_digest(temporary))
            seconds = time.perf_counter() - started
            report = self._report(temporary, coded, plan, audio, clip, seconds, interrupted)
        if not interrupted:
            self._keeper.remove()
        return report

    def _say(self, stage: str, description: str, warnings: tuple[str, ...] = ()) -> None:
        """A word of progress outside the training."""
        self._progress(EncodeProgress(stage, 1, 1, 0.0, description=description, warnings=warnings))

    def _open_checkpoint(self) -> None:
        """Take over an earlier run's checkpoint, or say that it will be lost."""
        path = self._keeper.path
        if not (self._config.resume or self._config.checkpoint_seconds > 0):
            return
        check_name(path)
        if self._config.resume:
            if self._keeper.resume():
                self._say("resume", f"going on from {path}")
            else:
                self._say("resume", f"no checkpoint at {path}: starting from the beginning")
            if not self._keeper.wrote(self._output):
                check_output(self._source.path, self._output, self._config.overwrite)
        elif path.exists():
            text = f"{path} of an earlier encode will be replaced; --resume would go on from it"
            self._say("resume", "", (text,))

    def _announce(self, plan: EncodePlan) -> None:
        """Say what will be made."""
        self._progress(
            EncodeProgress(
                "plan",
                1,
                len(plan.models),
                0.0,
                description=plan.description,
                estimated_bytes=plan.estimated_bytes,
                warnings=plan.warnings,
            )
        )

    def _code_segments(
        self, models: Sequence[ModelSpec], plan: SegmentPlan, stop: Stop
    ) -> list[_Coded]:
        """All segments, or those that were reached when the encode was asked to stop.

        The frames of one are let go of before those of the next are read.
        """
        coded: list[_Coded] = []
        source = iter(self._reader)
        for index, model in enumerate(models):
            unfinished = bool(coded) and coded[-1].trained.float_psnr is None
            if coded and self._keeper.segment(index) is None and (unfinished or stop()):
                break
            frames = self._read(source, plan.lengths[index])
            part = self._code_segment(frames, index, plan, model, stop)
            del frames
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
                raise InputVideoError(f"{self._source}: has changed since it was first read")
            if frames is None:
                frames = np.empty((count, *frame.rgb.shape), dtype=frame.rgb.dtype)
            frames[index] = frame.rgb
        assert frames is not None
        return frames

    def _code_side_by_side(
        self, executor: Executor, models: Sequence[ModelSpec], plan: SegmentPlan, stop: Stop
    ) -> list[_Coded]:
        """All segments, or of an encode that was asked to stop those before the first unfinished.

        Raises:
            InterruptedEncode: if the first one is not finished; the others are in the checkpoint.
        """
        tally = Tally(plan.lengths, self._progress)
        results: dict[int, SegmentResult] = {}
        for result in executor.run(self._jobs(models, plan), tally.training, stop):
            if self._keeper.segment(result.index) is None:
                self._keeper.add(result.trained, result.index)
            results[result.index] = result
            tally.finished(result.index)
        coded: list[_Coded] = []
        while (found := results.get(len(coded))) is not None:
            self._statistics.extend(found.statistics)
            model = models[len(coded)]
            coded.append(_Coded(found.trained, model, found.symbols_crc, found.digest))
        if not coded:
            raise InterruptedEncode(
                "interrupted before the first segment was finished; nothing was written"
            )
        return coded

    def _jobs(self, models: Sequence[ModelSpec], plan: SegmentPlan) -> Iterator[SegmentJob]:
        """A job for each segment; those in the checkpoint are only measured again."""
        source, header, state = iter(self._reader), file_header(self._reader, plan, 1), True
        for index, (model, (first, count)) in enumerate(zip(models, plan.ranges(), strict=True)):
            job = SegmentJob(
                index,
                first,
                header,
                self._read(source, count),
                model,
                self._timed(model, index, plan, self._config.workers or 1),
                threads_of(self._config),
                self._config.device,
                trained=self._keeper.segment(index),
                goal=self._goals[index],
            )
            if job.trained is None and state:
                job = replace(job, state=self._keeper.state, seconds=self._keeper.seconds)
                state = False
            yield job

    def _timed(self, model: ModelSpec, index: int, plan: SegmentPlan, workers: int) -> TrainConfig:
        """How a segment is trained: where the encode has a time, with its part of what is left."""
        if self._deadline is None:
            return self._train
        if self._frame_check is None:
            self._frame_check = checking_seconds(model, file_header(self._reader, plan, 1))
        frames = plan.lengths[index:]
        spent = self._keeper.seconds if self._keeper.state is not None else 0.0
        left = self._deadline - time.perf_counter() + spent
        left -= self._frame_check * sum(frames) / workers
        share = min(1.0, workers * frames[0] / sum(frames))
        return replace(self._train, seconds=max(LEAST_SECONDS, left * share))

    def _code_segment(
        self, frames: Frames, index: int, plan: SegmentPlan, model: ModelSpec, stop: Stop
    ) -> _Coded | None:
        """One segment, trained unless the checkpoint has it, and decoded again."""
        trained = self._keeper.segment(index) or self._train_segment(
            frames, index, plan, model, stop
        )
        return None if trained is None else self._verify(trained, frames, plan, stop)

    def _train_segment(
        self, frames: Frames, index: int, plan: SegmentPlan, model: ModelSpec, stop: Stop
    ) -> TrainedSegment | None:
        """Train, quantize and code one segment, or go on with it.

        None if it was stopped in its first epoch, where there are segments before it.
        """
        trainer = Trainer(
            frames,
            model,
            self._timed(model, index, plan, 1),
            self._device,
            self._reader.bit_depth,
            self._goals[index],
        )
        before, total = sum(plan.lengths[:index]), plan.frames
        spent, started = self._keeper.seconds, time.perf_counter()
        if self._keeper.state is not None:
            trainer.restore(self._keeper.state)

        def seconds() -> float:
            return spent + time.perf_counter() - started

        def report(training: TrainProgress) -> None:
            if self._preview is not None:
                depth = self._reader.bit_depth
                self._preview.show(training, index, frames, trainer.render, depth)
            share = training.step / training.steps * len(frames)
            later = (total - before - len(frames)) / len(frames)
            eta = training.eta + later * training.steps * training.seconds_per_step
            self._progress(
                EncodeProgress(
                    "train", index + 1, len(plan.lengths), (before + share) / total, eta, training
                )
            )

        def proceed() -> bool:
            stopping = stop()
            self._keeper.keep(trainer.state, seconds(), now=stopping)
            return not stopping

        network = trainer.train(report, proceed)
        # Who stops early gets what there is, even where it is longer: steps may not be trained yet.
        goal = self._goals[index] if trainer.finished else NO_GOAL
        header = file_header(self._reader, plan, 1)
        head = SegmentHead(index, before, len(frames), model)
        psnr = partial(rendered_psnr, header=header, frames=frames, device=self._device)
        payload = segment_payload(network, head, header, goal, psnr)
        trained = TrainedSegment(payload, network.psnr, seconds())
        if trainer.finished:
            self._keeper.add(trained)
        elif index > 0 and trainer.epochs_done == 0:
            return None
        self._epochs = trainer.epochs_done
        return trained

    def _verify(
        self, trained: TrainedSegment, frames: Frames, plan: SegmentPlan, stop: Stop
    ) -> _Coded:
        """Decode what was coded, measure it in float64, and return its digest.

        Who asked to stop does not want to wait: a few frames are measured then, and there is no
        digest.
        """
        header = file_header(self._reader, plan, 1)
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
        done = sum(plan.lengths[: segment.index + 1]) / plan.frames
        for number, frame in zip(numbers, renderer.frames(numbers), strict=True):
            digest.add(frame)
            self._statistics.add(frames[number], frame)
            text = f"verifying by decoding, frame {number + 1}/{count}"
            place = (segment.index + 1, len(plan.lengths))
            self._progress(EncodeProgress("verify", *place, done, description=text))
            if not stopping and number + 1 < count and stop():
                stopping = True
                break
        checked = None if stopping else digest.digest()
        return _Coded(trained, segment.model, segment.symbols_crc(), checked)

    def _segments(self, plan: SegmentPlan, coded: list[_Coded]) -> Iterator[Segment]:
        header = file_header(self._reader, plan, 1)
        return (decode_segment(part.trained.payload, header, Limits()) for part in coded)

    def _report(
        self,
        path: Path,
        coded: list[_Coded],
        plan: SegmentPlan,
        audio: Passthrough | None,
        clip: ScannedClip,
        seconds: float,
        interrupted: bool,
    ) -> EncodeReport:
        with path.open("rb") as stream:
            reader = StreamReader(stream, Limits())
            for index, part in enumerate(coded):
                assert reader.segment(index).symbols_crc() == part.symbols_crc
        header, lengths = reader.header, plan.lengths
        params = sum(
            parameter_count(c.model, header.width, header.height, n)
            for c, n in zip(coded, lengths, strict=True)
        )
        floats = [c.trained.float_psnr for c in coded]
        known = [psnr for psnr in floats if psnr is not None]
        own_bytes = reader.file_bytes - reader.audio_bytes
        return EncodeReport(
            file_bytes=reader.file_bytes,
            audio_bytes=reader.audio_bytes,
            width=header.width,
            height=header.height,
            frames=header.frames,
            bits_per_pixel=bits_per_pixel(own_bytes, header.width, header.height, header.frames),
            params=params,
            psnr=self._statistics.psnr,
            ms_ssim=self._statistics.ms_ssim,
            measured_frames=self._statistics.frames,
            float_psnr=float(np.average(known, weights=lengths)) if known == floats else None,
            train_seconds=sum(c.trained.seconds for c in coded),
            seconds=seconds,
            audio_streams=audio.streams if audio else (),
            warnings=(*lost_parts(self._reader, clip, audio), *self._missed(interrupted)),
            interrupted=interrupted,
        )

    def _missed(self, interrupted: bool) -> tuple[str, ...]:
        """A warning where the quality that was asked for was not reached."""
        wanted, reached = self._config.min_psnr, self._statistics.psnr
        if wanted is None or interrupted or reached >= wanted:
            return ()
        text = f"{reached:.2f} dB are less than the {wanted:g} dB asked for; more parameters"
        warning = f"{text} (--params) or a longer training (--preset) come nearer"
        self._say("verify", "", (warning,))
        return (warning,)


def _key(source_digest: str, config: EncodeConfig) -> str:
    """What a checkpoint must agree in to be gone on from.

    Device and threads are left out: elsewhere the training goes on too, though not bit by bit as
    it would have.
    """
    return checkpoint_key(
        version=__version__,
        format=[FORMAT_MAJOR, FORMAT_MINOR],
        source=source_digest,
        train=asdict(config.train),
        model=asdict(config.model),
        input=[None if config.raw is None else asdict(config.raw), str(config.input_rate)],
        frames=[config.crop, config.size, config.frames, str(config.keyint), config.scene_cut],
        bit_depth=config.bit_depth,
        size_target=None if config.size_target is None else asdict(config.size_target),
        min_psnr=config.min_psnr,
        time=str(config.time),
        part=[str(config.start), str(config.end), config.allow_damaged],
    )
