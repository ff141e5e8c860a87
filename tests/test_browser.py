"""What people do with a decoded MP4: open it in a browser. Skipped where there is no Chromium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from video_helpers import ClipSpec, make_clip

import nervcodec
from nervcodec.config import TrainConfig
from nervcodec.video.formats import OutputFormat
from nervcodec.video.info import ColorInfo
from nervcodec.video.writer import VideoWriter
from tests.synthetic import SMALLEST, moving_pattern, write_clip

UNEVEN = [0, 40, 120, 130, 330, 400, 640, 700]  # ms; the last frame is shown for 10
NEAR = 4
"""How far mean colours may be apart: that of H.264 and of the browser's own conversion."""

ORANGE = (230, 120, 20)
COLOURS = {
    "untagged": ColorInfo(2, 2, 6, False),
    "601": ColorInfo(6, 6, 6, False),
    "601_full": ColorInfo(6, 6, 6, True),
    "709": ColorInfo(1, 1, 1, False),
    "709_full": ColorInfo(1, 1, 1, True),
}
"""Chromium heeds matrix and range only where primaries and transfer are named too."""

COLOUR_NEAR = 7
"""As :data:`NEAR`, with BT.709's dark samples lifted; another matrix is off by 11, range by 16."""


def grey_levels(path: Path) -> Path:
    """Frames that can be told from each other by their mean."""
    levels = np.array([40, 120, 80, 160, 40, 120, 80, 160], np.uint8)
    frames = np.tile(levels[:, None, None, None], (1, 48, 64, 3))
    return write_clip(path, frames, rate=1000, pts=UNEVEN)


SOURCES: dict[str, Callable[[Path], Path]] = {
    "sound": lambda path: write_clip(path, moving_pattern(64, 48, 10), audio=True),
    "uneven": grey_levels,
    "turned": lambda path: make_clip(path, ClipSpec(rotation=90)),
    "wide_pixels": lambda path: make_clip(path, ClipSpec(pixel_shape=Fraction(16, 11))),
    "odd_size": lambda path: make_clip(path, ClipSpec(width=33, height=21, pixel_format="yuv444p")),
}
LOOK_AT = {"uneven": [(a + b) / 2000 for a, b in zip(UNEVEN, [*UNEVEN[1:], 710], strict=True)]}
LEARN = replace(SMALLEST, train=TrainConfig(epochs=60, batch=2, hfs_weight=0))


def flat(path: Path, color: ColorInfo) -> None:
    """Half a second of one colour as the decoder writes it."""
    with VideoWriter(
        path,
        OutputFormat("mp4", "h264"),
        width=64,
        height=48,
        time_base=Fraction(1, 10),
        sample_aspect_ratio=Fraction(1),
        rotation=0,
        color=color,
        frame_rate=Fraction(10),
        passthrough=None,
    ) as output:
        for index in range(5):
            output.write(np.full((48, 64, 3), ORANGE, np.uint8), index, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """What the browser tells of each video."""
    chromium = browser.find()
    if chromium is None:
        pytest.skip("no Chromium on the PATH, and HFSV_CHROMIUM names none")
    for name, make in SOURCES.items():
        source = make(folder / f"{name}.source.mp4")
        config = LEARN if name == "uneven" else SMALLEST
        nervcodec.encode(source, folder / f"{name}.hfsv", config)
        nervcodec.decode(folder / f"{name}.hfsv", folder / f"{name}.mp4")
    for name, color in COLOURS.items():
        flat(folder / f"{name}.mp4", color)
    videos = {f"{name}.mp4": LOOK_AT.get(name, [0.2]) for name in (*SOURCES, *COLOURS)}
    return browser.play(chromium, folder, videos)


@pytest.mark.parametrize(
    ("name", "size", "seconds"),
    [
        ("sound", (64, 48), 0.4),
        ("uneven", (64, 48), 0.71),
        ("turned", (48, 64), 0.4),
        ("wide_pixels", (93, 48), 0.4),
        ("odd_size", (33, 21), 0.4),
    ],
)
def test_browser_plays_to_the_end(
    found: dict[str, Any], name: str, size: tuple[int, int], seconds: float
) -> None:
    video = found[f"{name}.mp4"]
    assert "error" not in video, video
    assert (video["width"], video["height"]) == size
    assert video["duration"] == pytest.approx(seconds, abs=1e-3)
    assert video["ended"] == pytest.approx(seconds, abs=1e-3)


def test_browser_decodes_the_sound(found: dict[str, Any]) -> None:
    assert found["sound.mp4"]["audioBytes"] > 1000
    assert found["turned.mp4"]["audioBytes"] == 0


def test_browser_shows_each_frame_at_its_time(found: dict[str, Any], folder: Path) -> None:
    with nervcodec.open(folder / "uneven.hfsv") as clip:
        means = np.stack([frame.mean(axis=(0, 1)) for frame in clip])
    assert (np.abs(np.diff(means, axis=0)).max(axis=1) > 3 * NEAR).all(), "frames too alike"
    assert np.abs(means - found["uneven.mp4"]["shown"]).max() < NEAR


@pytest.mark.parametrize("name", COLOURS)
def test_browser_shows_the_true_colours(found: dict[str, Any], name: str) -> None:
    (shown,) = found[f"{name}.mp4"]["shown"]
    assert np.abs(np.subtract(shown, ORANGE)).max() < COLOUR_NEAR
