# SPDX-License-Identifier: Apache-2.0
"""When a value is of, and whether its node is alive: pure, with clocks of the test's own."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from asyncua import ua
from fedge_agent.protocols.opcua.evidence import CHANGES, MOVES, UNMOVED, USUAL, Answer, Evidence, Stamp
from fedge_models.system import times
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

T = datetime(2026, 3, 1, tzinfo=timezone.utc)
T_NS = round(T.timestamp()) * 10**9
S = 10**9
MAX_STILL = 30.0


def data(value: Any, source: datetime | None, server: datetime | None = None, code: int = 0) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value), ua.StatusCode(code), SourceTimestamp=source, ServerTimestamp=server)


def after(seconds: float) -> datetime:
    return T + timedelta(seconds=seconds)


def standing(stamp: datetime | None, changes: int, max_still: float = MAX_STILL) -> tuple[Evidence, list[Stamp]]:
    """A node that changes once a second under one source time."""
    evidence = Evidence(max_still)
    stamps = [evidence.take("n", data(float(i), stamp, after(i)), float(i)) for i in range(changes)]
    return evidence, stamps


def test_a_source_time_that_moves_is_used_as_it_is() -> None:
    evidence = Evidence(MAX_STILL)
    stamps = [evidence.take("n", data(float(i), after(i), after(100 + i)), float(i)) for i in range(5)]
    assert stamps == [Stamp(T_NS + i * S, False, False) for i in range(5)] and not evidence.faults()


@pytest.mark.parametrize(
    "stamp",
    [
        None,
        datetime(1601, 1, 1, tzinfo=timezone.utc),
        datetime(2050, 1, 1, tzinfo=timezone.utc),
        datetime(2300, 1, 1, tzinfo=timezone.utc),
        datetime(1969, 12, 31, tzinfo=timezone.utc),
    ],
    ids=str,
)
def test_a_source_time_that_is_no_time_of_our_days_gives_way_to_the_servers_at_once(stamp: datetime | None) -> None:
    evidence, stamps = standing(stamp, 5)
    wrong = times.of(stamp) if stamp is not None and stamp.year > 2026 else None  # counted, with this example
    assert stamps == [Stamp(T_NS + i * S, False, True, wrong_ns=wrong) for i in range(5)]
    assert evidence.faults() == {"no usable source time": ["n"]}


@pytest.mark.parametrize("stamp", [datetime(1970, 1, 1, tzinfo=timezone.utc), T - timedelta(days=2000)], ids=str)
def test_a_source_time_that_stands_still_while_values_change_gives_way_to_the_servers(stamp: datetime) -> None:
    evidence, stamps = standing(stamp, 10)
    began = round(stamp.timestamp()) * S
    assert [s.time_ns for s in stamps[:3]] == [began, began + S, began + 2 * S]  # as if the clock were coarse
    assert stamps[3:] == [Stamp(T_NS + i * S, False, True) for i in range(3, 10)]
    assert list(evidence.faults()) == ["a source time that stands still while values change"]


def test_the_server_time_stands_still_too() -> None:
    evidence = Evidence(MAX_STILL)
    stamps = [evidence.take("n", data(float(i), None, T), float(i)) for i in range(5)]
    assert [s.time_ns for s in stamps] == [T_NS + i * S for i in range(5)]


def test_no_time_at_all_advances_by_what_passed_here() -> None:
    evidence = Evidence(MAX_STILL)
    stamps = [evidence.take("n", data(float(i), None, None), 7.5 * i) for i in range(4)]
    assert [b.time_ns - a.time_ns for a, b in pairwise(stamps)] == [7_500_000_000] * 3


def test_a_server_clock_that_is_set_back_is_followed() -> None:
    evidence = Evidence(MAX_STILL)
    servers = [0, 1, 2, -3600, -3599]
    stamps = [evidence.take("n", data(float(i), None, after(s)), float(i)) for i, s in enumerate(servers)]
    assert [s.time_ns - T_NS for s in stamps] == [s * S for s in servers]


def test_a_coarse_clock_is_not_one_that_stands_still() -> None:
    """Ten changes a second with a source time in whole seconds."""
    evidence = Evidence(MAX_STILL)
    stamps = [
        evidence.take("n", data(float(i), after(i // 10), after(i / 10 + 0.02)), i / 10) for i in range(60)
    ]  # 20 ms on the way
    assert [s.time_ns for s in stamps] == sorted({s.time_ns for s in stamps})
    assert all(abs(s.time_ns - T_NS - i * S // 10) <= S // 10 for i, s in enumerate(stamps))
    assert not evidence.faults()


def test_values_queued_at_the_server_keep_their_order() -> None:
    evidence = Evidence(MAX_STILL)
    stamps = [evidence.take("n", data(float(i), after(0), after(0)), 0.0) for i in range(4)]
    assert [s.time_ns - T_NS for s in stamps] == [0, 1, 2, 3]


def test_a_clock_that_goes_on_is_used_again() -> None:
    evidence, _ = standing(T - timedelta(days=1), 10)
    for i in range(10, 10 + MOVES):
        stamp = evidence.take("n", data(float(i), after(i), after(i)), float(i))
    assert stamp == Stamp(T_NS + (9 + MOVES) * S, False, False) and not evidence.faults()


def test_the_same_value_at_a_new_connection_has_the_same_time() -> None:
    """So that the windows know that it did not change meanwhile."""
    evidence = Evidence(MAX_STILL)
    first = evidence.take("n", data(5.0, after(0), after(0)), 0.0)
    evidence.connected(100.0)
    assert evidence.take("n", data(5.0, after(0), after(100)), 100.0) == first
    again = evidence.take("n", data(5.0, after(0), after(101)), 101.0)
    assert again == first._replace(repeated=True)  # over the same connection it says nothing new


def test_a_bad_status_and_the_return_of_the_same_value_are_new_readings() -> None:
    """Some servers keep the time of the last good value."""
    evidence, bad = Evidence(MAX_STILL), ua.StatusCodes.BadNoCommunication
    stamps = [
        evidence.take("n", data(5.0, after(0), after(0)), 0.0),
        evidence.take("n", data(5.0, after(0), after(60), bad), 60.0),
        evidence.take("n", data(5.0, after(0), after(90)), 90.0),
    ]
    assert [s.time_ns - T_NS for s in stamps] == [0, 60 * S, 90 * S] and not evidence.faults()


def test_when_nothing_changes_under_a_time_that_stands_still_the_node_is_still() -> None:
    evidence, stamps = standing(datetime(1601, 1, 1, tzinfo=timezone.utc), 10)
    assert not list(evidence.take_still(9 + MAX_STILL))
    [(key, time_ns)] = evidence.take_still(9 + MAX_STILL + 1)
    assert key == "n" and time_ns == stamps[-1].time_ns + 31 * S
    assert evidence.still() == {"no usable source time, and nothing changes": ["n"]}
    assert not list(evidence.take_still(1000.0))  # it is said once
    evidence.connected(1000.0)
    again = evidence.take("n", data(9.0, datetime(1601, 1, 1, tzinfo=timezone.utc), after(1000)), 1000.0)
    assert again.still  # the same value of a new connection proves nothing
    moved = evidence.take("n", data(9.5, datetime(1601, 1, 1, tzinfo=timezone.utc), after(1001)), 1001.0)
    assert moved == Stamp(T_NS + 1001 * S, False, True) and not evidence.still()


def test_a_node_that_changes_seldom_is_not_still_between_its_changes() -> None:
    evidence = Evidence(MAX_STILL)
    for i in range(CHANGES + 1):
        evidence.take("n", data(float(i), None, after(600 * i)), 600.0 * i)
    now = 600.0 * CHANGES
    assert not list(evidence.take_still(now + 600 * USUAL))
    assert list(evidence.take_still(now + 601 * USUAL))


def test_a_value_that_never_changes_is_alive_where_nothing_speaks_against_it() -> None:
    """A set point, at a server whose source time is that of the last change."""
    evidence = Evidence(MAX_STILL)
    evidence.take("n", data(5.0, T - timedelta(days=300), after(0)), 0.0)
    for i in range(1, 100):
        same = data(5.0, T - timedelta(days=300), after(10 * i))
        assert evidence.answer("n", same, 10.0 * i, exact=True) is Answer.SAME
        assert not list(evidence.take_still(10.0 * i))


def test_a_source_time_that_moved_by_itself_and_stops_is_still() -> None:
    """The server samples the device, and writes the time of the sample: a frozen device is seen."""
    evidence = Evidence(MAX_STILL)
    evidence.take("n", data(5.0, after(0), after(0)), 0.0)
    for i in range(1, 4):
        assert evidence.answer("n", data(5.0, after(10 * i), after(10 * i)), 10.0 * i, True) is Answer.SAME
    for i in range(4, 4 + UNMOVED):
        assert not list(evidence.take_still(10.0 * i))
        evidence.answer("n", data(5.0, after(30), after(10 * i)), 10.0 * i, True)
    assert list(evidence.take_still(30.0 + MAX_STILL + 1))
    moving = data(5.0, after(100), after(100))
    assert evidence.answer("n", moving, 100.0, True) is Answer.NEWS  # it goes on: this is a reading
    assert evidence.take("n", moving, 100.0) == Stamp(T_NS + 100 * S, False, False) and not evidence.still()


def test_a_status_that_says_last_usable_for_ever_is_still() -> None:
    evidence, code = Evidence(MAX_STILL), ua.StatusCodes.UncertainNoCommunicationLastUsableValue
    evidence.take("n", data(5.0, after(0), after(0), code), 0.0)
    assert not list(evidence.take_still(MAX_STILL)) and list(evidence.take_still(MAX_STILL + 1))
    assert "UncertainNoCommunicationLastUsableValue" in next(iter(evidence.still()))


def test_another_uncertain_status_is_used() -> None:
    evidence, code = Evidence(MAX_STILL), ua.StatusCodes.UncertainSensorNotAccurate
    evidence.take("n", data(5.0, after(0), after(0), code), 0.0)
    assert not list(evidence.take_still(10 * MAX_STILL))


def test_nobody_is_still_where_that_is_turned_off() -> None:
    evidence, _ = standing(None, 5, max_still=0.0)
    assert not list(evidence.take_still(1e6))


def test_a_value_that_a_read_shows_and_the_subscription_does_not_send_is_missed() -> None:
    evidence = Evidence(MAX_STILL)
    evidence.take("n", data(5.0, after(0), after(0)), 0.0)
    assert evidence.answer("n", data(6.0, after(9), after(10)), 10.0, True) is Answer.SAME  # it may be on its way
    assert evidence.answer("n", data(7.0, after(19), after(20)), 20.0, True) is Answer.MISSED
    evidence.take("n", data(8.0, after(21), after(21)), 21.0)
    assert evidence.answer("n", data(9.0, after(31), after(31)), 31.0, True) is Answer.SAME
    for i in range(4, 8):  # within a deadband
        assert evidence.answer("n", data(8.1, after(10 * i), after(10 * i)), 10.0 * i, False) is Answer.SAME


def test_a_bad_status_that_only_a_read_shows_is_a_reading() -> None:
    evidence = Evidence(MAX_STILL)
    evidence.take("n", data(5.0, after(0), after(0)), 0.0)
    bad = data(None, after(10), after(10), ua.StatusCodes.BadNodeIdUnknown)
    assert evidence.answer("n", bad, 10.0, True) is Answer.NEWS
    evidence.take("n", bad, 10.0)
    assert evidence.answer("n", bad, 20.0, True) is Answer.SAME
    assert evidence.bad(20.0, 5.0) == {"BadNodeIdUnknown": ["n"]}


def test_the_silent_are_asked_in_turns() -> None:
    evidence = Evidence(MAX_STILL)
    for key in range(5):
        evidence.take(key, data(5.0, after(0), after(0)), 0.0)
    assert not evidence.silent(9.0, 10.0, 2)
    assert evidence.silent(10.0, 10.0, 2) == [0, 1]
    for key in (0, 1):
        evidence.answer(key, data(5.0, after(0), after(10)), 10.0, True)
    assert evidence.silent(11.0, 10.0, 2) == [2, 3]


STEPS = st.lists(
    st.tuples(
        st.sampled_from([None, -(10**9), 0, 5, 5, 5.3, 5.9, 6, 7, 100]),  # source time, s from T
        st.sampled_from([None, 0, 0.2, 0.7, 1, 2, 1000]),
        st.sampled_from([1.0, 2.0, float("nan"), "text", [1.0, 2.0]]),
        st.sampled_from([0, ua.StatusCodes.BadNoCommunication, ua.StatusCodes.UncertainLastUsableValue]),
        st.floats(0, 50),
    ),
    max_size=30,
)


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(STEPS)
def test_whatever_a_server_says_no_reading_is_a_little_older_than_the_one_before(steps: Any) -> None:
    """Such a reading would be late. The same value may come again; a clock that is set back by seconds is followed."""
    evidence, now, last = Evidence(MAX_STILL), 0.0, 0
    for source, server, value, code, wait in steps:
        now += wait
        given_ = data(value, None if source is None else after(source), None if server is None else after(server), code)
        stamp = evidence.take("n", given_, now)
        assert 0 <= stamp.time_ns < 2**33 * S + 10**6 * S
        assert stamp.time_ns >= last or last - stamp.time_ns >= S
        last = stamp.time_ns
        for _, time_ns in evidence.take_still(now):
            assert time_ns > last
            last = time_ns
