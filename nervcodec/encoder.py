"""Encodes a video: frames, segments, networks, symbols, chunks, and a check by decoding.

The reverse is :mod:`nervcodec.decoder`.
"""

from __future__ import annotations

import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nervcodec.bitstream.segment import Segment, decode_segment, encode_segment
from nervcodec.bitstream.stream import AudioData, StreamReader, write_stream
from nervcodec.bitstream.syntax import (
    FORMAT_MAJOR,
    FORMAT_MINOR,
    MAX_RATIONAL,
    ModelSpec,
    StreamHeader,
)
from nervcodec.bitstream.tensors import Limits, check_limits, parameter_count, tensor_specs
from nervcodec.config import EncodeConfig
from nervcodec.errors import (
    InputVideoError,
    InterruptedEncode,
    TargetError,
    UnsupportedError,
)
from nervcodec.files import atomic_output, check_output, file_digest
from nervcodec.inference import FramesDigest, SegmentRenderer, select_device
from nervcodec.metrics import FrameStatistics, bits_per_pixel
from nervcodec.rate_control import default_params, design_model, least_params
from nervcodec.reports import EncodeCallback, EncodeProgress, EncodeReport
from nervcodec.samples import Frames, sample_type
from nervcodec.segments import SampleVariance, SegmentPlan, plan_segments, share_params
from nervcodec.training.checkpoint import (
    CheckpointKeeper,
    TrainedSegment,
    checkpoint_key,
    checkpoint_path,
)
from nervcodec.training.quantization import quantize
from nervcodec.training.trainer import Trainer, TrainProgress
from nervcodec.version import __version__
from nervcodec.video.info import chapters_between, chapters_to_meta, tags_to_meta
from nervcodec.video.inputs import Source, find_source
from nervcodec.video.passthrough import Passthrough, extract
from nervcodec.video.reader import SourceFrame, VideoReader
from nervcodec.video.scenes import SceneDetector

Stop = Callable[[], bool]

STOPPED_FRAMES = 16
"""Frames of a segment that are measured when the encode was asked to stop."""

MAX_TITLE = 256

ESTIMATED_BYTES = 0.9
"""Bytes a parameter after entropy coding, as measured on trained networks."""


@dataclass(frozen=True)
class _Clip:
    """What the first reading of the source found out.

    Frames are not among it: they are read again, a segment at a time.

    Attributes:
        pts: of all frames, 8 bytes each.
        cuts: frames that begin a scene, where they were asked for.
        variance: of the samples, 16 bytes a frame.
    """

    pts: array[int]
    cuts: list[int]
    variance: SampleVariance


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
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    stop = stop or _never
    layout = None if config.raw is None else config.raw.layout
    found = find_source(source, raw=layout, rate=config.input_rate)
    with VideoReader(
        found,
        crop=config.crop,
        size=config.size,
        max_frames=config.frames,
        bit_depth=config.bit_depth,
        start=config.start,
        end=config.end,
        allow_damaged=config.allow_damaged,
        on_skip=lambda: _check(stop),
    ) as reader:
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
        self._source_digest = _digest(source)
        self._keeper = CheckpointKeeper(
            checkpoint_path(output),
            _key(self._source_digest, config),
            config.checkpoint_seconds,
            lambda text: self._say("resume", "", (text,)),
        )
        self._statistics = FrameStatistics(bit_depth=reader.bit_depth)
        self._epochs = config.train.epochs
        self._read_warnings: tuple[str, ...] = ()
        self._origin = Fraction(0)
        """Seconds in the source that are 0 in the file."""

    def run(self, stop: Stop) -> EncodeReport:
        started = time.perf_counter()
        self._open_checkpoint()
        self._say("read", "reading the source")
        clip = self._scan(stop)
        plan = self._plan(clip)
        models = self._design(clip, plan)
        audio = self._audio(clip.pts)
        self._announce(models, plan, audio)
        coded = self._code_segments(models, plan, stop)
        cut = len(coded) < len(plan.lengths)
        interrupted = cut or any(part.digest is None for part in coded)
        if cut:
            plan = SegmentPlan(plan.lengths[: len(coded)])
            audio = self._audio(clip.pts[: plan.frames], cut=True)
        duration = _common_step(clip.pts, self._reader)
        with atomic_output(self._output) as temporary:
            self._write(temporary, self._header(plan, duration), clip.pts, coded, audio)
            if interrupted:
                self._keeper.interrupted(file_digest(temporary))
            report = self._report(temporary, coded, plan, audio, interrupted, started)
        if not interrupted:
            self._keeper.remove()
        return report

    def _say(self, stage: str, description: str, warnings: tuple[str, ...] = ()) -> None:
        """A word of progress outside the training."""
        self._progress(EncodeProgress(stage, 1, 1, 0.0, description=description, warnings=warnings))

    def _open_checkpoint(self) -> None:
        """Take over an earlier run's checkpoint, or say that it will be lost."""
        path = self._keeper.path
        if self._config.resume:
            if self._keeper.resume():
                self._say("resume", f"going on from {path}")
            else:
                self._say("resume", f"no checkpoint at {path}: starting from the beginning")
            if not self._keeper.wrote(self._output):
                check_output(self._source.path, self._output, self._config.overwrite)
        elif path.exists() and self._config.checkpoint_seconds > 0:
            text = f"{path} of an earlier encode will be replaced; --resume would go on from it"
            self._say("resume", "", (text,))

    def _scan(self, stop: Stop) -> _Clip:
        """Read the whole clip once: timestamps, and cuts where they were asked for."""
        pts = array("q")
        cuts: list[int] = []
        threshold = self._config.scene_cut
        size = (self._reader.out_width, self._reader.out_height)
        depth = self._reader.bit_depth
        detector = None if threshold is None else SceneDetector(*size, threshold, depth)
        variance = SampleVariance()
        for frame in self._reader:
            _check(stop)
            variance.add(frame.rgb)
            if detector is not None and detector.begins_scene(frame.rgb):
                cuts.append(len(pts))
            pts.append(frame.pts)
        if not pts:
            raise InputVideoError(f"{self._source}: no frame could be decoded")
        self._read_warnings = tuple(self._reader.warnings)
        if self._config.start is not None:
            self._origin = pts[0] * self._reader.info.time_base
            pts = array("q", (time - pts[0] for time in pts))
        return _Clip(pts, cuts, variance)

    def _plan(self, clip: _Clip) -> SegmentPlan:
        keyint, frames, ticks = self._config.keyint, None, None
        if isinstance(keyint, timedelta):
            ticks = max(1, round(_seconds(keyint) / self._reader.info.time_base))
        else:
            frames = keyint
        width, height = self._reader.out_width, self._reader.out_height
        return plan_segments(
            clip.pts,
            width,
            height,
            keyint=frames,
            ticks=ticks,
            cuts=clip.cuts,
            sample_bytes=sample_type(self._reader.bit_depth).itemsize,
        )

    def _next_frames(self, source: Iterator[SourceFrame], count: int) -> Frames:
        """The next ``count`` frames, (count, H, W, 3)."""
        first = self._next_frame(source)
        frames = np.empty((count, *first.shape), dtype=first.dtype)
        frames[0] = first
        for index in range(1, count):
            frames[index] = self._next_frame(source)
        return frames

    def _next_frame(self, source: Iterator[SourceFrame]) -> Frames:
        frame = next(source, None)
        if frame is None:
            raise InputVideoError(f"{self._source}: has changed since it was first read")
        return frame.rgb

    def _design(self, clip: _Clip, plan: SegmentPlan) -> list[ModelSpec]:
        width, height = self._reader.out_width, self._reader.out_height
        config = self._config.model
        params = config.params or default_params(width, height, plan.frames)
        least = [least_params(config, width, height, frames) for frames in plan.lengths]
        if len(least) > 1 and sum(least) > params:
            raise TargetError(
                f"{params} parameters are too few: the narrowest networks for {len(least)} "
                f"segments of {width}x{height} have {sum(least)} (--params, --keyint)"
            )
        shares = [params]
        if len(least) > 1:
            difficulties = [clip.variance.over(*run) for run in plan.ranges()]
            shares = share_params(params, plan, least, difficulties)
        models = []
        for frames, share in zip(plan.lengths, shares, strict=True):
            model = design_model(config, share, width, height, frames)
            try:
                check_limits(model, width, height, frames, Limits())
            except UnsupportedError as exc:
                raise TargetError(
                    f"{width}x{height} is too large for this network ({exc}); "
                    "--size or --params makes it smaller"
                ) from exc
            models.append(model)
        return models

    def _announce(
        self, models: list[ModelSpec], plan: SegmentPlan, audio: Passthrough | None
    ) -> None:
        """Say what will be made: at 8 bits a parameter the size is known before training."""
        width, height = self._reader.out_width, self._reader.out_height
        params = sum(
            parameter_count(model, width, height, count)
            for model, count in zip(models, plan.lengths, strict=True)
        )
        text = f"{plan.frames} frames {width}x{height}, {params:,} parameters"
        if len(models) > 1:
            text += f" in {len(models)} segments"
        self._progress(
            EncodeProgress(
                "plan",
                1,
                len(models),
                0.0,
                description=text,
                estimated_bytes=round(ESTIMATED_BYTES * params),
                warnings=self._warnings(audio),
            )
        )

    def _warnings(self, audio: Passthrough | None) -> tuple[str, ...]:
        """What the file does not keep of the source; known before the training."""
        dropped = (f"not kept: {text}" for text in (audio.dropped if audio else ()))
        lines = (*self._reader.info.warnings, *self._read_warnings, *dropped)
        return tuple(dict.fromkeys(lines))

    def _code_segments(
        self, models: list[ModelSpec], plan: SegmentPlan, stop: Stop
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
            frames = self._next_frames(source, plan.lengths[index])
            part = self._code_segment(frames, index, plan, model, stop)
            del frames
            if part is None:
                break
            coded.append(part)
        return coded

    def _code_segment(
        self, frames: Frames, index: int, plan: SegmentPlan, model: ModelSpec, stop: Stop
    ) -> _Coded | None:
        """One segment, trained unless the checkpoint has it, and decoded again."""
        trained = self._keeper.segment(index) or self._train(frames, index, plan, model, stop)
        return None if trained is None else self._verify(trained, frames, plan, stop)

    def _train(
        self, frames: Frames, index: int, plan: SegmentPlan, model: ModelSpec, stop: Stop
    ) -> TrainedSegment | None:
        """Train, quantize and code one segment, or go on with it.

        None if it was stopped in its first epoch, where there are segments before it.
        """
        trainer = Trainer(frames, model, self._config.train, self._device, self._reader.bit_depth)
        width, height = self._reader.out_width, self._reader.out_height
        before, total = sum(plan.lengths[:index]), plan.frames
        spent, started = self._keeper.seconds, time.perf_counter()
        if self._keeper.state is not None:
            trainer.restore(self._keeper.state)

        def seconds() -> float:
            return spent + time.perf_counter() - started

        def report(training: TrainProgress) -> None:
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
        specs = tensor_specs(model, width, height, len(frames))
        tensors = tuple(quantize(spec, network.tensors[spec.name]) for spec in specs)
        segment = Segment(index, before, len(frames), model, tensors)
        trained = TrainedSegment(encode_segment(segment)[0], network.psnr, seconds())
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
        header = self._header(plan, 1)
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

    def _header(self, plan: SegmentPlan, duration: int) -> StreamHeader:
        info = self._reader.info
        return StreamHeader(
            width=self._reader.out_width,
            height=self._reader.out_height,
            frames=plan.frames,
            segments=len(plan.lengths),
            time_base=info.time_base,
            start_pts=0,
            frame_duration=duration,
            sample_aspect_ratio=self._reader.out_sample_aspect_ratio,
            primaries=info.color.primaries,
            transfer=info.color.transfer,
            matrix=info.color.matrix,
            full_range=info.color.full_range,
            rotation=info.rotation,
            bit_depth=self._reader.bit_depth,
        )

    def _audio(self, pts: Sequence[int], cut: bool = False) -> Passthrough | None:
        """What to pass through, of a part of the source that which is heard or shown with it."""
        info, config = self._reader.info, self._config
        sound = config.audio and info.has_audio
        if not sound and not (config.subtitles and info.has_subtitles):
            return None
        cut = cut or config.frames is not None or config.end is not None
        return extract(
            self._source,
            begin=None if config.start is None else self._origin,
            end=self._origin + self._end(pts) if cut else None,
            audio=config.audio,
            subtitles=config.subtitles,
            allow_damaged=config.allow_damaged,
        )

    def _end(self, pts: Sequence[int]) -> Fraction:
        """When the last of some frames ends, in seconds."""
        return Fraction(pts[-1] + _common_step(pts, self._reader)) * self._reader.info.time_base

    def _write(
        self,
        path: Path,
        header: StreamHeader,
        pts: Sequence[int],
        coded: list[_Coded],
        audio: Passthrough | None,
    ) -> None:
        digests = [c.digest for c in coded if c.digest is not None]
        with path.open("wb") as stream:
            write_stream(
                stream,
                header,
                pts[: header.frames],
                header.frame_duration,
                (decode_segment(c.trained.payload, header, Limits()) for c in coded),
                digests if len(digests) == len(coded) else None,
                self._meta(audio, self._end(pts[: header.frames])),
                AudioData(audio.container, audio.data) if audio and audio.data else None,
            )

    def _meta(self, audio: Passthrough | None, end: Fraction) -> dict[str, Any]:
        """What the file says of its making; nothing of the machine or its paths."""
        train = self._config.train
        meta: dict[str, Any] = {
            "tool": f"nervcodec {__version__}",
            "source": self._source_digest,
            "epochs": self._epochs,
            "seed": train.seed,
        }
        if audio is not None and audio.streams:
            meta["audio"] = list(audio.streams)
        if self._config.start is not None:
            meta["start"] = self._config.start // timedelta(microseconds=1)
        if self._config.crop is not None:
            meta["crop"] = list(self._config.crop)
        info = self._reader.info
        title = info.metadata.get("title")
        if title:
            meta["title"] = title[:MAX_TITLE]
        if tags := tags_to_meta(info.metadata):
            meta["tags"] = tags
        chapters = info.chapters
        if self._config.start is not None:
            chapters = tuple(chapters_between(chapters, self._origin, None))
        if fitting := chapters_to_meta(chapters, end):
            meta["chapters"] = fitting
        return meta | info.hdr.to_meta()

    def _report(
        self,
        path: Path,
        coded: list[_Coded],
        plan: SegmentPlan,
        audio: Passthrough | None,
        interrupted: bool,
        started: float,
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
            seconds=time.perf_counter() - started,
            audio_streams=audio.streams if audio else (),
            warnings=self._warnings(audio),
            interrupted=interrupted,
        )


def _digest(source: Source) -> str:
    try:
        return file_digest(*source.files)
    except OSError as exc:
        raise InputVideoError(f"{source}: cannot be read ({exc.strerror or exc})") from exc


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
        part=[str(config.start), str(config.end), config.allow_damaged],
    )


def _seconds(duration: timedelta) -> Fraction:
    return Fraction(duration // timedelta(microseconds=1), 1_000_000)


def _common_step(pts: Sequence[int], reader: VideoReader) -> int:
    """The most frequent step between frames, in ticks; one frame lasts as the rate says."""
    steps = Counter(after - before for before, after in pairwise(pts))
    if steps:
        step = min(steps, key=lambda value: (-steps[value], value))
    else:
        rate = reader.info.frame_rate or Fraction(25)
        step = round(1 / (rate * reader.info.time_base))
    return min(MAX_RATIONAL, max(1, step))
