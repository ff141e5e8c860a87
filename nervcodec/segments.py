"""Cutting a clip into segments, each of which gets a network of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

SEGMENT_BYTES = 2 << 30
"""Frames of one segment are held in memory as uint8 while its network is trained."""


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


def plan_segments(frames: int, width: int, height: int, keyint: int | None) -> SegmentPlan:
    """Segments of at most ``keyint`` frames and 2 GiB, as equal in length as can be."""
    fitting = max(1, SEGMENT_BYTES // (3 * width * height))
    longest = min(fitting, keyint or frames)
    count = -(-frames // longest)
    base, longer = divmod(frames, count)
    return SegmentPlan((base + 1,) * longer + (base,) * (count - longer))


def share_params(params: int, plan: SegmentPlan) -> list[int]:
    """Parameters for each segment, in proportion to its length; their sum is ``params``."""
    ends = [params * end // plan.frames for end in itertools.accumulate(plan.lengths)]
    return [after - before for before, after in itertools.pairwise([0, *ends])]
