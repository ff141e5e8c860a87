"""Samples of frames: how they lie in memory and how large they get, by their bit depth."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

BIT_DEPTHS = (8, 10, 12)
"""Bits a sample that frames may have."""

Frames: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
"""RGB, full range, (H, W, 3) or (N, H, W, 3): uint8 at 8 bits a sample, else uint16."""


def peak(bit_depth: int) -> int:
    """The largest sample."""
    return (1 << bit_depth) - 1


def sample_type(bit_depth: int) -> np.dtype[np.unsignedinteger[Any]]:
    """What samples are held in."""
    return np.dtype(np.uint8 if bit_depth == 8 else np.uint16)


def convert_depth(frames: Frames, bit_depth: int, wanted: int) -> Frames:
    """Samples of another depth, scaled from one largest value to the other and rounded."""
    if bit_depth == wanted:
        return frames
    scaled = frames * np.float32(peak(wanted) / peak(bit_depth)) + np.float32(0.5)
    return scaled.astype(sample_type(wanted))
