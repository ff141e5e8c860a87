"""What a user can set for an encode, as frozen dataclasses; each value is checked when made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

from nervcodec.bitstream.syntax import HfscmSpec
from nervcodec.errors import UsageError
from nervcodec.samples import BIT_DEPTHS

PRESETS = {
    "ultrafast": 5,
    "superfast": 10,
    "veryfast": 20,
    "faster": 30,
    "fast": 45,
    "medium": 60,
    "slow": 150,
    "slower": 300,
    "veryslow": 600,
    "placebo": 1200,
}
"""Epochs of each preset; ``slower`` is the paper's schedule."""

DEFAULT_PRESET = "medium"

NERV, E_NERV, HNERV = "nerv", "e-nerv", "hnerv"
NETWORKS = (NERV, E_NERV, HNERV)
"""What makes the first map of a frame: its time, its time on a grid, or an embedding."""

SHUFFLE, BILINEAR = "shuffle", "bilinear"
UPSAMPLINGS = (SHUFFLE, BILINEAR)
"""How stages enlarge their maps."""

HFS_HNERV = "hfs-hnerv"
ARCHITECTURES = (HFS_HNERV, HNERV, E_NERV, NERV)
"""As users name them; HFS-HNeRV is HNeRV with HFSCM, MSFRP and the HFS loss."""

SOAP, ADAM = "soap", "adam"
OPTIMIZERS = {SOAP: (7e-3, 0.9, 0.95), ADAM: (4e-3, 0.9, 0.999)}
"""Peak learning rate and the two decays of each optimizer, where nothing else is said."""

RATE_TIMES_WIDTH = {SOAP: 0.33, ADAM: math.inf}
"""What the peak learning rate times the channels of a network's stem is at most: a step moves all
of a channel's inputs alike, so the wider, the further. With 30 channels 6.5e-3 to 1.4e-2 were as
good as each other; with 54 5e-3 was better than 7e-3, with 77 the latter threw networks off their
frames and 5e-3 was best, with 158 2.5e-3."""

COMPACT, AS_PUBLISHED = "compact", "hnerv"
ENCODERS = {COMPACT: (32, 2), AS_PUBLISHED: (64, 4)}
"""Channels of HNeRV's content encoder, and how many times as many its blocks have inside. The file
does not hold it: a smaller one leaves more time for the network that it does hold."""

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)
"""In what a network computes its frames while it is trained; weights are float32 in any case."""

DEFAULT_CRF = 30.0
MIN_CRF, MAX_CRF = 0.0, 60.0
REFERENCE_CRF = 28.0
REFERENCE_RATE_WEIGHT = 7e-3


def rate_weight(crf: float) -> float:
    """lambda of a constant rate factor: as in x264, six more are four times as much."""
    return REFERENCE_RATE_WEIGHT * 2 ** ((crf - REFERENCE_CRF) / 3)


PROCESSES, RAY = "processes", "ray"
EXECUTORS = (PROCESSES, RAY)
"""Where segments are trained side by side."""

MIN_PSNR, MAX_PSNR = 5.0, 80.0
"""Of a quality that can be asked for, in dB."""

MAX_RATE = 1_000_000
"""Frames a second, and the denominator of their fraction."""


def _require(condition: bool, option: str, value: object, what: str) -> None:
    if not condition:
        raise UsageError(f"{option} {value}: {what}")


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained (HNeRV section 4, paper section 4.1).

    Attributes:
        epochs: passes over the segment's frames.
        seconds: time for the training, which then takes as many steps as fit; None for ``epochs``.
        least_gain: dB a minute under which the training comes to its end before its time.
        batch: frames a step.
        optimizer: one of :data:`OPTIMIZERS`.
        learning_rate: its peak rate, None for :meth:`peak_rate`; linear warm-up from a tenth of
            it over ``warmup`` of all steps, then a cosine to 0.
        beta1, beta2: decay of its moments, None for the optimizer's own.
        rate_weight: lambda, what a bit a pixel is worth in the training loss (frames in 0..1);
            0 trains without quantization, and the finished network is rounded to 8 bits. None for
            what fits the number of parameters or the size asked for, else for
            :data:`DEFAULT_CRF`. Where the file has a size to keep to, it is only where the
            search begins.
        hfs_weight, hfs_gain, hfs_cutoff: beta, g and m of the HFS loss; no cutoff scales m
            with the frame; a weight of 0 is plain MSE.
        psnr_weights: weigh frames by their errors so that the mean of their PSNR is what grows,
            not the PSNR of their mean error.
        phi: initial weights of HFSCM's bands LL, HL, LH and HH.
        encoder: one of :data:`ENCODERS`.
        precision: one of :data:`PRECISIONS`.
        seed: of everything random.
    """

    epochs: int = PRESETS[DEFAULT_PRESET]
    seconds: float | None = None
    least_gain: float | None = None
    batch: int = 1
    optimizer: str = SOAP
    learning_rate: float | None = None
    warmup: float = 0.1
    beta1: float | None = None
    beta2: float | None = None
    rate_weight: float | None = None
    hfs_weight: float = 0.12
    hfs_gain: float = 3.0
    hfs_cutoff: int | None = None
    psnr_weights: bool = True
    phi: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    encoder: str = COMPACT
    precision: str = FLOAT32
    seed: int = 0

    def __post_init__(self) -> None:
        _require(1 <= self.epochs <= 1_000_000, "epochs", self.epochs, "not in 1..1000000")
        _require(
            self.seconds is None or 0 < self.seconds < math.inf,
            "time",
            self.seconds,
            "must be more than 0",
        )
        _require(
            self.least_gain is None or 0 < self.least_gain < math.inf,
            "stop-below",
            self.least_gain,
            "must be more than 0",
        )
        _require(1 <= self.batch <= 1024, "batch", self.batch, "not in 1..1024")
        _require(
            self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"not one of {OPTIMIZERS}"
        )
        rate = self.learning_rate
        _require(rate is None or 0 < rate <= 1, "lr", rate, "not in (0, 1]")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "not in [0, 1)")
        _require(0 <= self.betas[0] < 1, "beta1", self.beta1, "not in [0, 1)")
        _require(0 <= self.betas[1] < 1, "beta2", self.beta2, "not in [0, 1)")
        _require(0 <= (self.rate_weight or 0) <= 1000, "lambda", self.rate_weight, "not in 0..1000")
        _require(0 <= self.hfs_weight <= 1000, "hfs-weight", self.hfs_weight, "not in 0..1000")
        _require(0 <= self.hfs_gain <= 1000, "hfs-gain", self.hfs_gain, "not in 0..1000")
        _require(
            self.hfs_cutoff is None or self.hfs_cutoff >= 1,
            "hfs-cutoff",
            self.hfs_cutoff,
            "must be 1 or more",
        )
        _require(all(abs(value) <= 1000 for value in self.phi), "phi", self.phi, "beyond 1000")
        _require(self.encoder in ENCODERS, "encoder", self.encoder, f"not one of {[*ENCODERS]}")
        _require(
            self.precision in PRECISIONS, "precision", self.precision, f"not one of {PRECISIONS}"
        )
        _require(0 <= self.seed < 1 << 63, "seed", self.seed, "not in 0..2^63-1")

    def peak_rate(self, width: int) -> float:
        """The peak learning rate of a network whose stem has ``width`` channels."""
        if self.learning_rate is not None:
            return self.learning_rate
        return min(OPTIMIZERS[self.optimizer][0], RATE_TIMES_WIDTH[self.optimizer] / width)

    @property
    def betas(self) -> tuple[float, float]:
        """Decays of the optimizer's moments."""
        _, beta1, beta2 = OPTIMIZERS[self.optimizer]
        return (
            beta1 if self.beta1 is None else self.beta1,
            beta2 if self.beta2 is None else self.beta2,
        )


@dataclass(frozen=True)
class ModelConfig:
    """Which network is made; its widths follow from the number of parameters.

    Attributes:
        params: decoder parameters plus embedding values of the whole clip; None for what
            :mod:`nervcodec.rate_control` finds fit.
        network: one of :data:`NETWORKS`.
        hfscm, msfrp: the paper's parts, for each of the networks.
        hfscm_spec: shape of the attention blocks; the paper's kernel is 7.
        hfscm_stages: numbers of the stages that carry HFSCM, negative ones from the last; None
            for those where it does not cost more than it brings: not the last, nor others of
            large maps.
        upsampling: one of :data:`UPSAMPLINGS`; None for bilinear resizing after the first stage
            where HNeRV has HFSCM, whose convolutions follow it, else PixelShuffle as in the paper.
        msfrp_after: add what is reused to the frame, not to what its tanh is taken of.
        largest_kernel: of HNeRV's stages, odd: theirs are 1, 3, 5 and so on up to it. The authors
            have 5.
        taper: how many times the channels of a stage those of the stage before are, at least 1;
            None for HNeRV's 1.2, and more where large frames are resized bilinearly.
        embedding_values: embedding values wanted a frame.
        detail_channels: of HNeRV's second embedding, which ``params`` do not count; None for 1 or
            2 by the frame's size where the rate is trained, else none.
    """

    params: int | None = None
    network: str = HNERV
    hfscm: bool = True
    msfrp: bool = True
    hfscm_spec: HfscmSpec = field(default_factory=lambda: HfscmSpec(kernel=3))
    hfscm_stages: tuple[int, ...] | None = None
    upsampling: str | None = None
    msfrp_after: bool = False
    largest_kernel: int = 3
    taper: float | None = None
    embedding_values: int = 128
    detail_channels: int | None = None

    def __post_init__(self) -> None:
        if self.params is not None:
            _require(1 <= self.params <= 1 << 27, "params", self.params, f"not in 1..{1 << 27}")
        upsampling = self.upsampling
        known = upsampling is None or upsampling in UPSAMPLINGS
        _require(known, "upsampling", str(upsampling), f"not one of {UPSAMPLINGS}")
        possible = upsampling != BILINEAR or self.network != E_NERV
        _require(possible, "upsampling", str(upsampling), "is not for E-NeRV")
        kernel = self.largest_kernel
        _require(kernel % 2 == 1 and 1 <= kernel <= 15, "stage-kernel", kernel, "not odd in 1..15")
        taper = self.taper
        _require(taper is None or 1 <= taper <= 4, "taper", taper, "not in 1..4")
        _require(self.network in NETWORKS, "network", self.network, f"not one of {NETWORKS}")
        _require(
            1 <= self.embedding_values <= 65536,
            "embedding values",
            self.embedding_values,
            "not in 1..65536",
        )
        detail = self.detail_channels or 0
        _require(0 <= detail <= 64, "detail", detail, "not in 0..64")
        _require(not detail or self.network == HNERV, "detail", detail, "is for HNeRV alone")

    @property
    def bilinear(self) -> bool:
        """Whether stages after the first resize their maps bilinearly."""
        if self.upsampling is None:
            return self.hfscm and self.network == HNERV
        return self.upsampling == BILINEAR


@dataclass(frozen=True)
class RawFormat:
    """How raw video, samples without any header, is laid out.

    Attributes:
        width, height: of the frames in pixels.
        pixel_format: FFmpeg's name, such as ``yuv420p`` or ``rgb24``.
    """

    width: int
    height: int
    pixel_format: str = "yuv420p"

    def __post_init__(self) -> None:
        for side in (self.width, self.height):
            _require(side >= 1, "input-res", side, "must be 1 or more")

    @property
    def layout(self) -> tuple[int, int, str]:
        """Width, height and pixel format."""
        return self.width, self.height, self.pixel_format


@dataclass(frozen=True)
class SizeTarget:
    """How long the file may be, in one of three units.

    Attributes:
        bytes: of the whole file, what is passed through included.
        bit_rate: bits a second of the coded frames, without what is passed through.
        bits_per_pixel: likewise.
    """

    bytes: int | None = None
    bit_rate: float | None = None
    bits_per_pixel: float | None = None

    def __post_init__(self) -> None:
        values = (self.bytes, self.bit_rate, self.bits_per_pixel)
        given = [value for value in values if value is not None]
        _require(len(given) == 1, "size target", values, "one of the three is needed")
        _require(0 < given[0] < math.inf, "size target", given[0], "must be more than 0")

    def own_bytes(self, passed_through: int, seconds: Fraction, pixels: int) -> int:
        """Bytes of the file but for ``passed_through``; ``pixels`` are those of all frames."""
        if self.bytes is not None:
            return self.bytes - passed_through
        bits = self.bit_rate * float(seconds) if self.bit_rate else self.bits_per_pixel
        assert bits is not None
        return int((bits if self.bit_rate else bits * pixels) / 8)


@dataclass(frozen=True)
class EncodeConfig:
    """Everything that :func:`nervcodec.encode` can be told.

    Attributes:
        raw: the layout of a source that is raw video; None for files that tell themselves.
        input_rate: frames a second of raw video or of a folder of pictures; None for 25.
        crop: (width, height) cut from the middle of the picture, before scaling.
        size: (width, height) of the coded frames; downscaling is by area. A source whose picture
            changes its size needs it.
        start, end: code only the frames from and before these times since the source's first
            frame, None for all. With a ``start`` the first frame coded is at time 0.
        frames: code only so many of them.
        bit_depth: bits a sample of the coded frames, 8, 10 or 12; None for the fewest that hold the
            source's, at most 12.
        keyint: the longest segment, in frames or as a duration; None for one segment where
            memory allows.
        scene_cut: how different, in percent, two frames must be to begin a new segment, as
            FFmpeg's scdet measures it (10 is its default); None for no such cuts.
        size_target: what the file's length must not exceed, see :class:`SizeTarget`; None for
            whatever comes of ``train.rate_weight``.
        min_psnr: what the mean RGB PSNR of each segment's frames is to reach at least, in dB, in
            as few bytes as possible; None likewise.
        time: how long the encode may take, whose training then has as many steps as fit;
            None for ``train.epochs``.
        audio, subtitles: pass the source's streams of these kinds through.
        allow_damaged: of a damaged source code the frames that decode.
        device: ``auto``, ``cpu`` or a torch device such as ``cuda:1``.
        threads: CPU threads of each segment's training, on which the sums of floats depend and so
            the file; None for all of this machine, divided among the workers.
        workers: segments that are trained side by side; None for one, on a Ray cluster for as
            many as it has room for.
        executor: ``processes`` of this machine, ``ray`` or ``ray:ADDRESS``; None for processes
            where there are several workers, else this process.
        gpu_share: GPUs that a worker gets of a Ray cluster that has any.
        overwrite: replace an existing output.
        resume: go on from the checkpoint beside the output, if there is one.
        checkpoint_seconds: how often the checkpoint is written; 0 for never.
        preview: a folder for pictures of the training while it runs; None for none.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    raw: RawFormat | None = None
    input_rate: Fraction | None = None
    crop: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    start: timedelta | None = None
    end: timedelta | None = None
    frames: int | None = None
    bit_depth: int | None = None
    keyint: int | timedelta | None = None
    scene_cut: float | None = None
    size_target: SizeTarget | None = None
    min_psnr: float | None = None
    time: timedelta | None = None
    audio: bool = True
    subtitles: bool = True
    allow_damaged: bool = False
    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    executor: str | None = None
    gpu_share: float = 1.0
    overwrite: bool = False
    resume: bool = False
    checkpoint_seconds: float = 60.0
    preview: Path | None = None

    def __post_init__(self) -> None:
        _require(
            0 <= self.checkpoint_seconds < math.inf,
            "checkpoint-every",
            self.checkpoint_seconds,
            "must be 0 or more",
        )
        _require(
            self.time is None or self.time > timedelta(), "time", self.time, "must be more than 0"
        )
        if self.min_psnr is not None:
            in_range = MIN_PSNR <= self.min_psnr <= MAX_PSNR
            _require(in_range, "min-psnr", self.min_psnr, f"not in {MIN_PSNR:g}..{MAX_PSNR:g} dB")
            _require(self.size_target is None, "min-psnr", self.min_psnr, "excludes a size")
            trained = self.train.rate_weight != 0
            _require(trained, "min-psnr", self.min_psnr, "needs a training with quantization")
        rate = self.input_rate
        _require(
            rate is None or (0 < rate <= MAX_RATE and rate.denominator <= MAX_RATE),
            "input-rate",
            rate,
            f"not in 0..{MAX_RATE}, or too fine a fraction",
        )
        keyint = self.keyint
        length = keyint.total_seconds() if isinstance(keyint, timedelta) else keyint
        _require(length is None or length > 0, "keyint", keyint, "must be more than 0")
        _require(
            self.scene_cut is None or 0 < self.scene_cut <= 100,
            "scene-cut",
            self.scene_cut,
            "not in (0, 100]",
        )
        executor = self.executor
        _require(
            executor in (None, *EXECUTORS) or executor.startswith(f"{RAY}:"),
            "executor",
            executor,
            f"not one of {', '.join(EXECUTORS)} or {RAY}:ADDRESS",
        )
        _require(0 < self.gpu_share <= 64, "gpu-share", self.gpu_share, "not in (0, 64]")
        _require(
            self.bit_depth in (None, *BIT_DEPTHS),
            "bit-depth",
            self.bit_depth,
            f"not one of {BIT_DEPTHS}",
        )
        start = self.start or timedelta()
        _require(start >= timedelta(), "start", start, "must be 0 or more")
        _require(self.end is None or self.end > start, "end", self.end, f"must be after {start}")
        for name, value in (
            ("frames", self.frames),
            ("threads", self.threads),
            ("workers", self.workers),
        ):
            _require(value is None or value >= 1, name, value, "must be 1 or more")


def parse_count(text: str) -> int:
    """A count such as ``60k``, ``1.5M`` or ``250000``.

    Raises:
        UsageError: if it is no positive finite number.
    """
    factors = {"k": 1e3, "m": 1e6, "g": 1e9}
    stripped = text.strip().lower()
    factor = factors.get(stripped[-1:], 1.0)
    try:
        value = float(stripped[:-1] if factor != 1.0 else stripped) * factor
    except ValueError:
        raise UsageError(f"{text!r} is not a number such as 60k or 1.5M") from None
    if not math.isfinite(value) or value < 1:
        raise UsageError(f"{text!r} is not a positive number such as 60k or 1.5M")
    return round(value)


def parse_rate(text: str) -> Fraction:
    """Frames a second such as ``25``, ``29.97`` or ``30000/1001``.

    Raises:
        UsageError: if it is none.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{text!r} is not a frame rate such as 25 or 30000/1001") from None


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from ``WIDTHxHEIGHT``.

    Raises:
        UsageError: if it is not of that form.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"{text!r} is not a size such as 640x360")
    return int(width), int(height)
