"""``hfsv encode --preview``: what it shows, and that the training is none the worse for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

import nervcodec
from nervcodec.config import TrainConfig
from nervcodec.errors import OutputError
from nervcodec.metrics import psnr
from nervcodec.preview import MAX_POINTS, Preview, curve_svg
from nervcodec.training.progress import TrainProgress
from nervcodec.video.reader import VideoReader
from tests.synthetic import SMALLEST, moving_pattern, write_clip

LEARN = replace(SMALLEST, train=TrainConfig(epochs=30, batch=2, hfs_weight=0), threads=1)


def picture(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def state(step: int, steps: int = 40) -> TrainProgress:
    return TrainProgress(1 + step // 10, 4, step, steps, 20 + step / 10, 0.01, 0.1, 1.0)


def test_the_frame_is_shown_beside_its_source(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 6))
    nervcodec.encode(source, tmp_path / "out.hfsv", replace(LEARN, preview=tmp_path / "look"))
    assert {path.name for path in (tmp_path / "look").iterdir()} == {
        "frame.png",
        "psnr.svg",
        "index.html",
    }
    left, right = np.split(picture(tmp_path / "look" / "frame.png"), 2, axis=1)
    with VideoReader(source) as reader:
        assert (left == [frame.rgb for frame in reader][3]).all()
    with nervcodec.open(tmp_path / "out.hfsv") as clip:
        assert psnr(clip[3], right) > 35, "the last picture is the network's that was coded"
    assert "frame 3 of its 6: epoch 30 of 30" in (tmp_path / "look" / "index.html").read_text()


def test_the_file_is_the_same_with_a_preview(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 6))
    nervcodec.encode(source, tmp_path / "a.hfsv", LEARN)
    nervcodec.encode(source, tmp_path / "b.hfsv", replace(LEARN, preview=tmp_path / "look"))
    assert (tmp_path / "a.hfsv").read_bytes() == (tmp_path / "b.hfsv").read_bytes()


def test_ten_bits(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 4))
    config = replace(SMALLEST, bit_depth=10, preview=tmp_path)
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert picture(tmp_path / "frame.png").shape == (48, 128, 3)


def test_the_curve_has_every_state_and_stays_short(tmp_path: Path) -> None:
    preview = Preview(tmp_path / "deep" / "look", pytest.fail)
    frames = moving_pattern(16, 16, 3)
    count = 5 * MAX_POINTS
    for step in range(1, count + 1):
        preview.show(state(step, count), 0, frames, lambda number: frames[number], 8)
    tree = ElementTree.fromstring((tmp_path / "deep" / "look" / "psnr.svg").read_text())
    line = tree.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert MAX_POINTS / 2 < len(places) <= 2 * MAX_POINTS
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)


def test_a_flat_curve_can_be_drawn() -> None:
    ElementTree.fromstring(curve_svg([(0.5, 20.0)], 1))
    ElementTree.fromstring(curve_svg([(1, 20.0), (2, 20.0)], 3))


def test_pictures_take_a_small_share_of_the_time(tmp_path: Path) -> None:
    made = []

    def render(number: int) -> np.ndarray:
        made.append(number)
        return frames[number]

    frames = moving_pattern(16, 16, 3)
    preview = Preview(tmp_path, pytest.fail)
    for step in range(1, 40):
        preview.show(state(step), 0, frames, render, 8)
    assert len(made) == 1
    preview.show(state(40), 0, frames, render, 8)
    assert len(made) == 2, "the last state is always drawn"


def test_a_folder_that_vanishes_does_not_end_the_training(tmp_path: Path) -> None:
    warnings: list[str] = []
    frames = moving_pattern(16, 16, 3)
    preview = Preview(tmp_path / "look", warnings.append)
    (tmp_path / "look").rmdir()
    for step in (1, 40):
        preview.show(state(step), 0, frames, lambda number: frames[number], 8)
    assert len(warnings) == 1
    assert "no more previews" in warnings[0]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 4))
    config = replace(SMALLEST, preview=tmp_path / "file" / "look")
    with pytest.raises(OutputError, match="cannot be made"):
        nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert not (tmp_path / "out.hfsv").exists()
