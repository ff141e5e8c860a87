"""Bjøntegaard deltas between two rate-distortion curves, by the package ``bjontegaard``.

Where a number would mean nothing there is none, and the reason is told. The curves come from
:mod:`.anchors` and from measured ``.hfsv`` files.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from nervcodec.errors import UsageError

Curve: TypeAlias = Sequence[tuple[float, float]]
"""Points (rate, quality) of one codec in any order; the rate in any unit, both curves' the same."""

METHODS = ("akima", "pchip")
"""Piecewise interpolations. The cubic through four points of the first papers can swing out."""

MIN_POINTS = 4
"""Points a curve, as in Bjøntegaard's proposal: with fewer the interpolation decides."""

LEAST_OVERLAP = 0.05
"""Share below which there is no figure: it would speak of the ends of two curves alone."""

GOOD_OVERLAP = 0.75
"""Share of both curves' range below which a figure comes with a warning."""


@dataclass(frozen=True)
class BdFigure:
    """A Bjøntegaard delta, or why there is none.

    Attributes:
        value: percent of rate, or units of quality; None where there is no figure.
        overlap: the common range as a share, 0 to 1, of the range that either curve covers: of
            quality for a rate, of the logarithm of the rate for a quality.
        note: why there is no figure, or what speaks against trusting it; else empty.
    """

    value: float | None
    overlap: float
    note: str


def bd_rate(anchor: Curve, test: Curve, method: str = "akima") -> BdFigure:
    """Mean difference in rate of ``test`` from ``anchor`` at equal quality, in percent.

    Negative where ``test`` needs fewer bytes. Raises UsageError for an unknown method and for
    points that are no positive rates and finite qualities.
    """
    return _delta("bd_rate", anchor, test, method, lambda rate, quality: quality)


def bd_psnr(anchor: Curve, test: Curve, method: str = "akima") -> BdFigure:
    """Mean difference in quality of ``test`` from ``anchor`` at equal rate, in its unit (dB).

    Positive where ``test`` is better. Raises UsageError as :func:`bd_rate` does.
    """
    return _delta("bd_psnr", anchor, test, method, lambda rate, quality: math.log(rate))


def _delta(
    function: str,
    anchor: Curve,
    test: Curve,
    method: str,
    base: Callable[[float, float], float],
) -> BdFigure:
    """``base`` is what the two curves are compared over."""
    if method not in METHODS:
        raise UsageError(f"unknown interpolation {method!r}: choose from {', '.join(METHODS)}")
    curves = [_sorted(anchor), _sorted(test)]
    overlap = _overlap(*([base(*point) for point in curve] for curve in curves))
    for name, curve in zip(("anchor", "test"), curves, strict=True):
        if reason := _unfit(name, curve):
            return BdFigure(None, overlap, reason)
    if overlap == 0:
        return BdFigure(None, 0.0, "the curves do not overlap")
    if overlap < LEAST_OVERLAP:
        return BdFigure(None, overlap, f"the curves overlap by {overlap:.0%} only")
    rates, qualities = zip(*(zip(*curve, strict=True) for curve in curves), strict=True)
    with warnings.catch_warnings():
        # What it warns of, the overlap, is part of the answer.
        warnings.simplefilter("ignore")
        value = float(
            getattr(_library(), function)(
                rates[0],
                qualities[0],
                rates[1],
                qualities[1],
                method=method,
                require_matching_points=False,
            )
        )
    if not math.isfinite(value):
        return BdFigure(None, overlap, "the curves cannot be interpolated")
    note = f"the curves overlap by {overlap:.0%} only" if overlap < GOOD_OVERLAP else ""
    return BdFigure(value, overlap, note)


def _library() -> Any:
    # Imported here: it loads matplotlib, and is an extra.
    try:
        import bjontegaard
    except ImportError as exc:
        raise UsageError(
            "the package bjontegaard is not installed: pip install 'nervcodec[compare]'"
        ) from exc
    return bjontegaard


def _sorted(curve: Curve) -> list[tuple[float, float]]:
    """By rate, equal points once."""
    for rate, quality in curve:
        if not (0 < rate < math.inf and math.isfinite(quality)):
            raise UsageError(f"({rate}, {quality}) is no point of a rate-distortion curve")
    return sorted({(float(rate), float(quality)) for rate, quality in curve})


def _unfit(name: str, curve: list[tuple[float, float]]) -> str:
    """Why a curve cannot be used, else empty."""
    if len(curve) < MIN_POINTS:
        return f"the {name} curve has {len(curve)} of the {MIN_POINTS} points that are needed"
    for (low, worse), (high, better) in pairwise(curve):
        if not (low < high and worse < better):
            return f"the {name} curve does not rise from rate {low:g} to {high:g}"
    return ""


def _overlap(anchor: list[float], test: list[float]) -> float:
    if not (anchor and test):
        return 0.0
    common = min(max(anchor), max(test)) - max(min(anchor), min(test))
    whole = max(*anchor, *test) - min(*anchor, *test)
    return max(common, 0.0) / whole if whole > 0 else 0.0
