# SPDX-License-Identifier: Apache-2.0
"""The queue of events: what an earlier file lacks is added, what is done is kept for a while, then forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fedge_agent.durable.event_desk import Desk
from fedge_agent.durable.event_queue import Outcome
from fedge_agent.durable.spool import Spool
from fedge_agent.types import QUESTION, AlertState
from fedge_models.errors import ConfigError
from support.at_end import AtEnd
from support.databases import rows
from support.events import changed, make_event
from support.paths import ROOT

EVENT = make_event()
EARLIER = ROOT / "tests/vectors/gateway-ed800e3/spool.sql"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A spool as commit ed800e3 left it: an alert of pump is open, its "opened" waits for mes, and log refused it."""
    path = tmp_path / "spool.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(EARLIER.read_text())
    return path


def test_earlier_spool_knows_which_event_is_of_which_asset(earlier: Path, at_end: AtEnd) -> None:
    spool = at_end(Spool(earlier))
    assert spool.next_event("mes", ["pump"]) is None
    entry = spool.next_event("mes", ["other"])
    assert entry is not None and entry.event.decision.asset == "pump"
    with Desk(earlier) as desk:
        assert [(o.output, o.asset, o.state, o.name) for o in desk.orders()] == [
            ("mes", "pump", "opened", "waiting"),
            ("log", "pump", "opened", "set aside"),
        ]


def test_cleared_of_an_event_that_was_open_at_the_upgrade_is_sent(earlier: Path, at_end: AtEnd) -> None:
    spool = at_end(Spool(earlier))
    for key, asset, expected in (
        ("gw:m:pump:1", "pump", None),
        ("gw:m:fan:1", "fan", Outcome.WITHHELD),
    ):
        spool.put_event(["hook"], changed(EVENT, key=key, state="cleared", asset=asset), AlertState(1))
        entry = spool.next_event("hook")
        assert entry is not None and spool.without_opened(entry) == expected
        spool.delivered(entry)
    spool.put_event(["log"], changed(EVENT, state="cleared"), AlertState(1))
    aside = spool.next_event("log")
    assert aside is not None and spool.without_opened(aside) == Outcome.HELD  # its "opened" is set aside there
    spool.put_event(["mes"], changed(EVENT, key="gw:m:pump:2"), AlertState(2))  # from the next event on it is known
    spool.put_event(["new"], changed(EVENT, key="gw:m:pump:2", state="cleared"), AlertState(2))
    entry = spool.next_event("new")
    assert entry is not None and spool.without_opened(entry) == Outcome.WITHHELD


def test_what_is_done_is_kept_for_a_while_and_what_waits_always(
    tmp_path: Path, at_end: AtEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("MAX_FINISHED", 10), ("SPARE_FINISHED", 2), ("MAX_OPENED", 5)):
        monkeypatch.setattr(f"fedge_agent.durable.event_queue.{name}", most)
    path = tmp_path / "s"
    spool = at_end(Spool(path))
    for number in range(40):
        spool.put_event(["mes"], changed(EVENT, key=f"k{number}", asset="a"), AlertState(number))
        entry = spool.next_event("mes")
        assert entry is not None and entry.event.key == f"k{number}"
        if number == 3:
            spool.refused(entry, "no")
        else:
            spool.delivered(entry, f"WO-{number}")
    with Desk(path) as desk:
        orders = desk.orders("mes")
    assert [o.key for o in orders if o.outcome == Outcome.SET_ASIDE] == ["k3"]
    done = [o.reference for o in orders if o.outcome == Outcome.DELIVERED]
    assert done[-1] == "WO-39" and 10 <= len(done) <= 12
    assert rows(path, "SELECT count(*) FROM opened") == [(5,)]
    ids = [o.id for o in orders]
    assert len(ids) == len(set(ids)) and max(ids) == 40  # no number is given twice


def test_desk_refuses_what_makes_no_sense(tmp_path: Path, at_end: AtEnd) -> None:
    with pytest.raises(ConfigError, match="the agent has not yet run"):
        Desk(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    spool = at_end(Spool(tmp_path / "s"))
    spool.put_event(["mes"], EVENT, AlertState())
    entry = spool.next_event("mes")
    assert entry is not None
    with Desk(tmp_path / "s") as desk:
        with pytest.raises(ConfigError, match="order 1 is waiting: expected set aside"):
            desk.retry(1)
        spool.delivered(entry)
        with pytest.raises(ConfigError, match="order 1 is delivered: expected waiting or set aside or held"):
            desk.drop(1, "x")
        with pytest.raises(ConfigError, match="there is no order '7'"):
            desk.find("7")
        assert [o.id for o in desk.find(EVENT.key)] == [1]


def test_a_question_is_its_machines_and_waits_in_a_lane_of_its_own(tmp_path: Path, at_end: AtEnd) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    asked = make_event("gw:m:pump:question-5", kind=QUESTION)
    spool.put_event(["mes"], asked, None)
    spool.put_event(["mes"], EVENT, AlertState(1))
    with Desk(tmp_path / "s") as desk:
        assert [o.key for o in desk.orders(asset="pump")] == [asked.key, EVENT.key]
    for blocked, expected in (("pump", asked), (asked.lane, EVENT)):
        entry = spool.next_event("mes", [blocked])
        assert entry is not None and entry.event.key == expected.key
    assert spool.next_event("mes", ["pump", asked.lane]) is None
