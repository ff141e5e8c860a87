"""A comparison from source to report; what it measures is in :mod:`.points`.

Each point goes into the results as soon as it is measured, and a later run with the same frames
goes on from there.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import av
import torch

from nervcodec.clip import HfsvFile
from nervcodec.compare.encoders import LABELS, PRESETS, Encoder, available
from nervcodec.compare.measures import METRICS, left_out
from nervcodec.compare.points import OURS, Point, check_same, measure_anchor, measure_hfsv
from nervcodec.compare.reference import Reference, Selection, selection_of
from nervcodec.compare.report import byte_groups, write_report
from nervcodec.compare.results import load
from nervcodec.config import EncodeConfig
from nervcodec.encoder import encode
from nervcodec.errors import OutputError, OutputExistsError, UsageError
from nervcodec.files import file_digest
from nervcodec.reports import EncodeCallback
from nervcodec.version import __version__

CODECS = ("x264", "x265")
DEFAULT_PRESETS = ("medium", "veryslow")
DEFAULT_METRICS = ("psnr", "ssim", "ms-ssim", "xpsnr")
EXTRAS = ("bjontegaard", "matplotlib")

MATCHED = 0.02
"""How far the bytes of an anchor may be from ours before it is warned of."""


@dataclass(frozen=True)
class CompareConfig:
    """What is compared.

    Attributes:
        codecs: of the labels in :data:`.encoders.LABELS`.
        presets: each for all codecs; of :data:`.encoders.PRESETS`.
        crfs: those of each curve; None for each encoder's own usual ones.
        hfsv: files to set beside them; the frames compared are those that they code.
        encode: settings of ``.hfsv`` files to make, one for each of ``params``; None for none.
        params: parameters of those files; None for the encoder's default.
        selection: the part of the source, where ``hfsv`` does not say.
        metrics: of :data:`.measures.METRICS`.
        allow_damaged: as in :class:`nervcodec.EncodeConfig`.
        overwrite: replace results of other frames.
        device: where networks are evaluated.
        threads: CPU threads of our own codec; None for all.
    """

    codecs: tuple[str, ...] = CODECS
    presets: tuple[str, ...] = DEFAULT_PRESETS
    crfs: tuple[float, ...] | None = None
    hfsv: tuple[Path, ...] = ()
    encode: EncodeConfig | None = None
    params: tuple[int | None, ...] = (None,)
    selection: Selection = field(default_factory=Selection)
    metrics: tuple[str, ...] = DEFAULT_METRICS
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


def compare(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: CompareConfig | None = None,
    progress: CompareCallback | None = None,
    encoding: EncodeCallback | None = None,
) -> CompareReport:
    """Measure conventional codecs and ``.hfsv`` files on the same frames; write a report.

    Args:
        output: a folder, which is made; it gets ``index.html``, ``results.json``,
            ``results.csv``, ``rd.svg`` and ``rd.png``, and the ``.hfsv`` files that are made.
        encoding: told how far such a file is.

    Raises:
        UsageError: where the files hold different frames, or a package that is needed is missing.
        HfsvError: what has been measured is in ``results.json`` then, and is not made again.
    """
    config = config or CompareConfig()
    _check_extras()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    folder = _folder(Path(output))
    reference = Reference(source, _selection(config), allow_damaged=config.allow_damaged)
    work = _Comparison(reference, folder, config, progress or _ignore, encoding)
    return work.run(Path(source))


def _ignore(progress: CompareProgress) -> None:
    """The callback of callers that have none."""


def _check_extras() -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: pip install 'nervcodec[compare]'")


def _folder(output: Path) -> Path:
    if output.exists() and not output.is_dir():
        raise OutputExistsError(f"{output}: is a file; the report is a folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{output}: cannot be made ({exc.strerror or exc})") from exc
    return output


def _selection(config: CompareConfig) -> Selection:
    """The frames to compare: those of the files, which must agree, or as they are asked for."""
    chosen: dict[Selection, Path] = {}
    for path in config.hfsv:
        with HfsvFile(path) as file:
            chosen.setdefault(selection_of(file), path)
    if len(chosen) > 1:
        one, other = list(chosen.values())[:2]
        raise UsageError(f"{one} and {other} do not code the same frames")
    return next(iter(chosen), config.selection)


@dataclass(frozen=True)
class _Job:
    """A point to measure: its key in the results, its name for a person, and how it is made."""

    key: str
    name: str
    measure: Callable[[Callable[[int], None]], Point]


class _Comparison:
    """One comparison under way."""

    def __init__(
        self,
        reference: Reference,
        folder: Path,
        config: CompareConfig,
        progress: CompareCallback,
        encoding: EncodeCallback | None,
    ) -> None:
        self._reference, self._folder, self._config = reference, folder, config
        self._progress, self._encoding = progress, encoding
        self._results = load(folder, reference.described, config.overwrite)
        reasons = left_out(config.metrics, reference.width, reference.height)
        self._metrics = tuple(name for name in config.metrics if name not in reasons)
        self._results.left_out = reasons
        self._encoders = tuple(self._usable())
        self._step = self._reused = 0

    def _usable(self) -> Iterator[Encoder]:
        """The encoders asked for that can code these frames; why not is noted for the others."""
        width, height = self._reference.width, self._reference.height
        for label in self._config.codecs:
            encoder = LABELS[label]
            if not available(encoder):
                reason = f"the PyAV at hand was built without {encoder.name}"
            elif min(width, height) < encoder.min_side:
                reason = f"needs frames of at least {encoder.min_side}x{encoder.min_side}"
            elif not encoder.odd_sizes and (width % 2 or height % 2):
                reason = "needs even sides"
            else:
                yield encoder
                continue
            self._results.left_out[label] = reason

    def run(self, source: Path) -> CompareReport:
        pairs = [(encoder, preset) for encoder in self._encoders for preset in self._config.presets]
        files = self._config.hfsv or self._planned()
        curve = [job for pair in pairs for job in self._curve_jobs(*pair)]
        self._steps = len(files) * (1 + len(pairs)) + len(curve)
        ours = [self._ours(source, number, path) for number, path in enumerate(files)]
        for point, path in zip(ours, files, strict=True):
            for encoder, preset in pairs:
                self._do(self._match_job(encoder, preset, point, path))
        for job in curve:
            self._do(job)
        results = self._results
        if not results.points:
            raise UsageError("nothing can be compared: no codec can code these frames")
        results.warnings = self._warnings(ours)
        results.layers = {path.name: byte_groups(path) for path in files}
        results.save(self._folder)
        self._tell("writing the report", 0)
        page = write_report(results, self._reference, files, self._folder, self._config.device)
        return CompareReport(page, self._step - self._reused, self._reused, tuple(results.warnings))

    def _planned(self) -> tuple[Path, ...]:
        """Where the files that are made will lie."""
        if self._config.encode is None:
            return ()
        names = ["default" if n is None else str(n) for n in self._config.params]
        return tuple(self._folder / f"params-{name}.hfsv" for name in names)

    def _ours(self, source: Path, number: int, path: Path) -> Point:
        """The point of a file, which is made first where that is asked for."""
        seconds = None
        if self._config.encode is not None:
            seconds = self._encode(source, path, self._config.params[number])
        with HfsvFile(path, device=self._config.device) as file:
            check_same(file, self._reference)
        key = self._key(OURS, file_digest(path))
        if seconds is None and key in self._results.kept:
            seconds = self._results.kept[key].encode_seconds
        measure = partial(
            measure_hfsv,
            self._reference,
            path,
            self._metrics,
            device=self._config.device,
            encode_seconds=seconds,
        )
        return self._do(_Job(key, path.name, lambda count: measure(progress=count)))

    def _encode(self, source: Path, path: Path, params: int | None) -> float | None:
        """Make a file unless it is there with these settings; the seconds that it took."""
        settings = self._config.encode
        assert settings is not None
        selection = self._reference.selection
        model = replace(settings.model, params=params)
        config = replace(
            settings,
            model=model,
            crop=selection.crop,
            size=selection.size,
            start=selection.start,
            end=selection.end,
            frames=selection.frames,
            bit_depth=8,
            audio=False,
            subtitles=False,
            resume=True,
        )
        made = self._folder / f"{path.name}.settings"
        wanted = repr((__version__, self._reference.digest, config.train, config.model, config))
        if path.exists() and made.exists() and made.read_text(encoding="utf-8") == wanted:
            return None
        self._tell(f"encoding {path.name}", 0)
        report = encode(source, path, replace(config, overwrite=True), self._encoding)
        if report.interrupted:
            raise KeyboardInterrupt
        made.write_text(wanted, encoding="utf-8")
        return report.seconds

    def _curve_jobs(self, encoder: Encoder, preset: str) -> Iterator[_Job]:
        for crf in self._config.crfs or encoder.crfs:
            yield self._anchor_job(encoder, preset, crf)

    def _anchor_job(self, encoder: Encoder, preset: str, crf: float) -> _Job:
        measure = partial(measure_anchor, self._reference, encoder, preset, self._metrics, crf=crf)
        return _Job(
            self._key(encoder.name, preset, f"crf={crf:g}"),
            f"{encoder.label} {preset} crf {crf:g}",
            lambda count: measure(progress=count),
        )

    def _match_job(self, encoder: Encoder, preset: str, ours: Point, path: Path) -> _Job:
        measure = partial(
            measure_anchor,
            self._reference,
            encoder,
            preset,
            self._metrics,
            target=(path.name, ours.bytes),
        )
        return _Job(
            self._key(encoder.name, preset, f"bytes={ours.bytes}", path.name),
            f"{encoder.label} {preset} at the bytes of {path.name}",
            lambda count: measure(progress=count),
        )

    def _key(self, *parts: str) -> str:
        """What a point is known by: its settings, the metrics, and what encodes and measures."""
        fixed = (",".join(self._metrics), f"PyAV {av.__version__}", f"nervcodec {__version__}")
        return " | ".join((*parts, *fixed))

    def _do(self, job: _Job) -> Point:
        """Measure a point, unless an earlier run did, and keep it."""
        results = self._results
        point = results.kept.pop(job.key, None)
        if point is not None:
            self._reused += 1
            results.points[job.key] = point
        else:
            self._tell(job.name, 0)
            point = job.measure(lambda count: self._tell(job.name, count))
            results.points[job.key] = point
            results.save(self._folder)
        self._step += 1
        return point

    def _tell(self, description: str, frame: int) -> None:
        self._progress(
            CompareProgress(self._step, self._steps, description, frame, self._reference.count)
        )

    def _warnings(self, ours: list[Point]) -> list[str]:
        """What a reader must know to trust the figures."""
        lines = [
            f"{point.setting} was not made of this very source file: the frames may differ"
            for point in ours
            if not point.details["same_source"]
        ]
        sizes = {point.setting: point.bytes for point in ours}
        for point in self._results.points.values():
            if point.matches is not None:
                off = point.bytes / sizes[point.matches] - 1
                if abs(off) > MATCHED:
                    lines.append(f"{point.name} misses the bytes of {point.matches} by {off:+.1%}")
        return lines
