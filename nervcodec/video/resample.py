"""Crop and size of RGB pictures, exact and on the CPU; :mod:`.reader` applies it to each frame.

It stands in for swscale's scaler, whose path through Y'CbCr rounds twice and depends on flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nervcodec.errors import UsageError
from nervcodec.samples import Frames

MAX_SIDE = 16384
"""Longest side that can be asked for: four times 4K, and a frame still fits in memory."""

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Source indices and weights, both (n_out, taps): output i is sum_t w[i, t] * source[j[i, t]]."""


def area_taps(n_in: int, n_out: int) -> Taps:
    """Weights that average the source samples under each output sample, by exact overlap.

    For n_out <= n_in. Positions are counted in units of 1 / n_out so that all is integer.
    """
    start = np.arange(n_out) * n_in
    first = start // n_out
    taps = int((-(-(start + n_in) // n_out) - first).max())
    index = first[:, None] + np.arange(taps)  # (n_out, taps)
    left = np.maximum(start[:, None], index * n_out)
    right = np.minimum(start[:, None] + n_in, (index + 1) * n_out)
    weight = np.maximum(right - left, 0) / n_in
    return np.minimum(index, n_in - 1), weight.astype(np.float32)


def linear_taps(n_in: int, n_out: int) -> Taps:
    """Linear interpolation between sample centres, the border repeated. For n_out >= n_in."""
    position = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    first = np.floor(position).astype(np.intp)
    fraction = position - first
    index = np.clip(np.stack([first, first + 1], axis=1), 0, n_in - 1)  # (n_out, 2)
    return index, np.stack([1 - fraction, fraction], axis=1).astype(np.float32)


def axis_taps(n_in: int, n_out: int) -> Taps | None:
    """The weights from ``n_in`` samples to ``n_out``; None when there is nothing to do."""
    if n_in == n_out:
        return None
    return area_taps(n_in, n_out) if n_out < n_in else linear_taps(n_in, n_out)


@dataclass(frozen=True)
class Geometry:
    """A centred crop, then a size: from the decoded picture to the one that is encoded.

    ``box`` is (left, top, width, height) in the source; ``sample_aspect_ratio`` is the one
    that keeps the displayed shape of the cropped picture.
    """

    box: tuple[int, int, int, int]
    width: int
    height: int
    sample_aspect_ratio: Fraction
    row_taps: Taps | None
    column_taps: Taps | None

    def apply(self, rgb: Frames) -> Frames:
        """(H, W, 3) to (height, width, 3) of the same type, C-contiguous, rounded to nearest."""
        left, top, width, height = self.box
        picture = rgb[top : top + height, left : left + width]
        if self.row_taps is None and self.column_taps is None:
            return np.ascontiguousarray(picture)
        result = picture.astype(np.float32)
        if self.row_taps is not None:
            index, weight = self.row_taps
            result = _weighted(result, index, weight[:, :, None, None], axis=0)
        if self.column_taps is not None:
            index, weight = self.column_taps
            result = _weighted(result, index, weight[:, :, None], axis=1)
        return (result + np.float32(0.5)).astype(rgb.dtype)


def _weighted(
    picture: NDArray[np.float32], index: NDArray[np.intp], weight: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Sum over taps of weight times the picture taken at ``index`` along ``axis``."""
    result = picture.take(index[:, 0], axis=axis) * weight[:, 0]
    for tap in range(1, index.shape[1]):
        result += picture.take(index[:, tap], axis=axis) * weight[:, tap]
    return result


def plan_geometry(
    width: int,
    height: int,
    sample_aspect_ratio: Fraction,
    crop: tuple[int, int] | None,
    size: tuple[int, int] | None,
) -> Geometry:
    """The geometry for a ``width`` x ``height`` source; UsageError for sizes that cannot be."""
    crop_width, crop_height = crop or (width, height)
    if not (1 <= crop_width <= width and 1 <= crop_height <= height):
        raise UsageError(
            f"crop {crop_width}x{crop_height} does not fit in the picture of {width}x{height}"
        )
    out_width, out_height = size or (crop_width, crop_height)
    if not (1 <= out_width <= MAX_SIDE and 1 <= out_height <= MAX_SIDE):
        raise UsageError(f"size {out_width}x{out_height} is outside 1x1 .. {MAX_SIDE}x{MAX_SIDE}")
    stretch = Fraction(crop_width * out_height, crop_height * out_width)
    return Geometry(
        box=((width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height),
        width=out_width,
        height=out_height,
        sample_aspect_ratio=sample_aspect_ratio * stretch,
        row_taps=axis_taps(crop_height, out_height),
        column_taps=axis_taps(crop_width, out_width),
    )
