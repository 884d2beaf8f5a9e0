"""When an alarm level will be reached: the line, its bound, and an asset that tells of it."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_agent.outlook import Outlook
from fedge_agent.trend import HOUR_NS, Trend
from fedge_models.card import Target
from hypothesis import given, settings
from hypothesis import strategies as st

START = 1_700_000_000 * 10**9
CAPACITY = Target("capacity", "Ah", low=0, high=2, alarm_below=1.4)
LIFE = Target("life", "hours", low=0, high=500, alarm_below=24)


def falling(hours: float, noise: float = 0.05, seed: int = 0) -> list[tuple[int, float]]:
    """2 Ah that lose 0.002 an hour, ten times an hour."""
    rng = np.random.default_rng(seed)
    return [(START + round(h * HOUR_NS), 2 - 0.002 * h + noise * float(rng.normal())) for h in np.arange(0, hours, 0.1)]


def test_a_level_is_reached_when_the_line_does() -> None:
    trend = Trend(200, 0.9)
    for time_ns, value in falling(200):
        trend.add(time_ns, value)
    expected, least = trend.hours_until(START + 200 * HOUR_NS, 1.4, falling=True) or (0, 0)
    assert expected == pytest.approx(100, abs=5)  # 1.6 Ah are left, 0.002 go an hour
    assert 80 < least < expected
    nearer = trend.hours_until(START + 200 * HOUR_NS, 1.4, True, margin=0.05)
    assert nearer is not None and nearer[1] == pytest.approx(least - 25, abs=3)
    assert trend.hours_until(START + 200 * HOUR_NS, 1.9, True) == (0, 0)  # it is below already
    assert trend.hours_until(START + 200 * HOUR_NS, 2.4, falling=False) is None  # it goes the other way


def test_the_bound_holds_as_often_as_is_said() -> None:
    held = 0
    for seed in range(100):
        trend = Trend(100, 0.9)
        for time_ns, value in falling(100, 0.2, seed):
            trend.add(time_ns, value)
        found = trend.hours_until(START + 100 * HOUR_NS, 1.4, True)
        held += found is None or found[1] <= 200
    assert held >= 90  # 300 hours until 1.4 Ah, 100 are over


def test_what_does_not_move_has_no_end() -> None:
    trend = Trend(100, 0.9)
    for h in range(100):
        trend.add(START + h * HOUR_NS, 1.6 + (0.05 if h % 2 else -0.05))
    assert trend.hours_until(START + 100 * HOUR_NS, 1.4, True) is None


def test_a_third_of_outliers_does_not_bend_the_line() -> None:
    trend, rng = Trend(200, 0.9), np.random.default_rng(3)
    for time_ns, value in falling(200):
        trend.add(time_ns, 9.0 if rng.random() < 0.02 else value)
    expected, _ = trend.hours_until(START + 200 * HOUR_NS, 1.4, True) or (0, 0)
    assert expected == pytest.approx(100, rel=0.25)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(-1e6, 1e6)), max_size=200))
def test_any_course_gives_times_in_order_or_none(steps: list[tuple[int, float]]) -> None:
    trend = Trend(100, 0.9)
    for hour, value in steps:  # a clock may go back
        trend.add(START + hour * HOUR_NS, value)
    found = trend.hours_until(START + 400 * HOUR_NS, 0.0, True, 1.0)
    assert found is None or 0 <= found[1] <= found[0]


def test_estimates_in_hours_need_no_line() -> None:
    outlook = Outlook([LIFE], 100, 0.9)
    left = outlook.update(START, {"life": 90.0}, {"life": (60.0, 140.0)})
    assert left is not None and left == (90, 60)
    assert outlook.update(START, {"life": 90.0}, {}) is None  # no bound is known: nothing is promised


def test_the_soonest_target_counts_and_another_model_tells_its_own_past() -> None:
    outlook, now = Outlook([CAPACITY, LIFE], 200, 0.9), START + 200 * HOUR_NS
    outlook.restart([(t, {"capacity": v, "life": 0.0}) for t, v in falling(200)])
    bounds = {"life": (400.0, 500.0), "capacity": (1.55, 1.65)}
    left = outlook.update(now, {"capacity": 1.6, "life": 450.0}, bounds)
    assert left is not None and left.hours == pytest.approx(100, abs=6) and left.at_least == pytest.approx(70, abs=8)
    outlook.restart([])
    left = outlook.update(now, {"capacity": 1.6, "life": 450.0}, bounds)
    assert left == (450, 400)
