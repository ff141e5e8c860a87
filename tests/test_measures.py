"""The measures of a comparison: known values, the order of the two sides, every frame counted."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.filter import filters_available
from numpy.typing import NDArray

from nervcodec.compare.measures import METRICS, Quality, QualityMeter, left_out
from nervcodec.metrics import PSNR_CAP, FrameStatistics, psnr
from nervcodec.video.color import rgb_to_frame
from nervcodec.video.info import ColorInfo
from nervcodec.video.planes import coded_format
from tests.synthetic import moving_pattern

COLOR = ColorInfo(2, 2, 6, False)
RATE = Fraction(24000, 1001)
HERE = tuple(name for name in METRICS if name not in left_out(METRICS, 192, 176))


def clip(width: int = 192, height: int = 176, count: int = 6) -> NDArray[np.uint8]:
    return moving_pattern(width, height, count)


def noisy(frames: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    grain = np.random.default_rng(5).normal(0, strength, frames.shape)
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def measure(
    reference: NDArray[np.uint8], decoded: NDArray[np.uint8], metrics: Sequence[str] = HERE
) -> Quality:
    height, width = reference.shape[1:3]
    layout = coded_format(width, height)
    meter = QualityMeter(metrics, (width, height), layout, RATE)
    for pair in zip(reference, decoded, strict=True):
        first, second = ((rgb, rgb_to_frame(rgb, layout, COLOR)) for rgb in pair)
        meter.add(first, second)
    return meter.finish()


def test_identical_frames_reach_the_top() -> None:
    values = measure(clip(), clip()).values
    for name in ("psnr", "psnr_611", "psnr_y", "psnr_cb", "psnr_cr", "xpsnr"):
        assert values.get(name, PSNR_CAP) == PSNR_CAP
    for name in ("ms_ssim", "ssim"):
        assert values.get(name, 1) == pytest.approx(1)


def test_more_noise_is_worse_by_every_measure() -> None:
    better, worse = (measure(clip(), noisy(clip(), s)).values for s in (3, 12))
    assert set(better) == set(worse)
    assert all(better[name] > worse[name] for name in better)


def test_psnr_and_ms_ssim_are_those_of_metrics() -> None:
    reference, decoded = clip(), noisy(clip(), 6)
    found = measure(reference, decoded)
    statistics = FrameStatistics()
    for pair in zip(reference, decoded, strict=True):
        statistics.add(*pair)
    assert found.values["psnr"] == pytest.approx(statistics.psnr)
    assert found.values["ms_ssim"] == pytest.approx(statistics.ms_ssim)
    each = [psnr(*pair) for pair in zip(reference, decoded, strict=True)]
    assert found.frame_psnr == pytest.approx(each)


@pytest.mark.parametrize("metric", ["ssim", "xpsnr"])
def test_filters_count_every_frame(metric: str) -> None:
    if metric not in HERE:
        pytest.skip(f"this PyAV has no {metric}")
    reference = clip(count=4)
    decoded = np.concatenate([reference[:3], noisy(reference[3:], 20)])
    top = {"ssim": 1.0, "xpsnr": PSNR_CAP}[metric]
    last = 4 * measure(reference, decoded, [metric]).values[metric] - 3 * top
    assert 0 < last < 0.9 * top
    if metric == "ssim":
        alone = measure(reference[3:], decoded[3:], [metric]).values[metric]
        assert last == pytest.approx(alone, abs=1e-5)


def test_the_weights_of_xpsnr_are_those_of_the_reference() -> None:
    if "xpsnr" not in HERE:
        pytest.skip("this PyAV has no xpsnr")
    flat, busy = np.full_like(clip(), 128), noisy(np.full_like(clip(), 128), 30)
    one, other = (measure(*pair, ["xpsnr"]).values for pair in ((flat, busy), (busy, flat)))
    assert one["psnr_y"] == pytest.approx(other["psnr_y"])
    assert other["xpsnr"] > one["xpsnr"] + 1, "noise is hidden where the reference is busy"


def test_odd_sizes() -> None:
    found = measure(clip(193, 177), noisy(clip(193, 177), 6))
    assert len(found.frame_psnr) == 6
    assert set(found.values) == set(measure(clip(), clip()).values)


def test_what_is_left_out_is_told() -> None:
    assert "ms-ssim" in left_out(METRICS, 160, 400)
    assert "ms-ssim" not in left_out(METRICS, 161, 161)
    assert left_out(["psnr"], 8, 8) == {}
    assert ("vmaf" in left_out(METRICS, 999, 999)) == ("libvmaf" not in filters_available)


@pytest.mark.skipif("vmaf" not in HERE, reason="this PyAV has no libvmaf")
def test_vmaf() -> None:
    good, bad = (measure(clip(), noisy(clip(), s), ["vmaf"]).values["vmaf"] for s in (1, 30))
    assert 0 <= bad < good <= 100


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on the PATH")
def test_ssim_is_that_of_the_program(tmp_path: Path) -> None:
    pair = clip(), noisy(clip(), 6)
    for name, frames in zip(("b.yuv", "a.yuv"), pair, strict=True):
        planes = [rgb_to_frame(rgb, "yuv420p", COLOR).to_ndarray().tobytes() for rgb in frames]
        (tmp_path / name).write_bytes(b"".join(planes))
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "192x176"]
    command = ["ffmpeg", *raw, "-i", "a.yuv", *raw, "-i", "b.yuv", "-lavfi", "ssim", "-f", "null"]
    told = subprocess.run(
        [*command, "-"], cwd=tmp_path, capture_output=True, check=True, text=True
    ).stderr
    found = re.search(r"SSIM .*All:([0-9.]+)", told)
    assert found is not None
    assert measure(*pair, ["ssim"]).values["ssim"] == pytest.approx(float(found[1]), abs=2e-6)
