# SPDX-License-Identifier: Apache-2.0
"""A machine that decided and stops raises one event, also over restarts; one that never decided waits."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from fedge_agent.config.schema import When
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.silence import Silence
from fedge_agent.types import AlertState, Decision, Event, SilenceState, kind_of
from fedge_models.system.settings import Seconds

WHEN = When(silent_for=Seconds(300), silent_severity="medium")
DECISION = Decision("pump", "m", 3, 1_700_000_000_000_000_000, 0.2, 1.0, "normal", 0.0, 0.0)
LATER = msgspec.structs.replace(DECISION, time_ns=DECISION.time_ns + 10**9)


def silence(state: SilenceState | None = None, now: float = 0.0, when: When = WHEN) -> Silence:
    return Silence("gw", "pump", when, state or SilenceState(), now, "k3x9q")


def test_one_event_opens_and_the_next_decision_clears_it() -> None:
    watch = silence()
    assert watch.decided(DECISION, 10.0) is None
    assert not watch.is_long(309.9) and watch.is_long(310.0)
    opened, state = watch.open("no decision for 5 min: tag temp has been Bad since 10:42", 310.0)
    assert (opened.key, opened.state, opened.kind, opened.severity) == (
        "gw:m:pump:silent-k3x9q-1",
        "opened",
        "silent",
        "medium",
    )
    assert opened.since_ns == opened.decision.time_ns == DECISION.time_ns and math.isnan(opened.decision.score)
    assert (
        opened.silent
        and not opened.alert
        and kind_of(opened.key) == "silent"
        and kind_of("gw:silent-1:pump:3") == "alert"
    )
    assert not watch.is_long(1e6)  # once
    made = watch.decided(LATER, 400.0)
    assert made is not None
    cleared, after = made
    assert (cleared.key, cleared.state, cleared.silent, cleared.decision) == (opened.key, "cleared", False, LATER)
    assert state.opened and not after.opened
    assert watch.decided(LATER, 401.0) is None and not watch.is_long(700.9) and watch.is_long(701.0)
    assert watch.open("", 701.0)[0].key == "gw:m:pump:silent-k3x9q-2"


def test_a_machine_that_never_decided_is_not_silent() -> None:
    assert not silence().is_long(1e9)


def test_it_can_be_turned_off() -> None:
    watch = silence(when=When(silent_for=Seconds(0)))
    watch.decided(DECISION, 0.0)
    assert not watch.is_long(1e9)


def test_a_restart_adds_what_was_silent_before_and_not_the_time_it_was_off() -> None:
    before = silence()
    before.decided(DECISION, 0.0)
    stored = msgspec.json.decode(msgspec.json.encode(before.at(200.0)), type=SilenceState)
    after = silence(now=5000.0)  # another process, another monotonic clock
    after.resume(stored)
    assert not after.is_long(5099.9) and after.is_long(5100.0)


@pytest.mark.parametrize("checkpoint_first", [True, False])
def test_kill_while_silent_neither_repeats_nor_forgets(tmp_path: Path, checkpoint_first: bool) -> None:
    before, spool = silence(), Spool(tmp_path / "spool.sqlite")
    before.decided(DECISION, 0.0)
    old = before.at(100.0)  # the checkpoint of before the event
    event, state = before.open("why", 300.0)
    spool.put_event(["mes"], event, state)
    spool.close()
    spool = Spool(tmp_path / "spool.sqlite")
    assert spool.alert_state("pump") == AlertState()
    after = silence(spool.silence_state("pump"))
    after.resume(old if checkpoint_first else before.at(500.0))
    assert not after.is_long(1e9)
    made = after.decided(LATER, 10.0)
    assert made is not None and made[0].key == event.key and made[0].state == "cleared"
    entry = spool.next_event("mes")
    assert entry is not None and entry.event.reason == "why" and math.isnan(entry.event.decision.score)
    spool.close()


def test_a_growing_silence_is_stored_once_a_minute_and_an_open_one_is_not() -> None:
    watch = silence()
    assert watch.mark(1e6) == (False, 0)
    watch.decided(DECISION, 0.0)
    assert len({watch.mark(float(t)) for t in range(300)}) == 5
    watch.open("", 300.0)
    assert watch.mark(301.0) == watch.mark(1e6)


def test_events_of_before_are_alerts() -> None:
    old = msgspec.json.decode(
        b'{"key":"gw:m:pump:1","state":"opened","worst":2.5,"decision":' + msgspec.json.encode(DECISION) + b"}",
        type=Event,
    )
    assert old.kind == "alert" and old.alert and not old.silent
