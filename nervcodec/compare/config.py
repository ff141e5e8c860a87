"""What a comparison can be asked for, and what it tells its caller; :mod:`.comparison` makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from nervcodec.compare.encoders import LABELS, PRESETS, TUNES
from nervcodec.compare.measures import METRICS
from nervcodec.compare.reference import Selection
from nervcodec.config import EncodeConfig, RawFormat
from nervcodec.errors import UsageError

CODECS = ("x264", "x265")
DEFAULT_PRESETS = ("medium", "veryslow")
DEFAULT_METRICS = ("psnr", "ssim", "ms-ssim", "xpsnr")


@dataclass(frozen=True)
class CompareConfig:
    """What is compared.

    Attributes:
        codecs: of the labels in :data:`.encoders.LABELS`.
        presets: each for all codecs; of :data:`.encoders.PRESETS`.
        tune: one of :data:`.encoders.TUNES`, for all codecs; None for what is their own.
        crfs: those of each curve; None for each encoder's own usual ones.
        hfsv: files to set beside them; the frames compared are those that they code.
        encode: settings of ``.hfsv`` files to make, one for each of ``params``; None for none.
        params: parameters of those files; None for the encoder's default.
        selection: the part of the source, where ``hfsv`` does not say.
        metrics: of :data:`.measures.METRICS`.
        raw, input_rate: as in :class:`nervcodec.EncodeConfig`.
        allow_damaged: as in :class:`nervcodec.EncodeConfig`.
        overwrite: replace results of other frames.
        device: where networks are evaluated.
        threads: CPU threads of our own codec; None for all.
    """

    codecs: tuple[str, ...] = CODECS
    presets: tuple[str, ...] = DEFAULT_PRESETS
    tune: str | None = None
    crfs: tuple[float, ...] | None = None
    hfsv: tuple[Path, ...] = ()
    encode: EncodeConfig | None = None
    params: tuple[int | None, ...] = (None,)
    selection: Selection = field(default_factory=Selection)
    metrics: tuple[str, ...] = DEFAULT_METRICS
    raw: RawFormat | None = None
    input_rate: Fraction | None = None
    allow_damaged: bool = False
    overwrite: bool = False
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        known: Sequence[str]
        for names, known, what in (
            (self.codecs, tuple(LABELS), "codec"),
            (self.presets, PRESETS, "preset"),
            (self.metrics, METRICS, "metric"),
            ((self.tune,) if self.tune else (), TUNES, "tune"),
        ):
            if wrong := [name for name in names if name not in known]:
                raise UsageError(f"unknown {what} {wrong[0]!r}: choose from {', '.join(known)}")
        if not self.codecs or not self.presets:
            raise UsageError("at least one codec and one preset are needed to compare with")
        if self.hfsv and self.encode:
            raise UsageError("either .hfsv files are given or they are made, not both")
        if self.hfsv and self.selection != Selection():
            raise UsageError("the .hfsv files say which frames they code: no crop, size or part")
        if len({path.name for path in self.hfsv}) < len(self.hfsv):
            raise UsageError("two .hfsv files have the same name")


@dataclass(frozen=True)
class CompareProgress:
    """How far a comparison is.

    Attributes:
        step, steps: points done before this one, and all of them.
        description: what is at work.
        frame, frames: measured of it so far; 0 while it is being encoded.
    """

    step: int
    steps: int
    description: str
    frame: int
    frames: int


CompareCallback = Callable[[CompareProgress], None]


@dataclass(frozen=True)
class CompareReport:
    """What :func:`compare` did: the page, and how many points were measured now and earlier."""

    page: Path
    measured: int
    reused: int
    warnings: tuple[str, ...]
