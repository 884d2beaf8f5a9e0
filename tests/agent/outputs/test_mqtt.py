# SPDX-License-Identifier: Apache-2.0
"""Events and decisions as retained JSON at a real broker, delivered once the broker has acknowledged them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.mqtt import MqttOutput, MqttOutputConfig
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection, Message
from fedge_agent.types import AlertState, Decision, Event, Output
from fedge_models.errors import ConfigError, RefusedError, UnreachableError
from support.at_end import AtEnd
from support.events import changed, make_event
from support.mosquitto import Mosquitto
from support.waiting import LONGEST_S, until

EVENT = make_event()
DECISION = Decision("pump", "m", 3, 1_700_000_000_250_000_000, 0.5, float("inf"), "normal", 0.0, 0.001)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.outputs.host.FIRST_WAIT_S", 0.05)
    monkeypatch.setattr("fedge_agent.outputs.host.LONGEST_WAIT_S", 0.2)


def config(broker: Mosquitto, line: str, **keys: Any) -> MqttOutputConfig:
    return MqttOutputConfig(**{**broker.keys, "topic": f"plant/{line}/{{asset}}/fedge", **keys})


class Watch:
    """Who comes to the namespace."""

    def __init__(self, broker: Mosquitto, topic: str) -> None:
        self.got: queue.Queue[Message] = queue.Queue()
        self.connection = Connection(Broker(**broker.keys), self.got.put)
        self.connection.open()
        self.connection.subscribe([topic])

    def next(self) -> tuple[str, dict[str, Any], bool]:
        message = self.got.get(timeout=LONGEST_S)
        self.connection.acknowledge([message])
        return message.topic, json.loads(message.payload), message.retain

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_event_is_there_for_who_comes_later(broker: Mosquitto, version: str) -> None:
    output = MqttOutput("uns", config(broker, f"l{version}", version=version))
    output.deliver(EVENT)
    output.end()
    with Watch(broker, f"plant/l{version}/#") as watch:
        topic, body, retained = watch.next()
    assert topic == f"plant/l{version}/pump/fedge/event" and retained
    assert body["key"] == "gw:m:pump:1" and body["state"] == "opened" and body["score"] == 2.5
    assert body["time"] == "2023-11-14T22:13:20.000+00:00" and body["time_ns"] == EVENT.decision.time_ns


def test_newest_decision_is_shown_and_what_is_infinite_is_null(
    at_end: AtEnd, broker: Mosquitto, tmp_path: Path
) -> None:
    output = MqttOutput("uns", config(broker, "shown", decisions="newest"))
    hosted = HostedOutput("uns", output, at_end(Spool(tmp_path / "s")))
    with Watch(broker, "plant/shown/#") as watch:
        hosted.start()
        for i in range(1000):
            hosted.show(msgspec.structs.replace(DECISION, time_ns=i))
        hosted.show(DECISION)
        topic, body, _ = watch.next()
        seen = 1
        while body["time_ns"] != DECISION.time_ns:
            topic, body, _ = watch.next()
            seen += 1
        hosted.stop(5)
    assert topic == "plant/shown/pump/fedge/decision" and body["threshold"] is None and body["score"] == 0.5
    assert seen <= 3  # the others were passed over


def test_decisions_are_not_shown_unless_wanted(broker: Mosquitto) -> None:
    assert not MqttOutput("uns", config(broker, "x")).shows_decisions


def test_decision_that_could_not_be_shown_is_shown_later(at_end: AtEnd, broker: Mosquitto, tmp_path: Path) -> None:
    mine = Mosquitto(tmp_path / "broker")
    mine.stop()
    hosted = HostedOutput(
        "uns", MqttOutput("uns", config(mine, "late", decisions="newest")), at_end(Spool(tmp_path / "s"))
    )
    hosted.start()
    hosted.show(DECISION)
    until(lambda: "no broker listens" in str(hosted.status()["error"]))
    mine.start()
    with Watch(mine, "plant/late/#") as watch:
        assert watch.next()[1]["time_ns"] == DECISION.time_ns
        until(lambda: hosted.status()["error"] is None)
    hosted.stop(5)
    mine.stop()


def test_decision_that_is_refused_holds_nothing_up(at_end: AtEnd, tmp_path: Path) -> None:
    class Picky(Output):
        shows_decisions = True

        def __init__(self) -> None:
            self.shown: list[str] = []

        def deliver(self, event: Event) -> None:
            raise RefusedError("no events")

        def check(self) -> list[str]:
            return []

        def show(self, decision: Decision) -> None:
            if decision.asset == "bad":
                raise RefusedError("not this one")
            self.shown.append(decision.asset)

    picky = Picky()
    hosted = HostedOutput("x", picky, at_end(Spool(tmp_path / "s")))
    hosted.show(msgspec.structs.replace(DECISION, asset="good"))
    hosted.show(msgspec.structs.replace(DECISION, asset="bad"))
    hosted.start()
    until(lambda: picky.shown == ["good"] and hosted.status()["error"] == "not this one")
    hosted.stop(5)


def test_every_event_arrives_though_the_broker_is_killed_in_between(at_end: AtEnd, tmp_path: Path) -> None:
    """PUBACK is what counts: what was only queued, or sent into a dead link, is sent again."""
    broker = Mosquitto(tmp_path / "broker", "autosave_on_changes true\nautosave_interval 1")
    spool = at_end(Spool(tmp_path / "s"))
    hosted = HostedOutput("uns", MqttOutput("uns", config(broker, "killed")), spool)
    keys = [f"gw:m:pump:{i}" for i in range(200)]
    for key in keys:
        spool.put_event(["uns"], changed(EVENT, key=key), AlertState())
    seen: list[str] = []
    ended = threading.Event()

    def watch_all() -> None:
        while not ended.is_set():
            try:
                with Watch(broker, "plant/killed/#") as watch:
                    while not ended.is_set() and watch.connection.lost is None:
                        try:
                            message = watch.got.get(timeout=0.05)
                        except queue.Empty:
                            continue
                        seen.append(json.loads(message.payload)["key"])
                        watch.connection.acknowledge([message])
            except UnreachableError:
                ended.wait(0.02)

    watcher = threading.Thread(target=watch_all)
    watcher.start()
    hosted.start()

    def delivered(count: int) -> bool:
        return int(hosted.status()["delivered"]) >= count

    def retried(before: int) -> bool:
        return int(hosted.status()["retries"]) > before

    for part in (40, 90, 140):
        until(partial(delivered, part))
        before = int(hosted.status()["retries"])
        broker.kill()
        until(partial(retried, before))  # a kill between two deliveries alone costs none
        broker.start()
    until(lambda: hosted.status()["pending"] == 0)
    with Watch(broker, "plant/killed/#") as watch:
        assert watch.next()[1]["key"] == keys[-1]
    hosted.stop(5)
    ended.set()
    watcher.join(LONGEST_S)
    broker.stop()
    assert hosted.status()["delivered"] == 200
    first = list(dict.fromkeys(seen))
    assert first == sorted(first, key=keys.index)  # in order, whoever was away meanwhile


def test_event_waits_while_the_access_list_forbids_it(at_end: AtEnd, broker: Mosquitto, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    spool.put_event(["uns"], EVENT, AlertState())
    output = MqttOutput("uns", config(broker, "x", topic="elsewhere/{asset}"))
    hosted = HostedOutput("uns", output, spool)
    hosted.start()
    until(lambda: hosted.status()["retries"] >= 2)
    hosted.stop(5)
    assert hosted.status()["pending"] == 1 and "access list" in hosted.status()["error"]


@pytest.mark.parametrize(
    ("topic", "words"),
    [("a/{asett}", "did you mean {asset}"), ("a/b", "overwrite"), ("a/#/{asset}", r"without \+ and #")],
)
def test_unusable_topic_is_refused(topic: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MqttOutput("uns", MqttOutputConfig(url="mqtt://x", topic=topic))


def test_check_publishes_nothing(broker: Mosquitto) -> None:
    assert MqttOutput("uns", config(broker, "check")).check() == []
    [problem] = MqttOutput("uns", config(broker, "check", url="mqtt://127.0.0.1:9")).check()
    assert "output uns" in problem and "no broker listens" in problem
