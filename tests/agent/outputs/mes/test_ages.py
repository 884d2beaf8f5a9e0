# SPDX-License-Identifier: Apache-2.0
"""Ages of orders: never longer than the true ones, whatever the wall clock says, and they grow."""

from __future__ import annotations

import pytest
from fedge_agent.outputs.mes.ages import LONGEST_S, Ages
from fedge_agent.outputs.mes.orders import MAX_ORDERS


class Clocks:
    def __init__(self) -> None:
        self.ticks, self.wall = 50.0, 1.8e9

    def ages(self) -> Ages:
        return Ages(lambda: self.ticks, lambda: self.wall)


@pytest.mark.parametrize("wall", [0.0, 1.8e9 - 86_400, 1.9e9])
def test_an_age_is_of_the_clock_that_nobody_sets(wall: float) -> None:
    clocks = Clocks()
    ages = clocks.ages()
    clocks.ticks += 5
    ages.note("a")
    clocks.ticks, clocks.wall = clocks.ticks + 7, wall
    assert ages.at_least("a") == ages.about("a", 1.8e9) == 7
    assert ages.at_least("of an earlier process") == 12
    ages.forget("a")
    assert ages.at_least("a") == 12


@pytest.mark.parametrize(
    ("unix_s", "before"), [(1.8e9 - 60, 60), (1.8e9 + 60, 0), (0.0, 0), (1.8e9 - LONGEST_S - 1, 0)]
)
def test_what_passed_before_the_process_is_of_the_wall_clock_unless_that_was_surely_set(
    unix_s: float, before: float
) -> None:
    clocks = Clocks()
    ages = clocks.ages()
    clocks.ticks += 7
    assert ages.about("a", unix_s) == before + 7 and ages.at_least("a") == 7


def test_the_ages_that_are_known_are_bounded() -> None:
    clocks = Clocks()
    ages = clocks.ages()
    for i in range(MAX_ORDERS + 1):
        clocks.ticks += 1
        ages.note(str(i))
    assert ages.at_least("0") == MAX_ORDERS + 1 and ages.at_least("1") == MAX_ORDERS - 1
