# SPDX-License-Identifier: Apache-2.0
"""A machine that is silent reaches each output as what it is: no alarm, no normal, and with the reason in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asyncua.sync import Client
from fedge_agent.outputs import event_fields, sparkplug
from fedge_agent.outputs.log import LogConfig, LogOutput
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.mqtt import MqttOutput, MqttOutputConfig
from fedge_agent.outputs.opcua_server import OpcuaServerConfig, OpcuaServerOutput
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection, Message
from fedge_agent.types import Decision, Event
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply
from support.events import make_event
from support.mosquitto import Mosquitto
from support.waiting import until

REASON = "no decision for 5 min: tag temp has been Bad since 10:42"
KEY = "gw:m:pump:silent-1"
LAST = Decision("pump", "m", 3, 1_700_000_000_000_000_000, math.nan, math.inf, "silent", 1.0, 0.0)
NEXT = Decision("pump", "m", 3, 1_700_000_600_000_000_000, 0.2, 1.0, "normal", 0.0, 0.001)
OPENED = Event(KEY, "opened", LAST, math.nan, "medium", LAST.time_ns, "silent", REASON)
CLEARED = Event(KEY, "cleared", NEXT, 0.2, "medium", LAST.time_ns, "silent", "it decides again")


def test_the_log_has_kind_and_reason_and_no_score(tmp_path: Path) -> None:
    log = LogOutput("log", LogConfig(path=tmp_path / "events.jsonl"))
    for event in (OPENED, CLEARED):
        log.deliver(event)
    first, second = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (first["kind"], first["state"], first["reason"], first["score"]) == ("silent", "opened", REASON, None)
    assert (second["kind"], second["state"], second["score"]) == ("silent", "cleared", 0.2)


def test_the_texts_for_people_say_that_it_is_silent() -> None:
    assert event_fields.values(OPENED)["summary"] == f"pump is silent: {REASON}"
    assert event_fields.values(CLEARED)["outcome"] == "pump decides again"
    assert "score" in event_fields.values(make_event())["summary"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"body": {"text": "{state}: {summary}"}}, {"text": f"opened: pump is silent: {REASON}"}),
        (
            {"body": {"text": "{score}"}, "silent": {"why": "{reason}", "kind": "{kind}"}},
            {"why": REASON, "kind": "silent"},
        ),
    ],
)
def test_a_webhook_has_its_own_template_for_it(keys: dict[str, Any], expected: dict[str, str]) -> None:
    with CannedServer(lambda _: reply(200)) as server:
        WebhookOutput("hook", WebhookConfig(url=server.url, **keys)).deliver(OPENED)
        assert msgspec.json.decode(server.requests[0].body) == expected
        assert server.requests[0].headers["idempotency-key"] == f"{KEY}:opened:medium"


def mes(server: CannedServer, **keys: Any) -> MesOutput:
    clear, status = Step(url="/{id}/note", body={"text": "{outcome}"}), Step(method="GET", url="/{id}", code="/code")
    config = MesConfig(url=server.url, clear=clear, status=status, closing={"done": "normal"}, **keys)
    return MesOutput("mes", config)


def answer(asked: Request) -> bytes:
    return reply(200, '{"code": "done"}' if asked.line.startswith("GET") else '{"id": 7}')


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, f"pump is silent: {REASON}"),
        ({"silent": Step(body={"description": "Look: {reason}"}, id="/id")}, f"Look: {REASON}"),
    ],
)
def test_a_work_order_has_its_own_template_and_teaches_nothing(at_end: AtEnd, keys: dict[str, Any], text: str) -> None:
    with CannedServer(answer) as server:
        output = at_end(mes(server, **keys))
        for event in (OPENED, OPENED, CLEARED):
            output.deliver(event)
        bodies = [msgspec.json.decode(r.body) for r in server.requests]
        assert bodies[0]["description"] == text and bodies[1:] == [{"text": "pump decides again"}]
        assert list(output.collect()) == []  # there are no windows to label
        asked = len(server.requests)
        assert list(output.collect()) == [] and len(server.requests) == asked  # and it is not asked about again


def test_a_silence_milder_than_the_orders_makes_none(at_end: AtEnd) -> None:
    with CannedServer(answer) as server:
        at_end(mes(server, severity="high")).deliver(OPENED)
        assert server.requests == []


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


def test_at_the_broker_it_hides_no_alarm(broker: Mosquitto) -> None:
    output = MqttOutput("uns", MqttOutputConfig(**broker.keys, topic="plant/silent/{asset}/fedge"))
    for event in (make_event(), OPENED):
        output.deliver(event)
    output.end()
    got: list[Message] = []
    watch = Connection(Broker(**broker.keys), got.append)
    watch.open()
    watch.subscribe(["plant/silent/#"])
    until(lambda: len(got) == 2, got)
    watch.close()
    found = {m.topic: json.loads(m.payload) for m in got}
    assert (
        found["plant/silent/pump/fedge/event"]["kind"] == "alert"
        and found["plant/silent/pump/fedge/silent"]["reason"] == REASON
    )


def test_a_sparkplug_host_gets_no_values_but_null(broker: Mosquitto, tmp_path: Path) -> None:
    known = sparkplug._metrics(msgspec.structs.replace(NEXT, values={"life": 80.5}))
    told = sparkplug._silence(OPENED, known)
    assert told["silent"].value is True and told["silent reason"].value == REASON
    assert {told[name].value for name in ("score", "label", "threshold", "values/life")} == {
        None
    } and "alert" not in told
    assert {n: v.value for n, v in sparkplug._silence(CLEARED, known).items()} == {"silent": False, "silent reason": ""}
    output = sparkplug.SparkplugOutput("s", sparkplug.SparkplugConfig(**broker.keys, group="g", node="n"))
    output.begin(tmp_path)
    for step in (lambda: output.show(NEXT), lambda: output.deliver(OPENED), lambda: output.deliver(CLEARED)):
        step()
    output.end()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_our_opcua_server_shows_no_old_score(tmp_path: Path) -> None:
    server = OpcuaServerOutput("scada", OpcuaServerConfig("127.0.0.1:0"))
    server.begin(tmp_path)
    try:
        with Client(f"opc.tcp://127.0.0.1:{server.port}/") as client:

            def read(name: str) -> tuple[Any, str]:
                data = client.get_node(f"ns=2;s=pump.{name}").read_data_value(raise_on_bad_status=False)
                return data.Value.Value, data.StatusCode.name

            server.show(NEXT)
            assert (read("Score"), read("Label"), read("Silent")) == (
                (0.2, "Good"),
                ("normal", "Good"),
                (False, "Good"),
            )
            server.deliver(OPENED)
            assert (read("Score"), read("Label")) == ((None, "BadNoData"), (None, "BadNoData"))
            assert (read("Silent"), read("Reason"), read("Alert")) == (
                (True, "Good"),
                (REASON, "Good"),
                (False, "Good"),
            )
            server.deliver(CLEARED)
            server.show(NEXT)
            assert (read("Score"), read("Silent"), read("Reason")) == ((0.2, "Good"), (False, "Good"), ("", "Good"))
    finally:
        server.end()
