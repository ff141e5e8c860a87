"""What an encode will make, before anything is trained: segments, networks, their budgets.

:mod:`nervcodec.encoder` carries it out, :mod:`nervcodec.estimator` tells what that would take.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from nervcodec.assembly import passed_through, write_file
from nervcodec.bitstream.stream import HASH_BYTES
from nervcodec.bitstream.syntax import ModelSpec
from nervcodec.bitstream.tensors import parameter_count
from nervcodec.config import DEFAULT_CRF, HNERV, EncodeConfig, TrainConfig, rate_weight
from nervcodec.effort import teachable_params
from nervcodec.errors import InputVideoError, TargetError
from nervcodec.files import file_digest
from nervcodec.rate_control import (
    bits_per_param,
    default_detail,
    default_params,
    design_networks,
    fitting_rate_weight,
    least_params,
    params_of_size,
)
from nervcodec.samples import sample_type
from nervcodec.scan import ScannedClip, end_of, plan_clip, scan
from nervcodec.segments import SegmentPlan
from nervcodec.training.goal import Goal
from nervcodec.video.difficulty import bits_per_pixel_at
from nervcodec.video.inputs import Source, find_source
from nervcodec.video.passthrough import Passthrough
from nervcodec.video.reader import VideoReader

AUDIO_FRAME, SEGMENT_FRAME = 40, 12
"""Bytes that chunks take beside their payloads, and END's own growth; at most."""


SAMPLE_BYTES = 128 << 20
LEAST_SAMPLE = 8
"""Frames, as many as take so many bytes, by which a quality's size is guessed."""

EQUAL_RATIO, EQUAL_STEPS, LEARNING = 1.1, 7500, 0.45
"""Of that size to x264's: three clips need 0.9 to 1.5 times its bytes after so many steps, and 1.8
to 2 times after a quarter to a sixth of them; 5 % less of the bytes that it takes without its
macroblock tree, as the guess has it."""


@dataclass(frozen=True)
class EncodePlan:
    """What will be made.

    Attributes:
        clip: times and what else was found of the frames.
        segments: their lengths.
        audio: what is passed through; None for nothing.
        models: a network for each segment.
        train: the schedule, its lambda chosen.
        goals: what each segment is to keep to.
        params: decoder parameters and embedding values of all networks.
        estimated_bytes: of the file without what is passed through.
        warnings: what the file does not keep of the source.
    """

    clip: ScannedClip
    segments: SegmentPlan
    audio: Passthrough | None
    models: tuple[ModelSpec, ...]
    train: TrainConfig
    goals: tuple[Goal, ...]
    params: int
    width: int
    height: int
    warnings: tuple[str, ...]

    @property
    def estimated_bytes(self) -> int:
        budgets = [goal.bytes for goal in self.goals if goal.bytes is not None]
        if budgets:
            return sum(budgets)
        return round(self.params * bits_per_param(self.train.rate_weight != 0) / 8)

    @property
    def description(self) -> str:
        """In words."""
        text = f"{self.segments.frames} frames {self.width}x{self.height}"
        text += f", {self.params:,} parameters"
        return text if len(self.models) == 1 else f"{text} in {len(self.models)} segments"


def open_source(
    source: str | os.PathLike[str], config: EncodeConfig, check: Callable[[], None]
) -> tuple[Source, VideoReader]:
    """What is encoded, and a reader of its frames as they are coded.

    Args:
        check: called often while frames are skipped.

    Raises:
        InputVideoError, UsageError
    """
    layout = None if config.raw is None else config.raw.layout
    found = find_source(source, raw=layout, rate=config.input_rate)
    return found, VideoReader(
        found,
        crop=config.crop,
        size=config.size,
        max_frames=config.frames,
        bit_depth=config.bit_depth,
        start=config.start,
        end=config.end,
        allow_damaged=config.allow_damaged,
        on_skip=check,
    )


def source_digest(source: Source) -> str:
    """By which META and a checkpoint know the source again."""
    try:
        return file_digest(*source.files)
    except OSError as exc:
        raise InputVideoError(f"{source}: cannot be read ({exc.strerror or exc})") from exc


def plan_encode(
    source: Source,
    reader: VideoReader,
    config: EncodeConfig,
    digest: str,
    check: Callable[[], None],
) -> EncodePlan:
    """Read the clip once and decide what is made of it.

    Args:
        digest: of the source, for META.
        check: called often; it may raise to end the work.

    Raises:
        HfsvError: of the source, or where there is no room for a network.
    """
    clip = scan(reader, config, check)
    segments = plan_clip(clip, reader, config)
    audio = passed_through(source, reader, config, clip)
    budget = _budget(reader, config, clip, segments, audio, digest)
    size = (reader.out_width, reader.out_height)
    pixels = segments.frames * size[0] * size[1]
    guess = budget
    if config.min_psnr is not None and config.model.params is None:
        guess = _bytes_for_quality(reader, config, segments, check)
    model = config.model
    rated = config.train.rate_weight != 0
    if model.detail_channels is None and rated and model.network == HNERV:
        model = replace(model, detail_channels=default_detail(*size))
    least = sum(least_params(model, *size, frames) for frames in segments.lengths)
    most = teachable_params(config, model, segments, *size)
    train, params = _rate(config, guess, pixels, least, most)
    difficulties = [clip.variance.over(*run) for run in segments.ranges()]
    models = design_networks(model, params, segments, difficulties, *size)
    pairs = zip(models, segments.lengths, strict=True)
    counts = [parameter_count(spec, *size, frames) for spec, frames in pairs]
    return EncodePlan(
        clip=clip,
        segments=segments,
        audio=audio,
        models=tuple(models),
        train=train,
        goals=tuple(_goals(config, budget, counts)),
        params=sum(counts),
        width=size[0],
        height=size[1],
        warnings=lost_parts(reader, clip, audio),
    )


def lost_parts(
    reader: VideoReader, clip: ScannedClip, audio: Passthrough | None
) -> tuple[str, ...]:
    """What the file does not keep of the source; known before the training."""
    dropped = (f"not kept: {text}" for text in (audio.dropped if audio else ()))
    return tuple(dict.fromkeys((*reader.info.warnings, *clip.warnings, *dropped)))


def _goals(config: EncodeConfig, budget: int | None, counts: Sequence[int]) -> Iterator[Goal]:
    """Of the segments, which have so many parameters: each its share of the bytes."""
    for count in counts:
        share = None if budget is None else budget * count // sum(counts)
        yield Goal(share, config.min_psnr)


def _bytes_for_quality(
    reader: VideoReader, config: EncodeConfig, segments: SegmentPlan, check: Callable[[], None]
) -> int | None:
    """What a quality will take about, by what x264 takes for it in the middle of the clip."""
    pixels = reader.out_width * reader.out_height
    sample = SAMPLE_BYTES // (pixels * 3 * sample_type(reader.bit_depth).itemsize)
    count = min(segments.frames, max(LEAST_SAMPLE, sample))
    first = (segments.frames - count) // 2
    run = []
    for number, frame in enumerate(islice(reader, first + count)):
        check()
        if number >= first:
            run.append(frame.rgb)
    assert config.min_psnr is not None
    bits = bits_per_pixel_at(run, config.min_psnr, reader.bit_depth)
    if bits is None:
        return None
    steps = config.train.epochs * segments.frames / len(segments.lengths)
    ratio: float = EQUAL_RATIO * (EQUAL_STEPS / steps) ** LEARNING
    return round(min(4.0, max(0.8, ratio)) * bits * pixels * segments.frames / 8)


def _rate(
    config: EncodeConfig, size: int | None, pixels: int, least: int, most: int | None
) -> tuple[TrainConfig, int]:
    """The schedule with its lambda, and the number of parameters: each fits the other.

    Args:
        size: what the networks will take, where that is known.
        least: parameters of the narrowest networks.
        most: those that the training can teach, where that is known.
    """
    weight, params = config.train.rate_weight, config.model.params
    if params is None and size is not None:
        params = params_of_size(size, weight != 0)
    if weight is None:
        weight = fitting_rate_weight(params, pixels) if params else rate_weight(DEFAULT_CRF)
    if params is None:
        params = max(least, default_params(pixels, weight, most))
    return replace(config.train, rate_weight=weight), params


def _budget(
    reader: VideoReader,
    config: EncodeConfig,
    clip: ScannedClip,
    segments: SegmentPlan,
    audio: Passthrough | None,
    digest: str,
) -> int | None:
    """Bytes for the SEGM payloads together, where the file has a size to keep to.

    Raises:
        TargetError: if the rest of the file alone takes them.
    """
    target = config.size_target
    if target is None:
        return None
    passed = 0 if audio is None else len(audio.data) + AUDIO_FRAME
    pixels = segments.frames * reader.out_width * reader.out_height
    seconds = end_of(clip.pts, reader) - clip.pts[0] * reader.info.time_base
    whole = target.own_bytes(passed, seconds, pixels)
    rest = SEGMENT_FRAME * len(segments.lengths) + write_file(
        io.BytesIO(),
        reader,
        config,
        clip,
        segments,
        (),
        [bytes(HASH_BYTES)] * len(segments.lengths),
        audio and replace(audio, data=b""),
        source_digest=digest,
        epochs=config.train.epochs,
    )
    if whole <= rest:
        raise TargetError(
            f"a file of {whole + passed} bytes has no room for a network: {rest + passed} "
            "bytes are taken by the rest"
        )
    return whole - rest
