"""Trains on from a finished file: its networks become better, the file no longer.

:mod:`nervcodec.encoder` made it; what of it is not a network stays as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from nervcodec.bitstream.coding import scale_values
from nervcodec.bitstream.segment import (
    Segment,
    SegmentHead,
    decode_segment,
    encode_segment,
)
from nervcodec.bitstream.stream import write_stream
from nervcodec.bitstream.tables import CENTRE
from nervcodec.bitstream.tensors import FRAME_TENSORS, Limits, value_count
from nervcodec.clip import HfsvFile
from nervcodec.config import RawFormat, TrainConfig
from nervcodec.errors import TargetError, UsageError
from nervcodec.files import atomic_output, check_output
from nervcodec.inference import select_device
from nervcodec.jobs import checking_seconds, measure_segment, segment_payload
from nervcodec.metrics import FrameStatistics
from nervcodec.planning import source_digest
from nervcodec.rate_control import fitting_rate_weight
from nervcodec.reports import EncodeCallback, EncodeProgress
from nervcodec.samples import Frames
from nervcodec.training.goal import Goal
from nervcodec.training.progress import TrainProgress
from nervcodec.training.trainer import Trainer
from nervcodec.verification import stored_crop, stored_start
from nervcodec.video.inputs import find_source
from nervcodec.video.reader import SourceFrame, VideoReader

IMPROVING_RATE = 0.4
"""Peak learning rate, of that of a training from the beginning."""


@dataclass(frozen=True)
class ImproveConfig:
    """How :func:`improve` trains.

    Attributes:
        train: the schedule, of each segment. Its rate is trained whatever ``rate_weight`` says:
            that is how the length is kept, of what was only rounded to 8 bits too.
        time: how long all of it may take; None for ``train.epochs``.
        raw: the layout of a source that is raw video.
        allow_damaged: as it was in :class:`nervcodec.EncodeConfig`.
        device: ``auto``, ``cpu`` or a torch device.
        threads: CPU threads; None for all.
        overwrite: replace an existing output that is not the file itself.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    time: timedelta | None = None
    raw: RawFormat | None = None
    allow_damaged: bool = False
    device: str = "auto"
    threads: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ImproveReport:
    """What :func:`improve` came to.

    Attributes:
        bytes_before, bytes_after: length of the file.
        psnr_before, psnr_after: mean RGB PSNR of its frames in dB.
        improved, segments: segments that became better, and all.
        interrupted: it was asked to stop before the end; what was better by then is kept.
    """

    bytes_before: int
    bytes_after: int
    psnr_before: float
    psnr_after: float
    improved: int
    segments: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class _Measured:
    """A segment with the digest and the quality of its reference frames."""

    segment: Segment
    digest: bytes
    statistics: FrameStatistics

    @property
    def length(self) -> int:
        """Bytes of its payload."""
        return len(encode_segment(self.segment)[0])


def improve(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    config: ImproveConfig | None = None,
    progress: EncodeCallback | None = None,
    stop: Callable[[], bool] | None = None,
) -> ImproveReport:
    """Train on the networks of a file with the video that it was made of.

    A segment is replaced by what comes of it if that is better and no longer. Sound, times and all
    else stay.

    Args:
        output: where the better file goes; None for ``path`` itself.
        stop: asked often; once it says True the training ends, and what is better is written.

    Raises:
        HfsvError: among others if the source is another one; the file stays as it was then.
    """
    config = config or ImproveConfig()
    target = Path(path if output is None else output)
    if output is not None and target.resolve() != Path(path).resolve():
        check_output(Path(source), target, config.overwrite)
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    with HfsvFile(path, device="cpu", cache_bytes=0) as file:
        work = _Improve(file, source, config, progress or _ignore, stop or _never)
        return work.run(target)


def _ignore(progress: EncodeProgress) -> None:
    """The callback of callers that have none."""


def _never() -> bool:
    return False


class _Improve:
    """One run."""

    def __init__(
        self,
        file: HfsvFile,
        source: str | os.PathLike[str],
        config: ImproveConfig,
        progress: EncodeCallback,
        stop: Callable[[], bool],
    ) -> None:
        self._file, self._config, self._progress, self._stop = file, config, progress, stop
        self._started = time.perf_counter()
        found = find_source(source, raw=None if config.raw is None else config.raw.layout)
        recorded = file.reader.meta.get("source")
        if recorded is not None and recorded != source_digest(found):
            raise UsageError(f"{source}: is not what {file.path} was made of")
        self._source = VideoReader(
            found,
            crop=stored_crop(file),
            size=(file.width, file.height),
            max_frames=len(file),
            start=stored_start(file),
            bit_depth=file.bit_depth,
            allow_damaged=config.allow_damaged,
        )

    def run(self, target: Path) -> ImproveReport:
        before, after = (FrameStatistics(bit_depth=self._file.bit_depth) for _ in range(2))
        kept: list[_Measured] = []
        improved = 0
        count = len(self._file.reader.segments)
        with self._source:
            frames = iter(self._source)
            for number in range(count):
                originals = self._read(frames, self._file.reader.segments[number].frames)
                old = self._measure(self._file.reader.segment(number), originals)
                new = None if self._stop() else self._trained(old.segment, originals, number)
                better = new is not None and _is_better(new, old)
                kept.append(new if better and new is not None else old)
                improved += better
                before.extend(old.statistics)
                after.extend(kept[-1].statistics)
        before_bytes = self._file.reader.file_bytes
        with atomic_output(target) as temporary:
            with temporary.open("wb") as stream:
                written = self._write(stream, kept)
            self._file.close()
        return ImproveReport(
            bytes_before=before_bytes,
            bytes_after=written,
            psnr_before=before.psnr,
            psnr_after=after.psnr,
            improved=improved,
            segments=count,
            seconds=time.perf_counter() - self._started,
            interrupted=self._stop(),
        )

    def _read(self, source: Iterator[SourceFrame], count: int) -> Frames:
        """The next ``count`` frames."""
        frames = [frame.rgb for _, frame in zip(range(count), source, strict=False)]
        if len(frames) < count:
            raise UsageError(f"the source has fewer frames than {self._file.path}")
        return np.stack(frames)

    def _measure(self, segment: Segment, originals: Frames) -> _Measured:
        """The reference frames' digest and quality."""
        return _Measured(segment, *measure_segment(segment, self._file.header, originals))

    def _trained(self, segment: Segment, originals: Frames, number: int) -> _Measured | None:
        """The segment as it is after more training; None where it has become longer."""
        file, goal = self._file, Goal(bytes=len(encode_segment(segment)[0]))
        trainer = Trainer(
            originals,
            segment.model,
            self._schedule(segment, number),
            select_device(self._config.device),
            file.bit_depth,
            goal,
        )
        values = {tensor.spec.name: tensor.dequantize() for tensor in segment.tensors}
        trainer.go_on_from(values, trained_steps(segment))

        def report(training: TrainProgress) -> None:
            done = (segment.first_frame + len(originals) * training.step / training.steps) / len(
                file
            )
            place = (number + 1, len(file.reader.segments))
            self._progress(EncodeProgress("train", *place, done, training.eta, training))

        network = trainer.train(report, lambda: not self._stop())
        try:
            head = SegmentHead(segment.index, segment.first_frame, len(originals), segment.model)
            payload = segment_payload(network, head, file.header, goal)
        except TargetError:  # stopped before its steps were trained
            return None
        return self._measure(decode_segment(payload, file.header, Limits()), originals)

    def _schedule(self, segment: Segment, number: int) -> TrainConfig:
        """How a segment is trained, with its part of the time that is left if there is one."""
        train, file = self._config.train, self._file
        size = (file.width, file.height, segment.frames)
        values = value_count(segment.model, *size)
        pixels = segment.frames * file.width * file.height
        train = replace(
            train,
            rate_weight=fitting_rate_weight(values, pixels),
            learning_rate=train.learning_rate
            or IMPROVING_RATE * train.peak_rate(segment.model.stem_channels),
        )
        if self._config.time is None:
            return train
        frames = [info.frames for info in file.reader.segments[number:]]
        left = self._started + self._config.time.total_seconds() - time.perf_counter()
        left -= checking_seconds(segment.model, file.header) * (2 * sum(frames) - frames[0])
        return replace(train, seconds=max(1e-3, left * frames[0] / sum(frames)))

    def _write(self, stream: BinaryIO, kept: Sequence[_Measured]) -> int:
        reader = self._file.reader
        return write_stream(
            stream,
            reader.header,
            reader.pts,
            reader.last_duration,
            (part.segment for part in kept),
            [part.digest for part in kept],
            reader.meta,
            reader.audio(),
        )


def _is_better(new: _Measured, old: _Measured) -> bool:
    return new.statistics.psnr > old.statistics.psnr and new.length <= old.length


def trained_steps(segment: Segment) -> dict[str, npt.NDArray[np.float32]] | None:
    """The quantization steps of a segment whose rate was trained; None if it was only rounded."""
    steps = {}
    for tensor in segment.tensors:
        wanted = tensor.spec.shape[1] if tensor.spec.name in FRAME_TENSORS else 1
        if tensor.zero != CENTRE or tensor.scales.size != wanted:
            return None
        steps[tensor.spec.name] = scale_values(tensor.scales)
    return steps
