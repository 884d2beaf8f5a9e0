# SPDX-License-Identifier: Apache-2.0
"""No key of an event repeats, whatever becomes of the state folder; an open event keeps its own."""

from __future__ import annotations

from fedge_agent.config.schema import When
from fedge_agent.machines.alerts import LETTERS, Alert, new_run
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
