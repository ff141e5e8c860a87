"""Cutting a clip into segments, each of which gets a network of its own."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nervcodec.samples import Frames

SEGMENT_BYTES = 2 << 30
"""Frames of one segment are held in memory as integers while its network is trained."""

MIN_SCENE = 12
"""Frames of the shortest scene that gets a segment: a network costs some hundred bytes at least,
and has nothing to share over fewer frames."""


DIFFICULTY_POWER = 0.6
"""How much difficulty counts, as x264's qcomp: 0 for nothing, 1 in proportion.

On two clips of three and four scenes the variance so taken gained 0.12 and 0.17 dB over length
alone; powers of 0.4 to 1 were within 0.04 dB of it (ARCHITECTURE.md has the figures).
"""

MOST_DIFFICULT = 16.0
"""A black segment still needs some parameters, and noise is not worth them all."""
PART_UNITS = 1 << 20
SAMPLED = 4
"""A variance needs few samples, and the first reading of a source should stay quick."""


@dataclass(frozen=True)
class SegmentPlan:
    """The segments' lengths in frames, in order."""

    lengths: tuple[int, ...]

    @property
    def frames(self) -> int:
        return sum(self.lengths)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First frame and length of each segment."""
        ends = itertools.accumulate(self.lengths)
        return ((end - count, count) for end, count in zip(ends, self.lengths, strict=True))


def plan_segments(
    pts: Sequence[int],
    width: int,
    height: int,
    *,
    keyint: int | None = None,
    ticks: int | None = None,
    cuts: Sequence[int] = (),
    sample_bytes: int = 1,
) -> SegmentPlan:
    """Segments of at most ``keyint`` frames, ``ticks`` of time and 2 GiB.

    Within a scene they are as equal in length as can be.

    Args:
        pts: when each frame is presented, rising.
        keyint, ticks: None for any length; ``ticks`` are in the unit of ``pts``.
        cuts: frames that begin a scene, rising; scenes of less than :data:`MIN_SCENE` frames are
            joined to their neighbours.
        sample_bytes: bytes that a sample takes in memory.
    """
    fitting = max(1, SEGMENT_BYTES // (3 * width * height * sample_bytes))
    longest = min(fitting, keyint or len(pts))
    lengths: list[int] = []
    for first, end in itertools.pairwise(_scene_bounds(len(pts), cuts)):
        for start, stop in itertools.pairwise(_time_bounds(pts, first, end, ticks)):
            lengths += _equal_parts(stop - start, longest)
    return SegmentPlan(tuple(lengths))


def _scene_bounds(frames: int, cuts: Sequence[int]) -> list[int]:
    bounds = [0]
    for cut in cuts:
        if cut - bounds[-1] >= MIN_SCENE and frames - cut >= MIN_SCENE:
            bounds.append(cut)
    return [*bounds, frames]


def _time_bounds(pts: Sequence[int], first: int, end: int, ticks: int | None) -> list[int]:
    """Frames ``first`` and ``end``, and between them those that begin parts of equal duration."""
    if ticks is None:
        return [first, end]
    # The last frame's duration is not known; it lasts as long as the others on average.
    span = pts[end] - pts[first] if end < len(pts) else pts[end - 1] - pts[first]
    if end == len(pts) and end - first > 1:
        span += span // (end - first - 1)
    parts = max(1, -(-span // ticks))
    starts = (pts[first] + span * part // parts for part in range(1, parts))
    inner = [bisect.bisect_left(pts, start, first, end) for start in starts]
    return sorted({first, *inner, end})


def _equal_parts(frames: int, longest: int) -> list[int]:
    count = -(-frames // longest)
    base, longer = divmod(frames, count)
    return [base + 1] * longer + [base] * (count - longer)


def share_params(
    params: int, plan: SegmentPlan, least: Sequence[int], difficulties: Sequence[float]
) -> list[int]:
    """Parameters for each segment by its length and difficulty; their sum is ``params``.

    A segment's part is its length times the power :data:`DIFFICULTY_POWER` of its difficulty,
    which counts as :data:`MOST_DIFFICULT` times the average at most, and as little at least.
    None gets less than its number of ``least``, whose sum must not exceed ``params``: what a
    short segment's network needs beyond its part is taken from the longer ones'.

    Args:
        difficulties: positive or 0; see :class:`SampleVariance`.
    """
    parts = _parts(plan.lengths, difficulties)
    wanting: dict[int, int] = {}
    while True:
        weights = [0 if n in wanting else part for n, part in enumerate(parts)]
        shares = _split(params - sum(wanting.values()), weights)
        short = {n: low for n, low in enumerate(least) if n not in wanting and shares[n] < low}
        if not short:
            return [wanting.get(n, share) for n, share in enumerate(shares)]
        wanting |= short


def _parts(lengths: Sequence[int], difficulties: Sequence[float]) -> list[int]:
    """What each segment counts for, as integers so that shares of equal segments are equal."""
    average = sum(n * d for n, d in zip(lengths, difficulties, strict=True)) / sum(lengths)
    if average == 0:
        return list(lengths)
    relative = (min(max(d / average, 1 / MOST_DIFFICULT), MOST_DIFFICULT) for d in difficulties)
    return [
        max(1, round(length * ratio**DIFFICULTY_POWER * PART_UNITS))
        for length, ratio in zip(lengths, relative, strict=True)
    ]


class SampleVariance:
    """The variance of a clip's samples over any run of its frames, gathered frame by frame.

    It keeps 16 bytes a frame, and looks at every fourth row and column.
    """

    def __init__(self) -> None:
        self._sums, self._squares = array("d"), array("d")
        self._samples = 0

    def add(self, rgb: Frames) -> None:
        """The next frame, (H, W, 3), as large as the others."""
        samples = rgb[::SAMPLED, ::SAMPLED].astype(np.float64)
        self._samples = samples.size
        self._sums.append(samples.sum())
        self._squares.append(np.square(samples).sum())

    def over(self, first: int, count: int) -> float:
        """Of the samples of ``count`` frames from ``first`` on."""
        total = count * self._samples
        mean = sum(self._sums[first : first + count]) / total
        return max(0.0, sum(self._squares[first : first + count]) / total - mean**2)


def _split(total: int, weights: Sequence[int]) -> list[int]:
    """Parts of ``total`` in proportion to the weights."""
    whole = sum(weights)
    ends = [total * end // whole for end in itertools.accumulate(weights)]
    return [after - before for before, after in itertools.pairwise([0, *ends])]
