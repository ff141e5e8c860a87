"""Bjøntegaard deltas of curves whose answer is known, and of curves that give none."""

from __future__ import annotations

import math

import pytest

from nervcodec.compare.bd_rate import GOOD_OVERLAP, METHODS, bd_psnr, bd_rate
from nervcodec.errors import UsageError

CURVE = [(1000.0, 30.0), (2000.0, 33.5), (4000.0, 36.5), (8000.0, 39.0), (16000.0, 41.0)]


def scaled(factor: float, lift: float = 0.0) -> list[tuple[float, float]]:
    return [(factor * rate, quality + lift) for rate, quality in CURVE]


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_at_other_rates(method: str) -> None:
    assert bd_rate(CURVE, scaled(0.8), method).value == pytest.approx(-20)
    assert bd_rate(CURVE, scaled(1.5), method).value == pytest.approx(50)
    assert bd_rate(CURVE, CURVE, method).value == pytest.approx(0)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_at_other_qualities(method: str) -> None:
    figure = bd_psnr(CURVE, scaled(1, -0.75), method)
    assert figure.value == pytest.approx(-0.75)
    assert (figure.overlap, figure.note) == (1, "")


def test_straight_lines_by_hand() -> None:
    # 3 dB a doubling of the rate; the other one is a doubling behind, over half of the range.
    anchor = [(100.0 * 2**k, 30.0 + 3 * k) for k in range(5)]
    test = [(800.0 * 2**k, 36.0 + 3 * k) for k in range(5)]
    rate, quality = bd_rate(anchor, test), bd_psnr(anchor, test)
    assert rate.value == pytest.approx(100)
    assert rate.overlap == pytest.approx(2 / 6)
    assert quality.value == pytest.approx(-3)
    assert quality.overlap == pytest.approx(1 / 7)
    assert "33%" in rate.note
    assert "14%" in quality.note


def test_order_and_repeated_points_do_not_matter() -> None:
    mixed = [*reversed(scaled(0.9)), scaled(0.9)[2]]
    assert bd_rate(CURVE[::-1], mixed) == bd_rate(CURVE, scaled(0.9))


def test_more_points_on_one_side() -> None:
    assert bd_rate(CURVE, scaled(0.8)[:4]).value == pytest.approx(-20, abs=1)


def test_a_small_overlap_is_told_and_a_good_one_is_not() -> None:
    assert bd_rate(CURVE, scaled(1, 0.1)).note == ""
    poor = bd_rate(CURVE, scaled(1, 6))
    assert poor.value is not None
    assert poor.overlap == pytest.approx(5 / 17)
    assert poor.overlap < GOOD_OVERLAP
    assert "29%" in poor.note


@pytest.mark.parametrize(
    ("anchor", "test", "reason"),
    [
        (CURVE, scaled(1, 20), "do not overlap"),
        (CURVE, scaled(1, 11), "do not overlap"),
        (CURVE, scaled(1, 10.5), "overlap by 2% only"),
        (CURVE, scaled(1)[:3], "test curve has 3 of the 4 points"),
        (CURVE, [], "test curve has 0"),
        (CURVE[:1], CURVE, "anchor curve has 1"),
        (CURVE, [CURVE[0]] * 9, "test curve has 1"),
        (CURVE, [*CURVE, (20000.0, 40.0)], "test curve does not rise from rate 16000 to 20000"),
        ([*CURVE, (1000.0, 31.0)], CURVE, "anchor curve does not rise from rate 1000 to 1000"),
    ],
)
def test_no_figure_and_why(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]], reason: str
) -> None:
    figure = bd_rate(anchor, test)
    assert figure.value is None
    assert reason in figure.note


def test_rates_that_do_not_overlap() -> None:
    figure = bd_psnr(CURVE, scaled(100))
    assert (figure.value, figure.overlap) == (None, 0)
    assert bd_rate(CURVE, scaled(100)).value == pytest.approx(9900)


@pytest.mark.parametrize("point", [(0.0, 30.0), (-1.0, 30.0), (math.inf, 30.0), (10.0, math.nan)])
def test_points_that_are_none(point: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="no point"):
        bd_rate(CURVE, [*CURVE, point])


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match="'cubic': choose from akima, pchip"):
        bd_rate(CURVE, CURVE, "cubic")
