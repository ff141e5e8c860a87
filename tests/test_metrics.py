"""PSNR, MS-SSIM and their means against plain formulas and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from nervcodec.errors import UsageError
from nervcodec.metrics import (
    PSNR_CAP,
    FrameStatistics,
    YcbcrStatistics,
    bits_per_pixel,
    ms_ssim,
    psnr,
)

Frame = NDArray[np.uint8]


def noise(seed: int, height: int = 24, width: int = 32) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(value: int, height: int = 24, width: int = 32) -> Frame:
    return np.full((height, width, 3), value, np.uint8)


def smooth(height: int, width: int) -> Frame:
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(rows / (9 + c)) * np.cos(columns / (13 - c)) for c in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def test_psnr_is_the_plain_formula() -> None:
    reference, decoded = noise(1), noise(2)
    mse = np.mean((reference.astype(np.float64) - decoded.astype(np.float64)) ** 2)
    assert psnr(reference, decoded) == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-12)


@pytest.mark.parametrize(
    ("difference", "expected"), [(255, 0.0), (1, 48.1308036), (16, 24.0484039)]
)
def test_psnr_of_a_constant_difference(difference: int, expected: float) -> None:
    # Both directions: unsigned subtraction must not wrap round.
    assert psnr(flat(0), flat(difference)) == pytest.approx(expected, abs=1e-6)
    assert psnr(flat(difference), flat(0)) == pytest.approx(expected, abs=1e-6)


def test_psnr_of_identical_frames_is_infinite() -> None:
    assert psnr(noise(3), noise(3)) == math.inf


@pytest.mark.parametrize(
    ("reference", "decoded"),
    [
        (flat(0, 24), flat(0, 25)),
        (flat(0), flat(0).astype(np.float32)),
        (flat(0)[..., 0], flat(0)[..., 0]),
        (flat(0)[:0], flat(0)[:0]),
    ],
)
def test_frames_that_cannot_be_compared(reference: Frame, decoded: Frame) -> None:
    with pytest.raises(UsageError, match="to compare"):
        psnr(reference, decoded)
    with pytest.raises(UsageError, match="to compare"):
        ms_ssim(reference, decoded)


def test_ms_ssim_of_identical_frames_is_one() -> None:
    frame = smooth(161, 170)
    assert ms_ssim(frame, frame) == pytest.approx(1.0, abs=1e-6)


def test_ms_ssim_of_flat_frames_is_the_luminance_term_of_the_last_scale() -> None:
    # Without contrast every contrast-structure term is 1; luminance counts to the power 0.1333.
    low, high, constant = 100.0, 140.0, (0.01 * 255) ** 2
    luminance = (2 * low * high + constant) / (low**2 + high**2 + constant)
    measured = ms_ssim(flat(100, 176, 176), flat(140, 176, 176))
    assert measured == pytest.approx(luminance**0.1333, abs=1e-4)


def test_ms_ssim_falls_with_noise() -> None:
    frame = smooth(176, 192)
    scores = []
    for strength in (2, 10, 40):
        grain = np.random.default_rng(4).normal(0, strength, frame.shape)
        scores.append(ms_ssim(frame, np.clip(frame + grain, 0, 255).astype(np.uint8)))
    first, second, third = (score or 0.0 for score in scores)
    assert 1 > first > second > third > 0


def test_ms_ssim_is_undefined_up_to_160_lines() -> None:
    assert ms_ssim(smooth(160, 320), smooth(160, 320)) is None
    assert ms_ssim(smooth(161, 161), smooth(161, 161)) is not None


def test_statistics_of_three_frames() -> None:
    statistics = FrameStatistics()
    for difference in (2, 8, 4):
        statistics.add(flat(100), flat(100 + difference))
    each = [20 * math.log10(255 / difference) for difference in (2, 8, 4)]
    mean_mse = (4 + 64 + 16) / 3
    assert statistics.frames == 3
    assert statistics.psnr == pytest.approx(sum(each) / 3)
    assert statistics.psnr_of_mean_mse == pytest.approx(10 * math.log10(255**2 / mean_mse))
    assert statistics.psnr_of_mean_mse < statistics.psnr
    assert statistics.lowest_psnr == pytest.approx(each[1])
    assert statistics.lowest_psnr_frame == 1
    assert statistics.ms_ssim is None  # too small


def test_an_identical_frame_counts_as_100_db() -> None:
    statistics = FrameStatistics()
    statistics.add(flat(100), flat(100))
    assert statistics.psnr == statistics.psnr_of_mean_mse == statistics.lowest_psnr == PSNR_CAP
    statistics.add(flat(100), flat(101))
    assert statistics.psnr == pytest.approx((100 + 48.1308036) / 2)
    assert statistics.psnr_of_mean_mse == pytest.approx(48.1308036 + 10 * math.log10(2))
    assert statistics.lowest_psnr_frame == 1


def test_the_first_of_equally_bad_frames_is_named() -> None:
    statistics = FrameStatistics()
    for value in (101, 104, 104):
        statistics.add(flat(100), flat(value))
    assert statistics.lowest_psnr_frame == 1


def test_statistics_of_ms_ssim_can_be_left_out() -> None:
    with_it, without = FrameStatistics(), FrameStatistics(with_ms_ssim=False)
    pairs = [(flat(100, 176, 176), flat(value, 176, 176)) for value in (110, 140)]
    for reference, decoded in pairs:
        with_it.add(reference, decoded)
        without.add(reference, decoded)
    each = [ms_ssim(*pair) for pair in pairs]
    assert None not in each
    assert with_it.ms_ssim == pytest.approx(sum(score or 0.0 for score in each) / 2)
    assert without.ms_ssim is None
    assert without.psnr == with_it.psnr


@pytest.mark.parametrize(
    "name", ["psnr", "psnr_of_mean_mse", "ms_ssim", "lowest_psnr", "lowest_psnr_frame"]
)
def test_statistics_of_nothing(name: str) -> None:
    statistics = FrameStatistics()
    assert statistics.frames == 0
    with pytest.raises(UsageError, match="no frame"):
        getattr(statistics, name)


def test_bits_per_pixel() -> None:
    assert bits_per_pixel(86916, 320, 160, 132) == pytest.approx(0.10288, abs=1e-5)
    assert bits_per_pixel(0, 1, 1, 1) == 0


@pytest.mark.parametrize("arguments", [(-1, 2, 2, 2), (9, 0, 2, 2), (9, 2, 2, 0)])
def test_bits_per_pixel_of_no_pixels(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="bits per pixel"):
        bits_per_pixel(*arguments)


def planes(seed: int) -> list[NDArray[np.uint8]]:
    luma, chroma = noise(seed), noise(seed, 12, 16)
    return [luma[..., 0], chroma[..., 1], chroma[..., 2]]


def test_ycbcr_is_weighted_six_to_one_to_one() -> None:
    statistics = YcbcrStatistics()
    reference = [np.full(shape, 100, np.uint8) for shape in ((24, 32), (12, 16), (12, 16))]
    decoded = [plane + step for plane, step in zip(reference, (1, 2, 4), strict=True)]
    statistics.add(reference, decoded)
    one = 20 * np.log10(255)
    expected = [one, one - 20 * np.log10(2), one - 20 * np.log10(4)]
    assert statistics.components == pytest.approx(expected)
    assert statistics.psnr == pytest.approx((6 * expected[0] + expected[1] + expected[2]) / 8)


def test_ycbcr_is_a_mean_over_the_frames() -> None:
    both, first, second = YcbcrStatistics(), YcbcrStatistics(), YcbcrStatistics()
    first.add(planes(1), planes(2))
    second.add(planes(3), planes(3))
    both.add(planes(1), planes(2))
    both.add(planes(3), planes(3))
    assert second.psnr == PSNR_CAP
    assert both.psnr == pytest.approx((first.psnr + PSNR_CAP) / 2)


def test_ycbcr_at_ten_bits() -> None:
    shallow, deep = YcbcrStatistics(), YcbcrStatistics(10)
    shallow.add(planes(1), planes(2))
    deep.add(*([plane.astype(np.uint16) * 4 for plane in planes(seed)] for seed in (1, 2)))
    assert deep.psnr == pytest.approx(shallow.psnr + 20 * np.log10(1023 / (4 * 255)))


def test_planes_that_cannot_be_compared() -> None:
    statistics = YcbcrStatistics()
    with pytest.raises(UsageError, match="no frame"):
        _ = statistics.psnr
    with pytest.raises(UsageError, match="one shape"):
        statistics.add(planes(1), [plane[1:] for plane in planes(1)])
    with pytest.raises(UsageError, match="must be uint8"):
        statistics.add(planes(1), [plane.astype(np.uint16) for plane in planes(1)])
