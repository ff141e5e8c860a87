"""The results of a comparison as a file that a later run goes on from.

:mod:`.comparison` fills it, :mod:`.report` shows it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av

from nervcodec.compare.bd_rate import METHODS, bd_psnr, bd_rate
from nervcodec.compare.encoders import bundled_versions
from nervcodec.compare.points import OURS, Point
from nervcodec.errors import HfsvError, OutputExistsError
from nervcodec.files import atomic_output
from nervcodec.version import __version__

RESULTS = "results.json"
VERSION = 1
"""Of the file's form."""

COLUMNS = (
    *("codec", "preset", "tune", "setting", "bytes", "bpp", "kbps"),
    *("psnr", "psnr_611", "psnr_y", "psnr_cb", "psnr_cr", "ms_ssim", "ssim", "xpsnr", "vmaf"),
    *("encode_seconds", "decode_seconds", "matches"),
)
"""Of ``results.csv``."""


@dataclass
class Results:
    """Everything that a report shows.

    Attributes:
        reference: what :attr:`.reference.Reference.described` says of the frames.
        points: by the key of their settings.
        kept: points of earlier runs that are not part of this one, for a later one.
        made: the settings of the ``.hfsv`` files that were made on the way, by their names.
        left_out: why codecs and metrics that were asked for are missing, by name.
        layers: of each ``.hfsv`` by its name, [part, bytes] of all that its bytes went to.
        warnings: what a reader must know to trust the figures.
    """

    reference: dict[str, Any]
    points: dict[str, Point] = field(default_factory=dict)
    kept: dict[str, Point] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    layers: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        return int(self.reference["width"] * self.reference["height"] * self.reference["frames"])

    @property
    def seconds(self) -> float:
        numerator, _, denominator = str(self.reference["frame_rate"]).partition("/")
        return float(self.reference["frames"] / (int(numerator) / int(denominator or 1)))

    def curves(self) -> dict[str, list[Point]]:
        """The points by curve, each by its bytes, those at a size of ours among them."""
        found: dict[str, list[Point]] = {}
        for point in self.points.values():
            found.setdefault(point.curve, []).append(point)
        return {name: sorted(points, key=lambda p: p.bytes) for name, points in found.items()}

    def ours(self) -> list[Point]:
        """The points of ``.hfsv`` files by their bytes."""
        return sorted((p for p in self.points.values() if p.codec == OURS), key=lambda p: p.bytes)

    def bd_table(self) -> list[dict[str, Any]]:
        """Bjøntegaard deltas of every curve from that of each conventional codec's preset.

        A row for each pair and metric: ours from all anchors, and the anchors from the first one.
        Points at a size of ours are left out: they may lie a hair beside one of the curve.
        """
        curves = self.curves()
        anchors = [name for name, points in curves.items() if points[0].codec != OURS]
        ours = [name for name in curves if name not in anchors]
        pairs = [(anchor, test) for test in ours for anchor in anchors]
        pairs += [(anchors[0], test) for test in anchors[1:]]
        rows = []
        for anchor, test in pairs:
            for metric in self.metrics():
                base, other = (_curve(curves[name], metric) for name in (anchor, test))
                rate, quality = bd_rate(base, other), bd_psnr(base, other)
                check = bd_rate(base, other, METHODS[1])
                rows.append(
                    {
                        "anchor": anchor,
                        "test": test,
                        "metric": metric,
                        "bd_rate": rate.value,
                        "bd_rate_pchip": check.value,
                        "rate_overlap": rate.overlap,
                        "rate_note": rate.note,
                        "bd_quality": quality.value,
                        "quality_overlap": quality.overlap,
                        "quality_note": quality.note,
                    }
                )
        return rows

    def metrics(self) -> list[str]:
        """The measures that all points have, without PSNR's components."""
        parts = ("psnr_y", "psnr_cb", "psnr_cr")
        points = list(self.points.values())
        return [
            name
            for name in (points[0].quality if points else ())
            if name not in parts and all(name in point.quality for point in points)
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "tool": f"nervcodec {__version__}",
            "libraries": libraries(),
            "machine": machine(),
            "reference": self.reference,
            "points": {key: asdict(point) for key, point in self.points.items()},
            "kept": {key: asdict(point) for key, point in self.kept.items()},
            "made": self.made,
            "bd": self.bd_table(),
            "left_out": self.left_out,
            "layers": self.layers,
            "warnings": self.warnings,
        }

    def to_csv(self) -> str:
        """A line for each point, in the order of curves and bytes."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for points in self.curves().values():
            for point in points:
                row = {
                    "bpp": f"{8 * point.bytes / self.pixels:.6f}",
                    "kbps": f"{8 * point.bytes / self.seconds / 1000:.3f}",
                    **{name: f"{value:.4f}" for name, value in point.quality.items()},
                    "decode_seconds": f"{point.decode_seconds:.3f}",
                }
                for name in ("codec", "preset", "tune", "setting", "bytes", "matches"):
                    row[name] = getattr(point, name)
                if point.encode_seconds is not None:
                    row["encode_seconds"] = f"{point.encode_seconds:.3f}"
                writer.writerow(row)
        return text.getvalue()

    def save(self, folder: Path) -> None:
        """Write ``results.json``, whole or not at all."""
        with atomic_output(folder / RESULTS) as temporary:
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
            temporary.write_text(text, encoding="utf-8")


def load(folder: Path, reference: dict[str, Any], overwrite: bool) -> Results:
    """The results in a folder, or none yet.

    Raises:
        OutputExistsError: if they are of other frames and are not to be replaced.
        HfsvError: if they cannot be read.
    """
    path = folder / RESULTS
    if not path.exists():
        return Results(reference)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["version"] == VERSION and stored["reference"] == reference:
            found = stored["points"] | stored["kept"]
            kept = {key: _point(value) for key, value in found.items()}
            return Results(reference, kept=kept, made=stored["made"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise HfsvError(f"{path}: cannot be read as results of a comparison ({exc})") from exc
    if not overwrite:
        raise OutputExistsError(f"{path}: holds results of other frames (-y replaces them)")
    return Results(reference)


def _point(value: dict[str, Any]) -> Point:
    return Point(**{**value, "frame_psnr": tuple(value["frame_psnr"])})


def _curve(points: list[Point], metric: str) -> list[tuple[float, float]]:
    return [(float(p.bytes), p.quality[metric]) for p in points if p.matches is None]


def libraries() -> dict[str, str]:
    """Versions of what encodes and measures."""
    versions = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    kept = ("libavcodec", "libavfilter", "libswscale")
    found = {"PyAV": av.__version__, **{name: versions[name] for name in kept}}
    return found | bundled_versions()


def machine() -> dict[str, Any]:
    """The machine as far as it matters to seconds."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
