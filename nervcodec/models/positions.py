"""Positions as sines and cosines, by which NeRV and E-NeRV know a frame and a place.

What is made of them is in :mod:`nervcodec.models.frame_decoder`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nervcodec.bitstream.syntax import TimeSpec


def encode_positions(
    positions: Sequence[int], count: int, spec: TimeSpec
) -> npt.NDArray[np.float64]:
    """Sines and cosines of ``pi * base**level * position / count``, (positions, 2 * levels).

    For each level in turn the sine, then the cosine (NeRV, section 3.1). The angle is reduced to
    a turn in exact arithmetic: high levels have thousands of turns, whose fraction floats of
    one kind and another would not agree on.
    """
    frequencies = _frequencies(count, spec)
    turns = [
        [turns * position % unit / unit for turns, unit in frequencies] for position in positions
    ]
    angles = 2 * math.pi * np.array(turns, dtype=np.float64).reshape(len(positions), spec.levels)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(positions), -1)


@lru_cache(maxsize=16)
def _frequencies(count: int, spec: TimeSpec) -> tuple[tuple[int, int], ...]:
    """For each level how many units a position turns, and how many units are a whole turn."""
    base = spec.base
    return tuple(
        (base.numerator**level, 2 * count * base.denominator**level) for level in range(spec.levels)
    )


@lru_cache(maxsize=16)
def grid_positions(rows: int, columns: int, spec: TimeSpec) -> Tensor:
    """Each place's row, then its column, encoded: float64 (1, 4 * levels, rows, columns)."""
    row, column = (
        torch.from_numpy(encode_positions(range(count), count, spec)).T for count in (rows, columns)
    )
    size = (2 * spec.levels, rows, columns)
    return torch.cat([row[:, :, None].expand(size), column[:, None, :].expand(size)])[None]


def frame_times(numbers: Sequence[int], frames: int, spec: TimeSpec) -> Tensor:
    """Frames' times in a segment of ``frames``, encoded: float64 (B, 2 * levels, 1, 1)."""
    return torch.from_numpy(encode_positions(numbers, frames, spec))[:, :, None, None]
