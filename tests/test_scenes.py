"""Scene cuts: found where they are, and made into segments."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.video.scenes import SceneDetector
from tests.synthetic import moving_pattern, write_clip


def two_scenes() -> np.ndarray:
    """Fourteen frames of one pattern, then sixteen of its negative."""
    frames = moving_pattern(48, 32, 30)
    frames[14:] = 255 - frames[14:] // 3
    return frames


def found(frames: np.ndarray, threshold: float) -> list[int]:
    height, width = frames.shape[1:3]
    detector = SceneDetector(width, height, threshold)
    return [n for n, frame in enumerate(frames) if detector.begins_scene(frame)]


def test_a_cut_is_found_where_it_is() -> None:
    assert found(two_scenes(), 10.0) == [14]
    assert found(moving_pattern(48, 32, 30), 10.0) == []
    assert found(two_scenes(), 90.0) == []


def test_the_first_frame_is_no_cut() -> None:
    assert found(two_scenes()[:1], 1e-9) == []


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (3, 5), (15, 64), (17, 19), (32, 16), (33, 2), (161, 121)]
)
def test_any_size(width: int, height: int) -> None:
    frames = np.zeros((20, height, width, 3), dtype=np.uint8)
    frames[10:] = 255
    assert found(frames, 0.1) == [10]


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        ({"scene_cut": 10.0}, [14, 16]),
        ({"keyint": timedelta(seconds=0.4)}, [10, 10, 10]),
        ({"keyint": timedelta(seconds=0.5), "scene_cut": 10.0}, [7, 7, 8, 8]),
        ({"keyint": 15}, [15, 15]),
    ],
    ids=str,
)
def test_segments_of_a_file(tmp_path: Path, changes: dict[str, object], lengths: list[int]) -> None:
    source = write_clip(tmp_path / "in.mp4", two_scenes())
    config = EncodeConfig(
        train=TrainConfig(epochs=1), model=ModelConfig(params=40_000), threads=1, **changes
    )
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    info = nervcodec.probe(tmp_path / "out.hfsv")
    assert [segment.frames for segment in info.segments] == lengths
    assert info.duration == Fraction(30, 25)


@pytest.mark.parametrize(
    "changes",
    [{"keyint": 0}, {"keyint": timedelta(0)}, {"scene_cut": 0.0}, {"scene_cut": float("nan")}],
    ids=str,
)
def test_impossible_values_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(nervcodec.UsageError):
        EncodeConfig(**changes)


def test_too_few_parameters_for_all_segments(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", two_scenes())

    def encode(params: int) -> nervcodec.EncodeReport:
        config = EncodeConfig(
            train=TrainConfig(epochs=1), model=ModelConfig(params=params), scene_cut=10.0, threads=1
        )
        return nervcodec.encode(source, tmp_path / "out.hfsv", config)

    with pytest.raises(nervcodec.TargetError, match="for 2 segments") as caught:
        encode(100)
    found = re.search(r"have (\d+)", str(caught.value))
    assert found is not None
    assert encode(int(found[1])).params == int(found[1])
