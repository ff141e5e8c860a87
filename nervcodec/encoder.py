"""Encodes a video: frames, segments, networks, symbols, chunks, and a check by decoding.

The reverse is :mod:`nervcodec.decoder`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nervcodec.bitstream.segment import Segment, decode_segment, encode_segment
from nervcodec.bitstream.stream import MAX_AUDIO_BYTES, AudioData, StreamReader, write_stream
from nervcodec.bitstream.syntax import MAX_RATIONAL, ModelSpec, StreamHeader
from nervcodec.bitstream.tensors import Limits, check_limits, parameter_count, tensor_specs
from nervcodec.config import EncodeConfig
from nervcodec.errors import InputVideoError, TargetError, UnsupportedError
from nervcodec.files import atomic_output, check_output, file_digest
from nervcodec.inference import Frames, FramesDigest, SegmentRenderer, select_device
from nervcodec.metrics import FrameStatistics, bits_per_pixel
from nervcodec.rate_control import default_params, design_model
from nervcodec.reports import EncodeCallback, EncodeProgress, EncodeReport
from nervcodec.segments import SegmentPlan, plan_segments, share_params
from nervcodec.training.quantization import quantize
from nervcodec.training.trainer import Trainer, TrainProgress
from nervcodec.version import __version__
from nervcodec.video.passthrough import Passthrough, extract
from nervcodec.video.reader import VideoReader

HELD_BYTES = 2 << 30
"""Frames of a clip up to this size are kept from the first reading; others are read again."""

MAX_TITLE = 256

ESTIMATED_BYTES = 0.9
"""Bytes a parameter after entropy coding, as measured on trained networks."""


@dataclass(frozen=True)
class _Clip:
    """What the first reading of the source found out; ``frames`` is None for a long clip."""

    pts: list[int]
    frames: Frames | None


@dataclass(frozen=True)
class _Coded:
    """One finished segment and what its verification measured."""

    segment: Segment
    digest: bytes
    float_psnr: float
    train_seconds: float


def encode(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: EncodeConfig | None = None,
    progress: EncodeCallback | None = None,
) -> EncodeReport:
    """Encode a video file to ``output``.

    Raises:
        HfsvError: no output is left then, and an existing one stays as it was.
    """
    config = config or EncodeConfig()
    source_path, output_path = Path(source), Path(output)
    check_output(source_path, output_path, config.overwrite)
    device = select_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with (
        VideoReader(source, crop=config.crop, size=config.size, max_frames=config.frames) as reader,
        atomic_output(output_path) as temporary,
    ):
        return _Encode(source_path, temporary, config, progress or _ignore, device, reader).run()


def _ignore(progress: EncodeProgress) -> None:
    """The callback of callers that have none."""


class _Encode:
    """One encode under way."""

    def __init__(
        self,
        source: Path,
        output: Path,
        config: EncodeConfig,
        progress: EncodeCallback,
        device: torch.device,
        reader: VideoReader,
    ) -> None:
        self._source, self._output = source, output
        self._config, self._progress, self._device = config, progress, device
        self._reader = reader
        self._statistics = FrameStatistics()

    def run(self) -> EncodeReport:
        started = time.perf_counter()
        self._progress(EncodeProgress("read", 1, 1, 0.0, description="reading the source"))
        clip = self._scan()
        width, height, count = self._reader.out_width, self._reader.out_height, len(clip.pts)
        plan = plan_segments(count, width, height, self._config.keyint)
        models = self._design(plan)
        audio = self._audio(clip)
        self._announce(models, plan, audio)
        coded = []
        for index, frames in enumerate(self._segment_frames(clip, plan)):
            coded.append(self._code_segment(frames, models[index], index, plan))
        duration = _common_step(clip.pts, self._reader)
        self._write(self._header(plan, duration), clip.pts, coded, audio)
        return self._report(coded, plan, audio, time.perf_counter() - started)

    def _scan(self) -> _Clip:
        """Read the whole clip once: timestamps, and the frames unless they are too many."""
        pts: list[int] = []
        held: list[Frames] | None = []
        for frame in self._reader:
            pts.append(frame.pts)
            if held is not None:
                held.append(frame.rgb)
                if len(held) * frame.rgb.nbytes > HELD_BYTES:
                    held = None
        if not pts:
            raise InputVideoError(f"{self._source}: no frame could be decoded")
        return _Clip(pts, None if held is None else np.stack(held))

    def _segment_frames(self, clip: _Clip, plan: SegmentPlan) -> Iterator[Frames]:
        if clip.frames is not None:
            for first, count in plan.ranges():
                yield clip.frames[first : first + count]
            return
        frames = iter(self._reader)
        for _, count in plan.ranges():
            shape = (count, self._reader.out_height, self._reader.out_width, 3)
            segment = np.empty(shape, dtype=np.uint8)
            for index in range(count):
                segment[index] = next(frames).rgb
            yield segment

    def _design(self, plan: SegmentPlan) -> list[ModelSpec]:
        width, height = self._reader.out_width, self._reader.out_height
        config = self._config.model
        params = config.params or default_params(width, height, plan.frames)
        models = []
        for frames, share in zip(plan.lengths, share_params(params, plan), strict=True):
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
        lines = (*self._reader.info.warnings, *self._reader.warnings, *dropped)
        return tuple(dict.fromkeys(lines))

    def _code_segment(
        self, frames: Frames, model: ModelSpec, index: int, plan: SegmentPlan
    ) -> _Coded:
        """Train, quantize, code, decode again and measure one segment."""
        width, height = self._reader.out_width, self._reader.out_height
        before, total = sum(plan.lengths[:index]), plan.frames

        def report(training: TrainProgress) -> None:
            share = training.step / training.steps * len(frames)
            later = (total - before - len(frames)) / len(frames)
            eta = training.eta + later * training.steps * training.seconds_per_step
            self._progress(
                EncodeProgress(
                    "train", index + 1, len(plan.lengths), (before + share) / total, eta, training
                )
            )

        started = time.perf_counter()
        trained = Trainer(frames, model, self._config.train, self._device).train(report)
        seconds = time.perf_counter() - started
        specs = tensor_specs(model, width, height, len(frames))
        tensors = tuple(quantize(spec, trained.tensors[spec.name]) for spec in specs)
        segment = Segment(index, sum(plan.lengths[:index]), len(frames), model, tensors)
        return _Coded(segment, self._verify(segment, frames, plan), trained.psnr, seconds)

    def _verify(self, segment: Segment, frames: Frames, plan: SegmentPlan) -> bytes:
        """Decode what was coded, in float64, measure it, and return the frames' digest."""
        header = self._header(plan, 1)
        decoded = decode_segment(encode_segment(segment)[0], header, Limits())
        digest = FramesDigest()
        renderer = SegmentRenderer(decoded, header.width, header.height, reference=True)
        done = sum(plan.lengths[: segment.index + 1]) / plan.frames
        for number, frame in enumerate(renderer.frames(range(len(frames)))):
            text = f"verifying by decoding, frame {number + 1}/{len(frames)}"
            place = (segment.index + 1, len(plan.lengths))
            self._progress(EncodeProgress("verify", *place, done, description=text))
            digest.add(frame)
            self._statistics.add(frames[number], frame)
        return digest.digest()

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
        )

    def _audio(self, clip: _Clip) -> Passthrough | None:
        if not self._config.audio or not self._reader.info.has_audio:
            return None
        end = None
        if self._config.frames is not None:
            step = _common_step(clip.pts, self._reader)
            end = Fraction(clip.pts[-1] + step) * self._reader.info.time_base
        audio = extract(self._source, end=end)
        if audio is not None and len(audio.data) > MAX_AUDIO_BYTES:
            raise InputVideoError(
                f"{self._source}: its audio has {len(audio.data)} bytes, more than the "
                f"{MAX_AUDIO_BYTES} that a file may hold (-an leaves it out)"
            )
        return audio

    def _write(
        self, header: StreamHeader, pts: list[int], coded: list[_Coded], audio: Passthrough | None
    ) -> None:
        data = None if audio is None else AudioData(audio.container, audio.data)
        with self._output.open("wb") as stream:
            write_stream(
                stream,
                header,
                pts,
                header.frame_duration,
                [c.segment for c in coded],
                [c.digest for c in coded],
                self._meta(audio),
                data,
            )

    def _meta(self, audio: Passthrough | None) -> dict[str, Any]:
        """What the file says of its making; nothing of the machine or its paths."""
        train = self._config.train
        meta: dict[str, Any] = {
            "tool": f"nervcodec {__version__}",
            "source": file_digest(self._source),
            "epochs": train.epochs,
            "seed": train.seed,
        }
        if audio is not None:
            meta["audio"] = list(audio.streams)
        if self._config.crop is not None:
            meta["crop"] = list(self._config.crop)
        title = self._reader.info.metadata.get("title")
        if title:
            meta["title"] = title[:MAX_TITLE]
        return meta

    def _report(
        self, coded: list[_Coded], plan: SegmentPlan, audio: Passthrough | None, seconds: float
    ) -> EncodeReport:
        with self._output.open("rb") as stream:
            reader = StreamReader(stream, Limits())
            for index, part in enumerate(coded):
                assert reader.segment(index).symbols_crc() == part.segment.symbols_crc()
        header, lengths = reader.header, plan.lengths
        params = sum(
            parameter_count(c.segment.model, header.width, header.height, n)
            for c, n in zip(coded, lengths, strict=True)
        )
        float_psnr = sum(c.float_psnr * n for c, n in zip(coded, lengths, strict=True))
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
            float_psnr=float_psnr / plan.frames,
            train_seconds=sum(c.train_seconds for c in coded),
            seconds=seconds,
            audio_streams=audio.streams if audio else (),
            warnings=self._warnings(audio),
        )


def _common_step(pts: list[int], reader: VideoReader) -> int:
    """The most frequent step between frames, in ticks; one frame lasts as the rate says."""
    steps = Counter(after - before for before, after in pairwise(pts))
    if steps:
        step = min(steps, key=lambda value: (-steps[value], value))
    else:
        rate = reader.info.frame_rate or Fraction(25)
        step = round(1 / (rate * reader.info.time_base))
    return min(MAX_RATIONAL, max(1, step))
