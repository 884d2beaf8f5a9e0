# SPDX-License-Identifier: Apache-2.0
"""Inputs that drift reach each output as what they are: no alarm, with channel, distance and the reason in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asyncua.sync import Client
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs import event_fields
from fedge_agent.outputs.log import LogConfig, LogOutput
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.mqtt import MqttOutput, MqttOutputConfig
from fedge_agent.outputs.opcua_server import OpcuaServerConfig, OpcuaServerOutput
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.types import Decision, DriftState, Event
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply

REASON = "flow moved to 13.1, learnt were 4.8 to 6.9"
KEY = "gw:m:pump:drift-k3x9q-1"
LAST = Decision("pump", "m", 3, 1_700_000_000_000_000_000, math.nan, math.inf, "drift", 0.0, 0.0, "flow")
OPENED = Event(KEY, "opened", LAST, math.nan, "low", LAST.time_ns - 10**12, "drift", REASON, moved=4.25)
CLEARED = Event(KEY, "cleared", LAST, math.nan, "low", LAST.time_ns, "drift", "within what was learnt again")


def test_the_log_has_channel_distance_and_reason(tmp_path: Path) -> None:
    log = LogOutput("log", LogConfig(path=tmp_path / "events.jsonl"))
    log.deliver(OPENED)
    found = json.loads((tmp_path / "events.jsonl").read_text())
    assert (found["kind"], found["channel"], found["moved"], found["reason"]) == ("drift", "flow", 4.25, REASON)
    assert found["score"] is None and found["since_ns"] == OPENED.since_ns


def test_the_texts_for_people_say_what_drifts() -> None:
    assert event_fields.values(OPENED)["summary"] == f"drift of pump: {REASON}"
    assert event_fields.values(CLEARED)["outcome"] == "drift of pump is over: within what was learnt again"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"body": {"text": "{summary}"}}, {"text": f"drift of pump: {REASON}"}),
        ({"body": {"text": "x"}, "drift": {"what": "{channel} {moved}"}}, {"what": "flow 4.25"}),
    ],
)
def test_a_webhook_may_have_its_own_template_for_it(keys: dict[str, Any], expected: dict[str, str]) -> None:
    with CannedServer(lambda _: reply(200)) as server:
        WebhookOutput("hook", WebhookConfig(url=server.url, **keys)).deliver(OPENED)
        assert msgspec.json.decode(server.requests[0].body) == expected


def _answer(asked: Request) -> bytes:
    return reply(200, '{"code": "done"}' if asked.line.startswith("GET") else '{"id": 7}')


@pytest.mark.parametrize("own", [True, False])
def test_a_work_order_for_it_labels_no_window(at_end: AtEnd, own: bool) -> None:
    keys: dict[str, Any] = {"drift": Step(body={"description": "Look: {reason}"}, id="/id")} if own else {}
    with CannedServer(_answer) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        config = MesConfig(url=server.url, status=status, closing={"done": "normal"}, **keys)
        output = at_end(MesOutput("mes", config))
        output.deliver(OPENED)
        output.deliver(CLEARED)
        text = f"Look: {REASON}" if own else f"drift of pump: {REASON}"
        assert msgspec.json.decode(server.requests[0].body)["description"] == text
        assert list(output.collect()) == []


def test_at_a_broker_it_has_a_topic_of_its_own() -> None:
    output = MqttOutput("uns", MqttOutputConfig(url="mqtt://127.0.0.1:1", topic="plant/{asset}/fedge"))
    assert output._topic_of_event(OPENED) == "plant/pump/fedge/drift"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_our_opcua_server_shows_it_beside_the_alert(tmp_path: Path) -> None:
    server = OpcuaServerOutput("scada", OpcuaServerConfig("127.0.0.1:0"))
    server.begin(tmp_path)
    try:
        with Client(f"opc.tcp://127.0.0.1:{server.port}/") as client:

            def read(name: str) -> object:
                return client.get_node(f"ns=2;s=pump.{name}").read_value()

            server.deliver(OPENED)
            assert (read("Drift"), read("DriftReason"), read("Alert"), read("Silent")) == (True, REASON, False, False)
            server.deliver(CLEARED)
            assert (read("Drift"), read("DriftReason")) == (False, "")
    finally:
        server.end()


def test_its_state_is_stored_with_it_and_one_that_is_damaged_begins_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    state = DriftState(number=1, opened=True, since_ns=5, reason=REASON, run="k3x9q", low=[1.0], high=[2.0])
    spool.put_event(["mes"], OPENED, state)
    assert spool.drift_state("pump") == state and spool.drift_state("other") == DriftState()
    assert spool.alert_state("pump").number == 0
    with spool._transaction() as db:
        db.execute("UPDATE drifts SET state = x'00'")
    assert spool.drift_state("pump") == DriftState()
    spool.close()
