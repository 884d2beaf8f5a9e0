# SPDX-License-Identifier: Apache-2.0
"""No key of an event repeats, whatever becomes of the state folder; an open event keeps its own."""

from __future__ import annotations

from fedge_agent.config.schema import When
from fedge_agent.machines.alerts import Alert, alert_of
from fedge_agent.machines.event_names import LETTERS, new_run
from fedge_agent.types import AlertState, Decision
from fedge_models.system.settings import Seconds

WHEN = When(for_windows=1, min_gap=Seconds(0))


def keys(alert: Alert, *scores: float) -> list[str]:
    found = []
    for i, score in enumerate(scores):
        decision = Decision("pump", "m", 1, (i + 1) * 10**9 + alert.state.time_ns, score, 1.0, "", 0.0, 0.0)
        if (made := alert.update(decision)) is not None:
            found.append(f"{made[0].state} {made[0].key}")
    return found


def test_a_lost_and_an_older_state_repeat_no_key_of_another_start() -> None:
    used: set[str] = set()
    for state in (AlertState(), AlertState(), AlertState(1, run="bbbbb"), AlertState(1)):  # lost twice, restored
        found = keys(Alert("gw", "pump", WHEN, state, new_run()), 9.0, 0.1, 9.0, 0.1)
        assert [k.split()[0] for k in found] == ["opened", "cleared"] * 2 and len({k.split()[1] for k in found}) == 2
        names = {k.split()[1] for k in found}
        assert not names & used
        used |= names


def test_an_open_event_keeps_its_key_through_restarts_and_from_an_earlier_version() -> None:
    first = Alert("gw", "pump", WHEN, AlertState(6), "bcdfg")
    assert keys(first, 9.0) == ["opened gw:m:pump:bcdfg-7"]
    assert keys(Alert("gw", "pump", WHEN, first.at(1), "hjkmn"), 0.1, 9.0) == [
        "cleared gw:m:pump:bcdfg-7",
        "opened gw:m:pump:hjkmn-8",
    ]
    old = AlertState(3, True, 9.0, 1)
    assert keys(Alert("gw", "pump", WHEN, old, "bcdfg"), 0.1) == ["cleared gw:m:pump:3"]


def test_a_run_is_short_and_reads_well() -> None:
    runs = {new_run() for _ in range(200)}
    assert len(runs) == 200 and all(len(run) == 5 and set(run) <= set(LETTERS) for run in runs)


def test_a_key_that_follows_from_the_rows_is_that_of_the_first_window_above_whatever_was_open_before() -> None:
    """After a restored backup the minimum gap counts from another event."""
    slow = When(for_windows=2, min_gap=Seconds(3))
    found = []
    for state in (AlertState(), AlertState(1, opened_ns=1, run="bbbbb", severity=2, lasted_ns=10**12)):
        alert, at = Alert("gw", "pump", slow, state, new_run()), 10**9
        for i, score in enumerate([0.1, 9.0, 9.0, 9.0, 9.0, 9.0]):
            decision = Decision("pump", "m", 1, at + i * 10**9, score, 1.0, "", 0.0, 0.0)
            if (made := alert.update(decision, lambda i=i: f"row{i}")) is not None:  # type: ignore[misc]
                found.append((made[0].key, i))
    assert found == [("gw:m:pump:row1", 2), ("gw:m:pump:row1", 3)]


def test_a_key_that_follows_from_the_rows_outlives_a_restart_before_and_after_its_event() -> None:
    when = When(for_windows=2, min_gap=Seconds(0))
    first = Alert("gw", "pump", when, AlertState(), new_run(), "m")
    decisions = [Decision("pump", "m", 1, i * 10**9, 9.0, 1.0, "", 0.0, 0.0) for i in (1, 2)]
    assert first.update(decisions[0], lambda: "row1") is None
    second = Alert("gw", "pump", when, first.at(10**9), new_run(), "m")
    made = second.update(decisions[1], lambda: "row2")
    assert made is not None and made[0].key == "gw:m:pump:row1"
    third = Alert("gw", "pump", when, made[1], new_run(), "m")
    assert third.key == "gw:m:pump:row1"


def test_the_state_of_an_open_event_is_made_again_from_its_key_of_either_kind() -> None:
    for name, key in (
        (str, "gw:m:pump:bcdfg-5"),
        (lambda: "20260302T081329Z-4mmvt", "gw:m:pump:20260302T081329Z-4mmvt"),
    ):
        alert = Alert("gw", "pump", WHEN, AlertState(4), "bcdfg", "m")
        made = alert.update(Decision("pump", "m", 1, 10**9, 9.0, 1.0, "", 0.0, 0.0), name)
        assert made is not None and made[0].key == key
        found = alert_of(made[0], "gw:m:pump:")
        assert found.opened and Alert("gw", "pump", WHEN, found, "hjkmn", "m").key == key
