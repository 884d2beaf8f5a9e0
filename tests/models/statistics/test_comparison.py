# SPDX-License-Identifier: Apache-2.0
"""What is said of a channel beside the others': its rank, and a guess at units, signs, swaps and dead sensors."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.statistics.comparison import Own, compare
from fedge_models.statistics.histogram import Histogram, describe
from fedge_models.statistics.over_sites import Summary, summarise


def site(level: float, spread: float = 0.5) -> Histogram:
    made = describe(np.random.default_rng(abs(int(level * 100))).normal(level, spread, 1024))
    assert made is not None
    return made


def own(level: float, spread: float = 0.5) -> Own:
    return Own(level - 1.28 * spread, level, level + 1.28 * spread)


def fleet(*levels: float) -> Summary:
    made = summarise([site(level) for level in levels])
    assert made is not None
    return made


TEN = fleet(8.2, 8.6, 9, 9.2, 9.5, 9.7, 10, 10.3, 10.8, 14)


def test_the_highest_of_ten_is_higher_than_nine_of_nine() -> None:
    [found] = compare(["current"], ["A"], [own(14)], [TEN])
    assert (found.below, found.above, found.others) == (9, 0, 9) and found.differs and found.hint == ""


def test_one_in_the_middle_is_like_the_others() -> None:
    [found] = compare(["current"], ["A"], [own(9.6)], [TEN])
    assert 4 <= found.below <= 5 and 4 <= found.above <= 5 and not found.differs


def test_the_lowest_is_lower_than_all() -> None:
    [found] = compare(["current"], ["A"], [own(2)], [TEN])
    assert (found.below, found.above) == (0, 9) and found.differs


def test_channels_that_differ_most_come_first_and_unknown_ones_last() -> None:
    found = compare(
        ["like", "none", "far", "further"], ["A"] * 4, [own(9.6), None, own(15), own(40)], [TEN, TEN, TEN, TEN]
    )
    assert [d.channel for d in found] == ["further", "far", "like", "none"]


def test_without_others_ones_own_values_are_known() -> None:
    [found] = compare(["current"], ["A"], [own(14)], [None])
    assert found.own == own(14) and found.usual is None and found.others == 0 and not found.differs


@pytest.mark.parametrize(
    ("factor", "offset", "said"),
    [
        (1e3, 0, "1,000 times too large"),
        (1e-3, 0, "1,000 times too small"),
        (10, 0, "10 times too large"),
        (1e5, 0, "100,000 times too large"),
        (-1, 0, "sign turned"),
        (1 / 60, 0, "60 times too small"),
    ],
)
def test_another_unit_is_guessed(factor: float, offset: float, said: str) -> None:
    others = fleet(*np.linspace(47, 53, 9))
    level, spread = 50 * factor + offset, 0.5 * abs(factor)
    ordered = sorted((level - 1.28 * spread, level + 1.28 * spread))
    [found] = compare(["speed"], [""], [Own(ordered[0], level, ordered[1])], [others])
    assert said in found.hint


@pytest.mark.parametrize(
    ("read", "usual", "said"),
    [
        (lambda c: c, lambda c: c + 273.15, "in °C where the others are in K"),
        (lambda c: c + 273.15, lambda c: c, "in K where the others are in °C"),
        (lambda c: c * 9 / 5 + 32, lambda c: c, "in °F where the others are in °C"),
        (lambda c: c * 9 / 5 + 32, lambda c: c + 273.15, "in °F where the others are in K"),
    ],
)
@pytest.mark.parametrize("unit", ["", "°C"])
def test_another_unit_of_temperature_is_guessed(read, usual, said: str, unit: str) -> None:  # type: ignore[no-untyped-def]
    others = fleet(*(usual(c) for c in np.linspace(60, 66, 9)))
    [found] = compare(["t"], [unit], [Own(read(62.0), read(63.0), read(64.0))], [others])
    assert said in found.hint


def test_temperatures_are_not_guessed_of_a_pressure() -> None:
    others = fleet(*np.linspace(333, 339, 9))
    [found] = compare(["p"], ["bar"], [Own(62, 63, 64)], [others])
    assert found.hint == "" and found.differs


def test_a_channel_near_the_others_gets_no_guess() -> None:
    [found] = compare(["current"], ["A"], [own(11)], [TEN])
    assert found.hint == "" and not found.differs


def test_a_constant_channel_is_said_to_be_dead_only_where_others_vary() -> None:
    still = Own(9.6, 9.6, 9.6, constant=True)
    [found] = compare(["current"], ["A"], [still], [TEN])
    assert "constant here" in found.hint
    flat = summarise([h for h in [describe(np.full(500, 9.6))] * 5 if h is not None])
    [found] = compare(["setpoint"], ["A"], [still], [flat])
    assert found.hint == "" and not found.differs


def test_swapped_channels_are_seen() -> None:
    low, high = fleet(*np.linspace(9, 11, 9)), fleet(*np.linspace(66, 69, 9))
    found = compare(["inlet", "outlet"], ["bar", "bar"], [own(67), own(10)], [low, high])
    assert all("swapped" in d.hint for d in found) and len(found) == 2
