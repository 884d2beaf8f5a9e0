# SPDX-License-Identifier: Apache-2.0
"""False alarms and confirmed faults move a limit a little: slowly, within a bound, never above a confirmed fault."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fedge_agent.learning import moved_limit
from fedge_agent.learning.closing_codes import A_DAY, DOWN, LEAST, NOTHING, REMEMBERED_NS, UP, move
from fedge_agent.learning.limits import UNKNOWN, Limit
from fedge_agent.samples.closings import Closing

DAY = 86_400 * 10**9


def closed(*faults: bool, ratio: float = 5.0, day: int = 1) -> list[Closing]:
    """Closings on days that follow each other."""
    return [Closing(f"e{i}", (day + i) * DAY, fault, ratio) for i, fault in enumerate(faults)]


def test_one_wrong_code_moves_little_and_none_moves_nothing() -> None:
    assert move([], 1.5) is NOTHING
    assert move(closed(False), 1.5).factor == pytest.approx(UP) and UP <= 1.05
    assert move(closed(False), 1.0) is NOTHING  # switched off


def test_many_false_alarms_raise_to_the_bound_and_no_further() -> None:
    found = move(closed(*[False] * 60), 1.5)
    assert (found.factor, found.false_alarms, found.faults) == (1.5, 60, 0)
    assert found.text(1.5) == "limit raised to 1.50 × the learnt one after 60 false alarms (at most 1.5 ×)"


def test_faults_lower_it_again_and_not_far_below_what_was_learnt() -> None:
    both = move(closed(False, False, True), 1.5)
    assert both.factor == pytest.approx(UP * UP / DOWN)
    found = move(closed(*[True] * 60), 1.5)
    assert found.factor == LEAST
    assert (
        found.text(found.factor) == "limit lowered to 0.90 × the learnt one after 60 confirmed faults (at least 0.9 ×)"
    )


def test_a_day_has_few_steps() -> None:
    same_day = [Closing(f"e{i}", DAY + i, False, 2.0) for i in range(50)]
    assert move(same_day, 1.5).factor == pytest.approx(UP**A_DAY)


def test_what_was_found_long_ago_is_forgotten() -> None:
    long_ago = closed(False, False, False)
    assert move([*long_ago, *closed(False, day=4 + REMEMBERED_NS // DAY)], 1.5).factor == pytest.approx(UP)


def test_it_stays_below_what_a_confirmed_fault_scored() -> None:
    found = move([*closed(True, ratio=1.2), *closed(*[False] * 30, day=9)], 1.5)
    assert found.factor == pytest.approx(1.2 * 0.95)
    assert move([*closed(True, ratio=1.01), *closed(*[False] * 30, day=9)], 1.5).factor == 1.0


def test_all_moves_together_are_bounded_in_one_place() -> None:
    limit = Limit(2.0, np.ones(1, np.float32))
    assert moved_limit.moved(limit, [1.2, 1.5]).score == pytest.approx(3.6)
    assert moved_limit.moved(limit, [3.0, 3.0]).score == 2.0 * moved_limit.MOST
    assert moved_limit.moved(limit, [0.5, 0.5]).score == 2.0 * moved_limit.LEAST
    assert moved_limit.moved(limit, [1.0]) is limit and moved_limit.moved(UNKNOWN, [1.5]) is UNKNOWN
    assert moved_limit.moved(limit, [1.5]).usual is limit.usual


def test_a_new_run_and_codes_together_lift_it_no_further_than_the_larger_bound() -> None:
    assert moved_limit.highest(Limit(2.0), [4.0, 1.5]) == 8.0
    assert moved_limit.highest(Limit(2.0), [1.0, 1.5]) == 3.0
    assert moved_limit.highest(Limit(2.0), [4.0, 1.5], below=5.0) == 5.0


@pytest.mark.parametrize(("below", "expected"), [(math.inf, 3.0), (2.5, 2.5), (1.5, 2.0)])
def test_no_move_lifts_it_above_a_fault_that_the_learnt_limit_finds(below: float, expected: float) -> None:
    """A fault below the limit that was learnt is not found whatever moves it, and lowers nothing."""
    assert moved_limit.moved(Limit(2.0), [1.5], below).score == expected


def test_of_each_fault_the_third_highest_window_counts() -> None:
    hour = 3600 * 10**9
    times = np.array([0, 1, 2, 3, 9 * hour, 9 * hour + 1], np.int64)
    scores = np.array([1.0, 8.0, 6.0, 7.0, 4.0, 5.0])
    found = moved_limit.below_faults(["a"] * 6, times, scores)
    assert found == {"a": pytest.approx(0.95 * 4.0)}
    assert moved_limit.below_faults(["a"] * 4, times[:4], scores[:4]) == {"a": pytest.approx(0.95 * 6.0)}
