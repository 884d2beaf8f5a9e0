# SPDX-License-Identifier: Apache-2.0
"""One table of figures: what users receive of decisions and events, in which names, and how events are stored."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import msgspec
import pytest
from fedge_agent import figures
from fedge_agent.durable import event_record
from fedge_agent.durable.spool import Spool
from fedge_agent.figures import Of
from fedge_agent.outputs import event_fields, opcua, opcua_server, sparkplug
from fedge_agent.outputs.log import LogConfig, LogOutput
from fedge_agent.types import AlertState, Decision, Event
from support.events import changed, make_event

OPENED = changed(
    make_event(channel="current", context={"job": "J7"}), severity="medium", since_ns=1_699_999_990_000_000_000
)
RAISED = Event(
    "gw:life:cell:2",
    "raised",
    Decision(
        *("cell", "life", 0, 1_700_000_001_000_000_000, 80.5, 70.0, "life", 0.0, 0.0),
        values={"life": 80.5},
        hours_left=12.5,
        hours_left_at_least=9.25,
    ),
    80.5,
    "high",
    1_700_000_000_500_000_000,
)
CLEARED = changed(
    make_event(state="cleared", threshold=math.inf, label="normal", time_ns=1_700_000_002_000_000_000, score=0.1)
)
# What the spool and the log of commit ed800e3 wrote for the three.
OLD = b"""\
{"key":"gw:m:pump:1","state":"opened","asset":"pump","model":"m","release":3,"time_ns":1700000000000000000,\
"score":2.5,"threshold":1.0,"label":"anomaly","channel":"current","values":{},"hours_left":null,\
"hours_left_at_least":null,"context":{"job":"J7"},"severity":"medium","since_ns":1699999990000000000}
{"key":"gw:life:cell:2","state":"raised","asset":"cell","model":"life","release":0,"time_ns":1700000001000000000,\
"score":80.5,"threshold":70.0,"label":"life","channel":"","values":{"life":80.5},"hours_left":12.5,\
"hours_left_at_least":9.25,"context":{},"severity":"high","since_ns":1700000000500000000}
{"key":"gw:m:pump:1","state":"cleared","asset":"pump","model":"m","release":3,"time_ns":1700000002000000000,\
"score":2.5,"threshold":null,"label":"normal","channel":"","values":{},"hours_left":null,\
"hours_left_at_least":null,"context":{},"severity":"low","since_ns":0}""".splitlines()
OLD_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, output TEXT NOT NULL, event BLOB NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
    error TEXT, refused INTEGER NOT NULL DEFAULT 0);
CREATE INDEX waiting ON events (output, refused, id);
"""


@pytest.mark.parametrize(("event", "body"), [*zip((OPENED, RAISED, CLEARED), OLD, strict=True)])
def test_log_writes_what_it_always_wrote_and_what_came_since(tmp_path: Path, event: Event, body: bytes) -> None:
    LogOutput("log", LogConfig(path=tmp_path / "events.jsonl")).deliver(event)
    since = b',"provisional":false,"kind":"alert","reason":"","moved":0.0,"bounds_for":""}\n'
    assert (tmp_path / "events.jsonl").read_bytes() == body[:-1] + since


def test_events_in_an_older_spool_are_delivered_before_new_ones(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s") as database:
        database.executescript(OLD_SCHEMA)
        database.executemany("INSERT INTO events (output, event) VALUES ('mes', ?)", [(body,) for body in OLD])
    database.close()
    spool = Spool(tmp_path / "s")
    spool.put_event(["mes"], CLEARED, AlertState())
    found = []
    while (entry := spool.next_event("mes")) is not None:
        found.append(entry.event)
        spool.delivered(entry)
    spool.close()
    assert [figures.of_event(e) for e in found] == [figures.of_event(e) for e in (OPENED, RAISED, CLEARED, CLEARED)]
    assert found[-1] == CLEARED  # with all of its decision


def test_stored_event_keeps_every_figure_of_its_decision() -> None:
    event = changed(OPENED, threshold=math.inf, bounds={"life": (1.0, math.inf)}, missing=0.25, latency_s=0.5)
    assert event_record.decode(event_record.encode(event)) == event
    with pytest.raises(msgspec.DecodeError):
        event_record.decode(b"{}")


def test_table_has_every_field_of_decisions_and_events() -> None:
    decision, event = (
        {f.name for f in msgspec.structs.fields(Decision)},
        {f.name for f in msgspec.structs.fields(Event)},
    )
    assert set(figures.select(Of.DECISION)) == decision - {"learnt"} == set(figures.of_decision(OPENED.decision))
    own = event - {"decision", "worst", "beside"}  # in other figures: those of the decision, `score`, `alert`
    assert own <= set(figures.select(Of.EVENT)) == set(figures.of_event(OPENED))
    assert len({figure.name for figure in figures.FIGURES}) == len(figures.FIGURES)


def test_names_that_users_know_stay() -> None:
    tables = ("values", "hours_left", "hours_left_at_least", "context")
    common = (
        "asset",
        "model",
        "release",
        "time_ns",
        "score",
        "threshold",
        "label",
        "channel",
        "provisional",
        "bounds_for",
        *tables,
    )
    assert set(event_fields.FIELDS) == {
        *("key", "state", "severity", "since_ns", "kind", "reason", "moved"),
        *("time", "cause", "summary", "outcome", "priority"),
        *common,
    }
    assert set(opcua.OF_EVENTS) == {
        *("key", "state", "severity", "since_ns", "kind", "reason", "moved"),
        *("alert", "silent", "drift", "drift_reason"),
        *common,
    }
    assert set(opcua.OF_DECISIONS) == {"missing", "latency_s", "bounds", *common}
    assert set(opcua_server.VARIABLES) == {
        *("Score", "Threshold", "Label", "Channel", "Alert", "Severity", "HoursLeft", "HoursLeftAtLeast"),
        *("Model", "Release", "Missing", "Provisional", "Silent", "Reason", "BoundsFor", "Drift", "DriftReason"),
    }
    assert set(sparkplug.METRICS) == {"missing", "bounds", *common} - {"asset", "time_ns"}


def test_tables_are_taken_apart_for_targets_without_tables() -> None:
    flat = figures.flat({"score": 1.0, "values": {"life": 2.0}, "bounds": {"life": (1.0, 3.0)}, "context": {}})
    assert flat == {
        ("score",): 1.0,
        ("values", "life"): 2.0,
        ("bounds", "life", "low"): 1.0,
        ("bounds", "life", "high"): 3.0,
    }
