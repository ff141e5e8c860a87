"""Parameters that a training can teach: by its steps, and by the time that it has."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from synthetic import moving_pattern, write_clip

import nervcodec
from nervcodec.config import EncodeConfig, ModelConfig, TrainConfig
from nervcodec.effort import teachable_params
from nervcodec.rate_control import MAX_DEFAULT_PARAMS, default_params, least_params
from nervcodec.segments import SegmentPlan

LARGE = (1280, 640)
CLIP = SegmentPlan((66, 66))


def by_time(minutes: float, workers: int | None = None, executor: str | None = None) -> int | None:
    time = timedelta(minutes=minutes)
    config = EncodeConfig(time=time, workers=workers, executor=executor, device="cpu")
    return teachable_params(config, ModelConfig(), CLIP, *LARGE)


@pytest.mark.parametrize(("epochs", "batch", "params"), [(5, 1, 264_000), (10, 4, 136_000)])
def test_each_step_teaches_so_many(epochs: int, batch: int, params: int) -> None:
    config = EncodeConfig(train=TrainConfig(epochs=epochs, batch=batch))
    assert teachable_params(config, ModelConfig(), CLIP, *LARGE) == params


@pytest.mark.parametrize(
    ("pixels", "most", "params"),
    [
        (30 * 1280 * 640, 60_000, 60_000),
        (30 * 1280 * 640, None, 307_200),
        (30 * 1280 * 640, 4_000_000, 307_200),
        (30 * 176 * 144, 4_000, 8_000),
    ],
)
def test_the_default_is_no_more(pixels: int, most: int | None, params: int) -> None:
    assert default_params(pixels, 0.0, most) == params


def test_more_time_teaches_more() -> None:
    found = [by_time(minutes) or 0 for minutes in (2, 5, 20, 60)]
    assert found == sorted(set(found))
    assert found[0] > 2 * least_params(ModelConfig(), *LARGE, 66)
    assert 100_000 < found[1] < 1_000_000
    assert by_time(1_000_000) == pytest.approx(2 * MAX_DEFAULT_PARAMS, rel=0.06)
    assert by_time(2.5, workers=2) == by_time(5)


def test_without_time_for_a_step_it_is_the_narrowest_network() -> None:
    assert by_time(1e-3) == 2 * least_params(ModelConfig(), *LARGE, 66)


def test_machines_of_which_nothing_is_known_are_not_judged() -> None:
    assert by_time(5, executor="ray") is None
    config = EncodeConfig(train=TrainConfig(seconds=3.0))
    assert teachable_params(config, ModelConfig(), CLIP, *LARGE) is None


def test_an_encode_against_the_clock_has_a_smaller_network(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(320, 240, 24))
    config = EncodeConfig(time=timedelta(seconds=2), threads=1, device="cpu")
    hurried = nervcodec.encode(source, tmp_path / "hurried.hfsv", config)
    assert hurried.params < nervcodec.estimate(source).params


def test_a_time_that_is_far_too_short_is_told(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", moving_pattern(64, 48, 12))
    config = EncodeConfig(time=timedelta(milliseconds=10), threads=1, device="cpu")
    report = nervcodec.encode(source, tmp_path / "out.hfsv", config)
    assert len(report.warnings) == 1
    assert "before all frames were seen" in report.warnings[0]
    nervcodec.verify(tmp_path / "out.hfsv")
