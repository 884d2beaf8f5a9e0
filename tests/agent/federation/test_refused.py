# SPDX-License-Identifier: Apache-2.0
"""When refused releases need a person: many in a row, or some for a day; never one alone."""

from __future__ import annotations

import pytest
from fedge_agent.federation.refused import LISTED, LONG_S, MANY, RefusedReleases


def _refused(*times: float) -> RefusedReleases:
    made = RefusedReleases()
    for count, now in enumerate(times):
        made.note(count + 2, f"release {count + 2}: worse", now)
    return made


@pytest.mark.parametrize(
    ("times", "lasts"),
    [
        ((), False),
        ((0.0,), False),
        ((0.0, LONG_S - 1), False),
        ((0.0, LONG_S), True),
        (tuple(map(float, range(MANY - 1))), False),
        (tuple(map(float, range(MANY))), True),
    ],
)
def test_only_refusals_that_go_on_are_a_problem(times: tuple[float, ...], lasts: bool) -> None:
    found = _refused(*times).status(9, 1)
    assert (found["problem"] is not None) == lasts and found["in_a_row"] == len(times)
    if lasts:
        assert "canary_tolerance" in found["problem"] and found["problem"] == found["text"]


def test_a_release_that_serves_ends_the_row_and_the_day() -> None:
    made = _refused(*map(float, range(MANY)))
    made.accepted()
    made.note(50, "release 50: worse", LONG_S)
    assert made.status(50, 49)["in_a_row"] == 1 and made.status(50, 49)["problem"] is None
    assert made.total == MANY + 1


def test_only_the_last_refusals_are_listed() -> None:
    made = _refused(*map(float, range(30)))
    assert list(made.why) == list(range(32 - LISTED, 32)) and made.total == 30
