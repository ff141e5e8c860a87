"""A comparison from source to report; what it measures is in :mod:`.points`.

Each point goes into the results as soon as it is measured, and a later run with the same frames
goes on from there.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import torch

from nervcodec.clip import HfsvFile
from nervcodec.compare.config import (
    CompareCallback,
    CompareConfig,
    CompareProgress,
    CompareReport,
)
from nervcodec.compare.encoders import LABELS, Encoder, available
from nervcodec.compare.measures import left_out
from nervcodec.compare.points import OURS, Point, check_same, measure_anchor, measure_hfsv
from nervcodec.compare.reference import Reference, Selection, selection_of
from nervcodec.compare.report import byte_groups, write_report
from nervcodec.compare.results import load
from nervcodec.encoder import encode
from nervcodec.errors import OutputError, OutputExistsError, UsageError
from nervcodec.files import file_digest
from nervcodec.reports import EncodeCallback
from nervcodec.version import __version__

EXTRAS = ("bjontegaard", "matplotlib")

MATCHED = 0.02
"""How far the bytes of an anchor may be from ours before it is warned of."""


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
    reference = Reference(
        source,
        _selection(config),
        raw=config.raw,
        rate=config.input_rate,
        allow_damaged=config.allow_damaged,
    )
    work = _Comparison(reference, folder, config, progress or _ignore, encoding)
    return work.run(Path(source))


def _ignore(progress: CompareProgress) -> None:
    """The callback of callers that have none."""


def _check_extras() -> None:
    missing = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} not installed: pip install 'nervcodec[compare]'")


def _folder(output: Path) -> Path:
    if os.path.exists(output) and not output.is_dir():
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
            raw=self._config.raw,
            input_rate=self._config.input_rate,
            allow_damaged=self._config.allow_damaged,
            audio=False,
            subtitles=False,
            resume=True,
        )
        # Device and threads are left out, as from what a checkpoint is known by.
        wanted = f"nervcodec {__version__}: {replace(config, device='auto', threads=None)}"
        if path.exists() and self._results.made.get(path.name) == wanted:
            return None
        self._tell(f"encoding {path.name}", 0)
        report = encode(source, path, replace(config, overwrite=True), self._encoding)
        if report.interrupted:
            raise KeyboardInterrupt
        self._results.made[path.name] = wanted
        self._results.save(self._folder)
        return report.seconds

    def _curve_jobs(self, encoder: Encoder, preset: str) -> Iterator[_Job]:
        for crf in self._config.crfs or encoder.crfs:
            yield self._anchor_job(encoder, preset, crf)

    def _anchor_job(self, encoder: Encoder, preset: str, crf: float) -> _Job:
        measure = partial(
            measure_anchor,
            self._reference,
            encoder,
            preset,
            self._metrics,
            crf=crf,
            tune=self._config.tune,
        )
        return _Job(
            self._key(encoder.name, preset, f"tune={self._config.tune}", f"crf={crf:g}"),
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
            tune=self._config.tune,
        )
        return _Job(
            self._key(
                encoder.name,
                preset,
                f"tune={self._config.tune}",
                f"bytes={ours.bytes}",
                path.name,
            ),
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
