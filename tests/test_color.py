"""Y'CbCr to RGB and back without a network between: against H.273 in float64 and against itself."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame
from video_helpers import KR_KB, full_planes, picture, planes_of, rgb_to_yuv, yuv_to_rgb

from nervcodec.video.color import frame_to_rgb, rgb_to_frame
from nervcodec.video.info import ColorInfo

BITS = (8, 10, 12)
"""Depths that frames keep all the way."""

SUFFIX = {8: "", 10: "10le", 12: "12le"}
"""Of FFmpeg's names of pixel formats."""

ranges = pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
matrices = pytest.mark.parametrize("matrix", sorted(KR_KB))
depths = pytest.mark.parametrize("bits", BITS)


def natural(pixel_format: str, width: int = 160, height: int = 120) -> VideoFrame:
    """A frame such as cameras take: light that falls off, fine texture, soft colours.

    All of it is within the RGB cube, by any matrix and range.
    """
    frame = VideoFrame(width, height, pixel_format)
    grain = np.random.default_rng(2).normal(0, 4, (height, width)).clip(-10, 10)
    for number, codes in enumerate(planes_of(frame)):
        rows, columns = codes.shape
        y, x = np.mgrid[:rows, :columns] / np.array([rows, columns])[:, None, None]
        if number == 0:
            plane = 90 + 60 * x * y + 12 * np.sin(40 * x + 9 * y) + grain
        else:
            plane = 128 + 22 * np.sin(5 * x + 3 * number) * np.cos(4 * y)
        codes[:] = np.round(plane * 2 ** (frame.format.components[0].bits - 8))
    return frame


def most(bits: int) -> int:
    return 2**bits - 1


@depths
@ranges
@matrices
def test_4_4_4_is_the_formula_in_both_directions(matrix: int, full_range: bool, bits: int) -> None:
    color = ColorInfo(2, 2, matrix, full_range)
    frame = natural(f"yuv444p{SUFFIX[bits]}")
    exact = yuv_to_rgb(*full_planes(frame), matrix, full_range, bits) / 255 * most(bits)
    assert 5 < exact.min() / most(bits) * 255 < exact.max() / most(bits) * 255 < 250
    rgb = frame_to_rgb(frame, color, bits)
    assert np.abs(rgb - exact).max() < 1
    assert np.abs((rgb - exact).mean(axis=(0, 1))).max() < 0.1
    back = rgb_to_frame(rgb, frame.format.name, color, bits)
    wanted = rgb_to_yuv(rgb / most(bits) * 255, matrix, full_range, bits)
    for new, formula, old in zip(planes_of(back), wanted, planes_of(frame), strict=True):
        rounding = np.abs(new - formula).max()
        assert rounding < (0.51 if full_range else 1)  # swscale's fixed point is coarser
        difference = np.abs(new.astype(int) - old)
        assert difference.max() <= 2
        assert difference.mean() <= 0.5


@depths
@ranges
@matrices
@pytest.mark.parametrize("sampling", ["420", "422"])
def test_subsampled_picture_comes_back(
    sampling: str, matrix: int, full_range: bool, bits: int
) -> None:
    color = ColorInfo(2, 2, matrix, full_range)
    frame = natural(f"yuv{sampling}p{SUFFIX[bits]}")
    exact = yuv_to_rgb(*full_planes(frame), matrix, full_range, bits) / 255 * most(bits)
    rgb = frame_to_rgb(frame, color, bits)
    unit = 2 ** (bits - 8)  # chroma is repeated in ``exact``, interpolated in ``rgb``
    assert np.abs(rgb - exact).mean() < unit
    assert np.abs((rgb - exact).mean(axis=(0, 1))).max() < 0.2 * unit
    back = rgb_to_frame(rgb, frame.format.name, color, bits)
    for new, old in zip(planes_of(back), planes_of(frame), strict=True):
        assert new.shape == old.shape
        assert np.abs(new.astype(int) - old).mean() <= 1
        assert abs((new.astype(int) - old).mean()) < 0.2


@depths
@ranges
@matrices
def test_grey_comes_back_with_neutral_chroma(matrix: int, full_range: bool, bits: int) -> None:
    color = ColorInfo(2, 2, matrix, full_range)
    frame = natural(f"gray{SUFFIX[bits]}")
    (old,) = planes_of(frame)
    rgb = frame_to_rgb(frame, color, bits)
    luma, *chroma = planes_of(rgb_to_frame(rgb, f"yuv444p{SUFFIX[bits]}", color, bits))
    assert np.array_equal(luma, old)
    assert all((plane == 128 << (bits - 8)).all() for plane in chroma)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgra", "gbrp", "bgr0"])
@ranges
def test_rgb_is_not_touched(pixel_format: str, full_range: bool) -> None:
    color = ColorInfo(1, 13, 1, full_range)
    rgb = picture(65, 47)
    frame = VideoFrame.from_ndarray(rgb).reformat(format=pixel_format)
    assert np.array_equal(frame_to_rgb(frame, color), rgb)
    assert np.array_equal(frame_to_rgb(rgb_to_frame(rgb, "bgr0", color), color), rgb)
