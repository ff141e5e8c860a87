"""Encodes a video: frames, segments, networks, symbols, chunks, and a check by decoding.

The reverse is :mod:`nervcodec.decoder`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nervcodec.assembly import passed_through, write_file
from nervcodec.bitstream.stream import StreamReader
from nervcodec.bitstream.syntax import FORMAT_MAJOR, FORMAT_MINOR
from nervcodec.bitstream.tensors import Limits, parameter_count
from nervcodec.coder import CodedSegment, SegmentCoder, Stop
from nervcodec.config import EncodeConfig
from nervcodec.errors import InterruptedEncode
from nervcodec.executors import threads_of
from nervcodec.files import atomic_output, check_name, check_output, file_digest
from nervcodec.inference import select_device
from nervcodec.metrics import FrameStatistics, bits_per_pixel
from nervcodec.planning import EncodePlan, lost_parts, open_source, plan_encode, source_digest
from nervcodec.reports import EncodeCallback, EncodeProgress, EncodeReport, remark
from nervcodec.segments import SegmentPlan
from nervcodec.training.checkpoint import CheckpointKeeper, checkpoint_key, checkpoint_path
from nervcodec.version import __version__
from nervcodec.video.inputs import Source
from nervcodec.video.reader import VideoReader


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
            lambda text: progress(remark("resume", "", text)),
        )

    def run(self, stop: Stop) -> EncodeReport:
        started = time.perf_counter()
        self._open_checkpoint()
        reader, config, digest = self._reader, self._config, self._source_digest
        deadline = None
        if config.time is not None:
            deadline = started + config.time.total_seconds() - self._keeper.all_seconds
        self._progress(remark("read", "reading the source"))
        made = plan_encode(self._source, reader, config, digest, lambda: _check(stop))
        self._announce(made)
        coder = SegmentCoder(
            reader, config, made, self._keeper, self._device, self._progress, deadline
        )
        coded = coder.code(stop)
        plan, audio = made.segments, made.audio
        cut = len(coded) < len(plan.lengths)
        interrupted = cut or any(part.digest is None for part in coded)
        if cut:
            plan = SegmentPlan(plan.lengths[: len(coded)])
            audio = passed_through(self._source, reader, config, made.clip, plan.frames)
        lost = lost_parts(reader, made.clip, audio)
        with atomic_output(self._output) as temporary:
            digests = [part.digest for part in coded if part.digest is not None]
            with temporary.open("wb") as stream:
                write_file(
                    stream,
                    reader,
                    config,
                    made.clip,
                    plan,
                    coder.segments(coded),
                    digests if len(digests) == len(coded) else None,
                    audio,
                    source_digest=digest,
                    epochs=coder.epochs,
                )
            if interrupted:
                self._keeper.interrupted(file_digest(temporary))
            else:
                lost += self._missed(coder)
            report = EncodeReport(
                **_measures(temporary, coded, plan, coder.statistics),
                seconds=time.perf_counter() - started,
                audio_streams=audio.streams if audio else (),
                warnings=lost,
                interrupted=interrupted,
            )
        if not interrupted:
            self._keeper.remove()
        return report

    def _open_checkpoint(self) -> None:
        """Take over an earlier run's checkpoint, or say that it will be lost."""
        path = self._keeper.path
        if not (self._config.resume or self._config.checkpoint_seconds > 0):
            return
        check_name(path)
        if self._config.resume:
            if self._keeper.resume():
                self._progress(remark("resume", f"going on from {path}"))
            else:
                text = f"no checkpoint at {path}: starting from the beginning"
                self._progress(remark("resume", text))
            if not self._keeper.wrote(self._output):
                check_output(self._source.path, self._output, self._config.overwrite)
        elif path.exists():
            text = f"{path} of an earlier encode will be replaced; --resume would go on from it"
            self._progress(remark("resume", "", text))

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

    def _missed(self, coder: SegmentCoder) -> tuple[str, ...]:
        """Warnings of a quality that was not reached, and of a time that was far too short."""
        found = []
        wanted, reached = self._config.min_psnr, coder.statistics.psnr
        if wanted is not None and reached < wanted:
            text = f"{reached:.2f} dB are less than the {wanted:g} dB asked for; more parameters"
            found.append(f"{text} (--params) or a longer training (--preset) come nearer")
        if self._config.time is not None and coder.epochs == 0:
            text = "the time ended before all frames were seen in the training; more of it (--time)"
            found.append(
                f"{text}, fewer frames (-t) or smaller ones (--size) come nearer to a picture"
            )
        for warning in found:
            self._progress(remark("verify", "", warning))
        return tuple(found)


def _measures(
    path: Path, coded: Sequence[CodedSegment], plan: SegmentPlan, statistics: FrameStatistics
) -> dict[str, Any]:
    """What is known of the file at ``path``, by the names that the report has for it."""
    with path.open("rb") as stream:
        reader = StreamReader(stream, Limits())
        for index, part in enumerate(coded):
            assert reader.segment(index).symbols_crc() == part.symbols_crc
    header, lengths = reader.header, plan.lengths
    floats = [part.trained.float_psnr for part in coded]
    known = [psnr for psnr in floats if psnr is not None]
    own_bytes = reader.file_bytes - reader.audio_bytes
    return {
        "file_bytes": reader.file_bytes,
        "audio_bytes": reader.audio_bytes,
        "width": header.width,
        "height": header.height,
        "frames": header.frames,
        "bits_per_pixel": bits_per_pixel(own_bytes, header.width, header.height, header.frames),
        "params": sum(
            parameter_count(part.model, header.width, header.height, frames)
            for part, frames in zip(coded, lengths, strict=True)
        ),
        "psnr": statistics.psnr,
        "ms_ssim": statistics.ms_ssim,
        "measured_frames": statistics.frames,
        "float_psnr": float(np.average(known, weights=lengths)) if known == floats else None,
        "train_seconds": sum(part.trained.seconds for part in coded),
    }


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
