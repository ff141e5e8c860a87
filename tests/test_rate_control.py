"""From a size and a number of parameters to networks and segments."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nervcodec
from nervcodec import rate_control, segments
from nervcodec.bitstream.syntax import Attention, HfscmSpec, ModelSpec
from nervcodec.bitstream.tensors import parameter_count
from nervcodec.bitstream.wire import ByteReader
from nervcodec.config import SHUFFLE, EncodeConfig, ModelConfig, TrainConfig, rate_weight
from nervcodec.errors import TargetError, UsageError
from nervcodec.rate_control import (
    choose_strides,
    default_detail,
    default_params,
    design_model,
    least_params,
)
from nervcodec.segments import SampleVariance, SegmentPlan, plan_segments, share_params
from tests.synthetic import moving_pattern, write_clip

HNERV = ModelConfig(hfscm=False, msfrp=False)
SIDES = st.integers(1, 4096)


# --- strides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "strides"),
    [
        (1280, 640, (5, 4, 4, 2, 2)),
        (960, 480, (5, 4, 3, 2, 2)),
        (320, 160, (5, 4, 2, 2)),
    ],
)
def test_the_published_stride_plans(width: int, height: int, strides: tuple[int, ...]) -> None:
    assert choose_strides(width, height) == strides
    assert choose_strides(height, width) == strides


@given(SIDES, SIDES)
def test_strides_are_storable_and_waste_little(width: int, height: int) -> None:
    strides = choose_strides(width, height)
    total = math.prod(strides)
    assert 1 <= len(strides) <= 8
    assert all(2 <= stride <= 5 for stride in strides)
    assert list(strides) == sorted(strides, reverse=True)
    padded = -(-height // total) * -(-width // total) * total**2
    if min(width, height) >= 64:
        assert padded <= 1.25 * width * height


@pytest.mark.parametrize(
    ("width", "height"),
    [(1920, 1080), (1280, 720), (854, 480), (640, 360), (426, 240), (352, 288), (3840, 2160)],
)
def test_common_sizes_have_a_small_grid(width: int, height: int) -> None:
    total = math.prod(choose_strides(width, height))
    assert 4 <= -(-height // total) * -(-width // total) <= 72


# --- the widest network -------------------------------------------------------------------------


@st.composite
def configs(draw: Any) -> ModelConfig:
    block = HfscmSpec(
        reduction=draw(st.integers(1, 8)),
        kernel=draw(st.sampled_from((1, 3, 7))),
        attention=draw(st.sampled_from(Attention)),
        extra_convs=draw(st.integers(0, 2)),
    )
    return ModelConfig(
        hfscm=draw(st.booleans()),
        msfrp=draw(st.booleans()),
        hfscm_spec=block,
        embedding_values=draw(st.sampled_from((1, 16, 128, 5000))),
    )


FRAMES = st.integers(1, 600)


@settings(max_examples=150)
@given(configs(), st.integers(1, 10**7), SIDES, SIDES, FRAMES)
def test_a_network_never_has_more_parameters_than_asked_for(
    config: ModelConfig, params: int, width: int, height: int, frames: int
) -> None:
    model = design_or_none(config, params, width, height, frames)
    assert model is None or parameter_count(model, width, height, frames) <= params


def design_or_none(
    config: ModelConfig, params: int, width: int, height: int, frames: int
) -> ModelSpec | None:
    try:
        return design_model(config, params, width, height, frames)
    except TargetError:
        return None


@settings(max_examples=150)
@given(configs(), st.integers(5000, 10**6), SIDES, SIDES, FRAMES, st.floats(1, 1.2))
def test_the_next_wider_network_has_too_many(
    config: ModelConfig, params: int, width: int, height: int, frames: int, more: float
) -> None:
    """Whoever asks for more gets the same network, or one that did not fit before."""
    config = replace(config, embedding_values=1)  # or the embedding grows with the parameters
    model = design_or_none(config, params, width, height, frames)
    other = design_or_none(config, round(params * more), width, height, frames)
    if model is not None:
        enough = parameter_count(model, width, height, frames)
        assert design_or_none(config, enough, width, height, frames) == model
    if other != model:
        assert other is not None
        assert parameter_count(other, width, height, frames) > params


def test_little_of_what_is_asked_for_is_left() -> None:
    for params in range(20_000, 400_000, 17_771):
        count = parameter_count(design_model(HNERV, params, 320, 160, 10), 320, 160, 10)
        assert 0.93 * params <= count <= params


@pytest.mark.parametrize("config", [HNERV, ModelConfig()])
def test_the_message_says_what_would_be_enough(config: ModelConfig) -> None:
    with pytest.raises(TargetError) as caught:
        design_model(config, 10, 320, 160, 132)
    found = re.search(r"has (\d+)", str(caught.value))
    assert found is not None
    needed = int(found[1])
    model = design_model(config, needed, 320, 160, 132)
    assert parameter_count(model, 320, 160, 132) == needed
    with pytest.raises(TargetError):
        design_model(config, needed - 1, 320, 160, 132)


def test_hnerv_at_its_own_size() -> None:
    """1.5 M at 1280x640: HNeRV's 68 -> 57, 48, 40, 33, 28, give or take its rougher count."""
    model = design_model(replace(HNERV, largest_kernel=5), 1_500_000, 1280, 640, 132)
    assert [stage.kernel for stage in model.stages] == [1, 3, 5, 5, 5]
    assert model.embedding_channels == 16
    assert model.head_kernel == 3
    channels = [model.stem_channels, *(stage.channels for stage in model.stages)]
    assert channels == pytest.approx([68, 57, 48, 40, 33, 28], abs=2)
    assert parameter_count(model, 1280, 640, 132) == pytest.approx(1_500_000, rel=0.02)


def test_channels_fall_to_a_least_width() -> None:
    for params in (20_000, 60_000, 200_000):
        model = design_model(HNERV, params, 320, 160, 10)
        least = min(rate_control.LOWER_WIDTH, model.stem_channels)
        channels = [model.stem_channels, *(stage.channels for stage in model.stages)]
        for before, after in itertools.pairwise(channels):
            assert after >= least
            assert abs(after - max(least, before / 1.2)) <= 1


@pytest.mark.parametrize(
    ("width", "height", "taper", "carrying"),
    [
        (176, 144, 1.2, 3),
        (320, 160, 1.2, 3),
        (352, 288, 1.2, 4),
        (640, 320, 1.327, 3),
        (1280, 720, 1.645, 2),
        (1920, 1080, 1.847, 3),
        (7680, 4320, 2.0, 2),
    ],
)
def test_large_frames_get_cheaper_networks(
    width: int, height: int, taper: float, carrying: int
) -> None:
    assert rate_control.default_taper(width, height) == pytest.approx(taper, abs=1e-3)
    model = design_model(ModelConfig(), 400_000, width, height, 10)
    assert [stage.hfscm for stage in model.stages] == [
        index < carrying for index in range(len(model.stages))
    ]
    channels = [model.stem_channels, *(stage.channels for stage in model.stages)]
    for before, after in itertools.pairwise(channels):
        assert abs(after - max(rate_control.LOWER_WIDTH, before / taper)) <= 1


def test_a_taper_can_be_asked_for() -> None:
    model = design_model(ModelConfig(taper=2.0), 100_000, 320, 160, 10)
    channels = [model.stem_channels, *(stage.channels for stage in model.stages)]
    assert channels[2] == pytest.approx(channels[0] / 4, abs=1)
    with pytest.raises(UsageError, match=r"taper 0\.5: not in 1\.\.4"):
        ModelConfig(taper=0.5)


def test_the_parts_are_switched_by_the_configuration() -> None:
    plain = design_model(HNERV, 100_000, 320, 160, 10)
    assert not plain.has_hfscm
    assert plain.msfrp_stage is None
    block = HfscmSpec(4, 3, Attention.DENSE, 1, 3)
    config = ModelConfig(hfscm_spec=block)
    full = design_model(config, 100_000, 320, 160, 10)
    assert [stage.hfscm for stage in full.stages] == [True, True, True, False]
    assert [stage.bilinear for stage in full.stages] == [False, True, True, True]
    shuffled = design_model(replace(config, upsampling=SHUFFLE), 100_000, 320, 160, 10)
    assert not shuffled.has_bilinear
    assert shuffled.stem_channels < plain.stem_channels
    assert not plain.has_bilinear
    assert full.hfscm == block
    mixed = design_model(replace(config, msfrp=False), 100_000, 320, 160, 10)
    assert mixed.msfrp_stage is None


@pytest.mark.parametrize(("width", "height"), [(1280, 640), (320, 160)])
def test_msfrp_takes_the_third_to_last_stage(width: int, height: int) -> None:
    model = design_model(ModelConfig(), 500_000, width, height, 10)
    assert model.msfrp_stage == len(model.stages) - 3


def test_embeddings_take_a_quarter_of_the_parameters_at_most() -> None:
    for frames in (1, 100, 3000):
        model = design_model(HNERV, 40_000, 320, 160, frames)
        rows, columns = model.grid(320, 160)
        values = frames * model.embedding_channels * rows * columns
        assert values <= 10_000 or model.embedding_channels == 1


def test_more_parameters_never_make_a_narrower_network() -> None:
    widths = [
        design_model(ModelConfig(), params, 320, 160, 10).stem_channels
        for params in range(10_000, 200_000, 7919)
    ]
    assert widths == sorted(widths)


@given(configs(), st.integers(1, 300), st.integers(1, 300))
def test_designed_networks_can_be_stored(config: ModelConfig, width: int, height: int) -> None:
    model = design_model(config, 5_000_000, width, height, 3)
    assert ModelSpec.read(ByteReader(model.to_bytes(), "MODEL")).to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    ("width", "height", "frames", "params"),
    [(1280, 640, 132, 1_351_680), (16, 16, 1, 8_000), (3840, 2160, 600, 3_000_000)],
)
def test_default_params(width: int, height: int, frames: int, params: int) -> None:
    assert default_params(width * height * frames, rate_weight=0.0) == params


def test_dearer_bits_are_spent_on_fewer_parameters() -> None:
    counts = [default_params(3_000_000, rate_weight(crf)) for crf in (22.0, 28.0, 34.0)]
    assert counts == [141_600, 70_800, 35_400]


# --- segments -----------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.none() | st.integers(1, 6000))
def test_segments_cover_the_clip_evenly(frames: int, keyint: int | None) -> None:
    plan = plan_segments(range(frames), 320, 160, keyint=keyint)
    assert plan.frames == sum(plan.lengths) == frames
    assert min(plan.lengths) >= 1
    assert max(plan.lengths) - min(plan.lengths) <= 1
    assert len(plan.lengths) == math.ceil(frames / min(keyint or frames, frames))
    ranges = list(plan.ranges())
    assert [count for _, count in ranges] == list(plan.lengths)
    assert [first for first, _ in ranges] == [sum(plan.lengths[:i]) for i in range(len(ranges))]


def test_segments_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = 3 * 320 * 160
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 10 * frame + 5)
    assert plan_segments(range(25), 320, 160).lengths == (9, 8, 8)
    assert plan_segments(range(10), 320, 160).lengths == (10,)
    assert plan_segments(range(25), 320, 160, keyint=5).lengths == (5,) * 5
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    assert plan_segments(range(3), 320, 160).lengths == (1, 1, 1)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60).map(
        lambda steps: list(itertools.accumulate(steps))
    ),
    st.integers(1, 400),
    st.integers(1, 70),
)
def test_segments_of_a_duration(pts: list[int], ticks: int, keyint: int) -> None:
    plan = plan_segments(pts, 320, 160, keyint=keyint, ticks=ticks)
    assert plan.frames == len(pts)
    assert min(plan.lengths) >= 1
    assert max(plan.lengths) <= keyint
    for first, count in plan.ranges():
        # A frame cannot be cut: what a segment shows beside its last frame is within the bound.
        assert pts[first + count - 1] - pts[first] <= ticks


def test_segments_of_a_duration_are_equal_at_a_constant_rate() -> None:
    assert plan_segments(range(0, 1000, 10), 320, 160, ticks=300).lengths == (25,) * 4
    assert plan_segments(range(0, 1000, 10), 320, 160, ticks=250).lengths == (25,) * 4
    assert plan_segments(range(0, 1000, 10), 320, 160, ticks=240).lengths == (20,) * 5
    assert plan_segments([7], 320, 160, ticks=1).lengths == (1,)


def test_scenes_get_segments_of_their_own_unless_they_are_short() -> None:
    def lengths(*cuts: int, **changes: int) -> tuple[int, ...]:
        return plan_segments(range(100), 320, 160, cuts=cuts, **changes).lengths

    assert lengths(40) == (40, 60)
    assert lengths(40, keyint=30) == (20, 20, 30, 30)
    assert lengths(40, ticks=30) == (20, 20, 30, 30)
    assert lengths(5, 12, 20, 30, 60, 65, 92) == (12, 18, 30, 40)
    assert lengths(99) == lengths(1) == (100,)


LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(st.integers(1, 10**8), LENGTHS)
def test_shares_sum_to_the_whole(params: int, lengths: list[int]) -> None:
    plan = SegmentPlan(tuple(lengths))
    shares = share_params(params, plan, [0] * len(lengths), [7.0] * len(lengths))
    assert sum(shares) == params
    assert len(shares) == len(lengths)
    for share, length in zip(shares, lengths, strict=True):
        assert abs(share - params * length / plan.frames) < 1


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5000)), min_size=1, max_size=40),
    st.integers(0, 100_000),
)
def test_no_share_is_less_than_the_least(parts: list[tuple[int, int]], more: int) -> None:
    lengths, least = zip(*parts, strict=True)
    even = [1.0] * len(lengths)
    shares = share_params(sum(least) + more, SegmentPlan(lengths), least, even)
    assert sum(shares) == sum(least) + more
    assert all(share >= low for share, low in zip(shares, least, strict=True))
    free = [(s, n) for s, n, low in zip(shares, lengths, least, strict=True) if s > low]
    # Beyond rounding none gets less a frame than one above its least, and those get the same.
    for share, length in zip(shares, lengths, strict=True):
        for other, other_length in free:
            assert share * other_length - other * length > -length - other_length


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1e5)), min_size=1, max_size=20),
    st.integers(1000, 10**6),
)
def test_more_difficult_segments_get_more(parts: list[tuple[int, float]], params: int) -> None:
    lengths, difficulties = zip(*parts, strict=True)
    shares = share_params(params, SegmentPlan(lengths), [0] * len(lengths), difficulties)
    assert sum(shares) == params
    ranked = sorted(zip(difficulties, shares, lengths, strict=True))
    for (_, share, length), (_, other, other_length) in itertools.pairwise(ranked):
        assert share * other_length - other * length <= length + other_length + 2


def test_shares_follow_the_power_of_the_difficulty() -> None:
    plan = SegmentPlan((10, 10))
    first, second = share_params(100_000, plan, [0, 0], [100.0, 400.0])
    assert second / first == pytest.approx(4**0.6, rel=1e-3)
    # Beyond sixteen times the average it counts no more.
    black = share_params(100_000, SegmentPlan((99, 1)), [0, 0], [0.0, 5000.0])
    assert black[1] / 1 / (black[0] / 99) == pytest.approx((16 * 16) ** 0.6, rel=1e-3)
    assert share_params(90, plan, [0, 0], [0.0, 0.0]) == [45, 45]


def test_the_variance_is_that_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 4096, (5, 12, 16, 3), np.uint16)
    frames[2:] //= 8
    variance = SampleVariance()
    for frame in frames:
        variance.add(frame)
    for first, count in ((0, 5), (0, 2), (2, 3), (4, 1)):
        taken = frames[first : first + count, ::4, ::4].astype(float)
        assert variance.over(first, count) == pytest.approx(taken.var(), rel=1e-9)


def test_a_clip_shares_its_parameters_by_difficulty(tmp_path: Path) -> None:
    """A flat scene and a textured one of equal length."""
    rng = np.random.default_rng(1)
    flat = np.full((12, 48, 64, 3), 90, np.uint8) + rng.integers(0, 9, (12, 48, 64, 3), np.uint8)
    frames = np.concatenate([flat, moving_pattern(64, 48, 12)])
    source = write_clip(tmp_path / "in.mp4", frames)
    config = EncodeConfig(
        train=TrainConfig(epochs=1), model=ModelConfig(params=40_000), keyint=12, threads=1
    )
    nervcodec.encode(source, tmp_path / "out.hfsv", config)
    info = nervcodec.probe(tmp_path / "out.hfsv")
    easy, hard = (info.parameters(segment) for segment in info.segments)
    assert easy + hard <= 40_000
    assert 2 * easy < hard


@given(configs(), SIDES, SIDES, FRAMES)
def test_the_least_number_of_parameters_is_enough_and_no_less(
    config: ModelConfig, width: int, height: int, frames: int
) -> None:
    least = least_params(config, width, height, frames)
    model = design_model(config, least, width, height, frames)
    assert parameter_count(model, width, height, frames) == least
    assert design_or_none(config, least - 1, width, height, frames) is None


def test_a_short_segment_among_long_ones_gets_a_network() -> None:
    """By length alone it would get 320 parameters, of which no network can be made."""
    plan = SegmentPlan((12, 180, 180, 3))
    least = [least_params(HNERV, 176, 144, frames) for frames in plan.lengths]
    shares = share_params(10_000, plan, least, [5.0] * 4)
    assert 10_000 * 12 // plan.frames < least[0]
    for frames, share in zip(plan.lengths, shares, strict=True):
        model = design_model(HNERV, share, 176, 144, frames)
        assert parameter_count(model, 176, 144, frames) <= share


@pytest.mark.parametrize(
    ("width", "height", "channels"), [(320, 160, 2), (176, 144, 2), (208, 120, 1), (1920, 1080, 1)]
)
def test_a_fine_grid_has_one_channel_of_detail(width: int, height: int, channels: int) -> None:
    assert default_detail(width, height) == channels
