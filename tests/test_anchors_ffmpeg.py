"""The anchors against independent runs of the ``ffmpeg`` program, where there is one."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.anchors import compare_with_program
from nervcodec.compare.reference import Reference, Selection
from tools.bunny import bunny_path

FFMPEG = shutil.which("ffmpeg")
BYTES, DECIBELS = 0.01, 0.05
"""How far both may be apart: the program has other builds of the encoders."""

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg on the PATH")


@pytest.fixture(scope="module")
def bunny() -> Reference:
    return Reference(bunny_path(), Selection((1280, 640), (320, 160), frames=66))


@pytest.mark.parametrize(
    ("codec", "preset", "crf"),
    [
        ("libx264", "medium", 24),
        ("libx264", "veryslow", 34),
        ("libx265", "medium", 28),
    ],
)
def test_anchors_agree_with_the_program(
    bunny: Reference, codec: str, preset: str, crf: int
) -> None:
    assert FFMPEG is not None
    found = compare_with_program(FFMPEG, bunny, codec, preset, crf, bunny.frame_rate, bunny.color)
    assert abs(found.size_difference) < BYTES
    assert abs(found.psnr_difference) < DECIBELS
