# SPDX-License-Identifier: Apache-2.0
"""`status` says how many readings of a machine were not used, and why."""

from __future__ import annotations

from typing import Any

from fedge_agent.cli.status_assets import lines
from fedge_agent.machines.condition import Cause, Condition, Reason, State
from fedge_agent.machines.condition_words import plain


def entry(outside: dict[str, int] | None = None, **counters: int) -> dict[str, Any]:
    """The status of a machine that decides and is normal."""
    last = {"label": "normal", "score": 0.1, "threshold": 1.0, "hours_left": None, "hours_left_at_least": None}
    return {
        "last": last,
        "alert": {"opened": False, "severity": 0},
        "condition": plain(Condition(State.DECIDING, age_s=0.1)),
        "events": 0,
        "inputs": {
            "watched": True,
            "open": False,
            "outside_share": None,
            "covered_s": None,
            "columns": {},
            "unlike_key": "",
        },
        "windows_undecided": 0,
        "out_of_range": outside or {},
        "counters": {"windows": 9, "bad": 0, "not_finite": 0, "late": 0, **counters},
    }


def test_each_kind_is_named_with_its_count() -> None:
    [(line, problems)] = lines({"pump": entry({"temp": 3}, out_of_range=3, bad=4, not_finite=2, late=1)})
    assert line.endswith("; readings not used: 4 bad, 3 out of range (temp), 2 no number, 1 late")
    assert problems == ()


def test_nothing_is_said_where_all_are_used() -> None:
    [(line, _)] = lines({"pump": entry()})
    assert "not used" not in line


def test_many_machines_are_counted_together() -> None:
    many = {f"pump-{i}": entry({"temp": 1}, out_of_range=1, not_finite=i) for i in range(8)}
    [(line, _)] = lines(many)
    assert line.endswith("; readings not used: 8 out of range (temp), 28 no number")


def test_windows_from_before_the_model_could_decide_are_counted() -> None:
    [(line, _)] = lines({"pump": {**entry(), "windows_undecided": 600}})
    assert line.endswith("; 0 events since the start; 600 windows undecided")
    waits = {**entry(), "windows_undecided": 5200, "condition": plain(Condition(State.WAITING))}
    [(line, _)] = lines({"pump": waits})
    assert line.endswith("; 5,200 windows undecided")


def test_an_implausible_time_is_named_with_its_channel_and_an_example() -> None:
    times = {"temp": (3, 1_780_220_520 * 10**9, -7194 * 10**9)}
    [(line, _)] = lines({"pump": {**entry(times_implausible=3), "implausible_times": times}})
    assert line.endswith("; 3 times implausible (temp, the last 2026-05-31 09:42:00 UTC, 2 h behind the others)")


def test_what_was_not_used_is_said_in_every_state() -> None:
    for state in (State.WAITING, State.STALE, State.BLIND):
        condition = plain(Condition(state, (Cause(Reason.SILENT, ("temp",), "plc", age_s=60.0),), age_s=60.0))
        [(line, problems)] = lines({"pump": {**entry(late=7), "condition": condition}})
        assert "; readings not used: 7 late" in line + "".join(problems)


def test_a_run_unlike_others_says_how_to_accept_it_also_once_its_limit_was_made_anew() -> None:
    run = {
        "released": 2.5,
        "is_new": True,
        "in_use": 10.0,
        "factor": 4.0,
        "bound": 4.0,
        "windows": 6.0,
        "needed": 6.0,
        "unlike": 6.2,
        "left": 0.0,
        "used_up": True,
    }
    key, reason = "gw:m:pump:drift-k3x9q-run-1", "this run is not like those that its limit was made from"
    known = entry()
    known["inputs"] |= {"unlike_key": key, "unlike_reason": reason}
    for unlike in (6.2, None):
        [(_, [problem])] = lines({"pump": {**known, "run": {**run, "unlike": unlike}}})
        assert problem.startswith(f"asset pump: {reason}")
        assert problem.endswith(f"; if this is the new normal: fedge-agent event accept {key}")
    [(_, problems)] = lines({"pump": {**entry(), "run": {**run, "unlike": None}}})
    assert problems == ()


def test_a_budget_that_is_used_up_is_said() -> None:
    run = {"is_new": False, "factor": 1.0, "used_up": True, "unlike": None}
    [(line, _)] = lines({"pump": {**entry(), "run": run}})
    assert "no more runs adapt: accept a run, or wait until the limit knows three" in line
    [(line, _)] = lines({f"pump{i}": {**entry(), "run": {**run, "used_up": i == 3}} for i in range(9)})
    assert "; limits of pump3: no more runs adapt" in line
    [(line, _)] = lines({"pump": {**entry(), "run": {**run, "used_up": False}}})
    assert "adapt" not in line
