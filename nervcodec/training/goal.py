"""What a segment is to keep to; :mod:`nervcodec.training.quantized` steers a training to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What a segment is to keep to, where there is anything.

    Attributes:
        bytes: of its SEGM payload, at most.
        psnr: mean RGB PSNR of its frames in dB, at least, in as few bytes as may be.
    """

    bytes: int | None = None
    psnr: float | None = None


NO_GOAL = Goal()
"""Whatever comes of the training."""
