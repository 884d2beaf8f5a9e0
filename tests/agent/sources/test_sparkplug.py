# SPDX-License-Identifier: Apache-2.0
"""The Sparkplug source against an edge node that is not ours (npm sparkplug-client) and a real mosquitto."""

from __future__ import annotations

import math
import queue
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection, Message
from fedge_agent.protocols.sparkplug import topics
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.registry import build
from fedge_agent.types import Batch, Quality, Reading
from fedge_models.errors import ConfigError
from support.faketime import WallClock
from support.mosquitto import Mosquitto
from support.npm_sparkplug import NpmSparkplug
from support.waiting import LONGEST_S


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


class Reader:
    """The source in its host, and the readings it hands over."""

    def __init__(self, broker: Mosquitto, *tags: str, **keys: Any) -> None:
        table = {"type": "sparkplug", **broker.keys, "reorder_timeout": 0.2, "rebirth_interval": 0.5, **keys}
        table["password_file"] = str(table["password_file"])
        self.queue = Queue(1000)
        self.hosted = HostedSource("plant", build("plant", table, "test"), tags, self.queue)
        self.readings: list[Reading] = []
        self.batches: list[Batch] = []
        self.hosted.start()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.hosted.join(LONGEST_S)

    def until(self, done: Any, what: str) -> Any:
        """Take batches until done() is true."""
        deadline = time.monotonic() + LONGEST_S
        while not (result := done()):
            assert time.monotonic() < deadline, f"did not happen: {what}: {self.readings[-5:]}, {self.problems}"
            if batch := self.queue.get(0.1):
                self.batches.append(batch)
                self.readings += batch.readings
        return result

    def next(self, tag: str, value: Any) -> Reading:
        """The next reading of a tag with this value (None: a bad one)."""

        def found() -> Reading | None:
            for i, r in enumerate(self.readings):
                bad = r.quality is Quality.BAD
                if r.tag == tag and (bad if value is None else not bad and r.value == value):
                    del self.readings[: i + 1]
                    return r
            return None

        reading: Reading = self.until(found, f"{tag} = {value}")
        return reading

    @property
    def problems(self) -> dict[str, str]:
        problems: dict[str, str] = self.hosted.status()["problems"]
        return problems


def metric(name: str, value: Any, kind: str = "Double", **more: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "type": kind, "timestamp": time.time_ns() // 1_000_000, **more}


def born() -> dict[str, Any]:
    node = [metric("load", 1.5), metric("Node Control/Rebirth", False, "Boolean")]
    press = [metric("Hydraulics/pressure", 100.0, alias=11), metric("state", "run", "String", alias=12)]
    return {"node": node, "devices": {"press": press}}


def test_births_aliases_gap_history_and_death(broker: Mosquitto) -> None:
    pressure, state, load = "g/js/press/Hydraulics/pressure", "g/js/press/state", "g/js//load"
    with NpmSparkplug(broker, "node", "g", "js") as node, Reader(broker, pressure, state, load) as reader:
        node.do(do="birth", born=born())
        for tag, value in ((load, 1.5), (pressure, 100.0), (state, "run")):
            reader.next(tag, value)
        node.do(do="ddata", device="press", metrics=[metric("Hydraulics/pressure", 101.0, alias=11)])
        reader.next(pressure, 101.0)  # names and aliases together, as this library sends them
        alias_only = {k: v for k, v in metric("", 102.0, alias=11).items() if k != "name"}
        node.do(do="ddata", device="press", metrics=[alias_only])
        live = reader.next(pressure, 102.0)
        assert abs(live.time_ns - time.time_ns()) < 10e9
        node.do(do="ddata", device="press", metrics=[metric("state", None, "String", alias=12)])
        reader.next(state, None)

        old = [metric("Hydraulics/pressure", float(v), isHistorical=True) for v in (3, 1, 2)]
        for m, back in zip(old, (-1, -3, -2), strict=True):
            m["timestamp"] = live.time_ns // 1_000_000 + 1000 + back
        node.do(do="ddata", device="press", metrics=old)
        for value in (3.0, 1.0, 2.0):
            reader.next(pressure, value)
        late = metric("Hydraulics/pressure", 0.5, isHistorical=True, timestamp=live.time_ns // 1_000_000)
        node.do(do="ddata", device="press", metrics=[late])
        assert reader.next(pressure, 0.5).time_ns // 1_000_000 == live.time_ns // 1_000_000
        histories = [b for b in reader.batches if b.history]
        assert sum(len(b.readings) for b in histories) == 4 and not any(b.fresh for b in histories)
        node.do(do="ddata", device="press", metrics=[metric("state", "stop", "String", alias=12)])
        reader.next(state, "stop")

        node.do(do="ddata", device="press", metrics=[alias_only | {"value": 103.0}], lose=3)
        assert node.next_event(lambda e: e["event"] == "ncmd")["metrics"][0]["value"] is True
        node.next_event(lambda e: e["event"] == "born")
        reader.next(pressure, 100.0)  # what its birth says
        node.do(do="ddata", device="press", metrics=[metric("", 104.0, alias=11)])
        reader.next(pressure, 104.0)

        node.do(do="ddeath", device="press")
        assert math.isnan(float(reader.next(pressure, None).value))
        node.kill()
        reader.next(load, None)
        assert "the edge node is dead" in reader.problems["g/js"]
        assert [b.alive_ns for b in reader.batches if b.alive_ns is not None]


def test_births_that_were_missed_are_asked_for(broker: Mosquitto) -> None:
    with NpmSparkplug(broker, "node", "g", "early") as node:
        node.do(do="birth", born=born())
        with Reader(broker, "g/early//load") as reader:
            reader.next("g/early//load", 1.5)


def test_malformed_messages_are_counted_and_stop_nothing(broker: Mosquitto) -> None:
    operator = Connection(Broker(**{**broker.keys}))
    operator.open()
    with NpmSparkplug(broker, "node", "g", "hit") as node, Reader(broker, "g/hit//load", "g/hit/d/set") as reader:
        dataset = {"numOfColumns": 1, "types": ["Double"], "columns": ["a"], "rows": [[1.5]]}
        devices = {"d": [metric("set", dataset, "DataSet")]}
        node.do(do="birth", born={"node": born()["node"], "devices": devices})
        reader.next("g/hit//load", 1.5)
        reader.until(lambda: "g/hit/d/set" in reader.problems, "the device's birth")
        before = Counter(reader.hosted.status()["counts"])
        for data in (b"\x12\x00" * 30_000, b"", b"\xff" * 50):
            operator.wait([operator.publish("spBv1.0/g/NDATA/hit", data)])
        node.do(do="ndata", metrics=[metric("load", 2.5)])
        reader.next("g/hit//load", 2.5)
        counts = Counter(reader.hosted.status()["counts"])
        assert counts["not usable"] >= 1
        since = counts - before
        del since["not usable"]  # once more at each birth, should there be another
        assert since == {"refused messages": 3}
        assert "refused: spBv1.0/g/NDATA/hit: " in reader.problems["input"]
        assert "metric 'set' is a DataSet; expected a number" in reader.problems["g/hit/d/set"]
    operator.close()


def test_a_host_says_that_it_is_there_and_that_it_is_not(broker: Mosquitto) -> None:
    messages: queue.Queue[Message] = queue.Queue()
    operator = Connection(Broker(**{**broker.keys}), messages.put)
    operator.open()
    topic = topics.state_topic("scada")
    operator.subscribe([topic])

    def state() -> topics.State:
        message = messages.get(timeout=LONGEST_S)
        operator.acknowledge([message])
        return topics.read_state(message.payload)

    with Reader(broker, "g/n//m", host_id="scada"):
        first = state()
        assert first.online and abs(first.timestamp / 1000 - time.time()) < 10
        operator.wait([operator.publish(topic, topics.write_state(False, first.timestamp), retain=True)])
        assert not state().online  # somebody says that we are away
        assert state() == first
    last = state()
    assert not last.online and first.timestamp <= last.timestamp <= time.time() * 1000 + 1
    operator.close()


def test_a_broker_that_restarts_is_come_back_to(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "own") as own,
        NpmSparkplug(own, "node", "g", "js") as node,
        Reader(own, "g/js//load") as reader,
    ):
        node.do(do="birth", born=born())
        reader.next("g/js//load", 1.5)
        own.kill()
        reader.until(lambda: "connection" in reader.problems, "the loss to be noticed")
        own.start()
        node.next_event(lambda e: e["event"] == "connected")
        node.do(do="birth", born=born())
        fresh = reader.until(lambda: [b for b in reader.batches if b.fresh][1:], "a new beginning")
        assert {(r.tag, r.value) for r in fresh[0].readings} == {("g/js//load", 1.5)}  # it may be born twice
        assert "connection" not in reader.problems


def test_check_says_what_is_wrong(broker: Mosquitto) -> None:
    table = {"type": "sparkplug", **broker.keys, "password_file": str(broker.keys["password_file"])}
    assert build("p", table, "t").check(["g/n/d/m"]) == []
    assert "expected group/node/device/metric" in build("p", table, "t").check(["x"])[0]
    assert (
        "does not allow this to user 'nobody'" in build("p", {**table, "username": "nobody"}, "t").check(["g/n/d/m"])[0]
    )
    with pytest.raises(ConfigError, match="host_id 'a/b': expected text without"):
        build("p", {**table, "host_id": "a/b"}, "t")


def test_a_node_whose_clock_is_an_hour_behind_leaves_the_other_as_it_was(broker: Mosquitto, tmp_path: Path) -> None:
    clock, hour_ms, value = WallClock(tmp_path), 3_600_000, 0.0
    clock.shift(-3600)
    tags = right, wrong = "g/right//load", "g/wrong//load"
    with (
        NpmSparkplug(broker, "node", "g", "right") as good,
        NpmSparkplug(broker, "node", "g", "wrong", more_env=clock.env) as bad,
        Reader(broker, *tags) as reader,
    ):

        def load(value: float, off_ms: int = 0) -> list[dict[str, Any]]:
            return [metric("load", value, timestamp=time.time_ns() // 1_000_000 + off_ms)]

        good.do(do="birth", born={"node": load(0.0), "devices": {}})
        bad.do(do="birth", born={"node": load(0.0, -hour_ms), "devices": {}})
        reader.until(lambda: {r.tag for r in reader.readings} == set(tags), "both births")
        reader.batches.clear()
        while len({tuple(b.unsure) for b in reader.batches if b.alive_ns is not None}) < 2 or value < 3:
            value += 1
            good.do(do="ndata", metrics=load(value))
            bad.do(do="ndata", metrics=load(value, -hour_ms))
            last = dict[str, Reading]()

            def both(wanted: float = value, last: dict[str, Reading] = last) -> bool:
                last.update((r.tag, r) for r in reader.readings if r.value == wanted)
                return len(last) == 2

            reader.until(both, f"value {value} of both nodes")
            assert abs(last[right].time_ns / 1e9 - time.time()) < 60
            assert abs(last[wrong].time_ns / 1e9 + 3600 - time.time()) < 60
        reader.until(lambda: "clocks" in reader.problems, "the clocks are compared")
        behind = {b.alive_ns / 1e9 - time.time() < -1800: set(b.unsure) for b in reader.batches if b.alive_ns}
        assert behind == {False: {wrong}, True: {right}}
        assert "that of g/wrong is 3600 s behind" in reader.problems["clocks"].replace("3599", "3600")


def test_a_metric_of_a_device_that_is_ahead_has_the_time_of_its_message(broker: Mosquitto) -> None:
    with NpmSparkplug(broker, "node", "g", "ahead") as node, Reader(broker, "g/ahead//load") as reader:
        node.do(do="birth", born={"node": born()["node"], "devices": {}})
        reader.next("g/ahead//load", 1.5)

        def problem() -> str | None:
            """Sent again, because a birth that the host asked for at its start may come behind and withdraw it."""
            node.do(do="ndata", metrics=[metric("load", 2.5, timestamp=time.time_ns() // 1_000_000 + 40_000)])
            return reader.problems.get("g/ahead//load")

        assert "s ahead of its message" in reader.until(problem, "a problem")
        assert reader.next("g/ahead//load", 2.5).time_ns / 1e9 < time.time() + 1
