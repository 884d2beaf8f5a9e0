# SPDX-License-Identifier: Apache-2.0
"""When what may be tried again: per asset, and for the target as a whole. No thread, no clock but the test's."""

from __future__ import annotations

import math

from fedge_agent.outputs.lanes import FRESH_S, LONGEST_ASKED_S, LONGEST_S, MAX_ANSWERS, SEVERAL, Lanes


def test_a_failure_holds_up_its_own_asset_only() -> None:
    lanes = Lanes()
    lanes.failed("a", 1, "500", 0.0)
    assert lanes.blocked(0.5) == ["a"] and lanes.closed_to_fresh_s(0.5) == 0
    assert lanes.blocked(2.0) == []  # a quarter more than a second is the longest first wait
    assert 0.75 <= lanes.next_s(0.0) <= 1.25 and math.isinf(lanes.next_s(2.0))


def test_waits_of_an_asset_double_and_have_an_end() -> None:
    lanes, now = Lanes(), 0.0
    waits = []
    for _ in range(12):
        lane = lanes.failed("a", 1, "500", now)
        waits.append(lane.due - now)
        now = lane.due
    assert lane.tries == 12 and len(lane.answers) == MAX_ANSWERS
    assert all(0.75 * min(2**i, LONGEST_S) <= wait <= 1.25 * min(2**i, LONGEST_S) for i, wait in enumerate(waits))


def test_next_event_of_an_asset_begins_with_the_first_wait() -> None:
    lanes = Lanes()
    for _ in range(6):
        lanes.failed("a", 1, "500", 0.0)
    lane = lanes.failed("a", 2, "500", 0.0)
    assert lane.tries == 1 and lane.due <= 1.25
    lanes.done("a")
    assert lanes.blocked(0.0) == []


def test_target_that_is_down_gets_the_tries_of_one_however_many_assets_wait() -> None:
    """A thousand seconds of a target that no connection reaches, for one asset and for two hundred."""

    def tries(assets: int) -> int:
        lanes, now, count = Lanes(), 0.0, 0
        while now < 1000:
            blocked = set(lanes.blocked(now))
            free = [i for i in range(assets) if f"a{i}" not in blocked]
            if lanes.closed_to_fresh_s(now) == 0 and free:
                lanes.failed(f"a{free[0]}", free[0], "refused", now)
                lanes.target_failed(now)
                count += 1
            now += 0.25
        return count

    assert 8 <= tries(1) <= 14
    assert tries(200) <= 1000 / FRESH_S + 10  # the first try of each asset, one in ten seconds


def test_first_try_of_an_asset_waits_a_few_seconds_whatever_fails_for_others() -> None:
    lanes, now = Lanes(), 0.0
    for _ in range(30):
        lanes.failed("bad", 1, "connection lost", now)
        lanes.target_failed(now)
        now += 400.0
    lanes.failed("bad", 1, "connection lost", now)
    lanes.target_failed(now)
    assert lanes.closed_to_fresh_s(now) <= FRESH_S and "bad" in lanes.blocked(now + FRESH_S)
    assert "good" not in lanes.blocked(now + FRESH_S)
    lanes.answered()
    assert lanes.closed_s(now) == 0 and "bad" in lanes.blocked(now)  # its own back-off remains


def test_several_assets_that_fail_in_a_row_are_the_target() -> None:
    lanes = Lanes()
    for i in range(SEVERAL - 1):
        lanes.failed(f"a{i}", i, "500", 0.0)
        assert lanes.closed_to_fresh_s(0.0) == 0
    lanes.failed("last", SEVERAL, "500", 0.0)
    assert lanes.closed_to_fresh_s(0.0) > 0
    lanes.answered()
    lanes.failed("a0", 0, "500", 0.0)
    assert lanes.closed_to_fresh_s(0.0) == 0


def test_target_that_asks_to_wait_is_not_asked_before() -> None:
    lanes = Lanes()
    lanes.target_failed(0.0, 60.0)
    assert lanes.closed_to_fresh_s(0.0) == lanes.closed_s(0.0) == 60.0
    lanes.target_failed(0.0, 1e9)
    assert lanes.closed_s(0.0) == LONGEST_ASKED_S


def test_dropped_event_delays_nothing_behind_it() -> None:
    lanes = Lanes()
    lanes.failed("a", 1, "500", 0.0)
    lanes.failed("b", 2, "500", 0.0)
    lanes.keep({2})
    assert lanes.blocked(0.0) == ["b"]
